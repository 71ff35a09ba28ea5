//! The gate's part of the configuration.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::units;

/// `[schedule]` in `forebay.toml`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Options {
    /// The schedule, usually `maintenance.toml`. None: there are no windows, only what operators close.
    pub file: Option<PathBuf>,
    /// Claiming stops this long before a window's start, so that what runs can end. The web faces stay open.
    #[serde(with = "units::duration")]
    pub drain: Duration,
    /// The fate of running attempts when the gate closes.
    pub at_close: AtClose,
    /// The time before a window at which partners get a notice.
    #[serde(with = "units::duration")]
    pub notice_before: Duration,
    /// A wall clock that has jumped by more than a minute opens nothing until it has stood for so long, unless an operator
    /// confirms it or the kernel says that it is synchronized. It closes at once. `0` believes every jump at once.
    #[serde(with = "units::duration")]
    pub clock_settle: Duration,
}

/// The fate of running attempts when the gate closes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum AtClose {
    /// They are stopped (TERM, then KILL), and the attempt is not counted.
    #[default]
    Stop,
    /// They run to their end.
    Finish,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            file: None,
            drain: Duration::ZERO,
            at_close: AtClose::Stop,
            notice_before: Duration::from_secs(7 * 86_400),
            clock_settle: Duration::from_secs(300),
        }
    }
}

impl Options {
    /// Every fault, as the key below `[schedule]` and what is wrong with it.
    #[must_use]
    pub fn validate(&self) -> Vec<(String, String)> {
        let mut faults = Vec::new();
        let mut fault = |key: &str, message: &str| faults.push((key.to_owned(), message.to_owned()));
        if self.file.as_ref().is_some_and(|file| file.file_name().is_none()) {
            fault("file", "does not name a file");
        }
        if self.drain > Duration::from_secs(86_400) {
            fault("drain", "is longer than a day");
        }
        if self.clock_settle > Duration::from_secs(86_400) {
            fault("clock_settle", "is longer than a day");
        }
        if self.notice_before > Duration::from_secs(366 * 86_400) {
            fault("notice_before", "is longer than a year");
        }
        faults
    }
}
