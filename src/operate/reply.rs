//! What operators get to see. The `--json` output is these objects, so their keys are a promise: none is renamed or
//! removed, new ones may come.

use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay_queue::{LaneInfo, State, StateCount};
use forebay_storage::{FileId, Sha256};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::problem::Problem;

/// A piece of an answer on its way.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "objects are what is usual here, and few are under way at a time")]
pub enum Piece {
    /// An object.
    Reply(Reply),
    /// Bytes of a file; on the socket they follow a [`Reply::Bytes`] line.
    Bytes(Bytes),
}

/// One line of an answer. The last one is `Done` or `Failed`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", content = "is", rename_all = "snake_case")]
pub enum Reply {
    /// Comes first.
    Hello(Hello),
    /// The server in figures.
    Status(Box<StatusView>),
    /// An account.
    Account(AccountView),
    /// A password that was generated, shown this once.
    Password(PasswordView),
    /// A public key of an account.
    Key(KeyView),
    /// A session.
    Session(SessionView),
    /// A session that was ended, or why not.
    Kicked(KickedView),
    /// A file.
    File(FileView),
    /// A file with its history.
    Detail(Box<DetailView>),
    /// What was done to a file, or why not.
    Acted(ActedView),
    /// The queue in figures.
    Stats(Box<StatsView>),
    /// A file has changed.
    Change(FileView),
    /// How things stand, each second.
    Pulse(PulseView),
    /// So many bytes follow.
    Bytes(u64),
    /// How far it is.
    Progress(ProgressView),
    /// What a look at everything found.
    Verified(VerifiedView),
    /// The gate.
    Gate(Box<GateView>),
    /// A closure of the schedule, or one that was simulated.
    Closure(ClosureView),
    /// An override.
    Override(OverrideView),
    /// An attempt still runs behind the closed gate.
    Running(RunningView),
    /// A record of the journal.
    Record(RecordView),
    /// A sentence for the operator.
    Said(String),
    /// All of it was done.
    Done,
    /// It was not.
    Failed(Problem),
}

/// What comes first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The schedule's zone.
    pub zone: String,
    /// The server's clock.
    pub now: DateTime<Utc>,
    /// Whether the running server answers; otherwise the data was read directly.
    pub live: bool,
}

/// A file as lists show it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileView {
    /// The file.
    pub id: FileId,
    /// Whose.
    pub partner: String,
    /// Its path in the login directory.
    pub name: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest.
    pub sha256: Sha256,
    /// Where it stands.
    pub state: State,
    /// Whether a closed gate holds it back.
    pub deferred: bool,
    /// When the gate opens again, if that is known and it is deferred.
    pub resumes_at: Option<DateTime<Utc>>,
    /// When its last byte had come.
    pub received_at: DateTime<Utc>,
    /// The route that serves it.
    pub route: Option<String>,
    /// Attempts that counted.
    pub attempts: u32,
    /// The door it came in by.
    pub door: String,
    /// When it came to stand there.
    pub since: DateTime<Utc>,
    /// Why.
    pub reason: Option<String>,
    /// When it is tried again.
    pub due_at: Option<DateTime<Utc>>,
}

/// A file with all that is known of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DetailView {
    /// The file.
    #[serde(flatten)]
    pub file: FileView,
    /// How many crashes of the server found it active.
    pub crashes: u32,
    /// What happened to it, oldest first.
    pub history: Vec<RecordView>,
}

/// A record of the journal.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RecordView {
    /// The journal's sequence.
    pub seq: u64,
    /// When.
    pub at: DateTime<Utc>,
    /// Who: `server`, `partner NAME` or `operator NAME`.
    pub actor: String,
    /// The file it is about.
    pub id: Option<FileId>,
    /// What, in a word.
    pub what: String,
    /// What, in a sentence.
    pub text: String,
    /// The end of the processor's output.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub output: String,
    /// All of it, as it is stored.
    pub detail: Value,
}

/// What was done to a file, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ActedView {
    /// What was given: an id or its beginning.
    pub asked: String,
    /// The file, if there is one.
    pub file: Option<FileView>,
    /// Why it was not done.
    pub error: Option<Problem>,
}

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// The partner.
    pub name: String,
    /// Whether its logins are allowed.
    pub enabled: bool,
    /// When it was opened.
    pub created_at: Option<DateTime<Utc>>,
    /// Its sessions now, when the server runs.
    pub sessions: Option<u64>,
    /// Bytes that are not processed yet.
    pub unprocessed_bytes: u64,
}

/// A password that was generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordView {
    /// The partner.
    pub partner: String,
    /// The password.
    pub password: String,
}

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

/// A public key of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Whose.
    pub partner: String,
    /// `SHA256:…`, as OpenSSH shows it.
    pub fingerprint: String,
    /// Its kind, such as `ssh-ed25519`.
    pub algorithm: String,
    /// What stands behind the key.
    pub comment: String,
    /// Where it may be used from; anywhere if not given.
    pub from: Option<String>,
}

/// A session that was ended, or why not.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KickedView {
    /// The id that was given or found.
    pub asked: String,
    /// The session as it was, if there was one.
    pub session: Option<SessionView>,
    /// Why it was not done.
    pub error: Option<Problem>,
}

/// A session.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SessionView {
    /// Names it for `sessions kick`.
    #[serde(default)]
    pub id: String,
    /// Whose.
    pub partner: String,
    /// The door.
    pub door: String,
    /// From where.
    pub peer: String,
    /// Since when.
    pub since: Option<DateTime<Utc>>,
    /// What it does; empty when it waits for a command.
    #[serde(default)]
    pub doing: String,
    /// Bytes it has sent and fetched.
    #[serde(default)]
    pub bytes: u64,
    /// Bytes a second of what it does now.
    #[serde(default)]
    pub bytes_per_second: u64,
    /// How long it has done nothing, in seconds.
    #[serde(default)]
    pub idle_seconds: u64,
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
