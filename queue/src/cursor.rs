//! A place in a listing.
//!
//! A text, so that it can be passed on over the operators' socket and on a command line.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// Where a listing goes on. Its text means something to the queue that gave it and to nobody else; it may be kept, sent and
/// given back as it is.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(String);

const MOST_BYTES: usize = 128;

impl Cursor {
    /// A cursor of a queue, from what that made.
    pub(crate) fn new(text: String) -> Self {
        Self(text)
    }

    pub(crate) fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for Cursor {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match (1..=MOST_BYTES).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            true => Ok(Self(text.to_owned())),
            false => Err(format!("a place in a listing has 1 to {MOST_BYTES} letters and digits")),
        }
    }
}

impl TryFrom<String> for Cursor {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_checked() {
        assert_eq!("t17".parse::<Cursor>().unwrap().to_string(), "t17");
        for bad in ["", "t 1", "t-1", &"t".repeat(129)] {
            bad.parse::<Cursor>().unwrap_err();
        }
        serde_json::from_value::<Cursor>(17.into()).unwrap_err();
    }
}
