//! The SFTP door: SSH by russh, and an SFTP service of our own on its channels.
//!
//! `door` accepts, `session` is one connection with its login, `service` one channel, whose requests `dispatch` hands
//! on: to `opening`, `stat` and `names`, or to what is open. Packets are read and written by `packet`, which does no
//! I/O. Each open file is a task: `upload` writes, `download` reads, `listing` gives the names of a folder; `handles`
//! knows them all. `turns` keeps requests for the same names in order, `answer` gives each request its one answer.
//! `transfer_clock` ends transfers that stall.
//!
//! # Trust
//! Nothing a client sends is trusted. Connections are counted before the first byte is read, and time to log in is
//! short. Lengths are looked at before memory is taken; what a channel can make the server hold is bounded (`service`).
//! A packet that is broken ends its channel, for nobody knows where the next begins. Names go through `ingest`'s rules,
//! and lead to nothing but the partner's own files. Passwords and keys go to `partners`; SHA-1 signs nothing. Nothing
//! but SFTP is served: no shell, no command, no forwarding.
//!
//! CLOSE is the proof that an upload is whole, and its answer comes when `ingest` says that the file is kept. A channel
//! or connection that ends before it leaves a partial. One thing the protocol does not tell: OpenSSH's sftp,
//! interrupted by its user in the middle of a file, closes it like one that is whole. Only a rename behind it proves
//! more.

mod algorithms;
mod answer;
mod attributes;
mod authorities;
mod dispatch;
mod door;
mod download;
mod handles;
mod host_keys;
mod listing;
mod names;
mod opening;
mod options;
pub mod packet;
mod partner_session;
mod refused;
mod reorder;
mod service;
mod session;
mod stat;
mod transfer_clock;
mod turns;
mod upload;

pub use door::{Door, DoorError};
pub use host_keys::{HostKeyError, HostKeyInfo};
pub use options::Options;
