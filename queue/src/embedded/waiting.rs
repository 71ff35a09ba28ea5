//! When each freshly accepted file may be claimed, while its sender was not seen to read the reply.
//!
//! In memory alone: after a restart the time in the acceptance's record (`claimable_from`) decides.
//! Waits are begun by the committer, before any claim can see the entry (`begin`); changed by doors
//! through the handle (`confirm`, `put_off`); and barred before a withdrawal is journalled (`bar`),
//! so that no claim is faster. A bar that is never lifted holds until the restart. One lock, held
//! for a look at a map.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use forebay_storage::FileId;
use parking_lot::Mutex;

use crate::Entry;

/// The wait of one file.
#[derive(Clone, Copy, Debug)]
enum Wait {
    Until {
        until: DateTime<Utc>,
        /// The time in the record. A wait that was put off is forgotten then, once it is over.
        recorded: DateTime<Utc>,
    },
    Confirmed {
        forget_at: DateTime<Utc>,
    },
    /// It is to be withdrawn, or should have been.
    Never,
}

/// All waits.
#[derive(Debug, Default)]
pub(super) struct Waiting(Mutex<HashMap<FileId, Wait>>);

impl Waiting {
    /// A file is about to be accepted that is not claimable before this time. Called while its
    /// group is staged: if the group is refused, the wait stays until [`Waiting::prune`].
    pub(super) fn begin(&self, id: FileId, from: DateTime<Utc>) {
        self.0.lock().insert(id, Wait::Until { until: from, recorded: from });
    }

    /// Ends the wait of a file, if it waits.
    /// Returns whether it did: then the dispatcher has something to look at.
    pub(super) fn confirm(&self, id: FileId) -> bool {
        let mut waits = self.0.lock();
        let Some(wait) = waits.get_mut(&id) else { return false };
        let Wait::Until { recorded, .. } = *wait else { return false };
        *wait = Wait::Confirmed { forget_at: recorded };
        true
    }

    /// Puts the end of the wait off, if the file waits.
    pub(super) fn put_off(&self, id: FileId, to: DateTime<Utc>) {
        if let Some(Wait::Until { until, .. }) = self.0.lock().get_mut(&id) {
            // Never earlier: two that put it off must not shorten each other's time.
            *until = to.max(*until);
        }
    }

    /// No claim gives the file from now on.
    pub(super) fn bar(&self, id: FileId) {
        self.0.lock().insert(id, Wait::Never);
    }

    /// The file waits no more for anything.
    pub(super) fn forget(&self, id: FileId) {
        self.0.lock().remove(&id);
    }

    /// Returns whether a claim may give this entry.
    pub(super) fn is_claimable(&self, entry: &Entry, now: DateTime<Utc>) -> bool {
        let waits = self.0.lock();
        match waits.get(&entry.id) {
            Some(Wait::Until { until, .. }) => *until <= now,
            // Also when the record's time is not over: the record is not changed by a confirmation.
            Some(Wait::Confirmed { .. }) => true,
            Some(Wait::Never) => false,
            // Since a restart. A clock that was set back makes the time mean nothing.
            None => entry.claimable_from.is_none_or(|from| from <= now || entry.since > now),
        }
    }

    /// Drops what means nothing any more: memory is bounded by what is accepted within one wait.
    pub(super) fn prune(&self, now: DateTime<Utc>) {
        self.0.lock().retain(|_, wait| match wait {
            Wait::Until { until: at, .. } | Wait::Confirmed { forget_at: at } => *at > now,
            Wait::Never => true,
        });
    }

    /// Returns the earliest end of a wait after `now`.
    pub(super) fn next(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let waits = self.0.lock();
        let ends = waits.values().filter_map(|wait| match wait {
            Wait::Until { until, .. } if *until > now => Some(*until),
            _ => None,
        });
        ends.min()
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;

    #[test]
    fn what_is_put_off_waits_for_its_confirmation_and_is_forgotten_by_its_own_time() {
        let now = DateTime::UNIX_EPOCH;
        let (waiting, id) = (Waiting::default(), FileId::new(now));
        let after = |seconds| now + TimeDelta::seconds(seconds);
        waiting.begin(id, after(2));
        waiting.put_off(id, after(86_400));
        waiting.prune(after(3));
        assert_eq!(waiting.next(after(3)), Some(after(86_400)), "its own time is over, and it waits");
        assert!(waiting.confirm(id));
        assert_eq!(waiting.next(after(3)), None);
        waiting.prune(after(1));
        assert_eq!(waiting.0.lock().len(), 1, "the time in its record still counts without this");
        waiting.prune(after(3));
        assert_eq!(waiting.0.lock().len(), 0);
    }
}
