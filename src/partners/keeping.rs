//! The operators' actions on accounts. Each change holds at once: remembered verifications of the account's passwords
//! are forgotten.

use chrono::{DateTime, Utc};
use tracing::{error, info};

use super::{Account, AuthorizedKey, Listing, PartnerName, Partners, PartnersError, former::NAME_RESTS, login::chain};
use crate::credentials::Hash;

/// The most keys of an account, and their bytes: its file has a limit too.
const MOST_KEYS: usize = 32;
const MOST_KEY_BYTES: usize = 48 << 10;

impl Partners {
    /// Adds an account. Takes as long as one argon2id run and two syncs.
    ///
    /// # Errors
    /// [`PartnersError::Exists`], [`PartnersError::Removed`] while the name of a former partner rests,
    /// [`PartnersError::Password`], or when it cannot be written.
    pub fn add(&self, name: &PartnerName, password: &str, note: &str) -> Result<Account, PartnersError> {
        let rests = self.accounts.removed_at(name).filter(|at| self.clock.now() < *at + NAME_RESTS);
        let is_free = self.accounts.get(name).is_ok_and(|account| account.is_none());
        // A name that is taken again already is told to exist, and not to rest.
        match rests.filter(|_| is_free) {
            Some(at) => Err(PartnersError::Removed { name: name.clone(), at }),
            None => self.take_over(name, password, note),
        }
    }

    /// The same, also with the name of a partner that was removed lately.
    ///
    /// # Errors
    /// As [`Partners::add`], but for [`PartnersError::Removed`].
    pub fn take_over(&self, name: &PartnerName, password: &str, note: &str) -> Result<Account, PartnersError> {
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
            tokens: Vec::new(),
            data_habit: None,
            hash: Hash::of(password)?,
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

    /// How many accounts there are, as far as that can be told.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.accounts.count()
    }

    /// The account of `name` as it is now; none too when it cannot be read, which is logged.
    #[must_use]
    pub fn get(&self, name: &str) -> Option<Account> {
        let name = name.parse::<PartnerName>().ok()?;
        match self.accounts.get(&name) {
            Ok(account) => account.map(|account| Account::clone(&account)),
            Err(fault) => {
                error!(partner = %name, error = %chain(&fault), "cannot read an account");
                None
            }
        }
    }

    /// Nothing of a removed partner is under way any more: what comes under its name from now on is another one's.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn is_gone(&self, name: &PartnerName) -> Result<(), PartnersError> {
        self.accounts.note_removed(name, self.clock.now())
    }

    /// When another partner of this name was removed: what came under it before is not this one's.
    #[must_use]
    pub fn former_until(&self, name: &PartnerName) -> Option<DateTime<Utc>> {
        self.accounts.removed_at(name)
    }

    /// Returns true if `name` may be logged in now, for sessions that outlive a change of the account. Costs one
    /// `stat`.
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
        self.logins.forgive(&name.folded());
        Ok(account)
    }

    /// Gives the account another password, and forgets failed logins.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], [`PartnersError::Password`], or when it cannot be written.
    pub fn passwd(&self, name: &PartnerName, password: &str) -> Result<Account, PartnersError> {
        let hash = Hash::of(password)?;
        let account = self.change(name, "password changed", |account| {
            account.hash = hash;
            Ok(())
        })?;
        self.logins.forgive(&name.folded());
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

    /// Removes the account. The partner's files stay, and its name rests for a while.
    ///
    /// # Errors
    /// [`PartnersError::Unknown`], or when it cannot be removed.
    pub fn remove(&self, name: &PartnerName) -> Result<(), PartnersError> {
        // On disk before anything is forgotten in memory.
        self.accounts.remove(name, self.clock.now())?;
        self.changed(name);
        // A new partner of that name comes from elsewhere.
        self.known.forget(&name.folded());
        info!(partner = %name, "account removed");
        Ok(())
    }

    pub(super) fn change(
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
        // After the file: remembered earlier, a login in between would be remembered again by the
        // old one.
        self.changed(name);
        info!(partner = %account.name, "{what}");
        Ok(account)
    }

    fn changed(&self, name: &PartnerName) {
        self.logins.changed(&name.folded());
    }
}
