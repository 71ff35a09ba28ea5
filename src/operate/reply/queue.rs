//! The queue as a whole, and long work on it.
//!
//! Figures are of the moment of the request.

use chrono::{DateTime, Utc};
use forebay_queue::{LaneInfo, State, StateCount};
use serde::{Deserialize, Serialize};

/// The queue in figures.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StatsView {
    /// Files and bytes by state, only what is not zero.
    pub states: Vec<StateTotal>,
    /// By partner and state.
    pub partners: Vec<StateCount>,
    /// Files that wait behind a closed gate.
    pub deferred: u64,
    /// The time at which the oldest waiting file was received.
    pub oldest_waiting: Option<DateTime<Utc>>,
    /// Lanes whose first file waits to be retried.
    pub blocked_lanes: Vec<LaneInfo>,
    /// Lanes of routes that are not configured any more: nothing processes them.
    pub unserved_lanes: Vec<LaneInfo>,
    /// Routes that are paused because their backend is down.
    pub paused_routes: Vec<PausedView>,
    /// The journal's latest sequence.
    pub last_seq: u64,
}

/// Files of a state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StateTotal {
    /// The state.
    pub state: State,
    /// Files.
    pub files: u64,
    /// Their bytes.
    pub size_bytes: u64,
}

/// A route that is paused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PausedView {
    /// The route.
    pub route: String,
    /// The reason.
    pub reason: String,
    /// The start.
    pub since: Option<DateTime<Utc>>,
    /// The time of the next attempt.
    pub probe_at: Option<DateTime<Utc>>,
}

/// The progress of a check.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressView {
    /// The part that is checked now: `journal`, `files` or `index`.
    pub what: String,
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub total: u64,
}

/// The result of a check of everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct VerifiedView {
    /// Records read.
    pub records: u64,
    /// Entries compared.
    pub entries: u64,
    /// Files whose bytes were read and agree.
    pub files: u64,
    /// Their bytes.
    pub size_bytes: u64,
    /// The disagreements that were found; empty is good.
    pub faults: Vec<String>,
}
