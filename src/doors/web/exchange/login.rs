//! A partner that has logged in, for one request.

use std::sync::Arc;

use hyper::http::request::Parts;

use super::Problem;
use crate::{
    doors::{
        core::{DoorContext, PartnerSession},
        web::context::Caller,
    },
    partners::{Denied, Partner},
};

/// A partner that has logged in, for one request: by credentials that came with it, or by a cookie.
pub(in crate::doors::web) struct Login {
    pub(in crate::doors::web) partner: Arc<PartnerSession>,
    pub(in crate::doors::web) caller: Arc<Caller>,
}

impl Login {
    /// Opens the session of a request.
    ///
    /// # Errors
    /// As [`DoorContext::open_request`].
    pub(in crate::doors::web) fn open(
        context: &DoorContext,
        partner: &Partner,
        caller: Arc<Caller>,
        head: &Parts,
    ) -> Result<Self, Denied> {
        let session = context.open_request(partner, &caller.link)?;
        session.ticket.doing(format!("{} {}", head.method, head.uri.path()));
        Ok(Self { partner: session, caller })
    }
}

impl Caller {
    /// Whose connection a request came by.
    ///
    /// # Errors
    /// When nobody has told: that is a fault of ours.
    pub(in crate::doors::web) fn of(head: &Parts) -> Result<Arc<Self>, Problem> {
        head.extensions.get::<Arc<Self>>().cloned().ok_or_else(|| Problem::from(Denied::Unavailable))
    }
}
