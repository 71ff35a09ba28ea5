//! The context of a door: what its connections share, whatever protocol they speak.
//!
//! It is made once for each door, and shared by all its sessions. A door names these services and
//! no others.

use std::{sync::Arc, time::Duration};

use tracing::info;

use crate::{
    clock::Clock,
    gate::Gate,
    ingest::{Accepted, Ingest},
    metrics::{Door, Metrics},
    partners::{Denied, Network, Partner, Partners, SessionTicket},
};

use super::{
    link::{Link, Links},
    maintenance::Maintenance,
    partner_session::PartnerSession,
    transfer_clock::TransferLimits,
    words,
};

/// The services that a door stands on.
pub(in crate::doors) struct DoorServices {
    pub(in crate::doors) ingest: Arc<Ingest>,
    pub(in crate::doors) partners: Arc<Partners>,
    pub(in crate::doors) gate: Arc<Gate>,
    pub(in crate::doors) clock: Arc<dyn Clock>,
}

/// The settings that each door with sessions has.
#[derive(Clone, Debug)]
pub(in crate::doors) struct DoorSettings {
    /// Networks of proxies that must say whose connections they pass on.
    pub(in crate::doors) proxies: Vec<Network>,
    /// The longest time that a transfer may take for each GiB begun.
    pub(in crate::doors) longest_per_gib: Duration,
    /// The longest time that transfers may go on when the server is stopped.
    pub(in crate::doors) grace: Duration,
}

/// The part of a door's context that all doors have.
pub(in crate::doors) struct DoorContext {
    /// The door's name in files and sessions.
    pub(in crate::doors) door: &'static str,
    pub(in crate::doors) settings: DoorSettings,
    pub(in crate::doors) ingest: Arc<Ingest>,
    pub(in crate::doors) partners: Arc<Partners>,
    pub(in crate::doors) gate: Arc<Gate>,
    pub(in crate::doors) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    /// The door, as it is counted.
    pub(super) counted_door: Door,
    pub(super) links: Links,
    maintenance: Maintenance,
}

impl DoorContext {
    /// The context of a door that has no connections yet.
    pub(in crate::doors) fn new(door: &'static str, settings: DoorSettings, on: DoorServices) -> Self {
        let maintenance = Maintenance::new(on.gate.clone(), on.clock.clone());
        let DoorServices { ingest, partners, gate, clock } = on;
        let (metrics, counted_door, links) = (Arc::clone(ingest.metrics()), Door::named(door), Links::default());
        Self { door, settings, ingest, partners, gate, clock, metrics, counted_door, links, maintenance }
    }

    /// What a partner should know of maintenance that is on or near, if anything.
    pub(in crate::doors) fn notice(&self) -> Option<String> {
        self.maintenance.notice()
    }

    /// The part of a greeting that tells of maintenance.
    pub(in crate::doors) fn welcome(&self) -> Option<String> {
        self.notice().map(|notice| words::welcome(&notice))
    }

    /// The sentence about a file that was accepted.
    pub(in crate::doors) fn told_of(&self, accepted: &Accepted) -> String {
        words::accepted(accepted, |route| self.gate.deferral(route))
    }

    /// Opens a session for a partner that has logged in on a connection; `how` is for the log.
    ///
    /// From here on the connection counts as one with a login: it may stay, and its address is
    /// known.
    ///
    /// # Errors
    /// As [`Partners::open_session`].
    pub(in crate::doors) fn open_session(
        &self,
        partner: &Partner,
        link: &Arc<Link>,
        how: &str,
    ) -> Result<Arc<PartnerSession>, Denied> {
        let peer = link.peer;
        let ticket = self.partners.open_session(partner, self.door, peer).inspect_err(|denied| {
            self.login_failed(denied);
            info!(%peer, name = %partner.name, how, why = %denied, "login refused");
        })?;
        info!(partner = %partner.name, %peer, how, session = %ticket.id(), "logged in");
        // After the session was granted: a login that is refused must not make the connection one
        // with a login.
        link.logged_in(partner.name.clone(), &self.partners);
        Ok(self.session(ticket, link))
    }

    /// Opens a session for one request: the next on the same connection may be another partner's.
    ///
    /// # Errors
    /// As [`Partners::open_session`].
    pub(in crate::doors) fn open_request(
        &self,
        partner: &Partner,
        link: &Arc<Link>,
    ) -> Result<Arc<PartnerSession>, Denied> {
        let ticket = self.partners.open_session(partner, self.door, link.peer);
        let ticket = ticket.inspect_err(|denied| self.login_failed(denied))?;
        link.is_a_partner_s(&self.partners);
        Ok(self.session(ticket, link))
    }

    /// Ends the sessions of single requests whose account was disabled: no connection tells of them.
    pub(in crate::doors) fn end_disabled_requests(&self) {
        for session in self.partners.sessions() {
            if session.door == self.door && !self.partners.is_enabled(&session.partner) {
                // It may have ended by itself meanwhile.
                let _ = self.partners.kick(session.id);
            }
        }
    }

    fn session(&self, ticket: SessionTicket, link: &Arc<Link>) -> Arc<PartnerSession> {
        let limits =
            TransferLimits { stalled: self.partners.limits().stalled, longest_per_gib: self.settings.longest_per_gib };
        let session = PartnerSession::new(&self.ingest, ticket, self.clock.clone(), limits);
        Arc::new(session.on(link.clone()))
    }
}
