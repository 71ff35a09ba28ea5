//! The names that are taken from partners.
//!
//! A [`Name`] is checked once, when a door passes a path in, and is safe from then on: nothing
//! later has to look for `..` again. It is text, never a path of this machine.

use std::fmt;

use super::Refusal;
use crate::units::text::is_unseen;

/// The directory where partners find receipts and notices. They read and delete there, nothing else.
pub const OUT: &str = "out";
/// The longest path in bytes.
pub const MAX_PATH_BYTES: usize = 1024;
/// The longest component in bytes: what Linux file systems take.
pub const MAX_COMPONENT_BYTES: usize = 255;
/// The most components.
pub const MAX_DEPTH: usize = 32;

/// A path in a partner's login directory that is safe to use: relative, UTF-8, without `.` and `..`, without control
/// characters and others that cannot be seen, and not too long.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Name(String);

impl Name {
    /// Takes a path as a client gave it, resolved against its working directory. A leading `/` is the login directory.
    ///
    /// # Errors
    /// [`Refusal::BadName`] with what is wrong.
    pub fn parse(path: &str) -> Result<Self, Refusal> {
        if let Some(bad) = path.chars().find(|&c| is_unseen(c) || c == char::REPLACEMENT_CHARACTER) {
            return Err(refused(match bad {
                '\0' => "name has a NUL",
                '\r' | '\n' => "name has a line break",
                char::REPLACEMENT_CHARACTER => "name is not valid UTF-8",
                bad if bad.is_control() => "name has a control character",
                _ => "name has a character that cannot be seen or turns the direction of writing",
            }));
        }
        // Empty components and `.` mean nothing; `..` was resolved by the door against its working
        // directory.
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty() && *part != ".").collect();
        if parts.contains(&"..") {
            return Err(refused("name has \"..\""));
        }
        if parts.is_empty() {
            return Err(refused("name is empty"));
        }
        if parts.len() > MAX_DEPTH {
            return Err(refused(format!("name has more than {MAX_DEPTH} levels")));
        }
        if parts.iter().any(|part| part.len() > MAX_COMPONENT_BYTES) {
            return Err(refused(format!("a part of the name is longer than {MAX_COMPONENT_BYTES} bytes")));
        }
        let name = parts.join("/");
        if name.len() > MAX_PATH_BYTES {
            return Err(refused(format!("name is longer than {MAX_PATH_BYTES} bytes")));
        }
        Ok(Self(name))
    }

    /// The path, with `/` between components and none before the first.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The components.
    pub fn components(&self) -> impl Iterator<Item = &str> {
        self.0.split('/')
    }

    /// Whether it is `out` or lies in it.
    #[must_use]
    pub fn is_in_out(&self) -> bool {
        self.components().next() == Some(OUT)
    }

    /// The same name with `from`, which it lies in, replaced by `to`.
    pub(super) fn moved(&self, from: &Self, to: &Self) -> Result<Option<Self>, Refusal> {
        match self.0.strip_prefix(&from.0).and_then(|rest| rest.strip_prefix('/')) {
            Some(rest) => Self::parse(&format!("{}/{rest}", to.0)).map(Some),
            None => Ok(None),
        }
    }

    pub(super) fn not_in_out(&self) -> Result<(), Refusal> {
        match self.is_in_out() {
            true => Err(Refusal::Denied(format!("{OUT}/ is not for uploads"))),
            false => Ok(()),
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

fn refused(what: impl Into<String>) -> Refusal {
    Refusal::BadName(what.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_are_taken() {
        for (given, name) in [
            ("a.hl7", "a.hl7"),
            ("/a.hl7", "a.hl7"),
            ("//in//./x y.hl7", "in/x y.hl7"),
            ("größe/名.txt", "größe/名.txt"),
            ("...", "..."),
            ("a..b", "a..b"),
            ("in/", "in"),
        ] {
            assert_eq!(Name::parse(given).unwrap().as_str(), name);
        }
        assert!(Name::parse(&"x".repeat(255)).is_ok());
    }

    #[test]
    fn hostile_names_are_refused() {
        let deep = "d/".repeat(33);
        let long = "x".repeat(256);
        let wide = format!("{}/{}", vec!["y".repeat(250); 4].join("/"), "z".repeat(30));
        for bad in [
            "",
            "/",
            ".",
            "..",
            "../x",
            "a/../b",
            "a/..",
            "x\0y",
            "x\ry",
            "x\ny",
            "x\ty",
            "\u{1b}[2J",
            "\u{7f}",
            "\u{85}",
            "b\u{fffd}d",
            "cod\u{202e}7lh.exe",
            "a\u{2066}b",
            "a\u{200b}b.hl7",
            "a\u{200d}b",
            "a\u{2028}b",
            "a\u{2029}b",
            "\u{feff}a",
            "a\u{ad}b",
            "a\u{e0041}b",
            "in\u{200f}/a",
            &deep,
            &long,
            &wide,
        ] {
            assert!(matches!(Name::parse(bad), Err(Refusal::BadName(_))), "{bad:?}");
        }
    }

    #[test]
    fn out_is_told_apart() {
        assert!(Name::parse("out").unwrap().is_in_out());
        assert!(Name::parse("/out/x").unwrap().is_in_out());
        assert!(!Name::parse("outer/x").unwrap().is_in_out());
    }
}
