//! A pack: the contents of some thousand small files, each with the record that brought it.
//!
//! It begins like a segment of the log, and its records are the frames of the short log, salted anew, with gaps between
//! their sequences. At its end stands where each of them lies, so that one read finds it, and then the header once more.
//! When that index is damaged the records are looked for one by one.
//!
//! Packs are named `<first>-<next>.<edition>.pack`: they hold what is left of the contents that came with the records from
//! `first` on and before `next`. The latest edition counts.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use super::frame;
use crate::{
    FileId, Result, StorageError,
    disk::{Disk, DiskFile, read_full},
    log::{
        Seq,
        record::{self, Parsed},
        segment::{self, DATA_START, HEADER_BYTES, Header, Salt},
    },
};

/// Sequence, offset and length of a frame, and the id of its file, as the index at the end has them.
const SLOT_BYTES: usize = 40;
/// Number of slots, their checksum, and the second header.
const END_BYTES: usize = 8 + HEADER_BYTES;
const ALIGN: usize = 8;
/// More than this is no pack of ours.
const MOST_BYTES: u64 = 1 << 30;
/// What a search reads at once, so that a sector that is gone takes little along.
const SECTOR_BYTES: usize = 4096;
/// Written at a time.
const PIECE_BYTES: usize = 1 << 20;

/// Which pack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Name {
    /// Of the records that may have a content in it.
    pub(super) seqs: Range<Seq>,
    pub(super) edition: u32,
}

impl Name {
    pub(super) fn parse(name: &Path) -> Option<Self> {
        let (range, edition) = name.to_str()?.strip_suffix(".pack")?.split_once('.')?;
        let (first, next) = range.split_once('-')?;
        let name = Self { seqs: first.parse().ok()?..next.parse().ok()?, edition: edition.parse().ok()? };
        (!name.seqs.is_empty() && Path::new(&name.text()) == Path::new(&format!("{range}.{edition}.pack")))
            .then_some(name)
    }

    pub(super) fn text(&self) -> String {
        format!("{:020}-{:020}.{}.pack", self.seqs.start, self.seqs.end, self.edition)
    }
}

/// Where a frame lies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot {
    pub(super) seq: Seq,
    pub(super) at: u64,
    pub(super) bytes: u64,
    pub(super) id: FileId,
}

/// A pack that has a name, and where its contents lie.
#[derive(Debug)]
pub(super) struct Pack {
    pub(super) name: Name,
    pub(super) path: PathBuf,
    salt: Salt,
    /// Ascending.
    pub(super) slots: Vec<Slot>,
    /// Its index cannot be read: it may hold more than the slots say.
    pub(super) is_damaged: bool,
}

impl Pack {
    /// Reads where its contents lie.
    pub(super) fn open(disk: &dyn Disk, dir: &Path, name: Name) -> io::Result<Self> {
        let path = dir.join(name.text());
        let file = disk.open(&path, false)?;
        let length = file.len()?.min(MOST_BYTES);
        let Some(salt) = salt(&*file, length)? else {
            tracing::error!(path = %path.display(), "both headers of a pack are damaged: its contents cannot be read");
            return Ok(Self { name, path, salt: Salt::random(), slots: Vec::new(), is_damaged: true });
        };
        let (slots, is_damaged) = match index(&*file, length, salt)? {
            Some(slots) => (slots, false),
            None => {
                tracing::error!(path = %path.display(), "the index of a pack is damaged: its contents are looked for");
                (search(&*file, length, salt, &name.seqs)?, true)
            }
        };
        Ok(Self { name, path, salt, slots, is_damaged })
    }

    pub(super) fn slot(&self, seq: Seq) -> Option<Slot> {
        let at = self.slots.binary_search_by_key(&seq, |slot| slot.seq).ok()?;
        self.slots.get(at).copied()
    }

    /// Returns a frame, if the bytes there are it. `None` is damage, of this frame alone.
    pub(super) fn frame(&self, file: &dyn DiskFile, slot: Slot) -> io::Result<Option<Vec<u8>>> {
        let mut bytes = vec![0; record::size(usize::try_from(slot.bytes).unwrap_or(0))];
        let Some(got) = readable(read_full(file, &mut bytes, slot.at))? else { return Ok(None) };
        Ok(match record::parse(self.salt, &bytes[..got]) {
            Parsed::Record(record) if record.seq == slot.seq => Some(record.payload.to_vec()),
            _ => None,
        })
    }
}

/// What was read; none where the disk has lost it, which is damage as other bytes would be.
fn readable<T>(read: io::Result<T>) -> io::Result<Option<T>> {
    match read {
        Err(error) if crate::error::is_lost(&error) => Ok(None),
        read => read.map(Some),
    }
}

/// The salt, from either header.
fn salt(file: &dyn DiskFile, length: u64) -> io::Result<Option<Salt>> {
    for at in [0, length.saturating_sub(HEADER_BYTES as u64)] {
        let mut header = [0; HEADER_BYTES];
        let got = readable(read_full(file, &mut header, at))?.unwrap_or(0);
        if let Header::Sound(salt) = segment::judge(&header[..got]) {
            return Ok(Some(salt));
        }
    }
    Ok(None)
}

/// The slots that stand at the end; none when they are damaged.
fn index(file: &dyn DiskFile, length: u64, salt: Salt) -> io::Result<Option<Vec<Slot>>> {
    let Some(end) = length.checked_sub(END_BYTES as u64).filter(|end| *end >= DATA_START) else { return Ok(None) };
    let mut tail = [0; 8];
    if readable(read_full(file, &mut tail, end))? != Some(tail.len()) {
        return Ok(None);
    }
    let [c0, c1, c2, c3, s0, s1, s2, s3] = tail;
    let count = u64::from(u32::from_le_bytes([c0, c1, c2, c3]));
    let Some(start) = end.checked_sub(count * SLOT_BYTES as u64).filter(|start| *start >= DATA_START) else {
        return Ok(None);
    };
    let mut bytes = vec![0; usize::try_from(end - start).unwrap_or(0)];
    let is_whole = readable(read_full(file, &mut bytes, start))? == Some(bytes.len());
    if !is_whole || salt.checksum(&bytes) != u32::from_le_bytes([s0, s1, s2, s3]) {
        return Ok(None);
    }
    let slots = bytes.as_chunks::<SLOT_BYTES>().0.iter().map(|slot| {
        let number = |at: usize| slot[at..].first_chunk::<8>().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        let id = FileId::from_bytes(slot[24..].first_chunk().copied().unwrap_or_default());
        Slot { seq: number(0), at: number(8), bytes: number(16), id }
    });
    let slots: Vec<Slot> = slots.collect();
    let lies_within = |slot: &Slot| slot.at >= DATA_START && slot.bytes <= start.saturating_sub(slot.at);
    let is_sound = slots.iter().all(lies_within) && slots.is_sorted_by(|one, next| one.seq < next.seq);
    Ok(is_sound.then_some(slots))
}

/// The slots of all sound frames, wherever they are.
fn search(file: &dyn DiskFile, length: u64, salt: Salt, seqs: &Range<Seq>) -> io::Result<Vec<Slot>> {
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    for (number, piece) in bytes.chunks_mut(SECTOR_BYTES).enumerate() {
        // What cannot be read is no frame.
        readable(read_full(file, piece, (number * SECTOR_BYTES) as u64))?;
    }
    let (mut slots, mut at, mut next) = (Vec::new(), DATA_START as usize, seqs.start);
    while at < bytes.len() {
        let may_be = record::claim(&bytes[at..]).is_some_and(|(seq, _)| (next..seqs.end).contains(&seq));
        let found = if may_be { record::parse(salt, &bytes[at..]) } else { Parsed::Nothing };
        match found {
            Parsed::Record(record) => {
                if let Some(id) = frame::parts(record.payload).and_then(|parts| parts.brings) {
                    slots.push(Slot { seq: record.seq, at: at as u64, bytes: record.payload.len() as u64, id });
                }
                next = record.seq + 1;
                at += record.size();
            }
            _ => at += ALIGN,
        }
    }
    Ok(slots)
}

/// A pack that is being written, under a name that no start believes.
pub(super) struct Writer {
    disk: Arc<dyn Disk>,
    path: PathBuf,
    file: Arc<dyn DiskFile>,
    salt: Salt,
    slots: Vec<Slot>,
    buffer: Vec<u8>,
    /// Where the buffer goes.
    at: u64,
    named: bool,
}

impl Writer {
    pub(super) fn new(disk: Arc<dyn Disk>, dir: &Path, unfinished: &str) -> Result<Self> {
        let path = dir.join(unfinished);
        let making = |e| StorageError::io(format!("cannot make {}", path.display()), e);
        disk.unlink_if_there(&path).map_err(making)?;
        let file = disk.create_new(&path).map_err(making)?;
        let salt = Salt::random();
        let mut buffer = segment::header(salt).to_vec();
        buffer.resize(DATA_START as usize, 0);
        Ok(Self { disk, path, file, salt, slots: Vec::new(), buffer, at: 0, named: false })
    }

    /// Bytes so far.
    pub(super) fn bytes(&self) -> u64 {
        self.at + self.buffer.len() as u64
    }

    /// Adds a frame. Sequences ascend.
    pub(super) fn push(&mut self, seq: Seq, id: FileId, frame: &[u8]) -> Result<()> {
        self.slots.push(Slot { seq, at: self.bytes(), bytes: frame.len() as u64, id });
        record::encode(self.salt, seq, seq, frame, &mut self.buffer);
        if self.buffer.len() >= PIECE_BYTES { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> Result<()> {
        let writing = |e| StorageError::io(format!("cannot write {}", self.path.display()), e);
        self.file.write_at(&self.buffer, self.at).map_err(writing)?;
        self.at += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Gives it its name, durably.
    pub(super) fn finish(mut self, dir: &Path, name: Name) -> Result<Pack> {
        let start = self.buffer.len();
        for slot in &self.slots {
            for number in [slot.seq, slot.at, slot.bytes] {
                self.buffer.extend_from_slice(&number.to_le_bytes());
            }
            self.buffer.extend_from_slice(slot.id.as_bytes());
        }
        let checksum = self.salt.checksum(&self.buffer[start..]);
        self.buffer.extend_from_slice(&u32::try_from(self.slots.len()).unwrap_or(u32::MAX).to_le_bytes());
        self.buffer.extend_from_slice(&checksum.to_le_bytes());
        self.buffer.extend_from_slice(&segment::header(self.salt));
        self.flush()?;
        let path = dir.join(name.text());
        // A pack whose sync failed is never read: it is written again from what is durable elsewhere.
        let naming = |e| StorageError::io(format!("cannot finish {}", path.display()), e);
        // Content, then name, then the name's own durability: a pack that has its name is whole.
        self.file.sync_all().map_err(naming)?;
        self.disk.rename_new(&self.path, &path).map_err(naming)?;
        self.named = true;
        self.disk.sync_dir(dir).map_err(naming)?;
        Ok(Pack { name, path, salt: self.salt, slots: std::mem::take(&mut self.slots), is_damaged: false })
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.named {
            // Its room is wanted; a start removes what is missed here.
            let _ = self.disk.unlink(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let name = Name { seqs: 7..99, edition: 2 };
        assert_eq!(name.text(), "00000000000000000007-00000000000000000099.2.pack");
        assert_eq!(Name::parse(Path::new(&name.text())), Some(name));
        for other in ["7-99.2.pack", "00000000000000000007-00000000000000000007.0.pack", "a.pack", "unfinished"] {
            assert_eq!(Name::parse(Path::new(other)), None, "{other}");
        }
    }
}
