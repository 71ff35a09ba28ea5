//! Accepted files, one directory for each UTC day.
//!
//! `admit` makes a written file immutable and durable, in this order: metadata, mode 0400, rename
//! into its day, sync of the file, sync of the day's directory, and of `spool/` when the day is
//! new.
//!
//! # Guarantees
//! - A rename never replaces anything.
//! - When `admit` fails after the rename, the name is taken back, durably or with the store
//!   poisoned.
//! - What `drop_file` and `remove` have removed does not come back after a crash.
//! - A file that is set aside has its reason beside it before it is moved.
//!
//! Each change of the spool holds `Root::at_work`. All of it blocks.

use std::{
    collections::{BTreeSet, HashMap},
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::DateTime;
use parking_lot::RwLock;

use super::root::{META, Root, encode, make_dir};
use crate::{
    FileId, FileMeta, Result, Sha256, SpoolItem, StorageError, digest::Hasher, disk::DiskFile, error::is_lost,
};

/// The days whose directories are known to be in the spool, and whether durably.
#[derive(Debug, Default)]
pub(super) struct Days(RwLock<Known>);

#[derive(Debug, Default)]
struct Known {
    durable: HashMap<String, bool>,
    /// Rises when a directory is removed, so that nobody calls its successor durable by mistake.
    removals: u64,
}

impl Days {
    pub(super) fn are_durable(&self, days: Vec<PathBuf>) {
        let days = days.into_iter().filter_map(|day| day.into_os_string().into_string().ok());
        self.0.write().durable.extend(days.map(|day| (day, true)));
    }

    /// Whether this day is known to be durable, and what is known of removals.
    fn look(&self, day: &str) -> (bool, u64) {
        let known = self.0.read();
        (known.durable.get(day) == Some(&true), known.removals)
    }

    fn is_durable(&self, day: String, removals: u64) {
        let mut known = self.0.write();
        if known.removals == removals {
            known.durable.insert(day, true);
        }
    }

    fn is_made(&self, day: String, removals: u64) {
        let mut known = self.0.write();
        if known.removals == removals {
            known.durable.entry(day).or_insert(false);
        }
    }
}

/// The name of the directory for this id.
fn day(id: FileId) -> String {
    let instant = i64::try_from(id.unix_ms()).ok().and_then(DateTime::from_timestamp_millis).unwrap_or_default();
    instant.format("%Y%m%d").to_string()
}

impl Root {
    pub(super) fn day_dir(&self, id: FileId) -> PathBuf {
        self.spool.join(day(id))
    }

    pub(super) fn spool_path(&self, id: FileId) -> PathBuf {
        self.day_dir(id).join(id.to_string())
    }

    /// Takes a written file into the spool: metadata, mode, name, and all of it durable. On failure after the name was
    /// given it is taken back.
    pub(super) fn admit(&self, file: &dyn DiskFile, from: &Path, meta: &FileMeta) -> Result<()> {
        let _work = self.at_work()?;
        self.describe(file, meta)?;
        // After the metadata, which needs write permission.
        file.make_read_only().map_err(|e| StorageError::io(format!("cannot make file {} read-only", meta.id), e))?;
        self.name(meta.id, from)?;
        self.make_durable(file, meta.id).inspect_err(|_| self.take_name_back(meta.id))
    }

    fn name(&self, id: FileId, from: &Path) -> Result<()> {
        let day = day(id);
        // Held over the rename, so that the directory is not removed as an empty one in between.
        let known = self.days.0.read();
        // Known, though perhaps not durably: then the directory is there and need not be made
        // again.
        let made = !known.durable.contains_key(&day);
        if made {
            make_dir(&*self.disk, &self.day_dir(id))?;
        }
        let naming = |e| StorageError::io(format!("cannot name file {id} in the spool"), e);
        self.disk.rename_new(from, &self.spool_path(id)).map_err(naming)?;
        let removals = known.removals;
        drop(known);
        if made {
            self.days.is_made(day, removals);
        }
        Ok(())
    }

    /// Before the answer: a rename alone can vanish.
    fn make_durable(&self, file: &dyn DiskFile, id: FileId) -> Result<()> {
        // Asked first: a directory that is removed and made again meanwhile is another one.
        let (durable, removals) = self.days.look(&day(id));
        // Not fdatasync, which may leave the metadata behind.
        file.sync_all().map_err(|error| self.stop(format!("cannot sync spool file {id}: {error}")))?;
        self.settle(&self.day_dir(id))?;
        if !durable {
            self.settle(&self.spool)?;
            self.days.is_durable(day(id), removals);
        }
        Ok(())
    }

    /// Takes back the name of a file whose commit has failed. When that cannot be made durable the
    /// store is poisoned, so nobody relies on it.
    fn take_name_back(&self, id: FileId) {
        let _ = self.disk.unlink(&self.spool_path(id));
        if self.sound().is_ok() {
            // A failure stops the store.
            let _ = self.settle_day(id);
        }
    }

    /// Makes removals from the day of this id durable.
    pub(super) fn settle_day(&self, id: FileId) -> Result<()> {
        self.settle_removals(&self.day_dir(id))
    }

    /// Makes removals from a day durable. The day itself may be gone: whoever removes its last file
    /// removes it, and then the directory above is the one to sync.
    pub(super) fn settle_removals(&self, dir: &Path) -> Result<()> {
        match self.try_settle(dir) {
            Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                self.settle(&self.spool)
            }
            outcome => outcome.map_err(|error| self.stop(format!("cannot sync directory {}: {error}", dir.display()))),
        }
    }

    /// Writes the metadata beside the bytes.
    pub(super) fn describe(&self, file: &dyn DiskFile, meta: &FileMeta) -> Result<()> {
        let json = encode(meta)?;
        file.set_xattr(META, &json).map_err(|error| match error.kind() {
            // ext4 says so too when only the room beside the inode is spent.
            io::ErrorKind::StorageFull if self.has_room().is_ok() => StorageError::Unsupported(format!(
                "the file system has no room for {} bytes of metadata beside file {}; the disk is not full",
                json.len(),
                meta.id
            )),
            _ => StorageError::io(format!("cannot set the metadata of file {}", meta.id), error),
        })
    }

    pub(super) fn open_spooled(&self, id: FileId) -> Result<Arc<dyn DiskFile>> {
        self.disk.open(&self.spool_path(id), false).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::NotFound(id),
            _ => StorageError::io(format!("cannot open spool file {id}"), error),
        })
    }

    /// Opens an accepted file and reads its metadata.
    ///
    /// # Errors
    /// [`StorageError::NotFound`], or [`StorageError::Damaged`] when there is no metadata, or it is
    /// that of another file or of a newer version.
    pub(super) fn described(&self, id: FileId) -> Result<(Arc<dyn DiskFile>, FileMeta)> {
        let file = self.open_spooled(id)?;
        let damaged = |what: String| StorageError::Damaged { id, what };
        let json = file.xattr(META).map_err(unreadable(id))?;
        let json = json.ok_or_else(|| damaged("it has no metadata".to_owned()))?;
        let meta: FileMeta =
            serde_json::from_slice(&json).map_err(|error| damaged(format!("its metadata cannot be read: {error}")))?;
        if meta.version != FileMeta::version_of(meta.rest.as_deref()) {
            return Err(damaged(format!("its metadata has version {}, which is not known", meta.version)));
        }
        if meta.id != id {
            return Err(damaged(format!("it says that it is {}", meta.id)));
        }
        Ok((file, meta))
    }

    /// Reads all of a file and compares length and digest with its metadata.
    pub(super) fn check(&self, file: &dyn DiskFile, meta: &FileMeta) -> Result<()> {
        let (len, sha256) = digest(file).map_err(unreadable(meta.id))?;
        match mismatch(meta, len, sha256) {
            Some(what) => Err(StorageError::Damaged { id: meta.id, what }),
            None => Ok(()),
        }
    }

    /// Judges a file that a crash may have left: reads it whole, and syncs it.
    pub(super) fn inspect(&self, id: FileId) -> Result<SpoolItem> {
        let outcome = self.described(id).and_then(|(file, meta)| {
            // It may come from a commit that a crash cut: what is called sound must also be there tomorrow.
            file.sync_all().map_err(|error| self.stop(format!("cannot sync spool file {id}: {error}")))?;
            self.check(&*file, &meta)?;
            Ok(meta)
        });
        judged(id, outcome)
    }

    /// As [`Root::inspect`], for a look that changes nothing and syncs nothing.
    pub(super) fn examine(&self, id: FileId) -> Result<SpoolItem> {
        judged(
            id,
            self.described(id).and_then(|(file, meta)| {
                self.check(&*file, &meta)?;
                Ok(meta)
            }),
        )
    }

    /// Returns the ids of all files in the spool, ascending. What is no spool file is logged and
    /// left alone.
    pub(super) fn ids(&self) -> Result<Vec<FileId>> {
        let mut ids = Vec::new();
        for name in self.list(&self.spool)? {
            let dir = self.spool.join(&name);
            let names = match self.disk.list(&dir) {
                // Another thread may remove an empty day; anything that is no directory is not ours.
                Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => continue,
                names => names.map_err(|e| StorageError::io(format!("cannot list {}", dir.display()), e))?,
            };
            for file in names {
                let id = file.to_str().and_then(|file| file.parse::<FileId>().ok());
                match id.filter(|id| self.spool_path(*id) == dir.join(&file)) {
                    Some(id) => ids.push(id),
                    None => {
                        tracing::warn!(path = %dir.join(&file).display(), "this is no spool file and is left alone")
                    }
                }
            }
        }
        ids.sort_unstable();
        Ok(ids)
    }

    /// Takes a committed file back for good. A failure poisons the store: a file that was refused
    /// must not appear later.
    pub(super) fn drop_file(&self, id: FileId) -> Result<()> {
        let _work = self.at_work()?;
        match self.disk.unlink_if_there(&self.spool_path(id)) {
            // A file that was refused must not appear later.
            Err(error) => Err(self.stop(format!("cannot take file {id} back: {error}"))),
            Ok(()) => self.settle_day(id),
        }
    }

    /// Removes files for good, and days that are empty then. One sync for each day, however many
    /// files.
    pub(super) fn remove(&self, ids: &[FileId]) -> Result<()> {
        let _work = self.at_work()?;
        let mut days = BTreeSet::new();
        for id in ids {
            let removed = self.disk.unlink_if_there(&self.spool_path(*id));
            removed.map_err(|e| StorageError::io(format!("cannot remove spool file {id}"), e))?;
            days.insert(day(*id));
        }
        let mut emptied = false;
        for day in days {
            emptied |= self.forget(&day)?;
        }
        // After all days: one sync for all directories that have gone.
        if emptied { self.settle(&self.spool) } else { Ok(()) }
    }

    /// Makes removals in a day durable. Gives whether the day is gone itself, which is not durable yet.
    fn forget(&self, day: &str) -> Result<bool> {
        let dir = self.spool.join(day);
        match self.disk.list(&dir) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(true),
            Err(error) => return Err(StorageError::io(format!("cannot list {}", dir.display()), error)),
            // Also when nothing was there to remove: an earlier removal may have been cut before its sync.
            Ok(names) if !names.is_empty() => return self.settle_removals(&dir).map(|()| false),
            Ok(_) => {}
        }
        let mut known = self.days.0.write();
        known.durable.remove(day);
        // Before the directory goes, and under the lock: a commit that has looked before must not
        // call the next directory of this name durable.
        known.removals += 1;
        match self.disk.remove_dir(&dir) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(true),
            // Somebody was faster with a new file.
            Err(_) => {
                drop(known);
                self.settle_removals(&dir).map(|()| false)
            }
        }
    }

    /// Moves a file out of the spool, with the reason beside it.
    pub(super) fn set_aside(&self, id: FileId, reason: &str) -> Result<()> {
        let _work = self.at_work()?;
        if let Err(missing @ StorageError::NotFound(_)) = self.open_spooled(id) {
            return Err(missing);
        }
        let setting = |e| StorageError::io(format!("cannot set file {id} aside"), e);
        let mut stem = id.to_string();
        let mut again = 1;
        loop {
            // The reason first: a file without one would say nothing.
            match self.disk.create_new(&self.aside.join(format!("{stem}.reason"))) {
                Ok(note) => {
                    note.write_at(format!("{reason}\n").as_bytes(), 0).map_err(setting)?;
                    note.sync_all().map_err(|error| self.stop(format!("cannot set file {id} aside: {error}")))?;
                    break;
                }
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                    again += 1;
                    stem = format!("{id}.{again}");
                }
                Err(error) => return Err(setting(error)),
            }
        }
        self.disk.rename_new(&self.spool_path(id), &self.aside.join(&stem)).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => StorageError::NotFound(id),
            _ => setting(error),
        })?;
        // The new name first, so that a crash leaves two names rather than none.
        self.settle(&self.aside)?;
        self.settle_day(id)
    }
}

/// Makes damage a result: only what keeps the question from being answered stays an error.
fn judged(id: FileId, outcome: Result<FileMeta>) -> Result<SpoolItem> {
    match outcome {
        Ok(meta) => Ok(SpoolItem::Sound(meta)),
        Err(StorageError::Damaged { id, what }) => Ok(SpoolItem::Damaged { id, what }),
        Err(StorageError::Io { doing, source }) => Ok(SpoolItem::Damaged { id, what: format!("{doing}: {source}") }),
        Err(other) => Err(other),
    }
}

/// Bytes that the disk has lost are damage of this file, as other bytes would be, and no reason to wait for better times.
pub(super) fn unreadable(id: FileId) -> impl Fn(io::Error) -> StorageError {
    move |error| match is_lost(&error) {
        true => StorageError::Damaged { id, what: format!("it cannot be read: {error}") },
        false => StorageError::io(format!("cannot read spool file {id}"), error),
    }
}

/// Length and SHA-256 of all bytes.
pub(super) fn digest(file: &dyn DiskFile) -> io::Result<(u64, Sha256)> {
    let mut hasher = Hasher::default();
    let len = hash_into(file, u64::MAX, &mut hasher)?;
    Ok((len, hasher.finish().own))
}

/// Hashes up to `most` bytes from the beginning, and returns how many there were.
pub(super) fn hash_into(file: &dyn DiskFile, most: u64, hasher: &mut Hasher) -> io::Result<u64> {
    let mut buffer = vec![0; 256 << 10];
    let mut at = 0;
    while at < most {
        let want = usize::try_from(most - at).unwrap_or(usize::MAX).min(buffer.len());
        match file.read_at(&mut buffer[..want], at)? {
            0 => break,
            got => {
                hasher.update(&buffer[..got]);
                at += got as u64;
            }
        }
    }
    Ok(at)
}

/// What does not agree, if something does not.
pub(super) fn mismatch(meta: &FileMeta, len: u64, sha256: Sha256) -> Option<String> {
    if len != meta.size_bytes {
        return Some(format!("it has {len} bytes instead of {}", meta.size_bytes));
    }
    (sha256 != meta.sha256).then(|| format!("its sha-256 is {sha256} instead of {}", meta.sha256))
}
