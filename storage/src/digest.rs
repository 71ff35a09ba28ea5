//! SHA-256 (FIPS 180-4) over bytes that come in pieces, and its state between two of them, which
//! can be stored.
//!
//! The state lets a file that continues another be hashed as a whole without reading the beginning
//! again.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};
use sha2::digest::common::hazmat::{SerializableState, SerializedState};

use crate::Sha256;

/// Length of a state, in bytes.
const STATE_BYTES: usize = 104;

/// The state of a SHA-256 digest after some bytes: it goes on behind them without reading them again.
///
/// Shown as 208 hexadecimal digits. It is what the `sha2` crate stores: words, blocks, and what is left of a block. A
/// fixture holds it to that.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct DigestState([u8; STATE_BYTES]);

impl DigestState {
    /// The state that stands in these bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; STATE_BYTES]) -> Self {
        Self(bytes)
    }

    /// Its bytes.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8; STATE_BYTES] {
        &self.0
    }

    /// The state that this hasher is in.
    #[must_use]
    pub fn of(hasher: &sha2::Sha256) -> Self {
        Self(SerializableState::serialize(hasher).into())
    }

    /// A hasher in this state; none when the bytes are no state.
    #[must_use]
    pub fn hasher(&self) -> Option<sha2::Sha256> {
        sha2::Sha256::deserialize(&SerializedState::<sha2::Sha256>::from(self.0)).ok()
    }
}

impl fmt::Display for DigestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for DigestState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is no state of a digest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a digest's state is 208 hexadecimal digits")]
pub struct NotADigestState;

impl FromStr for DigestState {
    type Err = NotADigestState;

    fn from_str(text: &str) -> Result<Self, NotADigestState> {
        let mut bytes = [0; STATE_BYTES];
        // Digits alone: `from_str_radix` would take a sign.
        if text.len() != 2 * STATE_BYTES || !text.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(NotADigestState);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            let pair = std::str::from_utf8(pair).map_err(|_| NotADigestState)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| NotADigestState)?;
        }
        Ok(Self(bytes))
    }
}

impl Serialize for DigestState {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for DigestState {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<'de, str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// SHA-256 over the bytes of an upload; of one that goes on from an accepted file, also over the whole.
#[derive(Clone, Default)]
pub(crate) struct Hasher {
    own: sha2::Sha256,
    whole: Option<sha2::Sha256>,
}

/// The digests of an upload's bytes.
pub(crate) struct Digests {
    pub(crate) own: Sha256,
    /// Of the whole, and its state at the end.
    pub(crate) whole: Option<(Sha256, DigestState)>,
}

impl Hasher {
    /// One that goes on from a file at whose end the digest is in the state of `whole`.
    pub(crate) fn new(whole: Option<sha2::Sha256>) -> Self {
        Self { own: sha2::Sha256::default(), whole }
    }

    pub(crate) fn update(&mut self, bytes: &[u8]) {
        use sha2::Digest;
        self.own.update(bytes);
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
    }

    pub(crate) fn finish(self) -> Digests {
        use sha2::Digest;
        let whole = self.whole.map(|whole| {
            // Before `finalize`, which pads: the state must be that after the last byte.
            let state = DigestState::of(&whole);
            (Sha256(whole.finalize().into()), state)
        });
        Digests { own: Sha256(self.own.finalize().into()), whole }
    }
}

#[cfg(test)]
mod tests {
    use sha2::Digest;

    use super::*;

    /// The state after `abc`, as it is stored for ever.
    const AFTER_ABC: &str = include_str!("../tests/fixtures/digest-state");

    fn bytes(length: usize) -> Vec<u8> {
        (0..length).map(|at| (at * 7 % 251) as u8).collect()
    }

    #[test]
    fn a_stored_state_goes_on_where_it_was() {
        let state: DigestState = AFTER_ABC.trim_end().parse().unwrap();
        assert_eq!(state, DigestState::of(&sha2::Sha256::new_with_prefix("abc")));
        let mut hasher = state.hasher().unwrap();
        hasher.update("def");
        assert_eq!(hasher.finalize(), sha2::Sha256::digest("abcdef"));
        assert_eq!(state.to_string(), AFTER_ABC.trim_end());
        assert_eq!(serde_json::from_str::<DigestState>(&serde_json::to_string(&state).unwrap()).unwrap(), state);
    }

    #[test]
    fn it_goes_on_from_every_place_in_a_block() {
        let all = bytes(200);
        for at in 0..all.len() {
            let whole = DigestState::of(&sha2::Sha256::new_with_prefix(&all[..at])).hasher();
            let mut hasher = Hasher::new(whole);
            all[at..].chunks(13).for_each(|piece| hasher.update(piece));
            let Digests { own, whole } = hasher.finish();
            let (sha256, state) = whole.unwrap();
            assert_eq!(own.0[..], sha2::Sha256::digest(&all[at..])[..]);
            assert_eq!(sha256.0[..], sha2::Sha256::digest(&all)[..]);
            assert_eq!(state, DigestState::of(&sha2::Sha256::new_with_prefix(&all)));
        }
    }

    #[test]
    fn what_is_no_state_is_refused() {
        assert!(DigestState::from_bytes([0xff; STATE_BYTES]).hasher().is_none());
        for text in ["", "00", &"g".repeat(208), &"é".repeat(104)] {
            assert!(text.parse::<DigestState>().is_err(), "{text}");
        }
    }
}
