//! What a door learns of a file that was taken.

use forebay_queue::{Entry, State};
use forebay_storage::{FileId, Sha256};

/// A file that is on stable storage and in the queue.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its id.
    pub id: FileId,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes.
    pub sha256: Sha256,
    /// `ready`, `unfinished` or `held`.
    pub state: State,
    /// The entry as the queue took it.
    pub entry: Entry,
}

impl Accepted {
    pub(super) fn new(entry: Entry) -> Self {
        Self { id: entry.id, size_bytes: entry.size_bytes, sha256: entry.sha256, state: entry.state, entry }
    }
}

/// What a rename did.
#[derive(Clone, Debug)]
pub enum Renamed {
    /// Unfinished files got another name, durably; those whose name is final now are accepted.
    Files(Vec<Accepted>),
    /// Only what the partner sees has another name: the files behind it had been accepted before.
    ViewOnly,
}
