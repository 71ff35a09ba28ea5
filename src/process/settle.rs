//! Maps the outcome of a processor to a settlement of the queue: the next state, when it is due,
//! and whether the attempt counts. Pure but for the jitter of the back-off.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use forebay_queue::{Entry, Settlement, State};

use super::{Outcome, Report};
use crate::routes::Retry;

/// The settlement of an attempt. `paused` says that the route was paused, so that a failure does not count against the
/// file. With the time comes by how much of it the wall clock is ahead of what is believed: a file does not get older by
/// that.
pub(super) fn settlement(
    report: Report,
    entry: &Entry,
    attempt: u32,
    retry: &Retry,
    paused: bool,
    (now, ahead): (DateTime<Utc>, TimeDelta),
) -> Settlement {
    let Report { outcome, output } = report;
    let again = |reason: String, after: Option<Duration>| {
        // While the backend is down no file becomes dead by its age.
        let failing_since = entry.failing_since.filter(|_| !paused).map(|since| (since + ahead).min(now));
        match retry.backoff().next(attempt, failing_since, now, after, &mut rand::rng()) {
            Some(due_at) => (State::Retrying, !paused, Some(due_at), Some(reason)),
            None => (State::Dead, true, None, Some(format!("given up: {reason}"))),
        }
    };
    let (state, counted, due_at, reason) = match outcome {
        Outcome::Done => (State::Done, true, None, None),
        Outcome::Quarantine { reason } => (State::Quarantined, true, None, Some(reason)),
        Outcome::Hold { reason } => (State::Held, false, None, Some(reason)),
        // Nothing is wrong with the file: ready again at its old position, and no attempt is
        // counted.
        Outcome::BackendDown { reason } | Outcome::Stopped { reason } => (State::Ready, false, None, Some(reason)),
        Outcome::Retry { reason, after } => again(reason, after),
        Outcome::Failed { reason } => again(reason, None),
    };
    Settlement { state, counted, due_at, reason, output }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn entry(failing_since: DateTime<Utc>) -> Entry {
        serde_json::from_value(serde_json::json!({
            "id": "019f0000-0000-7000-8000-000000000001", "partner": "clinic", "name": "a.hl7", "door": "ftp",
            "size_bytes": 1, "sha256": "0".repeat(64), "received_at": failing_since, "route": "all", "state": "active",
            "since": failing_since, "attempts": 3, "crashes": 0, "turn": 1, "changed_seq": 1, "begun": true,
            "failing_since": failing_since,
        }))
        .expect("an entry")
    }

    #[test]
    fn a_clock_that_has_jumped_and_is_not_believed_makes_no_file_old() {
        let began = DateTime::from_timestamp(1_777_075_200, 0).expect("in range");
        let now = began + TimeDelta::days(30);
        let retry = Retry { give_up_after: Duration::from_secs(3_600), ..Retry::default() };
        let failed = || Report { outcome: Outcome::Failed { reason: "no".into() }, output: String::new() };
        let by = |ahead| settlement(failed(), &entry(began), 4, &retry, false, (now, ahead)).state;
        assert_eq!(by(TimeDelta::zero()), State::Dead);
        assert_eq!(by(TimeDelta::days(30)), State::Retrying);
        assert_eq!(by(TimeDelta::days(29)), State::Dead, "it has failed for a day by the clock before the jump");
    }
}
