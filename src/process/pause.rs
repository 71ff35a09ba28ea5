//! A route whose backend is down is paused and probed, so that files do not spend attempts on it.
//!
//! A route is paused at once when a processor reports its backend down, or after `pause_after`
//! failures in a row. While it is paused one file at a time is tried, with growing waits; the first
//! that is processed resumes it.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use super::{Options, Outcome};

/// A paused route, as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Paused {
    /// The route.
    pub route: String,
    /// The start of the pause.
    pub since: DateTime<Utc>,
    /// The reason.
    pub reason: String,
    /// The time of the next probe; past when it is overdue.
    pub next_probe_at: DateTime<Utc>,
}

/// The pause of a route, with the time of its next probe. Waits are in monotonic time.
#[derive(Debug)]
pub(super) struct Pause {
    pause_after: u32,
    probe_first: Duration,
    probe_max: Duration,
    failures: u32,
    paused: Option<Held>,
}

#[derive(Debug)]
struct Held {
    since: DateTime<Utc>,
    reason: String,
    wait: Duration,
    probe_at: Duration,
    probing: bool,
}

/// The change of a pause after an outcome.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    Nothing,
    Paused,
    Resumed,
}

impl Pause {
    pub(super) fn new(options: &Options) -> Self {
        Self {
            pause_after: options.pause_after,
            probe_first: options.probe_first,
            probe_max: options.probe_max,
            failures: 0,
            paused: None,
        }
    }

    /// The number of files that may be claimed when `free` slots are free: one probe at a time while the route is
    /// paused.
    pub(super) fn slots(&self, free: usize, elapsed: Duration) -> usize {
        match &self.paused {
            None => free,
            Some(held) if held.probing || elapsed < held.probe_at => 0,
            Some(_) => free.min(1),
        }
    }

    /// Notes that a file was claimed, and returns true if it is a probe.
    pub(super) fn claimed(&mut self) -> bool {
        let Some(held) = &mut self.paused else { return false };
        held.probing = true;
        true
    }

    pub(super) fn is_paused(&self) -> bool {
        self.paused.is_some()
    }

    /// When the next probe may begin, if one is waited for.
    pub(super) fn probe_at(&self) -> Option<Duration> {
        self.paused.as_ref().filter(|held| !held.probing).map(|held| held.probe_at)
    }

    /// Notes the end of an attempt; `probe` is the result of [`Pause::claimed`].
    pub(super) fn ended(&mut self, outcome: &Outcome, probe: bool, now: DateTime<Utc>, elapsed: Duration) -> Change {
        match outcome {
            Outcome::Done | Outcome::Quarantine { .. } => self.worked(),
            Outcome::BackendDown { reason } => self.failed(reason, true, probe, now, elapsed),
            Outcome::Failed { reason } | Outcome::Retry { reason, .. } => {
                self.failed(reason, false, probe, now, elapsed)
            }
            // Neither says anything about the backend: another probe may follow at once.
            Outcome::Hold { .. } | Outcome::Stopped { .. } => {
                if let Some(held) = self.paused.as_mut().filter(|_| probe) {
                    held.probing = false;
                }
                Change::Nothing
            }
        }
    }

    /// The backend has processed a file, or judged its content: it works.
    fn worked(&mut self) -> Change {
        self.failures = 0;
        if self.paused.take().is_some() { Change::Resumed } else { Change::Nothing }
    }

    fn failed(&mut self, reason: &str, down: bool, probe: bool, now: DateTime<Utc>, elapsed: Duration) -> Change {
        self.failures = self.failures.saturating_add(1);
        if let Some(held) = &mut self.paused {
            reason.clone_into(&mut held.reason);
            if probe {
                held.wait = held.wait.saturating_mul(2).min(self.probe_max);
                held.probe_at = elapsed.saturating_add(held.wait);
                held.probing = false;
            }
            return Change::Nothing;
        }
        if !down && self.failures < self.pause_after {
            return Change::Nothing;
        }
        let reason =
            if down { reason.to_owned() } else { format!("{} failures in a row, last: {reason}", self.failures) };
        let wait = self.probe_first;
        let probe_at = elapsed.saturating_add(wait);
        self.paused = Some(Held { since: now, reason, wait, probe_at, probing: false });
        Change::Paused
    }

    pub(super) fn show(&self, route: &str, now: DateTime<Utc>, elapsed: Duration) -> Option<Paused> {
        let held = self.paused.as_ref()?;
        Some(Paused {
            route: route.to_owned(),
            since: held.since,
            reason: held.reason.clone(),
            next_probe_at: later(now, held.probe_at.saturating_sub(elapsed)),
        })
    }
}

/// As late as a time can be, if that would be later: what is configured may be any duration.
pub(super) fn later(at: DateTime<Utc>, by: Duration) -> DateTime<Utc> {
    let by = TimeDelta::from_std(by).ok();
    by.and_then(|by| at.checked_add_signed(by)).unwrap_or(DateTime::<Utc>::MAX_UTC)
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: DateTime<Utc> = DateTime::UNIX_EPOCH;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn down() -> Outcome {
        Outcome::BackendDown { reason: "no".to_owned() }
    }

    fn failed() -> Outcome {
        Outcome::Failed { reason: "exit 1".to_owned() }
    }

    #[test]
    fn a_backend_that_is_down_pauses_at_once_and_is_probed_alone() {
        let mut pause = Pause::new(&Options::default());
        assert_eq!(pause.slots(4, at(0)), 4);
        assert_eq!(pause.ended(&down(), false, NOW, at(0)), Change::Paused);
        assert_eq!(pause.slots(4, at(4)), 0, "not before its time");
        assert_eq!(pause.probe_at(), Some(at(5)));
        assert_eq!(pause.slots(4, at(5)), 1);
        assert!(pause.claimed());
        assert_eq!(pause.slots(4, at(100)), 0, "one probe at a time");
        assert_eq!(pause.ended(&down(), true, NOW, at(6)), Change::Nothing);
        assert_eq!(pause.slots(4, at(15)), 0, "the wait has doubled");
        assert_eq!(pause.slots(4, at(16)), 1);
        assert!(pause.claimed());
        assert_eq!(pause.ended(&Outcome::Done, true, NOW, at(17)), Change::Resumed);
        assert_eq!(pause.slots(4, at(17)), 4);
        assert!(!pause.claimed());
    }

    #[test]
    fn five_failures_in_a_row_pause_and_a_success_between_them_does_not() {
        let mut pause = Pause::new(&Options::default());
        for _ in 0..4 {
            assert_eq!(pause.ended(&failed(), false, NOW, at(0)), Change::Nothing);
        }
        assert_eq!(pause.ended(&Outcome::Done, false, NOW, at(0)), Change::Nothing);
        for _ in 0..4 {
            assert_eq!(pause.ended(&failed(), false, NOW, at(0)), Change::Nothing);
        }
        assert_eq!(pause.ended(&failed(), false, NOW, at(0)), Change::Paused);
        assert!(pause.show("r", NOW, at(0)).unwrap().reason.starts_with("5 failures in a row"));
    }

    #[test]
    fn a_probe_that_the_gate_stops_may_be_followed_at_once() {
        let mut pause = Pause::new(&Options::default());
        pause.ended(&down(), false, NOW, at(0));
        assert!(pause.claimed());
        pause.ended(&Outcome::gate_closed(), true, NOW, at(6));
        assert_eq!(pause.slots(4, at(6)), 1);
    }

    #[test]
    fn waits_of_any_length_can_be_shown() {
        let longest = Duration::from_millis(u64::MAX);
        let mut pause = Pause::new(&Options { probe_first: longest, probe_max: longest, ..Options::default() });
        pause.ended(&down(), false, NOW, at(1));
        assert!(pause.claimed());
        pause.ended(&down(), true, NOW, at(1));
        assert_eq!(pause.show("r", NOW, at(0)).unwrap().next_probe_at, DateTime::<Utc>::MAX_UTC);
    }

    #[test]
    fn waits_between_probes_stay_below_their_bound() {
        let mut pause = Pause::new(&Options::default());
        let mut now = 0;
        pause.ended(&down(), false, NOW, at(now));
        for _ in 0..20 {
            now = pause.probe_at().unwrap().as_secs();
            assert!(pause.claimed());
            pause.ended(&down(), true, NOW, at(now));
            assert!(pause.probe_at().unwrap() <= at(now + 60));
        }
        assert_eq!(pause.probe_at().unwrap(), at(now + 60));
    }
}
