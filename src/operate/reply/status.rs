//! The server, its doors, its disk and what runs.
//!
//! A monitor reads `needs`: when it is empty all is well. Everything else is there to explain it.

use chrono::{DateTime, Utc};
use forebay_storage::FileId;
use serde::{Deserialize, Serialize};

use super::gate::GateView;
use super::queue::{StateTotal, StatsView};
use super::session::SessionView;

/// The server in figures.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StatusView {
    /// True if the server runs.
    pub running: bool,
    /// The state of the running server.
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
    /// The running attempts.
    pub active: Vec<RunningView>,
    /// Room on the disk.
    pub disk: DiskView,
    /// The log of the running server.
    #[serde(default)]
    pub log: LogView,
    /// The programs of routes, and whom they run as.
    #[serde(default)]
    pub programs: Vec<ProgramView>,
    /// Things that need an operator, most urgent first; empty is good.
    pub needs: Vec<String>,
}

/// The programs of a route.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProgramView {
    /// The route.
    pub route: String,
    /// `server` (its own user, unconfined), `confined`, or `runner`.
    pub run_as: String,
    /// The same as a sentence, with what to do if there is something.
    pub note: String,
}

/// The state of a running server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ServerView {
    /// Its version.
    pub version: String,
    /// Its process.
    pub pid: u32,
    /// The time at which it became ready.
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
    /// A remark, such as the TLS mode.
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
    /// Files that can still be made.
    #[serde(default)]
    pub free_inodes: u64,
    /// How many the file system can have; 0 where it has no fixed number.
    #[serde(default)]
    pub total_inodes: u64,
    /// Inodes that uploads leave untouched.
    #[serde(default)]
    pub reserve_inodes: u64,
}

/// The log of the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogView {
    /// Lines that could not be written since the start.
    pub lost_lines: u64,
    /// Why the latest of them could not.
    pub why: Option<String>,
    /// True if the latest line was lost.
    pub broken: bool,
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
    /// The number of files that cannot be taken, or cannot be removed after they were taken.
    pub failing_count: u64,
    /// The first of them.
    pub failing: Vec<FailingView>,
}

/// A file that cannot be taken from its folder, or not removed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingView {
    /// Its name in the folder.
    pub name: String,
    /// The reason.
    pub reason: String,
    /// The start.
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
    /// The start.
    pub since: DateTime<Utc>,
}

/// A summary of the server's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PulseView {
    /// The server's clock.
    pub now: DateTime<Utc>,
    /// True if the gate is closed for everything or for some route.
    pub closed: bool,
    /// When it opens, if that is known.
    pub resumes_at: Option<DateTime<Utc>>,
    /// When it closes next, if that is known.
    pub closes_at: Option<DateTime<Utc>>,
    /// Files by state, only what is not zero.
    pub states: Vec<StateTotal>,
    /// Uploads and other sessions.
    pub sessions: u64,
    /// The running attempts.
    pub running: Vec<RunningView>,
}
