//! The objects that operators are shown. They are the `--json` output, so their keys are stable: none is renamed or
//! removed, new ones may come.

mod account;
mod file;
mod gate;
mod queue;
mod session;
mod status;

use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay_queue::MessageRun;
use serde::{Deserialize, Serialize};

pub use account::{AccountView, KeyView, NewTokenView, PasswordView, TokenView};
pub use file::{ActedView, ContinuesView, DetailView, FileView, MessagesView, RecordView};
pub use gate::{ClosureView, GateView, OverrideView, PlanView, ScopeView};
pub use queue::{PausedView, ProgressView, StateTotal, StatsView, VerifiedView};
pub use session::{KickedView, SessionView};
pub use status::{
    DiskView, DoorView, FailingView, FolderView, LogView, ProgramView, PulseView, RunningView, ServerView, StatusView,
};

use super::problem::Problem;

/// A piece of an answer on its way.
/// Bytes are kept out of JSON: an export goes at the speed of the disk.
#[derive(Clone, Debug)]
#[allow(clippy::large_enum_variant, reason = "objects are what is usual here, and few are under way at a time")]
pub enum Piece {
    /// An object.
    Reply(Reply),
    /// Bytes of a file; on the socket they follow a [`Reply::Bytes`] line.
    Bytes(Bytes),
}

/// One line of an answer. The last one is `Done` or `Failed`.
/// As JSON it is `{"kind": …, "is": …}`; the kinds are as stable as the keys of the objects.
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
    /// A bearer token of an account.
    Token(TokenView),
    /// A bearer token that was made, shown this once.
    NewToken(NewTokenView),
    /// A session.
    Session(SessionView),
    /// A session that was ended, or why not.
    Kicked(KickedView),
    /// A file.
    File(FileView),
    /// A file with its history.
    Detail(Box<DetailView>),
    /// How far the messages of a file are.
    Messages(Box<MessagesView>),
    /// Messages in a row of which the same became.
    MessageRun(MessageRun),
    /// The result of an action on a file.
    Acted(ActedView),
    /// The queue in figures.
    Stats(Box<StatsView>),
    /// A file has changed.
    Change(FileView),
    /// A summary of the server's state, each second.
    Pulse(PulseView),
    /// So many bytes follow.
    Bytes(u64),
    /// The progress of a check.
    Progress(ProgressView),
    /// The result of a check of everything.
    Verified(VerifiedView),
    /// The gate.
    Gate(Box<GateView>),
    /// What a plan of closures leaves out; comes before them.
    Plan(PlanView),
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

/// The first piece of every answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    /// The schedule's zone.
    pub zone: String,
    /// The server's clock.
    pub now: DateTime<Utc>,
    /// True if the running server answers; otherwise the data was read directly.
    pub live: bool,
}
