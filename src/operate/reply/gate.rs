//! The gate, its closures and overrides.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The gate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct GateView {
    /// `open` or `closed`, for everything.
    pub state: String,
    /// Why it is closed, or which window closes it next.
    pub closure: Option<ClosureView>,
    /// When it opens, if it is closed and that is known.
    pub resumes_at: Option<DateTime<Utc>>,
    /// When it closes next, if it is open and that is known.
    pub closes_at: Option<DateTime<Utc>>,
    /// Each route, and `web`.
    pub scopes: Vec<ScopeView>,
    /// The schedule's zone.
    pub zone: String,
    /// What is wrong with the schedule or the clock, for an operator to mend.
    pub faults: Vec<String>,
    /// Overrides in force.
    pub overrides: Vec<OverrideView>,
    /// All that the gate says of itself.
    pub detail: Value,
}

/// The gate of a route, or of the web faces.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ScopeView {
    /// The route, or `web`.
    pub scope: String,
    /// Whether it is closed.
    pub closed: bool,
    /// When it opens, if that is known.
    pub resumes_at: Option<DateTime<Utc>>,
    /// When it closes next, if that is known.
    pub closes_at: Option<DateTime<Utc>>,
    /// Why it is closed.
    pub reason: Option<String>,
}

/// A span of time in which the gate is closed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClosureView {
    /// The window's name, or what closes it.
    pub name: String,
    /// From when.
    pub from: DateTime<Utc>,
    /// Until when, if it ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// From when, local to the zone.
    pub from_local: String,
    /// Until when, local to the zone.
    pub until_local: Option<String>,
    /// Routes; empty for everything.
    pub routes: Vec<String>,
    /// Why.
    pub reason: String,
    /// What web users are told.
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
    /// Since when.
    pub since: DateTime<Utc>,
    /// Until when, if it ends by itself.
    pub until: Option<DateTime<Utc>>,
    /// Why.
    pub reason: String,
    /// Who.
    pub actor: String,
}
