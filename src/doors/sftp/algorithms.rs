//! The algorithms that are offered.
//!
//! The defaults are what `ssh-audit` finds no fault with, but that older clients know no exchange that withstands
//! quantum computers: no CBC, no SHA-1, no NIST curves, no finite-field groups, integrity over the encrypted text. All
//! that can be configured is still safe by today's knowledge, but for what the reference says. An exchange over a
//! finite field costs the server up to a second of a processor and the client nothing (CVE-2002-20001).

use std::borrow::Cow;

use russh::{
    Preferred, cipher, compression, kex,
    keys::{Algorithm, EcdsaCurve, HashAlg},
    mac,
};

/// Key exchanges that can be configured, the preferred first; the defaults are marked.
const EXCHANGES: [(kex::Name, bool); 9] = [
    (kex::MLKEM768X25519_SHA256, true),
    (kex::CURVE25519, true),
    (kex::CURVE25519_PRE_RFC_8731, true),
    (kex::DH_G18_SHA512, false),
    (kex::DH_G16_SHA512, false),
    (kex::ECDH_SHA2_NISTP256, false),
    (kex::ECDH_SHA2_NISTP384, false),
    (kex::ECDH_SHA2_NISTP521, false),
    (kex::DH_G14_SHA256, false),
];
const CIPHERS: [(cipher::Name, bool); 6] = [
    (cipher::AES_256_GCM, true),
    (cipher::AES_128_GCM, true),
    (cipher::CHACHA20_POLY1305, true),
    (cipher::AES_256_CTR, true),
    (cipher::AES_192_CTR, true),
    (cipher::AES_128_CTR, true),
];
const MACS: [(mac::Name, bool); 4] =
    [(mac::HMAC_SHA512_ETM, true), (mac::HMAC_SHA256_ETM, true), (mac::HMAC_SHA512, false), (mac::HMAC_SHA256, false)];

/// Host keys, and what clients may sign with. SHA-1 is not among them, for anyone.
fn signatures() -> [(Algorithm, bool); 4] {
    [
        (Algorithm::Ed25519, true),
        (Algorithm::Rsa { hash: Some(HashAlg::Sha512) }, true),
        (Algorithm::Rsa { hash: Some(HashAlg::Sha256) }, true),
        (Algorithm::Ecdsa { curve: EcdsaCurve::NistP256 }, false),
    ]
}

fn defaults<T: AsRef<str>, const N: usize>(known: [(T, bool); N]) -> Vec<String> {
    known.iter().filter(|(_, default)| *default).map(|(name, _)| name.as_ref().to_owned()).collect()
}

pub(super) fn default_kex() -> Vec<String> {
    defaults(EXCHANGES)
}

pub(super) fn default_ciphers() -> Vec<String> {
    defaults(CIPHERS)
}

pub(super) fn default_macs() -> Vec<String> {
    defaults(MACS)
}

pub(super) fn default_host_key_algorithms() -> Vec<String> {
    defaults(signatures().map(|(name, default)| (name.as_str().to_owned(), default)))
}

/// The fault of a list, if it has one.
pub(super) fn fault(list: List, names: &[String]) -> Option<String> {
    let known = list.known();
    // An empty list would let no client in.
    if names.is_empty() {
        return Some("must name at least one".to_owned());
    }
    let unknown = names.iter().find(|name| !known.contains(name))?;
    Some(format!("has {unknown:?}, which is not offered; there are {}", known.join(", ")))
}

/// The lists that can be configured.
#[derive(Clone, Copy, Debug)]
pub(super) enum List {
    Kex,
    Ciphers,
    Macs,
    HostKeys,
}

impl List {
    /// Its key in `[sftp]`.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Kex => "kex",
            Self::Ciphers => "ciphers",
            Self::Macs => "macs",
            Self::HostKeys => "host_key_algorithms",
        }
    }

    /// What can be configured there.
    pub(super) fn known(self) -> Vec<String> {
        match self {
            Self::Kex => EXCHANGES.iter().map(|(name, _)| name.as_ref().to_owned()).collect(),
            Self::Ciphers => CIPHERS.iter().map(|(name, _)| name.as_ref().to_owned()).collect(),
            Self::Macs => MACS.iter().map(|(name, _)| name.as_ref().to_owned()).collect(),
            Self::HostKeys => signatures().iter().map(|(name, _)| name.as_str().to_owned()).collect(),
        }
    }
}

fn chosen<T: AsRef<str> + Clone, const N: usize>(known: [(T, bool); N], names: &[String]) -> Vec<T> {
    let of = |name: &String| known.iter().find(|(one, _)| one.as_ref() == name).map(|(one, _)| one.clone());
    names.iter().filter_map(of).collect()
}

/// The configured ones first. The list says too what partners' keys may sign with (RFC 8308), so it has all that are
/// safe; which host keys are offered is limited by the keys that there are.
fn all_signatures(first: &[String]) -> Vec<Algorithm> {
    let known = signatures().map(|(name, _)| name);
    let of = |name: &String| known.iter().find(|one| one.as_str() == name).cloned();
    let mut all: Vec<_> = first.iter().filter_map(of).collect();
    let others = [EcdsaCurve::NistP384, EcdsaCurve::NistP521].map(|curve| Algorithm::Ecdsa { curve });
    all.extend(known.iter().chain(&others).filter(|one| !first.iter().any(|name| name == one.as_str())).cloned());
    all
}

/// The algorithms that are offered, in the configured order. Strict key exchange is always on.
pub(super) fn preferred(kex: &[String], ciphers: &[String], macs: &[String], host_keys: &[String]) -> Preferred {
    let mut exchanges = chosen(EXCHANGES, kex);
    // Not configurable: without the strict exchange packets in front of the keys could be taken out
    // unseen (CVE-2023-48795).
    exchanges.extend([kex::EXTENSION_SUPPORT_AS_SERVER, kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER]);
    Preferred {
        kex: Cow::Owned(exchanges),
        key: Cow::Owned(all_signatures(host_keys)),
        // The server has keys and no certificates of them.
        host_key_certificates: Cow::Borrowed(&[]),
        cipher: Cow::Owned(chosen(CIPHERS, ciphers)),
        mac: Cow::Owned(chosen(MACS, macs)),
        // Compressed bytes grow without bound when they are unpacked.
        compression: Cow::Borrowed(&[compression::NONE]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_weak_is_offered_by_default() {
        for name in [default_kex(), default_ciphers(), default_macs(), default_host_key_algorithms()].concat() {
            for weak in ["sha1", "cbc", "nistp", "ssh-rsa", "md5", "3des", "none", "dss", "diffie-hellman"] {
                assert!(!name.contains(weak), "{name}");
            }
        }
        let names = [&default_kex()[..], &default_ciphers(), &default_macs(), &default_host_key_algorithms()]
            .map(|names| names.len());
        let preferred = preferred(&default_kex(), &default_ciphers(), &default_macs(), &default_host_key_algorithms());
        assert_eq!(preferred.kex.len(), names[0] + 2);
        assert_eq!([preferred.cipher.len(), preferred.mac.len()], names[1..3]);
        assert!(preferred.key.iter().zip(default_host_key_algorithms()).all(|(one, name)| one.as_str() == name));
        assert!(!preferred.key.contains(&Algorithm::Rsa { hash: None }));
        assert!(preferred.kex.contains(&kex::EXTENSION_OPENSSH_STRICT_KEX_AS_SERVER));
    }

    #[test]
    fn what_is_not_offered_is_told() {
        assert!(fault(List::Ciphers, &["aes128-cbc".to_owned()]).is_some_and(|what| what.contains("aes128-cbc")));
        assert!(fault(List::HostKeys, &["ssh-rsa".to_owned()]).is_some());
        assert!(fault(List::Macs, &[]).is_some());
        assert_eq!(fault(List::Kex, &default_kex()), None);
    }
}
