//! Overrides: what operators decide against the schedule.
//!
//! For each scope the latest that is in force decides. A new `close` or `open` takes the place of earlier ones whose
//! scope it covers; a narrower one lies on top of them while it lasts.
//!
//! | action | while it is in force |
//! |---|---|
//! | close | closed until its end, or until an operator acts |
//! | extend | closed until its end; what lies beneath stays, so that an extension never shortens anything |
//! | open | what was closed when it was given is open, until that closure's end; a window that begins later closes again |

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::state::Scope;

/// A decision of an operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Override {
    /// Counts up; never used twice.
    pub id: u64,
    /// The action.
    pub action: Action,
    /// Names of routes, `web` for the web faces; empty: everything.
    pub scope: Vec<String>,
    /// The time at which it was made.
    pub at: DateTime<Utc>,
    /// The start of the closure that an `open` has reopened. Before it, as after a clock was set back, the schedule
    /// decides.
    pub from: DateTime<Utc>,
    /// The time at which it ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// The name of the closure.
    pub name: String,
    /// The reason.
    pub reason: String,
    /// The message for those who are refused.
    pub message: String,
    /// The operator.
    pub actor: String,
    /// An `open` that was given while the schedule was broken; it ends when the schedule is good.
    #[serde(default)]
    pub broken: bool,
}

/// The action of an override.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// Closes.
    Close,
    /// Prolongs what is closed.
    Extend,
    /// Reopens what is closed.
    Open,
}

impl Override {
    /// Returns true if it applies to a scope.
    #[must_use]
    pub fn concerns(&self, scope: &Scope) -> bool {
        self.scope.is_empty() || self.scope.iter().any(|name| name == scope.name())
    }

    /// Returns true if it is not over.
    #[must_use]
    pub fn lasts(&self, at: DateTime<Utc>) -> bool {
        self.until.is_none_or(|until| at < until)
    }

    /// A closing one counts from before it was given, so that a clock set back does not undo it.
    pub(super) fn in_force(&self, at: DateTime<Utc>) -> bool {
        self.lasts(at) && (self.action != Action::Open || self.from <= at)
    }

    /// Returns true if every scope of the other is one of this.
    fn covers(&self, other: &Self) -> bool {
        self.scope.is_empty() || (!other.scope.is_empty() && other.scope.iter().all(|name| self.scope.contains(name)))
    }
}

/// The number of ended overrides that are kept.
const OVER: usize = 256;

/// Puts a new override in its place among the others, which are in the order of their ids.
pub(super) fn place(overrides: &mut Vec<Override>, new: Override) {
    // An extension lies on top: it must not take away what it prolongs.
    if new.action != Action::Extend {
        overrides.retain(|other| !new.covers(other));
    }
    // Ended ones go first and alone: one that is in force is never dropped for want of room.
    while overrides.len() >= OVER
        && let Some(over) = overrides.iter().position(|other| !other.lasts(new.at))
    {
        overrides.remove(over);
    }
    overrides.push(new);
}

/// The decision of the overrides for a scope at an instant.
pub(super) enum Ruling<'a> {
    /// Closed by this one.
    Closed(&'a Override),
    /// Only what begins after this instant closes.
    Opened(DateTime<Utc>),
    /// Nothing: the schedule decides.
    Silent,
}

/// The latest that is in force decides.
pub(super) fn ruling<'a>(overrides: &'a [Override], scope: &Scope, at: DateTime<Utc>) -> Ruling<'a> {
    match overrides.iter().rev().find(|one| one.concerns(scope) && one.in_force(at)) {
        None => Ruling::Silent,
        Some(one) if one.action == Action::Open => Ruling::Opened(one.at),
        Some(one) => Ruling::Closed(one),
    }
}
