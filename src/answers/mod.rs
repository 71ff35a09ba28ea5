//! What a partner is told of its files in `out/`: receipts and the notice. They are rendered when they are listed or
//! read, from the entry and the gate as they stand; nothing is written for them, so nothing of them can be lost.
//!
//! # Guarantees
//! The size of a receipt follows from the file's name alone (the text is padded), and its time is the later of the
//! entry's last change and the gate's, so that a listing renders nothing and agrees with what is read afterwards.

mod receipt;

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay_queue::{Entry, State};
use forebay_storage::FileId;
use parking_lot::Mutex;

use crate::{
    clock::Clock,
    gate::{self, Gate, Scope},
    routes::Routes,
};

use self::receipt::Receipt;

/// The name of the notice in `out/`.
pub const NOTICE: &str = "NOTICE.txt";

/// Renders receipts and notices.
pub struct Answers {
    gate: Arc<Gate>,
    routes: Arc<Routes>,
    clock: Arc<dyn Clock>,
    enabled: bool,
    /// The closure that was last seen of each route (its end), and since when it stands so.
    seen: Mutex<BTreeMap<String, (Closure, DateTime<Utc>)>>,
}

/// The closure of a route as its receipts tell it.
type Closure = Option<Option<DateTime<Utc>>>;

/// What a receipt tells of a file besides its facts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Whether it waits for the gate of its route.
    pub is_deferred: bool,
    /// When that gate opens, if it is closed and that is known.
    pub resumes_at: Option<DateTime<Utc>>,
    /// What became of it and what is to be done, in a sentence.
    pub text: String,
}

/// A receipt in a listing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    /// Its file name.
    pub name: String,
    /// Its length in bytes.
    pub size_bytes: u64,
    /// When it last changed.
    pub at: DateTime<Utc>,
}

impl Answers {
    /// Answers of this gate and these routes. Without `enabled` there are none.
    #[must_use]
    pub fn new(gate: Arc<Gate>, routes: Arc<Routes>, clock: Arc<dyn Clock>, enabled: bool) -> Self {
        Self { gate, routes, clock, enabled, seen: Mutex::default() }
    }

    /// The receipt of an entry as a listing shows it; none when the partner has deleted it as it stands, or none is due.
    #[must_use]
    pub fn listed(&self, entry: &Entry) -> Option<Listed> {
        if !self.enabled || entry.receipt_hidden || !has_receipt(entry.state) {
            return None;
        }
        // The gate counts only for files that wait: `gate_changed_at` knows of no others.
        let at = entry.since.max(self.gate_changed_at(entry).unwrap_or(entry.since));
        Some(Listed { name: receipt::file_name(entry), size_bytes: receipt::size_bytes(entry), at })
    }

    /// The text of an entry's receipt.
    #[must_use]
    pub fn receipt(&self, entry: &Entry) -> Bytes {
        Receipt::of(entry, &self.gate_of(entry), self.gate.zone()).render()
    }

    /// The standing of an entry, as its receipt tells it.
    #[must_use]
    pub fn standing(&self, entry: &Entry) -> Standing {
        Receipt::of(entry, &self.gate_of(entry), self.gate.zone()).standing()
    }

    /// The file that a name in `out/` is the receipt of.
    #[must_use]
    pub fn file_of(name: &str) -> Option<FileId> {
        receipt::id_of(name)
    }

    /// The notice of what is closed now and what windows come, if there is something to tell.
    #[must_use]
    pub fn notice(&self, partner: &str) -> Option<String> {
        if !self.enabled {
            return None;
        }
        // A closure of a route that takes nothing of this partner is none of its business.
        let own = self.routes.iter().filter(|route| route.serves(partner));
        self.gate.notice(&own.map(|route| route.name().to_owned()).collect::<Vec<_>>())
    }

    fn gate_of(&self, entry: &Entry) -> gate::State {
        self.gate.state(&Scope::Route(entry.route.clone().unwrap_or_default()))
    }

    /// When the gate last changed what the receipts of waiting files say, as far as was seen.
    fn gate_changed_at(&self, entry: &Entry) -> Option<DateTime<Utc>> {
        let route = entry.route.as_ref().filter(|_| entry.state.waits())?;
        let (closure, since) = match self.gate.state(&Scope::Route(route.clone())) {
            gate::State::Open { .. } => (None, None),
            gate::State::Closed(closure) => (Some(closure.until), closure.since),
        };
        let mut seen = self.seen.lock();
        // The first look believes the closure's own start: this process may be younger than it.
        let (known, at) = seen.entry(route.clone()).or_insert_with(|| (closure, since.unwrap_or_default()));
        // From now on, since when exactly nobody noted: later than it was is safe, for a client
        // that compares times fetches once more; earlier would leave it with the old text.
        if *known != closure {
            (*known, *at) = (closure, self.clock.now());
        }
        Some(*at)
    }
}

impl std::fmt::Debug for Answers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Answers").field("enabled", &self.enabled).finish_non_exhaustive()
    }
}

/// A file under a temporary name is not accepted yet, and of one that was withdrawn its sender was never told.
fn has_receipt(state: State) -> bool {
    !matches!(state, State::Unfinished | State::Withdrawn)
}
