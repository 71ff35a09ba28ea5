//! The FTP and FTPS door: libunftp speaks the protocol, one server object for each connection that the door accepts.
//!
//! # Trust
//! Nothing a client sends is trusted. Names go through `ingest`'s rules; reading happens below the partner's own
//! directory descriptor; passwords go to `partners`. Connections are counted before the first byte is read. An upload is
//! answered positively only after `ingest` says it is kept, with evidence that the client was still there (`evidence`).
//! Active mode is off: the door never connects to where a client points.
//!
//! # Known limits of the protocol engine, until the door has a guard of its own in front of it
//! - The text of 226 cannot be ours: deferral is said in the greeting, the receipt and `out/NOTICE.txt`.
//! - REST is not offered (502), and APPE to a name that exists is refused: uploads always begin at byte 0.
//! - ABOR is not heard while a transfer runs; closing the control connection is, and cuts the upload.
//! - With `tls = "required"`, EPSV without PROT P is not refused by the engine: passwords are safe, data may be plain.
//! - A failed TLS handshake on a data connection ends that task and leaves its session without a reply; the door closes
//!   the session when it has been idle for too long.
//! - A syntax error (501) ends the connection; CDUP after `CWD ..` may go to the wrong directory; command lines have no
//!   length limit of their own; no TLS close_notify is sent after an upload; commands after AUTH TLS in the same packet
//!   are not dropped.

mod backend;
mod binder;
mod certificate;
mod door;
mod evidence;
mod line;
mod login;
mod options;
mod paths;
mod reply;
mod tcp_state;
mod transfer;

pub use certificate::{CertificateInfo, TlsError};
pub use door::{Door, DoorError};
pub use options::{Options, PortRange, Tls, can_honour};
