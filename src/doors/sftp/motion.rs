//! How the bytes of files move on a connection: since when they stand still, and whether a transfer takes too long.
//!
//! A file stands still when nothing of any file of its connection moves: clients write several in turn, and while one
//! waits for its bandwidth or for storage the requests for others are not read.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::doors::lasting::most_time;

pub(super) const TOO_LONG: &str = "the transfer took too long";
pub(super) const STALLED: &str = "no data came for too long";

/// What transfers may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// How long nothing may move.
    pub(super) stalled: Duration,
    /// How long a transfer may last for each GiB begun.
    pub(super) longest_per_gib: Duration,
}

/// The motion of all files of a connection.
#[derive(Debug)]
pub(super) struct Motion {
    patience: Patience,
    /// Bytes that are being moved now, by so many.
    moving: AtomicUsize,
    still_since: Mutex<Instant>,
    /// Microseconds that were waited for bandwidth.
    paced: AtomicU64,
}

/// Bytes are being moved, until it is dropped.
pub(super) struct Moving<'a>(&'a Motion);

/// One transfer, from its beginning.
#[derive(Clone, Copy, Debug)]
pub(super) struct Span {
    began: Instant,
    paced_before: Duration,
}

impl Motion {
    pub(super) fn new(patience: Patience) -> Self {
        let (moving, paced) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { patience, moving, still_since: Mutex::new(Instant::now()), paced }
    }

    pub(super) fn patience(&self) -> Patience {
        self.patience
    }

    pub(super) fn moving(&self) -> Moving<'_> {
        self.moving.fetch_add(1, Ordering::AcqRel);
        Moving(self)
    }

    /// So long was waited for bandwidth, which is not the client's fault.
    pub(super) fn paced(&self, waited: Duration) {
        self.paced.fetch_add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    fn waited(&self) -> Duration {
        Duration::from_micros(self.paced.load(Ordering::Acquire))
    }

    pub(super) fn begin(&self) -> Span {
        Span { began: Instant::now(), paced_before: self.waited() }
    }

    /// When a transfer that has moved so many bytes has lasted too long. None is never.
    fn end(&self, span: &Span, bytes: u64) -> Option<Instant> {
        let most = most_time(self.patience.longest_per_gib, bytes);
        span.began.checked_add(most.checked_add(self.waited() - span.paced_before)?)
    }

    pub(super) fn is_over(&self, span: &Span, bytes: u64) -> bool {
        self.end(span, bytes).is_some_and(|end| Instant::now() >= end)
    }

    /// Waits until a transfer that has moved so many bytes stands still or lasts for too long, and says which.
    pub(super) async fn overdue(&self, span: &Span, bytes: u64) -> &'static str {
        loop {
            let now = Instant::now();
            let end = self.end(span, bytes);
            if end.is_some_and(|end| now >= end) {
                return TOO_LONG;
            }
            let still_since = match self.moving.load(Ordering::Acquire) {
                0 => (*self.still_since.lock()).max(span.began),
                _ => now,
            };
            let stalls = still_since + self.patience.stalled;
            if now >= stalls {
                return STALLED;
            }
            sleep_until(end.map_or(stalls, |end| stalls.min(end))).await;
        }
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        *self.0.still_since.lock() = Instant::now();
        self.0.moving.fetch_sub(1, Ordering::AcqRel);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn millis(count: u64) -> Duration {
        Duration::from_millis(count)
    }

    #[tokio::test]
    async fn what_stands_still_is_overdue_unless_another_moves() {
        let motion = Motion::new(Patience { stalled: millis(60), longest_per_gib: Duration::MAX });
        let (span, began) = (motion.begin(), Instant::now());
        assert_eq!(motion.overdue(&span, 0).await, STALLED);
        assert!(began.elapsed() >= millis(60));
        let moving = motion.moving();
        let waits = tokio::time::timeout(millis(200), motion.overdue(&span, 0)).await;
        assert!(waits.is_err(), "another moves");
        drop(moving);
        assert_eq!(motion.overdue(&span, 0).await, STALLED);
        assert!(began.elapsed() >= millis(320));
    }

    #[tokio::test]
    async fn what_drips_is_overdue_and_waits_for_bandwidth_do_not_count() {
        let motion = Motion::new(Patience { stalled: millis(10_000), longest_per_gib: millis(100) });
        let (span, began) = (motion.begin(), Instant::now());
        motion.paced(millis(100));
        let dripping = async {
            loop {
                drop(motion.moving());
                tokio::time::sleep(millis(1)).await;
            }
        };
        let why = tokio::select! {
            why = motion.overdue(&span, 7) => why,
            () = dripping => "",
        };
        assert_eq!(why, TOO_LONG);
        assert!(began.elapsed() >= millis(200));
        assert!(motion.is_over(&span, (1 << 30) - 1));
        assert!(!motion.is_over(&motion.begin(), 7));
    }
}
