//! The heart of the gate: from schedule, overrides, scope and instant to open or closed. No I/O, no clock.

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;

use super::{
    overrides::Override,
    schedule::Schedule,
    scope_line::ScopeLine,
    timeline::{HORIZON, Timeline},
    window::WEB,
};

/// A part of the server that can be closed on its own.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Scope {
    /// The processing of a route.
    Route(String),
    /// The web faces. Windows without routes close them, and those that name `web`.
    Web,
}

impl Scope {
    /// The name that windows and overrides know it by.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Route(name) => name,
            Self::Web => WEB,
        }
    }
}

/// The gate for one scope at one instant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "state", rename_all = "lowercase")]
pub enum State {
    /// Open.
    Open {
        /// The next closing, as far as is known (400 days ahead); for routes the drain is taken off.
        closes_at: Option<DateTime<Utc>>,
    },
    /// Closed.
    Closed(Closure),
}

impl State {
    /// Returns true if the gate is open.
    #[must_use]
    pub fn is_open(&self) -> bool {
        matches!(self, Self::Open { .. })
    }
}

/// The reason, start and end of a closed gate. Windows and overrides that overlap or touch are one closure.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, thiserror::Error)]
#[error("closed: {name}")]
pub struct Closure {
    /// When it opens; None: not before an operator acts.
    pub until: Option<DateTime<Utc>>,
    /// The start of the closure, where that is known.
    pub since: Option<DateTime<Utc>>,
    /// The name of the closure.
    pub name: String,
    /// The reason.
    pub reason: String,
    /// The message for those who are refused.
    pub message: String,
    /// The cause of the closure.
    pub cause: Cause,
}

/// The cause of a closure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A window of the schedule.
    Window,
    /// An operator, with the override's id.
    Override(u64),
    /// The schedule is broken, and there is no earlier one to go by.
    BrokenSchedule,
    /// The clock is behind what the journal has seen.
    UntrustedClock,
    /// The clock has jumped, and the time before the jump would be within a closure.
    UnsettledClock,
}

/// The state of a scope at an instant.
///
/// `overrides` are in the order of their ids.
#[must_use]
pub fn evaluate(schedule: &Schedule, overrides: &[Override], scope: &Scope, at: DateTime<Utc>) -> State {
    let timeline = Timeline::expand(schedule, at - TimeDelta::days(3), at + HORIZON);
    ScopeLine::new(&timeline, scope, schedule.drain).state(overrides, at).0
}
