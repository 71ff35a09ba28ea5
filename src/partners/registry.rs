//! The registry of partners: accounts, logins, policies, limits, connections and sessions, for doors and operators.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use uuid::Uuid;

use super::{
    ConnectionTicket, Credentials, Denied, Limits, Listing, Partner, PartnerName, PartnersError, Policies, Policy,
    SessionStatus, SessionTicket,
    accounts::Accounts,
    connections::{Connections, PlacesApart},
    memory_budget::MemoryBudget,
    renames::Renames,
    resumption::Habits,
    sessions::SessionRegistry,
};
use crate::{
    clock::Clock,
    credentials::{Authenticator, KnownOrigins, Rules},
    origin::Origin,
};

/// Accounts, credentials, policies, limits and lockout.
#[derive(Debug)]
pub struct Partners {
    pub(super) accounts: Accounts,
    pub(super) policies: RwLock<Policies>,
    pub(super) limits: RwLock<Arc<Limits>>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) connections: Arc<Connections>,
    pub(super) known: Arc<KnownOrigins>,
    pub(super) sessions: Arc<SessionRegistry>,
    pub(super) logins: Authenticator,
    pub(super) habits: Habits,
    pub(super) renames: Renames,
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
        let accounts = Accounts::open(directory, clock.now())?;
        let known = Arc::new(KnownOrigins::open(directory, Arc::clone(&clock)));
        let (keep, at_once) = (limits.verified_for, limits.verify_at_once);
        let logins = Authenticator::new(rules(&limits), keep, at_once, Arc::clone(&known), Arc::clone(&clock));
        let logins = logins.map_err(PartnersError::Hash)?;
        Ok(Arc::new(Self {
            accounts,
            connections: Connections::new(Arc::clone(&clock), Arc::clone(&known)),
            known,
            policies: RwLock::new(policies),
            sessions: SessionRegistry::new(
                Arc::clone(&clock),
                MemoryBudget::new(limits.memory, limits.memory_per_partner),
            ),
            logins,
            limits: RwLock::new(Arc::new(limits)),
            habits: Habits::default(),
            renames: Renames::default(),
            clock,
        }))
    }

    /// All accounts of a directory that nobody has opened: nothing is made or changed.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn look(directory: &Path) -> Result<Listing, PartnersError> {
        Accounts::look(directory)
    }

    /// The limits in force.
    #[must_use]
    pub fn limits(&self) -> Arc<Limits> {
        Arc::clone(&self.limits.read())
    }

    /// Applies the limits of a configuration that was read again. Open sessions keep their stall time-out; the
    /// number of passwords that are verified at once and the budgets of memory stay as they were at the start.
    pub fn set_limits(&self, limits: Limits) {
        self.logins.set(rules(&limits), limits.verified_for);
        *self.limits.write() = Arc::new(limits);
    }

    /// The policy of `partner`.
    #[must_use]
    pub fn policy(&self, partner: &str) -> Arc<Policy> {
        self.policies.read().of(partner)
    }

    /// Applies the policies of a configuration that was read again, also to open sessions.
    pub fn set_policies(&self, policies: Policies) {
        *self.policies.write() = policies;
        self.sessions.set_bandwidth_limits(|partner| self.policy(partner.as_str()).bytes_per_second);
    }

    /// The longest that any partner's interrupted uploads are kept.
    #[must_use]
    pub fn longest_partial_keep(&self) -> Duration {
        self.policies.read().longest_partial_keep()
    }

    /// Opens a session for a partner that has logged in.
    ///
    /// # Errors
    /// [`Denied::TooManySessions`], or [`Denied::Wrong`] when what the partner has shown holds no more.
    pub fn open_session(
        &self,
        partner: &Partner,
        door: &'static str,
        peer: SocketAddr,
    ) -> Result<SessionTicket, Denied> {
        let policy = self.policy(partner.name.as_str());
        let most = policy.max_sessions.unwrap_or_else(|| self.limits().max_sessions_per_partner);
        let ticket = self.sessions.begin(partner, door, peer, most, policy.bytes_per_second)?;
        // Only now, when a change of the account finds the session: it may have been changed since the login.
        if !self.lets_in(&partner.name, &partner.credentials, peer.ip()) {
            return Err(Denied::Wrong);
        }
        self.known.came(&partner.name.folded(), Origin::of(peer.ip()));
        Ok(ticket)
    }

    /// Ends the sessions that would not be let in any more by what they came in by, and gives them as they were. To be
    /// called after every change of accounts and policies.
    pub fn end_outdated(&self) -> Vec<SessionStatus> {
        self.sessions.kick_if(|name, credentials, peer| !self.lets_in(name, credentials, peer))
    }

    /// Where the account cannot be read now, nothing is known against the session.
    fn lets_in(&self, name: &PartnerName, credentials: &Credentials, peer: IpAddr) -> bool {
        let policy = self.policy(name.as_str());
        match self.accounts.get(name) {
            Ok(account) => account.is_some_and(|account| credentials.hold(&account, &policy, peer, self.clock.now())),
            Err(_) => true,
        }
    }

    /// Admits a connection, before anything is read from it.
    ///
    /// # Errors
    /// [`Denied::TooManyConnections`] or [`Denied::TooManyFromAddress`].
    pub fn admit_connection(&self, peer: IpAddr) -> Result<ConnectionTicket, Denied> {
        self.connections.connect(peer, &self.limits())
    }

    /// Admits a connection of a trusted proxy until it has named its client: one address may have any number then.
    ///
    /// # Errors
    /// [`Denied::TooManyConnections`].
    pub fn admit_proxy(&self, proxy: IpAddr) -> Result<ConnectionTicket, Denied> {
        self.connections.connect_proxy(proxy, self.limits().max_connections)
    }

    /// Places of a listener that shares none with others: so many in all, and so many of one address.
    #[must_use]
    pub fn places_apart(&self, most: u32, most_of_address: u32) -> PlacesApart {
        PlacesApart::new(Connections::new(Arc::clone(&self.clock), Arc::clone(&self.known)), most, most_of_address)
    }

    /// Every session, the oldest first.
    #[must_use]
    pub fn sessions(&self) -> Vec<SessionStatus> {
        self.sessions.sessions()
    }

    /// Asks the door of a session to end it. Returns the session as it was; none when it has ended already.
    #[must_use]
    pub fn kick(&self, session: Uuid) -> Option<SessionStatus> {
        self.sessions.kick(session)
    }

    /// The number of argon2id runs.
    #[cfg(test)]
    pub(super) fn runs(&self) -> u64 {
        self.logins.runs()
    }

    /// The number of open connections.
    #[must_use]
    pub fn connections(&self) -> u32 {
        self.connections.count()
    }
}

/// How failed logins wait, by these limits.
fn rules(limits: &Limits) -> Rules {
    Rules {
        free: limits.free_failures,
        first: limits.first_wait,
        longest: limits.longest_wait,
        half: limits.forget_failures,
    }
}
