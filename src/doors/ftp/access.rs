//! A partner's access: the session, its files, and the bounds within which its bytes move.

use std::{sync::Arc, time::Duration};

use crate::{
    clock::Clock,
    ingest::{Files, Ingest, SessionInfo},
    partners::SessionTicket,
};

/// The session and files that commands work with once a partner has logged in, whoever speaks FTP with its client.
#[derive(Debug)]
pub(super) struct Access {
    pub(super) session: SessionInfo,
    pub(super) ticket: SessionTicket,
    pub(super) ingest: Arc<Ingest>,
    pub(super) files: Files,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) limits: TransferLimits,
}

/// The bounds of a transfer's time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TransferLimits {
    /// The longest time without a byte.
    pub stalled: Duration,
    /// The longest time for each GiB begun, however steadily its bytes move.
    pub longest_per_gib: Duration,
}

impl Access {
    pub(super) fn new(
        ingest: &Arc<Ingest>,
        ticket: SessionTicket,
        clock: Arc<dyn Clock>,
        limits: TransferLimits,
    ) -> Self {
        let session = SessionInfo {
            partner: ticket.partner().clone(),
            door: ticket.door(),
            peer: ticket.peer().into(),
            id: ticket.id(),
        };
        Self { files: ingest.files(&session), session, ticket, ingest: Arc::clone(ingest), clock, limits }
    }
}
