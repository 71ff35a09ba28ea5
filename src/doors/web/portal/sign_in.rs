//! Signing in and out.

use std::sync::Arc;

use axum::extract::{Request, State};
use hyper::{
    HeaderMap, StatusCode,
    header::{HeaderValue, SET_COOKIE},
    http::request::Parts,
};
use tracing::info;

use super::{Portal, SignedIn, form::Form};
use crate::{
    doors::{
        core::words,
        web::{
            answer::{self, Answer},
            context::Caller,
            dialect::Dialect,
            exchange::{Login, Problem},
            pages::{Open, SignInOffer, rendered},
        },
    },
    partners::{Denied, Partner},
};

/// Signs in by name and password.
pub(super) async fn by_password(State(portal): State<Portal>, request: Request) -> Answer {
    let (head, body) = request.into_parts();
    let (caller, form) = match begun(&portal, &head, body).await {
        Ok(begun) => begun,
        Err(problem) => return problem.told(Dialect::of_request(&head), "Not signed in"),
    };
    let (name, password) = (form.value("name"), form.value("password"));
    let (partners, peer) = (&portal.common.partners, caller.link.peer.ip());
    let verified = partners.verify_showing(caller.certificate.as_ref(), name, password, peer).await;
    let verified = verified.inspect_err(|denied| portal.common.login_failed(denied));
    let verified = verified.and_then(|partner| opened(&portal, &caller, &head, partner, "password"));
    verified.unwrap_or_else(|denied| {
        info!(peer = %caller.link.peer, ?name, how = "password", why = %denied, "login refused");
        refused(&portal, &caller, name, denied)
    })
}

/// Signs in by the certificate that the browser has shown.
pub(super) async fn by_certificate(State(portal): State<Portal>, request: Request) -> Answer {
    let (head, _) = request.into_parts();
    let caller = match Caller::of(&head) {
        Ok(caller) => caller,
        Err(problem) => return problem.told(Dialect::of_request(&head), "Not signed in"),
    };
    let bound = caller.certificate.as_ref();
    let bound = bound.and_then(|shown| portal.common.partners.verify_bound(shown, caller.link.peer.ip()));
    let verified = bound.ok_or(Denied::Wrong).inspect_err(|denied| portal.common.login_failed(denied));
    let verified = verified.and_then(|partner| opened(&portal, &caller, &head, partner, "certificate"));
    verified.unwrap_or_else(|denied| {
        info!(peer = %caller.link.peer, how = "certificate", why = %denied, "login refused");
        let what = "this browser has shown no certificate that is enough to sign in by";
        refused_with(&portal, &caller, "", denied, what)
    })
}

/// Ends the session.
pub(super) async fn out(State(portal): State<Portal>, headers: HeaderMap) -> Answer {
    to_the_start(portal.sessions.end(&headers))
}

/// The page with the form, for whoever is not signed in.
pub(super) fn page(portal: &Portal, caller: &Caller, failure: Option<(&str, &str)>) -> String {
    let certificate = caller.certificate.as_ref();
    let sign_in = match caller.is_private {
        false => SignInOffer::NotPrivate,
        true => SignInOffer::Form {
            failure: failure.map(|(_, why)| why),
            name: failure.map_or("", |(name, _)| name),
            certificate: certificate
                .is_some_and(|shown| portal.common.partners.verify_bound(shown, caller.link.peer.ip()).is_some()),
        },
    };
    rendered(&Open { status: &portal.faces.status(), sign_in })
}

async fn begun(portal: &Portal, head: &Parts, body: axum::body::Body) -> Result<(Arc<Caller>, Form), Problem> {
    let caller = Caller::of(head)?;
    if !caller.is_private {
        let what = "passwords are taken over TLS only: this connection is in the clear, and not from this machine";
        return Err(Problem::new(StatusCode::FORBIDDEN, what));
    }
    Ok((caller, Form::read(head, body, portal.form_time).await?))
}

/// A session that was there before is over: nobody goes on in what was another's.
fn opened(
    portal: &Portal,
    caller: &Arc<Caller>,
    head: &Parts,
    partner: Partner,
    how: &'static str,
) -> Result<Answer, Denied> {
    let login = Login::open(&portal.common, &partner, Arc::clone(caller), head)?;
    info!(partner = %partner.name, peer = %caller.link.peer, how, session = %login.partner.ticket.id(), "logged in");
    let _ = portal.sessions.end(&head.headers);
    let owner = partner.name.folded();
    let signed_in = SignedIn { name: partner.name, credentials: partner.credentials };
    Ok(to_the_start(portal.sessions.begin(&owner, signed_in)))
}

fn to_the_start(cookie: HeaderValue) -> Answer {
    let mut answer = answer::see_other(HeaderValue::from_static("/"));
    answer.headers_mut().insert(SET_COOKIE, cookie);
    answer
}

/// The page again, with the reason. After some that may be guesses the connection ends, as at every door.
fn refused(portal: &Portal, caller: &Caller, name: &str, denied: Denied) -> Answer {
    let why = denied.to_string();
    refused_with(portal, caller, name, denied, &why)
}

/// The same in these words.
fn refused_with(portal: &Portal, caller: &Caller, name: &str, denied: Denied, why: &str) -> Answer {
    let is_last = denied.is_guess() && caller.guessed() >= portal.common.partners.limits().max_failed_logins;
    let why = words::capitalised(&format!("{why}."));
    let problem = Problem::from(denied);
    let problem = if is_last { problem.closing() } else { problem };
    // Of 401 a browser makes a question of its own.
    let status = if problem.status == StatusCode::UNAUTHORIZED { StatusCode::FORBIDDEN } else { problem.status };
    let mut answer = answer::html(status, page(portal, caller, Some((name, &why))));
    problem.add_headers(answer.headers_mut());
    answer
}
