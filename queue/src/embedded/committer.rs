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
    FileId, StorageError,
    journal::{Journal, JournalReader, NewRecord},
};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::{
    batch::Batch,
    command::{Change, Command, again},
    counts::Counts,
    index::{Fault, Index},
    layered::Changes,
    mailbox::answer_all,
    pace::Pace,
    recover,
    state::QueueState,
    waiting::Waiting,
};
use crate::{LeaseToken, NodeId, QueueError, Result, Stats, Watch};

/// No group has more commands, or brings along more bytes.
const MOST_COMMANDS: usize = 1_024;
const MOST_BYTES: usize = 4 << 20;
/// With so many keys to change the index is brought up to the journal: sled takes one large batch for the price of a few
/// small ones, and a file that is through by then has changed few keys in the end.
const MOST_STAGED: usize = 4_096;

/// The parts that the committer and readers have in common.
///
/// Lock order: index, then names or counts. The committer takes names and counts for writing only
/// while it holds no lock on the index for writing.
pub(super) struct Shared {
    pub(super) index: RwLock<Index>,
    /// Rises when the index is made anew.
    pub(super) generation: AtomicU64,
    /// Whether the journal has records that are not in the index yet. Readers have them applied
    /// first.
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

/// Why a group cannot be journalled as it is.
enum Unstaged {
    /// The index is damaged.
    Damaged(String),
    /// The change at this place failed with a part of it done: the disk failed the index meanwhile.
    Halfway(usize),
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
            self.replace_failed();
            if let Some(command) = command {
                self.serve(command, &mut commands);
            }
            if pace.is_due() {
                self.mend();
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

    /// Returns whether somebody has a lease on this file.
    pub(super) fn is_leased(&self, id: FileId) -> bool {
        self.state.lanes.leases.contains_key(&id)
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
            Err(Fault::Disk(_)) => {
                self.replace_failed();
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
        // The journal has it, so the answers are true whatever becomes of the index. In this order:
        // counts and names first, because quotas rely on it that what was answered is counted. Then
        // `behind`, before anyone can learn of the records by `changed` or an answer: `caught_up`
        // reads it. The answers last.
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

    /// Checks every change against all before it. An index that turns out to be damaged is made anew, and one that the disk
    /// has failed is replaced; then all is checked once more. If that fails again with a part of a change done, the others
    /// are checked without it.
    fn stage_all(&mut self, changes: &mut Vec<Box<dyn Change>>) -> Result<Vec<NewRecord>> {
        let (mut was_remade, mut was_replaced) = (false, false);
        loop {
            self.sound()?;
            match self.try_stage_all(changes) {
                // What was looked up may be wrong, or was not found for want of room; a part of a change may be staged.
                Ok(_) | Err(Unstaged::Halfway(_)) if self.has_failed() && !was_replaced => {
                    was_replaced = true;
                    self.replace_failed();
                }
                Ok(records) => return Ok(records),
                Err(Unstaged::Halfway(place)) => {
                    self.discard();
                    answer(vec![changes.remove(place)], None);
                }
                Err(Unstaged::Damaged(what)) if was_remade => {
                    self.shared.poison(&format!("the index was made anew and is damaged again: {what}"));
                }
                Err(Unstaged::Damaged(what)) => {
                    was_remade = true;
                    self.remake(&what)?;
                }
            }
        }
    }

    fn try_stage_all(&mut self, changes: &mut [Box<dyn Change>]) -> Result<Vec<NewRecord>, Unstaged> {
        let index = self.shared.index.read();
        let (next, waiting) = (self.journal.next_seq(), &self.shared.waiting);
        let records = Vec::with_capacity(changes.len());
        let most_record = self.journal.most_record_bytes();
        let (state, node) = (&mut self.state, &self.node);
        let mut batch = Batch { state, index: &index, waiting, node, records, next, most_record };
        for (place, change) in changes.iter_mut().enumerate() {
            let touches = batch.state.staged.touches();
            change.stage(&mut batch).map_err(Unstaged::Damaged)?;
            // Without this a part of it would be journalled, or counted and listed with no record of it.
            if change.has_failed() && batch.state.staged.touches() != touches {
                return Err(Unstaged::Halfway(place));
            }
        }
        Ok(batch.records)
    }

    pub(super) fn sound(&self) -> Result<()> {
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
