//! How fast the bytes of one partner may move, in all its sessions and both directions together.
//!
//! A token bucket in two running totals: what was promised to sessions, and what time has paid for. Who has moved bytes
//! is promised as many and waits until they are paid. What time pays runs ahead of what was promised by at most one
//! second's worth, so that small files after a pause move at once.
//!
//! Bytes are promised in small portions, in turn: a session with large buffers gets no more than one with small ones.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::sleep;

use crate::clock::Clock;

const PORTION_BYTES: u64 = 32 << 10;
/// How far time may pay ahead.
const AHEAD: Duration = Duration::from_secs(1);
/// How long a wait goes on before rate and clock are looked at again: the policy may have changed.
const LOOK_AGAIN: Duration = Duration::from_millis(100);
const NANOS: u128 = 1_000_000_000;

/// The pace of one partner.
#[derive(Debug)]
pub(super) struct Pace {
    clock: Arc<dyn Clock>,
    /// 0: as fast as can be.
    bytes_per_second: AtomicU64,
    books: Mutex<Books>,
}

/// In bytes times 10⁹: a rate in bytes a second pays so many in a nanosecond.
#[derive(Debug, Default)]
struct Books {
    promised: u128,
    paid: u128,
    at: Duration,
}

impl Books {
    fn settle(&mut self, now: Duration, rate: u64) {
        let passed = now.saturating_sub(self.at).as_nanos();
        let most = self.promised + u128::from(rate) * AHEAD.as_nanos();
        self.paid = (self.paid + u128::from(rate) * passed).min(most);
        self.at = self.at.max(now);
    }
}

impl Pace {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, bytes_per_second: AtomicU64::new(0), books: Mutex::default() }
    }

    /// From now on; none: as fast as can be. Who waits already waits at the new rate.
    pub(super) fn set(&self, bytes_per_second: Option<u64>) {
        let mut books = self.books.lock();
        let before = self.bytes_per_second.swap(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
        books.settle(self.clock.elapsed(), before);
    }

    fn rate(&self) -> u64 {
        self.bytes_per_second.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` that were moved are paid for. Cancel safe: they count all the same, for they were moved.
    pub(super) async fn pay(&self, bytes: u64) {
        if self.rate() == 0 {
            return;
        }
        let mut owed = Owed { pace: self, bytes };
        while let Some(target) = owed.promise_portion() {
            while let Some(wait) = self.wait(target) {
                sleep(wait.min(LOOK_AGAIN)).await;
            }
        }
    }

    /// How long until time has paid as much as `target`; none when it has, or need not.
    fn wait(&self, target: u128) -> Option<Duration> {
        let mut books = self.books.lock();
        let rate = self.rate();
        books.settle(self.clock.elapsed(), rate);
        if rate == 0 || books.paid >= target {
            return None;
        }
        let nanos = (target - books.paid).div_ceil(u128::from(rate));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn promise(&self, bytes: u64) -> u128 {
        let mut books = self.books.lock();
        books.settle(self.clock.elapsed(), self.rate());
        books.promised += u128::from(bytes) * NANOS;
        books.promised
    }
}

/// Bytes that were moved and are not promised yet.
struct Owed<'a> {
    pace: &'a Pace,
    bytes: u64,
}

impl Owed<'_> {
    fn promise_portion(&mut self) -> Option<u128> {
        let portion = self.bytes.min(PORTION_BYTES);
        self.bytes -= portion;
        (portion > 0).then(|| self.pace.promise(portion))
    }
}

impl Drop for Owed<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            self.pace.promise(self.bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;
    use futures_util::FutureExt as _;

    use super::*;
    use crate::clock::SetClock;

    const RATE: u64 = 1_000_000;

    fn pace() -> (Pace, SetClock) {
        let clock = SetClock::new(DateTime::UNIX_EPOCH);
        let pace = Pace::new(Arc::new(clock.clone()));
        pace.set(Some(RATE));
        (pace, clock)
    }

    fn seconds(wait: Option<Duration>) -> f64 {
        wait.unwrap_or_default().as_secs_f64()
    }

    #[test]
    fn bytes_are_paid_at_the_rate_and_at_most_a_second_ahead() {
        let (pace, clock) = pace();
        clock.advance(Duration::from_secs(60));
        let first = pace.promise(RATE);
        assert_eq!(pace.wait(first), None, "a second's worth is there after a pause");
        let second = pace.promise(3 * RATE);
        assert_eq!(seconds(pace.wait(second)), 3.0, "and no more than that");
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(seconds(pace.wait(second)), 0.5);
        clock.advance(Duration::from_millis(500));
        assert_eq!(pace.wait(second), None);
    }

    #[test]
    fn whatever_the_order_time_pays_for_no_more_than_the_rate() {
        let (pace, clock) = pace();
        let (mut moved, mut seed) = (0, 7_u64);
        for _ in 0..5_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = (seed >> 40) % 300_000;
            let target = pace.promise(bytes);
            // As an honest session does: the next portion only when this one is paid.
            while let Some(wait) = pace.wait(target) {
                clock.advance(wait.min(Duration::from_millis(seed % 90 + 1)));
            }
            moved += bytes;
            if seed % 17 == 0 {
                clock.advance(Duration::from_millis(seed % 3_000));
            }
            let most = clock.elapsed().as_secs_f64() * RATE as f64 + RATE as f64;
            assert!(moved as f64 <= most, "{moved} bytes in {:?}", clock.elapsed());
        }
    }

    #[test]
    fn a_new_rate_holds_for_those_who_wait() {
        let (pace, clock) = pace();
        let target = pace.promise(10 * RATE);
        assert_eq!(seconds(pace.wait(target)), 10.0);
        clock.advance(Duration::from_secs(2));
        pace.set(Some(4 * RATE));
        assert_eq!(seconds(pace.wait(target)), 2.0);
        pace.set(None);
        assert_eq!(pace.wait(target), None);
    }

    #[tokio::test]
    async fn without_a_rate_nothing_is_counted() {
        let (pace, _) = pace();
        pace.set(None);
        assert!(pace.pay(u64::MAX).now_or_never().is_some());
        assert_eq!(pace.books.lock().promised, 0);
    }

    #[test]
    fn two_who_move_at_once_get_the_same_whatever_their_buffers() {
        let (pace, clock) = pace();
        // Each moves the next piece when it has paid for the one before.
        let mut moved = [0_u64; 2];
        let mut owed = [1 << 20, PORTION_BYTES].map(|piece| (piece, Owed { pace: &pace, bytes: 0 }, None));
        while clock.elapsed() < Duration::from_secs(30) {
            for (mover, (piece, owed, target)) in owed.iter_mut().enumerate() {
                while target.is_none_or(|target| pace.wait(target).is_none()) {
                    *target = owed.promise_portion();
                    if target.is_none() {
                        owed.bytes = *piece;
                        moved[mover] += *piece;
                    }
                }
            }
            clock.advance(Duration::from_millis(1));
        }
        let [large, small] = moved;
        assert!(large + small <= 31 * RATE + (1 << 20), "{large} and {small}");
        assert!(large + small >= 29 * RATE, "{large} and {small}");
        assert!(large.abs_diff(small) <= 2 << 20, "{large} and {small}");
    }

    #[tokio::test]
    async fn what_was_moved_counts_also_when_nobody_waits_for_it_any_more() {
        let (pace, _) = pace();
        assert!(pace.pay(10 * RATE).now_or_never().is_none());
        assert_eq!(pace.books.lock().promised, u128::from(10 * RATE) * NANOS);
    }
}
