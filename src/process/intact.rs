//! Whether bytes that are about to be handed over are those that were accepted.
//!
//! Storage looks at what it copies. A hard link is made without a look, and its bytes may have been damaged on the disk
//! since, or written to by a program that had them before.

use std::path::Path;

use forebay_queue::Entry;
use forebay_storage::Placement;

use super::Outcome;

/// Refuses what was placed as a link and is not what was accepted. Blocks.
pub(super) fn look_at(path: &Path, placement: Placement, entry: &Entry) -> Result<(), Outcome> {
    if placement != Placement::Link {
        return Ok(());
    }
    match entry.sha256.is_of(path, entry.size_bytes) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Outcome::Hold { reason: format!("spool file {} is not what was accepted", entry.id) }),
        Err(error) => Err(Outcome::BackendDown { reason: format!("cannot read spool file {}: {error}", entry.id) }),
    }
}
