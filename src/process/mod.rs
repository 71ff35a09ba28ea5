//! Processing: files are claimed in order, handed to a processor, and their outcome is journalled.
//!
//! [`Dispatcher`] claims while the gate is open and slots are free, `worker` processes one claim, and a
//! [`Processor`] does the work: it hands the whole file, or its messages one by one (`messages/`), to a [`Sink`].
//! [`Deliver`] puts files into a directory, [`Exec`] gives files and messages to a program.
//! [`recover_children`] stops what a crashed server left running.
//!
//! # Guarantees
//! - Nothing is claimed and nothing is handed over while the gate of its route is closed: the gate is asked before
//!   the claim and again, under its lock, at the instant a processor begins.
//! - An outcome is durable before the lease ends. When it cannot be made so, nothing more is claimed.
//! - A file is processed at least once. Its id is the idempotency key that processors see.
//!
//! # After a crash
//! Attempts that were running are stopped first. Their entries are ready again in their old order, or held after three
//! crashes.

mod attempt;
mod children;
mod confine;
mod dispatcher;
mod group;
mod messages;
mod options;
mod output;
mod pause;
mod processor;
mod program;
mod runner;
mod running;
mod scratch;
mod settle;
mod sink;
mod tail;
mod worker;

pub use children::{ChildrenError, ChildrenReport, instance_of, recover_children};
pub use confine::Confinement;
pub use dispatcher::{Dependencies, Dispatcher};
pub use options::Options;
pub use pause::Paused;
pub use processor::{Outcome, Processor, Report, Stop, Work};
pub use runner::{RunnerError, RunnerOptions, serve_runner, uid_of};
pub use running::Running;
pub use sink::{Common, Deliver, Exec, Item, Message, Mode, Sink, WholeFiles};
