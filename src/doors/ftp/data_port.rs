//! The data connection that a client has asked for (PASV, EPSV, PORT, EPRT), until a transfer takes
//! it.
//!
//! At most one at a time: a new request closes the one before. Nothing is read from it here.

use std::time::Duration;

use tokio::time::Instant;

use super::{data::Offer, reply::Reply};

/// A data port that no command came for is given to others after this long.
const OFFER_TIME: Duration = Duration::from_secs(60);

/// The next data connection, as the client has asked for it.
#[derive(Debug, Default)]
pub(super) struct DataPort {
    offer: Option<(Offer, Instant)>,
    /// EPSV ALL was sent (RFC 2428, 4): nothing else is taken.
    pub(super) only_epsv: bool,
}

impl DataPort {
    /// The client knows where its next data connection goes.
    pub(super) fn offer(&mut self, offer: Offer) {
        self.offer = Some((offer, Instant::now()));
    }

    /// Takes the offer for a transfer.
    pub(super) fn take(&mut self) -> Option<Offer> {
        self.offer.take().map(|(offer, _)| offer)
    }

    /// Drops the offer.
    pub(super) fn close(&mut self) {
        self.offer = None;
    }

    /// Closes an offer on which TLS may have begun: after PROT the next connection has another
    /// protection.
    pub(super) fn close_secure(&mut self) {
        if let Some((Offer::Passive(awaited), _)) = &self.offer
            && awaited.secure
        {
            self.close();
        }
    }

    /// The time at which it is given up, if there is one.
    pub(super) fn closes_at(&self) -> Option<Instant> {
        self.offer.as_ref().map(|(_, since)| *since + OFFER_TIME)
    }

    /// Drops it when no command has come for it in time.
    pub(super) fn close_if_unused(&mut self, now: Instant) {
        if self.closes_at().is_some_and(|at| now >= at) {
            self.close();
        }
    }
}

/// The reply to a transfer for which no data connection was asked.
pub(super) fn no_data_port() -> Reply {
    Reply::new(425, "Send EPSV or PASV first")
}
