//! What a path leads to.

use chrono::{DateTime, Utc};
use forebay_queue::Node;
use forebay_storage::Sha256;

use super::{Files, Place, read::Source};
use crate::ingest::Refusal;

/// A folder or a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A folder.
    Folder,
    /// A file.
    File,
}

/// What is known of a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    /// A folder or a file.
    pub kind: Kind,
    /// Length in bytes; 0 of a folder.
    pub size_bytes: u64,
    /// The time that it shows: the one its partner gave it, else when it came.
    pub modified: DateTime<Utc>,
}

impl Stat {
    /// A folder that was made at this time.
    #[must_use]
    pub fn folder(modified: DateTime<Utc>) -> Self {
        Self { kind: Kind::Folder, size_bytes: 0, modified }
    }

    /// A file.
    #[must_use]
    pub fn file(size_bytes: u64, modified: DateTime<Utc>) -> Self {
        Self { kind: Kind::File, size_bytes, modified }
    }

    /// Returns whether it is a folder.
    #[must_use]
    pub fn is_folder(&self) -> bool {
        self.kind == Kind::Folder
    }

    /// Returns whether it is a file.
    #[must_use]
    pub fn is_file(&self) -> bool {
        self.kind == Kind::File
    }
}

impl From<&Node> for Stat {
    fn from(node: &Node) -> Self {
        match node {
            Node::Folder { at } => Self::folder(*at),
            Node::File { size_bytes, at, .. } => Self::file(*size_bytes, *at),
        }
    }
}

/// A name in a folder.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// The last component of its path.
    pub name: String,
    /// What it leads to.
    pub stat: Stat,
}

impl Files {
    /// What a path leads to. Paths are resolved: without `..`, with or without a leading `/`.
    ///
    /// # Errors
    /// Bad names; [`Refusal::NotFound`].
    pub async fn stat(&self, path: &str) -> Result<Stat, Refusal> {
        match Place::of(path)? {
            Place::Root | Place::Out => Ok(Stat::folder(self.ingest.started_at)),
            Place::InOut(below) => self.stat_in_out(&below).await,
            Place::Own(name) => {
                let node = self.ingest.catalogue.stat(self.partner(), name.as_str()).await?;
                node.as_ref().map(Stat::from).ok_or(Refusal::NotFound)
            }
        }
    }

    /// The SHA-256 of an accepted file, which is known without reading it; none of what lies in `out/`.
    ///
    /// # Errors
    /// As [`Files::stat`]; when it is a folder.
    pub async fn sha256(&self, path: &str) -> Result<Option<(Sha256, u64)>, Refusal> {
        match self.source(path).await?.1 {
            Source::Accepted(content) => {
                let entry = self.ingest.queue.get(content.id()).await?;
                Ok(Some((entry.sha256, entry.size_bytes)))
            }
            _ => Ok(None),
        }
    }
}
