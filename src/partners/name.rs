//! The name of a partner.

use std::{
    fmt,
    hash::{Hash, Hasher},
    str::FromStr,
    sync::Arc,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A partner's name: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}` without `..`. Compared ignoring case, shown as it was
/// registered.
#[derive(Clone)]
pub struct PartnerName(Arc<str>);

/// Why a text is no partner name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadName {
    /// Nothing is there.
    #[error("partner name is empty")]
    Empty,
    /// More than 64 bytes.
    #[error("partner name is longer than {} bytes", PartnerName::MAX_BYTES)]
    TooLong,
    /// The first character is not a letter or a digit.
    #[error("partner name {0:?} must begin with a letter or a digit of ASCII")]
    First(String),
    /// A character that is not allowed.
    #[error("partner name {0:?} may hold only letters and digits of ASCII, '.', '_' and '-'")]
    Character(String),
    /// Two dots in a row.
    #[error("partner name {0:?} must not hold \"..\"")]
    Dots(String),
}

impl PartnerName {
    /// The longest name, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// The name as it was registered.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The name in lower case: the same for every spelling, so the one to use as a key or a directory.
    #[must_use]
    pub fn folded(&self) -> String {
        self.0.to_ascii_lowercase()
    }
}

impl FromStr for PartnerName {
    type Err = BadName;

    fn from_str(text: &str) -> Result<Self, BadName> {
        let Some(&first) = text.as_bytes().first() else {
            return Err(BadName::Empty);
        };
        if text.len() > Self::MAX_BYTES {
            return Err(BadName::TooLong);
        }
        if !first.is_ascii_alphanumeric() {
            return Err(BadName::First(text.to_owned()));
        }
        if !text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-')) {
            return Err(BadName::Character(text.to_owned()));
        }
        if text.contains("..") {
            return Err(BadName::Dots(text.to_owned()));
        }
        Ok(Self(text.into()))
    }
}

impl fmt::Display for PartnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for PartnerName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

impl AsRef<str> for PartnerName {
    fn as_ref(&self) -> &str {
        &self.0
    }
}

impl PartialEq for PartnerName {
    fn eq(&self, other: &Self) -> bool {
        self.0.eq_ignore_ascii_case(&other.0)
    }
}

impl Eq for PartnerName {}

impl Hash for PartnerName {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for byte in self.0.bytes() {
            state.write_u8(byte.to_ascii_lowercase());
        }
        state.write_u8(0xff);
    }
}

impl PartialOrd for PartnerName {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for PartnerName {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        let folded = |name: &Self| name.0.to_ascii_lowercase();
        folded(self).cmp(&folded(other))
    }
}

impl Serialize for PartnerName {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for PartnerName {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn names_that_are_taken() {
        let longest = "a".repeat(64);
        for name in ["a", "7", "demo", "Clinic-12", "north.county_3", "a.b.c", "x.", &longest] {
            assert_eq!(name.parse::<PartnerName>().unwrap().as_str(), name);
        }
    }

    #[test]
    fn names_that_are_refused() {
        let long = "a".repeat(65);
        for (name, why) in [
            ("", "is empty"),
            (long.as_str(), "longer than 64"),
            (".demo", "must begin"),
            ("-demo", "must begin"),
            ("_demo", "must begin"),
            ("..", "must begin"),
            ("a..b", "must not hold"),
            ("a/b", "may hold only"),
            ("a b", "may hold only"),
            ("a\0", "may hold only"),
            ("a\r\nb", "may hold only"),
            ("a\\b", "may hold only"),
            ("caf\u{e9}", "may hold only"),
            ("\u{fc}ber", "must begin"),
        ] {
            let fault = name.parse::<PartnerName>().unwrap_err().to_string();
            assert!(fault.contains(why), "{name:?}: {fault}");
            assert!(!fault.contains(['\r', '\n', '\0']), "{fault:?} carries what was sent");
        }
    }

    #[test]
    fn spelling_does_not_tell_two_names_apart() {
        let (one, other): (PartnerName, PartnerName) = ("Demo".parse().unwrap(), "dEMO".parse().unwrap());
        assert_eq!(one, other);
        assert_eq!(one.folded(), other.folded());
        assert_eq!(HashSet::from([one, other]).len(), 1);
    }
}
