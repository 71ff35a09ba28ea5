//! Maps the outcome of a processor to a settlement of the queue.

use std::time::Duration;

use chrono::{DateTime, Utc};
use forebay_queue::{Entry, Settlement, State};

use super::{Outcome, Report};
use crate::routes::Retry;

/// The settlement of an attempt. `paused` says that the route was paused, so that a failure does not count against the
/// file.
pub(super) fn settlement(
    report: Report,
    entry: &Entry,
    attempt: u32,
    retry: &Retry,
    paused: bool,
    now: DateTime<Utc>,
) -> Settlement {
    let Report { outcome, output } = report;
    let again = |reason: String, after: Option<Duration>| {
        // While the backend is down no file becomes dead by its age.
        let failing_since = entry.failing_since.filter(|_| !paused);
        match retry.backoff().next(attempt, failing_since, now, after, &mut rand::rng()) {
            Some(due_at) => (State::Retrying, !paused, Some(due_at), Some(reason)),
            None => (State::Dead, true, None, Some(format!("given up: {reason}"))),
        }
    };
    let (state, counted, due_at, reason) = match outcome {
        Outcome::Done => (State::Done, true, None, None),
        Outcome::Quarantine { reason } => (State::Quarantined, true, None, Some(reason)),
        Outcome::Hold { reason } => (State::Held, false, None, Some(reason)),
        Outcome::BackendDown { reason } | Outcome::Stopped { reason } => (State::Ready, false, None, Some(reason)),
        Outcome::Retry { reason, after } => again(reason, after),
        Outcome::Failed { reason } => again(reason, None),
    };
    Settlement { state, counted, due_at, reason, output }
}
