//! All packs of a journal.
//!
//! # Guarantees
//! A content that [`Packs::sweep`] is told to be live is readable at every instant, also in a crash: what is left of a pack
//! is written to its next edition and synced, with its name, before the one before goes.

use std::{
    collections::{BTreeMap, VecDeque},
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::{Mutex, RwLock};

use super::{
    IsLive,
    pack::{Name, Pack, Slot, Writer},
};
use crate::{
    Result, StorageError,
    disk::Disk,
    log::{self, Seq, segment::HEADER_BYTES},
};

/// Packs of which it is remembered where their contents lie.
const MOST_OPEN: usize = 16;
const UNFINISHED: &str = "unfinished";
const REWRITTEN: &str = "rewritten";

/// How much of a pack may be dead before it is written anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waste {
    /// Nothing.
    None,
    /// Up to half of its bytes.
    Half,
}

#[derive(Debug)]
pub(super) struct Packs {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    /// By first sequence and edition. They do not overlap, but for what a crash left.
    names: RwLock<BTreeMap<(Seq, u32), Name>>,
    /// The ones that were used last, the latest first.
    open: Mutex<VecDeque<Arc<Pack>>>,
    /// Held while packs are written anew.
    sweeping: Mutex<()>,
}

impl Packs {
    pub(super) fn open(disk: Arc<dyn Disk>, dir: &Path) -> Result<Self> {
        let opening = |e| StorageError::io(format!("cannot open {}", dir.display()), e);
        log::make_dir(&*disk, dir)?;
        let mut found = Vec::new();
        for name in disk.list(dir).map_err(opening)? {
            match Name::parse(&name) {
                Some(name) => found.push(name),
                None if [UNFINISHED, REWRITTEN].iter().any(|own| name == Path::new(own)) => {
                    disk.unlink(&dir.join(name)).map_err(opening)?;
                }
                None => tracing::warn!(path = %dir.join(name).display(), "this is no pack and is left alone"),
            }
        }
        let packs = Self {
            disk,
            dir: dir.to_owned(),
            names: RwLock::default(),
            open: Mutex::default(),
            sweeping: Mutex::default(),
        };
        // The latest edition of each was durable before it got its name.
        found.sort_unstable_by_key(|name| (name.edition, name.seqs.start));
        for name in found {
            packs.replace(name)?;
        }
        Ok(packs)
    }

    /// Puts a pack in the place of all that hold nothing but what it holds, and removes those.
    fn replace(&self, name: Name) -> Result<()> {
        let replaced: Vec<Name> = {
            let mut names = self.names.write();
            let within = |old: &Name| name.seqs.start <= old.seqs.start && old.seqs.end <= name.seqs.end;
            let replaced = names.values().filter(|old| within(old)).cloned().collect::<Vec<_>>();
            for old in &replaced {
                names.remove(&(old.seqs.start, old.edition));
            }
            names.insert((name.seqs.start, name.edition), name);
            replaced
        };
        // After the new name is in the map: a reader that finds its file gone looks again and finds
        // the new edition (`frame`).
        self.remove(&replaced)
    }

    fn remove(&self, names: &[Name]) -> Result<()> {
        self.open.lock().retain(|pack| !names.contains(&pack.name));
        for name in names {
            let path = self.dir.join(name.text());
            let removed = self.disk.unlink_if_there(&path);
            removed.map_err(|e| StorageError::io(format!("cannot remove {}", path.display()), e))?;
        }
        if names.is_empty() {
            return Ok(());
        }
        self.disk.sync_dir(&self.dir).map_err(|e| StorageError::io(format!("cannot sync {}", self.dir.display()), e))
    }

    /// The sequence behind all that packs may hold.
    pub(super) fn end_of_all(&self) -> Seq {
        self.names.read().values().map(|name| name.seqs.end).max().unwrap_or(0)
    }

    /// Begins a pack.
    pub(super) fn begin(&self) -> Result<Writer> {
        Writer::new(self.disk.clone(), &self.dir, UNFINISHED)
    }

    /// Ends a pack of what came with the records `seqs`: it is durable, and in place of what a crash left of it before.
    pub(super) fn end(&self, pack: Writer, seqs: Range<Seq>) -> Result<()> {
        let edition = {
            let names = self.names.read();
            let overlaps = |old: &&Name| old.seqs.start < seqs.end && seqs.start < old.seqs.end;
            names.values().filter(overlaps).map(|old| old.edition.saturating_add(1)).max().unwrap_or(0)
        };
        let pack = pack.finish(&self.dir, Name { seqs, edition })?;
        let name = pack.name.clone();
        self.remember(Arc::new(pack));
        self.replace(name)
    }

    /// Returns the frame with this sequence. `None`: no pack has it, or it is damaged.
    ///
    /// # Errors
    /// When the disk fails.
    pub(super) fn frame(&self, seq: Seq) -> Result<Option<Vec<u8>>> {
        // Once more when a new edition came in between.
        for _ in 0..3 {
            let mut has_gone = false;
            for name in self.overlapping(&(seq..seq + 1)).into_iter().rev() {
                let path = self.dir.join(name.text());
                let read = self.pack(name).and_then(|pack| match pack.slot(seq) {
                    Some(slot) => pack.frame(&*self.disk.open(&pack.path, false)?, slot),
                    None => Ok(None),
                });
                match read {
                    Ok(None) => {}
                    Ok(Some(frame)) => return Ok(Some(frame)),
                    Err(error) if error.kind() == io::ErrorKind::NotFound => has_gone = true,
                    Err(error) => return Err(StorageError::io(format!("cannot read {}", path.display()), error)),
                }
            }
            if !has_gone {
                break;
            }
        }
        Ok(None)
    }

    /// The sequence behind the pack that this one may be in.
    pub(super) fn end_of(&self, seq: Seq) -> Option<Seq> {
        self.overlapping(&(seq..seq + 1)).last().map(|name| name.seqs.end)
    }

    fn pack(&self, name: Name) -> io::Result<Arc<Pack>> {
        let known = self.open.lock().iter().find(|pack| pack.name == name).cloned();
        if let Some(pack) = known {
            return Ok(pack);
        }
        let pack = Arc::new(Pack::open(&*self.disk, &self.dir, name)?);
        self.remember(pack.clone());
        Ok(pack)
    }

    fn remember(&self, pack: Arc<Pack>) {
        let mut open = self.open.lock();
        open.retain(|other| other.name != pack.name);
        open.push_front(pack);
        open.truncate(MOST_OPEN);
    }

    /// The sequences of all contents in packs that may hold some of `seqs`.
    pub(super) fn seqs(&self, seqs: &Range<Seq>) -> Result<Vec<Seq>> {
        let mut found = Vec::new();
        for name in self.overlapping(seqs) {
            match self.pack(name) {
                Ok(pack) => found.extend(pack.slots.iter().map(|slot| slot.seq).filter(|seq| seqs.contains(seq))),
                // Written anew, or gone, since.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(StorageError::io("cannot read a pack", error)),
            }
        }
        // Where a crash came between, two packs hold the same.
        found.sort_unstable();
        found.dedup();
        Ok(found)
    }

    fn overlapping(&self, seqs: &Range<Seq>) -> Vec<Name> {
        let names = self.names.read();
        let before = names.range(..(seqs.end, 0)).map(|(_, name)| name).rev();
        // Those far before it end before it begins: packs are made one behind the other.
        let mut found: Vec<_> = before.take_while(|name| seqs.start < name.seqs.end).cloned().collect();
        found.reverse();
        found
    }

    /// Gives back the room of contents that are not live any more, in packs that may hold some of `seqs`.
    pub(super) fn sweep(&self, seqs: Range<Seq>, waste: Waste, is_live: IsLive<'_>) -> Result<()> {
        // One at a time: two that rewrite the same pack would both use the name `rewritten`.
        let _alone = self.sweeping.lock();
        let mut outcome = Ok(());
        for name in self.overlapping(&seqs) {
            // One that fails keeps no other from giving its room back.
            if let Err(error) = self.sweep_one(name, waste, is_live) {
                tracing::warn!(%error, "a pack could not be swept");
                outcome = outcome.and(Err(error));
            }
        }
        outcome
    }

    /// Sweeps one pack: removes it when nothing in it is live, and rewrites it when it has too much
    /// waste.
    fn sweep_one(&self, name: Name, waste: Waste, is_live: IsLive<'_>) -> Result<()> {
        let pack = self.pack(name.clone()).map_err(|e| StorageError::io("cannot read a pack", e))?;
        // It may hold more than is known: nothing of it is given up.
        if pack.is_damaged {
            return Ok(());
        }
        let mut live = Vec::with_capacity(pack.slots.len());
        for slot in &pack.slots {
            if is_live(slot.id, slot.seq)? {
                live.push(*slot);
            }
        }
        let size = |slots: &[Slot]| slots.iter().map(|slot| slot.bytes + HEADER_BYTES as u64).sum::<u64>();
        let (all, left) = (size(&pack.slots), size(&live));
        if live.is_empty() && !pack.slots.is_empty() {
            self.names.write().remove(&(name.seqs.start, name.edition));
            self.remove(&[name])
        } else if all > left && (waste == Waste::None || left * 2 <= all) {
            self.rewrite(&pack, &live)
        } else {
            Ok(())
        }
    }

    /// Writes what is live to the next edition, and puts that in the place of the pack.
    fn rewrite(&self, pack: &Pack, live: &[Slot]) -> Result<()> {
        let reading = |e| StorageError::io(format!("cannot read {}", pack.path.display()), e);
        let file = self.disk.open(&pack.path, false).map_err(reading)?;
        let mut next = Writer::new(self.disk.clone(), &self.dir, REWRITTEN)?;
        for slot in live {
            match pack.frame(&*file, *slot).map_err(reading)? {
                Some(frame) => next.push(slot.seq, slot.id, &frame)?,
                None => {
                    tracing::error!(path = %pack.path.display(), record = slot.seq, "a pack is damaged and is left as it is");
                    return Ok(());
                }
            }
        }
        let name = Name { edition: pack.name.edition.saturating_add(1), ..pack.name.clone() };
        let next = next.finish(&self.dir, name.clone())?;
        self.remember(Arc::new(next));
        self.replace(name)
    }
}
