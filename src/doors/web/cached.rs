//! Things that cost a look through the schedule, kept for a moment.

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

/// A value that holds for one epoch of the gate, and for a while.
#[derive(Debug)]
pub(super) struct Cached<T, K = u64> {
    keep: TimeDelta,
    value: Mutex<Option<(K, DateTime<Utc>, T)>>,
}

impl<T: Clone, K: PartialEq> Cached<T, K> {
    pub(super) fn new(keep: TimeDelta) -> Self {
        Self { keep, value: Mutex::new(None) }
    }

    /// The value, made anew when it is of another epoch or another time. Whoever comes meanwhile waits for it: it is
    /// made once.
    pub(super) fn get(&self, epoch: K, now: DateTime<Utc>, make: impl FnOnce() -> T) -> T {
        let mut value = self.value.lock();
        if let Some((of, at, kept)) = &*value
            && *of == epoch
            && (*at..*at + self.keep).contains(&now)
        {
            return kept.clone();
        }
        let made = make();
        *value = Some((epoch, now, made.clone()));
        made
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_made_anew_for_another_epoch_or_time() {
        let kept = Cached::new(TimeDelta::seconds(1));
        let at = |millis| DateTime::UNIX_EPOCH + TimeDelta::milliseconds(millis);
        assert_eq!(kept.get(1, at(0), || 'a'), 'a');
        assert_eq!(kept.get(1, at(999), || 'b'), 'a');
        assert_eq!(kept.get(1, at(1000), || 'c'), 'c');
        assert_eq!(kept.get(2, at(1000), || 'd'), 'd');
        assert_eq!(kept.get(2, at(-1), || 'e'), 'e', "the clock was set back");
    }
}
