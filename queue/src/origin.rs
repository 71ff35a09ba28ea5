//! What an accepted file was copied from.
//!
//! The drop door takes files from folders, and removes them there after they were accepted. Between
//! the two a crash can leave a file both accepted and still in its folder; by its origin it is
//! known again, and not taken twice.

use forebay_storage::{FileId, Origin, Sha256};
use serde::{Deserialize, Serialize};

use crate::{Fact, QueueError, Record, Result};

/// An accepted file and what it was copied from.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownOrigin {
    /// The accepted file.
    pub id: FileId,
    /// Its name, which is relative to the origin's folder.
    pub name: String,
    /// Digest of the accepted bytes.
    pub sha256: Sha256,
    /// What they were copied from.
    pub origin: Origin,
}

impl KnownOrigin {
    /// What this record says of an origin, if it does.
    pub(crate) fn of(record: &Record) -> Option<Self> {
        match (&record.fact, record.id) {
            (Fact::Accepted { name, sha256, origin: Some(origin), .. }, Some(id)) => {
                Some(Self { id, name: name.clone(), sha256: *sha256, origin: Origin::clone(origin) })
            }
            _ => None,
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        // JSON: one of these is written for a file of a folder, and read at a start.
        serde_json::to_vec(self)
            .map_err(|error| QueueError::Io { doing: "cannot write an origin".into(), source: error.into() })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
