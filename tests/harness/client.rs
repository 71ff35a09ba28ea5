//! What a partner can do at any door, so that one test can ask the same of all of them.

use std::{fmt, io, net::SocketAddr};

use super::{ftp_session::FtpSession, sftp_session::SftpSession};

/// A way in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Door {
    Ftp,
    Ftps,
    Sftp,
}

/// Where a server listens.
#[derive(Clone, Copy, Debug)]
pub struct Addresses {
    pub ftp: SocketAddr,
    pub sftp: SocketAddr,
}

/// Why a server refuses, in the doors' own codes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Why {
    BadName,
    Quota,
    TooLarge,
    Full,
    NotFound,
    Denied,
}

/// That the server has done it, or its words why not. Only what was done is a promise.
pub type Answer<T = ()> = Result<T, Refused>;

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    pub code: u32,
    pub text: String,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.code, self.text)
    }
}

impl Door {
    /// What the server calls it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Ftp | Self::Ftps => "ftp",
            Self::Sftp => "sftp",
        }
    }

    pub fn address(self, of: Addresses) -> SocketAddr {
        match self {
            Self::Ftp | Self::Ftps => of.ftp,
            Self::Sftp => of.sftp,
        }
    }

    /// A session that is logged in. An error is no answer, or one that lets nobody in.
    pub fn try_enter(self, at: Addresses, user: &str, password: &str) -> io::Result<Box<dyn Client>> {
        let at = self.address(at);
        Ok(match self {
            Self::Ftp | Self::Ftps => Box::new(FtpSession::enter(at, user, password, self == Self::Ftps)?),
            Self::Sftp => Box::new(SftpSession::enter(at, user, password)?),
        })
    }

    /// The code of this refusal, and a word that stands in its text.
    pub fn refusal(self, why: Why) -> (u32, &'static str) {
        match (self, why) {
            (Self::Sftp, Why::BadName) => (4, "name"),
            (Self::Sftp, Why::Quota) => (4, "quota"),
            (Self::Sftp, Why::TooLarge) => (4, "too large"),
            (Self::Sftp, Why::Full) => (4, "disk space"),
            (Self::Sftp, Why::NotFound) => (2, ""),
            (Self::Sftp, Why::Denied) => (3, ""),
            (_, Why::BadName) => (553, ""),
            (_, Why::Quota | Why::TooLarge) => (552, ""),
            (_, Why::Full) => (452, ""),
            (_, Why::NotFound | Why::Denied) => (550, ""),
        }
    }

    /// The answer is this refusal.
    pub fn assert_refused(self, answer: Answer, why: Why, what: &str) {
        let refused = answer.expect_err(what);
        let (code, word) = self.refusal(why);
        assert!(refused.code == code && refused.text.contains(word), "{what}: {refused}, and not {code} {word}");
    }
}

/// A session. The `try_` forms are for servers that may be gone: an error is the loss of the connection.
pub trait Client {
    /// Begins an upload, and sends the first bytes of it.
    fn try_begin(&mut self, name: &str, bytes: &[u8]) -> io::Result<Answer>;
    /// Sends more of it. What a refusal stops is told by [`Client::try_finish`].
    fn try_more(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Ends it as one that is whole.
    fn try_finish(&mut self) -> io::Result<Answer>;
    /// The words with which the last upload was accepted.
    fn acceptance(&self) -> &str;
    fn try_rename(&mut self, from: &str, to: &str) -> io::Result<Answer>;
    fn delete(&mut self, name: &str) -> Answer;
    fn make_directory(&mut self, name: &str) -> Answer;
    fn remove_directory(&mut self, name: &str) -> Answer;
    fn fetch(&mut self, name: &str) -> Answer<Vec<u8>>;
    /// The names in a directory, sorted.
    fn list(&mut self, directory: &str) -> Vec<String>;
    /// What of the protocol takes a path; [`Client::say`] takes these.
    fn verbs(&self) -> &'static [&'static str];
    /// Says this of a path, which need not be text; the answer, and all that was heard on the way.
    fn say(&mut self, verb: &str, path: &[u8]) -> (Answer, String);
    /// Whether that verb names the partner's `mine.hl7` anew; `rename-back` then takes the name back.
    fn renames_mine_to(&self, verb: &str) -> bool;
    /// Bytes that are nothing to the protocol and never come to an end.
    fn try_babble(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Uploads a whole file.
    fn try_put(&mut self, name: &str, bytes: &[u8]) -> io::Result<Answer> {
        match self.try_begin(name, bytes)? {
            Ok(()) => self.try_finish(),
            refused => Ok(refused),
        }
    }

    fn put(&mut self, name: &str, bytes: &[u8]) -> Answer {
        self.try_put(name, bytes).unwrap()
    }

    fn rename(&mut self, from: &str, to: &str) -> Answer {
        self.try_rename(from, to).unwrap()
    }
}
