//! Ways in. A door speaks its protocol, asks `partners` who may come, `ingest` what becomes of an upload and `gate`
//! whether it is processed now; it never sees storage or queue. What doors have in common is in `core`.

pub mod drop;
pub mod ftp;
pub mod sftp;
pub mod web;

mod core;
