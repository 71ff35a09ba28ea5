//! Bytes on their way in.
//!
//! A small upload stays in memory and costs nothing on the disk before its commit. A larger one is
//! written in batches: while one batch is hashed and written, each by a blocking task, the next one
//! comes in. No thread waits for a slow client, and an upload holds two batches in memory at most.
//! When all uploads together hold much, each holds little.
//!
//! # Guarantees
//! - A dropped upload leaves nothing: its name is unlinked, by the last task that works on it.
//! - After a failed write or hash nothing more is taken, and no commit succeeds.
//! - Sizes are bounded by constants here, whatever a caller's chunks are.
//!
//! An upload ends in one of three ways: [`Sealed::into_inline`] (its bytes never touch the disk),
//! [`Sealed::commit`] (into the spool, see `spool`), or as a partial (see `partial`).

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
};

use async_trait::async_trait;
use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use tokio::task::{JoinHandle, spawn_blocking};

use super::{
    blocking, joined,
    partial::{self, Claim},
    root::Root,
};
use crate::{
    FileMeta, NewFile, Rest, Result, Sealed, StorageError, Upload,
    digest::{Digests, Hasher},
    disk::DiskFile,
};

/// Up to this many bytes an upload stays in memory. More than this can never be inline, whatever
/// `Options::inline_bytes` says.
const SMALL_BYTES: usize = 256 << 10;
/// The bytes that are hashed and written at once.
const BATCH_BYTES: usize = 1 << 20;
/// When all uploads together hold more than this in memory, each writes at [`LITTLE_BYTES`]
/// already, and files that would have been inline are written to `tmp/` instead.
const CROWDED_BYTES: usize = 128 << 20;
/// The bytes that an upload may hold while memory is crowded.
const LITTLE_BYTES: usize = 32 << 10;
/// Chunks below this are gathered, so that they do not hold on to the large buffers they may be cut from.
const GATHER_BYTES: usize = 64 << 10;
/// How often the disk is asked for its room, and told to begin writing back.
const STEP_BYTES: u64 = 8 << 20;

/// A file under construction. Unless it is kept, its name goes away with the last of those who work on it.
#[derive(Debug)]
pub(super) struct Working {
    root: Arc<Root>,
    /// Its name, unless it is a partial.
    path: PathBuf,
    file: OnceLock<Arc<dyn DiskFile>>,
    kept: AtomicBool,
    /// Of an upload that goes on with a partial, or has become one.
    claim: OnceLock<Claim>,
}

impl Working {
    fn fresh(root: Arc<Root>, path: PathBuf) -> Self {
        Self { root, path, file: OnceLock::new(), kept: AtomicBool::new(false), claim: OnceLock::new() }
    }

    /// Goes on with the partial that `claim` is for.
    pub(super) fn partial(root: Arc<Root>, file: Arc<dyn DiskFile>, claim: Claim) -> Self {
        let path = claim.path().to_path_buf();
        Self { root, path, file: file.into(), kept: AtomicBool::new(false), claim: claim.into() }
    }

    pub(super) fn is_partial(&self) -> bool {
        self.claim.get().is_some()
    }

    /// It was renamed to be the partial that `claim` is for.
    pub(super) fn became_partial(&self, claim: Claim) {
        // Asked for once: whoever has a claim keeps it.
        let _ = self.claim.set(claim);
    }

    /// Returns where it is now: an upload that has become a partial is at the partial's path.
    pub(super) fn path(&self) -> &Path {
        self.claim.get().map_or(&self.path, Claim::path)
    }

    /// Called when the name is the spool's or a partial's: dropping the upload must not unlink it.
    pub(super) fn keep(&self) {
        self.kept.store(true, Ordering::Release);
    }

    pub(super) fn file(&self) -> Result<&Arc<dyn DiskFile>> {
        if let Some(file) = self.file.get() {
            return Ok(file);
        }
        let file = self.root.disk.create_new(self.path());
        let file = file.map_err(|e| StorageError::io(format!("cannot create {}", self.path().display()), e))?;
        Ok(self.file.get_or_init(|| file))
    }

    /// Writes pieces at an offset. Looks at the room on the disk each 8 MiB, so that a large upload
    /// ends before the reserve is used up.
    fn write(&self, mut at: u64, pieces: &[Bytes]) -> Result<()> {
        let file = self.file()?;
        for piece in pieces {
            file.write_at(piece, at)
                .map_err(|e| StorageError::io(format!("cannot write {}", self.path().display()), e))?;
            let step = (at / STEP_BYTES) * STEP_BYTES;
            at += piece.len() as u64;
            if at >= step + STEP_BYTES {
                file.write_back(step, STEP_BYTES);
                self.root.has_room()?;
            }
        }
        Ok(())
    }

    fn remove(&self) -> Result<()> {
        if self.file.get().is_none() || self.kept.swap(true, Ordering::AcqRel) {
            return Ok(());
        }
        let outcome = self.root.disk.unlink(self.path());
        outcome.map_err(|e| StorageError::io(format!("cannot remove {}", self.path().display()), e))
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        if self.file.get().is_none() || self.kept.swap(true, Ordering::AcqRel) {
            return;
        }
        // Giving back the blocks of a large file takes its time. What is missed is swept at the next start.
        let (disk, path, claim) = (self.root.disk.clone(), self.path().to_owned(), self.claim.take());
        let unlink = move || {
            let _ = disk.unlink(&path);
            drop(claim);
        };
        match tokio::runtime::Handle::try_current() {
            Ok(runtime) => drop(runtime.spawn_blocking(unlink)),
            Err(_) => unlink(),
        }
    }
}

/// Counts what an upload has in memory, until it is written or dropped.
struct Held {
    root: Arc<Root>,
    bytes: usize,
}

impl Held {
    fn nothing(root: Arc<Root>) -> Self {
        Self { root, bytes: 0 }
    }

    fn add(&mut self, bytes: usize) {
        self.bytes += bytes;
        self.root.in_memory.fetch_add(bytes, Ordering::Relaxed);
    }

    fn take(&mut self) -> Self {
        Self { root: self.root.clone(), bytes: std::mem::take(&mut self.bytes) }
    }

    fn is_crowded(&self) -> bool {
        self.root.in_memory.load(Ordering::Relaxed) > CROWDED_BYTES
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.root.in_memory.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

/// An upload into a local store.
pub(super) struct LocalUpload {
    root: Arc<Root>,
    new: NewFile,
    len: u64,
    pending: Batch,
    held: Held,
    /// Bytes that were given to writing tasks, with those that were resumed.
    written: u64,
    /// Over the same bytes; away while a task hashes.
    hasher: Hasher,
    hashing: Option<JoinHandle<Result<Hasher>>>,
    writing: Option<JoinHandle<Result<()>>>,
    failed: Option<Failed>,
    working: Arc<Working>,
}

/// How an earlier batch has failed. The error itself was returned once; later calls get one of the
/// same kind.
#[derive(Clone, Copy)]
enum Failed {
    Full,
    Otherwise,
}

impl LocalUpload {
    pub(super) fn fresh(root: Arc<Root>, new: NewFile) -> Result<Self> {
        let path = root.tmp.join(new.id.to_string());
        let working = Working::fresh(root.clone(), path);
        let hasher = hasher(&new)?;
        Ok(Self::with(root, new, 0, hasher, working))
    }

    /// An upload that has `len` bytes already, over which `hasher` went.
    pub(super) fn with(root: Arc<Root>, new: NewFile, len: u64, hasher: Hasher, working: Working) -> Self {
        Self {
            held: Held::nothing(root.clone()),
            root,
            new,
            len,
            pending: Batch::default(),
            written: len,
            hasher,
            hashing: None,
            writing: None,
            failed: None,
            working: Arc::new(working),
        }
    }

    /// Refuses to go on after a failure: bytes are missing, and the digest is not that of the file.
    fn usable(&self) -> Result<()> {
        match self.failed {
            None => self.root.sound(),
            Some(Failed::Full) => Err(StorageError::Full),
            Some(Failed::Otherwise) => {
                let doing = format!("cannot go on with upload {}", self.new.id);
                Err(StorageError::Io { doing, source: std::io::Error::other("it failed before") })
            }
        }
    }

    /// Waits for the batch that is being worked on. Cancel safe.
    /// Both tasks are awaited by reference: a dropped wait leaves them for the next.
    async fn idle(&mut self) -> Result<()> {
        let mut outcome = Ok(());
        // Each result is kept before the next wait, or a caller that gives up in between would lose it.
        if let Some(task) = &mut self.hashing {
            let hashed = joined(task.await);
            self.hashing = None;
            match hashed {
                Ok(hasher) => self.hasher = hasher,
                Err(error) => {
                    self.failed = Some(Failed::Otherwise);
                    outcome = Err(error);
                }
            }
        }
        if let Some(task) = &mut self.writing {
            let written = joined(task.await);
            self.writing = None;
            if let Err(error) = written {
                let full = matches!(error, StorageError::Full);
                self.failed = Some(if full { Failed::Full } else { Failed::Otherwise });
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Hands the pending batch to two blocking tasks (hash, write), once those before are done.
    /// Bounds memory: while they work, only one more batch is gathered.
    async fn turn(&mut self) -> Result<()> {
        self.idle().await?;
        let pieces: Arc<[Bytes]> = self.pending.take().into();
        let (at, working, held) = (self.written, self.working.clone(), self.held.take());
        // Before the tasks begin: from now on these bytes are the tasks', also if this upload is
        // dropped.
        self.written = self.len;
        let (to_hash, mut hasher) = (pieces.clone(), std::mem::take(&mut self.hasher));
        self.hashing = Some(spawn_blocking(move || {
            to_hash.iter().for_each(|piece| hasher.update(piece));
            Ok(hasher)
        }));
        self.writing = Some(spawn_blocking(move || {
            let written = working.write(at, &pieces);
            drop((pieces, held));
            written
        }));
        Ok(())
    }

    /// Waits for the last tasks, and returns what is left for the one blocking call that ends the
    /// upload.
    async fn last(mut self) -> Result<Last> {
        self.usable()?;
        self.idle().await?;
        let Self { root, new, len, mut pending, held, written, hasher, working, .. } = self;
        Ok(Last { root, new, len, pieces: pending.take(), _held: held, written, hasher, working })
    }
}

#[async_trait]
impl Upload for LocalUpload {
    fn len(&self) -> u64 {
        self.len
    }

    async fn write(&mut self, chunk: Bytes) -> Result<()> {
        self.usable()?;
        self.len += chunk.len() as u64;
        self.held.add(chunk.len());
        self.pending.push(chunk);
        let most = match (self.held.is_crowded(), self.written) {
            (true, _) => LITTLE_BYTES,
            (false, 0) => SMALL_BYTES,
            (false, _) => BATCH_BYTES,
        };
        if self.pending.len > most { self.turn().await } else { Ok(()) }
    }

    async fn seal(self: Box<Self>) -> Result<Box<dyn Sealed>> {
        Ok(Box::new(self.last().await?))
    }

    async fn commit(self: Box<Self>, received_at: DateTime<Utc>) -> Result<FileMeta> {
        let sealed = self.seal().await?;
        blocking(move || sealed.commit(received_at)).await
    }

    async fn sync(&mut self) -> Result<u64> {
        self.usable()?;
        if self.pending.len > 0 {
            self.turn().await?;
        }
        self.idle().await?;
        let (root, new, working, len) = (self.root.clone(), self.new.clone(), self.working.clone(), self.len);
        if len > 0 {
            blocking(move || partial::sync(&root, &new, &working, len)).await?;
        }
        Ok(len)
    }

    async fn keep_partial(self: Box<Self>) -> Result<u64> {
        let last = self.last().await?;
        blocking(move || last.keep_partial()).await
    }

    async fn abort(mut self: Box<Self>) -> Result<()> {
        // How its last writes went is of no interest any more.
        let _ = self.idle().await;
        let working = self.working.clone();
        blocking(move || working.remove()).await
    }
}

/// An upload whose last bytes are in memory and that no other task works on.
struct Last {
    root: Arc<Root>,
    new: NewFile,
    len: u64,
    pieces: Vec<Bytes>,
    _held: Held,
    written: u64,
    hasher: Hasher,
    working: Arc<Working>,
}

impl Sealed for Last {
    fn into_inline(mut self: Box<Self>, received_at: DateTime<Utc>) -> Result<(FileMeta, Bytes), Box<dyn Sealed>> {
        // Bytes of a partial are on the disk, so the rest of one is never inline.
        let is_in_memory = self.written == 0 && !self.working.is_partial();
        if !is_in_memory || self.len > self.root.options.inline_bytes {
            return Err(self);
        }
        let bytes = match &self.pieces[..] {
            [piece] => piece.clone(),
            pieces => pieces.concat().into(),
        };
        self.hasher.update(&bytes);
        let Self { new, len, hasher, .. } = *self;
        Ok((described(new, len, hasher, received_at), bytes))
    }

    fn commit(mut self: Box<Self>, received_at: DateTime<Utc>) -> Result<FileMeta> {
        self.root.sound()?;
        for piece in &self.pieces {
            self.hasher.update(piece);
        }
        // Before the write: what would not leave the reserve must not be written.
        self.root.has_room()?;
        self.working.write(self.written, &self.pieces)?;
        let file = self.working.file()?;
        if self.working.is_partial() {
            // Both attributes may not fit beside one inode, and it is no partial any more.
            let outcome = file.remove_xattr(partial::PARTIAL);
            outcome.map_err(|e| StorageError::io(format!("cannot finish the partial of {}", self.new.id), e))?;
        }
        let meta = described(self.new, self.len, self.hasher, received_at);
        self.root.admit(&**file, self.working.path(), &meta)?;
        // After `admit`: from here the name is the spool's.
        self.working.keep();
        Ok(meta)
    }
}

/// The metadata of an upload, with the digests of all its bytes.
fn described(new: NewFile, size_bytes: u64, hasher: Hasher, received_at: DateTime<Utc>) -> FileMeta {
    let Digests { own, whole } = hasher.finish();
    let rest = new.goes_on.zip(whole).map(|(goes_on, (whole_sha256, digest))| Rest {
        of: goes_on.from,
        at: goes_on.at,
        whole_sha256,
        digest,
    });
    FileMeta {
        version: FileMeta::version_of(rest.as_ref()),
        id: new.id,
        partner: new.partner,
        name: new.name,
        door: new.door,
        size_bytes,
        sha256: own,
        received_at,
        origin: new.origin,
        rest: rest.map(Box::new),
    }
}

/// A hasher for the bytes of an upload that has none yet.
///
/// # Errors
/// When what it goes on from has no state that is one.
pub(super) fn hasher(new: &NewFile) -> Result<Hasher> {
    let Some(goes_on) = &new.goes_on else { return Ok(Hasher::default()) };
    let damaged = || StorageError::Damaged { id: goes_on.from, what: "the state of its digest is none".to_owned() };
    goes_on.digest.hasher().ok_or_else(damaged).map(|whole| Hasher::new(Some(whole)))
}

impl Last {
    fn keep_partial(self) -> Result<u64> {
        if self.len == 0 {
            return self.working.remove().map(|()| 0);
        }
        self.working.write(self.written, &self.pieces)?;
        partial::keep(&self.root, &self.new, &self.working, self.len)?;
        Ok(self.len)
    }
}

/// Bytes that wait to be hashed and written. Small chunks are copied together, large ones kept as
/// they are.
#[derive(Default)]
struct Batch {
    pieces: Vec<Bytes>,
    gathered: BytesMut,
    len: usize,
}

impl Batch {
    fn push(&mut self, chunk: Bytes) {
        self.len += chunk.len();
        if chunk.len() < GATHER_BYTES {
            self.gathered.extend_from_slice(&chunk);
        } else {
            self.seal();
            self.pieces.push(chunk);
        }
    }

    fn seal(&mut self) {
        if !self.gathered.is_empty() {
            self.pieces.push(self.gathered.split().freeze());
        }
    }

    fn take(&mut self) -> Vec<Bytes> {
        self.seal();
        self.len = 0;
        self.gathered = BytesMut::new();
        std::mem::take(&mut self.pieces)
    }
}
