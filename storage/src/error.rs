//! Failures with bytes, by what the caller does about them.
//!
//! Doors never see these: `ingest` makes refusals of them.

use std::io;

use crate::FileId;

/// A result of this crate.
pub type Result<T, E = StorageError> = std::result::Result<T, E>;

/// Why bytes could not be kept or read. Each variant exists because a caller acts on it.
#[derive(Debug, thiserror::Error)]
pub enum StorageError {
    /// The disk is full, or only its reserve is left. The upload may be sent again later; nothing of it was kept.
    #[error("not enough disk space")]
    Full,
    /// An earlier sync failed, so nothing written since can be promised. The store takes nothing more until a restart.
    #[error("storage stopped accepting: {0}")]
    Poisoned(String),
    /// There is no such file.
    #[error("no file {0} in the spool")]
    NotFound(FileId),
    /// The bytes or their description are not what was accepted.
    #[error("spool file {id} is damaged: {what}")]
    Damaged {
        /// The file.
        id: FileId,
        /// What was found.
        what: String,
    },
    /// Another session is writing this partial.
    #[error("another session is uploading this file")]
    Busy,
    /// A partial does not reach that far, or does not exist.
    #[error("cannot resume at byte {at}: only {have} bytes are kept")]
    CannotResume {
        /// Where the client wants to go on.
        at: u64,
        /// What is durable.
        have: u64,
    },
    /// The file system lacks something the promise needs, such as extended attributes.
    #[error("{0}")]
    Unsupported(String),
    /// Anything else that the machine reported.
    #[error("{doing}: {source}")]
    Io {
        /// What was being done, with the path or id.
        doing: String,
        /// What the machine said.
        #[source]
        source: io::Error,
    },
}

/// Returns true if the disk has lost what was to be read (EIO, EBADMSG, EUCLEAN). That is damage,
/// as wrong bytes would be, and no reason to try again later.
pub(crate) fn is_lost(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EIO | libc::EBADMSG | libc::EUCLEAN))
}

/// Whether there was no room, on the disk or by a quota.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl StorageError {
    /// An I/O error with what was being done. ENOSPC and EDQUOT become [`StorageError::Full`].
    pub fn io(doing: impl Into<String>, source: io::Error) -> Self {
        if is_full(&source) { Self::Full } else { Self::Io { doing: doing.into(), source } }
    }
}
