//! The windows' occurrences over some time, resolved to instants.

use std::sync::Arc;

use chrono::{DateTime, TimeDelta, Utc};

use super::{
    schedule::Schedule,
    wall,
    window::{Length, Window},
};

/// The period ahead for which closings are computed. A window further off is not announced, and closes all the same
/// when it comes.
pub(super) const HORIZON: TimeDelta = TimeDelta::days(400);
/// The most occurrences that all repeating windows together may have in such a time.
pub(super) const OCCURRENCES: usize = 200_000;

/// One time that a window closes the gate.
#[derive(Clone, Debug)]
pub(super) struct Closing {
    pub(super) start: DateTime<Utc>,
    pub(super) end: DateTime<Utc>,
    pub(super) window: Arc<Window>,
}

/// All that touch `[from, to)`, by start.
#[derive(Clone, Debug)]
pub(super) struct Timeline {
    pub(super) closings: Vec<Closing>,
}

impl Timeline {
    /// Expands a schedule.
    pub(super) fn expand(schedule: &Schedule, from: DateTime<Utc>, to: DateTime<Utc>) -> Self {
        let mut closings = Vec::new();
        for window in &schedule.windows {
            for (start, end) in occurrences(window, from, to) {
                closings.push(Closing { start, end, window: Arc::clone(window) });
            }
        }
        // Each window's are in order, all together are not.
        closings.sort_by_key(|closing| closing.start);
        Self { closings }
    }

    /// The number of closings of a repeating window in the year after its start, counted up to `most`.
    pub(super) fn density(window: &Arc<Window>, most: usize) -> usize {
        let from = wall::earliest(window.zone, window.start);
        occurrences(window, from, from + HORIZON).take(most).count()
    }
}

fn occurrences(
    window: &Window,
    from: DateTime<Utc>,
    to: DateTime<Utc>,
) -> impl Iterator<Item = (DateTime<Utc>, DateTime<Utc>)> + '_ {
    let (Length::Wall(long) | Length::Elapsed(long)) = window.length;
    // The wall clock is within a day of UTC and its shifts are within another.
    let slack = TimeDelta::days(2);
    // An occurrence that began before `from` may last into it.
    let first = from.naive_utc() - long - slack;
    let last = to.naive_utc() + slack;
    let once = window.repeat.is_none().then_some(window.start);
    let again = window.repeat.iter().flat_map(move |rule| rule.starts(first));
    let starts = once.into_iter().chain(again).skip_while(move |start| *start < first);
    starts
        .take_while(move |start| *start <= last)
        .map(|start| window.occurrence(start))
        // Exactly, by instants: the bounds above are only coarse.
        .filter(move |(start, end)| *end > from && *start < to)
}
