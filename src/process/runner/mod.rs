//! `forebay runner`: a process of another user that runs the programs of routes, so that they are not the server.
//!
//! The server connects to the runner's socket for each attempt, and hands over the file (open for reading, or sealed in
//! memory), a pipe for the output, the command and its variables. The runner makes a directory with a copy of the file,
//! says that it is ready, and begins when it is told to, which the server does under the gate's lock. Then it tells how
//! the program ended.
//!
//! # Trust
//! Each side asks the kernel who the other is: the server talks to the runner's user alone, the runner takes nothing but
//! from the server's. A runner never has the server's rights, and no program has more than the runner's.
//!
//! # Guarantees
//! - A program runs as long as its connection. When that ends (the server stopped the attempt in its own time, was
//!   killed, or let go) the runner stops the program's process group: TERM, and KILL after the time that the server gave.
//! - Nothing begins while a program of an ended connection is being stopped: a file whose attempt was cut by a crash of
//!   the server is not processed twice at the same time.
//! - A runner that stops tells no status, and neither does one that is killed: the attempt does not count, the route is
//!   paused until a runner is there.
//!
//! # After a crash
//! Of the server: the above. Of the runner: the next one stops what carries the mark of its socket in its environment
//! (`FOREBAY_RUNNER`), and empties its directory, before it listens.

mod client;
mod run;
mod service;
mod users;
mod wire;

pub(super) use client::{Place, Remote};
pub use service::{Options as RunnerOptions, RunnerError, serve as serve_runner};
pub use users::uid_of;
pub(super) use wire::{Prepare, VERSION};
