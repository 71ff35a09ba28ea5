//! The bandwidth limit of one partner, over all its sessions and both directions together.
//!
//! A token bucket, kept as two running totals: the bytes that sessions have reserved, and the bytes that time has
//! refilled. A session that has moved bytes reserves as many and waits until they are refilled. The refilled total runs
//! ahead of the reserved one by at most one second's worth, so that small files after a pause move at once.
//!
//! Bytes are reserved in small portions, in turn: a session with large buffers gets no more than one with small ones.

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
/// The largest lead of the refilled total, as time at the limit.
const BURST: Duration = Duration::from_secs(1);
/// The longest wait before rate and clock are checked again, since the policy may have changed.
const RECHECK_EVERY: Duration = Duration::from_millis(100);
const NANOS: u128 = 1_000_000_000;

/// The bandwidth limit of one partner.
#[derive(Debug)]
pub(super) struct BandwidthLimit {
    clock: Arc<dyn Clock>,
    /// 0: no limit.
    bytes_per_second: AtomicU64,
    bucket: Mutex<Bucket>,
}

/// Totals in units of 10⁻⁹ bytes: a rate in bytes a second refills that many units in a nanosecond.
#[derive(Debug, Default)]
struct Bucket {
    reserved: u128,
    refilled: u128,
    refilled_at: Duration,
}

impl Bucket {
    fn refill(&mut self, now: Duration, rate: u64) {
        let passed = now.saturating_sub(self.refilled_at).as_nanos();
        // The lead is bounded: an hour of silence saves up no more than a second.
        let most = self.reserved + u128::from(rate) * BURST.as_nanos();
        self.refilled = (self.refilled + u128::from(rate) * passed).min(most);
        self.refilled_at = self.refilled_at.max(now);
    }
}

impl BandwidthLimit {
    pub(super) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, bytes_per_second: AtomicU64::new(0), bucket: Mutex::default() }
    }

    /// Sets the limit from now on; none: no limit. Sessions that wait already wait at the new rate.
    pub(super) fn set(&self, bytes_per_second: Option<u64>) {
        let mut bucket = self.bucket.lock();
        let before = self.bytes_per_second.swap(bytes_per_second.unwrap_or(0), Ordering::Relaxed);
        // The time until now counts at the rate that held until now.
        bucket.refill(self.clock.elapsed(), before);
    }

    fn rate(&self) -> u64 {
        self.bytes_per_second.load(Ordering::Relaxed)
    }

    /// Waits until `bytes` that were moved are refilled. Cancel safe: they count all the same, for they were moved.
    pub(super) async fn throttle(&self, bytes: u64) {
        if self.rate() == 0 {
            return;
        }
        let mut unreserved = Unreserved { limit: self, bytes };
        while let Some(target) = unreserved.reserve_portion() {
            // Not slept in one piece: the rate may be changed meanwhile.
            while let Some(wait) = self.wait(target) {
                sleep(wait.min(RECHECK_EVERY)).await;
            }
        }
    }

    /// The time until `target` is refilled; none when it is, or when there is no limit.
    fn wait(&self, target: u128) -> Option<Duration> {
        let mut bucket = self.bucket.lock();
        let rate = self.rate();
        bucket.refill(self.clock.elapsed(), rate);
        if rate == 0 || bucket.refilled >= target {
            return None;
        }
        let nanos = (target - bucket.refilled).div_ceil(u128::from(rate));
        Some(Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)))
    }

    fn reserve(&self, bytes: u64) -> u128 {
        let mut bucket = self.bucket.lock();
        bucket.refill(self.clock.elapsed(), self.rate());
        bucket.reserved += u128::from(bytes) * NANOS;
        bucket.reserved
    }
}

/// Bytes that were moved and are not reserved yet.
struct Unreserved<'a> {
    limit: &'a BandwidthLimit,
    bytes: u64,
}

impl Unreserved<'_> {
    fn reserve_portion(&mut self) -> Option<u128> {
        let portion = self.bytes.min(PORTION_BYTES);
        self.bytes -= portion;
        (portion > 0).then(|| self.limit.reserve(portion))
    }
}

impl Drop for Unreserved<'_> {
    fn drop(&mut self) {
        if self.bytes > 0 {
            // Dropped while it waited: the bytes were moved and count.
            self.limit.reserve(self.bytes);
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

    fn limit() -> (BandwidthLimit, SetClock) {
        let clock = SetClock::new(DateTime::UNIX_EPOCH);
        let limit = BandwidthLimit::new(Arc::new(clock.clone()));
        limit.set(Some(RATE));
        (limit, clock)
    }

    fn seconds(wait: Option<Duration>) -> f64 {
        wait.unwrap_or_default().as_secs_f64()
    }

    #[test]
    fn bytes_are_refilled_at_the_rate_and_at_most_a_second_ahead() {
        let (limit, clock) = limit();
        clock.advance(Duration::from_secs(60));
        let first = limit.reserve(RATE);
        assert_eq!(limit.wait(first), None, "a second's worth is there after a pause");
        let second = limit.reserve(3 * RATE);
        assert_eq!(seconds(limit.wait(second)), 3.0, "and no more than that");
        clock.advance(Duration::from_millis(2_500));
        assert_eq!(seconds(limit.wait(second)), 0.5);
        clock.advance(Duration::from_millis(500));
        assert_eq!(limit.wait(second), None);
    }

    #[test]
    fn whatever_the_order_no_more_than_the_rate_is_moved() {
        let (limit, clock) = limit();
        let (mut moved, mut seed) = (0, 7_u64);
        for _ in 0..5_000 {
            seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bytes = (seed >> 40) % 300_000;
            let target = limit.reserve(bytes);
            // As an honest session does: the next portion only when this one is refilled.
            while let Some(wait) = limit.wait(target) {
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
        let (limit, clock) = limit();
        let target = limit.reserve(10 * RATE);
        assert_eq!(seconds(limit.wait(target)), 10.0);
        clock.advance(Duration::from_secs(2));
        limit.set(Some(4 * RATE));
        assert_eq!(seconds(limit.wait(target)), 2.0);
        limit.set(None);
        assert_eq!(limit.wait(target), None);
    }

    #[tokio::test]
    async fn without_a_rate_nothing_is_counted() {
        let (limit, _) = limit();
        limit.set(None);
        assert!(limit.throttle(u64::MAX).now_or_never().is_some());
        assert_eq!(limit.bucket.lock().reserved, 0);
    }

    #[test]
    fn two_who_move_at_once_get_the_same_whatever_their_buffers() {
        let (limit, clock) = limit();
        // Each moves the next piece when the one before is refilled.
        let mut moved = [0_u64; 2];
        let mut unreserved =
            [1 << 20, PORTION_BYTES].map(|piece| (piece, Unreserved { limit: &limit, bytes: 0 }, None));
        while clock.elapsed() < Duration::from_secs(30) {
            for (mover, (piece, unreserved, target)) in unreserved.iter_mut().enumerate() {
                while target.is_none_or(|target| limit.wait(target).is_none()) {
                    *target = unreserved.reserve_portion();
                    if target.is_none() {
                        unreserved.bytes = *piece;
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
    async fn moved_bytes_count_also_when_the_wait_was_cancelled() {
        let (limit, _) = limit();
        assert!(limit.throttle(10 * RATE).now_or_never().is_none());
        assert_eq!(limit.bucket.lock().reserved, u128::from(10 * RATE) * NANOS);
    }
}
