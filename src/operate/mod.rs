//! The operators' actions, implemented once for the command line, the admin socket and, later, a console.
//!
//! A [`Request`] goes to the [`Operator`], the one place that does things; its answer comes back as [`Reply`]s through
//! an [`Answer`]. The reader of a [`Conversation`] does not depend on whether that was in this process or over the
//! [`AdminSocket`].

mod accounts;
mod answer;
mod audit_text;
mod files;
mod gates;
mod keys;
mod messages;
mod operator;
mod problem;
mod reply;
mod request;
mod sessions;
mod socket;
mod status;
pub mod system_users;
pub mod time_input;
mod tokens;
mod trail;
mod verify;
mod watch;

pub use answer::Answer;
pub use operator::{Dependencies, Live, Operator};
pub use problem::{Cause, Problem, Result};
pub use reply::{
    AccountView, ActedView, ClosureView, ContinuesView, DetailView, DiskView, DoorView, FailingView, FileView,
    FolderView, GateView, Hello, KeyView, KickedView, LogView, MessagesView, NewTokenView, OverrideView, PasswordView,
    PausedView, Piece, PlanView, ProgramView, ProgressView, PulseView, RecordView, Reply, RunningView, ScopeView,
    ServerView, SessionView, StateTotal, StatsView, StatusView, TokenView, VerifiedView,
};
pub use request::{Act, End, Request, Which};
pub use socket::{AdminSocket, Client, Conversation};
