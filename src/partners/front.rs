//! What doors and operators ask of the partners.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use tokio::sync::Semaphore;
use uuid::Uuid;

use super::{
    ConnectionTicket, Denied, Limits, PartnerName, PartnersError, Policies, Policy, SessionStatus, SessionTicket,
    accounts::Accounts,
    lockout::Lockout,
    password::{Hash, Verifier},
    sessions::Present,
    verified::Verified,
};
use crate::clock::Clock;

/// Accounts, credentials, policies, limits and lockout.
#[derive(Debug)]
pub struct Partners {
    pub(super) accounts: Accounts,
    pub(super) policies: RwLock<Policies>,
    pub(super) limits: RwLock<Arc<Limits>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) present: Arc<Present>,
    pub(super) logins: Arc<Logins>,
    pub(super) turns: Arc<Semaphore>,
}

/// What is known of passwords that were tried.
#[derive(Debug)]
pub(super) struct Logins {
    pub(super) verifier: Verifier,
    pub(super) dummy: Hash,
    pub(super) lockout: Lockout,
    pub(super) verified: Verified,
}

impl Partners {
    /// Opens the directory of accounts, and makes it when it is missing.
    ///
    /// # Errors
    /// When the directory cannot be made or read.
    pub fn open(
        directory: &Path,
        limits: Limits,
        policies: Policies,
        clock: Arc<dyn Clock>,
    ) -> Result<Arc<Self>, PartnersError> {
        let logins = Logins {
            verifier: Verifier::default(),
            dummy: Hash::dummy().map_err(PartnersError::Hash)?,
            lockout: Lockout::new(&limits),
            verified: Verified::new(limits.verified_for),
        };
        Ok(Arc::new(Self {
            accounts: Accounts::open(directory, clock.now())?,
            policies: RwLock::new(policies),
            present: Present::new(Arc::clone(&clock)),
            logins: Arc::new(logins),
            turns: Arc::new(Semaphore::new(limits.verify_at_once.max(1) as usize)),
            limits: RwLock::new(Arc::new(limits)),
            clock,
        }))
    }

    /// The limits that doors keep.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read())
    }

    /// What holds from now on, as the configuration was read again. Sessions that are there keep how long their
    /// transfers may stand still, and how many passwords are verified at once stays as it was at the start.
    pub fn set_limits(&self, limits: Limits) {
        self.logins.lockout.set(&limits);
        self.logins.verified.set(limits.verified_for);
        *self.limits.write() = Arc::new(limits);
    }

    /// What holds for `partner`.
    #[must_use]
    pub fn policy(&self, partner: &str) -> Arc<Policy> {
        self.policies.read().of(partner)
    }

    /// What holds from now on, as the configuration was read again.
    pub fn set_policies(&self, policies: Policies) {
        *self.policies.write() = policies;
        self.present.set_paces(|partner| self.policy(partner.as_str()).bytes_per_second);
    }

    /// The longest that any partner's interrupted uploads are kept.
    #[must_use]
    pub fn longest_partial_keep(&self) -> Duration {
        self.policies.read().longest_partial_keep()
    }

    /// Opens a session for a partner that has logged in.
    ///
    /// # Errors
    /// [`Denied::TooManySessions`].
    pub fn open_session(
        &self,
        partner: &PartnerName,
        door: &'static str,
        peer: SocketAddr,
    ) -> Result<SessionTicket, Denied> {
        let policy = self.policy(partner.as_str());
        let most = policy.max_sessions.unwrap_or_else(|| self.limits().max_sessions_per_partner);
        self.present.begin(partner, door, peer, most, policy.bytes_per_second)
    }

    /// Gives a connection its place, before anything is read from it.
    ///
    /// # Errors
    /// [`Denied::TooManyConnections`] or [`Denied::TooManyFromAddress`].
    pub fn admit_connection(&self, peer: IpAddr) -> Result<ConnectionTicket, Denied> {
        let limits = self.limits();
        self.present.connect(peer, limits.max_connections, limits.max_connections_per_address)
    }

    /// Gives a connection of a trusted proxy its place until it has named its client: one address has any number then.
    ///
    /// # Errors
    /// [`Denied::TooManyConnections`].
    pub fn admit_proxy(&self, proxy: IpAddr) -> Result<ConnectionTicket, Denied> {
        self.present.connect(proxy, self.limits().max_connections, u32::MAX)
    }

    /// Every session, the oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.present.sessions()
    }

    /// Wants a session to end: its ticket tells the door. The session as it was; none when it is gone already.
    #[must_use]
    pub fn kick(&self, session: Uuid) -> Option<SessionStatus> {
        self.present.kick(session)
    }

    /// How many passwords were run through argon2id.
    #[cfg(test)]
    pub(super) fn runs(&self) -> u64 {
        self.logins.verifier.runs()
    }

    /// How many connections there are.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.present.connections()
    }
}
