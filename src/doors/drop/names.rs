//! The names in a folder: what is known of each, and the time of its next visit.
//!
//! Times are those of the monotonic clock, so that a wall clock that is set makes nothing due.

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use tokio::task::JoinSet;
use tracing::warn;

use super::{
    job::{FolderContext, Outcome},
    proof::Seen,
};
use crate::ingest::{FileId, Origin};

/// The first wait after a failure; each is twice the one before.
pub(super) const FIRST_WAIT: Duration = Duration::from_secs(1);
/// The longest wait.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// The names, and when each is due.
#[derive(Default)]
pub(super) struct Tracked {
    pub(super) by_name: HashMap<String, Name>,
    pub(super) due: BTreeSet<(Duration, String)>,
    pub(super) visits: JoinSet<(String, Outcome)>,
}

/// The state of one name.
#[derive(Default)]
pub(super) struct Name {
    pub(super) seen: Arc<Seen>,
    pub(super) before: Option<(Origin, Duration)>,
    pub(super) taken: Option<FileId>,
    pub(super) due: Option<Duration>,
    pub(super) running: bool,
    /// Something happened while it was visited.
    pub(super) again: bool,
    pub(super) failures: u32,
    pub(super) problem: Option<(DateTime<Utc>, String)>,
}

impl Tracked {
    /// Takes a name whose time has come.
    pub(super) fn take_due(&mut self, now: Duration) -> Option<String> {
        if self.due.first()?.0 > now {
            return None;
        }
        let (_, name) = self.due.pop_first()?;
        if let Some(known) = self.by_name.get_mut(&name) {
            known.due = None;
        }
        Some(name)
    }

    /// The folder is another one, or away: what is known of names in it is void, but for what is being visited.
    pub(super) fn forget_idle(&mut self) {
        self.by_name.retain(|_, known| known.running);
        self.due.clear();
    }

    /// Names that are not there any more are forgotten.
    pub(super) fn keep_only(&mut self, names: &HashSet<String>) {
        let due = &mut self.due;
        self.by_name.retain(|name, known| {
            let stays = known.running || known.taken.is_some() || names.contains(name);
            if let (false, Some(at)) = (stays, known.due) {
                due.remove(&(at, name.clone()));
            }
            stays
        });
    }
}

impl Name {
    /// Notes the identity of the file, and since when it is so.
    pub(super) fn was(&mut self, origin: Option<Origin>, now: Duration) {
        let same = |before: &(Origin, Duration)| origin.as_ref() == Some(&before.0);
        if !self.before.as_ref().is_some_and(same) {
            self.before = origin.map(|origin| (origin, now));
        }
    }

    pub(super) fn fares_well(&mut self) {
        (self.failures, self.problem) = (0, None);
    }

    /// Notes why it cannot be taken, and tells it once.
    pub(super) fn fails(&mut self, context: &FolderContext, name: &str, why: String) {
        let now = context.clock.now();
        match &mut self.problem {
            Some((_, before)) if *before == why => return,
            Some((_, before)) => before.clone_from(&why),
            None => self.problem = Some((now, why.clone())),
        }
        warn!(name = ?name, folder = %context.options.directory.display(), partner = %context.options.partner, why,
            "a file in a folder needs attention");
    }

    /// The same, and how long to wait before the next try.
    pub(super) fn fails_again(&mut self, context: &FolderContext, name: &str, why: String) -> Duration {
        self.fails(context, name, why);
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(9)).min(LONGEST_WAIT);
        self.failures = self.failures.saturating_add(1);
        wait
    }
}

/// Has the name visited at this time, and at no other.
pub(super) fn put_due(due: &mut BTreeSet<(Duration, String)>, known: &mut Name, name: &str, at: Duration) {
    if let Some(before) = known.due.replace(at) {
        due.remove(&(before, name.to_owned()));
    }
    due.insert((at, name.to_owned()));
}
