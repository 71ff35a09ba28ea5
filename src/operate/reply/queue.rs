//! The queue as a whole, and long work on it.

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
    /// When the oldest file that waits was received.
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
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// When it is tried again.
    pub probe_at: Option<DateTime<Utc>>,
}

/// How far something is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgressView {
    /// What is being looked at: `journal`, `files` or `index`.
    pub what: String,
    /// So much is done.
    pub done: u64,
    /// Of so much.
    pub total: u64,
}

/// What a look at everything found.
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
    /// What disagrees; empty is good.
    pub faults: Vec<String>,
}
