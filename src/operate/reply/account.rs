//! Accounts and their keys.
//!
//! No hash of a password is ever part of a reply; a password is only where one was generated for
//! this very request.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

/// An account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountView {
    /// The partner.
    pub name: String,
    /// True if its logins are allowed.
    pub enabled: bool,
    /// The time at which it was added.
    pub created_at: Option<DateTime<Utc>>,
    /// Its sessions now, when the server runs.
    pub sessions: Option<u64>,
    /// Bytes that are not processed yet.
    pub unprocessed_bytes: u64,
}

/// A password that was generated.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PasswordView {
    /// The partner.
    pub partner: String,
    /// The password.
    pub password: String,
}

/// A public key of an account.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyView {
    /// Whose.
    pub partner: String,
    /// `SHA256:…`, as OpenSSH shows it.
    pub fingerprint: String,
    /// Its kind, such as `ssh-ed25519`.
    pub algorithm: String,
    /// The comment after the key.
    pub comment: String,
    /// The addresses from which it may be used; all if not given.
    pub from: Option<String>,
}
