//! The FTP and FTPS door: a guard that speaks with the client, and libunftp behind it that serves the file commands.
//!
//! A session goes through phases, each a type: `greeting`, then `logged_in`, and in that one transfer after another
//! (`transferring`). All of them stand on the `client`: its control connection (`control`, `lines`, `wire`) and its
//! `protection`. A line is parsed to a `command`, and `dispatch` brings that to its verb (`verbs`). Data connections
//! are asked for in advance (`data_port`, `data`) and come about for one transfer (`data_channel`, `data_transfer`).
//!
//! A file that comes in goes from there to `ingest` (`upload`, `receiving`, `completeness`), and a listing comes from
//! there page by page (`listing`). Every other file command goes to libunftp, which runs as an inner server on a
//! loopback pair (`inner`, `inner_session`) over this door's storage backend (`backend`, `user`). For a download it
//! says *that* a file is sent, and the guard hands over the client's own stream (`data_handover`), so no byte is copied
//! an extra time. The inner server is opened when it is needed first, so who only uploads costs none. Whatever it does,
//! the client hears only the guard.
//!
//! [`FtpBackend`] is a whole backend: a stock `libunftp::Server` over it, with a [`FtpUser`] for each login, keeps and
//! queues files as this door does, but cannot tell a client that died from one that has sent all.
//!
//! # Trust
//! Nothing a client sends is trusted. Lines are bounded, before the login their number too. Paths go through
//! `ingest`'s rules, to the partner's own names; passwords go to `partners`. Connections are counted before the first
//! byte is read. A data connection is taken only from the address of the control connection,
//! a second one ends the transfer, and one in TLS may have to resume the control connection's session (`resumption`). With `tls = "required"`
//! neither a password nor a byte of a file travels in the clear, and what was sent in the clear behind AUTH TLS is
//! dropped. An upload is answered positively only after `ingest` says it is kept, with evidence that the client was
//! still there (`evidence`), and one compare-and-swap decides between that and ABOR (`transfer`). One that cannot be
//! proven whole is claimable only once its sender was seen to have the reply (`confirmation`, `unconfirmed`,
//! `unconfirmed_watch`). Active mode is off unless configured, and then goes to the client's own address alone.
//!
//! The inner server trusts one random token of each inner session, which never leaves the process.

mod backend;
mod client;
mod command;
mod completeness;
mod confirmation;
mod confirmations;
mod context;
mod control;
mod data;
mod data_channel;
mod data_ended;
mod data_handover;
mod data_port;
mod data_transfer;
mod digest;
mod dispatch;
mod door;
mod download;
mod evidence;
mod greeting;
mod inner;
mod inner_session;
mod inner_state;
mod lines;
mod listable;
mod listing;
mod logged_in;
mod options;
mod paths;
mod presence;
mod protection;
mod quiet;
mod receiving;
mod reply;
mod resumption;
mod session;
mod tcp_state;
mod tls_setup;
mod transfer;
mod transferring;
mod unconfirmed;
mod unconfirmed_watch;
mod upload;
mod user;
mod verbs;
mod wire;

pub use super::core::TransferLimits;
pub use backend::FtpBackend;
pub use door::{Door, DoorError};
pub use listing::FtpMetadata;
pub use options::{Options, PortRange, Tls, can_honour};
pub use user::FtpUser;
