//! What the committer is asked, and what it answers.

use chrono::{DateTime, Utc};
use forebay_storage::FileId;
use tokio::sync::{mpsc, oneshot};

use super::{record_codec, recover};
use crate::{
    Action, Actor, Child, Claim, ClaimAsk, Entry, Fact, LeaseToken, QueueError, Record, Result, Stats, Verified,
};

/// What is asked of the committer.
pub(super) enum Ask {
    /// A record that needs no more than to be checked: acceptance, rename, note.
    Write {
        record: Box<Record>,
        bytes: Vec<u8>,
    },
    Claim {
        ask: ClaimAsk,
        now: DateTime<Utc>,
    },
    Child {
        id: FileId,
        token: LeaseToken,
        child: Child,
        now: DateTime<Utc>,
    },
    Settle {
        id: FileId,
        token: LeaseToken,
        record: Box<Record>,
        bytes: Vec<u8>,
    },
    Renew {
        id: FileId,
        token: LeaseToken,
        until: DateTime<Utc>,
    },
    SettleCrashed {
        id: FileId,
        now: DateTime<Utc>,
    },
    Act {
        ids: Vec<FileId>,
        action: Action,
        reason: Option<String>,
        actor: Actor,
        now: DateTime<Utc>,
    },
    Purge {
        before: DateTime<Utc>,
        limit: usize,
        now: DateTime<Utc>,
    },
    Carry {
        ids: Vec<FileId>,
        now: DateTime<Utc>,
    },
    /// Brings the index up to the journal.
    CatchUp,
    /// Gives up segments that lie wholly before this sequence.
    Retire {
        before: u64,
    },
    Stats,
    NextDue {
        now: DateTime<Utc>,
    },
    /// Makes the index anew; not again if that has been done since the generation that was found damaged.
    Rebuild {
        damaged: Option<u64>,
        progress: Option<mpsc::UnboundedSender<(u64, u64)>>,
    },
}

/// What it answers.
pub(super) enum Reply {
    Nothing,
    Entry(Box<Entry>),
    Entries(Vec<Result<Entry>>),
    Claims(Vec<Claim>),
    Ids(Vec<FileId>),
    Stats(Box<Stats>),
    Due(Option<DateTime<Utc>>),
    Verified(Verified),
}

pub(super) struct Job {
    pub(super) ask: Ask,
    pub(super) answer: oneshot::Sender<Result<Reply>>,
}

/// The same error for another caller.
pub(super) fn again(error: &QueueError) -> QueueError {
    match error {
        QueueError::Full => QueueError::Full,
        QueueError::Poisoned(why) => QueueError::Poisoned(why.clone()),
        QueueError::Unknown(why) => QueueError::Unknown(why.clone()),
        other => recover::io("queue", std::io::Error::other(other.to_string())),
    }
}

/// A note, encoded by whoever writes it.
pub(super) fn write(record: Record) -> Result<Ask> {
    let bytes = record_codec::encode(&record)?;
    Ok(Ask::Write { record: Box::new(record), bytes })
}

/// The end of a text, at most `most` bytes of it.
pub(super) fn end_of(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let start = (text.len() - most..).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[start..].to_owned()
}

/// The beginning of a text, at most `most` bytes of it.
pub(super) fn start_of(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// A fact about the server itself.
pub(super) fn noted(actor: Actor, topic: &str, text: String, at: DateTime<Utc>) -> Record {
    Record { at, actor, id: None, fact: Fact::Noted { topic: topic.to_owned(), text } }
}
