//! The machine's own disk, with an observer that is told how long syncs take.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Instant,
};

use super::{
    Disk, DiskFile, OsDisk,
    os::{self, OsFile},
};
use crate::{Observer, Space, Synced};

/// The machine's own disk, observed. It costs two looks at the clock for each sync.
#[derive(Debug)]
pub struct ObservedDisk {
    observer: Arc<dyn Observer>,
}

impl ObservedDisk {
    /// The disk, whose syncs this one is told of.
    #[must_use]
    pub fn new(observer: Arc<dyn Observer>) -> Self {
        Self { observer }
    }

    fn observed(&self, file: OsFile) -> Arc<dyn DiskFile> {
        Arc::new(file.observed_by(&self.observer))
    }
}

/// Does a sync, and tells the observer how long it took.
pub(super) fn timed(observer: &dyn Observer, what: Synced, sync: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
    let began = now();
    let outcome = sync();
    observer.synced(what, now().saturating_duration_since(began));
    outcome
}

#[allow(clippy::disallowed_methods, reason = "how long something takes; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}

impl Disk for ObservedDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        os::create_new(path).map(|file| self.observed(file))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        os::open(path, write).map(|file| self.observed(file))
    }

    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename_new(from, to)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename_over(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        OsDisk.unlink(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir(path)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        OsDisk.list(dir)
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        timed(&*self.observer, Synced::Directory, || OsDisk.sync_dir(dir))
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        OsDisk.space(path)
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        OsDisk.real_path(path)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use parking_lot::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Told(Mutex<Vec<(Synced, Duration)>>);

    impl Observer for Told {
        fn synced(&self, what: Synced, took: Duration) {
            self.0.lock().push((what, took));
        }
    }

    #[test]
    fn each_sync_is_told_of_once_with_its_kind() {
        let (told, dir) = (Arc::new(Told::default()), tempfile::tempdir().expect("a directory"));
        let disk = ObservedDisk::new(told.clone());
        let file = disk.create_new(&dir.path().join("a")).expect("created");
        file.write_at(b"hello", 0).expect("written");
        assert!(told.0.lock().is_empty(), "writing is no sync");
        file.sync_data().expect("synced");
        disk.open(&dir.path().join("a"), true).expect("opened").sync_all().expect("synced");
        disk.sync_dir(dir.path()).expect("synced");
        disk.sync_dir(&dir.path().join("none")).expect_err("is not there");
        let kinds: Vec<_> = told.0.lock().iter().map(|(what, _)| *what).collect();
        assert_eq!(kinds, [Synced::Data, Synced::File, Synced::Directory, Synced::Directory]);
        assert!(told.0.lock().iter().any(|(_, took)| !took.is_zero()), "{:?}", told.0.lock());
    }
}
