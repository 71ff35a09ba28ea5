//! Sessions that are open.
//!
//! Keys with a default came later: an answer of an older server has none of them.

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
    /// The address of the client.
    pub peer: String,
    /// The start.
    pub since: Option<DateTime<Utc>>,
    /// The present command; empty when the session waits for one.
    #[serde(default)]
    pub doing: String,
    /// Bytes it has sent and fetched.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes a second of what it does now.
    #[serde(default)]
    pub bytes_per_second: u64,
    /// The idle time, in seconds.
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
    /// The reason why it was not ended.
    pub error: Option<Problem>,
}
