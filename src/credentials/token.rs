//! Bearer tokens: made by chance, shown once, stored as a digest.
//!
//! `forebay_<holder>_<secret>`: programs that look for secrets in code and logs find it by its beginning, and whoever finds one
//! knows whose it is. The secret has 256 bits of chance. So a plain SHA-256 is what is stored: nobody can try 2²⁵⁶ of them, and
//! what makes the hash of a password slow and salted is that people choose passwords. A key beside the digests would have to
//! lie where they lie. Each request can be checked in a microsecond.

use std::fmt;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};
use sha2::{Digest, Sha256};

/// What every token begins with.
pub const TOKEN_PREFIX: &str = "forebay_";
/// 62⁴³ is a little more than 2²⁵⁶.
const SECRET_CHARS: usize = 43;
const LETTERS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
/// The digits of a digest by which people name it.
const ID_DIGITS: usize = 12;
/// What a stored digest begins with.
const STORED: &str = "sha256:";

/// The text of a token. It is shown once, and never in logs.
pub struct Token(String);

impl Token {
    /// A new one for `holder`, whose name must have letters, digits, dots, dashes and underscores only.
    #[must_use]
    pub fn generate(holder: &str) -> Self {
        let mut text = format!("{TOKEN_PREFIX}{holder}_");
        let whole = text.len() + SECRET_CHARS;
        while text.len() < whole {
            let byte = usize::from(rand::random::<u8>());
            // 248 = 4 * 62: every letter has the same chance.
            if byte < 248 {
                text.push(char::from(LETTERS[byte % 62]));
            }
        }
        Self(text)
    }

    /// The text, for the one who is to use it.
    #[must_use]
    pub fn into_text(self) -> String {
        self.0
    }

    /// What is stored of it.
    #[must_use]
    pub fn digest(&self) -> TokenDigest {
        TokenDigest::of(&self.0)
    }

    /// The holder that a text names, if it has the form of a token.
    #[must_use]
    pub fn holder_of(text: &str) -> Option<&str> {
        let rest = text.strip_prefix(TOKEN_PREFIX)?;
        let (holder, secret) = rest.split_at_checked(rest.len().checked_sub(SECRET_CHARS)?)?;
        let holder = holder.strip_suffix('_').filter(|holder| !holder.is_empty())?;
        secret.bytes().all(|byte| byte.is_ascii_alphanumeric()).then_some(holder)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The SHA-256 of a token, holder and all.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct TokenDigest([u8; 32]);

impl TokenDigest {
    /// Of a text, whatever it is.
    ///
    /// Two digests need not be compared in constant time: who learns how far one agrees with a stored one cannot make a
    /// token whose digest agrees further.
    #[must_use]
    pub fn of(text: &str) -> Self {
        Self(Sha256::digest(text).into())
    }

    /// Twelve hexadecimal digits by which people name the token. They tell nothing of its secret.
    #[must_use]
    pub fn id(&self) -> String {
        self.hex()[..ID_DIGITS].to_owned()
    }

    fn hex(&self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn read(stored: &str) -> Option<Self> {
        let hex = stored.strip_prefix(STORED).filter(|hex| hex.len() == 64 && hex.is_ascii())?;
        let mut bytes = [0; 32];
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).ok()?;
        }
        // One form alone.
        Some(Self(bytes)).filter(|digest| digest.hex() == hex)
    }
}

impl fmt::Debug for TokenDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TokenDigest({}…)", self.id())
    }
}

impl Serialize for TokenDigest {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{STORED}{}", self.hex()))
    }
}

impl<'de> Deserialize<'de> for TokenDigest {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let stored = String::deserialize(deserializer)?;
        Self::read(&stored).ok_or_else(|| D::Error::custom("no digest of a token"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_names_its_holder_and_is_another_each_time() {
        for holder in ["demo", "a.b-c_d", "_", "x_0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefg"] {
            let (one, other) = (Token::generate(holder), Token::generate(holder));
            assert_ne!(one.digest(), other.digest());
            assert!(!format!("{one:?}").contains("forebay_"));
            let text = one.into_text();
            assert!(text.starts_with(TOKEN_PREFIX));
            assert_eq!(Token::holder_of(&text), Some(holder));
        }
    }

    #[test]
    fn every_letter_has_its_chance() {
        let mut seen = std::collections::BTreeSet::new();
        for _ in 0..100 {
            seen.extend(Token::generate("").into_text().bytes().skip(TOKEN_PREFIX.len() + 1));
        }
        assert_eq!(seen.len(), LETTERS.len());
    }

    #[test]
    fn what_is_no_token_names_nobody() {
        let secret = "0".repeat(SECRET_CHARS);
        for text in [
            String::new(),
            "forebay_".to_owned(),
            secret.clone(),
            format!("forebay_{secret}"),
            format!("forebay__{secret}"),
            format!("forebay_demo{secret}"),
            format!("forebay_demo_{}", &secret[1..]),
            format!("forebay_demo_{}é", &secret[2..]),
            format!("forebay_é{secret}"),
            format!("Forebay_demo_{secret}"),
        ] {
            assert_eq!(Token::holder_of(&text), None, "{text}");
        }
        assert_eq!(Token::holder_of(&format!("forebay_demo_{secret}")), Some("demo"));
    }

    #[test]
    fn a_digest_is_stored_in_one_form() {
        let digest = TokenDigest::of("abc");
        let stored = "\"sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"";
        assert_eq!(serde_json::to_string(&digest).unwrap(), stored);
        assert_eq!(serde_json::from_str::<TokenDigest>(stored).unwrap(), digest);
        assert_eq!(digest.id(), "ba7816bf8f01");
        for other in [stored.to_uppercase(), stored.replace("sha256:", ""), stored.replace("ad\"", "\"")] {
            assert!(serde_json::from_str::<TokenDigest>(&other).is_err(), "{other}");
        }
    }
}
