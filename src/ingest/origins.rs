//! Files that are copies of others on this machine: what is known of those, so that each is taken once.

use std::sync::Arc;

use forebay_queue::KnownOrigin;
use forebay_storage::{FileId, Origin};

use super::{Ingest, Intake, Refusal, SessionInfo, intake::Source};

impl Ingest {
    /// Begins a copy. Its acceptance and what it was copied from become one record, so that after a crash it is known
    /// to have been taken. Nothing is kept of a copy that is cut: its original is there.
    ///
    /// # Errors
    /// As [`Ingest::begin`].
    pub async fn begin_copy(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        origin: Origin,
    ) -> Result<Intake, Refusal> {
        let size = origin.size_bytes;
        let begun = self.begin_from(session, path, Some(size), Source::Copy(origin)).await;
        self.begun(session, begun)
    }

    /// Everything that was copied and whose original may still be there.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn origins(&self) -> Result<Vec<KnownOrigin>, Refusal> {
        Ok(self.queue.origins().await?)
    }

    /// The originals of these files are gone for good: their directories are synced.
    ///
    /// # Errors
    /// When the journal cannot take it.
    pub async fn forget_origins(&self, files: &[FileId]) -> Result<(), Refusal> {
        Ok(self.queue.forget_origins(files, self.clock.now()).await?)
    }
}
