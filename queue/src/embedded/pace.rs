//! Waiting for commands, with a look at the index each second while it is behind.
//!
//! The thread blocks in `recv` while all is well. Only an index that lacks room has it wake each
//! second.

use std::{
    sync::Arc,
    task::{Context, Poll, Wake, Waker},
    thread::{self, Thread},
    time::{Duration, Instant},
};

use tokio::sync::mpsc;

/// The time between two tries to bring up an index that is behind.
const LOOK: Duration = Duration::from_secs(1);

/// The rhythm of the committer's thread.
#[derive(Debug, Default)]
pub(super) struct Pace {
    looked_at: Option<Instant>,
}

struct Unpark(Thread);

impl Wake for Unpark {
    fn wake(self: Arc<Self>) {
        self.0.unpark();
    }
}

impl Pace {
    /// Waits for the next command; with `looks`, for a second at most. None at the end.
    pub(super) fn next<T>(&self, commands: &mut mpsc::Receiver<T>, looks: bool) -> Option<Option<T>> {
        if !looks {
            return commands.blocking_recv().map(Some);
        }
        let waker = Waker::from(Arc::new(Unpark(thread::current())));
        let mut context = Context::from_waker(&waker);
        let until = now() + LOOK;
        loop {
            if let Poll::Ready(command) = commands.poll_recv(&mut context) {
                return command.map(Some);
            }
            let left = until.saturating_duration_since(now());
            if left.is_zero() {
                return Some(None);
            }
            thread::park_timeout(left);
        }
    }

    /// True once a second.
    pub(super) fn is_due(&mut self) -> bool {
        let now = now();
        let is_due = self.looked_at.is_none_or(|at| now.saturating_duration_since(at) >= LOOK);
        if is_due {
            self.looked_at = Some(now);
        }
        is_due
    }
}

#[allow(clippy::disallowed_methods, reason = "for pace alone; nothing is decided by it")]
fn now() -> Instant {
    Instant::now()
}
