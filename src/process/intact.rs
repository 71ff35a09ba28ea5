//! Whether bytes that are about to be handed over are those that were accepted.
//!
//! Storage looks at what it copies. A hard link is made without a look, and its bytes may have been damaged on the disk
//! since, or written to by a program that had them before.

use std::{
    fs::File,
    io::{self, Read},
    path::Path,
};

use forebay_queue::Entry;
use forebay_storage::Placement;
use sha2::Digest;

use super::Outcome;

const BUFFER_BYTES: usize = 256 << 10;

/// Refuses what was placed as a link and is not what was accepted. Blocks.
pub(super) fn look_at(path: &Path, placement: Placement, entry: &Entry) -> Result<(), Outcome> {
    if placement != Placement::Link {
        return Ok(());
    }
    match has_digest(path, entry) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Outcome::Hold { reason: format!("spool file {} is not what was accepted", entry.id) }),
        Err(error) => Err(Outcome::BackendDown { reason: format!("cannot read spool file {}: {error}", entry.id) }),
    }
}

/// Whether the file has the accepted bytes.
pub(super) fn has_digest(path: &Path, entry: &Entry) -> io::Result<bool> {
    let (mut file, mut digest) = (File::open(path)?, sha2::Sha256::new());
    if file.metadata()?.len() != entry.size_bytes {
        return Ok(false);
    }
    // One byte more than there should be: then the end is seen by the first read of a small file.
    let mut buffer =
        vec![0; usize::try_from(entry.size_bytes.saturating_add(1)).map_or(BUFFER_BYTES, |all| all.min(BUFFER_BYTES))];
    loop {
        match file.read(&mut buffer)? {
            0 => return Ok(digest.finalize()[..] == entry.sha256.0),
            length => digest.update(&buffer[..length]),
        }
    }
}
