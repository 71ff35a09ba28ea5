//! sled, behind a wall: its errors and its panics (damage makes it panic) become [`Fault::Index`], and those that are the
//! disk's [`Fault::Disk`].
//!
//! # Guarantees
//! A disk without room is no damage. What finds no room in sled stays in memory, over what sled has, and whoever reads finds
//! it; sled is asked for nothing while the file system is nearly full, for after one failed write it takes no other. Such an
//! index [is behind](Index::is_behind), and catches up when there is room again.

use std::{
    io,
    ops::{Bound, ControlFlow},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    sync::atomic::{AtomicI32, Ordering},
};

use forebay_storage::{
    Space,
    disk::{Disk as _, OsDisk},
};
use parking_lot::RwLock;

use super::layered::{Changes, merged};
use crate::QueueError;

/// Keys and values.
pub(super) use sled::IVec as Slice;

/// With less than this free on its file system sled is asked for no more, in bytes: it grows by segments of half a mebibyte.
const ROOM_BYTES: u64 = 4 << 20;

/// What went wrong inside the embedded queue.
#[derive(Debug)]
pub(super) enum Fault {
    /// The index cannot be trusted: it is set aside and made anew from the journal.
    Index(String),
    /// The machine failed it: no room, no quota, no descriptor, an I/O error. The index is as good as it was.
    Disk(io::Error),
    /// For the caller.
    Queue(QueueError),
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        let doing = || "index of the queue".into();
        match fault {
            Fault::Queue(error) => error,
            Fault::Disk(error) if is_full(&error) => Self::Full,
            Fault::Disk(source) => Self::Io { doing: doing(), source },
            Fault::Index(what) => Self::Io { doing: doing(), source: io::Error::other(what) },
        }
    }
}

/// The open index.
pub(super) struct Index {
    dir: PathBuf,
    beneath: Beneath,
    /// Changes that sled has not taken.
    over: RwLock<Changes>,
    /// The error of the system by which sled has failed; it takes nothing more before it is opened again. 0: none.
    failed: AtomicI32,
    /// It was opened again after an I/O error: the next one is damage.
    is_suspect: bool,
    /// Tests let the next batch fail as a damaged sled does.
    #[cfg(test)]
    pub(super) fail: std::sync::atomic::AtomicBool,
    /// Tests let sled have no room.
    #[cfg(test)]
    pub(super) full: std::sync::atomic::AtomicBool,
    /// Keys that were looked up or stepped over, for tests.
    #[cfg(test)]
    looks: std::sync::atomic::AtomicU64,
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
            is_suspect: false,
            #[cfg(test)]
            fail: false.into(),
            #[cfg(test)]
            full: false.into(),
            #[cfg(test)]
            looks: 0.into(),
        }
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Fault> {
        if let Some(change) = self.over.read_recursive().get(key) {
            return Ok(change.clone());
        }
        match self.db()? {
            Some(db) => {
                self.note_look();
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
        self.note_look();
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
            self.note_look();
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
        let batch = if is_behind { batch_of(&self.over.read_recursive()) } else { batch_of(&changes) };
        match self.wall(|| db.apply_batch(batch)) {
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
            Some(db) => self.wall(|| db.flush().map(drop)),
            None => Ok(()),
        }
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
    fn note_look(&self) {
        self.looks.fetch_add(1, std::sync::atomic::Ordering::SeqCst);
    }

    #[cfg(not(test))]
    #[inline]
    fn note_look(&self) {}

    /// As [`wall`], and an error of the disk is remembered.
    fn wall<T>(&self, work: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
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

fn batch_of(changes: &Changes) -> sled::Batch {
    let mut batch = sled::Batch::default();
    for (key, change) in changes {
        match change {
            Some(value) => batch.insert(key, value),
            None => batch.remove(key),
        }
    }
    batch
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

/// Whether it is for want of room, by blocks, inodes or quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn wall<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(judged(error.to_string(), &format!("{error:?}"))),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(judged(format!("sled panicked: {said}"), said))
        }
    }
}

/// Errors that say nothing of what is on the disk.
const OF_THE_MACHINE: [i32; 8] =
    [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EROFS, libc::EFBIG, libc::EMFILE, libc::ENFILE, libc::ENOMEM];

/// What sled says may be the machine's error, of which it hands on the text: `Os { code: 28, … }`. That a file is missing,
/// short or no file is damage.
fn judged(what: String, debug: &str) -> Fault {
    let code = debug.split_once("Os { code: ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    match code {
        Some(code) if OF_THE_MACHINE.contains(&code) => Fault::Disk(io::Error::from_raw_os_error(code)),
        _ => Fault::Index(what),
    }
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

/// Moves the directory of an index out of the way, named after the time it was last written, and says where to.
pub(super) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let written = std::fs::metadata(dir.join("db")).or_else(|_| std::fs::metadata(dir))?.modified()?;
    let written = chrono::DateTime::<chrono::Utc>::from(written).format("%Y%m%dT%H%M%SZ");
    let name = dir.file_name().map_or_else(|| "queue".into(), |name| name.to_string_lossy().into_owned());
    for count in 0.. {
        let suffix = if count == 0 { String::new() } else { format!("-{count}") };
        let aside = dir.with_file_name(format!("{name}.corrupt-{written}{suffix}"));
        if !aside.try_exists()? {
            std::fs::rename(dir, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other("no name is left to set the index aside"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_machine_are_no_damage() {
        let os = |code| io::Error::from_raw_os_error(code);
        // sled keeps the first error, and gives copies of it.
        let copy = |error: io::Error| io::Error::new(error.kind(), format!("{error:?}"));
        for code in [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EMFILE, libc::EROFS] {
            for error in [os(code), copy(os(code)), copy(copy(os(code)))] {
                let fault = wall::<()>(|| Err(sled::Error::Io(error))).expect_err("it failed");
                assert!(matches!(&fault, Fault::Disk(error) if error.raw_os_error() == Some(code)), "{fault:?}");
            }
            let fault = wall::<()>(|| panic!("failed to write: {:?}", os(code))).expect_err("it failed");
            assert!(matches!(&fault, Fault::Disk(_)), "{fault:?}");
        }
        for error in [
            os(libc::ENOENT),
            os(libc::EISDIR),
            io::ErrorKind::UnexpectedEof.into(),
            io::Error::other("could not acquire lock"),
        ] {
            let fault = wall::<()>(|| Err(sled::Error::Io(error))).expect_err("it failed");
            assert!(matches!(&fault, Fault::Index(_)), "{fault:?}");
        }
    }
}
