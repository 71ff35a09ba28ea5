//! Ways in. A door speaks its protocol, asks `partners` who may come, `ingest` what becomes of an upload and `gate`
//! whether it is processed now; it never sees storage or queue. What doors have in common is in `core`.
//!
//! A new door implements `core::SessionDoor` if it has sessions. Its words come from `core::words`,
//! its limits from `partners`; it adds the wire format, and the evidence that an upload is whole.

pub mod drop;
pub mod ftp;
pub mod sftp;
pub mod web;

mod core;
