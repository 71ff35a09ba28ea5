//! The catalogue: the names that a partner sees, and what each leads to.
//!
//! A partner has a tree of folders; each name in it is a folder or leads to one accepted file. The names follow from the
//! journal (accepted, renamed, moved, hidden, folder made and removed, times set), so they cost no inode and are made
//! anew with the index.
//!
//! It names no files of a disk. A name's path has no `.`, `..` or empty component: `ingest` sees to
//! that, and here paths are only split at `/`.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use forebay_storage::FileId;

use crate::{Actor, NewName, Result};

/// What a name leads to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A folder.
    Folder {
        /// When it was made.
        at: DateTime<Utc>,
    },
    /// An accepted file.
    File {
        /// The file.
        id: FileId,
        /// Length in bytes.
        size_bytes: u64,
        /// The time that the partner gave it, else when its last byte had come.
        at: DateTime<Utc>,
    },
}

impl Node {
    /// Returns whether it is a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        matches!(self, Self::Folder { .. })
    }
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Named {
    /// The last component of its path.
    pub name: String,
    /// What it leads to.
    pub node: Node,
}

/// A change of names that a partner asks for. Paths are relative to the login directory, with `/` between components.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NameChange {
    /// Makes a folder. The one above it must be there, and nothing of this name.
    MakeFolder {
        /// The new folder.
        path: String,
    },
    /// Removes an empty folder.
    RemoveFolder {
        /// The folder.
        path: String,
    },
    /// Takes a file's name away. The file stays what it is.
    Hide {
        /// The name.
        path: String,
    },
    /// Gives a file or folder another name; a file that had that name is hidden, a folder of that name is an error.
    Move {
        /// The name it has.
        from: String,
        /// The name it gets.
        to: String,
        /// Entries at or below `from` that no processor has begun, with what they are to be processed as from now on.
        /// Those that a processor has begun meanwhile are left as they are.
        files: Vec<(FileId, NewName)>,
    },
    /// Shows a file under this name, wherever it was shown before; folders above it are made. For taking over the
    /// directories of the version before.
    Show {
        /// The name.
        path: String,
        /// The file.
        id: FileId,
        /// The time that it is to show.
        at: DateTime<Utc>,
    },
    /// Sets the time that a file shows.
    SetTime {
        /// The name.
        path: String,
        /// The time.
        at: DateTime<Utc>,
    },
}

/// Why a change of names was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NameFault {
    /// Nothing has this name, or the folder that it would lie in is not there.
    #[error("no such file or folder")]
    NotFound,
    /// Something has this name already.
    #[error("it exists already")]
    Exists,
    /// It is a folder, and a file was meant.
    #[error("is a folder")]
    IsFolder,
    /// It is a file, and a folder was meant.
    #[error("is not a folder")]
    NotFolder,
    /// The folder has names in it.
    #[error("folder is not empty")]
    NotEmpty,
    /// A folder cannot lie within itself.
    #[error("a folder cannot be moved into itself")]
    IntoItself,
}

/// The names of all partners.
///
/// Reads see every change that was answered. Paths are relative to the login directory, with `/` between components and
/// none at the start; the empty path is the login directory, which is always there.
#[async_trait]
pub trait Catalogue: Send + Sync + 'static {
    /// What a path leads to, if anything.
    async fn stat(&self, partner: &str, path: &str) -> Result<Option<Node>>;

    /// Names in a folder, in byte order, those behind `after`, at most `limit`.
    ///
    /// # Errors
    /// [`NameFault::NotFound`] and [`NameFault::NotFolder`] as [`QueueError::Name`](crate::QueueError::Name).
    async fn list(&self, partner: &str, folder: &str, after: Option<&str>, limit: usize) -> Result<Vec<Named>>;

    /// Files at or below a path, in no order, at most `limit`.
    async fn files_below(&self, partner: &str, path: &str, limit: usize) -> Result<Vec<(String, FileId)>>;

    /// The path that leads to this file, if one does.
    async fn path_of(&self, id: FileId) -> Result<Option<String>>;

    /// How many names a partner has, folders included.
    async fn names(&self, partner: &str) -> Result<u64>;

    /// Every partner that has names.
    async fn partners(&self) -> Result<Vec<String>>;

    /// Changes names. Ok: journalled, synced (but for [`NameChange::SetTime`], which may be lost in a crash), and seen
    /// by reads.
    ///
    /// # Errors
    /// A [`NameFault`], and nothing has changed then.
    async fn change(&self, partner: &str, change: NameChange, actor: Actor, now: DateTime<Utc>) -> Result<()>;

    /// Forgets every name of a partner that is no more. Its files stay what they are.
    async fn forget_partner(&self, partner: &str, now: DateTime<Utc>) -> Result<()>;
}
