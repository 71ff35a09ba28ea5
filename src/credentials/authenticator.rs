//! The check of a password: against a hash, in turn, and not too often.

use std::{sync::Arc, time::Duration};

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{Account, Hash, KnownOrigins, Rules, lockout::Lockout, password::Verifier, verified::Verified};
use crate::{clock::Clock, origin::Origin};

/// Checks passwords, remembers for a while which were right, and makes those wait who guess.
#[derive(Debug)]
pub struct Authenticator {
    checks: Arc<Checks>,
    permits: Arc<Semaphore>,
    clock: Arc<dyn Clock>,
}

/// The part that a run of argon2id goes on with when its caller has gone.
#[derive(Debug)]
struct Checks {
    verifier: Verifier,
    dummy: Hash,
    lockout: Lockout,
    verified: Verified,
}

/// Why a password lets nobody in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused<E> {
    /// There is no such account, or its password is another one.
    Wrong,
    /// Too many failures before; it was not looked at.
    Wait(Duration),
    /// It cannot be checked now.
    Unavailable,
    /// The account cannot be looked up.
    Lookup(E),
}

impl Authenticator {
    /// Verifies as many passwords at once as `at_once` says, and remembers each right one for `keep`. `own_origins` says which
    /// addresses are whose own.
    ///
    /// # Errors
    /// When there is no argon2id with our parameters.
    pub fn new(
        rules: Rules,
        keep: Duration,
        at_once: u32,
        own_origins: Arc<KnownOrigins>,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, String> {
        let checks = Checks {
            verifier: Verifier::default(),
            dummy: Hash::dummy()?,
            lockout: Lockout::new(rules, own_origins),
            verified: Verified::new(keep),
        };
        let permits = Arc::new(Semaphore::new(at_once.max(1) as usize));
        Ok(Self { checks: Arc::new(checks), permits, clock })
    }

    /// From now on these hold. What is remembered is forgotten; who waits waits on.
    pub fn set(&self, rules: Rules, keep: Duration) {
        self.checks.lockout.set(rules);
        self.checks.verified.set(keep);
    }

    /// The account that `look` gives, if `password` is its own. `look` is asked again after each wait, for an account may
    /// change meanwhile. One that is not there takes the same time as a wrong password. `key` is what failures are
    /// counted by, beside `origin`: the folded name, and one text for all names that no account can have.
    ///
    /// Cancel safe: a run that has begun goes on without its caller, keeps its place among those at once, and counts.
    ///
    /// # Errors
    /// [`Refused`]; an error of `look` is handed on.
    pub async fn verify<A: Account, E>(
        &self,
        key: &str,
        origin: Origin,
        password: &str,
        look: impl Fn() -> Result<Option<Arc<A>>, E>,
    ) -> Result<Arc<A>, Refused<E>> {
        // Before anything that costs: who waits is refused, and a client that logs in for every
        // file does not pay argon2id each time.
        if let Some(account) = self.known(key, origin, password, &look)? {
            return Ok(account);
        }
        // A few runs at once: each takes 19 MiB and a processor.
        let permit = Arc::clone(&self.permits).acquire_owned().await.map_err(|_| Refused::Unavailable)?;
        // Other logins were verified meanwhile: they may have failed too often, or succeeded already.
        if let Some(account) = self.known(key, origin, password, &look)? {
            return Ok(account);
        }
        let account = look().map_err(Refused::Lookup)?;
        let is_right = self.judge(permit, account.clone(), password, key, origin).await.ok_or(Refused::Unavailable)?;
        account.filter(|_| is_right).ok_or(Refused::Wrong)
    }

    /// The account, when `password` was found right for it a short while ago.
    fn known<A: Account, E>(
        &self,
        key: &str,
        origin: Origin,
        password: &str,
        look: &impl Fn() -> Result<Option<Arc<A>>, E>,
    ) -> Result<Option<Arc<A>>, Refused<E>> {
        if let Some(wait) = self.wait(key, origin) {
            return Err(Refused::Wait(wait));
        }
        let now = self.clock.elapsed();
        let account = look().map_err(Refused::Lookup)?;
        Ok(account.filter(|account| self.checks.verified.holds(&**account, password, now)))
    }

    /// One argon2id run, whether there is an account or not. Its result is kept before the permit is given back, so
    /// that the next login knows it, also when the caller has gone. None: it was cut short.
    async fn judge<A: Account>(
        &self,
        permit: OwnedSemaphorePermit,
        account: Option<Arc<A>>,
        password: &str,
        key: &str,
        origin: Origin,
    ) -> Option<bool> {
        let (checks, clock) = (Arc::clone(&self.checks), Arc::clone(&self.clock));
        let (password, key) = (password.to_owned(), key.to_owned());
        let run = tokio::task::spawn_blocking(move || {
            // A name without an account is checked against a dummy: the time tells nothing.
            let hash = account.as_ref().map_or(&checks.dummy, |account| account.hash());
            let matches = checks.verifier.matches(&password, hash);
            let right = account.filter(|_| matches);
            match &right {
                Some(account) => checks.verified.remember(&**account, &password, clock.elapsed()),
                None => checks.lockout.failed(&key, origin, clock.elapsed()),
            }
            // After the result is remembered or counted: the next one in turn must know it.
            drop(permit);
            right.is_some()
        });
        run.await.ok()
    }

    /// The time that `key` from `origin` must wait, if any.
    #[must_use]
    pub fn wait(&self, key: &str, origin: Origin) -> Option<Duration> {
        self.checks.lockout.wait(key, origin, self.clock.elapsed())
    }

    /// Something else than a password was wrong.
    pub fn failed(&self, key: &str, origin: Origin) {
        self.checks.lockout.failed(key, origin, self.clock.elapsed());
    }

    /// Forgets the failures of an account, and of the addresses from which it has logged in.
    pub fn forgive(&self, key: &str) {
        self.checks.lockout.forgive(key);
    }

    /// The account has changed: what was verified before counts no more.
    pub fn changed(&self, key: &str) {
        self.checks.verified.forget(key);
    }

    /// The number of argon2id runs.
    #[cfg(test)]
    #[must_use]
    pub fn runs(&self) -> u64 {
        self.checks.verifier.runs()
    }
}
