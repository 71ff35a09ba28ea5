//! A request of a browser that has signed in.

use axum::extract::FromRequestParts;
use hyper::{StatusCode, http::request::Parts};

use super::{Portal, PortalContext, SignedIn};
use crate::{
    doors::web::{
        answer::Answer,
        context::Caller,
        dialect::Dialect,
        exchange::{Login, Problem},
        pages::{Around, Place},
    },
    http::Held,
    partners::{Denied, Partner},
};

/// A request of a browser that has signed in. Its session is not idle before this is dropped.
pub(super) struct Visit {
    pub(super) login: Login,
    _held: Held<SignedIn>,
}

impl Visit {
    /// The visit of a request; none where its browser has not signed in, or has no right to be in any more.
    ///
    /// # Errors
    /// When the partner has too many sessions, or its account cannot be read.
    pub(super) fn of(portal: &PortalContext, head: &Parts) -> Result<Option<Self>, Problem> {
        let caller = Caller::of(head)?;
        // Who can read the cookie on its way has no more right to it than the password had to be sent so.
        let Some(held) = portal.sessions.of(&head.headers).filter(|_| caller.is_private) else { return Ok(None) };
        let SignedIn { name, credentials } = held.value();
        let policy = portal.common.partners.policy(name.as_str());
        let partner = Partner { name: name.clone(), policy, credentials: credentials.clone() };
        match Login::open(&portal.common, &partner, caller, head) {
            Ok(login) => Ok(Some(Self { login, _held: held })),
            Err(Denied::Wrong) => {
                held.end();
                Ok(None)
            }
            Err(denied) => Err(Problem::from(denied)),
        }
    }

    /// What stands around a page.
    pub(super) fn around(&self, portal: &Portal, place: Place) -> Around {
        let partner = self.login.partner.ticket.partner().to_string();
        Around { partner, notice: portal.common.notice(), place, idle_seconds: portal.idle.as_secs() }
    }
}

impl FromRequestParts<Portal> for Visit {
    type Rejection = Answer;

    async fn from_request_parts(parts: &mut Parts, portal: &Portal) -> Result<Self, Answer> {
        let is_upload = parts.uri.path() == "/upload";
        let refused = match Self::of(portal, parts) {
            Ok(Some(visit)) => return Ok(visit),
            // A browser would ask for a password by itself if 401 said how.
            Ok(None) => {
                Problem::new(StatusCode::FORBIDDEN, "you are not signed in: sign in and try again").of("Cookie")
            }
            Err(problem) => problem,
        };
        let title = if is_upload { super::upload::NOT_KEPT } else { "Not possible" };
        Err(refused.told(Dialect::of_request(parts), title))
    }
}
