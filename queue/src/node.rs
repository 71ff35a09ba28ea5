//! Which of several servers that share a queue does something.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// A server's name among those that share a queue. A queue that one process keeps on its own disk has one, `local`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NodeId(Cow<'static, str>);

const LOCAL: &str = "local";
const MOST_BYTES: usize = 64;

impl NodeId {
    /// The node of a queue that has one alone.
    #[must_use]
    pub const fn local() -> Self {
        Self(Cow::Borrowed(LOCAL))
    }

    /// Its name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns whether it is the node of a queue that has one alone.
    #[must_use]
    pub fn is_local(&self) -> bool {
        self.0 == LOCAL
    }
}

impl Default for NodeId {
    fn default() -> Self {
        Self::local()
    }
}

impl fmt::Display for NodeId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl FromStr for NodeId {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        if name == LOCAL {
            return Ok(Self::local());
        }
        let is_good = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        match (1..=MOST_BYTES).contains(&name.len()) && name.bytes().all(is_good) {
            true => Ok(Self(Cow::Owned(name.to_owned()))),
            false => Err(format!("a node's name has 1 to {MOST_BYTES} letters, digits, dots, dashes and underscores")),
        }
    }
}

impl TryFrom<String> for NodeId {
    type Error = String;

    fn try_from(name: String) -> Result<Self, String> {
        name.parse()
    }
}

impl From<NodeId> for String {
    fn from(node: NodeId) -> Self {
        node.0.into_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_from_outside_are_checked() {
        for good in ["local", "a", "node-1.example_2", &"n".repeat(64)] {
            assert_eq!(good.parse::<NodeId>().unwrap().as_str(), good);
        }
        for bad in ["", "a b", "a/b", "\u{e9}", &"n".repeat(65)] {
            bad.parse::<NodeId>().unwrap_err();
            serde_json::from_value::<NodeId>(bad.into()).unwrap_err();
        }
        assert!(NodeId::default().is_local());
    }
}
