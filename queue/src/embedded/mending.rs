//! The committer with an index that has failed: opened again, made anew from the journal, or kept in memory meanwhile.
//!
//! # Guarantees
//! The journal is never changed by it, but for what follows from damage. Readers find a whole index, or wait for one. An
//! index that cannot be made anew poisons the queue.

use std::sync::atomic::Ordering;

use super::{
    committer::Committer,
    damage,
    index::{Fault, Index},
    index_dir::{self, Old},
    recover::{self, Replay},
    state::QueueState,
};
use crate::{QueueError, Result, Verified};

impl Committer {
    /// Brings an index up that has fallen behind for want of room, as soon as there is some.
    pub(super) fn mend(&mut self) {
        let index = self.shared.index.read();
        if !index.is_behind() || self.sound().is_err() {
            return;
        }
        if !index.must_be_reopened() {
            let caught_up = index.catch_up();
            drop(index);
            if let Err(Fault::Index(what)) = caught_up {
                // A failure has been told by poisoning.
                let _ = self.remake(&what);
            }
            return;
        }
        let has_room = index.has_room();
        drop(index);
        if has_room {
            self.reopen();
        }
    }

    /// Replaces an index that sled has failed by the disk: opened anew where there is room, or else in memory. What sled
    /// still reads then may be half of a batch, and what it does not read would be told as a full disk until there is room.
    pub(super) fn replace_failed(&mut self) {
        if !self.has_failed() || self.sound().is_err() {
            return;
        }
        let has_room = self.shared.index.read().has_room();
        if has_room { self.reopen() } else { self.go_to_memory() }
    }

    /// Returns true if sled takes and tells nothing any more.
    pub(super) fn has_failed(&self) -> bool {
        let index = self.shared.index.read();
        index.must_be_reopened() && !index.is_in_memory()
    }

    /// Opens the index again, of which sled has failed. What it lacks comes from the journal.
    fn reopen(&mut self) {
        let shared = self.shared.clone();
        let mut index = shared.index.write();
        if !index.is_in_memory() {
            // It has to go before its directory can be opened: whoever reads waits for the new one.
            index.close();
        }
        match recover::reopened(&self.index_dir, self.cache_bytes, &shared.journal) {
            Ok((fresh, state)) => {
                *index = index.succeeded_by(fresh);
                let is_behind = index.is_behind();
                drop(index);
                self.adopt(state);
                self.shared.generation.fetch_add(1, Ordering::AcqRel);
                if !is_behind {
                    tracing::info!("the index of the queue was opened again and has caught up");
                }
            }
            Err(Fault::Disk(_) | Fault::Queue(_)) if index.is_in_memory() => {}
            Err(Fault::Disk(_) | Fault::Queue(_)) => {
                drop(index);
                self.go_to_memory();
            }
            Err(Fault::Index(what)) => {
                drop(index);
                // A failure has been told by poisoning.
                let _ = self.remake(&what);
            }
        }
    }

    /// Forgets what was staged and not journalled: the state is read anew from the index and the journal, which have none of it.
    pub(super) fn discard(&mut self) {
        match self.load() {
            Ok(state) => self.adopt(state),
            Err(Fault::Index(what)) => {
                let _ = self.remake(&what);
            }
            Err(Fault::Disk(_)) => self.go_to_memory(),
            Err(Fault::Queue(error)) => self.shared.poison(&error.to_string()),
        }
    }

    /// The state that follows from the journal, with the index brought up to it.
    fn load(&self) -> Result<QueueState, Fault> {
        let index = self.shared.index.read();
        let mut state = QueueState::load(&index)?;
        let next = state.meta.applied + 1;
        Replay::default().run(&mut state, &index, &self.shared.journal, next, &mut |_, _| Ok(()))?;
        Ok(state)
    }

    /// Goes on with a state that was read anew, and that the index agrees with; leases keep what only memory knows of them.
    fn adopt(&mut self, mut state: QueueState) {
        for (id, held) in &mut state.lanes.leases {
            held.void = self.void.contains(&held.token);
            if let Some(known) = self.state.lanes.leases.get(id).filter(|known| known.token == held.token) {
                held.clone_from(known);
            }
        }
        state.lanes.served = std::mem::take(&mut self.state.lanes.served);
        *self.shared.counts.write() = state.all_counts().collect();
        self.state = state;
        self.shared.names.write().clear();
        self.shared.behind.store(false, Ordering::Release);
    }

    /// Sets the damaged index aside and makes it anew from the journal.
    pub(super) fn remake(&mut self, what: &str) -> Result<Verified> {
        tracing::error!(reason = what, "the index of the queue is damaged and made anew from the journal");
        self.replace_index(Old::Keep, &mut |_, _| {})
    }

    /// Makes the index anew, and the old one's directory is removed.
    pub(super) fn rebuild(&mut self, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified> {
        self.replace_index(Old::Remove, progress)
    }

    /// Makes an index anew that was found damaged, unless that has been done since the generation it was found in.
    pub(super) fn heal(&mut self, damaged: u64) -> Result<()> {
        if damaged < self.shared.generation.load(Ordering::Acquire) {
            return Ok(());
        }
        // Whoever read while sled was failing by the disk may have seen half a batch.
        if self.shared.index.read().must_be_reopened() {
            return Ok(());
        }
        self.replace_index(Old::Keep, &mut |_, _| {}).map(drop)
    }

    fn replace_index(&mut self, old: Old, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified> {
        let (dir, cache_bytes) = (self.index_dir.clone(), self.cache_bytes);
        let fresh = || match index_dir::fresh_index(&dir, cache_bytes, old) {
            Err(Fault::Disk(error)) => Ok(recover::in_memory(&dir, &error)),
            made => made.map(|(fresh, _)| fresh),
        };
        self.fill_index(fresh, progress)
    }

    /// Has the index in memory alone, for sled cannot be read for want of room; its directory stays as it is.
    pub(super) fn go_to_memory(&mut self) {
        let dir = self.index_dir.clone();
        let fresh = || Ok(recover::in_memory(&dir, &std::io::ErrorKind::StorageFull.into()));
        // A failure has been told by poisoning.
        let _ = self.fill_index(fresh, &mut |_, _| {});
    }

    /// Puts an empty index in the place of the present one, and fills it from the journal.
    ///
    /// Holds the lock on the index for writing all the time: readers wait for the new index.
    fn fill_index(
        &mut self,
        fresh: impl FnOnce() -> Result<Index, Fault>,
        progress: &mut dyn FnMut(u64, u64),
    ) -> Result<Verified> {
        let shared = self.shared.clone();
        let mut index = shared.index.write();
        index.close();
        let made = fresh().and_then(|fresh| {
            *index = fresh;
            let mut state = QueueState::default();
            let mut replay = Replay::default();
            let first = self.shared.journal.first_seq();
            recover::begin_anew(&index)?;
            replay.run(&mut state, &index, &self.shared.journal, first, &mut |done, total| {
                progress(done, total);
                shared.watch.at(done, total)
            })?;
            // What damage took has to be known before anybody takes what the index does not know for purged.
            damage::after_replay(&replay.gaps, first, &mut self.journal, &index, &mut state, &shared.watch)?;
            recover::end_anew(&index)?;
            Ok((state, replay))
        });
        if made.is_err() {
            // Half of it is there, which nobody must believe.
            index.close();
        }
        drop(index);
        match made {
            Ok((state, replay)) => {
                let (records, entries, faults) = (replay.records, state.meta.entries, replay.faults);
                self.adopt(state);
                self.shared.generation.fetch_add(1, Ordering::AcqRel);
                Ok(Verified { records, entries, faults })
            }
            Err(fault) => {
                self.shared.poison(&format!("the index cannot be made anew: {}", QueueError::from(fault)));
                Err(self.shared.poison_error())
            }
        }
    }
}
