//! Passwords that were right a short while ago, so that a partner with many sessions does not pay for argon2id in each.
//!
//! Each verification is kept as an HMAC under a key of this process, over the account's name, its stored hash and the password:
//! it cannot be turned back, and a changed password has another stored hash, so that it is not found.

use std::{collections::HashMap, fmt, time::Duration};

use parking_lot::Mutex;
use ring::hmac;

use super::Account;

/// Most passwords that are remembered.
const MOST: usize = 4096;

pub(super) struct Verified {
    key: hmac::Key,
    keep: Mutex<Duration>,
    right: Mutex<HashMap<[u8; 32], (String, Duration)>>,
}

impl Verified {
    pub(super) fn new(keep: Duration) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &rand::random::<[u8; 32]>());
        Self { key, keep: Mutex::new(keep), right: Mutex::default() }
    }

    /// From now on; what is remembered is forgotten, and costs a run more.
    pub(super) fn set(&self, keep: Duration) {
        *self.keep.lock() = keep;
        self.right.lock().clear();
    }

    /// Returns true if `password` was verified for this very state of the account.
    pub(super) fn holds(&self, account: &impl Account, password: &str, now: Duration) -> bool {
        let tag = self.tag(account, password);
        self.right.lock().get(&tag).is_some_and(|(_, until)| *until > now)
    }

    pub(super) fn remember(&self, account: &impl Account, password: &str, now: Duration) {
        let keep = *self.keep.lock();
        if keep.is_zero() {
            return;
        }
        let mut right = self.right.lock();
        if right.len() >= MOST {
            right.retain(|_, (_, until)| *until > now);
        }
        if right.len() >= MOST {
            right.clear();
        }
        right.insert(self.tag(account, password), (account.folded_name(), now + keep));
    }

    /// Forgets all of `name`.
    pub(super) fn forget(&self, folded: &str) {
        self.right.lock().retain(|_, (name, _)| name != folded);
    }

    fn tag(&self, account: &impl Account, password: &str) -> [u8; 32] {
        let mut context = hmac::Context::with_key(&self.key);
        let changed = account.changed_at().to_rfc3339();
        for part in [account.folded_name().as_str(), account.hash().as_phc(), &changed, password] {
            context.update(&(part.len() as u64).to_le_bytes());
            context.update(part.as_bytes());
        }
        let mut tag = [0; 32];
        tag.copy_from_slice(context.sign().as_ref());
        tag
    }
}

impl fmt::Debug for Verified {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Verified").finish_non_exhaustive()
    }
}
