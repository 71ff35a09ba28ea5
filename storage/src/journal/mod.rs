//! A journal whose records may bring contents along, and what becomes of both.
//!
//! | below its directory | what |
//! |---|---|
//! | `recent/` | a short log: records, each with its content, until they are emptied out of it |
//! | `*.log` | the journal proper: records without contents, kept as long as the owner wants |
//! | `packs/` | the contents of small files, some megabytes a pack |
//!
//! # Guarantees
//! When [`Journal::append`] returns Ok, records and contents are on stable storage: one write and one `fdatasync` for all
//! that were given together. A thread empties the short log behind that: contents into packs, records into the journal
//! proper, each synced once for thousands, and only then are segments of the short log given up. Sequences are the same in
//! both. A content is found by the sequence of the record that brought it ([`JournalReader::content`]).
//!
//! Contents never keep records out: where there is no room for both, [`Journal::append`] refuses what brings contents and
//! takes what does not.
//!
//! # After a crash
//! What the short log holds counts, and the journal proper is cut off where that begins: what it has beyond may be torn,
//! and is written again. A pack that was left half made is made again. Packs know the record of each content, so a lost
//! journal costs them nothing ([`JournalReader::packed_records`]).

mod emptier;
mod frame;
mod open;
mod pack;
mod packs;
#[cfg(test)]
mod power_tests;
mod reader;
#[cfg(test)]
mod tests;

use std::{ops::Range, path::Path, sync::Arc};

use bytes::Bytes;

pub use reader::JournalReader;

use self::{emptier::Emptier, frame::Frame, reader::Shared};
use crate::{
    FileId, Result, StorageError,
    disk::Disk,
    log::{Log, Recovery, Seq},
};

/// How a journal is laid out.
#[derive(Clone, Debug)]
pub struct JournalOptions {
    /// Size of a segment of the journal proper, in bytes; a record may take a quarter of it.
    pub segment_bytes: u64,
    /// Size of a segment of the short log, in bytes: a record with its content may take a quarter of it.
    pub recent_segment_bytes: u64,
    /// The short log is emptied when so many bytes of it are full, and at the end. A pack has about so many.
    pub recent_bytes: u64,
}

impl Default for JournalOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, recent_segment_bytes: 8 << 20, recent_bytes: 32 << 20 }
    }
}

/// A record to be appended, and the content that it brings along.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct NewRecord {
    /// The record.
    pub record: Vec<u8>,
    /// The content, if it brings one.
    pub content: Option<NewContent>,
}

/// The bytes of a small file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewContent {
    /// The file.
    pub id: FileId,
    /// All its bytes.
    pub bytes: Bytes,
}

/// Says whether anybody wants a content any more: that of this file, which came with the record of this sequence.
pub type IsLive<'a> = &'a dyn Fn(FileId, Seq) -> Result<bool>;

impl From<Vec<u8>> for NewRecord {
    fn from(record: Vec<u8>) -> Self {
        Self { record, content: None }
    }
}

/// The journal, for its one writer. Dropping it empties the short log, as far as that is possible.
#[derive(Debug)]
pub struct Journal {
    recent: Log,
    shared: Arc<Shared>,
    emptier: Emptier,
    /// The longest record, in bytes.
    most_record: usize,
    /// Whether anything was appended since it was opened.
    has_grown: bool,
}

impl Journal {
    /// Opens the journal in `dir`, which is made if it is not there. Segments that lie wholly before `from` are not read.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] when a newer version wrote it; no record of it has been changed then.
    pub fn open(disk: Arc<dyn Disk>, dir: &Path, options: JournalOptions, from: Seq) -> Result<(Self, Recovery)> {
        open::open(&disk, dir, &options, from)
    }

    /// Appends records with their contents, and makes all durable with one `fdatasync`. Ok: they are on stable storage.
    ///
    /// # Errors
    /// [`StorageError::Full`] when there is no room, and none of these records is ever shown then, by no restart either;
    /// records without contents are taken also where contents are refused. [`StorageError::Unsupported`] when one is too long, and nothing was written then.
    /// Anything else poisons the journal: the records may or may not be there after a restart.
    pub fn append(&mut self, records: &[NewRecord]) -> Result<Range<Seq>> {
        self.emptier.sound()?;
        if let Some(long) = records.iter().find(|new| new.record.len() > self.most_record) {
            let (length, most) = (long.record.len(), self.most_record);
            return Err(StorageError::Unsupported(format!("a record of {length} bytes is over the limit of {most}")));
        }
        // Before the append: what comes after it must not make a failure of it.
        match self.give_up_what_is_emptied() {
            // Tried again with the next group. There may be room for this one.
            Ok(()) | Err(StorageError::Full) => {}
            Err(error) => return Err(error),
        }
        let brings_contents = records.iter().any(|new| new.content.is_some());
        self.emptier.wait_until_short(&self.recent, brings_contents)?;
        let frames: Vec<_> = records.iter().map(Frame).collect();
        let range = self.recent.append_payloads(&frames)?;
        self.has_grown = true;
        self.emptier.tell(&self.recent);
        Ok(range)
    }

    /// Deletes segments of the short log whose records and contents lie elsewhere durably by now.
    /// The writer does it, and not the emptier: it alone changes the short log.
    fn give_up_what_is_emptied(&mut self) -> Result<()> {
        let emptied = self.shared.emptied();
        if self.recent.first_seq() < emptied { self.recent.retire(emptied) } else { Ok(()) }
    }

    /// Deletes the segments of the journal proper whose records all lie before `before`. Contents of packs stay; those that
    /// nobody wants have to be swept first ([`JournalReader::sweep_before`]), for nothing says so any more afterwards. Ok:
    /// the records do not come back after a crash.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn retire(&mut self, before: Seq) -> Result<()> {
        self.emptier.sound()?;
        if before > self.shared.emptied() {
            self.empty()?;
        }
        // Or a crash would have them written again.
        self.give_up_what_is_emptied()?;
        self.shared.kept.lock().retire(before)
    }

    /// Reads from other threads while this one appends.
    #[must_use]
    pub fn reader(&self) -> JournalReader {
        JournalReader { shared: self.shared.clone() }
    }

    /// The longest record that it takes, in bytes.
    #[must_use]
    pub fn most_record_bytes(&self) -> usize {
        self.most_record
    }

    /// The sequence the next record gets.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.recent.next_seq()
    }

    /// Moves everything out of the short log, and waits for that.
    /// Blocks until the emptier's thread has done it.
    ///
    /// # Errors
    /// When the disk fails or is full; nothing is lost by that.
    pub fn empty(&mut self) -> Result<()> {
        if self.recent.next_seq() == self.shared.emptied() {
            return Ok(());
        }
        // A new segment first: only segments that are never written again are emptied
        // (`current_seq`).
        self.recent.begin_segment()?;
        self.emptier.empty(self.recent.current_seq())?;
        self.give_up_what_is_emptied()
    }
}

impl Drop for Journal {
    fn drop(&mut self) {
        // What was found at the open is left as it was found: a hole in it that nobody was told of stays one at the end.
        if !self.has_grown {
            return;
        }
        // What is left in the short log is found there at the next start.
        let emptied = self.emptier.sound().and_then(|()| self.empty());
        if let Err(error) = emptied {
            tracing::warn!(%error, "the journal's short log could not be emptied at the end");
        }
    }
}
