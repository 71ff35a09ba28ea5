//! The clock of a session's transfers: it ends those that stall and those that take too long, whatever door they go
//! through.
//!
//! A transfer that goes on step by step has the clock over each step (`step`). Where several files are written in turn,
//! as over SFTP, one stands still when nothing of any file of its session moves (`moving`, `overdue`): while one waits
//! for its bandwidth or for storage the requests for others are not read.

use std::{
    sync::atomic::{AtomicU64, AtomicUsize, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until, timeout};

const GIB: u64 = 1 << 30;

/// The bounds of a transfer's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// The longest time without a byte.
    pub stalled: Duration,
    /// The longest time for each GiB begun, however steadily its bytes move.
    pub longest_per_gib: Duration,
}

impl TransferLimits {
    /// The time that a transfer of `bytes` may take.
    fn longest(&self, bytes: u64) -> Duration {
        self.longest_per_gib.saturating_mul(u32::try_from(bytes / GIB + 1).unwrap_or(u32::MAX))
    }
}

/// The reason why the clock ends a transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doors) enum Overdue {
    /// Nothing has moved for too long.
    Stalled,
    /// It takes longer than its size allows.
    TooLong,
}

/// The limits of all transfers of a session, and since when none of them moves.
#[derive(Debug)]
pub(in crate::doors) struct TransferClock {
    limits: TransferLimits,
    /// Transfers that move bytes now.
    moving: AtomicUsize,
    still_since: Mutex<Instant>,
    /// The time that was waited for the partner's bandwidth, which is not the client's fault.
    throttled_micros: AtomicU64,
}

/// The time of one transfer so far.
#[derive(Clone, Copy, Debug)]
pub(in crate::doors) struct TransferTime {
    began: Instant,
    throttled_before: Duration,
}

/// A transfer that moves bytes, until it is dropped.
pub(in crate::doors) struct Moving<'a>(&'a TransferClock);

/// A wait for the partner's bandwidth, until it is dropped.
pub(super) struct Throttling<'a> {
    clock: &'a TransferClock,
    began: Instant,
}

impl TransferClock {
    /// The clock of a session that begins now.
    pub(in crate::doors) fn new(limits: TransferLimits) -> Self {
        let (moving, throttled_micros) = (AtomicUsize::new(0), AtomicU64::new(0));
        Self { limits, moving, still_since: Mutex::new(Instant::now()), throttled_micros }
    }

    /// The limits that it holds transfers to.
    pub(in crate::doors) fn limits(&self) -> TransferLimits {
        self.limits
    }

    /// Some file of the session moves from now on: none of them stalls meanwhile.
    pub(in crate::doors) fn moving(&self) -> Moving<'_> {
        self.moving.fetch_add(1, Ordering::AcqRel);
        Moving(self)
    }

    /// Begins a wait for the partner's bandwidth.
    pub(super) fn throttling(&self) -> Throttling<'_> {
        Throttling { clock: self, began: Instant::now() }
    }

    fn throttled(&self) -> Duration {
        Duration::from_micros(self.throttled_micros.load(Ordering::Acquire))
    }

    /// A transfer begins. What was waited for bandwidth before is not its own.
    pub(in crate::doors) fn begin(&self) -> TransferTime {
        TransferTime { began: Instant::now(), throttled_before: self.throttled() }
    }

    /// Returns the time from which on a transfer that has moved this many bytes has taken too long;
    /// `None` if never.
    fn end(&self, transfer: &TransferTime, bytes: u64) -> Option<Instant> {
        let most = self.limits.longest(bytes);
        transfer.began.checked_add(most.checked_add(self.throttled() - transfer.throttled_before)?)
    }

    /// Returns whether a transfer that has moved so many bytes has taken longer than its size allows.
    pub(in crate::doors) fn is_too_long(&self, transfer: &TransferTime, bytes: u64) -> bool {
        self.end(transfer, bytes).is_some_and(|end| Instant::now() >= end)
    }

    /// Does one step of a transfer that has moved so many bytes: something must move before it stalls or takes too
    /// long.
    /// Cancel safe if the step is.
    ///
    /// # Errors
    /// The reason why the transfer has to end. The step is dropped then.
    pub(in crate::doors) async fn step<T>(
        &self,
        transfer: &TransferTime,
        bytes: u64,
        step: impl Future<Output = T>,
    ) -> Result<T, Overdue> {
        let end = self.end(transfer, bytes);
        let left = end.map_or(Duration::MAX, |end| end.saturating_duration_since(Instant::now()));
        if left.is_zero() {
            return Err(Overdue::TooLong);
        }
        match timeout(self.limits.stalled.min(left), step).await {
            Ok(done) => Ok(done),
            Err(_) if left <= self.limits.stalled => Err(Overdue::TooLong),
            Err(_) => Err(Overdue::Stalled),
        }
    }

    /// Waits until a transfer that has moved so many bytes stalls or takes too long, and returns the reason.
    pub(in crate::doors) async fn overdue(&self, transfer: &TransferTime, bytes: u64) -> Overdue {
        loop {
            let now = Instant::now();
            let end = self.end(transfer, bytes);
            if end.is_some_and(|end| now >= end) {
                return Overdue::TooLong;
            }
            let still_since = match self.moving.load(Ordering::Acquire) {
                0 => (*self.still_since.lock()).max(transfer.began),
                _ => now,
            };
            let stalls = still_since + self.limits.stalled;
            if now >= stalls {
                return Overdue::Stalled;
            }
            sleep_until(end.map_or(stalls, |end| stalls.min(end))).await;
        }
    }
}

impl Drop for Moving<'_> {
    fn drop(&mut self) {
        // Before the count: a look in between sees a transfer that moves, or one that stands still
        // since now.
        *self.0.still_since.lock() = Instant::now();
        self.0.moving.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Drop for Throttling<'_> {
    fn drop(&mut self) {
        let waited = u64::try_from(self.began.elapsed().as_micros()).unwrap_or(u64::MAX);
        self.clock.throttled_micros.fetch_add(waited, Ordering::AcqRel);
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
        let (began, transfer) = (Instant::now(), clock.begin());
        assert_eq!(clock.overdue(&transfer, 0).await, Overdue::Stalled);
        assert!(began.elapsed() >= millis(60));
        let moving = clock.moving();
        let waits = tokio::time::timeout(millis(200), clock.overdue(&transfer, 0)).await;
        assert!(waits.is_err(), "another moves");
        drop(moving);
        assert_eq!(clock.overdue(&transfer, 0).await, Overdue::Stalled);
        assert!(began.elapsed() >= millis(320));
    }

    #[tokio::test]
    async fn what_drips_is_overdue_and_waits_for_bandwidth_do_not_count() {
        let clock = TransferClock::new(TransferLimits { stalled: millis(10_000), longest_per_gib: millis(100) });
        let (began, transfer) = (Instant::now(), clock.begin());
        let throttling = clock.throttling();
        tokio::time::sleep(millis(100)).await;
        drop(throttling);
        let dripping = async {
            loop {
                drop(clock.moving());
                tokio::time::sleep(millis(1)).await;
            }
        };
        let why = tokio::select! {
            why = clock.overdue(&transfer, 7) => Some(why),
            () = dripping => None,
        };
        assert_eq!(why, Some(Overdue::TooLong));
        assert!(began.elapsed() >= millis(200));
        assert!(clock.is_too_long(&transfer, (1 << 30) - 1));
        assert!(!clock.is_too_long(&clock.begin(), 7));
    }

    #[tokio::test]
    async fn each_step_has_its_time_and_all_of_them_together() {
        let clock = TransferClock::new(TransferLimits { stalled: millis(50), longest_per_gib: millis(180) });
        let (began, transfer) = (Instant::now(), clock.begin());
        let never = clock.step(&transfer, 0, std::future::pending::<()>()).await;
        assert_eq!(never, Err(Overdue::Stalled));
        let overdue = loop {
            assert!(began.elapsed() < millis(10_000), "a byte now and then keeps it for ever");
            if let Err(overdue) = clock.step(&transfer, 7, tokio::time::sleep(millis(5))).await {
                break overdue;
            }
        };
        assert_eq!(overdue, Overdue::TooLong);
        assert!(began.elapsed() >= millis(180));
        assert_eq!(clock.step(&transfer, 1 << 30, std::future::ready(7)).await, Ok(7), "a GiB more has more time");
    }
}
