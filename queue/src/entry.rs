//! One file in the queue and the states it goes through.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use forebay_storage::{DigestState, FileId, Origin, Sha256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::{Hold, IdempotencyKey, Messages, NodeId};

/// Where a file stands. *Deferred* is not among them: it is a `ready` or `retrying` entry while its gate is closed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Complete under a temporary name; its rename is the acceptance.
    Unfinished,
    /// Waits for its turn.
    Ready,
    /// A processor has it under a lease.
    Active,
    /// Failed and will be tried again when it is due.
    Retrying,
    /// Waits for an operator.
    Held,
    /// Processed.
    Done,
    /// Its content is bad.
    Quarantined,
    /// Its attempts are spent.
    Dead,
    /// An operator or the partner called it off.
    Cancelled,
    /// The same partner, path, size and digest was done shortly before.
    Duplicate,
    /// A later file goes on where it ends, and is processed in its place.
    Superseded,
    /// Its sender never read the reply, and will send it again.
    Withdrawn,
}

impl State {
    /// All states, in the order in which they are shown.
    pub const ALL: [Self; 12] = [
        Self::Unfinished,
        Self::Ready,
        Self::Active,
        Self::Retrying,
        Self::Held,
        Self::Done,
        Self::Quarantined,
        Self::Dead,
        Self::Cancelled,
        Self::Duplicate,
        Self::Superseded,
        Self::Withdrawn,
    ];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unfinished => "unfinished",
            Self::Ready => "ready",
            Self::Active => "active",
            Self::Retrying => "retrying",
            Self::Held => "held",
            Self::Done => "done",
            Self::Quarantined => "quarantined",
            Self::Dead => "dead",
            Self::Cancelled => "cancelled",
            Self::Duplicate => "duplicate",
            Self::Superseded => "superseded",
            Self::Withdrawn => "withdrawn",
        }
    }

    /// Returns whether nothing more is to be done: it may be purged once its retention has ended.
    #[must_use]
    pub fn is_over(self) -> bool {
        matches!(self, Self::Done | Self::Cancelled | Self::Duplicate | Self::Superseded | Self::Withdrawn)
    }

    /// Returns whether a closed gate defers it.
    #[must_use]
    pub fn waits(self) -> bool {
        matches!(self, Self::Ready | Self::Retrying)
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|state| state.as_str() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|state| state.as_str()).collect();
            format!("no state \"{text}\"; there are {}", all.join(", "))
        })
    }
}

/// Files of one partner for one route, processed first in, first out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Lane {
    /// The partner.
    pub partner: String,
    /// The route.
    pub route: String,
}

/// What ingest hands over when a file is committed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NewEntry {
    /// The file.
    pub id: FileId,
    /// Whose it is.
    pub partner: String,
    /// Its path in the login directory.
    pub name: String,
    /// The door it came in by.
    pub door: String,
    /// Length of the whole in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes of the whole.
    pub sha256: Sha256,
    /// When its last byte had come.
    pub received_at: DateTime<Utc>,
    /// The route that serves it, if one does.
    pub route: Option<String>,
    /// `Ready`, `Unfinished` or `Held`, nothing else.
    pub state: State,
    /// Why it is held, for people.
    pub reason: Option<String>,
    /// Why it is held.
    pub hold: Option<Hold>,
    /// The file that it is a copy of, to be remembered until [`crate::QueueStore::forget_origins`].
    pub origin: Option<Origin>,
    /// The key under which its sender may send it again. A key is used once in a day ([`crate::QueueStore::keyed`]). Not for
    /// files that may be withdrawn: their keys stay used.
    pub idempotency_key: Option<IdempotencyKey>,
    /// The earlier entry that it takes the place of.
    pub supersedes: Option<FileId>,
    /// The earlier entry whose bytes it begins with, if it brings only those behind them.
    pub continues: Option<Continues>,
    /// No claim gives it before this time, unless [`crate::QueueStore::confirm`] was called.
    pub claimable_from: Option<DateTime<Utc>>,
}

/// A file in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The file.
    pub id: FileId,
    /// Its turn in the lane: the journal's sequence when it was accepted under its final name.
    ///
    /// A requeued or released file keeps it, so it comes before those that were accepted later.
    pub turn: u64,
    /// Whose it is.
    pub partner: String,
    /// Its path in the login directory.
    pub name: String,
    /// The door it came in by.
    pub door: String,
    /// Length of the whole in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes of the whole.
    pub sha256: Sha256,
    /// When its last byte had come.
    pub received_at: DateTime<Utc>,
    /// The route that serves it, if one does.
    pub route: Option<String>,
    /// Where it stands.
    pub state: State,
    /// When it came to stand there.
    pub since: DateTime<Utc>,
    /// Why, when a person wants to know.
    pub reason: Option<String>,
    /// Attempts that counted.
    pub attempts: u32,
    /// When it is due again (`retrying`).
    pub due_at: Option<DateTime<Utc>>,
    /// When it first failed: its age for giving up counts from here.
    pub failing_since: Option<DateTime<Utc>>,
    /// Who has it (`active`).
    pub lease: Option<Lease>,
    /// How many crashes of the server found it active.
    pub crashes: u32,
    /// The journal's sequence of its latest change.
    pub changed_seq: u64,
    /// The next claim does not ask whether it is a duplicate: an operator wants it processed.
    #[serde(default)]
    pub not_duplicate: bool,
    /// Why it is held (`held`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
    /// A processor has begun it once: its name for processing does not change any more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub begun: bool,
    /// The earlier entry that it took the place of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supersedes: Option<FileId>,
    /// The later entry that took its place, and what it was before (`superseded`).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded: Option<Box<Superseded>>,
    /// No claim gives it before this time, unless its sender was seen to read the reply.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub claimable_from: Option<DateTime<Utc>>,
    /// The journal's sequence of the record that brought its bytes; without it storage keeps them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<u64>,
    /// The partner has deleted its receipt, as it stands.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub receipt_hidden: bool,
    /// The earlier entry whose bytes it begins with, if only those behind them are its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub continues: Option<Box<Continues>>,
    /// What became of its messages, if it is handed over one by one; as of the end of its last attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<Box<Messages>>,
}

/// The beginning of a file that goes on where an earlier one ends.
///
/// The bytes before are those of the earlier entry, which may itself begin with those of another. They are kept as long as
/// the later entry is there, whatever becomes of the earlier one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Continues {
    /// The earlier entry.
    pub of: FileId,
    /// Its length: where the own bytes begin.
    pub at: u64,
    /// Digest of the own bytes alone.
    pub own_sha256: Sha256,
    /// The state of the whole's digest at its end, for what goes on from there.
    pub digest: DigestState,
}

/// A stretch of a file's bytes that was kept as one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Extent {
    /// The entry that brought it.
    pub id: FileId,
    /// Where it begins in the file.
    pub at: u64,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// Digest of its bytes.
    pub sha256: Sha256,
    /// The journal's sequence of the record that brought the bytes; without it storage keeps them.
    pub content: Option<u64>,
}

impl Entry {
    /// The bytes that it brought itself.
    #[must_use]
    pub fn extent(&self) -> Extent {
        let (at, sha256) = match &self.continues {
            Some(continues) => (continues.at, continues.own_sha256),
            None => (0, self.sha256),
        };
        Extent { id: self.id, at, size_bytes: self.size_bytes.saturating_sub(at), sha256, content: self.content }
    }

    /// The earlier entry whose bytes have to stay for this one. The bytes of one that was withdrawn are a partial again.
    #[must_use]
    pub fn rests_on(&self) -> Option<FileId> {
        let continues = self.continues.as_ref().filter(|_| self.state != State::Withdrawn);
        continues.map(|continues| continues.of)
    }

    /// Returns whether it may still get another name to be processed under: no processor has begun it, and it is held for
    /// nothing but a route.
    #[must_use]
    pub fn may_be_renamed(&self) -> bool {
        let waits = match self.state {
            State::Unfinished | State::Ready => true,
            State::Held => self.hold == Some(Hold::NoRoute),
            _ => false,
        };
        waits && !self.begun
    }

    /// Returns whether a later file may take its place: as long as it may be renamed, or when a crash cut it before its
    /// record, so that its sender was told nothing of it.
    pub(crate) fn may_be_superseded(&self) -> bool {
        self.may_be_renamed() || (self.state == State::Held && self.hold == Some(Hold::Adopted))
    }

    /// Its lane, if a route serves it.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        let route = self.route.clone()?;
        Some(Lane { partner: self.partner.clone(), route })
    }
}

/// An entry's state before a later one took its place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superseded {
    /// The later entry.
    pub by: FileId,
    /// The state before.
    pub state: State,
    /// The reason before.
    pub reason: Option<String>,
    /// The hold before.
    pub hold: Option<Hold>,
}

/// The right to work on an entry for a while.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lease {
    /// Proves that the holder is the one the lease was given to.
    pub token: LeaseToken,
    /// When the attempt began.
    pub began_at: DateTime<Utc>,
    /// When it ends unless renewed.
    pub until: DateTime<Utc>,
    /// The process that works on it, once there is one.
    pub child: Option<Child>,
    /// The node that holds it.
    #[serde(default, skip_serializing_if = "NodeId::is_local")]
    pub node: NodeId,
}

/// A lease's secret. The leases that one claim gave have the same: a lease is known by its token and its file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(pub Uuid);

/// A processor's process group, told apart from a later one with the same number by its start time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The process group, which is the first process's id.
    pub pgid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks after boot.
    pub start_ticks: u64,
    /// The node that it runs on, and where its numbers mean something.
    #[serde(default, skip_serializing_if = "NodeId::is_local")]
    pub node: NodeId,
}
