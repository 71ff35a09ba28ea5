//! Bytes in a directory, with fsync discipline.
//!
//! | below the root | what |
//! |---|---|
//! | `spool/<YYYYMMDD>/<id>` | accepted files, by the UTC day in their id; mode 0400, metadata in `user.forebay` |
//! | `tmp/<id>` | uploads that come in; emptied at every start |
//! | `partials/<partner>/<digest of the name>` | uploads that were cut, to resume; `user.forebay.partial` says how far |
//! | `aside/<id>`, `aside/<id>.reason` | spool files that cannot be trusted, and why; never deleted |
//!
//! # Guarantees
//! A commit writes to `tmp/`, sets the metadata and mode 0400, and renames into the spool without replacing anything.
//! Then the file is synced (contents, metadata and mode), with its directory, and the directory's parent when that day is
//! new; a sync of a directory serves all who came together. What is reported as a partial was synced before its length was recorded. After a failed sync
//! the store takes nothing more, for the page cache cannot be believed any more.
//!
//! # After a crash
//! [`LocalStorage::open`] empties `tmp/`, syncs every directory, and takes over what the version before had in `intake/`;
//! nothing else is touched. A file in the spool whose commit was never answered may be there, whole or not:
//! `inspect` syncs it and says which. Partials end at their recorded length, whatever else was written.

mod dirs;
mod partial;
mod place;
mod poison;
#[cfg(test)]
mod power_tests;
#[cfg(test)]
mod rest_tests;
mod root;
mod rounds;
mod spool;
mod takeover;
#[cfg(test)]
mod tests;
mod upload;

use std::{ops::Range, path::Path, sync::Arc};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use self::{root::Root, upload::LocalUpload};
use crate::{
    Durability, FileId, FileMeta, NewFile, PartialInfo, Result, Retract, Space, SpoolItem, SpoolMaintenance, Storage,
    StorageError, Upload, Verified, disk::Disk,
};

/// How much a [`LocalStorage`] may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Bytes of the disk that uploads leave free, so that the journal can go on.
    /// Copies for processors leave half of this. See [`Storage::space`] for all rules that use it.
    pub reserve_bytes: u64,
    /// Inodes of the disk that uploads leave free; an eighth of all there are at most.
    pub reserve_inodes: u64,
    /// Files of up to so many bytes need no place of their own.
    ///
    /// The true ceiling is lower of two: this, and what an upload holds in memory before it is
    /// written (`SMALL_BYTES`, 256 KiB; `LITTLE_BYTES`, 32 KiB, while all uploads together hold
    /// much). What is written already, or continues a partial, is never inline. A record with its
    /// file must also fit into the journal (a sixteenth of its `recent_bytes`).
    pub inline_bytes: u64,
}

impl Default for Options {
    fn default() -> Self {
        Self { reserve_bytes: 256 << 20, reserve_inodes: 1_024, inline_bytes: 64 << 10 }
    }
}

/// Files in a directory of one machine. Cheap to clone. Works within a Tokio runtime.
#[derive(Clone, Debug)]
pub struct LocalStorage {
    root: Arc<Root>,
}

impl LocalStorage {
    /// Opens the store in `root`, which must exist. One process may have it open; its lock is the caller's. Blocks.
    /// Everything that the last run left is synced before this returns: see `root`.
    ///
    /// # Errors
    /// [`StorageError::Unsupported`] when the file system keeps no extended attributes.
    pub fn open(disk: Arc<dyn Disk>, root: &Path, options: Options) -> Result<Self> {
        Ok(Self { root: Arc::new(Root::open(disk, root, options)?) })
    }

    async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Arc<Root>) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let root = self.root.clone();
        blocking(move || work(&root)).await
    }
}

/// Runs what blocks where it may. It goes on when the future is dropped.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    joined(tokio::task::spawn_blocking(work).await)
}

/// The outcome of a task; that it panicked or was stopped is an error like others.
fn joined<T>(outcome: Result<Result<T>, tokio::task::JoinError>) -> Result<T> {
    outcome.unwrap_or_else(|error| Err(StorageError::io("storage work did not end", std::io::Error::other(error))))
}

#[async_trait]
impl Storage for LocalStorage {
    async fn begin(&self, file: NewFile) -> Result<Box<dyn Upload>> {
        self.root.admits(&file)?;
        Ok(Box::new(LocalUpload::fresh(self.root.clone(), file)?))
    }

    async fn resume(&self, file: NewFile, at: u64) -> Result<Box<dyn Upload>> {
        self.root.admits(&file)?;
        self.blocking(move |root| partial::resume(root, file, at)).await
    }

    async fn partial(&self, partner: &str, name: &str) -> Result<Option<PartialInfo>> {
        let key = partial::Key::new(&self.root, partner, name)?;
        self.blocking(move |root| partial::info(root, &key)).await
    }

    async fn sweep_partials(&self, older_than: DateTime<Utc>) -> Result<usize> {
        self.blocking(move |root| partial::sweep(root, older_than)).await
    }

    async fn partial_count(&self, partner: &str) -> Result<u64> {
        let key = partial::Key::new(&self.root, partner, "")?;
        self.blocking(move |root| partial::count(root, &key)).await
    }

    async fn forget_partials(&self, partner: &str) -> Result<usize> {
        let key = partial::Key::new(&self.root, partner, "")?;
        self.blocking(move |root| partial::forget(root, &key)).await
    }

    async fn partial_bytes(&self, partner: &str) -> Result<u64> {
        let key = partial::Key::new(&self.root, partner, "")?;
        self.blocking(move |root| partial::bytes(root, &key)).await
    }

    fn may_have_partials(&self, partner: &str) -> bool {
        self.root.have_partials.read().contains(partner)
    }

    async fn drop_partial(&self, partner: &str, name: &str) -> Result<()> {
        let key = partial::Key::new(&self.root, partner, name)?;
        self.blocking(move |root| partial::drop_one(root, &key)).await
    }

    async fn give_up_partials(&self, partner: &str, bytes: u64, but: &str) -> Result<u64> {
        let but = partial::Key::new(&self.root, partner, but)?;
        self.blocking(move |root| partial::give_up(root, bytes, &but)).await
    }

    async fn retract(&self, id: FileId, keep: Retract) -> Result<()> {
        self.blocking(move |root| match keep {
            Retract::ToPartial => partial::from_spool(root, id),
            Retract::Drop => root.drop_file(id),
        })
        .await
    }

    async fn read(&self, id: FileId, range: Range<u64>) -> Result<Bytes> {
        self.blocking(move |root| {
            let (file, length) = (root.open_spooled(id)?, range.end.saturating_sub(range.start));
            let mut buffer = vec![0; usize::try_from(length).unwrap_or(usize::MAX)];
            let mut got = 0;
            while got < buffer.len() {
                let read = file.read_at(&mut buffer[got..], range.start + got as u64);
                match read.map_err(|error| StorageError::io(format!("cannot read file {id}"), error))? {
                    0 => break,
                    more => got += more,
                }
            }
            buffer.truncate(got);
            Ok(buffer.into())
        })
        .await
    }

    fn read_whole(&self, id: FileId, take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> Result<Verified> {
        place::read(&self.root, id, take)
    }

    fn materialize(&self, id: FileId, destination: &Path, durability: Durability) -> Result<Verified> {
        place::copy(&self.root, id, destination, durability)
    }

    async fn remove(&self, ids: &[FileId]) -> Result<()> {
        let ids = ids.to_vec();
        self.blocking(move |root| root.remove(&ids)).await
    }

    async fn close(&self) -> Result<()> {
        self.blocking(|root| root.close()).await
    }

    fn admits_copy(&self, destination: &Path, bytes: u64) -> Result<()> {
        place::admits(&self.root, destination, bytes)
    }

    fn space(&self) -> Result<Space> {
        self.root.space()
    }

    fn poisoned(&self) -> Option<String> {
        self.root.poisoned()
    }
}

#[async_trait]
impl SpoolMaintenance for LocalStorage {
    async fn ids(&self) -> Result<Vec<FileId>> {
        self.blocking(|root| root.ids()).await
    }

    async fn meta(&self, id: FileId) -> Result<FileMeta> {
        self.blocking(move |root| Ok(root.described(id)?.1)).await
    }

    async fn inspect(&self, id: FileId) -> Result<SpoolItem> {
        self.blocking(move |root| root.inspect(id)).await
    }

    async fn examine(&self, id: FileId) -> Result<SpoolItem> {
        self.blocking(move |root| root.examine(id)).await
    }

    async fn set_aside(&self, id: FileId, reason: &str) -> Result<()> {
        let reason = reason.to_owned();
        self.blocking(move |root| root.set_aside(id, &reason)).await
    }
}
