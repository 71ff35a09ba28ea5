//! What is there at an instant. Who puts it together knows the parts; here it is numbers and labels.

use std::time::Duration;

/// What was seen of the server. What could not be found out is none, and then told in no line.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Seen {
    /// The version of the program.
    pub version: &'static str,
    /// When it was started, in seconds since 1970.
    pub started_at: f64,
    /// Whether files can be taken in.
    pub is_ready: bool,
    /// Lines of the log that could not be written.
    pub lost_log_lines: u64,
    /// The queue.
    pub queue: Queue,
    /// The gate, for each of its scopes.
    pub gate: Vec<GateScope>,
    /// Whether the file of the schedule is one that was refused.
    pub schedule_is_broken: Option<bool>,
    /// The disk.
    pub disk: Option<Disk>,
    /// How old that is which takes its time to find out: the disk, the schedule's file, the oldest file that waits.
    pub look_age: Option<Duration>,
}

/// What was seen of the queue.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Queue {
    /// Files in each state.
    pub states: Vec<StateCount>,
    /// For how long the oldest file has waited that is ready, or is to be tried again.
    pub oldest_waiting: Option<Duration>,
    /// Whether it has answered the latest question.
    pub responds: Option<bool>,
}

/// The files in a state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateCount {
    /// The state.
    pub state: &'static str,
    /// How many there are.
    pub files: u64,
    /// The bytes that they brought.
    pub bytes: u64,
}

/// The gate for one scope.
#[derive(Clone, Debug, PartialEq)]
pub struct GateScope {
    /// A route's name, or `web`.
    pub scope: String,
    /// Whether it is open.
    pub is_open: bool,
    /// Each cause that there is for a closing, and whether this closing has it.
    pub causes: Vec<(&'static str, bool)>,
    /// The time until it changes, if nobody acts; none: that is not known.
    pub next_change: Option<Duration>,
}

/// The room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disk {
    /// Free bytes.
    pub free_bytes: u64,
    /// All bytes.
    pub total_bytes: u64,
    /// Bytes that uploads leave free.
    pub reserve_bytes: u64,
    /// Free inodes; none where the file system has no fixed number of them.
    pub free_inodes: Option<u64>,
    /// Inodes that uploads leave free.
    pub reserve_inodes: Option<u64>,
}
