//! Logins: passwords, keys and certificates, checked against accounts, policies and the lockout.

use std::{net::IpAddr, sync::Arc, time::Duration};

use russh::keys::PublicKey;
use tracing::error;

use super::{Account, Authentication, ClientCertificate, Credentials, PartnerName, Partners, PartnersError, Policy};
use crate::{credentials::Refused, origin::Origin, units};

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
    /// The token is right, and the partner's policy wants a password too.
    #[error("logins without a password are not allowed")]
    PasswordWanted,
    /// The token was right until it ended.
    #[error("the token has expired")]
    Expired,
    /// The password is right, and the address is none that the partner's policy allows.
    #[error("logins from this address are not allowed")]
    Address,
    /// As many connections as there may be, or as many without a login that a new one needed luck and had none.
    #[error("too many connections; try again")]
    TooManyConnections,
    /// As many connections of this address, or of its network, as there may be.
    #[error("too many connections from this address")]
    TooManyFromAddress,
    /// As many sessions of this partner as there may be.
    #[error("too many sessions")]
    TooManySessions,
    /// The account cannot be read now. The cause is logged.
    #[error("logins are not possible at the moment")]
    Unavailable,
}

impl Denied {
    /// Returns true if the client may be guessing. One whose password is right and that may not come in all the same is
    /// not, and what is the server's fault is no guess either.
    #[must_use]
    pub fn is_guess(&self) -> bool {
        matches!(self, Self::Wrong | Self::Wait(_))
    }
}

impl From<Refused<Self>> for Denied {
    fn from(refused: Refused<Self>) -> Self {
        match refused {
            Refused::Wrong => Self::Wrong,
            Refused::Wait(wait) => Self::Wait(wait),
            Refused::Unavailable => Self::Unavailable,
            Refused::Lookup(denied) => denied,
        }
    }
}

/// A partner that has logged in.
#[derive(Clone, Debug)]
pub struct Partner {
    /// The name as it was registered, however the client wrote it.
    pub name: PartnerName,
    /// The partner's policy.
    pub policy: Arc<Policy>,
    /// What it has shown.
    pub credentials: Credentials,
}

/// The credentials that a client has proved before it sent its password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Proof {
    /// Nothing.
    Nothing,
    /// That it has one of the partner's keys.
    Key,
}

impl Partners {
    /// Logs a partner in by name and password, if the policy requires no more. An unknown name, a disabled account
    /// and a wrong password take the same time and get the same answer. Passwords are verified a few at a time; the
    /// rest wait in turn.
    ///
    /// Cancel safe: a run that has begun goes on without its caller, keeps its permit, and counts.
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
        let (fits, proof, shown) = match &parsed {
            Some(name) => self.shown(certificate, proof, name),
            None => (false, proof, Credentials::default()),
        };
        let parsed = parsed.filter(|_| fits);
        let look = || self.enabled(parsed.as_ref());
        let account = self.logins.verify(&key, origin, password, look).await.map_err(Denied::from)?;
        self.enter(proof, shown.with_password(&account), &account, peer)
    }

    /// Returns true if the credentials fit the name, and what they prove. A certificate that is bound to a partner
    /// proves as much as a key of the partner, and either is enough where one is required. A certificate that is bound
    /// to one partner is refused for every other, also together with that one's password. An unbound one counts as
    /// none.
    pub(super) fn shown(
        &self,
        certificate: Option<&ClientCertificate>,
        proof: Proof,
        name: &PartnerName,
    ) -> (bool, Proof, Credentials) {
        let policies = self.policies.read();
        let policy = policies.of(name.as_str());
        let none = Credentials::default();
        match certificate {
            Some(certificate) if policy.binds(certificate) => (true, Proof::Key, none.with_certificate(certificate)),
            Some(certificate) if policies.is_bound(certificate) => (false, proof, none),
            _ => (!policy.require_certificate || proof == Proof::Key, proof, none),
        }
    }

    /// Logs a partner in by a bound certificate, if the policy requires no password. It cannot be guessed, so the
    /// lockout does not apply. None: a password is required.
    #[must_use]
    pub fn verify_certificate(&self, certificate: &ClientCertificate, name: &str, peer: IpAddr) -> Option<Partner> {
        let account = self.enabled(Some(&name.parse::<PartnerName>().ok()?)).ok()??;
        let policy = self.policy(account.name.as_str());
        let no_password = policy.certificate_suffices && policy.authentication != Authentication::KeyAndPassword;
        let enough = no_password && policy.binds(certificate) && policy.allows(peer);
        let credentials = Credentials::default().with_certificate(certificate);
        enough.then(|| Partner { name: account.name.clone(), policy, credentials })
    }

    /// Logs in the one partner that a certificate is bound to, where its client gives no name. As
    /// [`Partners::verify_certificate`] otherwise.
    #[must_use]
    pub fn verify_bound(&self, certificate: &ClientCertificate, peer: IpAddr) -> Option<Partner> {
        let name = self.policies.read().bound_to(certificate).cloned()?;
        self.verify_certificate(certificate, name.as_str(), peer)
    }

    pub(super) fn enabled(&self, name: Option<&PartnerName>) -> Result<Option<Arc<Account>>, Denied> {
        let Some(name) = name else { return Ok(None) };
        match self.accounts.get(name) {
            Ok(account) => Ok(account.filter(|account| account.enabled)),
            Err(fault) => {
                error!(partner = %name, error = %chain(&fault), "cannot read an account");
                Err(Denied::Unavailable)
            }
        }
    }

    /// The last step, for those whose password is right: only they learn that their address is not allowed.
    pub(super) fn enter(
        &self,
        proof: Proof,
        credentials: Credentials,
        account: &Account,
        peer: IpAddr,
    ) -> Result<Partner, Denied> {
        let policy = self.policy(account.name.as_str());
        // Only after the password was right: before, it would tell what the policy is.
        if policy.authentication != Authentication::Any && proof != Proof::Key {
            return Err(Denied::KeyWanted);
        }
        if !policy.allows(peer) {
            return Err(Denied::Address);
        }
        Ok(Partner { name: account.name.clone(), policy, credentials })
    }

    /// Returns true if `key` is one of the partner's, and may be used from this address. Clients ask this of every key
    /// they have: it costs nothing and counts for nothing. The answer can be found out with the public key alone.
    #[must_use]
    pub fn knows_key(&self, name: &str, key: &PublicKey, peer: IpAddr) -> bool {
        let account = name.parse::<PartnerName>().ok().and_then(|name| self.enabled(Some(&name)).ok().flatten());
        account.is_some_and(|account| account.keys.iter().any(|one| one.is(key) && one.allows(peer)))
    }

    /// Logs a partner in that has proved possession of `key`. Keys cannot be guessed, so the lockout does not apply.
    /// Where the policy wants a password too, that is still to come.
    ///
    /// # Errors
    /// [`Denied::Wrong`], [`Denied::Address`] or [`Denied::Unavailable`].
    pub fn verify_key(&self, name: &str, key: &PublicKey, peer: IpAddr) -> Result<Partner, Denied> {
        let parsed = name.parse::<PartnerName>().map_err(|_| Denied::Wrong)?;
        let account = self.enabled(Some(&parsed))?.ok_or(Denied::Wrong)?;
        let used = account.keys.iter().find(|one| one.is(key) && one.allows(peer)).ok_or(Denied::Wrong)?;
        let credentials = Credentials::default().with_key(used.fingerprint());
        self.enter(Proof::Key, credentials, &account, peer)
    }

    /// Lets in whom an authority vouches for that the door trusts.
    ///
    /// # Errors
    /// [`Denied::Wrong`], [`Denied::Address`] or [`Denied::Unavailable`].
    pub fn verify_vouched(&self, name: &PartnerName, peer: IpAddr) -> Result<Partner, Denied> {
        let account = self.enabled(Some(name))?.ok_or(Denied::Wrong)?;
        self.enter(Proof::Key, Credentials::default(), &account, peer)
    }
}

/// Rounded up, so that a client that waits so long is not refused again.
fn whole_seconds(wait: Duration) -> Duration {
    Duration::from_secs(wait.as_secs() + u64::from(wait.subsec_nanos() > 0))
}

pub(super) fn chain(fault: &PartnersError) -> String {
    match std::error::Error::source(fault) {
        Some(source) => format!("{fault}: {source}"),
        None => fault.to_string(),
    }
}
