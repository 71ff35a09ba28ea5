//! The `[ftp]` part of the configuration.
//!
//! `tls`, `data_resumption` and others have a default that depends on the rest; the functions of
//! the same name say what holds, and nobody else reads the fields. Files that are named are looked
//! at in `certificate_check.rs`, not here: `validate` opens nothing.

use std::{
    fmt,
    net::SocketAddr,
    ops::RangeInclusive,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::{
    partners::{Complete, DataResumption, Network},
    tls::{Look, TlsFiles},
    units,
};

/// How the FTP door is set up.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Whether the door is opened.
    pub enabled: bool,
    /// Where it listens.
    pub listen: SocketAddr,
    /// Where it listens for clients that begin with TLS at once (implicit FTPS, by custom port 990). Without it nobody
    /// can.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub implicit_listen: Option<SocketAddr>,
    /// Whether clients may or must use TLS; by default they must unless `listen` is on loopback.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tls: Option<Tls>,
    /// The certificate chain in PEM; without it one is made that is signed by itself.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// The private key of `certificate` in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// Authorities in PEM whose certificates clients may show. With it clients are asked for one and may have none; one
    /// of another authority ends the connection. Which stands for whom is said at the partners.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_ca: Option<PathBuf>,
    /// The ports of data connections.
    pub passive_ports: PortRange,
    /// The IPv4 address or host name that clients are told to open data connections to, when it is another than that
    /// of the control connection (address translation).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advertise: Option<String>,
    /// Whether PORT and EPRT are served: only to the client's own address, and to no port below 1024.
    pub active: bool,
    /// Whether a data connection must resume the TLS session of its control connection. It keeps others from taking its
    /// place, and some clients cannot do it.
    pub data_resumption: DataResumption,
    /// The key before: true is `required`, false is `off`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub require_data_resumption: Option<bool>,
    /// Networks of proxies whose connections begin with a PROXY protocol header (version 1 or 2), on control and data
    /// ports alike. They must send one; from all others it is no more than a bad command.
    pub proxy_protocol_from: Vec<Network>,
    /// How long a TLS handshake may take.
    #[serde(with = "units::duration")]
    pub handshake: Duration,
    /// How long a transfer may take for each GiB begun, however steadily its bytes move.
    #[serde(with = "units::duration")]
    pub longest_per_gib: Duration,
    /// How long transfers may go on when the server is stopped.
    #[serde(with = "units::duration")]
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 2121)),
            implicit_listen: None,
            tls: None,
            certificate: None,
            key: None,
            client_ca: None,
            passive_ports: PortRange { first: 49_152, last: 65_535 },
            advertise: None,
            active: false,
            data_resumption: DataResumption::Off,
            require_data_resumption: None,
            proxy_protocol_from: Vec::new(),
            handshake: Duration::from_secs(10),
            longest_per_gib: Duration::from_secs(6 * 60 * 60),
            grace: Duration::from_secs(10),
        }
    }
}

/// Whether clients may or must use TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Tls {
    /// They cannot.
    Off,
    /// They may.
    Optional,
    /// They must, on control and data connections.
    Required,
}

impl Options {
    /// What holds for TLS when the configuration says nothing.
    #[must_use]
    pub fn tls(&self) -> Tls {
        // On loopback nobody listens in, and a first try needs no certificate.
        let local = self.listen.ip().is_loopback();
        self.tls.unwrap_or(if local { Tls::Optional } else { Tls::Required })
    }

    /// The files of certificate, key and authorities; a pair that is made lies in `directory`.
    #[must_use]
    pub fn tls_files(&self, directory: &Path) -> TlsFiles {
        let own = self.listen.ip();
        let own = (!own.is_unspecified() && !own.is_loopback()).then(|| own.to_string());
        let files = match (&self.certificate, &self.key) {
            (Some(certificate), Some(key)) => TlsFiles::configured(certificate.clone(), key.clone()),
            _ => TlsFiles::made_in(directory, self.advertise.clone().into_iter().chain(own)),
        };
        files.asking_clients(self.client_ca.clone())
    }

    /// Looks at those files before a start.
    #[must_use]
    pub fn look(&self, directory: &Path, now: DateTime<Utc>) -> Look {
        match self.tls() {
            Tls::Off => Look::default(),
            _ => self.tls_files(directory).look(now),
        }
    }

    /// What holds for the TLS sessions of data connections.
    #[must_use]
    pub fn data_resumption(&self) -> DataResumption {
        match self.require_data_resumption {
            Some(true) => DataResumption::Required,
            Some(false) => DataResumption::Off,
            None => self.data_resumption,
        }
    }

    /// Every fault, as key and what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut say = |key: &str, what: &str| faults.push((key.to_owned(), what.to_owned()));
        match (&self.certificate, &self.key) {
            // Half a pair would be completed by one made here, which fits nothing.
            (Some(_), None) => say("key", "is missing: a certificate needs its key"),
            (None, Some(_)) => say("certificate", "is missing: a key needs its certificate"),
            _ => {}
        }
        if self.tls() == Tls::Off && self.certificate.is_some() {
            say("certificate", "is of no use with tls = \"off\"");
        }
        if self.tls() == Tls::Off && self.implicit_listen.is_some() {
            say("implicit_listen", "needs TLS, and tls = \"off\"");
        }
        if self.tls() == Tls::Off && self.client_ca.is_some() {
            say("client_ca", "is of no use with tls = \"off\"");
        }
        if self.tls() == Tls::Off && self.data_resumption == DataResumption::Required {
            say("data_resumption", "is of no use with tls = \"off\"");
        }
        if self.tls() == Tls::Off && self.require_data_resumption == Some(true) {
            say("require_data_resumption", "is of no use with tls = \"off\"");
        }
        if self.require_data_resumption.is_some() && self.data_resumption != DataResumption::Off {
            say("require_data_resumption", "is the former name of data_resumption: leave it out");
        }
        for (key, time) in [("handshake", self.handshake), ("longest_per_gib", self.longest_per_gib)] {
            // Less is surely a slip of the unit: no handshake would ever succeed.
            if time < Duration::from_millis(100) {
                say(key, "must be at least 100ms");
            }
        }
        if let Some(host) = &self.advertise
            // PASV has room for four bytes; clients of IPv6 use EPSV, which has no address.
            && (host.is_empty() || host.parse::<std::net::Ipv6Addr>().is_ok() || host.contains(char::is_whitespace))
        {
            say("advertise", "must be an IPv4 address or a host name");
        }
        faults
    }
}

/// Why this door cannot honour a policy on when uploads are complete, if it cannot. Configuration refuses it then.
///
/// # Errors
/// A sentence for the person who wrote it. There is no such policy at present.
pub fn can_honour(complete: Complete) -> Result<(), &'static str> {
    match complete {
        Complete::Eof | Complete::Rename | Complete::Allo | Complete::Confirmed => Ok(()),
    }
}

/// Ports from the first to the last, written `40000-40099`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PortRange {
    /// The first.
    pub first: u16,
    /// The last, not before the first.
    pub last: u16,
}

impl PortRange {
    /// The ports.
    #[must_use]
    pub fn range(self) -> RangeInclusive<u16> {
        self.first..=self.last
    }
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // A single port is a range of one.
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        // Port 0 would be any port, which no firewall lets through.
        let port = |text: &str| text.trim().parse::<u16>().ok().filter(|&port| port > 0);
        match (port(first), port(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self { first, last }),
            _ => Err(format!("\"{text}\" is no range of ports; write for example \"40000-40099\"")),
        }
    }
}

impl TryFrom<String> for PortRange {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<PortRange> for String {
    fn from(range: PortRange) -> Self {
        range.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tls_is_required_unless_on_loopback() {
        let mut options = Options::default();
        assert_eq!(options.tls(), Tls::Optional);
        options.listen = SocketAddr::from(([0, 0, 0, 0], 21));
        assert_eq!(options.tls(), Tls::Required);
        options.tls = Some(Tls::Off);
        assert_eq!(options.tls(), Tls::Off);
    }

    #[test]
    fn faults_have_their_keys() {
        let text = "certificate = \"c.pem\"\nadvertise = \"::1\"\npassive_ports = \"40000-40001\"";
        let options: Options = toml::from_str(text).unwrap();
        let keys: Vec<_> = options.validate().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["key", "advertise"]);
        assert!(Options::default().validate().is_empty());
        for bad in [
            "passive_ports = \"5-4\"",
            "passive_ports = \"0-4\"",
            "passive_ports = \"x\"",
            "tls = \"maybe\"",
            "port = 1",
        ] {
            assert!(toml::from_str::<Options>(bad).is_err(), "{bad}");
        }
    }
}
