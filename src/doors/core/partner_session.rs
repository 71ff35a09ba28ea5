//! A partner's session, from the login on, whatever protocol its client speaks.
//!
//! It is made once for each login, and shared by all that the session does. What is dropped last
//! gives the session's place back.

use std::sync::Arc;

use crate::{
    clock::Clock,
    ingest::{Files, Ingest, SessionInfo},
    partners::SessionTicket,
};

use super::{
    link::Link,
    transfer_clock::{TransferClock, TransferLimits},
};

/// A partner that has logged in: its place among the sessions, its files, and the clock of its transfers. Its
/// connection counts as present as long as anything of the session is under way.
#[derive(Debug)]
pub(in crate::doors) struct PartnerSession {
    pub(in crate::doors) info: SessionInfo,
    pub(in crate::doors) ticket: SessionTicket,
    pub(in crate::doors) ingest: Arc<Ingest>,
    pub(in crate::doors) files: Files,
    pub(in crate::doors) clock: Arc<dyn Clock>,
    pub(in crate::doors) transfers: TransferClock,
    /// None where a server of another kind has the connection.
    _link: Option<Arc<Link>>,
}

impl PartnerSession {
    /// The session of a partner whose connection another server has, with the limits of its transfers.
    pub(in crate::doors) fn new(
        ingest: &Arc<Ingest>,
        ticket: SessionTicket,
        clock: Arc<dyn Clock>,
        limits: TransferLimits,
    ) -> Self {
        let info = SessionInfo {
            partner: ticket.partner().clone(),
            door: ticket.door(),
            peer: ticket.peer().into(),
            id: ticket.id(),
        };
        let (files, transfers) = (ingest.files(&info), TransferClock::new(limits));
        Self { info, ticket, ingest: Arc::clone(ingest), files, clock, transfers, _link: None }
    }

    /// The same on a connection of ours.
    pub(super) fn on(self, link: Arc<Link>) -> Self {
        Self { _link: Some(link), ..self }
    }

    /// Waits until bytes that were moved are within the partner's bandwidth. That time is not the client's, and counts
    /// for no time limit. Cancel safe.
    pub(in crate::doors) async fn throttle(&self, bytes: u64) {
        let _throttling = self.transfers.throttling();
        self.ticket.throttle(bytes).await;
    }
}
