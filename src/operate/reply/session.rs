//! Sessions that are open.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::operate::problem::Problem;

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Names it for `sessions kick`.
    #[serde(default)]
    pub id: String,
    /// Whose.
    pub partner: String,
    /// The door.
    pub door: String,
    /// From where.
    pub peer: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// What it does; empty when it waits for a command.
    #[serde(default)]
    pub doing: String,
    /// Bytes it has sent and fetched.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes a second of what it does now.
    #[serde(default)]
    pub bytes_per_second: u64,
    /// How long it has done nothing, in seconds.
    #[serde(default)]
    pub idle_seconds: u64,
}

/// A session that was ended, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KickedView {
    /// The id that was given or found.
    pub asked: String,
    /// The session as it was, if there was one.
    pub session: Option<SessionView>,
    /// Why it was not done.
    pub error: Option<Problem>,
}
