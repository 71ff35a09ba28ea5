//! What operators can do, once: used by the command line, the admin socket and, one day, a console alike.
//!
//! A [`Request`] goes to the [`Operator`], the one place that does things; its answer comes back as [`Reply`]s through
//! an [`Answer`]. Whether that was in this process or over the [`AdminSocket`], the reader of a [`Conversation`] does
//! not see.

mod accounts;
mod answer;
mod files;
mod gates;
mod keys;
pub mod moment;
mod operator;
pub mod people;
mod problem;
mod reply;
mod request;
mod sentence;
mod sessions;
mod socket;
mod status;
mod trail;
mod verify;
mod watch;

pub use answer::Answer;
pub use operator::{Live, Operator, Parts};
pub use problem::{Cause, Problem, Result};
pub use reply::{
    AccountView, ActedView, ClosureView, DetailView, DiskView, DoorView, FailingView, FileView, FolderView, GateView,
    Hello, KeyView, KickedView, OverrideView, PasswordView, PausedView, Piece, ProgressView, PulseView, RecordView,
    Reply, RunningView, ScopeView, ServerView, SessionView, StateTotal, StatsView, StatusView, VerifiedView,
};
pub use request::{Act, End, Request, Which};
pub use socket::{AdminSocket, Client, Conversation};
