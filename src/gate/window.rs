//! One window: when, for whom and why the gate is closed.

use chrono::{DateTime, NaiveDateTime, TimeDelta, Utc};
use chrono_tz::Tz;

use super::{recurrence::Recurrence, wall};

/// The scope name by which a window or an override names the web faces.
pub const WEB: &str = "web";

/// A planned closure, once or repeating.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Window {
    /// What it is called.
    pub name: String,
    /// Why, for operators and partners.
    pub reason: String,
    /// What the refused are told.
    pub message: String,
    /// The routes that it closes, `web` for the web faces; empty: everything.
    pub routes: Vec<String>,
    /// The zone whose wall clock the times are of.
    pub zone: Tz,
    /// The first start, on the wall.
    pub start: NaiveDateTime,
    /// How long it is.
    pub length: Length,
    /// When it comes again.
    pub repeat: Option<Recurrence>,
}

/// How long a window is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Length {
    /// From `end`: the wall clock at the end is this much ahead of the one at the start.
    Wall(TimeDelta),
    /// From `duration`: so much time passes.
    Elapsed(TimeDelta),
}

impl Window {
    /// The instants that the occurrence with this start on the wall lasts from and to.
    pub(super) fn occurrence(&self, start: NaiveDateTime) -> (DateTime<Utc>, DateTime<Utc>) {
        let from = wall::earliest(self.zone, start);
        let to = match self.length {
            Length::Elapsed(length) => from + length,
            Length::Wall(length) => wall::latest(self.zone, start + length),
        };
        (from, to)
    }

    /// Whether it closes a scope of this name.
    pub(super) fn closes(&self, name: &str) -> bool {
        self.routes.is_empty() || self.routes.iter().any(|route| route == name)
    }
}
