//! Keys by which senders name an upload, so that it is taken once however often it is sent.
//!
//! RFC draft-ietf-httpapi-idempotency-key-header calls it *idempotency key*. It stands in the record of the acceptance: both are
//! durable, or neither is.

use std::{fmt, str::FromStr};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::{FileId, Sha256};
use serde::{Deserialize, Serialize};

use crate::{Fact, Record, State};

/// The name of one upload among those of a partner: 1 to 255 bytes of text without control characters.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct IdempotencyKey(String);

/// Why a text is no idempotency key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadIdempotencyKey {
    /// It has no character.
    #[error("an idempotency key must not be empty")]
    Empty,
    /// It is too long.
    #[error("an idempotency key has {} bytes at most", IdempotencyKey::MOST_BYTES)]
    TooLong,
    /// It has a control character.
    #[error("an idempotency key must not hold control characters")]
    Control,
}

impl IdempotencyKey {
    /// The longest, in bytes.
    pub const MOST_BYTES: usize = 255;
    /// For so long a key is known after the acceptance, at least.
    pub const KEPT: TimeDelta = TimeDelta::days(1);

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for IdempotencyKey {
    type Error = BadIdempotencyKey;

    fn try_from(text: String) -> Result<Self, BadIdempotencyKey> {
        match text {
            text if text.is_empty() => Err(BadIdempotencyKey::Empty),
            text if text.len() > Self::MOST_BYTES => Err(BadIdempotencyKey::TooLong),
            text if text.chars().any(char::is_control) => Err(BadIdempotencyKey::Control),
            text => Ok(Self(text)),
        }
    }
}

impl FromStr for IdempotencyKey {
    type Err = BadIdempotencyKey;

    fn from_str(text: &str) -> Result<Self, BadIdempotencyKey> {
        Self::try_from(text.to_owned())
    }
}

impl From<IdempotencyKey> for String {
    fn from(key: IdempotencyKey) -> Self {
        key.0
    }
}

impl fmt::Display for IdempotencyKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A file that was accepted under a key, as it was then: it may be processed, renamed or purged by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyedFile {
    /// The file.
    pub id: FileId,
    /// Its path.
    pub name: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes.
    pub sha256: Sha256,
    /// When its last byte had come.
    pub received_at: DateTime<Utc>,
    /// The record's time, from which the key is kept.
    pub accepted_at: DateTime<Utc>,
    /// The state it got.
    pub state: State,
    /// The route.
    pub route: Option<String>,
    /// Why, if held.
    pub reason: Option<String>,
}

impl KeyedFile {
    /// What this record says of a key, if it does: whose it is, the key and the file.
    pub(crate) fn of(record: &Record) -> Option<(&str, &IdempotencyKey, Self)> {
        let Fact::Accepted {
            partner,
            name,
            size_bytes,
            sha256,
            received_at,
            route,
            state,
            reason,
            idempotency_key: Some(key),
            ..
        } = &record.fact
        else {
            return None;
        };
        let file = Self {
            id: record.id?,
            name: name.clone(),
            size_bytes: *size_bytes,
            sha256: *sha256,
            received_at: *received_at,
            accepted_at: record.at,
            state: *state,
            route: route.clone(),
            reason: reason.clone(),
        };
        Some((partner, key, file))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_short_printable_text() {
        for text in ["a", "8e03978e-40d5-43dd-bc93-6894a57f9324", "Zürich 7", &"x".repeat(255)] {
            let key: IdempotencyKey = text.parse().unwrap();
            assert_eq!(key.to_string(), text);
            assert_eq!(serde_json::from_str::<IdempotencyKey>(&serde_json::to_string(&key).unwrap()).unwrap(), key);
        }
        let long = "x".repeat(256);
        let bad = [
            ("", BadIdempotencyKey::Empty),
            (&*long, BadIdempotencyKey::TooLong),
            ("a\nb", BadIdempotencyKey::Control),
            ("a\0", BadIdempotencyKey::Control),
        ];
        for (text, why) in bad {
            assert_eq!(text.parse::<IdempotencyKey>(), Err(why));
            assert!(serde_json::from_str::<IdempotencyKey>(&serde_json::to_string(text).unwrap()).is_err());
        }
    }
}
