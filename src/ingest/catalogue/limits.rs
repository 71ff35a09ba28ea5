//! How many names a partner may have, and how fast it may change them: each change is a record of the journal.

use std::{collections::HashMap, time::Duration};

use parking_lot::Mutex;

use super::Files;
use crate::ingest::{Ingest, Refusal};

/// Changes that a partner may make at once.
const BURST: f64 = 20_000.0;
/// Changes that it may make again each second.
const EACH_SECOND: f64 = 50.0;

/// What each partner has left. A partner that makes and removes folders in a loop must not fill the journal.
/// By the monotonic clock, so that a wall clock that is set gives nobody more.
#[derive(Debug, Default)]
pub(in crate::ingest) struct NameChanges(Mutex<HashMap<String, Left>>);

#[derive(Debug)]
struct Left {
    changes: f64,
    at: Duration,
}

impl NameChanges {
    /// A file that was accepted may be given its time without using up anything: its acceptance was a record too.
    pub(in crate::ingest) fn earn(&self, partner: &str) {
        if let Some(left) = self.0.lock().get_mut(partner) {
            left.changes = (left.changes + 1.0).min(BURST);
        }
    }

    /// Takes one change, if the partner has one left.
    fn take(&self, partner: &str, now: Duration) -> bool {
        let mut all = self.0.lock();
        let left = all.entry(partner.to_owned()).or_insert(Left { changes: BURST, at: now });
        let since = now.saturating_sub(left.at).as_secs_f64();
        *left = Left { changes: (left.changes + since * EACH_SECOND).min(BURST), at: now };
        let granted = left.changes >= 1.0;
        if granted {
            left.changes -= 1.0;
        }
        granted
    }
}

impl Files {
    /// Takes the right to one change of names.
    pub(super) fn may_change(&self) -> Result<(), Refusal> {
        let ingest = &self.ingest;
        match ingest.name_changes.take(self.partner(), ingest.clock.elapsed()) {
            true => Ok(()),
            false => Err(Refusal::TooFast),
        }
    }

    /// Checks that the partner may have one name more.
    pub(in crate::ingest) async fn has_room_for_a_name(&self) -> Result<(), Refusal> {
        let most = self.ingest.partners.policy(self.partner()).max_names;
        match self.ingest.catalogue.names(self.partner()).await? < most {
            true => Ok(()),
            false => Err(Refusal::TooManyNames(most)),
        }
    }
}

impl Ingest {
    /// Checks that a partner may have one more place of its own on the disk. A large file costs an inode as long as it is
    /// kept, also when its name is gone, and so does a partial: each counts as a name does.
    pub(in crate::ingest) async fn has_room_for_an_inode(&self, partner: &str) -> Result<(), Refusal> {
        let most = self.partners.policy(partner).max_names;
        let partials = self.storage.partial_count(partner).await?;
        let now = self.clock.elapsed();
        let kept = match self.kept_files.known(partner, now) {
            Some(kept) => kept,
            None => {
                let kept = self.queue.kept_files(partner, most).await?;
                // Counting many takes a while. Few are not counted, but known.
                if kept >= most / 2 {
                    self.kept_files.note(partner, kept, now);
                }
                kept
            }
        };
        if kept.saturating_add(partials) >= most {
            return Err(Refusal::TooManyNames(most));
        }
        self.kept_files.add(partner);
        Ok(())
    }
}

/// Files with a place of their own that were counted a moment ago.
#[derive(Debug, Default)]
pub(in crate::ingest) struct KeptFiles(Mutex<HashMap<String, (u64, Duration)>>);

/// The time for which a count holds.
const COUNT_HOLDS: Duration = Duration::from_secs(60);

impl KeptFiles {
    fn known(&self, partner: &str, now: Duration) -> Option<u64> {
        let counted = self.0.lock().get(partner).copied();
        counted.filter(|(_, at)| now.saturating_sub(*at) < COUNT_HOLDS).map(|(kept, _)| kept)
    }

    fn note(&self, partner: &str, kept: u64, now: Duration) {
        self.0.lock().insert(partner.to_owned(), (kept, now));
    }

    /// One more was let in since.
    fn add(&self, partner: &str) {
        if let Some((kept, _)) = self.0.lock().get_mut(partner) {
            *kept += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_is_slowed_down_and_others_are_not() {
        let changes = NameChanges::default();
        let at = Duration::from_secs;
        let made = (0..30_000).filter(|_| changes.take("loop", at(1))).count();
        assert_eq!(made, 20_000);
        assert!(changes.take("other", at(1)));
        assert_eq!((0..1_000).filter(|_| changes.take("loop", at(3))).count(), 100);
    }

    #[test]
    fn each_accepted_file_may_be_given_its_time() {
        let changes = NameChanges::default();
        let now = Duration::from_secs(1);
        for number in 0..50_000 {
            changes.earn("mirror");
            assert!(changes.take("mirror", now), "{number}");
        }
        // And no more may be saved up than anybody begins with.
        (0..50_000).for_each(|_| changes.earn("mirror"));
        assert_eq!((0..50_000).filter(|_| changes.take("mirror", now)).count(), 20_000);
    }
}
