//! What a partner sees of its files: names in a directory of its own that mean accepted bytes.
//!
//! A name is a second name for the spooled bytes and nothing ever writes through it: an upload goes to new bytes, and
//! the same name again moves the name over to the newest file. Nothing here is promised; it can be rebuilt.

use std::{
    collections::HashSet,
    fs, io,
    os::unix::fs::{DirBuilderExt, MetadataExt},
    path::{Path, PathBuf},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use forebay_queue::Entry;
use forebay_storage::{FileId, Placement, Storage, StorageError};
use parking_lot::Mutex;

use super::{Name, OUT, Refusal};

/// Names on their way to where they are shown. No partner's name begins with a dot.
const ASIDE: &str = ".new";
/// The journal's sequence up to which all names were made durable.
const CHECKPOINT: &str = ".checkpoint";

pub(super) struct View {
    root: PathBuf,
    storage: Arc<dyn Storage>,
    homes: Mutex<HashSet<String>>,
    noted: Mutex<Option<(Duration, u64)>>,
    /// Held open from the start: a failure to write is told once to each who has it open, and to nobody who comes later.
    file_system: OnceLock<fs::File>,
    /// Names may have been lost since the start: until the next nothing is called durable.
    is_lost: AtomicBool,
}

impl View {
    pub(super) fn new(root: PathBuf, storage: Arc<dyn Storage>) -> Self {
        Self {
            root,
            storage,
            homes: Mutex::default(),
            noted: Mutex::default(),
            file_system: OnceLock::new(),
            is_lost: AtomicBool::new(false),
        }
    }

    /// The directory of all views.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    pub(super) fn home(&self, partner: &str) -> io::Result<PathBuf> {
        let home = self.root.join(partner);
        if !self.homes.lock().contains(partner) {
            create_private(&home.join(OUT))?;
            self.homes.lock().insert(partner.to_owned());
        }
        Ok(home)
    }

    pub(super) fn path(&self, partner: &str, name: &Name) -> PathBuf {
        self.root.join(partner).join(name.as_str())
    }

    /// Where a partner's own command finds the name. No link above it is followed: it would lead out of the directory.
    pub(super) fn within(&self, partner: &str, name: &Name) -> Result<PathBuf, Refusal> {
        let mut path = self.home(partner)?;
        let mut parts = name.as_str().split('/').peekable();
        while let Some(part) = parts.next() {
            path.push(part);
            if parts.peek().is_some() && fs::symlink_metadata(&path).is_ok_and(|there| there.is_symlink()) {
                return Err(Refusal::NotFound);
            }
        }
        Ok(path)
    }

    /// Whether a file of that name can be shown: its directory exists, and it is not a directory itself.
    pub(super) fn has_room_for(&self, partner: &str, name: &Name) -> Result<(), Refusal> {
        let path = self.within(partner, name)?;
        match path.parent().map(fs::symlink_metadata) {
            Some(Ok(parent)) if parent.is_dir() => {}
            Some(Err(error)) if !matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
                return Err(error.into());
            }
            _ => return Err(Refusal::NotFound),
        }
        match fs::symlink_metadata(&path) {
            Ok(there) if there.is_dir() => Err(Refusal::BadName("a directory has that name".to_owned())),
            Ok(_) => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    /// Shows the file under its name, in place of an older one of that name. Blocks.
    pub(super) fn show(&self, id: FileId, partner: &str, name: &Name) -> Result<(), StorageError> {
        let shown = self.path(partner, name);
        match self.storage.place_blocking(id, &shown, Placement::Link) {
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::AlreadyExists => {}
            Err(StorageError::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
                let doing = || format!("cannot create the directory of {name}");
                self.home(partner).and_then(|_| create_parent(&shown)).map_err(|e| StorageError::io(doing(), e))?;
            }
            other => return other,
        }
        let aside = self.root.join(ASIDE);
        let doing = || format!("cannot show file {id}");
        create_private(&aside).map_err(|error| StorageError::io(doing(), error))?;
        let aside = aside.join(id.to_string());
        remove_if_there(&aside).map_err(|error| StorageError::io(doing(), error))?;
        self.storage.place_blocking(id, &aside, Placement::Link)?;
        let before = fs::symlink_metadata(&shown).ok();
        let renamed = fs::rename(&aside, &shown);
        // A rename between two names of the same bytes does nothing, and leaves the first.
        remove_if_there(&aside).map_err(|error| StorageError::io(doing(), error))?;
        renamed.map_err(|error| StorageError::io(doing(), error))?;
        let now = fs::symlink_metadata(&shown).map(|now| now.ino()).ok();
        if let Some(before) = before.filter(|before| now.is_some_and(|now| now != before.ino())) {
            self.forget_time(partner, &before);
        }
        Ok(())
    }

    /// Puts the view's names right for entries that were accepted since the last checkpoint, oldest first.
    pub(super) async fn rebuild(&self, entries: &[Entry]) -> (usize, usize) {
        let (mut shown, mut failed) = (0, 0);
        for entry in entries {
            let Ok(name) = Name::parse(&entry.name) else { continue };
            if self.shows(entry, &name).await {
                continue;
            }
            match self.show(entry.id, &entry.partner, &name) {
                Ok(()) => shown += 1,
                Err(error) => {
                    failed += 1;
                    tracing::warn!(file.id = %entry.id, %name, partner = %entry.partner, %error, "cannot rebuild the view");
                }
            }
        }
        (shown, failed)
    }

    /// Whether the name shows this very file: it is a link to it, or a copy. A link may still be to what a crash had left,
    /// before storage put that right, so what is no link is read.
    async fn shows(&self, entry: &Entry, name: &Name) -> bool {
        let path = self.path(&entry.partner, name);
        if !is_shown(&path, entry) {
            return false;
        }
        if self.storage.is_link(entry.id, &path).await.unwrap_or(false) {
            return true;
        }
        let (sha256, size_bytes) = (entry.sha256, entry.size_bytes);
        let read = tokio::task::spawn_blocking(move || sha256.is_of(&path, size_bytes));
        matches!(read.await, Ok(Ok(true)))
    }

    pub(super) fn hide(&self, partner: &str, name: &Name) -> io::Result<()> {
        let path = self.path(partner, name);
        let shown = fs::symlink_metadata(&path);
        fs::remove_file(path)?;
        if let Ok(shown) = shown {
            self.forget_time(partner, &shown);
        }
        Ok(())
    }

    /// Whether the name shows bytes of its own, as where there are no hard links.
    pub(super) fn may_be_a_copy(&self, partner: &str, name: &Name) -> bool {
        fs::symlink_metadata(self.path(partner, name)).is_ok_and(|there| there.is_file() && there.nlink() == 1)
    }

    /// The sequence up to which names are known to be durable, 0 if none are.
    pub(super) fn checkpoint(&self) -> u64 {
        fs::read_to_string(self.root.join(CHECKPOINT)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    }

    /// The sequence that was noted at least an interval ago, if it is time; the given one is noted then.
    pub(super) fn due_checkpoint(&self, seq: u64, elapsed: Duration, every: Duration) -> Option<u64> {
        let mut noted = self.noted.lock();
        match *noted {
            Some((at, _)) if elapsed.saturating_sub(at) < every => None,
            _ => noted.replace((elapsed, seq)).map(|(_, earlier)| earlier),
        }
    }

    /// Makes all names durable and notes that those up to `seq` are.
    pub(super) fn set_checkpoint(&self, seq: u64) -> io::Result<()> {
        let synced = rustix::fs::syncfs(self.file_system()?);
        if synced.is_err() {
            // Another try would be told nothing of what was lost.
            self.is_lost.store(true, Ordering::Release);
        }
        if self.is_lost.load(Ordering::Acquire) || self.storage.poisoned().is_some() {
            return Err(synced.err().map_or_else(|| io::Error::other("the file system had failed"), io::Error::from));
        }
        let aside = self.root.join(".checkpoint.new");
        fs::write(&aside, format!("{seq}\n"))?;
        fs::File::open(&aside)?.sync_all()?;
        fs::rename(&aside, self.root.join(CHECKPOINT))?;
        fs::File::open(&self.root)?.sync_all()
    }

    fn file_system(&self) -> io::Result<&fs::File> {
        if let Some(there) = self.file_system.get() {
            return Ok(there);
        }
        let opened = fs::File::open(&self.root)?;
        Ok(self.file_system.get_or_init(|| opened))
    }

    /// Makes ready to show names: nothing was shown before. Removes what a crash left aside.
    pub(super) fn begin(&self) -> io::Result<()> {
        create_private(&self.root)?;
        if let Err(error) = rustix::fs::syncfs(self.file_system()?) {
            tracing::warn!(%error, "the file system of the views had failed before the start");
        }
        match fs::remove_dir_all(self.root.join(ASIDE)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }
}

/// Whether the name shows this very file, as far as size and time tell: bytes older than the upload are another's.
fn is_shown(path: &Path, entry: &Entry) -> bool {
    let Ok(there) = fs::symlink_metadata(path) else { return false };
    let written = there.modified().map(DateTime::<Utc>::from).map(|at| at.timestamp_millis()).unwrap_or(i64::MIN);
    there.is_file()
        && there.len() == entry.size_bytes
        && written >= i64::try_from(entry.id.unix_ms()).unwrap_or(i64::MAX)
}

/// Creates a directory and those above it, mode 0700.
pub(super) fn create_private(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

fn create_parent(path: &Path) -> io::Result<()> {
    path.parent().map_or(Ok(()), create_private)
}

fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
