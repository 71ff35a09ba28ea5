//! Uploads that were cut, kept to be resumed.
//!
//! # Guarantees
//! The length in the attribute never goes beyond what was synced before it was written down. Going on below that
//! length first makes the shorter one durable.
//!
//! # After a crash
//! A partial that was being written ends where its attribute says. A file among the partials that carries the metadata
//! of an accepted file is a leftover of its commit: it is never written to, and swept with age.
//!
//! # Locks
//! A [`Claim`] is the right to write one partial. Who holds none may still remove one that nobody
//! holds: all removals take the claim first.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use sha2::Digest;

use super::{
    root::{META, Root, make_dir},
    spool::hash_into,
    upload::{LocalUpload, Working, hasher},
};
use crate::{FileId, NewFile, PartialInfo, Result, Sha256, StorageError, Upload, disk::DiskFile};

/// The extended attribute of a partial.
pub(super) const PARTIAL: &str = "user.forebay.partial";

/// What the attribute says.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Record {
    version: u8,
    partner: String,
    name: String,
    /// Durable length of its own bytes.
    size_bytes: u64,
    /// The accepted file that they go on from, with its length.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    goes_on: Option<(FileId, u64)>,
}

/// The version of a record: 1, and 2 where an accepted file has the beginning, for a version that knows no 2 must not take
/// it for the beginning itself.
fn version_of(goes_on: Option<(FileId, u64)>) -> u8 {
    if goes_on.is_some() { 2 } else { 1 }
}

/// The place of the partial of a partner and a name.
#[derive(Clone, Debug)]
pub(super) struct Key {
    dir: PathBuf,
    path: PathBuf,
    partner: String,
    name: String,
}

impl Key {
    pub(super) fn new(root: &Root, partner: &str, name: &str) -> Result<Self> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
        if partner.is_empty() || partner.len() > 64 || partner.starts_with('.') || !partner.bytes().all(plain) {
            return Err(StorageError::Unsupported(format!("{partner:?} cannot be the name of a partner")));
        }
        let dir = root.partials.join(partner);
        // Digits of a digest: names have any length and any characters.
        let digest = Sha256(sha2::Sha256::digest(name.as_bytes()).into()).to_string();
        Ok(Self { path: dir.join(&digest[..32]), dir, partner: partner.to_owned(), name: name.to_owned() })
    }

    fn make_dir(&self, root: &Root) -> Result<()> {
        make_dir(&*root.disk, &self.dir)?;
        root.have_partials.write().insert(self.partner.clone());
        Ok(())
    }

    fn record(&self, size_bytes: u64, goes_on: Option<(FileId, u64)>) -> Result<Vec<u8>> {
        let (version, partner, name) = (version_of(goes_on), self.partner.clone(), self.name.clone());
        let record = Record { version, partner, name, size_bytes, goes_on };
        serde_json::to_vec(&record).map_err(|e| StorageError::io("cannot write the record of a partial", e.into()))
    }

    /// Returns the record of this partial, if the file is it. Its length is durable, and the file
    /// has at least that many bytes.
    fn durable(&self, file: &dyn DiskFile) -> Result<Option<Record>> {
        let reading = |e| StorageError::io(format!("cannot read {}", self.path.display()), e);
        let Some(json) = file.xattr(PARTIAL).map_err(reading)? else { return Ok(None) };
        if file.xattr(META).map_err(reading)?.is_some() {
            return Ok(None);
        }
        let Ok(record) = serde_json::from_slice::<Record>(&json) else { return Ok(None) };
        let ours =
            record.version == version_of(record.goes_on) && record.partner == self.partner && record.name == self.name;
        if !ours {
            return Ok(None);
        }
        // After a power cut in `cut` the file may be shorter than its old record says.
        let size_bytes = record.size_bytes.min(file.len().map_err(reading)?);
        Ok(Some(Record { size_bytes, ..record }))
    }

    fn open(&self, root: &Root, write: bool) -> Result<Option<Arc<dyn DiskFile>>> {
        match root.disk.open(&self.path, write) {
            Ok(file) => Ok(Some(file)),
            // A read-only file is the leftover of a commit.
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::PermissionDenied) => Ok(None),
            Err(error) => Err(StorageError::io(format!("cannot open {}", self.path.display()), error)),
        }
    }
}

/// The right to write a partial; one at a time has it.
#[derive(Debug)]
pub(super) struct Claim {
    root: Arc<Root>,
    path: PathBuf,
}

impl Claim {
    fn take(root: &Arc<Root>, path: &Path) -> Result<Self> {
        if !root.claimed.lock().insert(path.to_path_buf()) {
            return Err(StorageError::Busy);
        }
        Ok(Self { root: root.clone(), path: path.to_path_buf() })
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.root.claimed.lock().remove(&self.path);
    }
}

/// Returns what a session may resume with this key, if anything.
pub(super) fn info(root: &Root, key: &Key) -> Result<Option<PartialInfo>> {
    // As it will be to go on with it: what cannot be written is none.
    let Some(file) = key.open(root, true)? else { return Ok(None) };
    let Some(record) = key.durable(&*file)? else { return Ok(None) };
    let modified =
        file.modified_ms().map_err(|e| StorageError::io(format!("cannot look at {}", key.path.display()), e))?;
    let size_bytes = record.goes_on.map_or(0, |(_, before)| before).saturating_add(record.size_bytes);
    let written_at = DateTime::from_timestamp_millis(modified).unwrap_or_default();
    Ok(Some(PartialInfo { size_bytes, goes_on: record.goes_on, written_at }))
}

/// Goes on with a partial from byte `at` of it: claims it, cuts it there durably, and hashes what
/// stays.
///
/// # Errors
/// [`StorageError::Busy`], or [`StorageError::CannotResume`] with what is durable.
pub(super) fn resume(root: &Arc<Root>, new: NewFile, at: u64) -> Result<Box<dyn Upload>> {
    let key = Key::new(root, &new.partner, &new.name)?;
    let claim = Claim::take(root, &key.path)?;
    let nothing = StorageError::CannotResume { at, have: 0 };
    let Some(file) = key.open(root, true)? else { return Err(nothing) };
    let Some(record) = key.durable(&*file)? else { return Err(nothing) };
    if record.goes_on != beginning(&new) {
        return Err(nothing);
    }
    if at > record.size_bytes {
        return Err(StorageError::CannotResume { at, have: record.size_bytes });
    }
    // Before the hashing: from here on the file has the bytes that are hashed, and no others.
    cut(root, &key, &*file, at, record.goes_on)?;
    let mut hasher = hasher(&new)?;
    let reading = |e| StorageError::io(format!("cannot read {}", key.path.display()), e);
    if hash_into(&*file, at, &mut hasher).map_err(reading)? != at {
        return Err(reading(io::ErrorKind::UnexpectedEof.into()));
    }
    let working = Working::partial(root.clone(), file, claim);
    Ok(Box::new(LocalUpload::with(root.clone(), new, at, hasher, working)))
}

/// Makes the partial end at `at`, durably, before anything is written behind it: a crash must not leave bytes of the
/// new upload below a length that was recorded for the old one.
fn cut(root: &Root, key: &Key, file: &dyn DiskFile, at: u64, goes_on: Option<(FileId, u64)>) -> Result<()> {
    let cutting = |e| StorageError::io(format!("cannot cut {}", key.path.display()), e);
    // The recorded length first: a process that dies between the two leaves bytes beyond it, which
    // nobody reads.
    file.set_xattr(PARTIAL, &key.record(at, goes_on)?).map_err(cutting)?;
    file.set_len(at).map_err(cutting)?;
    file.sync_all().map_err(|error| root.stop(format!("cannot sync {}: {error}", key.path.display())))
}

/// Keeps `len` bytes of an upload as the partial of its partner and name.
pub(super) fn keep(root: &Arc<Root>, new: &NewFile, working: &Working, len: u64) -> Result<()> {
    sync(root, new, working, len)?;
    working.keep();
    Ok(())
}

/// Makes `len` bytes of an upload the partial of its partner and name, which stays the upload's until that is over: two
/// of one name that gave it up in between would go on with each other's bytes.
pub(super) fn sync(root: &Arc<Root>, new: &NewFile, working: &Working, len: u64) -> Result<()> {
    root.sound()?;
    let key = Key::new(root, &new.partner, &new.name)?;
    let file = working.file()?;
    let syncing = |error| root.stop(format!("cannot sync {}: {error}", working.path().display()));
    if working.is_partial() {
        // The bytes before the length that speaks of them.
        file.sync_data().map_err(syncing)?;
        record(&key, &**file, len, beginning(new))?;
        file.sync_all().map_err(syncing)?;
    } else {
        let claim = Claim::take(root, &key.path)?;
        record(&key, &**file, len, beginning(new))?;
        file.sync_all().map_err(syncing)?;
        key.make_dir(root)?;
        let naming = |e| StorageError::io(format!("cannot keep {}", key.path.display()), e);
        // Synced before it takes the name: the rename drops the partial that had it, whose bytes
        // were durable.
        root.disk.rename_over(working.path(), &key.path).map_err(naming)?;
        // Before the sync that may fail: from the rename on its path is the partial's, and dropping
        // the upload must unlink that one.
        working.became_partial(claim);
        settle(root, &key)?;
    }
    Ok(())
}

/// The accepted file that an upload goes on from, with its length.
fn beginning(new: &NewFile) -> Option<(FileId, u64)> {
    new.goes_on.as_ref().map(|goes_on| (goes_on.from, goes_on.at))
}

/// Writes the length beside the bytes. The caller has synced the bytes, or syncs both together.
fn record(key: &Key, file: &dyn DiskFile, len: u64, goes_on: Option<(FileId, u64)>) -> Result<()> {
    let recording = |e| StorageError::io(format!("cannot record the length of {}", key.path.display()), e);
    file.set_xattr(PARTIAL, &key.record(len, goes_on)?).map_err(recording)
}

/// Makes the partial's name durable, and that of its partner's directory.
fn settle(root: &Root, key: &Key) -> Result<()> {
    root.settle(&key.dir)?;
    root.settle(&root.partials)
}

/// Takes a committed file out of the spool, and keeps its bytes as a partial where that can be.
/// That it is out of the spool for good is the promise; the partial is a convenience.
pub(super) fn from_spool(root: &Arc<Root>, id: FileId) -> Result<()> {
    let _work = root.at_work()?;
    let Ok((file, meta)) = root.described(id) else { return root.drop_file(id) };
    let Ok(key) = Key::new(root, &meta.partner, &meta.name) else { return root.drop_file(id) };
    // Somebody uploads it again already.
    let Ok(_claim) = Claim::take(root, &key.path) else { return root.drop_file(id) };
    if meta.size_bytes == 0 || key.make_dir(root).is_err() {
        return root.drop_file(id);
    }
    // A rename onto another name of the same file would do nothing at all.
    let _ = root.disk.unlink(&key.path);
    if root.disk.rename_new(&root.spool_path(id), &key.path).is_err() {
        return root.drop_file(id);
    }
    // Gone from the spool for good before it changes: until then a crash may bring back the whole file, unchanged.
    settle(root, &key)?;
    root.settle_day(id)?;
    let changed = (|| {
        file.make_writable()?;
        file.remove_xattr(META)?;
        let goes_on = meta.rest.as_ref().map(|rest| (rest.of, rest.at));
        file.set_xattr(PARTIAL, &key.record(meta.size_bytes, goes_on).map_err(io::Error::from)?)
    })();
    if let Err(error) = changed {
        // It was taken back, which is what was promised; only the convenience is lost.
        tracing::warn!(file.id = %id, %error, "a file that was taken back could not be kept as a partial");
        let _ = root.disk.unlink(&key.path);
        return Ok(());
    }
    file.sync_all().map_err(|error| root.stop(format!("cannot sync {}: {error}", key.path.display())))
}

/// Every partial of a partner's directory.
fn paths(root: &Root, dir: &Path) -> Result<Vec<PathBuf>> {
    match root.disk.list(dir) {
        Ok(names) => Ok(names.iter().map(|name| dir.join(name)).collect()),
        Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(Vec::new()),
        Err(error) => Err(StorageError::io(format!("cannot list {}", dir.display()), error)),
    }
}

/// Removes partials that were last written before `older_than`. Returns how many.
pub(super) fn sweep(root: &Arc<Root>, older_than: DateTime<Utc>) -> Result<usize> {
    root.sound()?;
    let mut swept = 0;
    for partner in root.list(&root.partials)? {
        let dir = root.partials.join(partner);
        let before = swept;
        for path in paths(root, &dir)? {
            // One that is being written is not old.
            let Ok(_claim) = Claim::take(root, &path) else { continue };
            swept += usize::from(remove_if_older(root, &path, older_than)?);
        }
        if swept > before {
            root.settle(&dir)?;
        }
    }
    Ok(swept)
}

/// Removes the partial of a name, unless somebody goes on with it.
pub(super) fn drop_one(root: &Arc<Root>, key: &Key) -> Result<()> {
    root.sound()?;
    let Ok(_claim) = Claim::take(root, &key.path) else { return Ok(()) };
    let dropping = |e| StorageError::io(format!("cannot remove {}", key.path.display()), e);
    match root.disk.unlink(&key.path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        // Not synced: one that comes back is swept with age, or given up again.
        outcome => outcome.map_err(dropping),
    }
}

/// Removes the oldest partials of a partner until they had this many bytes, but for one and those
/// that somebody writes. Returns how many bytes they had.
pub(super) fn give_up(root: &Arc<Root>, bytes: u64, but: &Key) -> Result<u64> {
    root.sound()?;
    let mut partials = Vec::new();
    for path in paths(root, &but.dir)?.into_iter().filter(|path| *path != but.path) {
        let looked = root.disk.open(&path, false).and_then(|file| Ok((file.modified_ms()?, file.len()?)));
        match looked {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            looked => {
                let (modified, len) =
                    looked.map_err(|e| StorageError::io(format!("cannot look at {}", path.display()), e))?;
                partials.push((modified, path, len));
            }
        }
    }
    partials.sort();
    let mut freed = 0;
    for (_, path, len) in partials {
        if freed >= bytes {
            break;
        }
        let Ok(_claim) = Claim::take(root, &path) else { continue };
        root.disk.unlink(&path).map_err(|e| StorageError::io(format!("cannot remove {}", path.display()), e))?;
        freed += len;
    }
    Ok(freed)
}

fn remove_if_older(root: &Root, path: &Path, older_than: DateTime<Utc>) -> Result<bool> {
    let sweeping = |e| StorageError::io(format!("cannot sweep {}", path.display()), e);
    let modified = match root.disk.open(path, false) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        file => file.and_then(|file| file.modified_ms()).map_err(sweeping)?,
    };
    if modified >= older_than.timestamp_millis() {
        return Ok(false);
    }
    root.disk.unlink(path).map_err(sweeping).map(|()| true)
}

pub(super) fn count(root: &Root, key: &Key) -> Result<u64> {
    paths(root, &key.dir).map(|paths| paths.len() as u64)
}

pub(super) fn forget(root: &Arc<Root>, key: &Key) -> Result<usize> {
    root.sound()?;
    let mut forgotten = 0;
    for path in paths(root, &key.dir)? {
        let Ok(_claim) = Claim::take(root, &path) else { continue };
        let removing = |e| StorageError::io(format!("cannot remove {}", path.display()), e);
        root.disk.unlink(&path).map_err(removing)?;
        forgotten += 1;
    }
    if forgotten > 0 {
        root.settle(&key.dir)?;
    }
    Ok(forgotten)
}

pub(super) fn bytes(root: &Root, key: &Key) -> Result<u64> {
    let mut bytes = 0;
    for path in paths(root, &key.dir)? {
        match root.disk.open(&path, false).and_then(|file| file.len()) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            len => bytes += len.map_err(|e| StorageError::io(format!("cannot look at {}", path.display()), e))?,
        }
    }
    Ok(bytes)
}
