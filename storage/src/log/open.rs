//! Opens a log, and decides what is a torn tail, what is damage, and what is lost.
//!
//! The rules, in the order in which they are applied:
//!
//! - Every header is read before anything is changed, so that a newer version's log is left alone.
//! - All segments are synced before a record of them is shown: what was written and not synced by a
//!   run that was killed could vanish later.
//! - Invalid bytes at the end of the last segment, with nothing valid after them, are a torn tail:
//!   they are overwritten with zeros, because no record of them was acknowledged.
//! - Other invalid bytes are damage: the segment is copied to `aside/`, and its sound records are
//!   shown.
//! - Missing sequences are lost, unless they belong to the very last append: then they are
//!   unsettled.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicU64},
};

use parking_lot::RwLock;

use super::{
    Log, LogOptions, Recovery, Seq, SharedDisk,
    read::Shared,
    record::{Piece, Scan, used},
    segment::{self, DATA_START, HEADER_BYTES, Header, MOST_BYTES, Salt, Segment, Spares},
};
use crate::{
    Result, StorageError,
    disk::{Disk, DiskFile, read_full},
};

pub(super) fn open(
    disk: SharedDisk,
    dir: &Path,
    options: LogOptions,
    from: Seq,
    visit: &mut dyn FnMut(Seq, &[u8]),
) -> Result<(Log, Recovery)> {
    make_dir(&*disk, dir)?;
    let names = disk.list(dir).map_err(|e| StorageError::io(format!("cannot list {}", dir.display()), e))?;
    let mut firsts: Vec<Seq> = names.iter().filter_map(|name| segment::first_of(name)).collect();
    firsts.sort_unstable();
    let mut files =
        firsts.iter().map(|first| Found::open(&*disk, dir, *first, options.is_salted)).collect::<Result<Vec<_>>>()?;
    // All are looked at before anything is changed.
    if let Some(newer) = files.iter().find(|file| matches!(file.header, Header::Newer(_))) {
        return Err(newer_version(&newer.path));
    }
    // Before the first record is shown: see the rules above.
    for file in &files {
        file.file.sync_all().map_err(|e| StorageError::io(format!("cannot sync {}", file.path.display()), e))?;
    }
    drop_spares(&*disk, dir, &names)?;
    // The whole log is known now, and nothing has been cut: the decision needs the last segment as
    // it is.
    let until = cut_off_from(&files, &options.elsewhere)?;
    drop_behind(&*disk, dir, &mut files, until)?;
    firsts.truncate(files.len());

    let mut walk =
        Walk { disk: &*disk, dir, from, until, visit, recovery: Recovery::default(), next: 0, at: DATA_START };
    let mut segments = Vec::new();
    for (at, found) in files.iter().enumerate() {
        segments.push(Arc::new(walk.segment(found, firsts.get(at + 1).copied())?));
    }
    let (mut recovery, next, at) = (walk.recovery, walk.next.max(options.first), walk.at);

    let mut spares = Spares::new(disk.clone(), dir.to_path_buf(), options.segment_bytes);
    let (current, file) = match (segments.last(), files.into_iter().next_back()) {
        (Some(last), Some(found)) => (last.clone(), found.file),
        _ => {
            let (first, file) = first_segment(&*disk, dir, &mut spares, &options)?;
            segments.push(first.clone());
            (first, file)
        }
    };
    spares.begin();
    recovery.first = segments.first().map_or(options.first, |segment| segment.first);
    recovery.next = next;
    let shared = Shared { disk, dir: dir.to_path_buf(), segments: RwLock::new(segments), next: AtomicU64::new(next) };
    let log =
        Log { shared: Arc::new(shared), options, next, at, current, file, spares, poison: None, buffer: Vec::new() };
    Ok((log, recovery))
}

/// Makes the directory if need be, and its name and its names durable before anything acts on them.
pub(crate) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    let making = |e| StorageError::io(format!("cannot make {}", dir.display()), e);
    match disk.create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => return Err(making(error)),
        _ => {}
    }
    if let Some(parent) = dir.parent() {
        disk.sync_dir(parent).map_err(making)?;
    }
    disk.sync_dir(dir).map_err(making)
}

/// Spares are made anew at every start: after a power cut one may share its file with a segment.
fn drop_spares(disk: &dyn Disk, dir: &Path, names: &[PathBuf]) -> Result<()> {
    for name in names.iter().filter(|name| segment::is_spare(name)) {
        let path = dir.join(name);
        disk.unlink(&path).map_err(|e| StorageError::io(format!("cannot remove {}", path.display()), e))?;
    }
    Ok(())
}

/// Returns the sequence from which on records are cut off, because the caller has them elsewhere.
/// `Seq::MAX` when none are: the log has later ones that nobody else has.
fn cut_off_from(files: &[Found], elsewhere: &Range<Seq>) -> Result<Seq> {
    let Some(last) = files.last().filter(|_| !elsewhere.is_empty()) else { return Ok(Seq::MAX) };
    let bytes = last.contents()?;
    let end = bytes.len().min(usize::try_from(last.end).unwrap_or(usize::MAX));
    let start = end.min(DATA_START as usize);
    let newest = Scan::new(last.salt, &bytes[..end], start, last.first).filter_map(|piece| match piece {
        Piece::Record(_, record) => Some(record.seq),
        _ => None,
    });
    let newest = newest.last().unwrap_or(last.first);
    Ok(if newest < elsewhere.end { elsewhere.start } else { Seq::MAX })
}

/// Removes the segments that are to be cut off whole, the newest first: a crash in between leaves no hole. One that begins
/// with the first of these records is emptied instead: a version before that reads no such segment must go on finding it.
fn drop_behind(disk: &dyn Disk, dir: &Path, files: &mut Vec<Found>, until: Seq) -> Result<()> {
    while let Some(last) = files.last().filter(|file| file.first > until) {
        let removing = |e| StorageError::io(format!("cannot remove {}", last.path.display()), e);
        disk.unlink(&last.path).map_err(removing)?;
        disk.sync_dir(dir).map_err(removing)?;
        files.pop();
    }
    Ok(())
}

/// Makes the first segment of a new log: named, and its name synced, before it can get a record.
fn first_segment(
    disk: &dyn Disk,
    dir: &Path,
    spares: &mut Spares,
    options: &LogOptions,
) -> Result<(Arc<Segment>, Arc<dyn DiskFile>)> {
    spares.ensure(1)?;
    let Some(spare) = spares.take() else {
        return Err(StorageError::Unsupported("no segment was prepared".to_owned()));
    };
    let segment = Segment::new(dir, options.first, options.segment_bytes, spare.salt);
    let naming = |e| StorageError::io(format!("cannot begin {}", segment.path.display()), e);
    disk.rename_new(&spare.path, &segment.path).map_err(naming)?;
    disk.sync_dir(dir).map_err(naming)?;
    let file = disk.open(&segment.path, true).map_err(naming)?;
    Ok((Arc::new(segment), file))
}

fn newer_version(path: &Path) -> StorageError {
    StorageError::Unsupported(format!("the log was written by a newer version of forebay ({})", path.display()))
}

/// A segment file as it was found.
struct Found {
    first: Seq,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    len: u64,
    header: Header,
    /// From the header, or from its copy at the end.
    salt: Salt,
    /// Where records end.
    end: u64,
}

impl Found {
    /// Opens the file of a segment and reads both its headers; its records are read later.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] for a file that is too long to be a segment of ours.
    fn open(disk: &dyn Disk, dir: &Path, first: Seq, is_salted: bool) -> Result<Self> {
        let path = segment::path(dir, first);
        let opening = |e| StorageError::io(format!("cannot open {}", path.display()), e);
        let file = disk.open(&path, true).map_err(opening)?;
        let len = file.len().map_err(opening)?;
        if len > MOST_BYTES {
            let what = format!("{} is no segment: it has {len} bytes", path.display());
            return Err(StorageError::Unsupported(what));
        }
        // The same at both ends of the file.
        let judge = |at| {
            let mut bytes = [0; HEADER_BYTES];
            let got = read_full(&*file, &mut bytes, at).map_err(opening)?;
            Ok::<_, StorageError>(segment::judge(&bytes[..got]))
        };
        let header = if len < DATA_START { Header::Damaged } else { judge(0)? };
        // Without the salt no record can be read, so each segment has its header twice.
        let copy = judge(len.saturating_sub(HEADER_BYTES as u64))?;
        let salt = match (header, copy) {
            (Header::Sound(salt), _) | (_, Header::Sound(salt)) => salt,
            // Nothing is left of it, or it is of version 1.
            _ if is_salted => Salt::random(),
            _ => Salt::Absent,
        };
        // Where the length has changed there is no copy, and no room was left for it.
        let end = if copy == Header::Sound(salt) { salt.end(len) } else { len };
        Ok(Self { first, path, file, len, header, salt, end })
    }

    fn contents(&self) -> Result<Vec<u8>> {
        let mut bytes = vec![0; usize::try_from(self.len).unwrap_or(0)];
        let got = read_full(&*self.file, &mut bytes, 0)
            .map_err(|e| StorageError::io(format!("cannot read {}", self.path.display()), e))?;
        bytes.truncate(got);
        Ok(bytes)
    }

    /// Writes zeros over a torn tail, so that no later record can be followed by what is left of it.
    fn cut(&self, tail: &Range<usize>) -> Result<()> {
        let cutting = |e| StorageError::io(format!("cannot cut {}", self.path.display()), e);
        self.file.write_at(&vec![0; tail.len()], tail.start as u64).map_err(cutting)?;
        self.file.sync_all().map_err(cutting)
    }
}

/// The walk over all segments, oldest first.
struct Walk<'a> {
    disk: &'a dyn Disk,
    dir: &'a Path,
    from: Seq,
    until: Seq,
    visit: &'a mut dyn FnMut(Seq, &[u8]),
    recovery: Recovery,
    /// The sequence that comes next; 0 before the first segment.
    next: Seq,
    /// Where the next record goes in the last segment.
    at: u64,
}

impl Walk<'_> {
    /// Reads one segment. `after` is the first sequence of the segment after it.
    fn segment(&mut self, found: &Found, after: Option<Seq>) -> Result<Segment> {
        let mut segment = Segment::new(self.dir, found.first, found.len, found.salt);
        segment.end = found.end;
        // A segment before this one is missing, or its end is.
        if self.next != 0 && self.next < found.first {
            self.recovery.lost.push(self.next..found.first);
        }
        self.next = self.next.max(found.first);
        // Wholly before what is asked for: not read again.
        if let Some(after) = after.filter(|after| *after <= self.from) {
            self.next = after;
            return Ok(segment);
        }
        let bytes = found.contents()?;
        let seen = self.records(found, &segment, &bytes)?;
        self.judge(found, &bytes, seen, after.is_none())?;
        Ok(segment)
    }

    /// Shows the sound records of a segment, and notes everything else.
    fn records(&mut self, found: &Found, segment: &Segment, bytes: &[u8]) -> Result<Seen> {
        let start = bytes.len().min(DATA_START as usize);
        let mut seen = Seen { end: start, ..Seen::default() };
        if found.header == Header::Damaged {
            seen.damage.push(0..start);
        }
        let mut next = found.first;
        let end = bytes.len().min(usize::try_from(segment.end).unwrap_or(usize::MAX));
        seen.limit = end.max(start);
        for piece in Scan::new(found.salt, &bytes[..seen.limit], start, next) {
            match piece {
                Piece::Record(at, record) if record.seq >= self.until => {
                    // Whatever was seen right before it may be its like, torn.
                    seen.cut_from = Some(at);
                    break;
                }
                Piece::Record(at, record) => {
                    if record.seq > next {
                        seen.gaps.push(next..record.seq);
                    }
                    // Not twice: a segment under a wrong name may hold what another one has.
                    if record.seq >= self.from && record.seq >= self.next {
                        (self.visit)(record.seq, record.payload);
                    }
                    segment.mark(record.seq, at as u64);
                    next = record.seq + 1;
                    (seen.batch, seen.end) = (record.batch, at + record.size());
                }
                Piece::Damage(range) => seen.damage.push(range),
                Piece::Tail(range) => seen.tail = Some(range),
                Piece::End(_) => {}
                // Found in the middle, after records were shown: the caller throws away what it
                // has.
                Piece::Newer(_) => return Err(newer_version(&found.path)),
            }
        }
        self.next = self.next.max(next);
        // A segment under a wrong name may end before one that came earlier: nothing can be appended to it.
        seen.ends_the_log = self.next == next;
        Ok(seen)
    }

    /// Decides what is a torn tail, what is damage and what is lost.
    fn judge(&mut self, found: &Found, bytes: &[u8], mut seen: Seen, last: bool) -> Result<()> {
        // A segment whose header is gone takes no further record.
        let usable = matches!(found.header, Header::Sound(_));
        if let Some(at) = seen.cut_from.filter(|_| last && usable) {
            // What lies between the last record that stays and those that are cut off is cut with them.
            let from = seen.damage.pop_if(|damage| damage.end == at).map_or(at, |damage| damage.start);
            found.cut(&(from..used(bytes.get(..seen.limit).unwrap_or(bytes)).max(from)))?;
        }
        match seen.tail.take() {
            Some(tail) if last && usable => {
                found.cut(&tail)?;
                self.recovery.torn_bytes += tail.len() as u64;
            }
            // Within the log nothing may be torn: the next segment was begun only after this one
            // was synced.
            Some(tail) => seen.damage.push(tail),
            None => {}
        }
        for gap in seen.gaps {
            let unsettled = last && gap.start >= seen.batch;
            if unsettled { self.recovery.unsettled.push(gap) } else { self.recovery.lost.push(gap) }
        }
        if !seen.damage.is_empty() {
            self.recovery.set_aside.push(set_aside(self.disk, self.dir, found, bytes, &seen.damage)?);
        }
        self.at = if usable && seen.ends_the_log { seen.end as u64 } else { found.len.max(DATA_START) };
        Ok(())
    }
}

/// What a walk over one segment saw.
#[derive(Default)]
struct Seen {
    damage: Vec<Range<usize>>,
    tail: Option<Range<usize>>,
    gaps: Vec<Range<Seq>>,
    /// The first sequence of the append that wrote the last record.
    batch: Seq,
    /// The end of the last record.
    end: usize,
    /// The end of what may hold records.
    limit: usize,
    /// Where records begin that are to be cut off.
    cut_from: Option<usize>,
    /// Whether the next record of the log follows here.
    ends_the_log: bool,
}

/// Copies a damaged segment to `aside/`, durably. The name follows from the damage, so a restart
/// makes no second copy of the same.
fn set_aside(disk: &dyn Disk, dir: &Path, found: &Found, bytes: &[u8], damage: &[Range<usize>]) -> Result<PathBuf> {
    let aside = dir.join("aside");
    let mark = damage.iter().fold(0, |crc, range| {
        let crc = crc32c::crc32c_append(crc, &(range.start as u64).to_le_bytes());
        crc32c::crc32c_append(crc, bytes.get(range.clone()).unwrap_or_default())
    });
    let path = aside.join(format!("{:020}.log.damaged-{mark:08x}", found.first));
    let copying = |e| StorageError::io(format!("cannot set a copy aside as {}", path.display()), e);
    make_dir(disk, &aside)?;
    match disk.open(&path, false) {
        Ok(_) => return Ok(path),
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(copying(error)),
        Err(_) => {}
    }
    let unfinished = path.with_extension("unfinished");
    disk.unlink_if_there(&unfinished).map_err(copying)?;
    let copy = disk.create_new(&unfinished).map_err(copying)?;
    copy.write_at(bytes, 0).map_err(copying)?;
    // Under a name of its own until it is whole: a copy that a crash cut must not pass for one.
    copy.sync_all().map_err(copying)?;
    disk.rename_new(&unfinished, &path).map_err(copying)?;
    disk.sync_dir(&aside).map_err(copying)?;
    tracing::error!(path = %path.display(), "a segment of a log is damaged; a copy of it was set aside");
    Ok(path)
}
