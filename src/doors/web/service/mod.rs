//! The web services: partners send and fetch files, each request with its own credentials.
//!
//! `login` finds out whose request it is, and opens a session for it. `upload` takes a file, `files` tells what became of
//! those that were sent, and `out` gives what lies in the partner's `out/`; bytes move by `exchange`. `openapi` describes it
//! all, from the same routes that serve it.
//!
//! # Trust
//! Nothing of a request is believed before its partner has logged in, and nothing but its own files is seen by it then. A
//! file is told to be kept only when `ingest` says so.

mod files;
mod login;
mod openapi;
mod out;
mod refusals;
mod upload;

use std::sync::Arc;

use crate::doors::core::DoorContext;

pub(super) use openapi::routes;

/// What the handlers stand on.
pub(super) type Services = Arc<DoorContext>;

/// Returns true if a path is one of the services'.
pub(super) fn is_below(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}
