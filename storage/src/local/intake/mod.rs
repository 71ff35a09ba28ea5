//! The intake log: small files are durable by the log that their bytes ride in.
//!
//! A small file gets its name in the spool without a sync, and then its metadata and bytes go into the log, those of all
//! who come together by one `fdatasync`. When the log is long, or a minute after a file has come, the whole file system is
//! synced once (`syncfs`), which makes all of them durable in their own right, and what the log held of them is retired.
//!
//! # Guarantees
//! When [`IntakeLog::keep`] returns Ok, the file survives any crash, in the spool or by the log. What has left the spool,
//! and was said so by [`IntakeLog::gone`], does not come back. A sync of the file system that fails once stops the store
//! and is never asked again: the kernel tells of a page that could not be written once, and forgets that it was dirty.
//!
//! # After a crash
//! Every record since the last sync of the file system is compared with the spool by [`IntakeLog::replay`], and what is
//! missing or differs is written again from the log. Until all that is durable itself the log keeps it, so a second crash
//! changes nothing. A record whose file was never acknowledged brings a whole file, which the queue does not know.

mod record;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use bytes::Bytes;
use parking_lot::{Condvar, Mutex};
use sha2::Digest;
use uuid::Uuid;

use self::record::{Head, Mask};
use super::{poison::Poison, rounds::Rounds};
use crate::{
    FileId, FileMeta, Result, StorageError,
    disk::{Disk, DiskFs},
    log::{Log, LogOptions, LogReader, Recovery, Seq},
};

/// No file of more than this goes into the log: its own sync costs little beside its bytes.
const MOST_FILE_BYTES: u64 = 64 << 10;
/// What a record has beside a file's bytes, at most.
const BESIDE_BYTES: u64 = 4 << 10;
/// When so many times what is settled at once waits for it, no more is taken.
const MOST_BEHIND: u64 = 4;
const LEAST_SEGMENT_BYTES: u64 = 32 << 10;
/// How long a file waits for others before the file system is synced.
const SETTLE_EVERY: Duration = Duration::from_secs(60);
/// Records that are read at once when they are replayed.
const PAGE: usize = 64;

/// What the log says of the spool.
pub(super) enum Said {
    /// This file is there.
    File(Box<FileMeta>, Vec<u8>),
    /// This one no longer is.
    Gone(FileId),
}

/// The log and what is known of the files in it.
#[derive(Debug)]
pub(super) struct IntakeLog {
    shared: Arc<Shared>,
    /// Of 122 bits of the system's random numbers.
    secret: [u8; 16],
    settling: Mutex<Option<JoinHandle<()>>>,
}

#[derive(Debug)]
struct Shared {
    disk: Arc<dyn Disk>,
    spool: PathBuf,
    /// The file system, if it can be synced as a whole; else nothing goes into the log. Held open from before the first
    /// file until the end, so that no failure is told to somebody else alone.
    fs: Option<Arc<dyn DiskFs>>,
    /// When so many bytes came since the last sync of the file system, it is time for the next.
    settle_after: u64,
    segment_bytes: u64,
    /// None once it is closed.
    log: Mutex<Option<Log>>,
    reader: LogReader,
    /// Records on their way into the log.
    rounds: Rounds<Vec<u8>, Failed>,
    riding: Mutex<Riding>,
    /// There is something to settle, or no more to come.
    changed: Condvar,
    /// Held while the file system is synced and the log retired by that: one at a time, or a failure that one is told
    /// would be none for the other.
    one: Mutex<()>,
    poison: Arc<Poison>,
}

/// Which files have a record.
#[derive(Debug, Default)]
struct Riding {
    files: HashMap<FileId, Seq>,
    /// The first record that is not settled.
    from: Seq,
    /// Of records that are not settled.
    bytes: u64,
    over: bool,
}

impl Riding {
    fn note(&mut self, seq: Seq, record: &[u8]) {
        match record::head(record) {
            Some(Head::File(id)) => {
                self.files.insert(id, seq);
            }
            Some(Head::Gone(id)) => {
                self.files.remove(&id);
            }
            Some(Head::Settled(before)) => return self.settled(before, self.bytes),
            None => tracing::error!(seq, "a record of the intake log cannot be read and is left out"),
        }
        self.bytes += record.len() as u64;
    }

    /// Everything before this sequence is durable by itself, and these bytes were known to be before it.
    fn settled(&mut self, before: Seq, bytes: u64) {
        // What is settled stays so.
        self.from = self.from.max(before);
        self.bytes = self.bytes.saturating_sub(bytes);
    }
}

/// Why a round put nothing into the log.
#[derive(Clone, Debug)]
enum Failed {
    Full,
    Otherwise(String),
}

impl IntakeLog {
    /// Opens the log below `root`. What it holds is to be replayed before anything else is done with it.
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path, settle_after: u64, poison: Arc<Poison>) -> Result<Self> {
        let spool = root.join("spool");
        let fs = disk.open_fs(&spool).map_err(|e| StorageError::io("cannot open the file system of the spool", e))?;
        if fs.is_none() {
            tracing::info!(path = %spool.display(), "the file system or the kernel (before 5.8) does not tell whether \
                a sync of all of it succeeded, so each small file is synced by itself, which takes longer");
        }
        let segment_bytes = (settle_after / 8).max(LEAST_SEGMENT_BYTES);
        let mut riding = Riding { from: 1, ..Riding::default() };
        let (log, recovery) =
            Log::open(disk.clone(), &root.join("intake"), LogOptions { segment_bytes }, 0, &mut |seq, record| {
                riding.note(seq, record);
            })?;
        report(&recovery);
        let shared = Shared {
            disk,
            spool,
            fs,
            settle_after,
            segment_bytes,
            reader: log.reader(),
            log: Mutex::new(Some(log)),
            rounds: Rounds::default(),
            riding: Mutex::new(riding),
            changed: Condvar::new(),
            one: Mutex::default(),
            poison,
        };
        Ok(Self { shared: Arc::new(shared), secret: Uuid::new_v4().into_bytes(), settling: Mutex::default() })
    }

    /// Whether the file system can be synced as a whole.
    pub(super) fn settles(&self) -> bool {
        self.shared.fs.is_some()
    }

    /// Shows what the log says of the spool since the file system was synced last, oldest first. Gives whether it said
    /// anything.
    pub(super) fn replay(&self, mut visit: impl FnMut(Said) -> Result<()>) -> Result<bool> {
        let shared = &self.shared;
        let (mut next, end) = (shared.riding.lock().from, shared.reader.next_seq());
        let mut any = false;
        // What is compared must be what the disk holds, not what memory still means to write. What could not be written
        // before the start is told here, and found missing then; left untold, it would stop a sound store later.
        if let Some(Err(error)) = shared.fs.as_ref().map(|fs| fs.sync()) {
            tracing::warn!(%error, "the file system of the spool had failed; what it lost is looked for");
        }
        while next < end {
            let records = shared.reader.read(next, PAGE)?;
            let Some((last, _)) = records.last() else { break };
            next = last + 1;
            for (seq, record) in records {
                match record::head(&record) {
                    Some(Head::File(_)) => match record::contents(&record) {
                        Some((meta, bytes)) => visit(Said::File(Box::new(meta), bytes))?,
                        None => tracing::error!(seq, "a file in the intake log cannot be read and is left out"),
                    },
                    Some(Head::Gone(id)) => visit(Said::Gone(id))?,
                    Some(Head::Settled(_)) | None => continue,
                }
                any = true;
            }
        }
        Ok(any)
    }

    /// Begins to settle what comes, and first what was replayed: by a sync of the file system, or as durable by itself
    /// already where there is no such sync.
    pub(super) fn begin(&self, replayed: bool) -> Result<()> {
        let shared = &self.shared;
        let settled = match (replayed, self.settles()) {
            (false, _) => Ok(()),
            (true, true) => shared.settle(),
            (true, false) => shared.retire(shared.reader.next_seq(), u64::MAX),
        };
        match settled {
            Err(StorageError::Full) => tracing::warn!("the disk is full, so the intake log cannot be retired yet"),
            other => other?,
        }
        if self.settles() {
            let shared = shared.clone();
            let thread = thread::Builder::new().name("intake-settle".to_owned()).spawn(move || shared.run());
            let thread = thread.map_err(|e| StorageError::io("cannot start the thread of the intake log", e))?;
            *self.settling.lock() = Some(thread);
        }
        Ok(())
    }

    /// Whether a file of this size goes into the log. When it is long and its sync does not keep pace, none does.
    pub(super) fn takes(&self, size_bytes: u64) -> bool {
        let shared = &self.shared;
        // A record takes a quarter of a segment at most.
        let most = MOST_FILE_BYTES.min((shared.segment_bytes / 4).saturating_sub(BESIDE_BYTES));
        self.settles() && size_bytes <= most && shared.riding.lock().bytes < MOST_BEHIND * shared.settle_after
    }

    /// Keeps a file that has its name in the spool already. Ok: it survives any crash. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Full`], and nothing was written then; anything else stops the store.
    pub(super) fn keep(&self, id: FileId, meta: &[u8], pieces: &[Bytes]) -> Result<()> {
        let shared = &self.shared;
        let _cut = StopIfCut(&shared.poison);
        let record = record::file(id, &self.mask(id), meta, pieces);
        shared.rounds.enter(record, |records| shared.append(&records)).map_err(|failed| match failed {
            Some(Failed::Full) => StorageError::Full,
            Some(Failed::Otherwise(why)) => shared.poison.stop(format!("the intake log failed: {why}")),
            None => shared.poison.stop("the intake log was cut short".to_owned()),
        })
    }

    /// What nobody else can know: a digest of a secret of this process and the file.
    fn mask(&self, id: FileId) -> Mask {
        sha2::Sha256::new().chain_update(self.secret).chain_update(id.as_bytes()).finalize().into()
    }

    /// Whether the log alone is known to keep this file.
    pub(super) fn carries(&self, id: FileId) -> bool {
        let riding = self.shared.riding.lock();
        riding.files.get(&id).is_some_and(|seq| *seq >= riding.from)
    }

    /// Has files that left the spool stay away, whatever becomes of other records. Ok: the log does not bring them back.
    /// Blocks.
    ///
    /// # Errors
    /// [`StorageError::Full`], and nothing was written then; anything else stops the store.
    pub(super) fn gone(&self, ids: &[FileId]) -> Result<()> {
        let shared = &self.shared;
        let mut there = ids.to_vec();
        {
            let riding = shared.riding.lock();
            there.retain(|id| riding.files.contains_key(id));
        }
        if there.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = there.iter().map(|id| record::gone(*id)).collect();
        let appended = shared.log.lock().as_mut().ok_or_else(closed).and_then(|log| log.append(&records));
        let range = appended.map_err(|error| match error {
            StorageError::Full => StorageError::Full,
            error => shared.poison.stop(format!("cannot take files out of the intake log: {error}")),
        })?;
        shared.note(range.zip(&records));
        Ok(())
    }

    /// Leaves nothing to be replayed. Blocks.
    pub(super) fn settle(&self) -> Result<()> {
        if self.shared.riding.lock().bytes > 0 { self.shared.settle() } else { Ok(()) }
    }

    /// Takes nothing more, and touches the directory no more when this returns. Blocks.
    pub(super) fn stop(&self) {
        drop(self.shared.log.lock().take());
        self.shared.riding.lock().over = true;
        self.shared.changed.notify_one();
        if let Some(Err(_)) = self.settling.lock().take().map(JoinHandle::join) {
            tracing::error!("the thread that settles the intake log panicked");
        }
    }
}

impl Drop for IntakeLog {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Shared {
    /// One round: all its files by one sync.
    fn append(&self, records: &[Vec<u8>]) -> Result<(), Failed> {
        let range = self.log.lock().as_mut().ok_or_else(closed).and_then(|log| log.append(records));
        let range = range.map_err(|error| match error {
            StorageError::Full => Failed::Full,
            error => Failed::Otherwise(error.to_string()),
        })?;
        self.note(range.zip(records));
        Ok(())
    }

    fn note<'a>(&self, records: impl Iterator<Item = (Seq, &'a Vec<u8>)>) {
        let mut riding = self.riding.lock();
        let before = riding.bytes;
        records.for_each(|(seq, record)| riding.note(seq, record));
        if before == 0 || riding.bytes >= self.settle_after {
            self.changed.notify_one();
        }
    }

    /// The thread: settles when the log is long, or has had something for a while.
    fn run(&self) {
        loop {
            {
                let mut riding = self.riding.lock();
                while riding.bytes == 0 && !riding.over {
                    self.changed.wait(&mut riding);
                }
                while riding.bytes < self.settle_after && !riding.over {
                    if self.changed.wait_for(&mut riding, SETTLE_EVERY).timed_out() {
                        break;
                    }
                }
                if riding.over {
                    return;
                }
            }
            match self.settle() {
                Ok(()) => {}
                Err(StorageError::Poisoned(_)) => return,
                Err(error) => {
                    tracing::warn!(%error, "the intake log could not be settled; trying again");
                    let mut riding = self.riding.lock();
                    while !riding.over && !self.changed.wait_for(&mut riding, SETTLE_EVERY).timed_out() {}
                }
            }
        }
    }

    /// Syncs the file system, and retires what the log holds of the files that are durable by that.
    fn settle(&self) -> Result<()> {
        let _one = self.one.lock();
        self.poison.sound()?;
        if self.fs.is_none() {
            return Ok(());
        }
        let bytes = self.riding.lock().bytes;
        // A file has its name before its record, so all that have a record are synced now.
        let before = self.reader.next_seq();
        self.sync_fs()?;
        self.poison.sound()?;
        self.retire(before, bytes)
    }

    fn sync_fs(&self) -> Result<()> {
        let Some(fs) = &self.fs else { return Ok(()) };
        let stop =
            |error| self.poison.stop(format!("cannot sync the file system of {}: {error}", self.spool.display()));
        fs.sync().map_err(stop)?;
        // Where a file system keeps no journal of its own, this is what empties the disk's cache.
        self.disk.sync_dir(&self.spool).map_err(|error| match error.raw_os_error() {
            // It could not even be opened.
            Some(libc::EMFILE | libc::ENFILE) => StorageError::io("cannot sync the spool", error),
            _ => stop(error),
        })
    }

    /// Notes that everything before this sequence is durable by itself, and gives its segments up.
    fn retire(&self, before: Seq, bytes: u64) -> Result<()> {
        let retired = {
            let mut log = self.log.lock();
            let log = log.as_mut().ok_or_else(closed)?;
            // In a segment of its own, so that the one before can go, and what it holds of files with it.
            let fresh = log.begin_segment();
            let noted = fresh.and_then(|()| log.append(&[record::settled(before)])).and_then(|_| log.retire(before));
            noted.map(|()| log.first_seq())
        };
        let first = retired.map_err(|error| match error {
            StorageError::Full => StorageError::Full,
            error => self.poison.stop(format!("the intake log failed: {error}")),
        })?;
        let mut riding = self.riding.lock();
        riding.settled(before, bytes);
        riding.files.retain(|_, seq| *seq >= first);
        Ok(())
    }
}

/// Stops the store when the round it is in is cut short by a panic: its file may be in the log.
struct StopIfCut<'a>(&'a Poison);

impl Drop for StopIfCut<'_> {
    fn drop(&mut self) {
        if thread::panicking() {
            let _ = self.0.stop("the intake log was cut short".to_owned());
        }
    }
}

fn closed() -> StorageError {
    StorageError::Poisoned("it is closed".to_owned())
}

fn report(recovery: &Recovery) {
    if !recovery.lost.is_empty() || !recovery.set_aside.is_empty() {
        tracing::error!(lost = ?recovery.lost, set_aside = ?recovery.set_aside,
            "the intake log is damaged: files that came shortly before the crash may be missing or cut, which shows when \
             they are read");
    }
}
