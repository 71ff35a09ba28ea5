//! What a session came in by, and whether it would still come in by it.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use super::{Account, ClientCertificate, Policy};
use crate::credentials::{Hash, TokenDigest};

/// The credentials of one login. A session lasts as long as all of them hold: who takes a password, a key, a token or a
/// binding away means those too who are in by it.
#[derive(Clone, Debug, Default)]
pub struct Credentials {
    password: Option<Hash>,
    key: Option<String>,
    token: Option<TokenDigest>,
    certificate: Option<ClientCertificate>,
}

impl Credentials {
    /// The password that the account has.
    pub(super) fn with_password(mut self, account: &Account) -> Self {
        self.password = Some(account.hash.clone());
        self
    }

    /// The key of this fingerprint.
    pub(super) fn with_key(mut self, fingerprint: String) -> Self {
        self.key = Some(fingerprint);
        self
    }

    /// The token of this digest.
    pub(super) fn with_token(mut self, digest: TokenDigest) -> Self {
        self.token = Some(digest);
        self
    }

    /// A certificate that is bound to the partner.
    pub(super) fn with_certificate(mut self, certificate: &ClientCertificate) -> Self {
        self.certificate = Some(certificate.clone());
        self
    }

    /// These, and those that were proved before them.
    #[must_use]
    pub fn and(self, before: Self) -> Self {
        Self {
            password: self.password.or(before.password),
            key: self.key.or(before.key),
            token: self.token.or(before.token),
            certificate: self.certificate.or(before.certificate),
        }
    }

    /// Returns true if the account still lets in who shows them, from there and now.
    pub(super) fn hold(&self, account: &Account, policy: &Policy, peer: IpAddr, now: DateTime<Utc>) -> bool {
        let key_holds =
            |fingerprint: &String| account.keys.iter().any(|key| key.fingerprint() == *fingerprint && key.allows(peer));
        let token_holds =
            |digest: &TokenDigest| account.tokens.iter().any(|one| one.digest == *digest && !one.has_expired(now));
        // All of them: a session by key and password ends when either is taken away.
        account.enabled
            && policy.allows(peer)
            && self.password.as_ref().is_none_or(|hash| *hash == account.hash)
            && self.key.as_ref().is_none_or(key_holds)
            && self.token.as_ref().is_none_or(token_holds)
            && self.certificate.as_ref().is_none_or(|certificate| policy.binds(certificate))
    }
}
