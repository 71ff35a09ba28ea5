//! Why an entry is held, as a fact that code can ask for. The sentence beside it is for people.
//!
//! A hold is never removed from this list: it is in the journal of older versions.

use serde::{Deserialize, Serialize};

/// The cause of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hold {
    /// No route serves its name.
    NoRoute,
    /// Its sender was not seen to read the reply. Written by versions before this one; never any more.
    Unconfirmed,
    /// Its sender was gone before it could read the reply, and sent a reset after it.
    ReplyNotRead,
    /// The evidence that it is whole is not enough for the partner's policy.
    Evidence,
    /// Its temporary name was never renamed to a final one.
    NotRenamed,
    /// Its bytes were found without a record in the journal.
    Adopted,
    /// Its bytes are missing.
    BytesMissing,
    /// Damage of the journal may have taken its outcome.
    JournalDamage,
    /// It was active in too many crashes of the server.
    Crashes,
    /// Its processor could not take it.
    Processor,
    /// An operator put it aside.
    Operator,
}

impl Hold {
    /// The cause that a record of a version before this one has as a sentence alone.
    pub(crate) fn of_sentence(reason: Option<&str>) -> Self {
        match reason {
            Some("no route serves this file") => Self::NoRoute,
            Some("its sender was not seen to read the reply") => Self::Unconfirmed,
            Some("its sender was gone before it could read the reply") => Self::ReplyNotRead,
            Some("its temporary name was never renamed to a final one") => Self::NotRenamed,
            Some("its bytes are missing from the spool") => Self::BytesMissing,
            Some(other) if other.starts_with("found in the spool without a record") => Self::Adopted,
            _ => Self::Operator,
        }
    }
}
