//! Failures of what is done with accounts.

use std::{io, path::PathBuf};

use chrono::{DateTime, Utc};

use super::PartnerName;
use crate::{credentials::Unhashed, durable_file::WriteError};

/// Why accounts cannot be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum PartnersError {
    /// The name is taken, perhaps in other letter case.
    #[error("partner {0} exists already")]
    Exists(PartnerName),
    /// The name was another partner's until lately.
    #[error(
        "partner {name} was removed at {}: who still sends under that name would be taken for the new one; choose another \
         name, or give it away with --take-over",
        at.format("%Y-%m-%d %H:%M UTC")
    )]
    Removed {
        /// The name.
        name: PartnerName,
        /// When it was removed.
        at: DateTime<Utc>,
    },
    /// There is no such account.
    #[error("there is no partner {0}")]
    Unknown(PartnerName),
    /// The password cannot be one.
    #[error("password {0}")]
    Password(&'static str),
    /// The password cannot be hashed.
    #[error("cannot hash the password: {0}")]
    Hash(String),
    /// The account has such a key, or has it not, or has too many.
    #[error("{0}")]
    Key(String),
    /// The account has no such token, or too many, or this cannot be one.
    #[error("{0}")]
    Token(String),
    /// The file of an account is not what this program wrote.
    #[error("account file {} {what}", path.display())]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The fault of the account file.
        what: String,
    },
    /// The directory or a file of it cannot be read or written.
    #[error("cannot {what} {}", path.display())]
    Io {
        /// The action that failed.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
}

impl From<WriteError> for PartnersError {
    fn from(WriteError { doing: what, path, source }: WriteError) -> Self {
        Self::Io { what, path, source }
    }
}

impl From<Unhashed> for PartnersError {
    fn from(fault: Unhashed) -> Self {
        match fault {
            Unhashed::Password(what) => Self::Password(what),
            Unhashed::Failed(what) => Self::Hash(what),
        }
    }
}
