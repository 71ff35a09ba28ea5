//! The web services: partners send and fetch files, each request with its own credentials.
//!
//! `login` finds out whose request it is, and opens a session for it. `upload` takes a file, which `receiving` moves to
//! `ingest`; `files` tells what became of those that were sent, and `out` gives what lies in the partner's `out/`, which
//! `sending` moves. Whatever is refused is a `problem`. `openapi` describes it all, from the same routes that serve it.
//!
//! # Trust
//! Nothing of a request is believed before its partner has logged in, and nothing but its own files is seen by it then. A
//! file is told to be kept only when `ingest` says so.

mod files;
mod login;
mod openapi;
mod out;
mod problem;
mod query;
mod receiving;
mod sending;
mod taking;
mod upload;

use std::sync::Arc;

use axum::{Router, extract::Request, routing::get};

use super::{Options, answer, answer::Answer, dialect::Dialect, faces::Faces};
use crate::doors::core::DoorContext;

/// What the handlers stand on.
pub(super) type Services = Arc<DoorContext>;

/// Returns true if a path is one of the services'.
pub(super) fn is_below(path: &str) -> bool {
    path.strip_prefix("/v1").is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// The routes of the door, behind an open gate.
pub(super) fn router(common: &Services, faces: &Arc<Faces>, options: &Options) -> Router {
    let faces = Arc::clone(faces);
    let status = move |request: Request| {
        let answer = faces.status(dialect(request));
        async move { answer }
    };
    let mut router = Router::new().route("/", get(status));
    if options.services {
        router = router.merge(openapi::routes(common, options.url.as_deref()));
    }
    router.fallback(not_found).method_not_allowed_fallback(not_allowed)
}

fn dialect(request: Request) -> Dialect {
    Dialect::of_request(&request.into_parts().0)
}

async fn not_found(request: Request) -> Answer {
    answer::not_found(dialect(request))
}

/// The router adds which methods there are.
async fn not_allowed(request: Request) -> Answer {
    answer::method_not_allowed(dialect(request))
}
