//! A file that was taken, as its door learns of it.
//!
//! It has a door's words only: of the entry a door sees its name, its standing and what it is told.

use chrono::{DateTime, Utc};
use forebay_queue::{Entry, State};
use forebay_storage::{FileId, Sha256};

/// A file that is on stable storage and in the queue.
#[derive(Clone, Debug)]
pub struct Accepted {
    /// Its id.
    pub id: FileId,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes.
    pub sha256: Sha256,
    /// When it was taken.
    pub received_at: DateTime<Utc>,
    /// The entry as the queue took it. Doors see of it what they are told below.
    pub(super) entry: Entry,
    /// It waits for [`super::Ingest::confirm`], or the time that its entry says.
    pub unconfirmed: bool,
    /// The state of the earlier file that its sender went on from, in a word, where that could not be continued: this one is
    /// another file then, which begins with the same bytes.
    pub beside: Option<&'static str>,
}

impl Accepted {
    pub(super) fn new(entry: Entry, beside: Option<State>) -> Self {
        let beside = beside.map(State::as_str);
        let unconfirmed = entry.claimable_from.is_some();
        Self {
            id: entry.id,
            size_bytes: entry.size_bytes,
            sha256: entry.sha256,
            received_at: entry.received_at,
            entry,
            unconfirmed,
            beside,
        }
    }
}

/// The standing of a file that was just taken, as its sender is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kept {
    /// It will be processed by this route.
    Queued {
        /// The route.
        route: String,
    },
    /// It waits for its final name.
    Unfinished,
    /// It waits for an operator.
    Held {
        /// Why.
        reason: String,
    },
}

impl Accepted {
    /// The path that its partner gave it, relative to the login directory.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.entry.name
    }

    /// Its standing. One that waits for its confirmation counts as queued.
    #[must_use]
    pub fn kept(&self) -> Kept {
        match self.entry.state {
            State::Unfinished => Kept::Unfinished,
            State::Held => Kept::Held {
                reason: self.entry.reason.clone().unwrap_or_else(|| "an operator will look at it".to_owned()),
            },
            _ => Kept::Queued { route: self.entry.route.clone().unwrap_or_default() },
        }
    }
}

/// The effect of a rename.
#[derive(Clone, Debug)]
pub enum Renamed {
    /// Files that no processor had begun are processed under another name from now on, durably.
    Files(Vec<Accepted>),
    /// Only listings show another name: processors had begun the files behind it.
    ListingOnly,
}
