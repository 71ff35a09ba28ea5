//! A file of the queue, and what happened to it.

use chrono::{DateTime, Utc};
use forebay_queue::State;
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
    /// Where it stands.
    pub state: State,
    /// Whether a closed gate holds it back.
    pub deferred: bool,
    /// When the gate opens again, if that is known and it is deferred.
    pub resumes_at: Option<DateTime<Utc>>,
    /// When its last byte had come.
    pub received_at: DateTime<Utc>,
    /// The route that serves it.
    pub route: Option<String>,
    /// Attempts that counted.
    pub attempts: u32,
    /// The door it came in by.
    pub door: String,
    /// When it came to stand there.
    pub since: DateTime<Utc>,
    /// Why.
    pub reason: Option<String>,
    /// When it is tried again.
    pub due_at: Option<DateTime<Utc>>,
}

/// A file with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetailView {
    /// The file.
    #[serde(flatten)]
    pub file: FileView,
    /// How many crashes of the server found it active.
    pub crashes: u32,
    /// What happened to it, oldest first.
    pub history: Vec<RecordView>,
}

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordView {
    /// The journal's sequence.
    pub seq: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who: `server`, `partner NAME` or `operator NAME`.
    pub actor: String,
    /// The file it is about.
    pub id: Option<FileId>,
    /// What, in a word.
    pub what: String,
    /// What, in a sentence.
    pub text: String,
    /// The end of the processor's output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// All of it, as it is stored.
    pub detail: Value,
}

/// What was done to a file, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActedView {
    /// What was given: an id or its beginning.
    pub asked: String,
    /// The file, if there is one.
    pub file: Option<FileView>,
    /// Why it was not done.
    pub error: Option<Problem>,
}
