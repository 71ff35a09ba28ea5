//! The bytes of accepted files, whoever holds them: the queue those of small files, storage those of others.

use std::{io, ops::Range, path::Path, sync::Arc};

use bytes::Bytes;
use forebay_queue::{Entry, QueueError, QueueStore};
use forebay_storage::{Durability, FileId, Result, Storage, StorageError, Verified};

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
}

impl Contents {
    /// Those that these two hold.
    #[must_use]
    pub fn new(storage: Arc<dyn Storage>, queue: Arc<dyn QueueStore>) -> Self {
        Self { storage, queue }
    }

    /// Opens a file of the queue. Cancel safe.
    ///
    /// # Errors
    /// [`StorageError::NotFound`]; [`StorageError::Damaged`] when a small file is not what was accepted. Of others only
    /// reading tells.
    pub async fn open(&self, id: FileId) -> Result<OpenContent> {
        let entry = self.queue.get(id).await.map_err(of_queue)?;
        self.open_entry(&entry).await
    }

    async fn open_entry(&self, entry: &Entry) -> Result<OpenContent> {
        let place = match self.queue.content(entry).await.map_err(of_queue)? {
            Some(bytes) => Place::Inline(bytes),
            None => Place::Kept(Arc::clone(&self.storage)),
        };
        Ok(OpenContent { id: entry.id, place })
    }

    /// Puts a copy of a file at `destination`, which must not exist. Verified: on an error nothing is left there. Blocks.
    ///
    /// # Errors
    /// As [`Storage::materialize`].
    pub fn materialize(&self, entry: &Entry, destination: &Path, durability: Durability) -> Result<Verified> {
        let id = entry.id;
        match self.queue.content_blocking(entry).map_err(of_queue)? {
            None => self.storage.materialize(id, destination, durability),
            // Its digest was found right just now.
            Some(bytes) => self.storage.admits_copy(destination).map(|()| bytes).and_then(|bytes| {
                write(&bytes, destination, durability)
                    .map(|()| Verified { size_bytes: entry.size_bytes, sha256: entry.sha256 })
                    .map_err(|e| StorageError::io(format!("cannot place file {id} at {}", destination.display()), e))
            }),
        }
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
        }
    }
}

/// Makes a new file of bytes that were found to be right.
fn write(bytes: &[u8], destination: &Path, durability: Durability) -> io::Result<()> {
    use std::{fs::OpenOptions, io::Write, os::unix::fs::OpenOptionsExt};
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(destination)?;
    let written = file.write_all(bytes).and_then(|()| match durability {
        Durability::Synced => file.sync_all(),
        Durability::Unsynced => Ok(()),
    });
    written.inspect_err(|_| {
        if let Err(error) = std::fs::remove_file(destination) {
            tracing::warn!(path = %destination.display(), %error, "cannot remove a copy that failed");
        }
    })
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
