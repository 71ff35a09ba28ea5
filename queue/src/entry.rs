//! One file in the queue and the states it goes through.

use std::{fmt, str::FromStr};

use chrono::{DateTime, Utc};
use forebay_storage::{FileId, Origin, Sha256};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

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
}

impl State {
    /// All states, in the order in which they are shown.
    pub const ALL: [Self; 10] = [
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
        }
    }

    /// Whether a closed gate defers it.
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
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes.
    pub sha256: Sha256,
    /// When its last byte had come.
    pub received_at: DateTime<Utc>,
    /// The route that serves it, if one does.
    pub route: Option<String>,
    /// `Ready`, `Unfinished` or `Held`, nothing else.
    pub state: State,
    /// Why it is held.
    pub reason: Option<String>,
    /// The file that it is a copy of, to be remembered until [`crate::QueueStore::forget_origins`].
    pub origin: Option<Origin>,
}

/// A file in the queue.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The file.
    pub id: FileId,
    /// Its turn in the lane: the journal's sequence when it was accepted under its final name.
    pub turn: u64,
    /// Whose it is.
    pub partner: String,
    /// Its path in the login directory.
    pub name: String,
    /// The door it came in by.
    pub door: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes.
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
}

impl Entry {
    /// Its lane, if a route serves it.
    #[must_use]
    pub fn lane(&self) -> Option<Lane> {
        let route = self.route.clone()?;
        Some(Lane { partner: self.partner.clone(), route })
    }
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
}

/// A lease's secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct LeaseToken(pub Uuid);

/// A processor's process group, told apart from a later one with the same number by its start time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Child {
    /// The process group, which is the first process's id.
    pub pgid: i32,
    /// Field 22 of `/proc/<pid>/stat`: clock ticks after boot.
    pub start_ticks: u64,
}
