//! What doors and operators ask of the partners.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};

use parking_lot::RwLock;
use russh::keys::PublicKey;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tracing::{error, info};
use uuid::Uuid;

use super::{
    Account, Authentication, AuthorizedKey, ClientCertificate, ConnectionTicket, Limits, Listing, PartnerName,
    PartnersError, Policies, Policy, SessionStatus, SessionTicket,
    accounts::Accounts,
    lockout::{Lockout, Origin},
    password::{Hash, MAX_PASSWORD_BYTES, Verifier},
    sessions::Present,
    verified::Verified,
};
use crate::{clock::Clock, units};

/// The most keys of an account, and their bytes: its file has a limit too.
const MOST_KEYS: usize = 32;
const MOST_KEY_BYTES: usize = 48 << 10;

/// Why someone does not come in.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// No such name, a disabled account or another password: the answer is the same.
    #[error("name or password is wrong")]
    Wrong,
    /// Too many failures before; the right password would be refused too.
    #[error("too many failed logins; try again in {}", units::format_duration(whole_seconds(*.0)))]
    Wait(Duration),
    /// The password is right, and the partner's policy wants a key.
    #[error("logins by password alone are not allowed")]
    KeyWanted,
    /// The password is right, and the address is none that the partner's policy allows.
    #[error("logins from this address are not allowed")]
    Address,
    /// As many connections as there may be.
    #[error("too many connections")]
    TooManyConnections,
    /// As many connections of this address as there may be.
    #[error("too many connections from this address")]
    TooManyFromAddress,
    /// As many sessions of this partner as there may be.
    #[error("too many sessions")]
    TooManySessions,
    /// The account cannot be looked at just now. The log says why.
    #[error("logins are not possible at the moment")]
    Unavailable,
}

/// Who has logged in.
#[derive(Clone, Debug)]
pub struct Partner {
    /// The name as it was registered, however the client wrote it.
    pub name: PartnerName,
    /// What holds for it.
    pub policy: Arc<Policy>,
}

/// What a client has proved before it sent its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing.
    Nothing,
    /// That it has one of the partner's keys.
    Key,
}

/// Accounts, credentials, policies, limits and lockout.
#[derive(Debug)]
pub struct Partners {
    accounts: Accounts,
    policies: RwLock<Policies>,
    limits: RwLock<Arc<Limits>>,
    clock: Arc<dyn Clock>,
    present: Arc<Present>,
    logins: Arc<Logins>,
    turns: Arc<Semaphore>,
}

/// What is known of passwords that were tried.
#[derive(Debug)]
struct Logins {
    verifier: Verifier,
    dummy: Hash,
    lockout: Lockout,
    verified: Verified,
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

    /// Lets in who has the right name and password, where the policy wants no more. An unknown name, a disabled account
    /// and a wrong password take the same time and get the same answer. Passwords are verified a few at a time; the
    /// rest wait in turn.
    ///
    /// Cancel safe: a run that has begun goes on without anyone waiting, keeps its turn, and counts.
    ///
    /// # Errors
    /// [`Denied::Wrong`], [`Denied::Wait`], [`Denied::KeyWanted`], [`Denied::Address`] or [`Denied::Unavailable`].
    pub async fn verify(&self, name: &str, password: &str, peer: IpAddr) -> Result<Partner, Denied> {
        self.verify_with(None, Proof::Nothing, name, password, peer).await
    }

    /// The same for a client that has shown a certificate. Where it does not fit the name, by what [`Policy`] says of
    /// certificates, no password does: the name is then like one that nobody has.
    ///
    /// # Errors
    /// As [`Partners::verify`].
    pub async fn verify_showing(
        &self,
        certificate: Option<&ClientCertificate>,
        name: &str,
        password: &str,
        peer: IpAddr,
    ) -> Result<Partner, Denied> {
        self.verify_with(certificate, Proof::Nothing, name, password, peer).await
    }

    /// The same for a client that has proved something before.
    ///
    /// # Errors
    /// As [`Partners::verify`].
    pub async fn verify_behind(
        &self,
        proof: Proof,
        name: &str,
        password: &str,
        peer: IpAddr,
    ) -> Result<Partner, Denied> {
        self.verify_with(None, proof, name, password, peer).await
    }

    async fn verify_with(
        &self,
        certificate: Option<&ClientCertificate>,
        proof: Proof,
        name: &str,
        password: &str,
        peer: IpAddr,
    ) -> Result<Partner, Denied> {
        let origin = Origin::of(peer);
        let parsed = name.parse::<PartnerName>().ok();
        // Names that no account can have wait together: they must not fill the memory.
        let key = parsed.as_ref().map(PartnerName::folded).unwrap_or_default();
        let (fits, proof) = match &parsed {
            Some(name) => self.shown(certificate, proof, name),
            None => (false, proof),
        };
        let parsed = parsed.filter(|_| fits);
        self.must_not_wait(&key, origin)?;
        if let Some(account) = self.remembered(parsed.as_ref(), password)? {
            return self.enter(proof, &account, &key, origin, peer);
        }
        let turn = Arc::clone(&self.turns).acquire_owned().await.map_err(|_| Denied::Unavailable)?;
        // Others had their turn before: they may have failed too often, or been right already.
        self.must_not_wait(&key, origin)?;
        if let Some(account) = self.remembered(parsed.as_ref(), password)? {
            return self.enter(proof, &account, &key, origin, peer);
        }
        let account = self.enabled(parsed.as_ref())?;
        if self.judge(turn, account.clone(), password, &key, origin).await?
            && let Some(account) = account
        {
            return self.enter(proof, &account, &key, origin, peer);
        }
        Err(Denied::Wrong)
    }

    /// Whether what was shown fits the name, and what it proves: a certificate that is bound to a partner proves as much
    /// as a key of the partner, and either will do where one is required. A certificate that stands for someone stands
    /// for nobody else, also not together with another's password. One that stands for nobody is like none.
    fn shown(&self, certificate: Option<&ClientCertificate>, proof: Proof, name: &PartnerName) -> (bool, Proof) {
        let policies = self.policies.read();
        let policy = policies.of(name.as_str());
        match certificate {
            Some(certificate) if policy.binds(certificate) => (true, Proof::Key),
            Some(certificate) if policies.is_bound(certificate) => (false, proof),
            _ => (!policy.require_certificate || proof == Proof::Key, proof),
        }
    }

    /// Lets in who has shown a certificate that is bound to the partner, where the policy wants no password. It cannot
    /// be guessed, so waits for failed passwords do not hold. None: a password is to be asked for, whoever it is.
    #[must_use]
    pub fn verify_certificate(&self, certificate: &ClientCertificate, name: &str, peer: IpAddr) -> Option<Partner> {
        let account = self.enabled(Some(&name.parse::<PartnerName>().ok()?)).ok()??;
        let policy = self.policy(account.name.as_str());
        let no_password = policy.certificate_suffices && policy.authentication != Authentication::KeyAndPassword;
        let enough = no_password && policy.binds(certificate) && policy.allows(peer);
        enough.then(|| Partner { name: account.name.clone(), policy })
    }

    /// One argon2id run, whether there is an account or not. What it says is kept before the turn is given back, so
    /// that whoever is next knows it, and also when the caller has gone.
    async fn judge(
        &self,
        turn: OwnedSemaphorePermit,
        account: Option<Arc<Account>>,
        password: &str,
        key: &str,
        origin: Origin,
    ) -> Result<bool, Denied> {
        let logins = Arc::clone(&self.logins);
        let clock = Arc::clone(&self.clock);
        let (password, key) = (password.to_owned(), key.to_owned());
        let run = tokio::task::spawn_blocking(move || {
            let hash = account.as_ref().map_or(&logins.dummy, |account| &account.hash);
            let matches = logins.verifier.matches(&password, hash);
            let right = match &account {
                Some(account) if matches => {
                    logins.verified.remember(account, &password, clock.elapsed());
                    true
                }
                _ => {
                    logins.lockout.failed(&key, origin, clock.elapsed());
                    false
                }
            };
            drop(turn);
            right
        });
        run.await.map_err(|_| Denied::Unavailable)
    }

    fn must_not_wait(&self, key: &str, origin: Origin) -> Result<(), Denied> {
        match self.logins.lockout.wait(key, origin, self.clock.elapsed()) {
            Some(wait) => Err(Denied::Wait(wait)),
            None => Ok(()),
        }
    }

    /// The account, when `password` was found right for it a short while ago.
    fn remembered(&self, name: Option<&PartnerName>, password: &str) -> Result<Option<Arc<Account>>, Denied> {
        let account = self.enabled(name)?;
        Ok(account.filter(|account| self.logins.verified.holds(account, password, self.clock.elapsed())))
    }

    fn enabled(&self, name: Option<&PartnerName>) -> Result<Option<Arc<Account>>, Denied> {
        let Some(name) = name else { return Ok(None) };
        match self.accounts.get(name) {
            Ok(account) => Ok(account.filter(|account| account.enabled)),
            Err(fault) => {
                error!(partner = %name, error = %chain(&fault), "cannot look at an account");
                Err(Denied::Unavailable)
            }
        }
    }

    /// The last step, for those whose password is right: only they learn that their address is not allowed.
    fn enter(
        &self,
        proof: Proof,
        account: &Account,
        key: &str,
        origin: Origin,
        peer: IpAddr,
    ) -> Result<Partner, Denied> {
        let policy = self.policy(account.name.as_str());
        if policy.authentication != Authentication::Any && proof != Proof::Key {
            return Err(Denied::KeyWanted);
        }
        if !policy.allows(peer) {
            return Err(Denied::Address);
        }
        self.logins.lockout.succeeded(key, origin);
        Ok(Partner { name: account.name.clone(), policy })
    }

    /// Whether `key` is one of the partner's, to be used from this address. Clients ask this of every key they have: it
    /// costs nothing and counts for nothing. What it tells can be found out with the public key alone.
    #[must_use]
    pub fn knows_key(&self, name: &str, key: &PublicKey, peer: IpAddr) -> bool {
        let account = name.parse::<PartnerName>().ok().and_then(|name| self.enabled(Some(&name)).ok().flatten());
        account.is_some_and(|account| account.keys.iter().any(|one| one.is(key) && one.allows(peer)))
    }

    /// Lets in who has proved that it has `key`. Keys cannot be guessed, so waits for failed passwords do not hold.
    /// Where the policy wants a password too, that is still to come.
    ///
    /// # Errors
    /// [`Denied::Wrong`], [`Denied::Address`] or [`Denied::Unavailable`].
    pub fn verify_key(&self, name: &str, key: &PublicKey, peer: IpAddr) -> Result<Partner, Denied> {
        let parsed = name.parse::<PartnerName>().map_err(|_| Denied::Wrong)?;
        let account = self.enabled(Some(&parsed))?.ok_or(Denied::Wrong)?;
        if !account.keys.iter().any(|one| one.is(key) && one.allows(peer)) {
            return Err(Denied::Wrong);
        }
        self.enter(Proof::Key, &account, &parsed.folded(), Origin::of(peer), peer)
    }

    /// Lets in whom an authority vouches for that the door trusts.
    ///
    /// # Errors
    /// [`Denied::Wrong`], [`Denied::Address`] or [`Denied::Unavailable`].
    pub fn verify_vouched(&self, name: &PartnerName, peer: IpAddr) -> Result<Partner, Denied> {
        let account = self.enabled(Some(name))?.ok_or(Denied::Wrong)?;
        self.enter(Proof::Key, &account, &name.folded(), Origin::of(peer), peer)
    }

    /// Adds an account. Takes as long as one argon2id run and two syncs.
    ///
    /// # Errors
    /// [`PartnersError::Exists`], [`PartnersError::Password`], or when it cannot be written.
    pub fn add(&self, name: &PartnerName, password: &str, note: &str) -> Result<Account, PartnersError> {
        if self.accounts.get(name).is_ok_and(|account| account.is_some()) {
            return Err(PartnersError::Exists(name.clone()));
        }
        let now = self.clock.now();
        let account = Account {
            name: name.clone(),
            enabled: true,
            created_at: now,
            changed_at: now,
            note: note.to_owned(),
            keys: Vec::new(),
            hash: hashed(password)?,
        };
        self.accounts.add(&account)?;
        self.changed(name);
        info!(partner = %name, "account added");
        Ok(account)
    }

    /// All accounts in order of their names, and the files that are none.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn list(&self) -> Result<Listing, PartnersError> {
        self.accounts.list()
    }

    /// The account of `name` as it is now; none too when it cannot be read, which the log tells.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Account> {
        let name = name.parse::<PartnerName>().ok()?;
        match self.accounts.get(&name) {
            Ok(account) => account.map(|account| Account::clone(&account)),
            Err(fault) => {
                error!(partner = %name, error = %chain(&fault), "cannot look at an account");
                None
            }
        }
    }

    /// Whether `name` may be in, now: for sessions that outlive a change of the account. Costs one `stat`.
    #[must_use]
    pub fn is_enabled(&self, name: &PartnerName) -> bool {
        self.enabled(Some(name)).is_ok_and(|account| account.is_some())
    }

    /// Lets no one in under this name from now on.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], or when it cannot be written.
    pub fn disable(&self, name: &PartnerName) -> Result<Account, PartnersError> {
        self.change(name, "account disabled", |account| {
            account.enabled = false;
            Ok(())
        })
    }

    /// Lets logins in again, and forgets failed ones.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], or when it cannot be written.
    pub fn enable(&self, name: &PartnerName) -> Result<Account, PartnersError> {
        let account = self.change(name, "account enabled", |account| {
            account.enabled = true;
            Ok(())
        })?;
        self.logins.lockout.forgive(&name.folded());
        Ok(account)
    }

    /// Gives the account another password, and forgets failed logins.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], [`PartnersError::Password`], or when it cannot be written.
    pub fn passwd(&self, name: &PartnerName, password: &str) -> Result<Account, PartnersError> {
        let hash = hashed(password)?;
        let account = self.change(name, "password changed", |account| {
            account.hash = hash;
            Ok(())
        })?;
        self.logins.lockout.forgive(&name.folded());
        Ok(account)
    }

    /// Lets the partner log in with this key from now on.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], [`PartnersError::Key`] when it is there already or there are too many, or when it
    /// cannot be written.
    pub fn add_key(&self, name: &PartnerName, key: AuthorizedKey) -> Result<Account, PartnersError> {
        self.change(name, "key added", move |account| {
            if account.keys.iter().any(|one| one.fingerprint() == key.fingerprint()) {
                return Err(PartnersError::Key(format!("{} has the key {} already", account.name, key.fingerprint())));
            }
            if account.keys.len() >= MOST_KEYS
                || account.keys.iter().map(|one| one.line().len()).sum::<usize>() + key.line().len() > MOST_KEY_BYTES
            {
                return Err(PartnersError::Key(format!("{} has as many keys as there may be", account.name)));
            }
            account.keys.push(key);
            Ok(())
        })
    }

    /// No longer lets the partner log in with the key of this fingerprint.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], [`PartnersError::Key`] when there is no such key, or when it cannot be written.
    pub fn remove_key(&self, name: &PartnerName, fingerprint: &str) -> Result<Account, PartnersError> {
        self.change(name, "key removed", |account| {
            let before = account.keys.len();
            account.keys.retain(|one| one.fingerprint() != fingerprint);
            match account.keys.len() == before {
                true => Err(PartnersError::Key(format!("{} has no key {fingerprint}", account.name))),
                false => Ok(()),
            }
        })
    }

    /// Removes the account. The partner's files stay.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], or when it cannot be removed.
    pub fn remove(&self, name: &PartnerName) -> Result<(), PartnersError> {
        self.accounts.remove(name)?;
        self.changed(name);
        info!(partner = %name, "account removed");
        Ok(())
    }

    fn change(
        &self,
        name: &PartnerName,
        what: &'static str,
        change: impl FnOnce(&mut Account) -> Result<(), PartnersError>,
    ) -> Result<Account, PartnersError> {
        let now = self.clock.now();
        let account = self.accounts.change(name, |account| {
            change(account)?;
            account.changed_at = now;
            Ok(())
        })?;
        self.changed(name);
        info!(partner = %account.name, "{what}");
        Ok(account)
    }

    fn changed(&self, name: &PartnerName) {
        self.logins.verified.forget(&name.folded());
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

fn hashed(password: &str) -> Result<Hash, PartnersError> {
    if password.is_empty() {
        return Err(PartnersError::Password("is empty"));
    }
    if password.len() > MAX_PASSWORD_BYTES {
        return Err(PartnersError::Password("is longer than 1024 bytes"));
    }
    // Neither could be sent: FTP's PASS is one line.
    if password.contains(['\r', '\n', '\0']) {
        return Err(PartnersError::Password("must not hold a line end or NUL"));
    }
    Hash::of(password).map_err(PartnersError::Hash)
}

/// Rounded up, so that who waits as told is not refused again.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

fn chain(fault: &PartnersError) -> String {
    match std::error::Error::source(fault) {
        Some(source) => format!("{fault}: {source}"),
        None => fault.to_string(),
    }
}
