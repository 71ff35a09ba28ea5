//! One sync of a directory for all who wait for it.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use parking_lot::{Condvar, Mutex};

use crate::disk::Disk;

/// Syncs directories, each by one thread at a time. Whoever comes while a sync runs waits for the next one, which
/// serves all who came meanwhile: a sync that has begun may have missed their names.
#[derive(Debug, Default)]
pub(super) struct DirSync {
    dirs: Mutex<HashMap<PathBuf, Progress>>,
    ended: Condvar,
}

#[derive(Clone, Debug, Default)]
struct Progress {
    begun: u64,
    done: u64,
    running: bool,
    waiting: usize,
    /// A directory whose sync failed once is never good again.
    failed: Option<(io::ErrorKind, String)>,
}

impl DirSync {
    /// Makes the names that the caller has changed in `dir` durable. Blocks.
    pub(super) fn sync(&self, disk: &dyn Disk, dir: &Path) -> io::Result<()> {
        let mut dirs = self.dirs.lock();
        let progress = entry(&mut dirs, dir);
        let mine = progress.begun + 1;
        progress.waiting += 1;
        loop {
            let progress = entry(&mut dirs, dir);
            if progress.done >= mine || progress.failed.is_some() {
                break;
            }
            if progress.running {
                self.ended.wait(&mut dirs);
                continue;
            }
            progress.running = true;
            progress.begun += 1;
            drop(dirs);
            let outcome = disk.sync_dir(dir);
            dirs = self.dirs.lock();
            let progress = entry(&mut dirs, dir);
            progress.running = false;
            progress.done = progress.begun;
            progress.failed = outcome.err().map(|error| (error.kind(), error.to_string()));
            self.ended.notify_all();
        }
        let progress = entry(&mut dirs, dir);
        progress.waiting -= 1;
        let failed = progress.failed.clone();
        if progress.waiting == 0 {
            dirs.remove(dir);
        }
        failed.map_or(Ok(()), |(kind, what)| Err(io::Error::new(kind, what)))
    }
}

fn entry<'a>(dirs: &'a mut HashMap<PathBuf, Progress>, dir: &Path) -> &'a mut Progress {
    dirs.entry(dir.to_path_buf()).or_default()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::disk::OsDisk;

    #[test]
    fn all_who_wait_are_served_and_nothing_is_left_behind() {
        let dir = tempfile::tempdir().expect("a directory");
        let dirs = Arc::new(DirSync::default());
        std::thread::scope(|scope| {
            for _ in 0..32 {
                scope.spawn(|| dirs.sync(&OsDisk, dir.path()).expect("synced"));
            }
        });
        assert!(dirs.dirs.lock().is_empty());
        assert!(dirs.sync(&OsDisk, &dir.path().join("absent")).is_err());
    }
}
