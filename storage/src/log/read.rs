//! Reading the log, beside its writer.
//!
//! Records are shown up to `Shared::next`, which the writer raises after the sync. A segment that
//! is retired while it is read yields nothing more: the caller sees missing sequences, as after
//! damage.

use std::{
    io,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::RwLock;

use super::{
    Seq, SharedDisk,
    record::{self, Parsed, Piece, Scan},
    segment::{Salt, Segment},
};
use crate::{
    Result, StorageError,
    disk::{DiskFile, read_full},
};

/// What is read of a segment at a time, when many records are wanted and when one is.
const WINDOW: usize = 256 << 10;
const SMALL_WINDOW: usize = 64 << 10;

/// A handle that reads records while the log is written. Cheap to clone; shows durable records only. Sequences are
/// missing where damage took them. Records of segments that are retired meanwhile may be missing too.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// Records from `from` on, at most `limit`.
    pub fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>> {
        self.shared.read(from, Most { records: limit, bytes: usize::MAX })
    }

    /// Records from `from` on, until they are `bytes` long together: at least one if there is one.
    pub fn read_bytes(&self, from: Seq, bytes: usize) -> Result<Vec<(Seq, Vec<u8>)>> {
        self.shared.read(from, Most { records: usize::MAX, bytes })
    }

    /// The sequence after the last durable record.
    #[must_use]
    pub fn next_seq(&self) -> Seq {
        self.shared.next.load(Ordering::Acquire)
    }

    /// The sequence of the oldest record that is still kept.
    #[must_use]
    pub fn first_seq(&self) -> Seq {
        self.shared.first_seq()
    }
}

/// How much is wanted at once.
#[derive(Clone, Copy, Debug)]
pub(super) struct Most {
    pub(super) records: usize,
    pub(super) bytes: usize,
}

/// Records that are gathered.
struct Gathered {
    records: Vec<(Seq, Vec<u8>)>,
    bytes: usize,
    most: Most,
}

impl Gathered {
    fn is_enough(&self) -> bool {
        self.records.len() >= self.most.records || self.bytes >= self.most.bytes
    }

    fn push(&mut self, seq: Seq, record: Vec<u8>) {
        self.bytes += record.len();
        self.records.push((seq, record));
    }
}

/// What writer and readers have in common.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) disk: SharedDisk,
    pub(super) dir: PathBuf,
    /// In order, never empty once the log is open.
    pub(super) segments: RwLock<Vec<Arc<Segment>>>,
    /// The sequence after the last durable record.
    pub(super) next: AtomicU64,
}

impl Shared {
    pub(super) fn first_seq(&self) -> Seq {
        self.segments.read().first().map_or(1, |segment| segment.first)
    }

    /// Takes the oldest segment from the list if all its records lie before `before` and it is not the current one.
    pub(super) fn take_oldest(&self, before: Seq) -> Option<Arc<Segment>> {
        let mut segments = self.segments.write();
        let second = segments.get(1)?;
        (second.first <= before).then(|| segments.remove(0))
    }

    pub(super) fn read(&self, from: Seq, most: Most) -> Result<Vec<(Seq, Vec<u8>)>> {
        // Before the list of segments: each record below it is in a segment that the list has.
        let end = self.next.load(Ordering::Acquire);
        let segments: Vec<_> = {
            let all = self.segments.read();
            // One before: its records may reach up to `from`.
            let start = all.partition_point(|segment| segment.first <= from).saturating_sub(1);
            all[start..].to_vec()
        };
        let mut gathered = Gathered { records: Vec::new(), bytes: 0, most };
        for (at, segment) in segments.iter().enumerate() {
            // A segment may have more than it shows: what is being appended right now.
            let until = segments.get(at + 1).map_or(end, |next| next.first.min(end));
            if gathered.is_enough() || segment.first >= end {
                break;
            }
            self.read_segment(segment, from, until, &mut gathered)?;
        }
        Ok(gathered.records)
    }

    fn read_segment(&self, segment: &Segment, from: Seq, until: Seq, gathered: &mut Gathered) -> Result<()> {
        let reading = |e| StorageError::io(format!("cannot read {}", segment.path.display()), e);
        let file = match self.disk.open(&segment.path, false) {
            Ok(file) => file,
            // Retired since the list was taken.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(reading(error)),
        };
        let (mut next, mut at) = segment.near(from);
        let mut window = Window::of(if gathered.most.records == 1 { SMALL_WINDOW } else { WINDOW });
        while next < until && !gathered.is_enough() {
            // What should be there and is not: damage, or the segment was used again.
            let Some((record, size)) = window.record(&*file, segment.salt, at, next).map_err(reading)? else {
                return past_damage(&*file, segment, (at, next), (from, until), gathered).map_err(reading);
            };
            segment.mark(next, at);
            if next >= from {
                gathered.push(next, record);
            }
            (at, next) = (at + size as u64, next + 1);
        }
        Ok(())
    }
}

/// A piece of a segment in memory.
struct Window {
    bytes: Vec<u8>,
    start: u64,
    size: usize,
}

impl Window {
    fn of(size: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, size }
    }

    /// Returns the record `seq` at `at` and the bytes that it takes there, and `None` when the
    /// bytes are not that record.
    fn record(&mut self, file: &dyn DiskFile, salt: Salt, at: u64, seq: Seq) -> io::Result<Option<(Vec<u8>, usize)>> {
        for attempt in 0..3 {
            let inside = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
            let bytes = self.bytes.get(inside..).unwrap_or_default();
            if let Parsed::Record(record) = record::parse(salt, bytes)
                && record.seq == seq
            {
                return Ok(Some((record.payload.to_vec(), record.size())));
            }
            // Only a record that goes past the window is worth a second read.
            let claimed = record::claimed_size(bytes).unwrap_or(usize::MAX);
            match attempt {
                0 if claimed <= bytes.len() => return Ok(None),
                0 => self.load(file, at, self.size)?,
                // A length that is damaged may say anything: no more than 256 MiB are read for it.
                1 if claimed > bytes.len() && claimed < 1 << 28 => self.load(file, at, claimed)?,
                _ => return Ok(None),
            }
        }
        Ok(None)
    }

    fn load(&mut self, file: &dyn DiskFile, at: u64, size: usize) -> io::Result<()> {
        let left = usize::try_from(file.len()?.saturating_sub(at)).unwrap_or(usize::MAX);
        self.bytes.resize(size.min(left), 0);
        let got = read_full(file, &mut self.bytes, at)?;
        self.bytes.truncate(got);
        self.start = at;
        Ok(())
    }
}

/// Reads the rest of a segment the slow way, record by record where they can still be found.
fn past_damage(
    file: &dyn DiskFile,
    segment: &Segment,
    (at, next): (u64, Seq),
    (from, until): (Seq, Seq),
    gathered: &mut Gathered,
) -> io::Result<()> {
    let mut rest = vec![0; usize::try_from(segment.end.saturating_sub(at)).unwrap_or(0)];
    let got = read_full(file, &mut rest, at)?;
    for piece in Scan::new(segment.salt, &rest[..got], 0, next) {
        match piece {
            Piece::Record(_, record) if record.seq >= until || gathered.is_enough() => break,
            Piece::Record(_, record) if record.seq >= from => gathered.push(record.seq, record.payload.to_vec()),
            _ => {}
        }
    }
    Ok(())
}
