//! What people and programs log in with: hashing, verifying, the memory of what was verified, and lockout.
//!
//! An [`Authenticator`] is asked by those who keep accounts. It knows none of them: an [`Account`] is whatever has a name
//! and a hash. A bearer [`Token`] needs no more than a digest.
//!
//! # Trust
//! Names, passwords and addresses come from strangers. A name that nobody has costs the same argon2id run as one that
//! somebody has, and waits like it.

mod authenticator;
mod known;
mod lockout;
mod memory;
mod password;
mod token;
mod verified;

use chrono::{DateTime, Utc};

pub use authenticator::{Authenticator, Refused};
pub use known::KnownOrigins;
pub use lockout::Rules;
#[cfg(test)]
pub use password::matches;
pub use password::{Hash, Unhashed, generate_password};
pub use token::{TOKEN_PREFIX, Token, TokenDigest};

/// Whoever can log in with a password, as it is stored now.
pub trait Account: Send + Sync + 'static {
    /// Its name, in the form in which two names of one account are the same.
    fn folded_name(&self) -> String;

    /// The hash of its password.
    fn hash(&self) -> &Hash;

    /// When it was last changed: what was verified before counts no more.
    fn changed_at(&self) -> DateTime<Utc>;
}
