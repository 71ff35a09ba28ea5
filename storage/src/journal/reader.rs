//! Reads records and contents while the journal is written and emptied.
//!
//! `emptied` divides the two places: records before it are in the journal proper, with their
//! contents in packs; the others are in the short log. It only rises. A reader that finds its
//! segment gone in between looks again. Only what is durable is shown.
//!
//! The sweeps lose nothing live, whatever fails: a pack is replaced by a whole new edition, or
//! stays.

use std::{
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use parking_lot::Mutex;

use super::{
    IsLive, frame,
    packs::{Packs, Waste},
};
use crate::{
    Result, StorageError,
    error::is_lost,
    log::{Log, LogReader, Seq},
};

/// What writer, emptier and readers have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) recent: LogReader,
    /// The journal proper; the emptier appends to it.
    pub(super) kept: Mutex<Log>,
    pub(super) kept_reader: LogReader,
    pub(super) packs: Packs,
    /// The records before this one are in the journal proper, and their contents in packs, durably.
    pub(super) emptied: AtomicU64,
}

impl Shared {
    pub(super) fn emptied(&self) -> Seq {
        self.emptied.load(Ordering::Acquire)
    }
}

/// A handle that reads while the journal is written. Cheap to clone; shows what is durable only.
#[derive(Clone, Debug)]
pub struct JournalReader {
    pub(super) shared: Arc<Shared>,
}

impl JournalReader {
    /// Records from `from` on, at most `limit`, without their contents. Sequences are missing where damage took them.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>> {
        let mut from = from;
        let mut records = Vec::new();
        loop {
            let emptied = self.shared.emptied();
            if from < emptied {
                let kept = self.shared.kept_reader.read(from, limit - records.len())?;
                let kept = kept.into_iter().take_while(|(seq, _)| *seq < emptied);
                records.extend(kept);
                if records.len() >= limit {
                    return Ok(records);
                }
                from = emptied;
            }
            let recent = self.shared.recent.read(from, limit - records.len())?;
            // Emptied in between, so its segment may be gone.
            if from < self.shared.recent.first_seq() && from < self.shared.emptied() {
                continue;
            }
            for (seq, bytes) in recent {
                records.push((seq, frame::record_of(seq, bytes)?));
            }
            return Ok(records);
        }
    }

    /// The content that came with a record. None: it brought none, or nobody has it any more, or it is damaged.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn content(&self, seq: Seq) -> Result<Option<Bytes>> {
        // The short log first. A record that leaves it between this look and the read is found in a
        // pack below, because it was there before it left.
        if seq >= self.shared.emptied() {
            let found = match self.shared.recent.read(seq, 1) {
                Err(StorageError::Io { source, .. }) if is_lost(&source) => Vec::new(),
                found => found?,
            };
            if let Some((_, bytes)) = found.into_iter().next().filter(|(found, _)| *found == seq) {
                return Ok(frame::into_content(bytes));
            }
        }
        Ok(self.shared.packs.frame(seq)?.and_then(frame::into_content))
    }

    /// The records whose contents are in packs, with `seqs`: what is left of them, should the journal be damaged.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn packed_records(&self, seqs: Range<Seq>) -> Result<Vec<(Seq, Vec<u8>)>> {
        let mut records = Vec::new();
        for seq in self.shared.packs.seqs(&seqs)? {
            let frame = self.shared.packs.frame(seq)?;
            records.extend(frame.and_then(frame::into_record).map(|record| (seq, record)));
        }
        Ok(records)
    }

    /// Gives back the room of contents that nobody wants any more, where at least half of a pack is such. `near` are the
    /// sequences of records whose contents were given up; only packs that hold one of those are looked at. Gives those that
    /// are in no pack yet, to be asked for again later. Blocks.
    ///
    /// # Errors
    /// When the disk fails, or `is_live` does; nothing live is lost.
    pub fn sweep(&self, near: &[Seq], is_live: IsLive<'_>) -> Result<Vec<Seq>> {
        let emptied = self.shared.emptied();
        let (mut packed, later): (Vec<Seq>, Vec<Seq>) = near.iter().partition(|seq| **seq < emptied);
        packed.sort_unstable();
        let mut done = 0;
        for seq in packed {
            // Those of one pack are swept at once.
            if seq >= done {
                done = self.shared.packs.end_of(seq).unwrap_or(seq + 1);
                self.shared.packs.sweep(seq..seq + 1, Waste::Half, is_live)?;
            }
        }
        Ok(later)
    }

    /// The same for all packs.
    ///
    /// # Errors
    /// As [`JournalReader::sweep`].
    pub fn sweep_all(&self, is_live: IsLive<'_>) -> Result<()> {
        self.shared.packs.sweep(0..self.shared.emptied(), Waste::Half, is_live)
    }

    /// Gives back the room of every content that nobody wants and that came with a record before `before`: the journal may
    /// forget then that it is not wanted. Blocks.
    ///
    /// # Errors
    /// As [`JournalReader::sweep`]; then the journal must not forget.
    pub fn sweep_before(&self, before: Seq, is_live: IsLive<'_>) -> Result<()> {
        self.shared.packs.sweep(0..before, Waste::None, is_live)
    }

    /// The sequence after the last durable record.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.shared.recent.next_seq()
    }

    /// The sequence of the oldest record that is still kept.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.shared.kept_reader.first_seq()
    }
}
