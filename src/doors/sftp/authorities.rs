//! Authorities whose certificates let partners in, and what a certificate must say for that.

use std::{collections::BTreeSet, fs, io, net::IpAddr, path::Path};

use chrono::{DateTime, Utc};
use russh::keys::{Algorithm, Certificate, HashAlg, PublicKey, ssh_key::Fingerprint, ssh_key::certificate::CertType};

use crate::{
    partners::{Network, PartnerName},
    units::text_file::decode,
};

/// The public keys of those that are trusted.
#[derive(Debug, Default)]
pub(super) struct Authorities(BTreeSet<String>, Vec<Fingerprint>);

impl Authorities {
    /// Reads a file with a public key a line; empty lines and those with `#` say nothing.
    pub(super) fn read(path: &Path) -> io::Result<Self> {
        let mut all = Self::default();
        for (at, line) in decode(fs::read(path)?).map_err(io::Error::other)?.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let key = PublicKey::from_openssh(line)
                .map_err(|error| io::Error::other(format!("line {} is no public key: {error}", at + 1)))?;
            let fingerprint = key.fingerprint(HashAlg::Sha256);
            if all.0.insert(fingerprint.to_string()) {
                all.1.push(fingerprint);
            }
        }
        if all.1.is_empty() {
            return Err(io::Error::other("it holds no public key"));
        }
        Ok(all)
    }

    /// Checks that the certificate lets this partner in from there, now. The reason against it is for the log: the
    /// client proved that it has the key, but nothing else.
    pub(super) fn vouch(
        &self,
        certificate: &Certificate,
        partner: &PartnerName,
        peer: IpAddr,
        now: DateTime<Utc>,
    ) -> Result<(), String> {
        if certificate.cert_type() != CertType::User {
            return Err("it is not a certificate of a user".to_owned());
        }
        if matches!(certificate.signature().algorithm(), Algorithm::Rsa { hash: None }) {
            return Err("its authority has signed it with SHA-1".to_owned());
        }
        let now = u64::try_from(now.timestamp()).map_err(|_| "there is no time".to_owned())?;
        certificate
            .validate_at(now, &self.1)
            .map_err(|_| "its authority is not trusted, its signature is wrong or its time is not now".to_owned())?;
        let named = |name: &String| name.parse::<PartnerName>().is_ok_and(|name| name == *partner);
        if !certificate.valid_principals().iter().any(named) {
            return Err("it does not name the partner as a principal".to_owned());
        }
        for (name, value) in certificate.critical_options().iter() {
            match name.as_str() {
                "source-address" => from(inner(value), peer)?,
                other => return Err(format!("its critical option {other} is not served")),
            }
        }
        Ok(())
    }
}

/// The value of an option is a string within a string.
fn inner(value: &str) -> &str {
    let bytes = value.as_bytes();
    match bytes.split_first_chunk::<4>() {
        Some((length, rest)) if u32::from_be_bytes(*length) as usize == rest.len() => value.get(4..).unwrap_or(value),
        _ => value,
    }
}

fn from(addresses: &str, peer: IpAddr) -> Result<(), String> {
    for one in addresses.split(',') {
        // `10.1.2.3/8` is allowed there, and means the network.
        let network = one.parse::<Network>().or_else(|_| {
            one.parse::<ipnet::IpNet>()
                .map(|net| net.trunc().to_string())
                .map_err(|_| ())
                .and_then(|net| net.parse::<Network>().map_err(|_| ()))
        });
        match network {
            Ok(network) if network.contains(peer) => return Ok(()),
            Ok(_) => {}
            Err(()) => return Err(format!("its source-address {one:?} is no address")),
        }
    }
    Err("it is not for this address".to_owned())
}
