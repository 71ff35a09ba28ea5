//! The admin socket: `<data>/admin.sock`, one request a connection, answers as JSON lines.
//!
//! # Trust
//! The data directory is 0700 and the socket 0600. The peer's uid is asked of the kernel: only the server's own user
//! and root are served, and the name of that user stands in the audit trail. A request carries a secret from
//! `<data>/admin.secret`, made at the first start: a program of a route is the server's own user too, but one that is
//! confined cannot read that file, whoever its ancestors say they are.

mod client;
mod place;
mod secret;
mod server;
mod wire;

pub use client::{Client, Conversation};
pub use server::AdminSocket;
