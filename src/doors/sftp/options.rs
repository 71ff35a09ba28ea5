//! The `[sftp]` part of the configuration.

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{partners::Network, units};

use super::algorithms::{self, List};

/// The settings of the SFTP door.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The door is opened.
    pub enabled: bool,
    /// The address that it listens on.
    pub listen: SocketAddr,
    /// A text that clients are shown before the login, behind the notice of maintenance.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub banner: Option<String>,
    /// Networks of proxies whose connections begin with a PROXY protocol header (version 1 or 2). They must send one.
    pub proxy_protocol_from: Vec<Network>,
    /// Files with private host keys in OpenSSH's form; without any, three are made in the data directory.
    pub host_keys: Vec<PathBuf>,
    /// A file with public keys of authorities, one a line: a certificate that one of them has signed lets the partners
    /// in that it names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub trusted_ca: Option<PathBuf>,
    /// Key exchanges.
    pub kex: Vec<String>,
    /// Ciphers.
    pub ciphers: Vec<String>,
    /// Message authentication, for ciphers without their own.
    pub macs: Vec<String>,
    /// The algorithms that host keys sign with. A host key of another kind is not used.
    pub host_key_algorithms: Vec<String>,
    /// Attempts to log in on a connection; a key that is offered and not taken counts.
    pub max_attempts: u32,
    /// Channels that a connection may have open.
    pub max_channels: u32,
    /// New keys are agreed on after so many bytes in one direction, at most 1 GiB.
    #[serde(with = "units::size")]
    pub rekey_after: u64,
    /// New keys are agreed on after this long.
    #[serde(with = "units::duration")]
    pub rekey_every: Duration,
    /// The longest time that a transfer may take for each GiB begun, however steadily its bytes move.
    #[serde(with = "units::duration")]
    pub longest_per_gib: Duration,
    /// The longest time that uploads may go on when the server is stopped.
    #[serde(with = "units::duration")]
    pub grace: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            enabled: true,
            listen: SocketAddr::from(([127, 0, 0, 1], 2022)),
            banner: None,
            proxy_protocol_from: Vec::new(),
            host_keys: Vec::new(),
            trusted_ca: None,
            kex: algorithms::default_kex(),
            ciphers: algorithms::default_ciphers(),
            macs: algorithms::default_macs(),
            host_key_algorithms: algorithms::default_host_key_algorithms(),
            max_attempts: 10,
            max_channels: 10,
            rekey_after: 1 << 30,
            rekey_every: Duration::from_secs(60 * 60),
            longest_per_gib: Duration::from_secs(6 * 60 * 60),
            grace: Duration::from_secs(10),
        }
    }
}

impl Options {
    /// Returns true if a client may choose an exchange of keys that costs the server much and the client nothing.
    pub(super) fn has_costly_exchanges(&self) -> bool {
        self.kex.iter().any(|name| name.starts_with("diffie-hellman"))
    }

    /// Every fault, as key and what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        for (key, list, names) in [
            ("kex", List::Kex, &self.kex),
            ("ciphers", List::Ciphers, &self.ciphers),
            ("macs", List::Macs, &self.macs),
            ("host_key_algorithms", List::HostKeys, &self.host_key_algorithms),
        ] {
            faults.extend(algorithms::fault(list, names).map(|what| (key.to_owned(), what)));
        }
        let mut say = |key: &str, what: &str| faults.push((key.to_owned(), what.to_owned()));
        if self.max_attempts == 0 {
            say("max_attempts", "must be at least 1");
        }
        if self.max_channels == 0 {
            say("max_channels", "must be at least 1");
        }
        if !(1 << 20..=1 << 30).contains(&self.rekey_after) {
            say("rekey_after", "must be from 1 MiB to 1 GiB");
        }
        if self.rekey_every < Duration::from_secs(60) {
            say("rekey_every", "must be at least 1m");
        }
        if self.longest_per_gib.is_zero() {
            say("longest_per_gib", "must be longer than nothing");
        }
        if self.banner.as_ref().is_some_and(|text| text.len() > 4096) {
            say("banner", "must be at most 4096 bytes");
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_have_their_keys() {
        assert!(Options::default().validate().is_empty());
        let text =
            "ciphers = [\"3des-cbc\"]\nmacs = []\nmax_channels = 0\nrekey_after = \"2 GiB\"\nrekey_every = \"1s\"";
        let options: Options = toml::from_str(text).unwrap();
        let keys: Vec<_> = options.validate().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["ciphers", "macs", "max_channels", "rekey_after", "rekey_every"]);
        assert!(toml::from_str::<Options>("port = 22").is_err());
    }
}
