//! A warning that would come again and again is told once a minute, with how often it was not.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The time between two tellings of the same.
const REST: Duration = Duration::from_secs(60);

/// A place in the code that warns of what may happen many times a second.
#[derive(Debug)]
pub struct Repeated {
    told_at: Mutex<Option<Instant>>,
    untold: AtomicU64,
    all: AtomicU64,
}

impl Repeated {
    /// Nothing has happened yet.
    #[must_use]
    pub const fn new() -> Self {
        Self { told_at: Mutex::new(None), untold: AtomicU64::new(0), all: AtomicU64::new(0) }
    }

    /// It has happened. Some: it is to be told now, and has happened so often since it was told before.
    pub fn happened(&self) -> Option<u64> {
        self.happened_at(now())
    }

    /// How often it has happened in all.
    pub fn count(&self) -> u64 {
        self.all.load(Ordering::Relaxed)
    }

    fn happened_at(&self, now: Instant) -> Option<u64> {
        self.all.fetch_add(1, Ordering::Relaxed);
        // Held over the count: a telling and what it counts belong together.
        let mut told_at = self.told_at.lock();
        if told_at.is_some_and(|at| now.saturating_duration_since(at) < REST) {
            self.untold.fetch_add(1, Ordering::Relaxed);
            return None;
        }
        *told_at = Some(now);
        Some(self.untold.swap(0, Ordering::Relaxed))
    }
}

impl Default for Repeated {
    fn default() -> Self {
        Self::new()
    }
}

#[allow(clippy::disallowed_methods, reason = "for the pace of the log alone")]
fn now() -> Instant {
    Instant::now()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_told_once_a_minute_with_how_often_it_was_not() {
        let (repeated, start) = (Repeated::new(), now());
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(repeated.happened_at(at(0)), Some(0));
        assert_eq!((1..60).filter_map(|second| repeated.happened_at(at(second))).count(), 0);
        assert_eq!(repeated.happened_at(at(60)), Some(59));
        assert_eq!(repeated.happened_at(at(120)), Some(0));
        assert_eq!(repeated.count(), 62);
    }
}
