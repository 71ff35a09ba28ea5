//! One sync of a directory for all callers that wait for it.
//!
//! A commit renames first and asks for the sync then. A sync that has begun before may have missed
//! the name, so the caller waits for the next one, which it may share with others (`rounds`).

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

use parking_lot::Mutex;

use super::rounds::Rounds;

/// Syncs of directories, those of each in rounds: a sync that has begun may have missed the names of who comes now.
#[derive(Debug, Default)]
pub(super) struct DirSync {
    dirs: Mutex<HashMap<PathBuf, Arc<DirRounds>>>,
}

type DirRounds = Rounds<(), (io::ErrorKind, String)>;

impl DirSync {
    /// Makes the names that the caller has changed in `dir` durable, by its own `sync` or another's. Blocks.
    pub(super) fn sync(&self, dir: &Path, sync: impl FnOnce(&Path) -> io::Result<()>) -> io::Result<()> {
        let rounds = self.dirs.lock().entry(dir.to_path_buf()).or_default().clone();
        let outcome = rounds.enter((), |_| sync(dir).map_err(|error| (error.kind(), error.to_string())));
        let mut dirs = self.dirs.lock();
        // One is the map's, one is ours, and others come by them under this lock alone.
        if Arc::strong_count(&rounds) == 2 {
            dirs.remove(dir);
        }
        outcome.map_err(|failed| match failed {
            Some((kind, what)) => io::Error::new(kind, what),
            None => io::Error::other("the sync was cut short"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_and_nothing_is_left_behind() {
        let (dirs, dir) = (DirSync::default(), Path::new("/spool"));
        dirs.sync(dir, |asked| {
            assert_eq!(asked, dir);
            Ok(())
        })
        .expect("synced");
        let failed = dirs.sync(dir, |_| Err(io::ErrorKind::StorageFull.into())).expect_err("it failed");
        assert_eq!(failed.kind(), io::ErrorKind::StorageFull);
        assert!(dirs.dirs.lock().is_empty());
    }
}
