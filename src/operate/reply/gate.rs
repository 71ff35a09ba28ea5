//! The gate, its closures and overrides. Instants come twice: in UTC for programs, and as text in
//! the schedule's zone, which a program should not read.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateView {
    /// `open` or `closed`, for everything.
    pub state: String,
    /// The reason of the closure, or the next window that closes it.
    pub closure: Option<ClosureView>,
    /// The time at which it opens, if it is closed and that is known.
    pub resumes_at: Option<DateTime<Utc>>,
    /// The time at which it closes next, if it is open and that is known.
    pub closes_at: Option<DateTime<Utc>>,
    /// Each route, and `web`.
    pub scopes: Vec<ScopeView>,
    /// The schedule's zone.
    pub zone: String,
    /// Faults of the schedule or the clock, for an operator to mend.
    pub faults: Vec<String>,
    /// Overrides in force.
    pub overrides: Vec<OverrideView>,
    /// All that the gate says of itself.
    pub detail: Value,
}

/// The standing of the schedule, where a plan made from it would say less than is so.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlanView {
    /// What is refused, or not yet in force, each as a sentence.
    pub refused: Vec<String>,
    /// What is in force instead.
    pub in_force: String,
    /// False if no schedule is in force, so that everything is closed.
    pub schedule: bool,
}

/// The gate of a route, or of the web faces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeView {
    /// The route, or `web`.
    pub scope: String,
    /// True if the scope is closed.
    pub closed: bool,
    /// The time at which it opens, if that is known.
    pub resumes_at: Option<DateTime<Utc>>,
    /// The time at which it closes next, if that is known.
    pub closes_at: Option<DateTime<Utc>>,
    /// The reason of the closure.
    pub reason: Option<String>,
}

/// A span of time in which the gate is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosureView {
    /// The window's name, or what closes it.
    pub name: String,
    /// The start.
    pub from: DateTime<Utc>,
    /// The end, if it ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// The start, local to the zone.
    pub from_local: String,
    /// The end, local to the zone.
    pub until_local: Option<String>,
    /// Routes; empty for everything.
    pub routes: Vec<String>,
    /// The reason.
    pub reason: String,
    /// The message for web users.
    pub message: Option<String>,
}

/// An override.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OverrideView {
    /// Names it for `gate clear`.
    pub id: String,
    /// `close`, `open` or `extend`.
    pub what: String,
    /// Routes; empty for everything.
    pub routes: Vec<String>,
    /// The start.
    pub since: DateTime<Utc>,
    /// The end, if it ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// The reason.
    pub reason: String,
    /// The operator.
    pub actor: String,
}
