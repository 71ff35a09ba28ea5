//! sled, behind a [wall](super::fault): what it fails by is damage, or the disk's.
//!
//! # Guarantees
//! A disk without room is no damage. What finds no room in sled stays in memory, over what sled has, and whoever reads finds
//! it; sled is asked for nothing while the file system is nearly full, for after one failed write it takes no other. Such an
//! index [is behind](Index::is_behind), and catches up when there is room again.

use std::{
    io,
    ops::{Bound, ControlFlow},
    path::{Path, PathBuf},
    sync::atomic::{AtomicI32, AtomicUsize, Ordering},
};

use forebay_storage::{
    Space,
    disk::{Disk as _, OsDisk},
};
use parking_lot::RwLock;

pub(super) use super::fault::{Fault, is_full};
use super::{
    fault::wall,
    layered::{Changes, merged},
    stall::Stall,
};
use crate::QueueError;

/// Keys and values.
pub(super) use sled::IVec as Slice;

/// With less than this free on its file system sled is asked for no more, in bytes: it grows by segments of half a mebibyte.
const ROOM_BYTES: u64 = 4 << 20;

/// sled is given no more before it has written what it has, in bytes of keys and values. It hands writes to seven threads,
/// and must have one that is free ([`Stall`]).
const UNWRITTEN: usize = 512 << 10;

/// The open index.
pub(super) struct Index {
    dir: PathBuf,
    beneath: Beneath,
    /// Changes that sled has not taken.
    over: RwLock<Changes>,
    /// The error of the system by which sled has failed; it takes nothing more before it is opened again. 0: none.
    failed: AtomicI32,
    /// Bytes that sled was given since it last had written all.
    unwritten: AtomicUsize,
    stall: Stall,
    /// It was opened again after an I/O error: the next one is damage.
    is_suspect: bool,
    /// Tests let the next batch fail as a damaged sled does.
    #[cfg(test)]
    pub(super) fail: std::sync::atomic::AtomicBool,
    /// Tests let sled have no room.
    #[cfg(test)]
    pub(super) full: std::sync::atomic::AtomicBool,
    /// Tests let sled fail whatever is asked of it, by this error of the system.
    #[cfg(test)]
    pub(super) fails_by: AtomicI32,
    /// Keys that were looked up or stepped over, for tests.
    #[cfg(test)]
    looks: std::sync::atomic::AtomicU64,
    /// Tests let the disk fail this look.
    #[cfg(test)]
    pub(super) fail_at_look: std::sync::atomic::AtomicU64,
}

enum Beneath {
    Sled(sled::Db),
    /// All of the index is in memory: sled could not be opened.
    Memory,
    Closed,
}

impl Index {
    /// Opens or creates the index in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Fault> {
        // sled writes when it opens, and what it leaves where there is no room it takes for damage the next time.
        if !has_room(dir) {
            return Err(Fault::Disk(io::ErrorKind::StorageFull.into()));
        }
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::HighThroughput)
            // For pace alone: the journal is what is durable.
            .flush_every_ms(Some(2_000));
        let db = wall(|| config.open()).map_err(|fault| locked(fault, dir))?;
        Ok(Self::new(dir, Beneath::Sled(db)))
    }

    /// An empty index in memory, for the time in which there cannot be one in `dir`.
    pub(super) fn in_memory(dir: &Path) -> Self {
        Self::new(dir, Beneath::Memory)
    }

    fn new(dir: &Path, beneath: Beneath) -> Self {
        Self {
            dir: dir.to_owned(),
            beneath,
            over: RwLock::default(),
            failed: 0.into(),
            unwritten: 0.into(),
            stall: Stall::ends_the_process(),
            is_suspect: false,
            #[cfg(test)]
            fail: false.into(),
            #[cfg(test)]
            full: false.into(),
            #[cfg(test)]
            fails_by: 0.into(),
            #[cfg(test)]
            looks: 0.into(),
            #[cfg(test)]
            fail_at_look: u64::MAX.into(),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Fault> {
        if let Some(change) = self.over.read_recursive().get(key) {
            return Ok(change.clone());
        }
        match self.db()? {
            Some(db) => {
                self.note_look()?;
                self.wall(|| db.get(key))
            }
            None => Ok(None),
        }
    }

    /// The first pair from `from` on and before `to`.
    pub(super) fn first(&self, from: &[u8], to: &[u8]) -> Result<Option<(Slice, Slice)>, Fault> {
        let mut found = None;
        self.scan(from, to, |key, value| {
            found = Some((key, value));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// The last pair from `from` on and before `to`.
    pub(super) fn last(&self, from: &[u8], to: &[u8]) -> Result<Option<(Slice, Slice)>, Fault> {
        let over = self.over.read_recursive();
        let mut changed = over.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to))).rev();
        let (mut change, mut end) = (changed.next(), to.to_vec());
        loop {
            let beneath = self.last_beneath(from, &end)?;
            let Some((key, value)) = change else { return Ok(beneath) };
            if beneath.as_ref().is_some_and(|(found, _)| found > key) {
                return Ok(beneath);
            }
            if let Some(value) = value {
                return Ok(Some((key.clone(), value.clone())));
            }
            // It is gone.
            end = key.to_vec();
            change = changed.next();
        }
    }

    fn last_beneath(&self, from: &[u8], to: &[u8]) -> Result<Option<(Slice, Slice)>, Fault> {
        let Some(db) = self.db()? else { return Ok(None) };
        self.note_look()?;
        self.wall(|| db.range(from..to).next_back().transpose())
    }

    /// Every pair from `from` on and before `to`, until `visit` has enough.
    pub(super) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(Slice, Slice) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let over = self.over.read_recursive();
        if over.is_empty() {
            drop(over);
            return self.scan_beneath(from, to, &mut visit);
        }
        merged(&over, from, to, |visit| self.scan_beneath(from, to, visit), visit)
    }

    fn scan_beneath(
        &self,
        from: &[u8],
        to: &[u8],
        visit: &mut dyn FnMut(Slice, Slice) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let Some(db) = self.db()? else { return Ok(()) };
        let mut pairs = self.wall(|| Ok(db.range(from..to)))?;
        while let Some((key, value)) = self.wall(|| pairs.next().transpose())? {
            self.note_look()?;
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// All of it or nothing, also after a crash. Where sled has no room for it, it is in memory alone; the journal has it.
    pub(super) fn apply(&self, changes: Changes) -> Result<(), Fault> {
        #[cfg(test)]
        if self.fail.swap(false, Ordering::SeqCst) {
            return wall(|| panic!("asked for by a test"));
        }
        let db = match &self.beneath {
            Beneath::Sled(db) if self.may_write() => db,
            Beneath::Closed => return Err(closed()),
            Beneath::Sled(_) | Beneath::Memory => {
                self.keep_over(changes);
                return Ok(());
            }
        };
        // Alone it changes anything, so what it sees here stays so. Whoever reads meanwhile finds each key in one of the two.
        let is_behind = !self.over.read_recursive().is_empty();
        if is_behind {
            self.over.write().extend(changes.clone());
        }
        let given = if is_behind { batch_of(&self.over.read_recursive()) } else { batch_of(&changes) };
        match self.stall.watched(|| self.give(db, given)) {
            Ok(()) if is_behind => {
                self.over.write().clear();
                tracing::info!("there is room again: the index of the queue has caught up");
                Ok(())
            }
            Ok(()) => Ok(()),
            // sled may have a part of it in its memory: over that lies the whole.
            Err(Fault::Disk(_)) => {
                self.keep_over(changes);
                Ok(())
            }
            Err(fault) => Err(fault),
        }
    }

    fn give(&self, db: &sled::Db, (batch, bytes): (sled::Batch, usize)) -> Result<(), Fault> {
        self.wall(|| db.apply_batch(batch))?;
        if self.unwritten.fetch_add(bytes, Ordering::Relaxed) + bytes >= UNWRITTEN {
            self.unwritten.store(0, Ordering::Relaxed);
            self.wall(|| db.flush())?;
        }
        Ok(())
    }

    fn keep_over(&self, changes: Changes) {
        let mut over = self.over.write();
        if over.is_empty() && matches!(self.beneath, Beneath::Sled(_)) {
            tracing::warn!("the disk has no room for the index of the queue: it is kept up in memory until it has");
        }
        over.extend(changes);
    }

    /// Whether some of it is in memory alone.
    pub(super) fn is_behind(&self) -> bool {
        self.must_be_reopened() || !self.over.read_recursive().is_empty()
    }

    /// Whether it has to be opened again before sled takes anything.
    pub(super) fn must_be_reopened(&self) -> bool {
        self.is_in_memory() || self.failed.load(Ordering::Acquire) != 0
    }

    /// Whether there is no sled at all.
    pub(super) fn is_in_memory(&self) -> bool {
        matches!(self.beneath, Beneath::Memory)
    }

    /// Tries to write what is in memory alone. An index that has to be opened again stays as it is.
    pub(super) fn catch_up(&self) -> Result<(), Fault> {
        if self.may_write() && self.is_behind() { self.apply(Changes::new()) } else { Ok(()) }
    }

    /// The index that takes this one's place, opened anew from the same directory: an I/O error that comes again is damage.
    pub(super) fn succeeded_by(&self, mut fresh: Self) -> Self {
        fresh.is_suspect = self.is_suspect || self.failed.load(Ordering::Acquire) == libc::EIO;
        fresh
    }

    /// Whether there is room for sled to be opened and written.
    pub(super) fn has_room(&self) -> bool {
        #[cfg(test)]
        if self.full.load(Ordering::SeqCst) {
            return false;
        }
        has_room(&self.dir)
    }

    fn may_write(&self) -> bool {
        #[cfg(test)]
        if self.full.load(Ordering::SeqCst) {
            return false;
        }
        self.failed.load(Ordering::Acquire) == 0 && has_free(&self.dir)
    }

    /// Makes durable what was applied. Ok: a crash takes nothing of it.
    pub(super) fn persist(&self) -> Result<(), Fault> {
        if self.is_behind() {
            return Err(Fault::Disk(io::ErrorKind::StorageFull.into()));
        }
        match self.db()? {
            Some(db) => self.stall.watched(|| self.wall(|| db.flush()))?,
            None => return Ok(()),
        };
        // sled writes, and leaves it to a thread of its own to sync the file some seconds later.
        std::fs::File::open(self.dir.join("db")).and_then(|file| file.sync_all()).map_err(Fault::Disk)
    }

    pub(super) fn size_on_disk(&self) -> Result<u64, Fault> {
        self.db()?.map_or(Ok(0), |db| self.wall(|| db.size_on_disk()))
    }

    /// Closes it, so that its directory can be moved. Everything asked of it from now on is a fault.
    pub(super) fn close(&mut self) {
        if let Beneath::Sled(db) = std::mem::replace(&mut self.beneath, Beneath::Closed) {
            // A damaged one may panic on its way out too, and has nothing to lose.
            let _ = wall(|| {
                drop(db);
                Ok(())
            });
        }
        self.over.write().clear();
    }

    #[cfg(test)]
    pub(super) fn looks(&self) -> u64 {
        self.looks.load(std::sync::atomic::Ordering::SeqCst)
    }

    #[cfg(test)]
    fn note_look(&self) -> Result<(), Fault> {
        let look = self.looks.fetch_add(1, Ordering::SeqCst);
        match look == self.fail_at_look.load(Ordering::SeqCst) {
            true => self.wall(|| Err(sled::Error::Io(io::Error::from_raw_os_error(libc::EIO)))),
            false => Ok(()),
        }
    }

    #[cfg(not(test))]
    #[inline]
    #[allow(clippy::unnecessary_wraps, clippy::unused_self, reason = "as it is in tests")]
    fn note_look(&self) -> Result<(), Fault> {
        Ok(())
    }

    /// As [`wall`], and an error of the disk is remembered.
    fn wall<T>(&self, work: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
        #[cfg(test)]
        let work = || match self.fails_by.load(Ordering::SeqCst) {
            0 => work(),
            code => Err(sled::Error::Io(io::Error::from_raw_os_error(code))),
        };
        wall(work).map_err(|fault| match fault {
            Fault::Disk(error) if self.is_suspect && error.raw_os_error() == Some(libc::EIO) => {
                Fault::Index(format!("it cannot be read, also after it was opened again: {error}"))
            }
            Fault::Disk(error) => {
                self.failed.store(error.raw_os_error().unwrap_or(libc::EIO), Ordering::Release);
                Fault::Disk(error)
            }
            fault => fault,
        })
    }

    /// Lets sled have failed by the disk.
    #[cfg(test)]
    pub(super) fn fail_by(&self, code: i32) {
        self.failed.store(code, Ordering::Release);
    }

    /// None: all of it is in memory.
    fn db(&self) -> Result<Option<&sled::Db>, Fault> {
        match &self.beneath {
            Beneath::Sled(db) => Ok(Some(db)),
            Beneath::Memory => Ok(None),
            Beneath::Closed => Err(closed()),
        }
    }
}

fn closed() -> Fault {
    Fault::Index("it is closed".into())
}

/// The changes as sled wants them, and the bytes of their keys and values.
fn batch_of(changes: &Changes) -> (sled::Batch, usize) {
    let (mut batch, mut bytes) = (sled::Batch::default(), 0);
    for (key, change) in changes {
        bytes += key.len() + change.as_ref().map_or(0, |value| value.len());
        match change {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    (batch, bytes)
}

/// Whether there is room for sled to be opened and written in `dir`. A quota is known only by trying.
fn has_room(dir: &Path) -> bool {
    let probe = dir.with_extension("probe");
    let tried = has_free(dir) && std::fs::write(&probe, vec![1; 2 << 20]).is_ok();
    let _ = std::fs::remove_file(&probe);
    tried
}

/// Whether the file system has room for sled. One that cannot be asked is tried.
fn has_free(dir: &Path) -> bool {
    let has_inodes = |space: &Space| space.total_inodes == 0 || space.free_inodes > 2;
    OsDisk.space(dir).map_or(true, |space| space.free_bytes > ROOM_BYTES && has_inodes(&space))
}

fn locked(fault: Fault, dir: &Path) -> Fault {
    match fault {
        // sled tells a lock that is taken from other errors by its text alone.
        Fault::Index(what) if what.contains("could not acquire lock") => Fault::Queue(QueueError::Locked(format!(
            "another process has the queue in {} open: is a server running on this data?",
            dir.display()
        ))),
        other => other,
    }
}
