//! An account: one small JSON file.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{AuthorizedKey, Habit, PartnerName};
use crate::credentials::{self, Hash, TokenDigest};

/// The newest version of the stored form: with tokens. An account without those is stored as the third version, one
/// without what the partner's TLS clients do as the second, and one without keys too as the first, which earlier programs
/// read.
const VERSION: u32 = 4;
const WITHOUT_TOKENS: u32 = 3;
const WITHOUT_HABIT: u32 = 2;
const WITHOUT_KEYS: u32 = 1;

/// A partner's account. The hash of its password is not shown or serialized with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Account {
    /// The name as it was registered.
    pub name: PartnerName,
    /// True if it may log in.
    pub enabled: bool,
    /// When it was added.
    pub created_at: DateTime<Utc>,
    /// When it was last changed.
    pub changed_at: DateTime<Utc>,
    /// A note of the operators.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub note: String,
    /// Public keys that it may log in with.
    #[serde(skip)]
    pub keys: Vec<AuthorizedKey>,
    /// Bearer tokens that it may log in with.
    #[serde(skip)]
    pub tokens: Vec<AccountToken>,
    /// What its TLS clients do on data connections, once that is known.
    #[serde(skip)]
    pub data_habit: Option<Habit>,
    #[serde(skip)]
    pub(super) hash: Hash,
}

/// A bearer token of an account, as it is stored.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AccountToken {
    /// The digest of its text.
    #[serde(rename = "token")]
    pub(super) digest: TokenDigest,
    /// What operators call it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub label: String,
    /// When it was made.
    pub created_at: DateTime<Utc>,
    /// When it ends, if it does.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<DateTime<Utc>>,
}

impl AccountToken {
    /// Twelve digits by which people name it.
    #[must_use]
    pub fn id(&self) -> String {
        self.digest.id()
    }

    /// Returns true if nobody logs in with it any more.
    #[must_use]
    pub fn has_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    version: u32,
    name: PartnerName,
    enabled: bool,
    created_at: DateTime<Utc>,
    changed_at: DateTime<Utc>,
    #[serde(default)]
    note: String,
    password: String,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    keys: Vec<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    data_habit: Option<Habit>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tokens: Vec<AccountToken>,
}

/// The version alone, so that a newer form is reported as such and not as an unknown key.
#[derive(Deserialize)]
struct Versioned {
    version: u32,
}

impl Account {
    pub(super) fn to_json(&self) -> Result<Vec<u8>, serde_json::Error> {
        let mut json = serde_json::to_vec_pretty(&Stored {
            version: match (self.tokens.is_empty(), self.data_habit, self.keys.is_empty()) {
                (false, ..) => VERSION,
                (true, Some(_), _) => WITHOUT_TOKENS,
                (true, None, false) => WITHOUT_HABIT,
                (true, None, true) => WITHOUT_KEYS,
            },
            name: self.name.clone(),
            enabled: self.enabled,
            created_at: self.created_at,
            changed_at: self.changed_at,
            note: self.note.clone(),
            password: self.hash.as_phc().to_owned(),
            keys: self.keys.iter().map(|key| key.line().to_owned()).collect(),
            data_habit: self.data_habit,
            tokens: self.tokens.clone(),
        })?;
        json.push(b'\n');
        Ok(json)
    }

    /// Reads the stored form; the error says what is wrong with it, and never quotes it.
    pub(super) fn from_json(json: &[u8]) -> Result<Self, String> {
        // Line and kind, never the text: it may hold the hash.
        let place = |error: serde_json::Error| format!("is no account (line {}, {:?})", error.line(), error.classify());
        // First the version alone: a newer form has keys that this one would call unknown.
        let Versioned { version } = serde_json::from_slice(json).map_err(place)?;
        if !(WITHOUT_KEYS..=VERSION).contains(&version) {
            return Err(format!("has version {version}, and this program reads up to version {VERSION}"));
        }
        let stored: Stored = serde_json::from_slice(json).map_err(place)?;
        let hash = Hash::read(&stored.password).map_err(|fault| format!("is no account: {fault}"))?;
        let keys = stored.keys.iter().map(|line| AuthorizedKey::parse(line)).collect::<Result<_, _>>();
        let keys = keys.map_err(|fault| format!("has a key that cannot be read: {fault}"))?;
        Ok(Self {
            keys,
            tokens: stored.tokens,
            data_habit: stored.data_habit,
            name: stored.name,
            enabled: stored.enabled,
            created_at: stored.created_at,
            changed_at: stored.changed_at,
            note: stored.note,
            hash,
        })
    }
}

impl credentials::Account for Account {
    fn folded_name(&self) -> String {
        self.name.folded()
    }

    fn hash(&self) -> &Hash {
        &self.hash
    }

    fn changed_at(&self) -> DateTime<Utc> {
        self.changed_at
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::credentials::matches;

    /// As the first version wrote it. It must open for ever.
    const FIRST: &str = include_str!("fixtures/account-v1.json");

    #[test]
    fn the_first_version_still_opens() {
        let account = Account::from_json(FIRST.as_bytes()).unwrap();
        assert_eq!(account.name.as_str(), "Demo");
        assert!(account.enabled);
        assert_eq!(account.created_at.to_rfc3339(), "2026-04-24T19:00:00+00:00");
        assert!(matches("correct horse", &account.hash));
        assert_eq!(account.to_json().unwrap(), FIRST.as_bytes());
    }

    /// As the second version wrote it, with keys.
    const SECOND: &str = include_str!("fixtures/account-v2.json");

    #[test]
    fn the_second_version_still_opens() {
        let account = Account::from_json(SECOND.as_bytes()).unwrap();
        assert_eq!(account.keys.len(), 2);
        assert_eq!(account.keys[0].comment(), "clinic@example");
        assert!(!account.keys[1].allows("192.0.2.1".parse().unwrap()));
        assert_eq!(account.to_json().unwrap(), SECOND.as_bytes());
    }

    /// As the third version wrote it, with what its TLS clients do.
    const THIRD: &str = include_str!("fixtures/account-v3.json");

    #[test]
    fn the_third_version_still_opens() {
        let account = Account::from_json(THIRD.as_bytes()).unwrap();
        assert_eq!((account.data_habit, account.keys.len()), (Some(Habit::Resumes), 2));
        assert_eq!(account.to_json().unwrap(), THIRD.as_bytes());
    }

    /// As the fourth version wrote it, with tokens.
    const FOURTH: &str = include_str!("fixtures/account-v4.json");

    #[test]
    fn the_fourth_version_still_opens() {
        let account = Account::from_json(FOURTH.as_bytes()).unwrap();
        let [lasting, ending] = account.tokens.as_slice() else { panic!("two tokens") };
        assert_eq!(lasting.digest, TokenDigest::of("forebay_Demo_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"));
        assert_eq!((lasting.label.as_str(), lasting.expires_at), ("", None));
        assert_eq!(ending.label, "nightly job");
        assert!(!ending.has_expired(account.created_at) && ending.has_expired(ending.expires_at.unwrap()));
        assert_eq!(account.to_json().unwrap(), FOURTH.as_bytes());
    }

    #[test]
    fn a_newer_version_is_told_as_such() {
        let newer = FIRST.replacen("\"version\": 1", "\"version\": 5, \"more\": []", 1);
        assert!(Account::from_json(newer.as_bytes()).unwrap_err().contains("has version 5"));
    }

    #[test]
    fn what_is_shown_has_no_hash() {
        let account = Account::from_json(FIRST.as_bytes()).unwrap();
        assert!(!serde_json::to_string(&account).unwrap().contains("argon2"));
        assert!(!format!("{account:?}").contains("argon2"));
    }
}
