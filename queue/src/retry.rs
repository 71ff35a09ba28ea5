//! When a failed file is tried again: exponential back-off with jitter.
//!
//! Pure: the time and the chance are given by the caller, so that a year of failures is tested in a
//! moment. When a failure counts as one, and what the outcome is, `process/settle.rs` decides.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use rand::{Rng, RngExt};
use serde::{Deserialize, Serialize};

/// Exponential back-off with jitter, until a file has failed for too long.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backoff {
    /// Pause after the first failure, in milliseconds.
    pub first_ms: u64,
    /// By how much each further pause is longer.
    pub factor: f64,
    /// No pause is longer, in milliseconds, whatever a backend asks for.
    pub max_ms: u64,
    /// Up to this share of a pause is taken off or added by chance, 0 to 1.
    pub jitter: f64,
    /// A file that has failed for this long is given up, in milliseconds.
    pub give_up_after_ms: u64,
}

impl Default for Backoff {
    fn default() -> Self {
        Self { first_ms: 5_000, factor: 2.0, max_ms: 900_000, jitter: 0.2, give_up_after_ms: 72 * 3_600_000 }
    }
}

impl Backoff {
    /// When a file whose counted attempt number `attempt` (from 1) has just failed is due again; none when it has been
    /// failing since `failing_since` for so long that it is given up. A backend's `hint` (Retry-After) takes the place
    /// of the computed pause. Never later than now plus the longest pause: a clock that jumped must not strand a file.
    pub fn next(
        &self,
        attempt: u32,
        failing_since: Option<DateTime<Utc>>,
        now: DateTime<Utc>,
        hint: Option<Duration>,
        rng: &mut impl Rng,
    ) -> Option<DateTime<Utc>> {
        let failing_ms = failing_since.map_or(0, |since| (now - since).num_milliseconds());
        // A clock that was set back makes it negative: then the file is not given up yet.
        if u64::try_from(failing_ms).is_ok_and(|failing_ms| failing_ms >= self.give_up_after_ms) {
            return None;
        }
        let pause_ms = match hint {
            // What was asked for is the least: chance only adds to it, so that not all come back at once.
            Some(hint) => hint.as_millis() as f64 * (1.0 + self.jitter * rng.random::<f64>() / 2.0),
            None => self.pause_ms(attempt) * (1.0 + self.jitter * (rng.random::<f64>() * 2.0 - 1.0)),
        };
        let pause_ms = pause_ms.clamp(0.0, self.max_ms as f64) as i64;
        now.checked_add_signed(TimeDelta::try_milliseconds(pause_ms)?)
    }

    /// The pause after attempt number `attempt`, in milliseconds, without jitter.
    fn pause_ms(&self, attempt: u32) -> f64 {
        let doublings = i32::try_from(attempt.saturating_sub(1)).unwrap_or(i32::MAX);
        (self.first_ms as f64 * self.factor.powi(doublings)).min(self.max_ms as f64)
    }

    /// Every fault, each with the key it is about.
    #[must_use]
    pub fn faults(&self) -> Vec<(&'static str, String)> {
        let mut faults = Vec::new();
        if self.first_ms == 0 || self.first_ms > self.max_ms {
            faults.push(("first_ms", format!("must lie between 1 and max_ms, and is {}", self.first_ms)));
        }
        if !(1.0..=100.0).contains(&self.factor) {
            faults.push(("factor", format!("must lie between 1 and 100, and is {}", self.factor)));
        }
        if self.max_ms > 7 * 86_400_000 {
            faults.push(("max_ms", format!("must not be more than a week, and is {}", self.max_ms)));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            faults.push(("jitter", format!("must lie between 0 and 1, and is {}", self.jitter)));
        }
        if self.give_up_after_ms == 0 {
            faults.push(("give_up_after_ms", "must be more than 0".into()));
        }
        faults
    }
}

#[cfg(test)]
mod tests {
    use rand::{SeedableRng, rngs::StdRng};

    use super::*;

    fn at(ms: i64) -> DateTime<Utc> {
        DateTime::from_timestamp_millis(1_777_075_200_000 + ms).unwrap()
    }

    #[test]
    fn pauses_double_up_to_the_longest() {
        let plain = Backoff { jitter: 0.0, ..Backoff::default() };
        let mut rng = StdRng::seed_from_u64(1);
        let pauses: Vec<i64> = (1..=10)
            .map(|attempt| (plain.next(attempt, Some(at(0)), at(0), None, &mut rng).unwrap() - at(0)).num_seconds())
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 80, 160, 320, 640, 900, 900]);
        assert_eq!(plain.next(u32::MAX, None, at(0), None, &mut rng), Some(at(900_000)));
    }

    #[test]
    fn chance_stays_within_its_share_and_under_the_longest() {
        let backoff = Backoff::default();
        let mut rng = StdRng::seed_from_u64(7);
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..200 {
            let due = backoff.next(1, None, at(0), None, &mut rng).unwrap();
            assert!((at(4_000)..=at(6_000)).contains(&due), "{due}");
            seen.insert(due);
            assert!(backoff.next(30, None, at(0), None, &mut rng).unwrap() <= at(900_000));
        }
        assert!(seen.len() > 100, "jitter spreads");
    }

    #[test]
    fn a_hint_is_honoured_but_never_beyond_the_longest() {
        let backoff = Backoff::default();
        let mut rng = StdRng::seed_from_u64(7);
        let due = backoff.next(9, None, at(0), Some(Duration::from_secs(60)), &mut rng).unwrap();
        assert!((at(60_000)..=at(66_000)).contains(&due), "{due}");
        let due = backoff.next(1, None, at(0), Some(Duration::from_secs(86_400 * 365)), &mut rng).unwrap();
        assert_eq!(due, at(900_000));
        assert!(backoff.next(1, None, at(0), Some(Duration::MAX), &mut rng).unwrap() <= at(900_000));
    }

    #[test]
    fn a_file_is_given_up_when_it_has_failed_for_too_long() {
        let backoff = Backoff::default();
        let mut rng = StdRng::seed_from_u64(7);
        let limit = 72 * 3_600_000;
        assert!(backoff.next(300, Some(at(0)), at(limit - 1), None, &mut rng).is_some());
        assert_eq!(backoff.next(300, Some(at(0)), at(limit), None, &mut rng), None);
        // A clock that was set back gives nothing up.
        assert!(backoff.next(3, Some(at(0)), at(-limit * 100), None, &mut rng).is_some());
    }

    #[test]
    fn faults_name_their_keys() {
        assert!(Backoff::default().faults().is_empty());
        let bad = Backoff { first_ms: 0, factor: 0.5, jitter: 2.0, max_ms: u64::MAX, give_up_after_ms: 0 };
        let keys: Vec<_> = bad.faults().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["first_ms", "factor", "max_ms", "jitter", "give_up_after_ms"]);
    }
}
