//! What happens to a file behind the gate: claimed in turn, handed to a processor, its outcome kept.
//!
//! [`Dispatcher`] claims while the gate is open and there is room, `worker` sees one claim through, and a
//! [`Processor`] does the work: [`Deliver`] puts files into a directory, [`Exec`] gives them to a program.
//! [`recover_children`] stops what a crashed server left running; [`Receipts`] tells partners what became of files.
//!
//! # Guarantees
//! - Nothing is claimed and nothing is handed over while the gate of its route is closed: the gate is asked before
//!   the claim and again, under its lock, at the instant a processor begins.
//! - An outcome is durable before the lease ends. When it cannot be made so, nothing more is claimed.
//! - A file is processed at least once. Its id is the idempotency key that processors see.
//!
//! # After a crash
//! What was active is stopped first and given back at its old turn, or held after three crashes.

mod attempt;
mod children;
mod deliver;
mod directory;
mod dispatcher;
mod exec;
mod intact;
mod notice;
mod options;
mod pause;
mod processor;
mod receipt;
mod receipts;
mod running;
mod scratch;
mod settle;
mod tail;
mod worker;

pub use children::{ChildrenError, ChildrenReport, instance_of, recover_children};
pub use deliver::Deliver;
pub use dispatcher::{Dispatcher, Parts};
pub use exec::Exec;
pub use options::Options;
pub use pause::Paused;
pub use processor::{Outcome, Processor, Report, Stop, Work};
pub use receipts::Receipts;
pub use running::Running;
