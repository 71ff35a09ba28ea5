//! Reading the log, beside its writer.

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
    segment::{Segment, read_full},
};
use crate::{Result, StorageError, disk::DiskFile};

const WINDOW: usize = 256 << 10;

/// A handle that reads records while the log is written. Cheap to clone; shows durable records only. Sequences are
/// missing where damage took them. Records of segments that are retired meanwhile may be missing too.
#[derive(Clone, Debug)]
pub struct LogReader {
    pub(super) shared: Arc<Shared>,
}

impl LogReader {
    /// Records from `from` on, at most `limit`.
    pub fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>> {
        self.shared.read(from, limit)
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

    pub(super) fn read(&self, from: Seq, limit: usize) -> Result<Vec<(Seq, Vec<u8>)>> {
        let end = self.next.load(Ordering::Acquire);
        let segments: Vec<_> = {
            let all = self.segments.read();
            let start = all.partition_point(|segment| segment.first <= from).saturating_sub(1);
            all[start..].to_vec()
        };
        let mut records = Vec::new();
        for (at, segment) in segments.iter().enumerate() {
            let until = segments.get(at + 1).map_or(end, |next| next.first.min(end));
            if records.len() >= limit || segment.first >= end {
                break;
            }
            self.read_segment(segment, from, until, limit, &mut records)?;
        }
        Ok(records)
    }

    fn read_segment(
        &self,
        segment: &Segment,
        from: Seq,
        until: Seq,
        limit: usize,
        records: &mut Vec<(Seq, Vec<u8>)>,
    ) -> Result<()> {
        let reading = |e| StorageError::io(format!("cannot read {}", segment.path.display()), e);
        let file = match self.disk.open(&segment.path, false) {
            Ok(file) => file,
            // Retired since the list was taken.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(reading(error)),
        };
        let (mut next, mut at) = segment.near(from);
        let mut window = Window::default();
        while next < until && records.len() < limit {
            let Some((record, size)) = window.record(&*file, at, next).map_err(reading)? else {
                return past_damage(&*file, segment, (at, next), (from, until, limit), records).map_err(reading);
            };
            segment.mark(next, at);
            if next >= from {
                records.push((next, record));
            }
            (at, next) = (at + size as u64, next + 1);
        }
        Ok(())
    }
}

/// A piece of a segment in memory.
#[derive(Default)]
struct Window {
    bytes: Vec<u8>,
    start: u64,
}

impl Window {
    /// The record `seq` at `at`, and the bytes it takes there; none when the bytes are not that record.
    fn record(&mut self, file: &dyn DiskFile, at: u64, seq: Seq) -> io::Result<Option<(Vec<u8>, usize)>> {
        for size in [0, WINDOW, usize::MAX] {
            let inside = usize::try_from(at.saturating_sub(self.start)).unwrap_or(usize::MAX);
            let bytes = self.bytes.get(inside..).unwrap_or_default();
            if let Parsed::Record(record) = record::parse(bytes)
                && record.seq == seq
            {
                return Ok(Some((record.payload.to_vec(), record.size())));
            }
            // Only a record that goes past the window is worth a second read.
            let claimed = record::claimed_size(bytes).unwrap_or(usize::MAX);
            match size {
                0 if claimed <= bytes.len() => return Ok(None),
                0 => self.load(file, at, WINDOW)?,
                WINDOW if claimed > bytes.len() && claimed < 1 << 28 => self.load(file, at, claimed)?,
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

/// The slow way over the rest of a segment, record by record where they can still be found.
fn past_damage(
    file: &dyn DiskFile,
    segment: &Segment,
    (at, next): (u64, Seq),
    (from, until, limit): (Seq, Seq, usize),
    records: &mut Vec<(Seq, Vec<u8>)>,
) -> io::Result<()> {
    let mut rest = vec![0; usize::try_from(segment.bytes.saturating_sub(at)).unwrap_or(0)];
    let got = read_full(file, &mut rest, at)?;
    for piece in Scan::new(&rest[..got], 0, next) {
        match piece {
            Piece::Record(_, record) if record.seq >= until || records.len() >= limit => break,
            Piece::Record(_, record) if record.seq >= from => records.push((record.seq, record.payload.to_vec())),
            _ => {}
        }
    }
    Ok(())
}
