//! Accounts, their keys and their tokens.
//!
//! No hash of a password or token is ever part of a reply; a password or token is only where one was
//! made for this very request.

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

/// A bearer token of an account; not its text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenView {
    /// Whose.
    pub partner: String,
    /// Twelve digits by which it is named.
    pub id: String,
    /// What operators call it.
    pub label: String,
    /// The time at which it was made.
    pub created_at: DateTime<Utc>,
    /// The time at which it ends, if it does.
    pub expires_at: Option<DateTime<Utc>>,
    /// True if it has ended.
    pub expired: bool,
}

/// A bearer token that was made.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NewTokenView {
    /// The partner.
    pub partner: String,
    /// Twelve digits by which it is named.
    pub id: String,
    /// The token.
    pub token: String,
}

impl std::fmt::Debug for NewTokenView {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NewTokenView").field("partner", &self.partner).field("id", &self.id).finish_non_exhaustive()
    }
}
