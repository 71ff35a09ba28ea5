//! A file that was taken, as its door learns of it.
//!
//! It has a door's words only: of the entry a door sees its name, its standing and what it is told.

use chrono::{DateTime, Utc};
use forebay_queue::{Entry, KeyedFile, State};
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
    /// When its last byte had come.
    pub received_at: DateTime<Utc>,
    name: String,
    state: State,
    route: Option<String>,
    reason: Option<String>,
    /// It waits for [`super::Ingest::confirm`], or the time that its entry says.
    pub unconfirmed: bool,
    /// The state of the earlier file that its sender went on from, in a word, where that could not be continued: this one is
    /// another file then, which begins with the same bytes.
    pub beside: Option<&'static str>,
}

impl Accepted {
    pub(super) fn new(entry: Entry, beside: Option<State>) -> Self {
        let Entry { id, size_bytes, sha256, received_at, name, state, route, reason, claimable_from, .. } = entry;
        let (unconfirmed, beside) = (claimable_from.is_some(), beside.map(State::as_str));
        Self { id, size_bytes, sha256, received_at, name, state, route, reason, unconfirmed, beside }
    }

    /// A file that was accepted before, as it was told of then.
    pub(super) fn before(file: KeyedFile) -> Self {
        let KeyedFile { id, name, size_bytes, sha256, received_at, state, route, reason, .. } = file;
        Self { id, size_bytes, sha256, received_at, name, state, route, reason, unconfirmed: false, beside: None }
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
        &self.name
    }

    /// Its standing. One that waits for its confirmation counts as queued.
    #[must_use]
    pub fn kept(&self) -> Kept {
        match self.state {
            State::Unfinished => Kept::Unfinished,
            State::Held => {
                Kept::Held { reason: self.reason.clone().unwrap_or_else(|| "an operator will look at it".to_owned()) }
            }
            _ => Kept::Queued { route: self.route.clone().unwrap_or_default() },
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
