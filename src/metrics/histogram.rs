//! A histogram of times that many threads add to without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

/// The upper ends of the buckets, in seconds: from a flash drive that is asked for little to a disk that is failing.
pub(super) const ENDS: [f64; 15] =
    [0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0];

/// How often it took how long.
#[derive(Debug, Default)]
pub(super) struct Histogram {
    /// One more than there are ends: the last has all that took longer.
    buckets: [AtomicU64; ENDS.len() + 1],
    sum_ns: AtomicU64,
}

/// A histogram at an instant.
pub(super) struct Times {
    pub(super) count: u64,
    pub(super) sum_seconds: f64,
    /// The end of each bucket, and how many are in it alone. The last one has no end.
    pub(super) buckets: Vec<(f64, u64)>,
}

impl Histogram {
    pub(super) fn observe(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        let bucket = ENDS.iter().position(|end| seconds <= *end).unwrap_or(ENDS.len());
        self.buckets[bucket].fetch_add(1, Ordering::Relaxed);
        self.sum_ns.fetch_add(u64::try_from(took.as_nanos()).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    /// What was observed until now. The count is that of the buckets, so it is never another than theirs.
    pub(super) fn times(&self) -> Times {
        let ends = ENDS.into_iter().chain([f64::INFINITY]);
        let buckets: Vec<_> =
            ends.zip(&self.buckets).map(|(end, bucket)| (end, bucket.load(Ordering::Relaxed))).collect();
        let count = buckets.iter().map(|(_, count)| count).sum();
        #[allow(
            clippy::cast_precision_loss,
            reason = "seconds in a float have no nanoseconds after some months anyway"
        )]
        let sum_seconds = self.sum_ns.load(Ordering::Relaxed) as f64 / 1e9;
        Times { count, sum_seconds, buckets }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_time_is_in_the_first_bucket_whose_end_it_does_not_exceed() {
        let histogram = Histogram::default();
        for micros in [0, 100, 101, 10_000_000, 10_000_001] {
            histogram.observe(Duration::from_micros(micros));
        }
        let times = histogram.times();
        let filled: Vec<_> = times.buckets.iter().filter(|(_, count)| *count > 0).copied().collect();
        assert_eq!(filled, [(0.000_1, 2), (0.000_25, 1), (10.0, 1), (f64::INFINITY, 1)]);
        assert_eq!(times.count, 5);
        assert!((times.sum_seconds - 20.000_202).abs() < 1e-9, "{}", times.sum_seconds);
    }
}
