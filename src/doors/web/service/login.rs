//! Whose request it is: by password, by token, or by the certificate that the connection has shown.

use std::sync::Arc;

use axum::extract::FromRequestParts;
use hyper::{StatusCode, header::AUTHORIZATION, http::request::Parts};
use tracing::{debug, info};

use super::Services;
use crate::{
    doors::web::{
        context::Caller,
        exchange::{Login, Problem},
    },
    http::Credentials,
    partners::{Denied, Partner},
};

impl FromRequestParts<Services> for Login {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, services: &Services) -> Result<Self, Problem> {
        let caller = Caller::of(parts)?;
        let mut lines = parts.headers.get_all(AUTHORIZATION).iter();
        let given = lines.next().map(|value| Credentials::parse(value.as_bytes()));
        if lines.next().is_some() {
            return Err(Problem::bad("stands twice").of("Authorization"));
        }
        if given.is_some() && !caller.is_private {
            let what = "passwords and tokens are taken over TLS only: this connection is in the clear, and not from this machine";
            return Err(Problem::new(StatusCode::FORBIDDEN, what).of("Authorization"));
        }
        // Who shows nothing asks how to log in, and has not failed.
        let has_tried = given.is_some();
        let (partner, how) = match verified(services, &caller, given).await {
            Ok(verified) => verified,
            Err(denied) => {
                if has_tried {
                    services.login_failed(&denied);
                }
                return Err(refused(services, &caller, denied));
            }
        };
        let login = Self::open(services, &partner, Arc::clone(&caller), parts);
        let login = login.map_err(|denied| refused(services, &caller, denied))?;
        debug!(partner = %partner.name, peer = %caller.link.peer, how, session = %login.partner.ticket.id(), "logged in");
        Ok(login)
    }
}

async fn verified(
    services: &Services,
    caller: &Caller,
    given: Option<Credentials>,
) -> Result<(Partner, &'static str), Denied> {
    let (partners, peer, certificate) = (&services.partners, caller.link.peer.ip(), caller.certificate.as_ref());
    match given {
        Some(Credentials::Basic { name, password }) => {
            let verified = partners.verify_showing(certificate, &name, &password, peer).await;
            verified.map(|partner| (partner, "password")).inspect_err(|denied| {
                info!(peer = %caller.link.peer, ?name, how = "password", why = %denied, "login refused");
            })
        }
        Some(Credentials::Bearer(token)) => {
            let verified = partners.verify_token(certificate, &token, peer);
            verified.map(|partner| (partner, "token")).inspect_err(|denied| {
                info!(peer = %caller.link.peer, how = "token", why = %denied, "login refused");
            })
        }
        Some(Credentials::Unknown) => Err(Denied::Wrong),
        None => {
            let bound = certificate.and_then(|certificate| partners.verify_bound(certificate, peer));
            bound.map(|partner| (partner, "certificate")).ok_or(Denied::Wrong)
        }
    }
}

/// The refusal of a login. After some that may be guesses the connection ends, as at every door.
fn refused(services: &Services, caller: &Caller, denied: Denied) -> Problem {
    let is_last = denied.is_guess() && caller.guessed() >= services.partners.limits().max_failed_logins;
    let problem = Problem::from(denied);
    if is_last { problem.closing() } else { problem }
}
