//! The admin socket: `<data>/admin.sock`, one request a connection, answers as JSON lines.
//!
//! # Trust
//! The data directory is 0700 and the socket 0600. The peer's uid is asked of the kernel: only the server's own user
//! and root are served, and the name of that user stands in the audit trail.

mod client;
mod place;
mod server;
mod wire;

pub use client::{Client, Conversation};
pub use server::AdminSocket;
