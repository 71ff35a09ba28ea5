//! The intake log: small files are durable by the log that their bytes ride in.
//!
//! A small file gets its name in the spool without a sync, and then its metadata and bytes go into the log, those of all
//! who come together by one `fdatasync`. When the log is long, the whole file system is synced once (`syncfs`), which
//! makes hundreds of files durable in their own right, and what the log held of them is retired.
//!
//! # Guarantees
//! When [`IntakeLog::keep`] returns Ok, the file survives any crash, in the spool or by the log. What has left the spool,
//! and was said so by [`IntakeLog::gone`], does not come back.
//!
//! # After a crash
//! Every record since the last sync of the file system is compared with the spool by [`IntakeLog::replay`], and what is
//! missing or differs is written again from the log. Until all that is durable itself the log keeps it, so a second crash
//! changes nothing. A record whose file was never acknowledged brings a whole file, which the queue does not know.

use std::{
    collections::HashMap,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
    thread::{self, JoinHandle},
};

use bytes::Bytes;
use parking_lot::Mutex;
use sha2::Digest;
use uuid::Uuid;

use super::{poison::Poison, rounds::Rounds};
use crate::{
    FileId, FileMeta, Result, StorageError,
    disk::Disk,
    log::{Log, LogOptions, LogReader, Recovery, Seq},
};

/// No file of more than this goes into the log: its own sync costs little beside its bytes.
const MOST_FILE_BYTES: u64 = 64 << 10;
/// What a record has beside a file's bytes, at most.
const BESIDE_BYTES: u64 = 4 << 10;
/// When so many times what is settled at once waits for it, no more is taken.
const MOST_BEHIND: u64 = 4;
const LEAST_SEGMENT_BYTES: u64 = 32 << 10;
/// Records that are read at once when they are replayed.
const PAGE: usize = 64;

/// What a record says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// This file is in the spool.
    File(Box<FileMeta>, Vec<u8>),
    /// It no longer is.
    Gone(FileId),
    /// The file system was synced.
    Settled,
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
    /// Whether the file system can be synced as a whole. If not, nothing goes into the log.
    settles: bool,
    /// When so many bytes came since the last sync of the file system, it is time for the next.
    settle_after: u64,
    segment_bytes: u64,
    /// None once it is closed.
    log: Mutex<Option<Log>>,
    reader: LogReader,
    rounds: Rounds<Kept, Failed>,
    riding: Mutex<Riding>,
    poison: Arc<Poison>,
}

/// Files that only the log is known to keep.
#[derive(Debug, Default)]
struct Riding {
    files: HashMap<FileId, Seq>,
    bytes: u64,
    /// The records to be replayed.
    unsettled: Range<Seq>,
}

impl Riding {
    fn note(&mut self, said: &Said, seq: Seq) {
        match said {
            Said::File(meta, bytes) => {
                self.files.insert(meta.id, seq);
                self.bytes += bytes.len() as u64;
            }
            Said::Gone(id) => {
                self.files.remove(id);
            }
            Said::Settled => {}
        }
    }
}

/// A file on its way into the log.
#[derive(Debug)]
struct Kept {
    id: FileId,
    record: Vec<u8>,
}

/// Why a round put nothing into the log.
#[derive(Clone, Debug)]
enum Failed {
    Full,
    Otherwise(String),
}

impl IntakeLog {
    /// Opens the log below `root`. What it holds is to be replayed.
    pub(super) fn open(disk: Arc<dyn Disk>, root: &Path, settle_after: u64, poison: Arc<Poison>) -> Result<Self> {
        let (mut from, mut last) = (1, 0);
        let mut look = |seq, payload: &[u8]| match settled(payload) {
            Some(before) => from = before,
            None => last = seq,
        };
        let segment_bytes = (settle_after / 8).max(LEAST_SEGMENT_BYTES);
        let (log, recovery) =
            Log::open(disk.clone(), &root.join("intake"), LogOptions { segment_bytes }, 0, &mut look)?;
        report(&recovery);
        let riding = Mutex::new(Riding { unsettled: from..last + 1, ..Riding::default() });
        let (reader, spool) = (log.reader(), root.join("spool"));
        let settles =
            disk.can_sync_fs(&spool).map_err(|e| StorageError::io("cannot ask for the kind of file system", e))?;
        if !settles {
            tracing::info!(path = %spool.display(), "the file system or the kernel (before 5.8) does not tell whether a sync of all of it \
                succeeded, so each small file is synced by itself, which takes longer");
        }
        let (log, rounds) = (Mutex::new(Some(log)), Rounds::default());
        let shared = Shared { disk, spool, settles, settle_after, segment_bytes, log, reader, rounds, riding, poison };
        Ok(Self { shared: Arc::new(shared), secret: Uuid::new_v4().into_bytes(), settling: Mutex::default() })
    }

    /// Shows what the log says of the spool since the file system was synced last, oldest first, and has everything
    /// durable by itself in the end.
    pub(super) fn replay(&self, mut visit: impl FnMut(Said) -> Result<()>) -> Result<()> {
        let shared = &self.shared;
        let Range { start: mut next, end } = shared.riding.lock().unsettled.clone();
        if next >= end {
            return Ok(());
        }
        // What is compared must be what the disk holds, not what memory still means to write.
        shared.disk.sync_fs(&shared.spool).map_err(|error| shared.cannot_settle(&error))?;
        while next < end {
            let records = shared.reader.read(next, PAGE)?;
            let Some((last, _)) = records.last() else { break };
            next = last + 1;
            for (seq, payload) in records {
                let Some(said) = parse(&payload) else {
                    tracing::error!(seq, "a record of the intake log cannot be read and is left out");
                    continue;
                };
                shared.riding.lock().note(&said, seq);
                visit(said)?;
            }
        }
        match shared.settle() {
            // The next start does it again.
            Err(StorageError::Full) => Ok(()),
            outcome => outcome,
        }
    }

    /// Whether a file of this size goes into the log. When it is long and its sync does not keep pace, none does.
    pub(super) fn takes(&self, size_bytes: u64) -> bool {
        let shared = &self.shared;
        // A record takes a quarter of a segment at most.
        let most = MOST_FILE_BYTES.min((shared.segment_bytes / 4).saturating_sub(BESIDE_BYTES));
        shared.settles && size_bytes <= most && shared.riding.lock().bytes < MOST_BEHIND * shared.settle_after
    }

    /// Keeps a file that has its name in the spool already. Ok: it survives any crash. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Full`], and nothing was written then; anything else stops the store.
    pub(super) fn keep(&self, id: FileId, meta: &[u8], pieces: &[Bytes]) -> Result<()> {
        let record = file_record(&self.mask(id), meta, pieces);
        let kept = self.shared.rounds.enter(Kept { id, record }, |files| self.shared.append(files));
        kept.map_err(|failed| match failed {
            Some(Failed::Full) => StorageError::Full,
            Some(Failed::Otherwise(why)) => self.shared.poison.stop(format!("the intake log failed: {why}")),
            None => self.shared.poison.stop("the intake log was cut short".to_owned()),
        })?;
        self.settle_if_long();
        Ok(())
    }

    /// What nobody else can know: a digest of a secret of this process and the file.
    fn mask(&self, id: FileId) -> Mask {
        sha2::Sha256::new().chain_update(self.secret).chain_update(id.to_string()).finalize().into()
    }

    /// Whether the log alone is known to keep this file.
    pub(super) fn carries(&self, id: FileId) -> bool {
        self.shared.riding.lock().files.contains_key(&id)
    }

    /// Has files that left the spool stay away. Ok: the log does not bring them back. Blocks.
    pub(super) fn gone(&self, ids: &[FileId]) -> Result<()> {
        let mut carried = ids.to_vec();
        {
            let riding = self.shared.riding.lock();
            carried.retain(|id| riding.files.contains_key(id));
        }
        if carried.is_empty() {
            return Ok(());
        }
        let records: Vec<_> = carried.iter().map(|id| gone_record(*id)).collect();
        let appended = self.shared.log.lock().as_mut().ok_or_else(closed).and_then(|log| log.append(&records));
        appended
            .map_err(|error| self.shared.poison.stop(format!("cannot take files out of the intake log: {error}")))?;
        let mut riding = self.shared.riding.lock();
        riding.files.retain(|id, _| !carried.contains(id));
        Ok(())
    }

    /// Leaves nothing to be replayed, and takes nothing more. Blocks.
    pub(super) fn close(&self) -> Result<()> {
        let settled = if self.shared.riding.lock().files.is_empty() { Ok(()) } else { self.shared.settle() };
        // A settling thread that comes later finds it closed.
        drop(self.shared.log.lock().take());
        settled
    }

    /// Has the file system synced by a thread of its own when it is time. One at a time does.
    fn settle_if_long(&self) {
        if self.shared.riding.lock().bytes < self.shared.settle_after {
            return;
        }
        let mut settling = self.settling.lock();
        if settling.as_ref().is_some_and(|running| !running.is_finished()) {
            return;
        }
        let shared = self.shared.clone();
        let settle = move || {
            // A failure has stopped the store, which says so.
            let _ = shared.settle();
        };
        match thread::Builder::new().name("intake-settle".to_owned()).spawn(settle) {
            Ok(thread) => *settling = Some(thread),
            Err(error) => tracing::warn!(%error, "cannot start the thread that settles the intake log; trying again"),
        }
    }
}

impl Drop for IntakeLog {
    fn drop(&mut self) {
        // So that nothing touches the directory any more once the store is gone.
        if let Some(Err(_)) = self.settling.lock().take().map(JoinHandle::join) {
            tracing::error!("the thread that settles the intake log panicked");
        }
    }
}

impl Shared {
    /// One round: all its files by one sync.
    fn append(&self, files: Vec<Kept>) -> Result<(), Failed> {
        let (ids, records): (Vec<_>, Vec<_>) = files.into_iter().map(|file| (file.id, file.record)).unzip();
        let range = self.log.lock().as_mut().ok_or_else(closed).and_then(|log| log.append(&records));
        let range = range.map_err(|error| match error {
            StorageError::Full => Failed::Full,
            error => Failed::Otherwise(error.to_string()),
        })?;
        let mut riding = self.riding.lock();
        riding.files.extend(ids.into_iter().zip(range));
        riding.bytes += records.iter().map(|record| record.len() as u64).sum::<u64>();
        Ok(())
    }

    /// Syncs the file system, and retires what the log holds of the files that are durable by that.
    fn settle(&self) -> Result<()> {
        let bytes = self.riding.lock().bytes;
        // A file has its name before its record, so all that have a record are synced now.
        let before = self.reader.next_seq();
        self.disk.sync_fs(&self.spool).map_err(|error| self.cannot_settle(&error))?;
        {
            let mut log = self.log.lock();
            let log = log.as_mut().ok_or_else(closed)?;
            let noted = log.append(&[settled_record(before)]).and_then(|_| log.retire(before));
            noted.map_err(|error| match error {
                StorageError::Full => StorageError::Full,
                error => self.poison.stop(format!("the intake log failed: {error}")),
            })?;
        }
        let mut riding = self.riding.lock();
        riding.files.retain(|_, seq| *seq >= before);
        riding.bytes = riding.bytes.saturating_sub(bytes);
        Ok(())
    }

    fn cannot_settle(&self, error: &std::io::Error) -> StorageError {
        self.poison.stop(format!("cannot sync the file system of {}: {error}", self.spool.display()))
    }
}

fn closed() -> StorageError {
    StorageError::Poisoned("it is closed".to_owned())
}

fn report(recovery: &Recovery) {
    if !recovery.lost.is_empty() {
        tracing::error!(lost = ?recovery.lost, set_aside = ?recovery.set_aside,
            "the intake log is damaged: files that came shortly before the crash may be missing or cut, which shows when \
             they are read");
    }
}

const FILE: u8 = 1;
const GONE: u8 = 2;
const SETTLED: u8 = 3;
const MASK_BYTES: usize = 32;

type Mask = [u8; MASK_BYTES];

/// Kind, mask, length of the metadata, then metadata and bytes under the mask: a partner must not be able to send what
/// looks like a record of its own when a damaged log is searched for sound ones.
fn file_record(mask: &Mask, meta: &[u8], pieces: &[Bytes]) -> Vec<u8> {
    let len = pieces.iter().map(Bytes::len).sum::<usize>() + meta.len();
    let mut record = Vec::with_capacity(1 + MASK_BYTES + 4 + len);
    record.push(FILE);
    record.extend_from_slice(mask);
    record.extend_from_slice(&u32::try_from(meta.len()).unwrap_or(u32::MAX).to_le_bytes());
    let start = record.len();
    record.extend_from_slice(meta);
    pieces.iter().for_each(|piece| record.extend_from_slice(piece));
    apply(mask, &mut record[start..]);
    record
}

fn apply(mask: &Mask, bytes: &mut [u8]) {
    for chunk in bytes.chunks_mut(MASK_BYTES) {
        chunk.iter_mut().zip(mask).for_each(|(byte, mask)| *byte ^= mask);
    }
}

fn gone_record(id: FileId) -> Vec<u8> {
    [&[GONE][..], id.to_string().as_bytes()].concat()
}

fn settled_record(before: Seq) -> Vec<u8> {
    [&[SETTLED][..], &before.to_le_bytes()].concat()
}

fn parse(payload: &[u8]) -> Option<Said> {
    let (kind, rest) = payload.split_first()?;
    match *kind {
        FILE => {
            let (mask, rest) = rest.split_first_chunk::<MASK_BYTES>()?;
            let (len, rest) = rest.split_first_chunk::<4>()?;
            let mut contents = rest.to_vec();
            apply(mask, &mut contents);
            let len = u32::from_le_bytes(*len) as usize;
            let bytes = (len <= contents.len()).then(|| contents.split_off(len))?;
            Some(Said::File(Box::new(serde_json::from_slice(&contents).ok()?), bytes))
        }
        GONE => Some(Said::Gone(std::str::from_utf8(rest).ok()?.parse().ok()?)),
        SETTLED => Some(Said::Settled),
        _ => None,
    }
}

/// The first sequence that is not durable by itself, if that is what the record says.
fn settled(payload: &[u8]) -> Option<Seq> {
    let (SETTLED, before) = payload.split_first().map(|(kind, rest)| (*kind, rest))? else { return None };
    Some(Seq::from_le_bytes(before.try_into().ok()?))
}
