//! What `[web]` holds.

use std::{net::SocketAddr, time::Duration};

use serde::{Deserialize, Serialize};

use crate::units;

/// The web faces' part of the configuration.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Where to listen; none: there are no web faces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
    /// Most connections at once; more are told to come back.
    pub max_connections: usize,
    /// Most of one address (of one /64 in IPv6).
    pub max_connections_per_address: usize,
    /// How long a request's head may take, and how long a connection may wait for its next request.
    #[serde(with = "units::duration")]
    pub head_timeout: Duration,
    /// How long a request's body may take.
    #[serde(with = "units::duration")]
    pub body_timeout: Duration,
    /// Most bytes of a body that are read before the answer, so that its sender sees it.
    #[serde(rename = "max_body_size", with = "units::size")]
    pub max_body_bytes: u64,
    /// How long a connection may last.
    #[serde(with = "units::duration")]
    pub max_connection_age: Duration,
    /// `Retry-After` of a closure whose end is not known.
    #[serde(with = "units::duration")]
    pub retry_after: Duration,
}

/// `[health]`: a listener for watchdogs alone.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HealthOptions {
    /// Where to listen; none: health is told by the web faces alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub listen: Option<SocketAddr>,
}

impl HealthOptions {
    /// The listener's own limits: a watchdog asks little and soon.
    pub(super) fn limits() -> Options {
        Options {
            max_connections: 64,
            max_connections_per_address: 16,
            head_timeout: Duration::from_secs(5),
            body_timeout: Duration::from_secs(5),
            max_body_bytes: 64 << 10,
            ..Options::default()
        }
    }
}

impl Default for Options {
    fn default() -> Self {
        Self {
            listen: None,
            max_connections: 256,
            max_connections_per_address: 64,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            max_body_bytes: 16 << 20,
            max_connection_age: Duration::from_secs(300),
            retry_after: Duration::from_secs(900),
        }
    }
}

impl Options {
    /// Every fault, as the key below `[web]` and what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut say = |key: &str, what: &str| faults.push((key.to_owned(), what.to_owned()));
        for (key, most) in [
            ("max_connections", self.max_connections),
            ("max_connections_per_address", self.max_connections_per_address),
        ] {
            if most == 0 {
                say(key, "must be at least 1");
            }
        }
        for (key, time) in [
            ("head_timeout", self.head_timeout),
            ("body_timeout", self.body_timeout),
            ("max_connection_age", self.max_connection_age),
        ] {
            if time < Duration::from_millis(100) {
                say(key, "must be at least 100ms");
            }
        }
        if self.retry_after < Duration::from_secs(1) {
            say("retry_after", "must be at least 1s");
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_read_and_faults_are_told() {
        assert!(Options::default().validate().is_empty());
        let options: Options =
            toml::from_str("listen = \"127.0.0.1:8080\"\nmax_body_size = \"1 MiB\"\nretry_after = 0").unwrap();
        assert_eq!(options.max_body_bytes, 1 << 20);
        assert_eq!(options.validate(), [("retry_after".to_owned(), "must be at least 1s".to_owned())]);
        assert!(toml::from_str::<Options>("listen = \"8080\"").is_err());
        assert!(toml::from_str::<Options>("port = 8080").is_err());
    }
}
