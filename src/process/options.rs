//! The `[process]` part of the configuration.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::units;

/// The settings of processing, for all routes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The time that a claim stays valid without a renewal.
    #[serde(with = "units::duration")]
    pub lease: Duration,
    /// Active files of one partner over all routes; 0 for no bound.
    pub per_partner: usize,
    /// The time between TERM and KILL.
    #[serde(with = "units::duration")]
    pub kill_after: Duration,
    /// The time that running processors may go on when the server stops, before they are stopped too.
    #[serde(with = "units::duration")]
    pub shutdown_grace: Duration,
    /// A route is paused after this many failures in a row.
    pub pause_after: u32,
    /// The first wait before a paused route is probed; each is twice the one before.
    #[serde(with = "units::duration")]
    pub probe_first: Duration,
    /// The longest wait between probes.
    #[serde(with = "units::duration")]
    pub probe_max: Duration,
    /// True if partners get receipts and notices in `out/`.
    pub receipts: bool,
    /// Keys that lie outside the data directory, which confined programs do not reach either. Named by other sections.
    #[serde(skip)]
    pub secrets: Vec<PathBuf>,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            lease: Duration::from_secs(60),
            per_partner: 0,
            kill_after: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(20),
            pause_after: 5,
            probe_first: Duration::from_secs(5),
            probe_max: Duration::from_secs(60),
            receipts: true,
            secrets: Vec::new(),
        }
    }
}

impl Options {
    /// Every fault: the key's path and what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut say = |key: &str, what: &str| faults.push((format!("process.{key}"), what.to_owned()));
        if self.lease < Duration::from_secs(5) {
            say("lease", "must be at least 5s");
        }
        if self.pause_after == 0 {
            say("pause_after", "must be at least 1");
        }
        if self.probe_first.is_zero() {
            say("probe_first", "must be longer than 0");
        }
        if self.probe_max < self.probe_first {
            say("probe_max", "must not be shorter than probe_first");
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_carry_their_keys() {
        assert!(Options::default().validate().is_empty());
        let options: Options = toml::from_str("lease = \"1s\"\npause_after = 0\nprobe_max = \"1s\"").unwrap();
        let keys: Vec<_> = options.validate().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["process.lease", "process.pause_after", "process.probe_max"]);
        assert!(toml::from_str::<Options>("leese = 1").is_err());
    }
}
