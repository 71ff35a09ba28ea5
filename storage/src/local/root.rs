//! What all parts of the local store share: its directories, its poison, the lock that `close`
//! takes, and the room on the disk.
//!
//! # Guarantees
//! - [`Root::open`] syncs every directory of the last run before anything acts on what it sees
//!   there, empties `tmp/`, and tries what a commit needs (extended attributes, rename without
//!   replacing).
//! - After a failed sync the poison is set, and every change is refused from then on.
//! - After [`Root::close`] nothing changes the spool: each change holds [`Root::at_work`].
//!
//! All of it blocks but the questions for poison.

use std::{
    collections::HashSet,
    io,
    path::{Path, PathBuf},
    sync::{Arc, atomic::AtomicUsize},
};

use parking_lot::{Mutex, RwLock, RwLockReadGuard};
use uuid::Uuid;

use super::{Options, dirs::DirSync, poison::Poison, spool::Days, takeover};
use crate::{FileMeta, NewFile, Rest, Result, Sha256, Space, StorageError, disk::Disk, error::is_full};

/// The extended attribute with the metadata of an accepted file.
pub(super) const META: &str = "user.forebay";
/// ext4 keeps some 4,000 bytes of attributes beside an inode; anything near that is refused before it fails there.
const MOST_META_BYTES: usize = 3_900;
/// The most bytes of the metadata beside the names. With it, short names are admitted without
/// encoding.
const META_BYTES_BESIDE_NAMES: usize = 500;
/// The most bytes that one byte of a name takes in JSON (`\u00XX`).
const MOST_ESCAPED_BYTES: usize = 6;

/// What all parts of a local store share.
#[derive(Debug)]
pub(super) struct Root {
    pub(super) disk: Arc<dyn Disk>,
    pub(super) options: Options,
    pub(super) path: PathBuf,
    pub(super) spool: PathBuf,
    pub(super) tmp: PathBuf,
    pub(super) partials: PathBuf,
    pub(super) aside: PathBuf,
    dirs: DirSync,
    pub(super) days: Days,
    /// Partials that are being written.
    pub(super) claimed: Mutex<HashSet<PathBuf>>,
    /// Partners that have a directory of partials.
    pub(super) have_partials: RwLock<HashSet<String>>,
    /// Bytes of all uploads that are in memory.
    pub(super) in_memory: AtomicUsize,
    poison: Poison,
    /// Held to read while the spool changes, and to write while the store closes.
    work: RwLock<()>,
}

impl Root {
    pub(super) fn open(disk: Arc<dyn Disk>, path: &Path, options: Options) -> Result<Self> {
        let [spool, tmp, partials, aside] = ["spool", "tmp", "partials", "aside"].map(|name| path.join(name));
        for dir in [&spool, &tmp, &partials, &aside] {
            make_dir(&*disk, dir)?;
        }
        let root = Self {
            disk,
            options,
            path: path.to_path_buf(),
            spool,
            tmp,
            partials,
            aside,
            dirs: DirSync::default(),
            days: Days::default(),
            claimed: Mutex::default(),
            have_partials: RwLock::default(),
            in_memory: AtomicUsize::new(0),
            poison: Poison::default(),
            work: RwLock::default(),
        };
        // First: `empty_tmp` removes names, and `take_over` acts on what it finds; both must be
        // true after a power cut as well.
        root.sync_what_is_there()?;
        root.empty_tmp()?;
        match root.probe() {
            // A server that does not start serves nobody, operators included. Uploads are refused until there is room.
            Err(StorageError::Full) => tracing::warn!("the disk has no room to try what a commit needs"),
            probed => probed?,
        }
        takeover::take_over(&root)?;
        Ok(root)
    }

    /// What the last run saw may never have reached the disk: it is made durable before anything acts on it.
    fn sync_what_is_there(&self) -> Result<()> {
        let mut dirs = vec![self.path.clone(), self.spool.clone(), self.partials.clone(), self.aside.clone()];
        let days = self.list(&self.spool)?;
        dirs.extend(days.iter().map(|day| self.spool.join(day)));
        let partners = self.list(&self.partials)?;
        dirs.extend(partners.iter().map(|partner| self.partials.join(partner)));
        self.have_partials.write().extend(partners.iter().map(|partner| partner.to_string_lossy().into_owned()));
        for dir in dirs {
            match self.disk.sync_dir(&dir) {
                Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                    tracing::warn!(path = %dir.display(), "this is no directory of the store and is left alone");
                }
                outcome => outcome.map_err(|e| StorageError::io(format!("cannot sync {}", dir.display()), e))?,
            }
        }
        // After their names were synced with the directory above.
        self.days.are_durable(days);
        Ok(())
    }

    /// Nothing in it was acknowledged: an upload that was has left it by a rename.
    fn empty_tmp(&self) -> Result<()> {
        for name in self.list(&self.tmp)? {
            let path = self.tmp.join(name);
            self.disk.unlink(&path).map_err(|e| StorageError::io(format!("cannot remove {}", path.display()), e))?;
        }
        Ok(())
    }

    /// Tries what a commit needs, so that a file system that cannot keep the promise is reported at
    /// the start, with what to do about it.
    fn probe(&self) -> Result<()> {
        let at = self.path.display();
        let [from, to] = [(); 2].map(|()| self.tmp.join(format!("probe-{}", Uuid::new_v4())));
        let file = self.disk.create_new(&from).map_err(|e| StorageError::io(format!("cannot write to {at}"), e))?;
        let value = b"probe".as_slice();
        let kept = file.set_xattr(META, value).and_then(|()| file.xattr(META));
        let renamed = self.disk.rename_new(&from, &to);
        let removed = self.disk.unlink(if renamed.is_ok() { &to } else { &from });
        match kept {
            Ok(kept) if kept.as_deref() == Some(value) => {}
            Err(error) if is_full(&error) => {
                return Err(StorageError::Full);
            }
            outcome => {
                let why = outcome.err().map_or("they are not kept".to_owned(), |error| error.to_string());
                return Err(StorageError::Unsupported(format!(
                    "the file system of {at} keeps no extended attributes ({why}); put the data directory on ext4, \
                     xfs, btrfs or tmpfs, or mount with user_xattr"
                )));
            }
        }
        renamed.map_err(|error| {
            let what = format!("the file system of {at} cannot rename without replacing ({error})");
            StorageError::Unsupported(format!("{what}; put the data directory on ext4, xfs, btrfs or tmpfs"))
        })?;
        removed.map_err(|e| StorageError::io(format!("cannot remove from {at}"), e))
    }

    pub(super) fn list(&self, dir: &Path) -> Result<Vec<PathBuf>> {
        self.disk.list(dir).map_err(|e| StorageError::io(format!("cannot list {}", dir.display()), e))
    }

    pub(super) fn poisoned(&self) -> Option<String> {
        self.poison.why()
    }

    pub(super) fn sound(&self) -> Result<()> {
        self.poison.sound()
    }

    /// Returns the right to change the spool, while the store is sound. [`Root::close`] waits until
    /// all of them are dropped.
    pub(super) fn at_work(&self) -> Result<RwLockReadGuard<'_, ()>> {
        // By who has it already too.
        // The lock before the look at the poison: `close` sets the poison while it holds the lock
        // for writing. So whoever finds the store sound here is finished before `close` returns.
        let work = self.work.read_recursive();
        self.sound().map(|()| work)
    }

    /// Ends the store: nothing changes the spool any more when this returns.
    pub(super) fn close(&self) -> Result<()> {
        let _alone = self.work.write();
        // Before the closing: that a store is closed is no failure, that it was poisoned is one.
        let sound = self.sound();
        self.poison.close();
        sound
    }

    pub(super) fn stop(&self, why: String) -> StorageError {
        self.poison.stop(why)
    }

    /// Makes the names in a directory durable, by one sync together with all callers that wait for
    /// the same directory. A failure poisons the store.
    pub(super) fn settle(&self, dir: &Path) -> Result<()> {
        let outcome = self.try_settle(dir);
        outcome.map_err(|error| self.stop(format!("cannot sync directory {}: {error}", dir.display())))
    }

    /// As [`Root::settle`], for a directory that may not be there: the caller decides what a
    /// failure means.
    pub(super) fn try_settle(&self, dir: &Path) -> io::Result<()> {
        self.dirs.sync(dir, |dir| self.disk.sync_dir(dir))
    }

    pub(super) fn space(&self) -> Result<Space> {
        let looking = |e| StorageError::io(format!("cannot ask for the space of {}", self.path.display()), e);
        let space = self.disk.space(&self.path).map_err(looking)?;
        // A small file system would have nothing but its reserve.
        let reserve_inodes = self.options.reserve_inodes.min(space.total_inodes / 8);
        Ok(Space { reserve_bytes: self.options.reserve_bytes, reserve_inodes, ..space })
    }

    /// Checks that the reserve stays untouched.
    pub(super) fn has_room(&self) -> Result<()> {
        if self.space()?.is_short() { Err(StorageError::Full) } else { Ok(()) }
    }

    /// Checks whether an upload may begin: the store is sound, the disk has room, and the metadata
    /// of the file will fit beside it, however large it gets.
    pub(super) fn admits(&self, file: &NewFile) -> Result<()> {
        self.sound()?;
        self.has_room()?;
        // However they are escaped, short names fit.
        let names = file.partner.len() + file.name.len() + file.door.len();
        if file.origin.is_none()
            && file.goes_on.is_none()
            && META_BYTES_BESIDE_NAMES + names * MOST_ESCAPED_BYTES <= MOST_META_BYTES
        {
            return Ok(());
        }
        let rest = file.goes_on.as_ref().map(|goes_on| Rest {
            of: goes_on.from,
            at: u64::MAX,
            whole_sha256: Sha256([0; 32]),
            digest: goes_on.digest,
        });
        let longest = FileMeta {
            version: FileMeta::version_of(rest.as_ref()),
            id: file.id,
            partner: file.partner.clone(),
            name: file.name.clone(),
            door: file.door.clone(),
            size_bytes: u64::MAX,
            sha256: Sha256([0; 32]),
            received_at: chrono::DateTime::<chrono::Utc>::MAX_UTC,
            origin: file.origin.clone(),
            rest: rest.map(Box::new),
        };
        encode(&longest).map(drop)
    }
}

/// Metadata as it is stored.
pub(super) fn encode(meta: &FileMeta) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(meta).map_err(|e| StorageError::io("cannot write metadata", e.into()))?;
    if json.len() > MOST_META_BYTES {
        let (len, id) = (json.len(), meta.id);
        let what = format!("the metadata of {id} takes {len} bytes of {MOST_META_BYTES}: its name is too long");
        return Err(StorageError::Unsupported(what));
    }
    Ok(json)
}

/// Makes a directory if it is not there.
pub(super) fn make_dir(disk: &dyn Disk, dir: &Path) -> Result<()> {
    match disk.create_dir(dir) {
        Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
            Err(StorageError::io(format!("cannot make {}", dir.display()), error))
        }
        _ => Ok(()),
    }
}
