//! One sync of a directory for all who wait for it.

use std::{
    collections::HashMap,
    io,
    path::{Path, PathBuf},
};

use parking_lot::{Condvar, Mutex};

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
    /// Makes the names that the caller has changed in `dir` durable, by its own `sync` or another's. Blocks.
    pub(super) fn sync(&self, dir: &Path, sync: impl Fn(&Path) -> io::Result<()>) -> io::Result<()> {
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
            let outcome = sync(dir);
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
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    /// The first sync ends when all others wait for one.
    fn share(outcome: impl Fn(u64) -> io::Result<()> + Sync) -> (u64, Vec<io::Result<()>>) {
        let (dirs, dir, syncs) = (DirSync::default(), Path::new("/spool"), AtomicU64::new(0));
        let waiting = || dirs.dirs.lock().get(dir).map_or(0, |progress| progress.waiting);
        let sync = |_: &Path| {
            let mine = syncs.fetch_add(1, Ordering::SeqCst);
            while mine == 0 && waiting() < 32 {
                std::thread::yield_now();
            }
            outcome(mine)
        };
        let outcomes = std::thread::scope(|scope| {
            let callers: Vec<_> = (0..32).map(|_| scope.spawn(|| dirs.sync(dir, sync))).collect();
            callers.into_iter().map(|caller| caller.join().expect("no caller panics")).collect()
        });
        assert!(dirs.dirs.lock().is_empty(), "nothing is left behind");
        (syncs.into_inner(), outcomes)
    }

    #[test]
    fn all_who_come_while_a_sync_runs_share_the_next() {
        let (syncs, outcomes) = share(|_| Ok(()));
        assert!(syncs == 2 && outcomes.iter().all(Result::is_ok), "{syncs} {outcomes:?}");
    }

    #[test]
    fn a_failure_reaches_all_who_waited_for_it() {
        let (_, outcomes) = share(|mine| if mine == 1 { Err(io::Error::other("broken")) } else { Ok(()) });
        assert_eq!(outcomes.iter().filter(|outcome| outcome.is_ok()).count(), 1);
    }
}
