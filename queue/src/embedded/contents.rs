//! Bytes of small files, found by the sequence of the record that brought them.
//!
//! # Guarantees
//! - A read is checked by length and digest, each time.
//! - A sweep never takes a live content: one whose entry names it, one that came at or after `end`
//!   (the index may not have it yet), and one that the index does not know and does not know as
//!   purged (recovery may still have to find it).
//! - What a failed sweep has left is looked at again.

use bytes::Bytes;
use forebay_storage::{FileId, Sha256, StorageError, journal::JournalReader};
use parking_lot::Mutex;
use sha2::Digest;

use super::{
    index::{Fault, Index},
    read as look,
    recover::{io, journal_error},
};
use crate::{Extent, QueueError, Result};

/// Reads all bytes of an extent, which came with the record `seq`.
///
/// # Errors
/// [`QueueError::Damaged`] when they are missing, or have another length or digest. Blocks.
pub(super) fn read(journal: &JournalReader, extent: &Extent, seq: u64) -> Result<Bytes> {
    let damaged = |what: String| QueueError::Damaged { id: extent.id, what };
    let bytes = journal.content(seq).map_err(journal_error)?;
    let bytes =
        bytes.ok_or_else(|| damaged(format!("its bytes, which came with journal record {seq}, are missing")))?;
    let sha256 = Sha256(sha2::Sha256::digest(&bytes).into());
    match bytes.len() as u64 == extent.size_bytes && sha256 == extent.sha256 {
        true => Ok(bytes),
        false => Err(damaged(format!("it has {} bytes with the sha-256 {sha256}", bytes.len()))),
    }
}

/// Returns true if the content that came with this record is wanted.
pub(super) fn is_live(index: &Index, id: FileId, seq: u64) -> Result<bool, StorageError> {
    let failed = |fault: Fault| StorageError::Io {
        doing: format!("cannot tell whether file {id} is in the queue"),
        source: std::io::Error::other(QueueError::from(fault).to_string()),
    };
    let Some(stored) = look::find(index, id).map_err(failed)? else {
        // Unknown to the index, and not as purged: it may be a file that recovery has still to
        // find.
        return Ok(look::knows(index, id).map_err(failed)? == Some(false));
    };
    Ok(stored.entry.content == Some(seq))
}

/// Contents whose room has still to be given back. At the start that is any: a crash may have come
/// between a purge and its sweep.
#[derive(Debug)]
pub(super) struct Unswept(Mutex<What>);

/// Which contents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct What {
    /// Any: a crash may have come between a purge and the sweep behind it.
    all: bool,
    /// Those that came with these records.
    seqs: Vec<u64>,
}

impl Default for Unswept {
    fn default() -> Self {
        Self(Mutex::new(What { all: true, seqs: Vec::new() }))
    }
}

impl What {
    pub(super) fn is_nothing(&self) -> bool {
        !self.all && self.seqs.is_empty()
    }
}

impl Unswept {
    /// Takes what is to be swept, with what was purged just now. Until [`Unswept::settle`] nobody
    /// else has it.
    pub(super) fn with(&self, purged: Vec<u64>) -> What {
        let mut what = std::mem::take(&mut *self.0.lock());
        what.seqs.extend(purged);
        what
    }

    /// Keeps what could not be swept yet; after a failure all is looked at.
    pub(super) fn settle(&self, swept: Result<Vec<u64>>) -> Result<()> {
        let mut what = self.0.lock();
        match swept {
            Ok(later) => {
                what.seqs.extend(later);
                Ok(())
            }
            Err(error) => {
                what.all = true;
                Err(error)
            }
        }
    }
}

/// Gives back the room of contents that no entry wants any more, of those that came before `end`.
/// Returns those that are to be swept later.
pub(super) fn sweep(index: &Index, journal: &JournalReader, end: u64, what: &What) -> Result<Vec<u64>, Fault> {
    let live = |id: FileId, seq: u64| if seq >= end { Ok(true) } else { is_live(index, id, seq) };
    if what.all {
        journal.sweep_all(&live).map_err(sweep_error)?;
    }
    Ok(journal.sweep(&what.seqs, &live).map_err(sweep_error)?)
}

/// Gives back the room of every content that no entry wants and that came with a record before `before`, which the index
/// has.
pub(super) fn sweep_before(index: &Index, journal: &JournalReader, before: u64) -> Result<(), Fault> {
    Ok(journal.sweep_before(before, &|id, seq| is_live(index, id, seq)).map_err(sweep_error)?)
}

fn sweep_error(error: StorageError) -> QueueError {
    match error {
        StorageError::Io { doing, source } => io(&doing, source),
        other => journal_error(other),
    }
}
