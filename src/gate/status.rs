//! The status of the gate: its state in all scopes, coming windows, and simulated closings.
//!
//! Read from a snapshot as decisions are; nothing here changes the gate. All lists are bounded,
//! because operators choose the period.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{
    Fault,
    live::Gate,
    options::AtClose,
    overrides::Override,
    scope_line::ScopeLine,
    snapshot::OTHERS,
    state::{Cause, Scope, State},
    timeline::{HORIZON, Timeline},
};
use crate::units::format_duration;

/// The longest period that can be listed at once.
const LONGEST: TimeDelta = TimeDelta::days(3_660);
/// The most that is listed at once.
const LISTED: usize = 10_000;

/// One time that a window closes the gate.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Occurrence {
    /// The window's name.
    pub name: String,
    /// The reason.
    pub reason: String,
    /// The message for those who are refused.
    pub message: String,
    /// The scopes that it closes; empty: everything.
    pub routes: Vec<String>,
    /// The start.
    pub start: DateTime<Utc>,
    /// The end.
    pub end: DateTime<Utc>,
    /// The start on the wall, with date and zone.
    pub start_local: String,
    /// The end on the wall, with date and zone.
    pub end_local: String,
    /// The window's zone.
    pub zone: String,
}

/// A time in which a scope would be closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Span {
    /// A route's name, `web`, or `*` for every route that nothing names.
    pub scope: String,
    /// The start.
    pub from: DateTime<Utc>,
    /// The end; None: until an operator acts.
    pub to: Option<DateTime<Utc>>,
    /// The name of the closure.
    pub name: String,
    /// The reason.
    pub reason: String,
    /// The cause of the closure.
    pub cause: Cause,
}

/// All there is to know about the gate now.
#[derive(Clone, Debug, Serialize)]
pub struct Status {
    /// The epoch.
    pub epoch: u64,
    /// The wall clock.
    pub now: DateTime<Utc>,
    /// The schedule's zone.
    pub zone: String,
    /// Each scope that something names, `web`, and `*` for every other route.
    pub scopes: Vec<ScopeStatus>,
    /// The next time at which the schedule or the end of an override changes the state of any scope.
    pub next_change: Option<DateTime<Utc>>,
    /// The schedule.
    pub schedule: ScheduleStatus,
    /// Overrides that are not over.
    pub overrides: Vec<Override>,
    /// True if the clock is trusted.
    pub clock_trusted: bool,
    /// The journal's newest record that the clock is behind.
    pub clock_behind: Option<DateTime<Utc>>,
    /// The jump of the clock that is not believed yet.
    pub clock_jumped: Option<Jumped>,
    /// The time before a start at which claiming stops.
    pub drain: String,
    /// The fate of running attempts when the gate closes.
    pub at_close: AtClose,
}

/// A jump of the clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Jumped {
    /// By so many seconds, forward or, below zero, back.
    pub seconds: i64,
    /// When it will have stood long enough to be believed, by the clock as it is now.
    pub settles_at: DateTime<Utc>,
}

/// What is in force, and whether a change of the file was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ScheduleState {
    /// The epoch.
    pub epoch: u64,
    /// Since when the file is one that was refused.
    pub refused_since: Option<DateTime<Utc>>,
}

/// The state of one scope.
#[derive(Clone, Debug, Serialize)]
pub struct ScopeStatus {
    /// A route's name, `web`, or `*`.
    pub scope: String,
    /// Its state.
    #[serde(flatten)]
    pub state: State,
}

/// The schedule and its file.
#[derive(Clone, Debug, Serialize)]
pub struct ScheduleStatus {
    /// The file; None when none is configured.
    pub file: Option<String>,
    /// False if there is no good schedule, so that everything is closed.
    pub is_good: bool,
    /// The number of windows in force.
    pub windows: usize,
    /// The time at which the last good schedule came into force.
    pub in_force_since: Option<DateTime<Utc>>,
    /// A change of the file waits until it has stood still; what it closes is closed already.
    pub pending: bool,
    /// The time since which the file is broken.
    pub broken_since: Option<DateTime<Utc>>,
    /// The faults of the schedule's file.
    pub faults: Vec<Fault>,
}

impl Gate {
    /// The windows' occurrences that touch `[from, to)`, by start.
    pub fn upcoming(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Occurrence> {
        // At most ten years: an operator may ask for `--to 2999-01-01`.
        let timeline = Timeline::expand(&self.snapshot().schedule, from, to.min(from + LONGEST));
        timeline
            .closings
            .into_iter()
            .take(LISTED)
            .map(|closing| {
                let zone = closing.window.zone;
                let local = |at: DateTime<Utc>| at.with_timezone(&zone).format("%Y-%m-%d %H:%M %Z").to_string();
                Occurrence {
                    name: closing.window.name.clone(),
                    reason: closing.window.reason.clone(),
                    message: closing.window.message.clone(),
                    routes: closing.window.routes.clone(),
                    start: closing.start,
                    end: closing.end,
                    start_local: local(closing.start),
                    end_local: local(closing.end),
                    zone: zone.name().to_owned(),
                }
            })
            .collect()
    }

    /// The closings of a period, by schedule and overrides as they are now, and if nobody mends a broken schedule or a
    /// clock that is not trusted.
    pub fn simulate(&self, from: DateTime<Utc>, to: DateTime<Utc>) -> Vec<Span> {
        let snapshot = self.snapshot();
        let to = to.min(from + LONGEST);
        // Windows that began before, or drain before a start behind the end, count too.
        let timeline = Timeline::expand(&snapshot.schedule, from - TimeDelta::days(3), to + TimeDelta::days(3));
        let mut spans = Vec::new();
        for scope in snapshot.scopes() {
            let line = ScopeLine::new(&timeline, &scope, snapshot.schedule.drain);
            let mut at = from;
            // From change to change: each state says until when it holds, so nothing between is
            // missed.
            while at < to && spans.len() < LISTED {
                // A broken schedule and a clock that is not trusted close whatever the windows say.
                let beyond = snapshot.beyond_schedule(&scope, at).map(State::Closed);
                match beyond.unwrap_or_else(|| line.state(&snapshot.overrides, at).0) {
                    State::Open { closes_at: None } => break,
                    State::Open { closes_at: Some(closes_at) } => at = closes_at,
                    State::Closed(closure) => {
                        spans.push(Span {
                            scope: scope.name().to_owned(),
                            from: at,
                            to: closure.until,
                            name: closure.name,
                            reason: closure.reason,
                            cause: closure.cause,
                        });
                        // Without an end nothing that comes after it can be told.
                        let Some(until) = closure.until else { break };
                        at = until;
                    }
                }
            }
        }
        // Found scope by scope, read by time.
        spans.sort_by_key(|span| span.from);
        spans
    }

    /// The next instant at which the state of any scope changes if nobody acts.
    pub fn next_change(&self) -> Option<DateTime<Utc>> {
        let snapshot = self.snapshot();
        let now = self.clock.now();
        let turn = |scope: &Scope| match self.decide(&snapshot, scope, now) {
            State::Open { closes_at } => closes_at,
            State::Closed(closure) => closure.until,
        };
        snapshot.scopes().iter().filter_map(turn).min()
    }

    /// All there is to know now.
    pub fn status(&self) -> Status {
        // Before the snapshot: this takes the ledger's lock, and the snapshot may then be newer but
        // never older.
        let schedule = self.schedule_status();
        let snapshot = self.snapshot();
        let now = self.clock.now();
        let scope =
            |scope: &Scope| ScopeStatus { scope: scope.name().to_owned(), state: self.decide(&snapshot, scope, now) };
        let jumped = self.doubted();
        // A clock that has caught up with the journal by itself is trusted again.
        let behind = snapshot.untrusted.filter(|newest| now < *newest);
        Status {
            epoch: snapshot.epoch,
            now,
            zone: snapshot.schedule.zone.name().to_owned(),
            scopes: snapshot.scopes().iter().map(scope).collect(),
            next_change: self.next_change(),
            schedule,
            overrides: self.overrides(),
            clock_trusted: behind.is_none() && jumped.is_none(),
            clock_behind: behind,
            clock_jumped: jumped.map(|(by, settles_at)| Jumped { seconds: by.num_seconds(), settles_at }),
            drain: format_duration(self.options.drain),
            at_close: self.options.at_close,
        }
    }

    fn schedule_status(&self) -> ScheduleStatus {
        let ledger = self.ledger.lock();
        let broken = ledger.source.broken();
        ScheduleStatus {
            file: ledger.source.file().map(|file| file.display().to_string()),
            is_good: ledger.source.closed_since().is_none(),
            windows: ledger.source.in_force().windows.len(),
            in_force_since: ledger.memory.good_since,
            pending: ledger.source.is_pending(),
            broken_since: broken.map(|broken| broken.since),
            faults: broken.map(|broken| broken.faults.clone()).unwrap_or_default(),
        }
    }

    /// The occurrences of the next 400 days as an iCalendar feed.
    pub fn calendar(&self) -> String {
        let now = self.clock.now();
        super::calendar(&self.upcoming(now, now + HORIZON), self.refused_since(), now)
    }

    /// The state of the schedule, which changes whenever the feed does but for the passing of time.
    pub fn schedule_state(&self) -> ScheduleState {
        ScheduleState { epoch: self.epoch(), refused_since: self.refused_since() }
    }

    fn refused_since(&self) -> Option<DateTime<Utc>> {
        self.ledger.lock().source.broken().map(|broken| broken.since)
    }

    /// The text for partners whose files go by these routes (empty: by any), or None when there is nothing to announce.
    pub fn notice(&self, routes: &[String]) -> Option<String> {
        let now = self.clock.now();
        let ahead = TimeDelta::from_std(self.options.notice_before).unwrap_or(HORIZON);
        // A window that names no routes closes all of them.
        let concerns =
            |names: &[String]| names.is_empty() || routes.is_empty() || names.iter().any(|name| routes.contains(name));
        let mut upcoming = self.upcoming(now, now + ahead);
        upcoming.retain(|one| concerns(&one.routes));
        let scopes = if routes.is_empty() {
            self.snapshot().scopes()
        } else {
            routes.iter().cloned().map(Scope::Route).collect()
        };
        // The web faces have their own answer to a closing; partners send files.
        let closed = scopes.iter().filter(|scope| **scope != Scope::Web).find_map(|scope| match self.state(scope) {
            State::Closed(closure) => Some(closure),
            State::Open { .. } => None,
        });
        super::notice(self.zone(), now, closed.as_ref(), &upcoming)
    }

    /// The remark for the reply to an accepted file of a route: `processing deferred until 22:00 CDT`; None when open.
    pub fn deferral(&self, route: &str) -> Option<String> {
        // A file without a route is told what holds for routes that nothing names.
        let state = self.state(&Scope::Route(if route.is_empty() { OTHERS } else { route }.to_owned()));
        super::deferral(self.zone(), self.clock.now(), &state)
    }
}
