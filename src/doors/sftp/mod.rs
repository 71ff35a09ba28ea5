//! The SFTP door: SSH by russh, and an SFTP service of our own on its channels.
//!
//! `door` accepts, `session` is one connection with its login, `service` one channel. Packets are read and written by
//! `packet`, which does no I/O. Each open file is a task: `upload` writes, `reading` reads files and directories;
//! `handles` knows them all. `turns` keeps requests for the same names in order, `answer` gives each request its one
//! answer. `motion` sees to it that transfers get on.
//!
//! # Trust
//! Nothing a client sends is trusted. Connections are counted before the first byte is read, and time to log in is
//! short. Lengths are looked at before memory is taken; what a channel can make the server hold is bounded (`service`).
//! A packet that is broken ends its channel, for nobody knows where the next begins. Names go through `ingest`'s rules;
//! reading happens below the partner's own directory descriptor. Passwords and keys go to `partners`; SHA-1 signs
//! nothing. Nothing but SFTP is served: no shell, no command, no forwarding.
//!
//! CLOSE is the proof that an upload is whole, and its answer comes when `ingest` says that the file is kept. A channel
//! or connection that ends before it leaves a partial. One thing the protocol does not tell: OpenSSH's sftp, interrupted
//! by its user in the middle of a file, closes it like one that is whole. Only a rename behind it proves more.

mod algorithms;
mod answer;
mod authorities;
mod door;
mod guest;
mod handles;
mod host_keys;
mod motion;
mod options;
pub mod packet;
mod reading;
mod refused;
mod reorder;
mod service;
mod session;
mod turns;
mod upload;
mod view;

pub use door::{Door, DoorError};
pub use host_keys::{HostKeyError, HostKeyInfo};
pub use options::Options;
