//! The log's one writer.
//!
//! # Guarantees
//! - [`Log::append`] prepares all segments it needs, then writes, then syncs, and only then readers
//!   see the records.
//! - "No room" is found before the first byte is written, and changes nothing; or else the write of
//!   the group finds it, and what there is of the group is taken back durably (`take_back.rs`)
//!   before anyone is told. Any other failure poisons the log.
//! - A segment is synced before the next one gets a record, and the next one's name is durable
//!   before that.
//! - [`Log::retire`] deletes segments oldest first, each durably, so that a crash leaves no gap.

use std::{
    ops::Range,
    path::Path,
    sync::{Arc, atomic::Ordering},
};

use super::{
    LogOptions, LogReader, Recovery, Seq, SharedDisk,
    open::open,
    read::Shared,
    record::{self, Payload},
    segment::{DATA_START, HEADER_BYTES, MOST_BYTES, Salt, Segment, Spares},
    take_back::Before,
};
use crate::{Result, StorageError, disk::DiskFile};

/// The log, for its one writer. Dropping it waits for the segment that is being prepared.
#[derive(Debug)]
pub struct Log {
    pub(super) shared: Arc<Shared>,
    pub(super) options: LogOptions,
    pub(super) next: Seq,
    /// Where the next record goes in the current segment.
    pub(super) at: u64,
    pub(super) current: Arc<Segment>,
    pub(super) file: Arc<dyn DiskFile>,
    pub(super) spares: Spares,
    pub(super) poison: Option<String>,
    /// What a group is gathered in. Kept, for its pages cost more than what is written into them.
    pub(super) buffer: Vec<u8>,
}

/// No more than this is kept of the buffer from one group to the next, in bytes.
const BUFFER_KEPT: usize = 8 << 20;

impl Log {
    /// Opens the log in `dir`, which is made if it is not there, and shows every sound record from `from` on.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] when a newer version wrote it; nothing has been changed then.
    pub fn open(
        disk: SharedDisk,
        dir: &Path,
        options: LogOptions,
        from: Seq,
        visit: &mut dyn FnMut(Seq, &[u8]),
    ) -> Result<(Self, Recovery)> {
        let bytes = options.segment_bytes;
        if !(16 << 10..=MOST_BYTES).contains(&bytes) {
            return Err(StorageError::Unsupported(format!(
                "a segment of {bytes} bytes is not between 16 KiB and 1 GiB"
            )));
        }
        open(disk, dir, options, from, visit)
    }

    /// Appends records and makes them durable with one `fdatasync`. Ok: they are on stable storage.
    ///
    /// # Errors
    /// [`StorageError::Full`] when there is no room, and none of these records is ever shown then, by no restart either;
    /// [`StorageError::Unsupported`] when a record takes more than a quarter of a segment, and nothing was written then.
    /// Anything else poisons the log.
    pub fn append(&mut self, records: &[Vec<u8>]) -> Result<Range<Seq>> {
        self.append_payloads(records)
    }

    /// As [`Log::append`], of what writes its bytes itself.
    pub(crate) fn append_payloads<P: Payload>(&mut self, records: &[P]) -> Result<Range<Seq>> {
        self.sound()?;
        let first = self.next;
        if records.is_empty() {
            return Ok(first..first);
        }
        // All segments before the first byte: a group that stops half-way for want of room would be
        // a failure.
        self.make_room(records)?;
        let before = Before::of(self);
        if let Err(error) = self.write(records) {
            return Err(self.after_failed(&before, error));
        }
        // Only now may readers see them.
        self.shared.next.store(self.next, Ordering::Release);
        Ok(first..self.next)
    }

    fn sound(&self) -> Result<()> {
        self.poison.clone().map_or(Ok(()), |why| Err(StorageError::Poisoned(why)))
    }

    /// Prepares every segment that these records will need, before any of them is written. Counts
    /// as `write` will place them.
    fn make_room<P: Payload>(&mut self, records: &[P]) -> Result<()> {
        // Only the first of them has the present segment's end; the others are new.
        let (mut at, mut end, mut needed) = (self.at, self.current.end, 0);
        for payload in records {
            // As it lies in the segment, with header and padding.
            let size = record::size(payload.length()) as u64;
            if size > self.options.segment_bytes / 4 {
                let (len, most) = (payload.length(), self.options.segment_bytes / 4);
                return Err(StorageError::Unsupported(format!("a record of {len} bytes is over the limit of {most}")));
            }
            if at + size > end {
                (at, end) = (DATA_START, self.options.segment_bytes - HEADER_BYTES as u64);
                needed += 1;
            }
            at += size;
        }
        let made = self.spares.ensure(needed);
        self.poisoning(made)
    }

    /// What a failed write means. Where a copy is made of all that is written over (btrfs, ZFS), room that was made ahead
    /// is no promise.
    fn after_failed(&mut self, before: &Before, error: StorageError) -> StorageError {
        let error = match error {
            // No sync has failed, so what was written is known.
            StorageError::Full => match self.take_back(before) {
                Ok(()) => return StorageError::Full,
                Err(error) => error,
            },
            other => other,
        };
        self.poison = Some(error.to_string());
        error
    }

    /// Places records, group by segment, and syncs.
    ///
    /// # Errors
    /// [`StorageError::Full`] when the disk had no room to write over what is there: all syncs so far have succeeded.
    /// Anything else leaves the log in no known state.
    fn write<P: Payload>(&mut self, records: &[P]) -> Result<()> {
        // The first sequence of this append goes into each of its records: recovery tells by it
        // what was synced before.
        let batch = self.next;
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.clear();
        for payload in records {
            let at = self.at + buffer.len() as u64;
            if at + record::size(payload.length()) as u64 > self.current.end {
                self.flush(&mut buffer)?;
                // Synced before the next segment has a record: a hole here would look like damage.
                self.sync()?;
                self.rotate()?;
            }
            self.current.mark(self.next, self.at + buffer.len() as u64);
            record::encode(self.current.salt, self.next, batch, payload, &mut buffer);
            self.next += 1;
        }
        self.flush(&mut buffer)?;
        buffer.shrink_to(BUFFER_KEPT);
        self.buffer = buffer;
        self.sync()?;
        // After the sync: making the next segment must not slow this group down.
        self.spares.begin();
        Ok(())
    }

    fn flush(&mut self, buffer: &mut Vec<u8>) -> Result<()> {
        let path = &self.current.path;
        self.file
            .write_at(buffer, self.at)
            .map_err(|e| StorageError::io(format!("cannot write {}", path.display()), e))?;
        self.at += buffer.len() as u64;
        buffer.clear();
        Ok(())
    }

    pub(super) fn sync(&self) -> Result<()> {
        let path = &self.current.path;
        self.file.sync_data().map_err(|e| broken(format!("cannot sync {}", path.display()), e))
    }

    /// Has the next record go into a segment of this version of the format, which versions before refuse to open.
    ///
    /// # Errors
    /// As [`Log::begin_segment`].
    pub fn renew_format(&mut self) -> Result<()> {
        self.sound()?;
        if self.current.salt != Salt::Absent {
            return Ok(());
        }
        self.spares.ensure(1)?;
        self.rotate_or_poison()
    }

    /// Has the next record have this sequence: those in between are not there. It goes into a segment of its own.
    ///
    /// # Errors
    /// As [`Log::begin_segment`]; [`StorageError::Unsupported`] when the sequence was given already.
    pub fn skip_to(&mut self, seq: Seq) -> Result<()> {
        self.sound()?;
        if seq < self.next {
            return Err(StorageError::Unsupported(format!("record {seq} is already in the log")));
        }
        if seq > self.next {
            self.spares.ensure(1)?;
            // Set before the rotation, which names the segment by it.
            let before = std::mem::replace(&mut self.next, seq);
            self.rotate_or_poison().inspect_err(|_| self.next = before)?;
            self.shared.next.store(seq, Ordering::Release);
        }
        Ok(())
    }

    /// Has the next record go into a segment of its own, so that all before it can be given up.
    ///
    /// # Errors
    /// [`StorageError::Full`] when there is no room, and nothing has changed then. Anything else poisons the log.
    pub fn begin_segment(&mut self) -> Result<()> {
        self.sound()?;
        if self.at == DATA_START && self.current.first == self.next {
            return Ok(());
        }
        let begun = self.spares.ensure(1);
        self.poisoning(begun)?;
        self.rotate_or_poison()
    }

    fn rotate_or_poison(&mut self) -> Result<()> {
        let rotated = self.rotate();
        self.poisoning(rotated)
    }

    /// Poisons the log when this failed, but for want of room, which has changed nothing.
    fn poisoning(&mut self, outcome: Result<()>) -> Result<()> {
        outcome.inspect_err(|error| {
            if !matches!(error, StorageError::Full) {
                self.poison = Some(error.to_string());
            }
        })
    }

    /// Gives the next spare a segment's name, durably.
    ///
    /// # Errors
    /// [`StorageError::Full`] when there was no room for the name, and nothing has changed then.
    fn rotate(&mut self) -> Result<()> {
        let Some(spare) = self.spares.take() else {
            return Err(StorageError::Unsupported("no segment was prepared".to_owned()));
        };
        let segment = Segment::new(&self.shared.dir, self.next, self.options.segment_bytes, spare.salt);
        let naming = |e| broken(format!("cannot begin {}", segment.path.display()), e);
        let disk = &self.shared.disk;
        // A damaged last segment without one sound record has the name already; a copy of it was set aside.
        let replaces = self.current.first == self.next;
        let named = match replaces {
            true => disk.rename_over(&spare.path, &segment.path),
            false => disk.rename_new(&spare.path, &segment.path),
        };
        if let Err(error) = named {
            let doing = format!("cannot begin {}", segment.path.display());
            self.spares.put_back(spare);
            return Err(StorageError::io(doing, error));
        }
        // Before the segment can get a record: a synced record in a file whose name a power cut
        // takes back would be lost, although it was acknowledged.
        disk.sync_dir(&self.shared.dir).map_err(naming)?;
        self.file = disk.open(&segment.path, true).map_err(naming)?;
        self.current = Arc::new(segment);
        self.at = DATA_START;
        let mut segments = self.shared.segments.write();
        if replaces {
            segments.pop();
        }
        segments.push(self.current.clone());
        Ok(())
    }

    /// Deletes the segments whose records all lie before `before`. Ok: they do not come back after
    /// a crash. The current segment always stays.
    ///
    /// # Errors
    /// [`StorageError::Full`] when the disk has no room for that; the rest is still there then, and may be given up later.
    /// Anything else poisons the log.
    pub fn retire(&mut self, before: Seq) -> Result<()> {
        self.sound()?;
        // One at a time and the oldest first, each made durable: a crash between leaves no hole.
        while let Some(segment) = self.shared.take_oldest(before) {
            // Nobody reads it: a file that is read must not be filled with zeros.
            let reuse = Arc::strong_count(&segment) == 1;
            let recycled = self.spares.recycle(&segment, reuse);
            if matches!(recycled, Err(StorageError::Full)) {
                // It has its name still.
                self.shared.segments.write().insert(0, segment);
            }
            self.poisoning(recycled)?;
        }
        Ok(())
    }

    /// Records from `from` on, at most `limit`.
    pub fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>> {
        self.reader().read(from, limit)
    }

    /// Reads from other threads while this one appends.
    #[must_use]
    pub fn reader(&self) -> LogReader {
        LogReader { shared: self.shared.clone() }
    }

    /// The sequence the next record gets.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.next
    }

    /// The sequence of the oldest record that is still kept (or would be, if there is none).
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.shared.first_seq()
    }

    /// The sequence with which the current segment begins: all before it lies in segments that are never written again.
    #[must_use]
    pub fn current_seq(&self) -> Seq {
        self.current.first
    }

    /// Bytes that the segments take on the disk.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.shared.segments.read().iter().map(|segment| segment.bytes).sum()
    }

    /// Why it takes nothing more, if it does not.
    #[must_use]
    pub fn poisoned(&self) -> Option<String> {
        self.poison.clone()
    }
}

/// For what leaves the log in no known state, on a full disk too.
pub(super) fn broken(doing: String, source: std::io::Error) -> StorageError {
    StorageError::Io { doing, source }
}
