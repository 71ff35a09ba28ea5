//! The one thread that changes anything: it takes what waits, appends it as one group, and answers.
//!
//! The order is check, journal, answer, index. Once the journal has a record the answer is positive, whatever becomes of
//! the index: that is made anew from the journal on the spot. The index is brought up to the journal when someone wants
//! to read it and when enough is staged for it: what the committer itself reads it reads through what is staged.

use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use chrono::{DateTime, Utc};
use forebay_storage::{
    StorageError,
    journal::{Journal, JournalReader, NewRecord},
};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::{
    batch::Batch,
    command::{Change, Command, again},
    index::{Fault, Index},
    lanes::Counts,
    layered::Changes,
    mailbox::answer_all,
    pace::Pace,
    recover::{self, Old, Replay},
    state::QueueState,
    waiting::Waiting,
};
use crate::{LeaseToken, NodeId, QueueError, Result, Stats, Verified, Watch};

/// No group has more commands, or brings along more bytes.
const MOST_COMMANDS: usize = 1_024;
const MOST_BYTES: usize = 4 << 20;
/// With so many keys to change the index is brought up to the journal: sled takes one large batch for the price of a few
/// small ones, and a file that is through by then has changed few keys in the end.
const MOST_STAGED: usize = 4_096;

/// The parts that the committer and those who only read have in common.
pub(super) struct Shared {
    pub(super) index: RwLock<Index>,
    /// Rises when the index is made anew.
    pub(super) generation: AtomicU64,
    /// Whether the journal has records that are not in the index yet.
    pub(super) behind: AtomicBool,
    pub(super) journal: JournalReader,
    pub(super) poisoned: OnceLock<String>,
    /// As of the last commit.
    pub(super) counts: RwLock<HashMap<String, Counts>>,
    pub(super) changed: watch::Sender<u64>,
    /// Names that are journalled and not in the index yet.
    pub(super) names: RwLock<Changes>,
    pub(super) waiting: Waiting,
    /// Looks on while the index is made anew.
    pub(super) watch: Watch,
}

impl Shared {
    pub(super) fn poison(&self, why: &str) {
        if self.poisoned.set(why.to_owned()).is_ok() {
            tracing::error!(reason = why, "the queue takes nothing more until a restart");
        }
    }

    pub(super) fn poison_error(&self) -> QueueError {
        QueueError::Poisoned(self.why())
    }

    pub(super) fn unknown_error(&self) -> QueueError {
        QueueError::Unknown(self.why())
    }

    fn why(&self) -> String {
        self.poisoned.get().cloned().unwrap_or_else(|| "it is closed".into())
    }
}

pub(super) struct Committer {
    pub(super) shared: Arc<Shared>,
    pub(super) journal: Journal,
    pub(super) state: QueueState,
    pub(super) index_dir: PathBuf,
    pub(super) cache_bytes: u64,
    pub(super) node: NodeId,
    /// Leases that were found at open.
    pub(super) void: HashSet<LeaseToken>,
}

impl Committer {
    /// Works until every sender is gone. What is staged then is left to the next start, which catches up.
    pub(super) fn run(mut self, mut commands: mpsc::Receiver<Command>) {
        let mut pace = Pace::default();
        loop {
            let is_behind = self.shared.index.read().is_behind();
            let Some(command) = pace.next(&mut commands, is_behind) else { break };
            if let Some(command) = command {
                self.serve(command, &mut commands);
            }
            if pace.is_due() {
                self.mend();
            }
        }
    }

    /// Brings an index up that has fallen behind for want of room, as soon as there is some.
    fn mend(&mut self) {
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

    /// Serves a command with those that wait behind it: changes as one group, and then the others.
    fn serve(&mut self, first: Command, commands: &mut mpsc::Receiver<Command>) {
        let (mut changes, mut others, mut bytes) = (Vec::new(), Vec::new(), 0);
        let mut next = Some(first);
        while let Some(command) = next {
            match command {
                Command::Change(change) => {
                    bytes += change.bytes();
                    changes.push(change);
                }
                Command::Between(work) => others.push(work),
            }
            let is_full = changes.len() + others.len() >= MOST_COMMANDS || bytes >= MOST_BYTES;
            next = if is_full { None } else { commands.try_recv().ok() };
        }
        if !changes.is_empty() {
            self.commit(changes);
        }
        for work in others {
            work(self);
        }
    }

    /// The queue in figures.
    pub(super) fn stats(&mut self) -> Result<Stats> {
        self.look(|state, index| state.stats(index))
    }

    /// The earliest time after `now` at which a claim may find more.
    pub(super) fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let due = self.state.next_due(now).into_iter().chain(self.shared.waiting.next(now));
        due.min()
    }

    /// Gives up segments of the journal that lie wholly before this sequence.
    pub(super) fn retire(&mut self, before: u64) -> Result<()> {
        self.sound()?;
        // First: what the journal forgets, an index that a crash put back must not need.
        self.shared.index.read().persist()?;
        self.journal.retire(before).map_err(|error| self.journal_error(error))
    }

    /// Reads the index, and once more after it was made anew if it turns out to be damaged.
    fn look<T>(&mut self, read: impl Fn(&QueueState, &Index) -> Result<T, Fault>) -> Result<T> {
        self.catch_up()?;
        let first = read(&self.state, &self.shared.index.read());
        match first {
            Err(Fault::Index(what)) => {
                self.remake(&what)?;
                Ok(read(&self.state, &self.shared.index.read())?)
            }
            other => Ok(other?),
        }
    }

    fn commit(&mut self, mut changes: Vec<Box<dyn Change>>) {
        let records = match self.stage_all(&mut changes) {
            Ok(records) => records,
            Err(error) => return answer(changes, Some(&error)),
        };
        if records.is_empty() {
            return answer(changes, None);
        }
        let first = self.journal.next_seq();
        match self.journal.append(&records) {
            Ok(range) if range.start == first => {}
            Ok(_) => {
                self.shared.poison("the journal gave other sequences than it had said");
                return answer(changes, Some(&self.shared.unknown_error()));
            }
            Err(StorageError::Full) if changes.iter().any(|change| change.brings_content()) => {
                self.discard();
                return self.commit_without_contents(changes);
            }
            Err(error) => {
                let error = self.journal_error(error);
                self.discard();
                return answer(changes, Some(&error));
            }
        }
        // The journal has it, so the answers are true whatever becomes of the index. Readers see it first.
        self.publish();
        self.shared.behind.store(true, Ordering::Release);
        self.shared.changed.send_replace(self.journal.next_seq() - 1);
        answer(changes, None);
        if self.state.staged.len() >= MOST_STAGED {
            // A failure has been told by poisoning.
            let _ = self.catch_up();
        }
    }

    /// Refuses the changes that bring contents, and commits the others: a full disk must not keep an outcome out.
    fn commit_without_contents(&mut self, changes: Vec<Box<dyn Change>>) {
        let (with, without): (Vec<_>, Vec<_>) = changes.into_iter().partition(|change| change.brings_content());
        answer(with, Some(&QueueError::Full));
        if !without.is_empty() {
            self.commit(without);
        }
    }

    /// Shows readers what they look up without waiting for the index: counts and names.
    fn publish(&mut self) {
        self.note_counts();
        if self.state.staged.has_names() {
            self.state.staged.publish(&mut self.shared.names.write());
        }
    }

    /// Quotas are looked up here, and nowhere else.
    fn note_counts(&self) {
        let mut counts = self.shared.counts.write();
        for (name, count) in self.state.touched_counts() {
            match counts.get_mut(name) {
                Some(known) => *known = count,
                None => drop(counts.insert(name.to_owned(), count)),
            }
        }
    }

    /// Brings the index up to the journal. An index that fails is made anew.
    pub(super) fn catch_up(&mut self) -> Result<()> {
        if !self.shared.behind.load(Ordering::Acquire) {
            return Ok(());
        }
        self.sound()?;
        let batch = self.state.take_batch();
        let outcome = applied(&self.shared.index.read(), batch);
        if let Err(what) = outcome {
            // Whoever reads now finds it closed, and waits until it is whole again.
            self.shared.index.write().close();
            return self.remake(&what).map(drop);
        }
        // Not before: a reader finds each name in one of the two.
        self.shared.names.write().clear();
        self.shared.behind.store(false, Ordering::Release);
        Ok(())
    }

    /// Checks every change against all before it. An index that turns out to be damaged is made anew, and all is checked
    /// once more.
    fn stage_all(&mut self, changes: &mut [Box<dyn Change>]) -> Result<Vec<NewRecord>> {
        self.sound()?;
        match self.try_stage_all(changes) {
            Ok(records) => Ok(records),
            Err(what) => {
                self.remake(&what)?;
                self.try_stage_all(changes).map_err(|what| {
                    self.shared.poison(&format!("the index was made anew and is damaged again: {what}"));
                    self.shared.poison_error()
                })
            }
        }
    }

    fn try_stage_all(&mut self, changes: &mut [Box<dyn Change>]) -> Result<Vec<NewRecord>, String> {
        let index = self.shared.index.read();
        let (next, waiting) = (self.journal.next_seq(), &self.shared.waiting);
        let records = Vec::with_capacity(changes.len());
        let most_record = self.journal.most_record_bytes();
        let (state, node) = (&mut self.state, &self.node);
        let mut batch = Batch { state, index: &index, waiting, node, records, next, most_record };
        for change in changes {
            change.stage(&mut batch)?;
        }
        Ok(batch.records)
    }

    fn sound(&self) -> Result<()> {
        if self.shared.poisoned.get().is_some() { Err(self.shared.poison_error()) } else { Ok(()) }
    }

    /// What the journal's error means to the caller. All but a full disk and an impossible record are the end.
    fn journal_error(&self, error: StorageError) -> QueueError {
        match error {
            StorageError::Full => QueueError::Full,
            StorageError::Unsupported(what) => recover::io("cannot write to the journal", std::io::Error::other(what)),
            // It had failed before, and took nothing of this.
            StorageError::Poisoned(why) => {
                self.shared.poison(&why);
                self.shared.poison_error()
            }
            other => {
                self.shared.poison(&other.to_string());
                self.shared.unknown_error()
            }
        }
    }

    /// Forgets what was staged and not journalled.
    fn discard(&mut self) {
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
    fn remake(&mut self, what: &str) -> Result<Verified> {
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
        let fresh = || match recover::fresh_index(&dir, cache_bytes, old) {
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
            recover::after_replay(&replay.gaps, first, &mut self.journal, &index, &mut state)?;
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

fn applied(index: &Index, changes: Changes) -> Result<(), String> {
    index.apply(changes).map_err(|fault| match fault {
        Fault::Index(what) => what,
        other => QueueError::from(other).to_string(),
    })
}

fn answer(mut changes: Vec<Box<dyn Change>>, failed: Option<&QueueError>) {
    if let Some(error) = failed {
        changes.iter_mut().for_each(|change| change.fail(again(error)));
    }
    answer_all(changes);
}
