//! What a door learns of a file that was taken.

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
    /// `ready`, `unfinished` or `held`.
    pub state: State,
    /// The entry as the queue took it.
    pub entry: Entry,
    /// Whether it waits for [`super::Ingest::confirm`].
    pub unconfirmed: bool,
}

/// Why a file is held until its sender gives a sign of life; if none comes, an operator decides.
pub(super) const UNCONFIRMED: &str = "its sender was not seen to read the reply";

/// Why a file is held whose sender was cut off from the reply: it may be half a file, and it will come again.
pub(super) const UNREAD: &str = "its sender was gone before it could read the reply";

impl Accepted {
    pub(super) fn new(entry: Entry) -> Self {
        let unconfirmed = entry.state == State::Held && entry.reason.as_deref() == Some(UNCONFIRMED);
        Self {
            id: entry.id,
            size_bytes: entry.size_bytes,
            sha256: entry.sha256,
            state: entry.state,
            entry,
            unconfirmed,
        }
    }
}

/// Where a file stands that was just taken, as its sender is told.
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
    /// Where it stands. One that waits for its sender's next command will be processed as soon as that came.
    #[must_use]
    pub fn kept(&self) -> Kept {
        match self.state {
            State::Unfinished => Kept::Unfinished,
            State::Held if !self.unconfirmed => Kept::Held {
                reason: self.entry.reason.clone().unwrap_or_else(|| "an operator will look at it".to_owned()),
            },
            _ => Kept::Queued { route: self.entry.route.clone().unwrap_or_default() },
        }
    }
}

/// What a rename did.
#[derive(Clone, Debug)]
pub enum Renamed {
    /// Unfinished files got another name, durably; those whose name is final now are accepted.
    Files(Vec<Accepted>),
    /// Only what the partner sees has another name: the files behind it had been accepted before.
    ViewOnly,
}
