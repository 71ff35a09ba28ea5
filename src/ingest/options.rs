//! The `[ingest]` part of the configuration.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::units;

/// How long things are kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// How long `done`, `cancelled` and `duplicate` files, and what the partner sees of them, are kept.
    #[serde(with = "units::duration")]
    pub retention: Duration,
    /// How often the view's names are made durable, and so how far back a start after a crash looks at them.
    #[serde(with = "units::duration")]
    pub view_checkpoint: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self { retention: Duration::from_secs(30 * 86_400), view_checkpoint: Duration::from_secs(600) }
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
        if self.view_checkpoint < Duration::from_secs(1) {
            faults.push(("view_checkpoint".to_owned(), "must be at least 1s".to_owned()));
        }
        faults
    }
}
