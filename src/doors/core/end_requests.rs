//! Requests to end a session that come from outside of it: the server stops, its account is disabled, an operator wants
//! it.

use std::sync::Arc;

use tokio::sync::watch;

use super::{
    link::{Link, Shutdown},
    partner_session::PartnerSession,
    words,
};

/// The requests to end one session.
#[derive(Debug)]
pub(in crate::doors) struct EndRequests {
    shutdown: watch::Receiver<Shutdown>,
    /// Once there was a login: operators end partners' sessions.
    partner: Option<Arc<PartnerSession>>,
}

impl EndRequests {
    /// The requests to end the session on this connection. Nobody has logged in on it yet.
    pub(in crate::doors) fn of(link: &Link) -> Self {
        Self { shutdown: link.told(), partner: None }
    }

    /// A partner has logged in.
    pub(in crate::doors) fn logged_in(&mut self, partner: &Arc<PartnerSession>) {
        self.partner = Some(partner.clone());
    }

    /// The most urgent request so far, which counts as seen.
    pub(in crate::doors) fn latest(&mut self) -> Shutdown {
        match &self.partner {
            Some(partner) if partner.ticket.is_kicked() => Shutdown::Now(words::KICKED),
            _ => *self.shutdown.borrow_and_update(),
        }
    }

    /// Waits for a request that was not seen. That of an operator comes again and again. Cancel safe.
    /// A caller that wakes asks [`EndRequests::latest`], and ends or waits again.
    pub(in crate::doors) async fn changed(&mut self) {
        let Self { shutdown, partner } = self;
        let kicked = async {
            match partner {
                Some(partner) => partner.ticket.kicked().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = shutdown.changed() => {}
            () = kicked => {}
        }
    }
}
