//! A segment: a file of fixed length that begins with a header and is zeros where no record has come yet.
//!
//! Segments are named by the sequence of their first record. The header (4 KiB, of which 24 bytes are used) holds
//! magic, format version, salt and a CRC-32C; it is durable before the file has a segment's name. The last 24 bytes of the
//! file are the same header once more, for without the salt no record can be read. Version 1 had neither salt nor copy.

use std::{
    io,
    path::{Path, PathBuf},
    thread::JoinHandle,
};

use parking_lot::Mutex;

use super::{Seq, SharedDisk, append::broken};
use crate::{Result, StorageError, disk::DiskFile, error::is_full};

/// Where records begin.
pub(crate) const DATA_START: u64 = 4096;
/// More than this is no segment of ours.
pub(crate) const MOST_BYTES: u64 = 1 << 30;
const MAGIC: &[u8; 8] = b"FBAYLOG\0";
const VERSION: u32 = 2;
/// Without salt and without the second header.
const UNSALTED: u32 = 1;
/// Bytes of a header that are used.
pub(crate) const HEADER_BYTES: usize = 24;
/// The distance of the offsets that are remembered, in bytes: a reader reads at most about this
/// much before the record that it wants.
const MARK_EVERY: u64 = 32 << 10;

/// Random bytes that go into each checksum of a segment, so that nobody who does not read the disk can make a record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Salt {
    /// A segment of version 1.
    Absent,
    /// A segment of this version.
    Of([u8; 8]),
}

impl Salt {
    pub(crate) fn random() -> Self {
        // From the system's random numbers, as uuids are.
        let random = uuid::Uuid::new_v4().into_bytes();
        // Not those of version and variant, which are fixed.
        let [a, b, c, d, e, f, ..] = random;
        Self::Of([a, b, c, d, e, f, random[14], random[15]])
    }

    /// CRC-32C over the salt and these bytes.
    pub(crate) fn checksum(self, bytes: &[u8]) -> u32 {
        match self {
            Self::Absent => crc32c::crc32c(bytes),
            Self::Of(salt) => crc32c::crc32c_append(crc32c::crc32c(&salt), bytes),
        }
    }

    /// Where records end in a segment of this length.
    pub(crate) fn end(self, bytes: u64) -> u64 {
        match self {
            Self::Absent => bytes,
            Self::Of(_) => bytes.saturating_sub(HEADER_BYTES as u64),
        }
    }
}

/// A segment that has a name.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) first: Seq,
    pub(crate) path: PathBuf,
    /// Length of the file.
    pub(crate) bytes: u64,
    pub(crate) salt: Salt,
    /// Where records end.
    pub(crate) end: u64,
    /// Offsets of some records, ascending, so that a reader need not begin at the beginning.
    marks: Mutex<Vec<(Seq, u64)>>,
}

impl Segment {
    pub(crate) fn new(dir: &Path, first: Seq, bytes: u64, salt: Salt) -> Self {
        let marks = Mutex::new(vec![(first, DATA_START)]);
        Self { first, path: path(dir, first), bytes, salt, end: salt.end(bytes), marks }
    }

    /// Notes where a record lies; most are not worth remembering.
    pub(crate) fn mark(&self, seq: Seq, at: u64) {
        let mut marks = self.marks.lock();
        if marks.last().is_none_or(|(_, last)| at >= last + MARK_EVERY) {
            marks.push((seq, at));
        }
    }

    /// Forgets where records from `seq` on lay: they were taken back.
    pub(crate) fn forget_from(&self, seq: Seq) {
        // The first mark says where records begin, whether there are any or not.
        self.marks.lock().retain(|(marked, at)| *marked < seq || *at == DATA_START);
    }

    /// A record at or before `seq` and where it lies.
    pub(crate) fn near(&self, seq: Seq) -> (Seq, u64) {
        let marks = self.marks.lock();
        // Marks ascend: the last one that is not behind `seq`.
        let after = marks.partition_point(|(marked, _)| *marked <= seq);
        marks.get(after.saturating_sub(1)).copied().unwrap_or((self.first, DATA_START))
    }
}

/// The path of the segment that begins with `first`.
pub(crate) fn path(dir: &Path, first: Seq) -> PathBuf {
    dir.join(format!("{first:020}.log"))
}

/// The first sequence of the segment with this file name, if it is one's.
pub(crate) fn first_of(name: &Path) -> Option<Seq> {
    let digits = name.to_str()?.strip_suffix(".log")?;
    let first = digits.parse().ok()?;
    // Exactly as we write it: a copy under another name is none of the log's.
    (digits.len() == 20 && digits.bytes().all(|b| b.is_ascii_digit()) && first > 0).then_some(first)
}

/// Whether this is the file name of a spare, finished or not.
pub(crate) fn is_spare(name: &Path) -> bool {
    name.to_str().is_some_and(|name| name.starts_with("spare-"))
}

/// What a header says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Header {
    Sound(Salt),
    Newer(u32),
    Damaged,
}

/// The 24 bytes at the start and the end of every segment.
pub(crate) fn header(salt: Salt) -> [u8; HEADER_BYTES] {
    match salt {
        Salt::Absent => header_of(UNSALTED, [0; 8]),
        Salt::Of(salt) => header_of(VERSION, salt),
    }
}

pub(crate) fn header_of(version: u32, salt: [u8; 8]) -> [u8; HEADER_BYTES] {
    let mut header = [0; HEADER_BYTES];
    header[..8].copy_from_slice(MAGIC);
    header[8..12].copy_from_slice(&version.to_le_bytes());
    header[12..20].copy_from_slice(&salt);
    let crc = crc32c::crc32c(&header[..20]);
    header[20..].copy_from_slice(&crc.to_le_bytes());
    header
}

/// Judges the beginning of a segment.
pub(crate) fn judge(bytes: &[u8]) -> Header {
    let Some(header) = bytes.first_chunk::<HEADER_BYTES>() else { return Header::Damaged };
    let &[m0, m1, m2, m3, m4, m5, m6, m7, v0, v1, v2, v3, salt @ .., c0, c1, c2, c3] = header;
    let version = u32::from_le_bytes([v0, v1, v2, v3]);
    let crc = crc32c::crc32c(&header[..20]).to_le_bytes();
    match [m0, m1, m2, m3, m4, m5, m6, m7] == *MAGIC && [c0, c1, c2, c3] == crc {
        true if version == VERSION => Header::Sound(Salt::Of(salt)),
        true if version == UNSALTED => Header::Sound(Salt::Absent),
        true => Header::Newer(version),
        false => Header::Damaged,
    }
}

/// Segments that are made ahead: header and zeros written and synced, so that they need a name and nothing else.
#[derive(Debug)]
pub(crate) struct Spares {
    disk: SharedDisk,
    dir: PathBuf,
    bytes: u64,
    ready: Vec<Spare>,
    made: u64,
    work: Option<JoinHandle<Result<Spare>>>,
}

/// A segment without a name.
#[derive(Debug)]
pub(crate) struct Spare {
    pub(crate) path: PathBuf,
    pub(crate) salt: Salt,
}

impl Spares {
    pub(crate) fn new(disk: SharedDisk, dir: PathBuf, bytes: u64) -> Self {
        Self { disk, dir, bytes, ready: Vec::new(), made: 0, work: None }
    }

    fn next_path(&mut self) -> PathBuf {
        self.made += 1;
        self.dir.join(format!("spare-{}", self.made))
    }

    /// Begins to make the next one in the background, if there is none.
    pub(crate) fn begin(&mut self) {
        if !self.ready.is_empty() || self.work.is_some() {
            return;
        }
        let path = self.next_path();
        self.spawn(move |disk, bytes| make(disk, path, bytes));
    }

    fn spawn(&mut self, work: impl FnOnce(&SharedDisk, u64) -> Result<Spare> + Send + 'static) {
        let (disk, bytes) = (self.disk.clone(), self.bytes);
        let thread = std::thread::Builder::new().name("log-spare".to_owned());
        // Without a thread the spare is made at the rotation, which is slower and nothing worse.
        self.work = thread.spawn(move || work(&disk, bytes)).ok();
    }

    /// Waits until `count` are there.
    pub(crate) fn ensure(&mut self, count: usize) -> Result<()> {
        // The one in the making first: two at once would take the room of two.
        if self.ready.len() < count {
            self.collect()?;
        }
        while self.ready.len() < count {
            let path = self.next_path();
            self.ready.push(make(&self.disk, path, self.bytes)?);
        }
        Ok(())
    }

    /// Takes what was made in the background. That there was no room for it then says nothing of now.
    fn collect(&mut self) -> Result<()> {
        match self.work.take().map(JoinHandle::join) {
            Some(Ok(Err(StorageError::Full))) => {}
            Some(Ok(made)) => self.ready.push(made?),
            Some(Err(_)) => tracing::error!("the thread that prepares segments panicked"),
            None => {}
        }
        Ok(())
    }

    /// Whether one is being made in the background.
    #[cfg(test)]
    pub(crate) fn is_making(&self) -> bool {
        self.work.as_ref().is_some_and(|work| !work.is_finished())
    }

    /// One that [`Spares::ensure`] made sure of.
    pub(crate) fn take(&mut self) -> Option<Spare> {
        self.ready.pop()
    }

    /// One that was taken and is as it was.
    pub(crate) fn put_back(&mut self, spare: Spare) {
        self.ready.push(spare);
    }

    /// Gives up all that were made ahead, for their room. Returns whether there were any.
    ///
    /// # Errors
    /// When one cannot be removed.
    pub(crate) fn give_up(&mut self) -> Result<bool> {
        self.collect()?;
        let any = !self.ready.is_empty();
        while let Some(spare) = self.ready.pop() {
            self.disk.unlink(&spare.path).map_err(retiring_spare(&spare.path))?;
        }
        Ok(any)
    }

    /// Removes a segment's name, durably, and uses the file again when a spare is wanted. With
    /// `reuse` the caller says that nobody reads it.
    ///
    /// # Errors
    /// [`StorageError::Full`] when the disk has no room for that, and nothing has changed then.
    pub(crate) fn recycle(&mut self, segment: &Segment, reuse: bool) -> Result<()> {
        let doing = || format!("cannot retire {}", segment.path.display());
        let retiring = |e| broken(doing(), e);
        if reuse && segment.bytes == self.bytes && self.ready.is_empty() && self.work.is_none() {
            let path = self.next_path();
            match self.disk.rename_new(&segment.path, &path) {
                Ok(()) => {
                    // Before the zeros: a crash must not bring an emptied segment back under its old name.
                    self.disk.sync_dir(&self.dir).map_err(retiring)?;
                    self.spawn(move |disk, bytes| {
                        let file = disk.open(&path, true).map_err(retiring_spare(&path))?;
                        fill_or_unlink(disk, &*file, path, bytes)
                    });
                    return Ok(());
                }
                // Another name may cost room, where none costs none.
                Err(error) if is_full(&error) => {}
                Err(error) => return Err(retiring(error)),
            }
        }
        // One is there already, or somebody reads this one, or there is no room for its new name.
        self.disk.unlink(&segment.path).map_err(|e| StorageError::io(doing(), e))?;
        self.disk.sync_dir(&self.dir).map_err(retiring)
    }
}

impl Drop for Spares {
    fn drop(&mut self) {
        // So that nothing touches the directory any more once the log is gone.
        if let Some(Err(_)) = self.work.take().map(JoinHandle::join) {
            tracing::error!("the thread that prepares segments panicked");
        }
    }
}

fn retiring_spare(path: &Path) -> impl Fn(io::Error) -> StorageError {
    let doing = format!("cannot prepare {}", path.display());
    move |e| StorageError::io(doing.clone(), e)
}

fn make(disk: &SharedDisk, path: PathBuf, bytes: u64) -> Result<Spare> {
    let file = disk.create_new(&path).map_err(retiring_spare(&path))?;
    fill_or_unlink(disk, &*file, path, bytes)
}

/// Fills a spare, and removes it when that fails.
fn fill_or_unlink(disk: &SharedDisk, file: &dyn DiskFile, path: PathBuf, bytes: u64) -> Result<Spare> {
    match fill(file, bytes) {
        Ok(salt) => Ok(Spare { path, salt }),
        Err(error) => {
            // Half a spare would take the room that the disk has too little of.
            let _ = disk.unlink(&path);
            Err(retiring_spare(&path)(error))
        }
    }
}

/// Real zeros, not a hole: a later fdatasync then has no new blocks to write down. Gives the salt that it has from now on.
fn fill(file: &dyn DiskFile, bytes: u64) -> io::Result<Salt> {
    let zeros = vec![0; 1 << 20];
    let mut at = 0;
    while at < bytes {
        let piece = usize::try_from(bytes - at).unwrap_or(usize::MAX).min(zeros.len());
        file.write_at(&zeros[..piece], at)?;
        at += piece as u64;
    }
    let salt = Salt::random();
    // Both headers before the sync: a spare gets a segment's name only when all of it is durable.
    file.write_at(&header(salt), salt.end(bytes))?;
    file.write_at(&header(salt), 0)?;
    file.sync_all().map(|()| salt)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_are_judged() {
        let salt = Salt::random();
        assert_eq!(judge(&header(salt)), Header::Sound(salt));
        assert_eq!(judge(&header_of(9, [0; 8])), Header::Newer(9));
        assert_eq!(judge(&[0; 24]), Header::Damaged);
        assert_eq!(judge(b"short"), Header::Damaged);
    }

    #[test]
    fn the_header_of_version_1_stays() {
        let crc = [1, 41, 110, 35];
        assert_eq!(header(Salt::Absent), *[b"FBAYLOG\0\x01\0\0\0\0\0\0\0\0\0\0\0".as_slice(), &crc].concat());
    }

    #[test]
    fn the_header_of_version_2_stays() {
        let mut fixture = *b"FBAYLOG\0\x02\0\0\0saltsalt\0\0\0\0";
        let crc = crc32c::crc32c(&fixture[..20]);
        fixture[20..].copy_from_slice(&crc.to_le_bytes());
        assert_eq!(header(Salt::Of(*b"saltsalt")), fixture);
    }

    #[test]
    fn names_are_sequences() {
        assert_eq!(first_of(Path::new("00000000000000000042.log")), Some(42));
        for other in ["42.log", "00000000000000000000.log", "+0000000000000000042.log", "spare-1"] {
            assert_eq!(first_of(Path::new(other)), None, "{other}");
        }
    }
}
