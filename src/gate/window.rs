//! One window: when, for whom and why the gate is closed.
//!
//! It is data: the occurrences are worked out by `timeline`, and `scope_line` decides what they
//! close.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{recurrence::Recurrence, wall};

/// The scope name by which a window or an override names the web faces.
pub const WEB: &str = "web";

/// A planned closure, once or repeating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// The name of the window.
    pub name: String,
    /// The reason, for operators and partners.
    pub reason: String,
    /// The message for those who are refused.
    pub message: String,
    /// The routes that it closes, `web` for the web faces; empty: everything.
    pub routes: Vec<String>,
    /// The zone whose wall clock the times are of.
    pub zone: Tz,
    /// The first start, on the wall.
    pub start: NaiveDateTime,
    /// The length of the window.
    pub length: Length,
    /// The rule by which it repeats.
    pub repeat: Option<Recurrence>,
}

/// The length of a window.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// From `end`: the wall clock at the end is this much ahead of the one at the start.
    Wall(TimeDelta),
    /// From `duration`: so much time passes.
    Elapsed(TimeDelta),
}

impl Window {
    /// Returns the instants at which the occurrence with this start on the wall begins and ends.
    ///
    /// Where daylight saving time makes a time ambiguous or lets it not exist, the window is the
    /// longer one: from the earliest instant that the start can mean to the latest that the end can
    /// mean.
    pub(super) fn occurrence(&self, start: NaiveDateTime) -> (DateTime<Utc>, DateTime<Utc>) {
        let from = wall::earliest(self.zone, start);
        let to = match self.length {
            Length::Elapsed(length) => from + length,
            Length::Wall(length) => wall::latest(self.zone, start + length),
        };
        (from, to)
    }

    /// Returns true if it closes a scope of this name.
    pub(super) fn closes(&self, name: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|route| route == name)
    }
}
