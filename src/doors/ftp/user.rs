//! A partner who is logged in, as libunftp carries it.
//!
//! libunftp hands it to the backend with every call, and that is the only way by which the backend
//! knows whose call it is. It holds the session weakly behind the guard, so that a session ends
//! with its client and not when libunftp is done with it.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use unftp_core::{
    auth::UserDetail,
    storage::{Error, ErrorKind},
};

use crate::{
    clock::Clock,
    doors::core::{PartnerSession, TransferLimits},
    ingest::{Ingest, Refusal},
    partners::{PartnerName, SessionTicket},
};

use super::{inner_state::InnerState, reply};

/// A partner's session at [`super::FtpBackend`].
#[derive(Clone)]
pub struct FtpUser {
    partner: PartnerName,
    session: Held,
    /// The state that the session shares with the guard, if one stands before it.
    inner: Option<Arc<InnerState>>,
}

/// A session, and how long it lives.
#[derive(Clone)]
enum Held {
    /// As long as libunftp keeps the user.
    Here(Arc<PartnerSession>),
    /// As long as the client of the guard is there. libunftp may keep a session minutes longer.
    ByGuard(Weak<PartnerSession>),
}

impl FtpUser {
    /// A partner that has logged in to a server of its own, which a session was opened for
    /// ([`crate::partners::Partners::open_session`]). The session ends when libunftp drops the user.
    #[must_use]
    pub fn new(ingest: &Arc<Ingest>, ticket: SessionTicket, clock: Arc<dyn Clock>, limits: TransferLimits) -> Self {
        let session = PartnerSession::new(ingest, ticket, clock, limits);
        Self { partner: session.info.partner.clone(), session: Held::Here(Arc::new(session)), inner: None }
    }

    /// A partner whose client speaks with the guard.
    pub(super) fn behind_guard(session: &Arc<PartnerSession>, inner: &Arc<InnerState>) -> Self {
        Self {
            partner: session.info.partner.clone(),
            session: Held::ByGuard(Arc::downgrade(session)),
            inner: Some(Arc::clone(inner)),
        }
    }

    /// The session that its commands work with, as long as it lasts.
    pub(super) fn session(&self) -> Result<Arc<PartnerSession>, Error> {
        let session = match &self.session {
            Held::Here(session) => Some(Arc::clone(session)),
            Held::ByGuard(session) => session.upgrade(),
        };
        // At every command, so that a kick holds at once.
        session.filter(|session| !session.ticket.is_kicked()).ok_or_else(|| ErrorKind::PermissionDenied.into())
    }

    /// The state that the guard shares, if one stands before the server.
    pub(super) fn inner(&self) -> Option<&InnerState> {
        self.inner.as_deref()
    }

    /// The error for libunftp. The guard gets the refusal itself: it says more.
    pub(super) fn refused(&self, refusal: Refusal) -> Error {
        if let Some(inner) = self.inner() {
            // Before libunftp replies: the guard reads it right behind that reply.
            inner.refuse(refusal.clone());
        }
        reply::error(refusal)
    }
}

impl UserDetail for FtpUser {
    fn account_enabled(&self) -> bool {
        self.session().is_ok()
    }
}

impl fmt::Display for FtpUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.partner.fmt(f)
    }
}

impl fmt::Debug for FtpUser {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FtpUser").field(&self.partner).finish()
    }
}
