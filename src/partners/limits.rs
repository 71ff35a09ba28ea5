//! The section `[limits]`: numbers of connections and sessions, time limits, and failed logins.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::MaxStartups;
use crate::units;

/// Limits that all doors share.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// Most connections in all, over every door for partners.
    pub max_connections: u32,
    /// Most connections of one address (of one /64 in IPv6).
    pub max_connections_per_address: u32,
    /// Most connections of one network: a /24 in IPv4, a /56 in IPv6, and four times as many of a /48. Not less than
    /// those of one address.
    pub max_connections_per_network: u32,
    /// Connections without a login from which on new ones of strangers are turned away at random.
    pub max_startups: MaxStartups,
    /// Connections without a login that an address may open at once; further ones wait for their turn.
    pub startup_burst: u32,
    /// How many of those that wait have their turn in a second.
    pub startups_per_second: u32,
    /// Most sessions of one partner, unless its policy says otherwise.
    pub max_sessions_per_partner: u32,
    /// Most memory for bytes of all partners that wait: for bytes in front of them, for the disk, for a client that reads.
    #[serde(with = "units::size")]
    pub memory: u64,
    /// Most of it for one partner, over all its sessions.
    #[serde(with = "units::size")]
    pub memory_per_partner: u64,
    /// The time that a connection may take to log in.
    #[serde(with = "units::duration")]
    pub login_grace: Duration,
    /// The time that a session may be idle.
    #[serde(with = "units::duration")]
    pub idle: Duration,
    /// The time that a transfer may stall.
    #[serde(with = "units::duration")]
    pub stalled: Duration,
    /// Failed logins after which a connection is closed.
    pub max_failed_logins: u32,
    /// Failed logins from an address before its next tries must wait; a name has four times as many, from addresses that
    /// it never logged in from.
    pub free_failures: u32,
    /// The first wait; it doubles with every further failure.
    #[serde(with = "units::duration")]
    pub first_wait: Duration,
    /// The longest wait.
    #[serde(with = "units::duration")]
    pub longest_wait: Duration,
    /// The time in which half of the failures are forgotten.
    #[serde(with = "units::duration")]
    pub forget_failures: Duration,
    /// The time for which a verified password needs no other argon2id run; 0: always verified.
    #[serde(with = "units::duration")]
    pub verified_for: Duration,
    /// Passwords verified at once; each takes 19 MiB for some 20 ms.
    pub verify_at_once: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_connections: 1024,
            max_connections_per_address: 64,
            max_connections_per_network: 256,
            max_startups: MaxStartups::default(),
            startup_burst: 16,
            startups_per_second: 4,
            max_sessions_per_partner: 32,
            memory: 256 << 20,
            memory_per_partner: 64 << 20,
            login_grace: Duration::from_secs(30),
            idle: Duration::from_secs(300),
            stalled: Duration::from_secs(60),
            max_failed_logins: 3,
            free_failures: 5,
            first_wait: Duration::from_secs(1),
            longest_wait: Duration::from_secs(300),
            forget_failures: Duration::from_secs(600),
            verified_for: Duration::from_secs(300),
            verify_at_once: 2,
        }
    }
}

impl Limits {
    /// Every fault, as the key below `[limits]` and what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut say = |key: &str, what: &str| faults.push((key.to_owned(), what.to_owned()));
        for (key, count) in [
            ("max_connections", self.max_connections),
            ("max_connections_per_address", self.max_connections_per_address),
            ("max_connections_per_network", self.max_connections_per_network),
            ("startup_burst", self.startup_burst),
            ("startups_per_second", self.startups_per_second),
            ("max_sessions_per_partner", self.max_sessions_per_partner),
            ("max_failed_logins", self.max_failed_logins),
            ("free_failures", self.free_failures),
            ("verify_at_once", self.verify_at_once),
        ] {
            if count == 0 {
                say(key, "must be at least 1");
            }
        }
        for (key, time) in [
            ("login_grace", self.login_grace),
            ("idle", self.idle),
            ("stalled", self.stalled),
            ("first_wait", self.first_wait),
            ("forget_failures", self.forget_failures),
        ] {
            if time < Duration::from_millis(100) {
                say(key, "must be at least 100ms");
            }
        }
        for (key, bytes) in [("memory", self.memory), ("memory_per_partner", self.memory_per_partner)] {
            if bytes < 1 << 20 {
                say(key, "must be at least 1 MiB");
            }
        }
        if self.longest_wait < self.first_wait {
            say("longest_wait", "must not be less than first_wait");
        }
        if self.verify_at_once > 64 {
            say("verify_at_once", "must be at most 64: each takes 19 MiB");
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_order() {
        assert!(Limits::default().validate().is_empty());
    }

    #[test]
    fn every_fault_is_told() {
        let limits: Limits =
            toml::from_str("max_connections = 0\nidle = \"0s\"\nlongest_wait = \"1ms\"\nverify_at_once = 65").unwrap();
        let keys: Vec<_> = limits.validate().into_iter().map(|fault| fault.0).collect();
        assert_eq!(keys, ["max_connections", "idle", "longest_wait", "verify_at_once"]);
        assert!(toml::from_str::<Limits>("max_conections = 1").is_err());
    }
}
