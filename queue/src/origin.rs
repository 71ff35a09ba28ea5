//! What an accepted file was copied from.

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
                Some(Self { id, name: name.clone(), sha256: *sha256, origin: origin.clone() })
            }
            _ => None,
        }
    }

    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        serde_json::to_vec(self)
            .map_err(|error| QueueError::Io { doing: "cannot write an origin".into(), source: error.into() })
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        serde_json::from_slice(bytes).ok()
    }
}
