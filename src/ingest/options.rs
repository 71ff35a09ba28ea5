//! The `[ingest]` part of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units;

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The time for which files that are over, and what the partner sees of them, are kept.
    #[serde(with = "units::duration")]
    pub retention: Duration,
    /// The most that files which are over may take together. Beyond it the oldest of the partner that keeps the most go
    /// before their retention ends. None: as much as is free on the disk.
    #[serde(with = "units::size::option")]
    pub kept_quota: Option<u64>,
    /// A file that came over plain FTP is claimable after this long without another sign that its sender read the
    /// reply, as long as the connection is up. A rename or a continuation within it meets a file that has not begun.
    #[serde(with = "units::duration")]
    pub confirm_after: Duration,
    /// A file that came over SFTP or FTPS is claimable after this long, so that a rename within it is in time.
    #[serde(with = "units::duration")]
    pub rename_wait: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(30 * 86_400),
            kept_quota: None,
            confirm_after: Duration::from_secs(2),
            rename_wait: Duration::ZERO,
        }
    }
}

impl Options {
    /// Every fault, as key and what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        if self.retention < Duration::from_secs(60) {
            faults.push(("retention".to_owned(), "must be at least 1m".to_owned()));
        }
        for (key, wait) in [("confirm_after", self.confirm_after), ("rename_wait", self.rename_wait)] {
            if wait > Duration::from_secs(60) {
                faults.push((key.to_owned(), "must be at most 1m".to_owned()));
            }
        }
        faults
    }
}
