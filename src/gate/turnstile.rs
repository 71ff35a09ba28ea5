//! The lock between hand-overs and closing: hand-overs begin one by one, and closing waits for those that were admitted
//! before it.
//!
//! Closing publishes its epoch first and waits then. A hand-over is decided under the same lock
//! that counts it, so it either sees the new epoch or is counted in an older one and waited for.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use parking_lot::{Condvar, Mutex};

use super::state::Closure;

/// The permission to claim, given at a claim and shown again at the hand-over. It promises nothing:
/// the gate may close in between.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Permit {
    pub(super) route: String,
    pub(super) epoch: u64,
    pub(super) at: DateTime<Utc>,
    pub(super) closes_at: Option<DateTime<Utc>>,
}

impl Permit {
    /// The route it is for.
    #[must_use]
    pub fn route(&self) -> &str {
        &self.route
    }

    /// The epoch in which it was given.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The next closing of the gate, as far as was known.
    #[must_use]
    pub fn closes_at(&self) -> Option<DateTime<Utc>> {
        self.closes_at
    }
}

/// Held while a hand-over begins, and not longer: closing waits for it. Whoever holds one must not close the gate.
/// Dropping it wakes a closing that waits.
#[derive(Debug)]
#[must_use = "the hand-over begins while this is held"]
pub struct Passage<'a> {
    turnstile: &'a Turnstile,
    epoch: u64,
}

impl Drop for Passage<'_> {
    fn drop(&mut self) {
        let mut inside = self.turnstile.inside.lock();
        if let Some(count) = inside.get_mut(&self.epoch) {
            *count -= 1;
            if *count == 0 {
                inside.remove(&self.epoch);
                self.turnstile.left.notify_all();
            }
        }
    }
}

/// The passages that are held, by the epoch in which they were given.
#[derive(Debug, Default)]
pub(super) struct Turnstile {
    inside: Mutex<BTreeMap<u64, usize>>,
    left: Condvar,
}

impl Turnstile {
    /// Lets one through if `decide` does, which is asked under the lock that closing takes.
    pub(super) fn pass(&self, decide: impl FnOnce() -> (u64, Result<(), Closure>)) -> Result<Passage<'_>, Closure> {
        let mut inside = self.inside.lock();
        // Under the lock: a closing that has published its epoch before this is seen by `decide`,
        // one that publishes after it finds this passage counted.
        let (epoch, decision) = decide();
        decision?;
        *inside.entry(epoch).or_default() += 1;
        Ok(Passage { turnstile: self, epoch })
    }

    /// Returns when every passage of an epoch before this one has been given back. Later ones were decided in the
    /// knowledge of this epoch, and do not keep it waiting.
    ///
    /// Blocks the thread until then, without a bound: a passage is held only while a hand-over
    /// begins.
    pub(super) fn wait_for_those_before(&self, epoch: u64) {
        let mut inside = self.inside.lock();
        while inside.first_key_value().is_some_and(|(first, _)| *first < epoch) {
            self.left.wait(&mut inside);
        }
    }
}
