//! The server, its doors, its disk and what runs.

use chrono::{DateTime, Utc};
use forebay_storage::FileId;
use serde::{Deserialize, Serialize};

use super::gate::GateView;
use super::queue::{StateTotal, StatsView};
use super::session::SessionView;

/// The server in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// Whether it runs.
    pub running: bool,
    /// What the running server says of itself.
    pub server: Option<ServerView>,
    /// The data directory.
    pub data: String,
    /// Sessions now.
    pub sessions: Vec<SessionView>,
    /// Folders whose files are taken.
    #[serde(default)]
    pub folders: Vec<FolderView>,
    /// The gate.
    pub gate: GateView,
    /// The queue.
    pub queue: StatsView,
    /// What runs.
    pub active: Vec<RunningView>,
    /// Room on the disk.
    pub disk: DiskView,
    /// What needs an operator, most urgent first; empty is good.
    pub needs: Vec<String>,
}

/// What the running server says of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// Since when it is ready.
    pub started_at: DateTime<Utc>,
    /// Where it listens.
    pub doors: Vec<DoorView>,
    /// When the certificate of FTPS ends.
    pub certificate_ends_at: Option<DateTime<Utc>>,
}

/// A door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DoorView {
    /// `ftp`, `ftps` (TLS from the first byte), `sftp`, `web` or `drop`.
    pub door: String,
    /// Where it listens; the folder of `drop`.
    pub address: String,
    /// What else is to be said of it, such as how it does TLS.
    pub note: Option<String>,
}

/// Room on the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DiskView {
    /// Free bytes.
    pub free_bytes: u64,
    /// Bytes in all.
    pub total_bytes: u64,
    /// Bytes that uploads leave untouched.
    pub reserve_bytes: u64,
}

/// A folder of the drop door.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FolderView {
    /// The folder.
    pub directory: String,
    /// Whose files come there.
    pub partner: String,
    /// Why nothing is taken there now, if so.
    pub problem: Option<String>,
    /// Files that wait there, whatever for.
    pub waiting: u64,
    /// Files that were taken since the server started.
    pub taken: u64,
    /// How many cannot be taken, or not removed after they were.
    pub failing_count: u64,
    /// The first of them.
    pub failing: Vec<FailingView>,
}

/// A file that cannot be taken from its folder, or not removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingView {
    /// Its name in the folder.
    pub name: String,
    /// Why.
    pub reason: String,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// An attempt that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct RunningView {
    /// The file.
    pub id: FileId,
    /// Whose.
    pub partner: String,
    /// Its path.
    pub name: String,
    /// The route.
    pub route: String,
    /// The attempt's number.
    pub attempt: u32,
    /// Since when.
    pub since: DateTime<Utc>,
}

/// How things stand.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulseView {
    /// The server's clock.
    pub now: DateTime<Utc>,
    /// Whether the gate is closed for everything or for some route.
    pub closed: bool,
    /// When it opens, if that is known.
    pub resumes_at: Option<DateTime<Utc>>,
    /// When it closes next, if that is known.
    pub closes_at: Option<DateTime<Utc>>,
    /// Files by state, only what is not zero.
    pub states: Vec<StateTotal>,
    /// Uploads and other sessions.
    pub sessions: u64,
    /// What runs.
    pub running: Vec<RunningView>,
}
