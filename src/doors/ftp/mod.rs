//! The FTP and FTPS door: a guard that speaks with the client, and libunftp behind it that serves the file commands.
//!
//! The guard owns the client's control connection (`session`, `lines`, `wire`, `dispatch`) and data connections
//! (`offers`, `data`, `moving`, `work`). A file that comes in goes from there to `ingest` (`upload`): what is to be
//! decided about it is ours. libunftp runs as an inner server on a loopback pair (`inner`, `backend`) and serves all that
//! is asked of names and directories; it also says *that* a file is sent, and the guard brings the client's own stream
//! for it (`download`), so no byte is copied an extra time. It is opened when it is needed first, so who only uploads
//! costs none. Whatever it does, the client hears only the guard.
//!
//! # Trust
//! Nothing a client sends is trusted. Lines are bounded, before the login their number too. Names go through `ingest`'s
//! rules; reading happens below the partner's own directory descriptor; passwords go to `partners`. Connections are
//! counted before the first byte is read. A data connection is taken only from the address of the control connection.
//! With `tls = "required"` neither a password nor a byte of a file travels in the clear, and what was sent in the clear
//! behind AUTH TLS is dropped. An upload is answered positively only after `ingest` says it is kept, with evidence that
//! the client was still there (`evidence`), and one compare-and-swap decides between that and ABOR (`transfer`). Active
//! mode is off unless configured, and then goes to the client's own address alone.
//!
//! The inner server trusts one random token of each inner session, which never leaves the process.

mod backend;
mod certificate;
mod data;
mod digest;
mod dispatch;
mod door;
mod download;
mod evidence;
mod inner;
mod lines;
mod login;
mod moving;
mod offers;
mod options;
mod paths;
mod protection;
mod reply;
mod resumption;
mod session;
mod shown;
mod speech;
mod tcp_state;
mod transfer;
mod upload;
mod wire;
mod work;

use super::link;

pub use certificate::{CertificateInfo, TlsError};
pub use door::{Door, DoorError};
pub use options::{Options, PortRange, Tls, can_honour};
