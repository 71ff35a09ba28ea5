//! The tree of the index on disk (lsm-tree: sorted tables, merged in the background), without a log of its own.
//!
//! The journal is its log: changes gather in memory, and a thread writes them out when there are some megabytes of them, in
//! one piece. Each batch says up to which record of the journal it goes, so that after a crash exactly what the tables
//! have not is applied again. The same thread merges tables, which gives back the room of what was removed.
//!
//! # Guarantees
//! Readers see a batch whole or not at all. What was written out is synced, and refers to nothing that is not.
//!
//! # After a crash
//! The tree stands as it was when a batch ended: the last one before the latest write-out.

use std::{
    fs::{File, TryLockError},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use lsm_tree::{
    AbstractTree, AnyTree, Cache, CompressionType, Config, IterGuardImpl, SeqNo, SequenceNumberCounter, Slice,
    compaction::Leveled, config::CompressionPolicy,
};
use parking_lot::{Condvar, Mutex, RwLock, RwLockReadGuard};

/// Changes in memory are written out when they take so many bytes there.
const MEMORY_BYTES: u64 = 4 << 20;
/// Whoever brings more waits when so many pieces of that size wait to be written out.
const MOST_SEALED: usize = 3;
/// A table has about so many bytes.
const TABLE_BYTES: u64 = 16 << 20;
/// The thread waits no longer for readers that began earlier; what they may see stays until the next time.
const READERS_WAIT: Duration = Duration::from_millis(20);
/// On a full disk it tries again after this.
const FULL_WAIT: Duration = Duration::from_secs(1);
/// Removed keys are merged away once they are more than one in so many, and so many at least.
const DEAD_SHARE: u64 = 3;
const DEAD_LEAST: u64 = 20_000;

/// Of so many bytes in memory, which nothing was added to for so long, the thread writes them out unasked: a purge is over,
/// and its room is to come back.
const QUIET_BYTES: u64 = 1 << 20;
const QUIET: Duration = Duration::from_secs(5);

/// The file that one process at a time has locked.
const LOCK: &str = "lock";

/// An open tree with its thread. Dropping it ends the thread; what is in memory alone is gone then.
pub(super) struct Tree {
    parts: Arc<Parts>,
    upkeep: Option<JoinHandle<()>>,
    /// Held for as long as it is open.
    _lock: File,
}

/// What the thread has in common with those who read and write.
struct Parts {
    dir: PathBuf,
    tree: AnyTree,
    /// Numbers batches and versions.
    next: SequenceNumberCounter,
    /// The batches before this number may be read.
    visible: AtomicU64,
    /// Held by readers, so that what they may see is not merged away.
    readers: RwLock<()>,
    /// Held while a batch is applied: what is written out ends where a batch ends.
    batch: Mutex<()>,
    work: Mutex<Work>,
    woken: Condvar,
}

/// What the thread is to do, and how it fares.
#[derive(Debug, Default)]
struct Work {
    is_closing: bool,
    /// Something may be there to be written out.
    is_asked: bool,
    /// The disk is full: nothing is written out for the time being.
    is_full: bool,
    /// The thread failed, and has ended.
    failed: Option<String>,
}

impl Tree {
    /// Opens or creates the tree in `dir`.
    ///
    /// # Errors
    /// Of the kind `WouldBlock` when another process has it open.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> lsm_tree::Result<Self> {
        let lock = lock(dir)?;
        let next = SequenceNumberCounter::default();
        let cache = Arc::new(Cache::with_capacity_bytes(cache_bytes));
        // The tree counts versions up as well as batches. Half a batch must not be seen for that, so the tree is given a
        // counter that nobody reads.
        let unread = SequenceNumberCounter::default();
        let tree = Config::new(dir, next.clone(), unread)
            .use_cache(cache)
            .data_block_compression_policy(CompressionPolicy::all(CompressionType::Lz4))
            .expect_point_read_hits(true)
            .open()?;
        let first = tree.get_highest_persisted_seqno().map_or(1, |highest| highest + 1);
        next.set(first);
        let parts = Arc::new(Parts {
            dir: dir.to_owned(),
            tree,
            next,
            visible: AtomicU64::new(first),
            readers: RwLock::default(),
            batch: Mutex::default(),
            work: Mutex::default(),
            woken: Condvar::new(),
        });
        let own = parts.clone();
        let upkeep = std::thread::Builder::new().name("index".into()).spawn(move || own.run())?;
        Ok(Self { parts, upkeep: Some(upkeep), _lock: lock })
    }

    /// Reads what is visible now.
    pub(super) fn look<T>(&self, read: impl FnOnce(&AnyTree, SeqNo) -> lsm_tree::Result<T>) -> lsm_tree::Result<T> {
        let _reading = self.reading();
        read(&self.parts.tree, self.parts.visible.load(Ordering::Acquire))
    }

    /// As long as this is held, nothing is merged away that may be read now. May be held several times by one thread.
    pub(super) fn reading(&self) -> RwLockReadGuard<'_, ()> {
        self.parts.readers.read_recursive()
    }

    /// The pairs from `from` on and before `to`, as they are now. To be called while [`Tree::reading`] is held.
    pub(super) fn range(&self, from: &[u8], to: &[u8]) -> Box<dyn DoubleEndedIterator<Item = IterGuardImpl> + Send> {
        self.parts.tree.range(from..to, self.parts.visible.load(Ordering::Acquire), None)
    }

    /// Applies changes as one batch. One thread at a time calls this.
    pub(super) fn apply(&self, batch: Vec<(Slice, Option<Slice>)>) -> lsm_tree::Result<()> {
        self.parts.wait_for_room()?;
        let _batch = self.parts.batch.lock();
        let (tree, number) = (&self.parts.tree, self.parts.next.next());
        for (key, value) in batch {
            match value {
                Some(value) => tree.insert(key, value, number),
                None => tree.remove(key, number),
            };
        }
        self.parts.visible.store(number + 1, Ordering::Release);
        if tree.active_memtable().size() >= MEMORY_BYTES {
            tree.rotate_memtable();
            self.parts.ask();
        }
        Ok(())
    }

    /// Writes everything out that was applied.
    pub(super) fn persist(&self) -> lsm_tree::Result<()> {
        self.parts.sound()?;
        self.parts.seal();
        self.parts.write_out()
    }
}

impl Drop for Tree {
    fn drop(&mut self) {
        self.parts.work.lock().is_closing = true;
        self.parts.woken.notify_all();
        if let Some(upkeep) = self.upkeep.take() {
            // Its panic has been told already.
            let _ = upkeep.join();
        }
    }
}

impl Parts {
    fn ask(&self) {
        self.work.lock().is_asked = true;
        self.woken.notify_all();
    }

    /// What is in memory is to be written out.
    fn seal(&self) {
        let _batch = self.batch.lock();
        self.tree.rotate_memtable();
    }

    fn sound(&self) -> lsm_tree::Result<()> {
        match &self.work.lock().failed {
            Some(why) => Err(io::Error::other(why.clone()).into()),
            None => Ok(()),
        }
    }

    /// Waits while too much is in memory, but never for a full disk: outcomes go on then, in memory and in the journal.
    fn wait_for_room(&self) -> lsm_tree::Result<()> {
        let mut work = self.work.lock();
        loop {
            if let Some(why) = &work.failed {
                return Err(io::Error::other(why.clone()).into());
            }
            if work.is_full || self.tree.sealed_memtable_count() < MOST_SEALED {
                return Ok(());
            }
            self.woken.wait_for(&mut work, FULL_WAIT);
        }
    }

    /// Works until it is closed.
    fn run(&self) {
        while self.wait_for_work() {
            let work = std::panic::AssertUnwindSafe(|| self.write_out().and_then(|()| self.merge()));
            let failed = match std::panic::catch_unwind(work) {
                Ok(Ok(())) => {
                    self.work.lock().is_full = false;
                    None
                }
                Ok(Err(lsm_tree::Error::Io(error))) if error.kind() == io::ErrorKind::StorageFull => {
                    self.wait_for_space();
                    None
                }
                Ok(Err(error)) => Some(error.to_string()),
                Err(_) => Some("its thread panicked".into()),
            };
            if failed.is_some() {
                self.work.lock().failed = failed;
                self.woken.notify_all();
                return;
            }
            self.woken.notify_all();
        }
    }

    fn wait_for_work(&self) -> bool {
        let mut before = 0;
        loop {
            let mut work = self.work.lock();
            if work.is_closing || work.is_asked {
                work.is_asked = false;
                return !work.is_closing;
            }
            let is_quiet = self.woken.wait_for(&mut work, QUIET).timed_out();
            // Whoever applies a batch takes this lock second.
            drop(work);
            if is_quiet {
                let bytes = self.tree.active_memtable().size();
                if bytes >= QUIET_BYTES && bytes == before {
                    self.seal();
                    return true;
                }
                before = bytes;
            }
        }
    }

    fn wait_for_space(&self) {
        let mut work = self.work.lock();
        (work.is_full, work.is_asked) = (true, true);
        self.woken.notify_all();
        if !work.is_closing {
            self.woken.wait_for(&mut work, FULL_WAIT);
        }
    }

    fn write_out(&self) -> lsm_tree::Result<()> {
        let watermark = self.watermark();
        let lock = self.tree.get_flush_lock();
        self.tree.flush(&lock, watermark).map(drop)
    }

    /// Merges tables until they are in shape, and all of them when much of what they have is gone.
    fn merge(&self) -> lsm_tree::Result<()> {
        let strategy = Arc::new(Leveled::default().with_table_target_size(TABLE_BYTES));
        let mut before = None;
        loop {
            self.woken.notify_all();
            if self.work.lock().is_closing {
                return Ok(());
            }
            // What waits to be written out comes first.
            if self.tree.sealed_memtable_count() > 0 {
                self.write_out()?;
            }
            let version = self.tree.current_version().id();
            if before == Some(version) {
                break;
            }
            before = Some(version);
            self.tree.compact(strategy.clone(), self.watermark())?;
        }
        let (dead, all) = (self.tree.tombstone_count(), self.tree.approximate_len() as u64);
        if dead >= DEAD_LEAST && dead * DEAD_SHARE > all {
            self.tree.major_compact(TABLE_BYTES, self.watermark())?;
        }
        self.forget_versions()
    }

    /// Lets go of tables that were merged into others. Whoever reads from now on reads the newest version of the tree.
    fn forget_versions(&self) -> lsm_tree::Result<()> {
        {
            let _no_batch = self.batch.lock();
            let number = self.next.next();
            self.visible.store(number + 1, Ordering::Release);
        }
        let watermark = self.watermark();
        self.tree.get_version_history_lock().maintenance(&self.dir, watermark)
    }

    /// Nobody reads, or will, what was overwritten or removed before this number. 0 when a reader is there that may.
    fn watermark(&self) -> SeqNo {
        match self.readers.try_write_for(READERS_WAIT) {
            Some(_nobody) => self.visible.load(Ordering::Acquire),
            None => 0,
        }
    }
}

/// Takes the lock, which ends with the file.
fn lock(dir: &Path) -> io::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).open(dir.join(LOCK))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => {
            let what =
                format!("another process has the queue in {} open: is a server running on this data?", dir.display());
            Err(io::Error::new(io::ErrorKind::WouldBlock, what))
        }
        Err(TryLockError::Error(error)) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods, reason = "a test waits for no longer than a minute")]
mod tests {
    use std::{
        sync::atomic::AtomicBool,
        time::{Duration, Instant},
    };

    use lsm_tree::Guard;

    use super::*;

    type Batch = Vec<(Slice, Option<Slice>)>;

    fn size(dir: &Path) -> u64 {
        let items = std::fs::read_dir(dir).unwrap().filter_map(Result::ok);
        items
            .map(
                |item| if item.path().is_dir() { size(&item.path()) } else { item.metadata().map_or(0, |it| it.len()) },
            )
            .sum()
    }

    /// Keys from `from` on, with values that do not compress, and how many there are by then.
    fn batch(from: u64, count: u64) -> Batch {
        let value = || [uuid::Uuid::new_v4(), uuid::Uuid::new_v4()].map(uuid::Uuid::into_bytes).concat();
        let keys = (from..from + count).map(|key| (key.to_be_bytes().into(), Some(Slice::from(value()))));
        keys.chain([(b"count".into(), Some((from + count).to_be_bytes().into()))]).collect()
    }

    fn count(tree: &Tree) -> u64 {
        let bytes = tree.look(|tree, visible| tree.get(b"count", visible)).unwrap();
        bytes.map_or(0, |bytes| u64::from_be_bytes(bytes[..].try_into().unwrap()))
    }

    fn keys(tree: &Tree) -> u64 {
        let _reading = tree.reading();
        tree.range(&[0], b"count").fold(0, |count, pair| {
            pair.key().unwrap();
            count + 1
        })
    }

    #[test]
    fn room_of_what_was_removed_comes_back_while_it_is_open() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path(), 1 << 20).unwrap();
        for from in (0..300_000).step_by(1_000) {
            tree.apply(batch(from, 1_000)).unwrap();
        }
        tree.persist().unwrap();
        let full = size(dir.path());
        assert!(full > 9 << 20, "{full} bytes");
        for from in (0..300_000u64).step_by(1_000) {
            tree.apply((from..from + 1_000).map(|key| (key.to_be_bytes().into(), None)).collect()).unwrap();
        }
        let until = Instant::now() + Duration::from_secs(60);
        while size(dir.path()) > full / 4 {
            assert!(Instant::now() < until, "{} bytes of {full} are still there", size(dir.path()));
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!((keys(&tree), count(&tree)), (0, 300_000));
    }

    #[test]
    fn after_a_crash_it_stands_where_a_batch_ended() {
        let dir = tempfile::tempdir().unwrap();
        let (mut before, mut seen) = (0, 0);
        for life in 0..4 {
            // Dropped without `persist`, it has lost what was in memory alone, as in a crash.
            let tree = Tree::open(dir.path(), 1 << 20).unwrap();
            let there = count(&tree);
            assert_eq!(keys(&tree), there, "life {life}");
            assert!((before..=seen).contains(&there), "life {life}: {there}");
            before = there;
            for from in (there..there + 90_000).step_by(777) {
                tree.apply(batch(from, 777)).unwrap();
                seen = from + 777;
            }
        }
        assert!(before > 0, "some was written out");
    }

    #[test]
    fn readers_see_a_batch_whole_also_while_tables_are_written_and_merged() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path(), 1 << 20).unwrap();
        let over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    while !over.load(Ordering::SeqCst) {
                        let _reading = tree.reading();
                        // Both are of one look: the same number everywhere.
                        let values: Vec<_> = tree.range(&[1], &[2]).map(|pair| pair.value().unwrap()).collect();
                        assert!(values.is_empty() || values.len() == 300, "{} of 300", values.len());
                        assert!(values.windows(2).all(|two| two[0] == two[1]), "of two batches");
                    }
                });
            }
            for number in 0..3_000u64 {
                let keys = (0..300u16).map(|key| [&[1][..], &key.to_be_bytes()].concat());
                tree.apply(keys.map(|key| (key.into(), Some(number.to_be_bytes().into()))).collect()).unwrap();
            }
            over.store(true, Ordering::SeqCst);
        });
        assert!(tree.parts.tree.table_count() > 0, "some was written out meanwhile");
    }

    #[test]
    fn one_process_at_a_time_has_it_open() {
        let dir = tempfile::tempdir().unwrap();
        let tree = Tree::open(dir.path(), 1 << 20).unwrap();
        let Err(lsm_tree::Error::Io(error)) = Tree::open(dir.path(), 1 << 20) else { panic!("opened twice") };
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        drop(tree);
        Tree::open(dir.path(), 1 << 20).unwrap();
    }
}
