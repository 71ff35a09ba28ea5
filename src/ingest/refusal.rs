//! Refusals: why something was not taken, in words that a partner may read.
//!
//! Each door maps these to its own codes: FTP in `reply.rs`, SFTP in `refused.rs`. The words are
//! the same for all doors, so they name no protocol. What the system said is in
//! [`Refusal::Internal`] alone.

use forebay_queue::{NameFault, QueueError};
use forebay_storage::StorageError;

/// Why an upload or another request of a partner was refused.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// The name cannot be taken.
    #[error("{0}")]
    BadName(String),
    /// The partner's quota of unprocessed bytes would be exceeded.
    #[error("quota exceeded: too many bytes wait to be processed")]
    Quota,
    /// The file is larger than the partner may send.
    #[error("file is too large")]
    TooLarge,
    /// The partner has as many names as it may have.
    #[error("too many names: {0} are allowed; delete some")]
    TooManyNames(u64),
    /// The partner changes names faster than it may.
    #[error("too many changes of names, try again later")]
    TooFast,
    /// The disk is full, or only its reserve is left.
    #[error("not enough disk space, try again later")]
    Full,
    /// The server takes nothing more until it is restarted.
    #[error("server stopped accepting: {0}")]
    Stopped(String),
    /// The upload did not arrive whole. What came is kept to be resumed.
    #[error("upload was cut: {0}")]
    Cut(String),
    /// Another session is writing it.
    #[error("another session is uploading this file")]
    Busy,
    /// There are not that many bytes to go on with.
    #[error("cannot go on at byte {at}: {have} bytes are kept")]
    CannotResume {
        /// Where the client wanted to go on.
        at: u64,
        /// What is kept.
        have: u64,
    },
    /// The file that the upload went on from is not there any more: its sender never read that it was accepted, or it was
    /// purged.
    #[error("the file that this goes on from was taken back: send the whole")]
    NoBeginning,
    /// There is no such file or directory.
    #[error("no such file or directory")]
    NotFound,
    /// It is not allowed.
    #[error("{0}")]
    Denied(String),
    /// It is there already.
    #[error("it exists already")]
    Exists,
    /// Something failed that the partner cannot do anything about.
    #[error("internal error: {0}")]
    Internal(String),
}

impl From<StorageError> for Refusal {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Full => Self::Full,
            StorageError::Poisoned(why) => Self::Stopped(why),
            StorageError::Busy => Self::Busy,
            StorageError::NotFound(_) => Self::NotFound,
            StorageError::CannotResume { at, have } => Self::CannotResume { at, have },
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<QueueError> for Refusal {
    fn from(error: QueueError) -> Self {
        match error {
            QueueError::Full => Self::Full,
            QueueError::Poisoned(why) | QueueError::Unknown(why) => Self::Stopped(why),
            QueueError::NotFound(_) => Self::NotFound,
            QueueError::NoBeginning { .. } => Self::NoBeginning,
            // By an upload at the same time: sent again, it is found to have been accepted.
            QueueError::KeyUsed { .. } => Self::Busy,
            QueueError::WrongState { .. } => Self::Denied(error.to_string()),
            QueueError::Name(fault) => fault.into(),
            other => Self::Internal(other.to_string()),
        }
    }
}

impl From<NameFault> for Refusal {
    fn from(fault: NameFault) -> Self {
        match fault {
            NameFault::NotFound | NameFault::NotFolder => Self::NotFound,
            NameFault::Exists => Self::Exists,
            NameFault::IsFolder => Self::Denied("is a directory".to_owned()),
            NameFault::NotEmpty => Self::Denied("directory is not empty".to_owned()),
            NameFault::IntoItself => Self::BadName("a directory cannot be moved into itself".to_owned()),
        }
    }
}

impl From<std::io::Error> for Refusal {
    fn from(error: std::io::Error) -> Self {
        use std::io::ErrorKind;
        match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => Self::NotFound,
            ErrorKind::AlreadyExists | ErrorKind::IsADirectory => Self::Exists,
            ErrorKind::DirectoryNotEmpty => Self::Denied("directory is not empty".to_owned()),
            ErrorKind::StorageFull | ErrorKind::QuotaExceeded => Self::Full,
            _ => Self::Internal(error.to_string()),
        }
    }
}
