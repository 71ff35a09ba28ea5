//! Replies, and the code of each refusal.
//!
//! The codes of refusals are here and nowhere else, for the guard and for a stock libunftp. A code
//! that begins with 4 tells a client to try again later, one with 5 not to (RFC 959, 4.2): clients
//! act on that, so a refusal's first digit is a promise.

use unftp_core::storage::{Error, ErrorKind};

use crate::{doors::core::words, ingest::Refusal, units::text::is_unseen};

/// A reply of one or more lines.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub(super) code: u16,
    /// The lines before the last; each goes out behind a space.
    pub(super) above: Vec<String>,
    pub(super) text: String,
}

impl Reply {
    /// Of work whose client has gone, or is to go: why is said next.
    pub(super) fn interrupted() -> Self {
        Self::new(451, "Interrupted")
    }

    /// A reply of one line.
    pub(super) fn new(code: u16, text: impl Into<String>) -> Self {
        Self { code, above: Vec::new(), text: text.into() }
    }

    /// The first line, those between, and the last.
    pub(super) fn lines(code: u16, above: Vec<String>, last: impl Into<String>) -> Self {
        Self { code, above, text: last.into() }
    }

    /// Returns whether it says that something was or will be done (RFC 959, 4.2).
    pub(super) fn is_positive(&self) -> bool {
        self.code < 400
    }

    /// As it goes out. A control character of a name never gets into a reply, for it could end its line, nor what
    /// cannot be seen.
    pub(super) fn to_bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (at, line) in self.above.iter().enumerate() {
            // RFC 959, 4.2: the first line has a hyphen, those between must not begin with digits,
            // for which the space cares.
            let before = if at == 0 { format!("{}-", self.code) } else { " ".to_owned() };
            bytes.extend_from_slice(format!("{before}{}\r\n", clean(line)).as_bytes());
        }
        bytes.extend_from_slice(format!("{} {}\r\n", self.code, clean(&self.text)).as_bytes());
        bytes
    }
}

impl From<&Refusal> for Reply {
    fn from(refusal: &Refusal) -> Self {
        // Without a catch-all: a new refusal gets its code by a decision.
        let code = match refusal {
            Refusal::BadName(_) => 553,
            Refusal::Quota | Refusal::TooLarge | Refusal::TooManyNames(_) => 552,
            Refusal::Full => 452,
            Refusal::Cut(_) => 426,
            // To be tried again: what is in the way goes away by itself.
            Refusal::Busy | Refusal::TooFast | Refusal::NoBeginning => 450,
            Refusal::CannotResume { .. } => 554,
            Refusal::NotFound | Refusal::Exists | Refusal::Denied(_) => 550,
            Refusal::Stopped(_) | Refusal::Internal(_) => 451,
        };
        Self::new(code, words::capitalised(&words::refusal(refusal)))
    }
}

/// The error whose kind a stock libunftp replies the same code to, or the nearest it has.
pub(super) fn error(refusal: Refusal) -> Error {
    let kind = match &refusal {
        Refusal::BadName(_) => ErrorKind::FileNameNotAllowedError,
        Refusal::Quota | Refusal::TooLarge | Refusal::TooManyNames(_) => ErrorKind::ExceededStorageAllocationError,
        Refusal::Full => ErrorKind::InsufficientStorageSpaceError,
        Refusal::Cut(_) => ErrorKind::ConnectionClosed,
        Refusal::Busy | Refusal::TooFast | Refusal::NoBeginning => ErrorKind::TransientFileNotAvailable,
        Refusal::CannotResume { .. } | Refusal::NotFound | Refusal::Exists => ErrorKind::PermanentFileNotAvailable,
        Refusal::Denied(_) => ErrorKind::PermissionDenied,
        Refusal::Stopped(_) | Refusal::Internal(_) => ErrorKind::LocalError,
    };
    Error::new(kind, refusal)
}

fn clean(text: &str) -> String {
    text.chars().map(|c| if is_unseen(c) { '?' } else { c }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_have_their_codes() {
        for (refusal, code) in [
            (Refusal::Full, 452),
            (Refusal::Quota, 552),
            (Refusal::TooLarge, 552),
            (Refusal::TooManyNames(1), 552),
            (Refusal::TooFast, 450),
            (Refusal::NoBeginning, 450),
            (Refusal::BadName("x".into()), 553),
            (Refusal::Cut("x".into()), 426),
            (Refusal::Stopped("x".into()), 451),
            (Refusal::Internal("x".into()), 451),
            (Refusal::Busy, 450),
            (Refusal::CannotResume { at: 2, have: 1 }, 554),
            (Refusal::NotFound, 550),
            (Refusal::Denied("x".into()), 550),
        ] {
            assert_eq!(Reply::from(&refusal).code, code, "{refusal:?}");
            let stock = error(refusal.clone()).kind().to_string();
            // libunftp has no 554.
            let expected = if code == 554 { 550 } else { code };
            assert!(stock.starts_with(&expected.to_string()), "{refusal:?}: {stock}");
        }
    }

    #[test]
    fn nothing_in_a_text_ends_its_line() {
        let reply = Reply::lines(211, vec!["a\r\n500 b".to_owned(), "226 c".to_owned()], "\u{1b}end");
        assert_eq!(reply.to_bytes(), b"211-a??500 b\r\n 226 c\r\n211 ?end\r\n");
    }
}
