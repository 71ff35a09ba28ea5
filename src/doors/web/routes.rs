//! The routes behind an open gate: the pages, and the services.

use std::sync::Arc;

use axum::{Router, extract::Request, routing::get};
use hyper::StatusCode;
use tower_http::csrf::{CsrfLayer, ProtectionError};

use super::{
    Options,
    answer::{self, Answer},
    dialect::Dialect,
    exchange::Problem,
    faces::Faces,
    portal, service,
};
use crate::doors::core::DoorContext;

/// The routes of the door.
///
/// Whatever another site makes a browser send here is refused before anything looks at it: browsers add what they know of the
/// partner, a cookie, a certificate or a password that they were asked for.
pub(super) fn router(common: &Arc<DoorContext>, faces: &Arc<Faces>, options: &Options) -> Router {
    let mut router = match options.portal {
        true => portal::routes(common, faces, options),
        false => status_alone(faces),
    };
    if options.services {
        router = router.merge(service::routes(common, options.url.as_deref()));
    }
    let router = router.fallback(not_found).method_not_allowed_fallback(not_allowed);
    router.layer(own_pages(options).with_rejection_response(of_another_site))
}

/// Browsers tell by themselves where a request comes from. The public address counts as ours also where a proxy changes
/// the Host.
fn own_pages(options: &Options) -> CsrfLayer {
    let origin = options.url.as_deref().map(|url| url.trim_end_matches('/'));
    let trusted = origin.and_then(|origin| CsrfLayer::new().add_trusted_origin(origin).ok());
    trusted.unwrap_or_default()
}

fn of_another_site(_: ProtectionError) -> Answer {
    let what = "another site has sent this request; nothing of it was done";
    Problem::new(StatusCode::FORBIDDEN, what).told(Dialect::Json, "")
}

fn status_alone(faces: &Arc<Faces>) -> Router {
    let faces = Arc::clone(faces);
    let status = move |request: Request| {
        let answer = faces.status_in(dialect(request));
        async move { answer }
    };
    Router::new().route("/", get(status))
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
