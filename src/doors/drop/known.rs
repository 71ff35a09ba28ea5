//! The originals that were taken and may still be there. The journal has it all; this is what of it matters now.

use std::{
    collections::HashMap,
    fs::File,
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;
use sha2::{Digest, Sha256};
use tracing::warn;

use super::place;
use crate::{
    ingest::{FileId, Ingest, KnownOrigin, Origin, Refusal},
    telemetry::Repeated,
};

/// Bytes that are read at a time to compare a digest.
const PIECE_BYTES: usize = 256 << 10;

/// Lock order: `taken` and `by_inode` one after the other, never both.
#[derive(Debug, Default)]
pub(super) struct Known {
    taken: Mutex<HashMap<FileId, Arc<KnownOrigin>>>,
    by_inode: Mutex<HashMap<u64, Vec<FileId>>>,
    /// Originals that are out of their folder, by the directory that has to be synced before they are forgotten.
    gone: Mutex<HashMap<PathBuf, Vec<FileId>>>,
}

impl Known {
    /// All that the journal knows.
    pub(super) async fn load(ingest: &Arc<Ingest>) -> Result<Self, Refusal> {
        let known = Self::default();
        // Before any folder is looked at: what is not known here is taken as new.
        for one in ingest.origins().await? {
            known.put(one);
        }
        Ok(known)
    }

    pub(super) fn put(&self, one: KnownOrigin) {
        self.by_inode.lock().entry(one.origin.inode).or_default().push(one.id);
        self.taken.lock().insert(one.id, Arc::new(one));
    }

    pub(super) fn get(&self, id: FileId) -> Option<Arc<KnownOrigin>> {
        self.taken.lock().get(&id).cloned()
    }

    /// Those of one folder.
    pub(super) fn of(&self, folder: &str) -> Vec<Arc<KnownOrigin>> {
        self.taken.lock().values().filter(|one| one.origin.folder == folder).cloned().collect()
    }

    /// The file that was taken as this one, if it was. A device may have another number after a restart, and a change
    /// of owner or mode is no new file: where anything differs, the digest decides. It reads the file then.
    pub(super) fn recognize(&self, name: &str, file: &File, origin: &Origin) -> Option<Arc<KnownOrigin>> {
        let ids = self.by_inode.lock().get(&origin.inode)?.clone();
        ids.into_iter().filter_map(|id| self.get(id)).find(|one| {
            one.name == name
                // Cheap facts first: the digest reads the whole file.
                && (one.origin.size_bytes, one.origin.modified_ns) == (origin.size_bytes, origin.modified_ns)
                && digest(file, origin.size_bytes).is_ok_and(|found| found == one.sha256.0)
        })
    }

    /// It is out of `directory`, and will be forgotten when that is durable.
    pub(super) fn gone(&self, id: FileId, directory: &Path) {
        let Some(one) = self.taken.lock().remove(&id) else { return };
        let mut by_inode = self.by_inode.lock();
        if let Some(ids) = by_inode.get_mut(&one.origin.inode) {
            ids.retain(|other| *other != id);
            if ids.is_empty() {
                by_inode.remove(&one.origin.inode);
            }
        }
        self.gone.lock().entry(directory.to_owned()).or_default().push(id);
    }

    /// Forgets what is gone: first the directories are synced, or a power cut could bring an original back that nobody
    /// knows any more.
    /// A crash before this remembers files that are gone, which costs a little and harms nothing.
    pub(super) async fn forget(&self, ingest: &Ingest) {
        static FAILED: Repeated = Repeated::new();
        let gone = std::mem::take(&mut *self.gone.lock());
        let mut synced = Vec::new();
        for (directory, ids) in gone {
            let path = directory.clone();
            match tokio::task::spawn_blocking(move || sync(&path)).await {
                // Only what is durably out of its folder.
                Ok(Ok(())) => synced.extend(ids),
                Ok(Err(error)) => {
                    if let Some(untold) = FAILED.happened() {
                        warn!(directory = %directory.display(), %error, untold,
                            "cannot sync a folder; what left it is remembered");
                    }
                    self.gone.lock().entry(directory).or_default().extend(ids);
                }
                Err(_) => {}
            }
        }
        // No record of nothing.
        if synced.is_empty() {
            return;
        }
        if let Err(error) = ingest.forget_origins(&synced).await {
            warn!(%error, files = synced.len(), "cannot forget files that are gone; the next start does");
        }
    }
}

/// Syncs a directory, or the nearest above it that is there.
fn sync(directory: &Path) -> io::Result<()> {
    for path in directory.ancestors() {
        match place::directory(path) {
            // A directory that is gone is out of the one above it, which is then what has to be
            // synced.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            opened => return opened?.sync_all(),
        }
    }
    Ok(())
}

fn digest(file: &File, size: u64) -> io::Result<[u8; 32]> {
    let (mut hasher, mut at) = (Sha256::new(), 0);
    let mut piece = vec![0; PIECE_BYTES];
    while at < size {
        match file.read_at(&mut piece, at)? {
            0 => break,
            read => {
                hasher.update(&piece[..read]);
                at += read as u64;
            }
        }
    }
    Ok(hasher.finalize().into())
}
