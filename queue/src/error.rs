//! What can go wrong in the queue, by what the caller does about it.

use forebay_storage::FileId;

use crate::{Cursor, NameFault, State};

/// A result of this crate.
pub type Result<T, E = QueueError> = std::result::Result<T, E>;

/// Why the queue could not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum QueueError {
    /// A sync of the journal failed earlier: nothing more is accepted or claimed until a restart.
    #[error("queue stopped: {0}")]
    Poisoned(String),
    /// The journal failed while it took this record, or the queue ended: only a restart tells whether it was kept. Who
    /// undoes something on an error must not do so on this one. Nothing more is accepted or claimed until then.
    #[error("queue stopped, and only a restart tells whether this was kept: {0}")]
    Unknown(String),
    /// No such entry.
    #[error("no file {0} in the queue")]
    NotFound(FileId),
    /// No entry's id begins so.
    #[error("no file's id begins with \"{0}\"")]
    NoMatch(String),
    /// More than one entry's id begins so.
    #[error("{count} files' ids begin with \"{prefix}\"; give more digits")]
    Ambiguous {
        /// What was given.
        prefix: String,
        /// How many match.
        count: usize,
    },
    /// The entry's state does not allow it.
    #[error("file {id} is {state}: cannot {action}")]
    WrongState {
        /// The file.
        id: FileId,
        /// The state it is in.
        state: State,
        /// What was asked.
        action: &'static str,
    },
    /// A file was to go on from an earlier one that is not there any more, or was taken back.
    #[error("file {of}, which this one goes on from, is not there any more")]
    NoBeginning {
        /// The earlier file.
        of: FileId,
    },
    /// A file was accepted under this idempotency key already.
    #[error("file {by} was accepted under this idempotency key")]
    KeyUsed {
        /// That file.
        by: FileId,
    },
    /// The lease was given up or taken away; what its holder did no longer counts.
    #[error("the lease on file {0} has ended")]
    LeaseLost(FileId),
    /// What became of a file's messages was noted for other bytes than these.
    #[error("file {0} has other messages than those that were handed over before")]
    OtherMessages(FileId),
    /// A change of names was refused.
    #[error(transparent)]
    Name(#[from] NameFault),
    /// The place in a listing is none of this queue.
    #[error("no place in a listing: {0}")]
    BadCursor(Cursor),
    /// The id is in the queue already.
    #[error("file {0} is in the queue already")]
    Exists(FileId),
    /// The bytes of a small file are not what was accepted, or are missing.
    #[error("file {id} is damaged: {what}")]
    Damaged {
        /// The file.
        id: FileId,
        /// What was found.
        what: String,
    },
    /// Another process has the queue open.
    #[error("{0}")]
    Locked(String),
    /// The journal was written by a newer version, or is otherwise not to be opened by this one.
    #[error("{0}")]
    Unreadable(String),
    /// The disk's reserve is all that is left.
    #[error("not enough disk space for the journal")]
    Full,
    /// Long work was stopped before its end, by whoever had asked for it; it can be begun again.
    #[error("stopped before the index of the queue was read or made to its end")]
    Stopped,
    /// Anything else.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done.
        doing: String,
        /// What the machine said.
        #[source]
        source: std::io::Error,
    },
}
