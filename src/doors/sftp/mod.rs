//! The SFTP door: SSH by russh, and an SFTP service of our own on its channels.
//!
//! `connection` is one connection with its end, `client` its other side as russh asks for it, `login` the ways in, and
//! `sftp_session` the session from there on. `service` is one channel, whose requests `dispatch` hands on: to what is
//! open, or by name to `named_requests`, `opening`, `stat` and `names`. Packets are read and written by `packet`, which
//! does no I/O. Each open file is a task: `upload` writes (it begins in `upload_opening`, is in an `upload_state`, and
//! its bytes go through `writing`), `download` reads, `listing` gives the names of a folder; `handles` knows them all.
//! `turns` keeps requests for the same names in order, `answer` gives each request its one answer.
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
mod client;
mod client_stream;
mod connection;
mod context;
mod dispatch;
mod door;
mod download;
mod handles;
mod handshake_threads;
mod host_keys;
mod listing;
mod login;
mod named_requests;
mod names;
mod opening;
mod options;
pub mod packet;
mod refused;
mod reorder;
mod room;
mod service;
mod sftp_session;
mod shut_out;
mod stat;
mod turns;
mod upload;
mod upload_opening;
mod upload_state;
mod writing;

pub use door::{Door, DoorError};
pub use host_keys::{HostKeyError, HostKeyInfo, look};
pub use options::Options;
