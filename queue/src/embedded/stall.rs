//! A change of the index that never ends, and what follows from it.
//!
//! sled 0.34 can stand still for ever: whoever takes a new segment of its file waits, with the lock on all segments, until a
//! truncation is done, and the seven threads that could do that wait for the lock, each with a write that it has finished.
//! Every reader then waits too, so nothing inside the process can help. The journal has all that was answered: ending the
//! process loses nothing, and who keeps it running (`Restart=always`) has a queue again in seconds.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, Thread},
    time::{Duration, Instant},
};

/// A disk that takes longer for one change of the index has failed.
const LIMIT: Duration = Duration::from_secs(120);

/// Watches over the changes of one index, from a thread of its own.
pub(super) struct Stall {
    marks: Arc<Marks>,
    watcher: Option<Thread>,
}

struct Marks {
    opened: Instant,
    /// When the change in progress began, in milliseconds after `opened` and 1; 0: there is none.
    began: AtomicU64,
    closed: AtomicBool,
}

impl Stall {
    /// Ends the process when a change takes longer than two minutes. Without a thread there is no watch, and no harm.
    pub(super) fn ends_the_process() -> Self {
        Self::new(LIMIT, || {
            tracing::error!(
                seconds = LIMIT.as_secs(),
                "the index of the queue stands still, and the server ends itself: nothing is lost, the next start goes on"
            );
            std::process::abort();
        })
    }

    /// `then` is called, once, when a change takes longer than `limit`.
    pub(super) fn new(limit: Duration, then: impl FnOnce() + Send + 'static) -> Self {
        let marks = Arc::new(Marks { opened: now(), began: 0.into(), closed: false.into() });
        let watched = Arc::clone(&marks);
        let watch = move || {
            while !watched.closed.load(Ordering::Acquire) {
                if watched.lasts() >= limit {
                    return then();
                }
                thread::park_timeout(limit / 4);
            }
        };
        let watcher = thread::Builder::new().name("index-watch".into()).spawn(watch);
        Self { marks, watcher: watcher.ok().map(|handle| handle.thread().clone()) }
    }

    /// Runs one change under the watch. Only one thread changes an index.
    pub(super) fn watched<T>(&self, change: impl FnOnce() -> T) -> T {
        self.marks.began.store(self.marks.now(), Ordering::Release);
        let changed = change();
        self.marks.began.store(0, Ordering::Release);
        changed
    }
}

impl Marks {
    fn now(&self) -> u64 {
        u64::try_from(now().saturating_duration_since(self.opened).as_millis()).unwrap_or(u64::MAX - 1) + 1
    }

    fn lasts(&self) -> Duration {
        match self.began.load(Ordering::Acquire) {
            0 => Duration::ZERO,
            began => Duration::from_millis(self.now().saturating_sub(began)),
        }
    }
}

impl Drop for Stall {
    fn drop(&mut self) {
        self.marks.closed.store(true, Ordering::Release);
        if let Some(watcher) = &self.watcher {
            watcher.unpark();
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "how long something takes; no entry depends on it")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[test]
    fn a_change_that_does_not_end_is_told_of_once_and_others_are_not() {
        let (tell, told) = mpsc::channel();
        let stall = Stall::new(Duration::from_millis(40), move || tell.send(()).unwrap());
        for _ in 0..100 {
            stall.watched(|| thread::sleep(Duration::from_millis(1)));
        }
        assert_eq!(told.try_recv(), Err(mpsc::TryRecvError::Empty));
        stall.watched(|| told.recv_timeout(Duration::from_secs(30)).unwrap());
        assert_eq!(told.recv(), Err(mpsc::RecvError), "the watch is over");
    }

    #[test]
    fn an_index_that_is_closed_is_watched_no_more() {
        let (tell, told) = mpsc::channel::<()>();
        // Waits for an hour, if nobody wakes it.
        let stall = Stall::new(Duration::from_secs(4 * 3_600), move || drop(tell));
        drop(stall);
        assert_eq!(told.recv_timeout(Duration::from_secs(30)), Err(mpsc::RecvTimeoutError::Disconnected));
    }
}
