//! The bytes of accepted files, whoever holds them: the queue those of small files, storage those of others.
//!
//! A file that continues another has its own bytes alone; those before them are read where they are. What is read in
//! memory of such a file is one entry of a list for each stretch, and one piece of one of them.

use std::{fs::File, io, ops::Range, path::Path, sync::Arc};

use bytes::{Bytes, BytesMut};
use forebay_queue::{Entry, Extent, QueueError, QueueStore};
use forebay_storage::{Durability, FileId, Result, Sha256, Storage, StorageError, Verified};
use sha2::Digest;
use tokio::runtime::Handle;

/// Reads accepted files. Cheap to clone.
#[derive(Clone)]
pub struct Contents {
    storage: Arc<dyn Storage>,
    queue: Arc<dyn QueueStore>,
}

/// An accepted file that is open for reading. Cheap to clone.
#[derive(Clone)]
pub struct OpenContent {
    id: FileId,
    place: Place,
}

/// Where its bytes are.
#[derive(Clone)]
enum Place {
    Inline(Bytes),
    Kept(Arc<dyn Storage>),
    Extents(Arc<Extents>),
}

/// A file that consists of several stretches.
struct Extents {
    holders: Contents,
    /// In order, each where the one before ends.
    list: Vec<Extent>,
}

/// The room of a copy is looked at for each piece of so many bytes.
const LOOK_BYTES: u64 = 4 << 20;

/// What a reader takes at a time, in bytes.
const PIECE_BYTES: u64 = 1 << 20;

impl Contents {
    /// Those that these two hold.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, queue: Arc<dyn QueueStore>) -> Self {
        Self { storage, queue }
    }

    /// Opens a file of the queue. Cancel safe.
    /// A small file is read and checked here, at once. It then stays readable even if it is purged.
    ///
    /// # Errors
    /// [`StorageError::NotFound`]; [`StorageError::Damaged`] when a small file is not what was accepted. Of others only
    /// reading tells.
    pub async fn open(&self, id: FileId) -> Result<OpenContent> {
        let entry = self.queue.get(id).await.map_err(of_queue)?;
        self.open_entry(&entry).await
    }

    async fn open_entry(&self, entry: &Entry) -> Result<OpenContent> {
        if entry.continues.is_some() {
            let list = self.queue.extents(entry).await.map_err(of_queue)?;
            let place = Place::Extents(Arc::new(Extents { holders: self.clone(), list }));
            return Ok(OpenContent { id: entry.id, place });
        }
        let place = match self.queue.content(&entry.extent()).await.map_err(of_queue)? {
            Some(bytes) => Place::Inline(bytes),
            None => Place::Kept(Arc::clone(&self.storage)),
        };
        Ok(OpenContent { id: entry.id, place })
    }

    /// Puts a copy of a file at `destination`, which must not exist. Verified: on an error nothing is left there. Blocks; on
    /// a thread of a Tokio runtime that may.
    ///
    /// # Errors
    /// As [`Storage::materialize`].
    pub fn materialize(&self, entry: &Entry, destination: &Path, durability: Durability) -> Result<Verified> {
        let id = entry.id;
        if entry.continues.is_some() {
            return self.materialize_extents(entry, destination, durability);
        }
        match self.queue.content_blocking(&entry.extent()).map_err(of_queue)? {
            None => self.storage.materialize(id, destination, durability),
            // Its digest was found right just now.
            Some(bytes) => self.storage.admits_copy(destination, entry.size_bytes).map(|()| bytes).and_then(|bytes| {
                write(&bytes, destination, durability)
                    .map(|()| Verified { size_bytes: entry.size_bytes, sha256: entry.sha256 })
                    .map_err(|e| StorageError::io(format!("cannot place file {id} at {}", destination.display()), e))
            }),
        }
    }

    /// Makes a copy of a file that consists of several stretches. Each is checked on the way, and
    /// so is the whole.
    fn materialize_extents(&self, entry: &Entry, destination: &Path, durability: Durability) -> Result<Verified> {
        let list = Handle::current().block_on(self.queue.extents(entry)).map_err(of_queue)?;
        let placing = |e| StorageError::io(format!("cannot place file {} at {}", entry.id, destination.display()), e);
        let mut file = create(destination).map_err(placing)?;
        let copied = self.copy_extents(entry, &list, &mut file, destination).and_then(|verified| {
            end(&file, durability).map_err(placing)?;
            Ok(verified)
        });
        copied.inspect_err(|_| remove(destination))
    }

    /// Writes all stretches behind each other. Each is what was accepted, and so is the whole.
    fn copy_extents(&self, entry: &Entry, list: &[Extent], file: &mut File, at: &Path) -> Result<Verified> {
        let (mut whole, mut size_bytes) = (sha2::Sha256::new(), 0);
        let mut take = |bytes: &[u8]| {
            whole.update(bytes);
            // Others copy at the same time: the room is looked at again and again, not once.
            if size_bytes % LOOK_BYTES < bytes.len() as u64 {
                self.storage.admits_copy(at, LOOK_BYTES.min(entry.size_bytes.saturating_sub(size_bytes)))?;
            }
            size_bytes += bytes.len() as u64;
            io::Write::write_all(file, bytes)
        };
        for extent in list {
            self.copy_extent(extent, &mut take)?;
        }
        let verified = Verified { size_bytes, sha256: Sha256(whole.finalize().into()) };
        match verified == (Verified { size_bytes: entry.size_bytes, sha256: entry.sha256 }) {
            true => Ok(verified),
            false => Err(StorageError::Damaged {
                id: entry.id,
                what: format!("its parts make {size_bytes} bytes with the sha-256 {}", verified.sha256),
            }),
        }
    }

    fn copy_extent(&self, extent: &Extent, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<()> {
        if let Some(bytes) = self.queue.content_blocking(extent).map_err(of_queue)? {
            return take(&bytes).map_err(|e| StorageError::io(format!("cannot copy file {}", extent.id), e));
        }
        let there = self.storage.read_whole(extent.id, take).map_err(of_part)?;
        match there == (Verified { size_bytes: extent.size_bytes, sha256: extent.sha256 }) {
            true => Ok(()),
            false => Err(not_as_accepted(extent)),
        }
    }
}

impl Extents {
    /// The bytes of a range, short at the end of the file and nowhere else.
    async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        let first = self.list.partition_point(|extent| extent.at + extent.size_bytes <= range.start);
        let mut read = BytesMut::new();
        for extent in self.list.iter().skip(first).take_while(|extent| extent.at < range.end) {
            let own = range.start.saturating_sub(extent.at)..(range.end - extent.at).min(extent.size_bytes);
            if own.is_empty() {
                continue;
            }
            let piece = self.read_one(extent, own).await?;
            // Most reads lie within one.
            if read.is_empty() && extent.at + extent.size_bytes >= range.end {
                return Ok(piece);
            }
            read.extend_from_slice(&piece);
        }
        Ok(read.freeze())
    }

    /// Reads a part of one stretch.
    async fn read_one(&self, extent: &Extent, own: Range<u64>) -> Result<Bytes> {
        let (wanted, Contents { queue, storage }) = (own.end - own.start, &self.holders);
        let bytes = match queue.content(extent).await.map_err(of_queue)? {
            Some(bytes) => slice(&bytes, own),
            None => storage.read(extent.id, own).await.map_err(of_part)?,
        };
        // A file is never shorter than it was accepted, only damaged.
        if bytes.len() as u64 == wanted { Ok(bytes) } else { Err(not_as_accepted(extent)) }
    }
}

fn not_as_accepted(extent: &Extent) -> StorageError {
    StorageError::Damaged { id: extent.id, what: "it is not what was accepted".to_owned() }
}

/// A part that is missing is damage of the whole.
fn of_part(error: StorageError) -> StorageError {
    match error {
        StorageError::NotFound(id) => StorageError::Damaged { id, what: "its bytes are missing".to_owned() },
        other => other,
    }
}

impl OpenContent {
    /// Whose bytes they are.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.id
    }

    /// A range of the bytes, short at the end. Cancel safe.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(&self, range: Range<u64>) -> Result<Bytes> {
        match &self.place {
            Place::Kept(storage) => storage.read(self.id, range).await,
            Place::Inline(bytes) => Ok(slice(bytes, range)),
            Place::Extents(extents) => extents.read(range).await,
        }
    }
}

/// Reads a file from its first byte on, piece by piece. Blocks; on a thread of a Tokio runtime that may.
pub struct ContentReader {
    content: OpenContent,
    runtime: Handle,
    at: u64,
    piece: Bytes,
}

impl OpenContent {
    /// A reader of the whole file.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    #[must_use]
    pub fn reader(&self) -> ContentReader {
        ContentReader { content: self.clone(), runtime: Handle::current(), at: 0, piece: Bytes::new() }
    }
}

impl io::Read for ContentReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.piece.is_empty() {
            let read = self.runtime.block_on(self.content.read(self.at..self.at + PIECE_BYTES));
            self.piece = read.map_err(io::Error::other)?;
            self.at += self.piece.len() as u64;
        }
        let count = self.piece.len().min(buffer.len());
        buffer[..count].copy_from_slice(&self.piece.split_to(count));
        Ok(count)
    }
}

/// Makes a new file of bytes that were found to be right.
fn write(bytes: &[u8], destination: &Path, durability: Durability) -> io::Result<()> {
    let mut file = create(destination)?;
    let written = io::Write::write_all(&mut file, bytes).and_then(|()| end(&file, durability));
    written.inspect_err(|_| remove(destination))
}

fn create(destination: &Path) -> io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt;
    File::options().write(true).create_new(true).mode(0o600).open(destination)
}

fn end(file: &File, durability: Durability) -> io::Result<()> {
    match durability {
        Durability::Synced => file.sync_all(),
        Durability::Unsynced => Ok(()),
    }
}

/// Removes a copy that failed. If that fails too it is logged: the caller's error says more.
fn remove(destination: &Path) {
    if let Err(error) = std::fs::remove_file(destination) {
        tracing::warn!(path = %destination.display(), %error, "cannot remove a copy that failed");
    }
}

/// The bytes that a range covers, short at the end.
pub(crate) fn slice(bytes: &Bytes, range: Range<u64>) -> Bytes {
    let within = |at: u64| usize::try_from(at).unwrap_or(usize::MAX).min(bytes.len());
    bytes.slice(within(range.start)..within(range.end.max(range.start)))
}

fn of_queue(error: QueueError) -> StorageError {
    match error {
        QueueError::NotFound(id) => StorageError::NotFound(id),
        QueueError::Damaged { id, what } => StorageError::Damaged { id, what },
        QueueError::Full => StorageError::Full,
        QueueError::Poisoned(why) => StorageError::Poisoned(why),
        QueueError::Io { doing, source } => StorageError::Io { doing, source },
        other => StorageError::Io { doing: "cannot read from the queue".to_owned(), source: io::Error::other(other) },
    }
}

impl std::fmt::Debug for Contents {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Contents").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for OpenContent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenContent").field("id", &self.id).finish_non_exhaustive()
    }
}
