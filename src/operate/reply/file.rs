//! A file of the queue, and what happened to it. Sizes are in bytes, digests are SHA-256 in
//! hexadecimal, times are UTC in RFC 3339.

use chrono::{DateTime, Utc};
use forebay_queue::{Progress, State};
use forebay_storage::{FileId, Sha256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::operate::problem::Problem;

/// A file as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// The file.
    pub id: FileId,
    /// Whose.
    pub partner: String,
    /// Its path in the login directory.
    pub name: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest.
    pub sha256: Sha256,
    /// The state.
    pub state: State,
    /// True if a closed gate defers it.
    pub deferred: bool,
    /// The time at which the gate opens again, if that is known and it is deferred.
    pub resumes_at: Option<DateTime<Utc>>,
    /// The time at which its last byte was received.
    pub received_at: DateTime<Utc>,
    /// The route that serves it.
    pub route: Option<String>,
    /// Attempts that counted.
    pub attempts: u32,
    /// The door it came in by.
    pub door: String,
    /// The time since which it is in this state.
    pub since: DateTime<Utc>,
    /// The reason.
    pub reason: Option<String>,
    /// The time of the next attempt.
    pub due_at: Option<DateTime<Utc>>,
    /// The earlier file that it continues.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<ContinuesView>,
    /// How far it is, if it is handed over message by message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Progress>,
}

/// The beginning of a file that continues an earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContinuesView {
    /// The earlier file.
    pub file: FileId,
    /// Its length: only the bytes from here on came with this file.
    pub at: u64,
}

/// How far the messages of a file are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct MessagesView {
    /// The file.
    pub file: FileView,
    /// How far it is.
    pub progress: Progress,
}

/// A file with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetailView {
    /// The file.
    #[serde(flatten)]
    pub file: FileView,
    /// The number of server crashes that found it active.
    pub crashes: u32,
    /// Its history, oldest first.
    pub history: Vec<RecordView>,
}

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordView {
    /// The journal's sequence.
    pub seq: u64,
    /// The time.
    pub at: DateTime<Utc>,
    /// The actor: `server`, `partner NAME` or `operator NAME`.
    pub actor: String,
    /// The file it is about.
    pub id: Option<FileId>,
    /// The kind of event, in a word.
    pub what: String,
    /// The event, as a sentence.
    pub text: String,
    /// The end of the processor's output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// All of it, as it is stored.
    pub detail: Value,
}

/// The result of an action on a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActedView {
    /// The id, or its beginning, that was asked for.
    pub asked: String,
    /// The file, if there is one.
    pub file: Option<FileView>,
    /// The reason why the action was not done.
    pub error: Option<Problem>,
}
