//! The clock of a connection's transfers: it ends those that stall and those that take too long.
//!
//! A file stands still when nothing of any file of its connection moves: clients write several in turn, and while one
//! waits for its bandwidth or for storage the requests for others are not read.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

use crate::doors::time_limit::time_limit_for;

pub(super) const TOO_LONG: &str = "the transfer took too long";
pub(super) const STALLED: &str = "no data came for too long";

/// The time that transfers may take.
#[derive(Clone, Copy, Debug)]
pub(super) struct TransferLimits {
    /// The longest time without a byte.
    pub(super) stalled: Duration,
    /// The longest time for each GiB begun.
    pub(super) longest_per_gib: Duration,
}

/// The limits of all transfers of a connection, and since when none of them moves.
#[derive(Debug)]
pub(super) struct TransferClock {
    limits: TransferLimits,
    /// Transfers that move bytes now.
    moving: AtomicUsize,
    still_since: Mutex<Instant>,
    /// The time that was waited for the partner's bandwidth.
    throttled_micros: AtomicU64,
}

/// A transfer that moves bytes, until it is dropped.
pub(super) struct Moving<'a>(&'a TransferClock);

/// The start of one transfer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Transfer {
    began: Instant,
    throttled_before: Duration,
}

impl TransferClock {
    pub(super) fn new(limits: TransferLimits) -> Self {
        let (moving, throttled_micros) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { limits, moving, still_since: Mutex::new(Instant::now()), throttled_micros }
    }

    pub(super) fn limits(&self) -> TransferLimits {
        self.limits
    }

    pub(super) fn moving(&self) -> Moving<'_> {
        self.moving.fetch_add(1, Ordering::AcqRel);
        Moving(self)
    }

    /// Adds time that was waited for the partner's bandwidth, which is not the client's fault.
    pub(super) fn add_throttled(&self, waited: Duration) {
        self.throttled_micros.fetch_add(u64::try_from(waited.as_micros()).unwrap_or(u64::MAX), Ordering::AcqRel);
    }

    fn throttled(&self) -> Duration {
        Duration::from_micros(self.throttled_micros.load(Ordering::Acquire))
    }

    pub(super) fn begin(&self) -> Transfer {
        Transfer { began: Instant::now(), throttled_before: self.throttled() }
    }

    /// The time from which on a transfer that has moved so many bytes has taken too long; none is never.
    fn end(&self, transfer: &Transfer, bytes: u64) -> Option<Instant> {
        let most = time_limit_for(self.limits.longest_per_gib, bytes);
        transfer.began.checked_add(most.checked_add(self.throttled() - transfer.throttled_before)?)
    }

    pub(super) fn is_too_long(&self, transfer: &Transfer, bytes: u64) -> bool {
        self.end(transfer, bytes).is_some_and(|end| Instant::now() >= end)
    }

    /// Waits until a transfer that has moved so many bytes stalls or takes too long, and returns the reason.
    pub(super) async fn overdue(&self, transfer: &Transfer, bytes: u64) -> &'static str {
        loop {
            let now = Instant::now();
            let end = self.end(transfer, bytes);
            if end.is_some_and(|end| now >= end) {
                return TOO_LONG;
            }
            let still_since = match self.moving.load(Ordering::Acquire) {
                0 => (*self.still_since.lock()).max(transfer.began),
                _ => now,
            };
            let stalls = still_since + self.limits.stalled;
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
        let clock = TransferClock::new(TransferLimits { stalled: millis(60), longest_per_gib: Duration::MAX });
        let (transfer, began) = (clock.begin(), Instant::now());
        assert_eq!(clock.overdue(&transfer, 0).await, STALLED);
        assert!(began.elapsed() >= millis(60));
        let moving = clock.moving();
        let waits = tokio::time::timeout(millis(200), clock.overdue(&transfer, 0)).await;
        assert!(waits.is_err(), "another moves");
        drop(moving);
        assert_eq!(clock.overdue(&transfer, 0).await, STALLED);
        assert!(began.elapsed() >= millis(320));
    }

    #[tokio::test]
    async fn what_drips_is_overdue_and_waits_for_bandwidth_do_not_count() {
        let clock = TransferClock::new(TransferLimits { stalled: millis(10_000), longest_per_gib: millis(100) });
        let (transfer, began) = (clock.begin(), Instant::now());
        clock.add_throttled(millis(100));
        let dripping = async {
            loop {
                drop(clock.moving());
                tokio::time::sleep(millis(1)).await;
            }
        };
        let why = tokio::select! {
            why = clock.overdue(&transfer, 7) => why,
            () = dripping => "",
        };
        assert_eq!(why, TOO_LONG);
        assert!(began.elapsed() >= millis(200));
        assert!(clock.is_too_long(&transfer, (1 << 30) - 1));
        assert!(!clock.is_too_long(&clock.begin(), 7));
    }
}
