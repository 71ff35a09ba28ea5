//! The portal: a partner signs in with a browser, sends files, sees what became of them, and fetches what lies for it.
//!
//! `sign_in` begins and ends a browser's session, which is a cookie and, here, what its partner came in by. Each request
//! of it is a [`Visit`]: it opens a session of the partner as a request to the services does, which ends with the request,
//! or with the account, password, token or certificate that the partner came in by. `files` shows what was sent, `upload`
//! takes more, and `out` gives what lies for the partner; bytes move by `exchange`.
//!
//! # Trust
//! A cookie is believed only in requests of our own pages: what another site sends is refused before anything looks at it
//! (`routes`), beside the cookie's own SameSite. Names of files and partners are hostile, and escaped by the templates.

mod files;
mod form;
mod out;
mod sign_in;
mod upload;
mod visit;

use std::{sync::Arc, time::Duration};

use axum::{
    Router,
    routing::{get, post},
};

use hyper::header::HeaderValue;

use super::{
    Options,
    answer::{self, Answer},
    faces::Faces,
};
use crate::{
    doors::core::DoorContext,
    http::{CookieForm, SessionBounds, Sessions},
    partners::{Credentials, PartnerName},
};
use visit::Visit;

/// A session ends when it is so old, however much it was used.
const LONGEST: Duration = Duration::from_secs(12 * 60 * 60);

/// What the handlers stand on.
pub(super) type Portal = Arc<PortalContext>;

/// What the pages share.
pub(super) struct PortalContext {
    common: Arc<DoorContext>,
    faces: Arc<Faces>,
    sessions: Arc<Sessions<SignedIn>>,
    /// How long a session may be idle.
    idle: Duration,
    /// How long a form without a file may take.
    form_time: Duration,
}

/// What a browser's session stands for.
struct SignedIn {
    name: PartnerName,
    credentials: Credentials,
}

async fn start() -> Answer {
    answer::see_other(HeaderValue::from_static("/"))
}

/// The routes of the pages.
pub(super) fn routes(common: &Arc<DoorContext>, faces: &Arc<Faces>, options: &Options) -> Router {
    let cookie = if options.is_tls_outside() { CookieForm::Tls } else { CookieForm::Clear };
    let bounds = SessionBounds { idle: options.session_idle, age: LONGEST };
    let clock = Arc::clone(&common.clock);
    let portal = Arc::new(PortalContext {
        common: Arc::clone(common),
        faces: Arc::clone(faces),
        sessions: Sessions::new(cookie, bounds, move || clock.elapsed()),
        idle: options.session_idle,
        form_time: options.body_timeout,
    });
    Router::new()
        .route("/", get(files::home))
        // Where a browser stands after a refusal.
        .route("/sign-in", post(sign_in::by_password).get(start))
        .route("/sign-in/certificate", post(sign_in::by_certificate))
        .route("/sign-out", post(sign_in::out))
        .route("/upload", post(upload::upload).get(start))
        .route("/files/{id}", get(files::one))
        .route("/files/{id}/receipt.json", get(files::receipt))
        .route("/out", get(out::top))
        .route("/out/", get(out::top))
        .route("/out/{*name}", get(out::one))
        .with_state(portal)
}
