//! Directories outside the data directory, with the syncs that make names in them last.

use std::{
    collections::HashMap,
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;

/// Makes a directory and those above it that are missing, each durable before the next.
pub(super) fn make_durably(dir: &Path) -> io::Result<()> {
    if dir.is_dir() {
        return Ok(());
    }
    let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    make_durably(parent)?;
    match fs::create_dir(dir) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && dir.is_dir() => {}
        made => made?,
    }
    // Also when another thread has just made it, since its sync may not be done yet.
    sync(parent)
}

fn sync(dir: &Path) -> io::Result<()> {
    File::open(dir)?.sync_all()
}

/// Syncs of directories, one for all who wait for the same one.
#[derive(Debug, Default)]
pub(super) struct Syncs {
    dirs: Mutex<HashMap<PathBuf, Arc<Dir>>>,
}

#[derive(Debug, Default)]
struct Dir {
    asked: AtomicU64,
    /// The highest number of those asked for that a sync has covered.
    synced: Mutex<u64>,
}

impl Syncs {
    /// Makes the names that are in `dir` now durable. Blocks.
    pub(super) fn sync(&self, path: &Path) -> io::Result<()> {
        let dir = Arc::clone(self.dirs.lock().entry(path.to_owned()).or_default());
        let mine = dir.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let done = self.sync_once(&dir, mine, path);
        let mut dirs = self.dirs.lock();
        // Two are this table and this call: no one else is there.
        if Arc::strong_count(&dir) == 2 {
            dirs.remove(path);
        }
        done
    }

    fn sync_once(&self, dir: &Dir, mine: u64, path: &Path) -> io::Result<()> {
        let mut synced = dir.synced.lock();
        if *synced >= mine {
            return Ok(());
        }
        // All who have asked by now made their names before, so this sync covers them.
        let covered = dir.asked.load(Ordering::SeqCst);
        sync(path)?;
        *synced = covered;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_may_sync_one_directory_and_nothing_stays_behind() {
        let root = tempfile::tempdir().unwrap();
        let dir = root.path().join("a/b/c");
        make_durably(&dir).unwrap();
        let syncs = Syncs::default();
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| (0..20).for_each(|_| syncs.sync(&dir).unwrap()));
            }
        });
        assert!(syncs.dirs.lock().is_empty());
        assert!(syncs.sync(&root.path().join("missing")).is_err());
    }
}
