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

use forebay_storage::{
    StorageError,
    log::{Log, LogReader},
};
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::{
    ask::{Ask, Job, Reply, again},
    batch::Batch,
    index::{Fault, Index},
    lanes::Counts,
    recover::{self, Old, Replay},
    state::QueueState,
};
use crate::{LeaseToken, QueueError, Result, Verified};

/// No group is larger.
const MOST_JOBS: usize = 1_024;
/// With so many keys to change the index is brought up to the journal: sled takes one large batch for the price of a few
/// small ones, and a file that is through by then has changed few keys in the end.
const MOST_STAGED: usize = 1_024;

/// What the committer and those who only read have in common.
pub(super) struct Shared {
    pub(super) index: RwLock<Index>,
    /// Rises when the index is made anew.
    pub(super) generation: AtomicU64,
    /// Whether the journal has records that are not in the index yet.
    pub(super) behind: AtomicBool,
    pub(super) journal: LogReader,
    pub(super) poisoned: OnceLock<String>,
    /// As of the last commit.
    pub(super) counts: RwLock<HashMap<String, Counts>>,
    pub(super) changed: watch::Sender<u64>,
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
    pub(super) log: Log,
    pub(super) state: QueueState,
    pub(super) index_dir: PathBuf,
    pub(super) cache_bytes: u64,
    /// Leases that were found at open.
    pub(super) void: HashSet<LeaseToken>,
}

impl Committer {
    /// Works until every sender is gone. What is staged then is left to the next start, which catches up.
    pub(super) fn run(mut self, mut jobs: mpsc::Receiver<Job>) {
        while let Some(job) = jobs.blocking_recv() {
            let mut changes = vec![job];
            while changes.len() < MOST_JOBS {
                match jobs.try_recv() {
                    Ok(job) => changes.push(job),
                    Err(_) => break,
                }
            }
            self.serve(changes);
        }
    }

    fn serve(&mut self, jobs: Vec<Job>) {
        let (mut changes, mut others) = (Vec::with_capacity(jobs.len()), Vec::new());
        for job in jobs {
            match job.ask {
                Ask::CatchUp | Ask::Stats | Ask::NextDue { .. } | Ask::Rebuild { .. } | Ask::Retire { .. } => {
                    others.push(job);
                }
                _ => changes.push(job),
            }
        }
        if !changes.is_empty() {
            self.commit(changes);
        }
        // Asked after the commit, so that they see what is durable and nothing else.
        for job in others {
            let reply = self.other(&job.ask);
            // Whoever asked may be gone.
            let _ = job.answer.send(reply);
        }
    }

    fn other(&mut self, ask: &Ask) -> Result<Reply> {
        match ask {
            Ask::CatchUp => self.catch_up().map(|()| Reply::Nothing),
            Ask::Stats => Ok(Reply::Stats(Box::new(self.look(|state, index| state.stats(index))?))),
            Ask::NextDue { now } => Ok(Reply::Due(self.state.next_due(*now))),
            Ask::Retire { before } => {
                self.sound()?;
                self.log.retire(*before).map_err(|error| self.journal_error(error))?;
                Ok(Reply::Nothing)
            }
            Ask::Rebuild { damaged, progress } => self.rebuild(*damaged, progress.as_ref()).map(Reply::Verified),
            _ => Ok(Reply::Nothing),
        }
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

    fn commit(&mut self, jobs: Vec<Job>) {
        let (replies, records) = match self.stage_all(&jobs) {
            Ok(staged) => staged,
            Err(error) => return refuse_all(jobs, |_| again(&error)),
        };
        if records.is_empty() {
            return answer(jobs, replies);
        }
        let first = self.log.next_seq();
        match self.log.append(&records) {
            Ok(range) if range.start == first => {}
            Ok(_) => {
                self.shared.poison("the journal gave other sequences than it had said");
                return refuse_all(jobs, |_| self.shared.unknown_error());
            }
            Err(error) => {
                let error = self.journal_error(error);
                self.discard();
                return answer(jobs, replies.into_iter().map(|reply| reply.and_then(|_| Err(again(&error)))).collect());
            }
        }
        // The journal has it, so the answers are true whatever becomes of the index.
        self.note_counts();
        self.shared.behind.store(true, Ordering::Release);
        self.shared.changed.send_replace(self.log.next_seq() - 1);
        answer(jobs, replies);
        if self.state.staged.len() >= MOST_STAGED {
            // A failure has been told by poisoning.
            let _ = self.catch_up();
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
    fn catch_up(&mut self) -> Result<()> {
        if !self.shared.behind.load(Ordering::Acquire) {
            return Ok(());
        }
        let batch = self.state.take_batch();
        let outcome = applied(&self.shared.index.read(), batch);
        if let Err(what) = outcome {
            // Whoever reads now finds it closed, and waits until it is whole again.
            self.shared.index.write().close();
            return self.remake(&what).map(drop);
        }
        self.shared.behind.store(false, Ordering::Release);
        Ok(())
    }

    /// Checks every job against all before it. An index that turns out to be damaged is made anew, and all is checked
    /// once more.
    fn stage_all(&mut self, jobs: &[Job]) -> Result<Staging> {
        self.sound()?;
        match self.try_stage_all(jobs) {
            Ok(staging) => Ok(staging),
            Err(what) => {
                self.remake(&what)?;
                self.try_stage_all(jobs).map_err(|what| {
                    self.shared.poison(&format!("the index was made anew and is damaged again: {what}"));
                    self.shared.poison_error()
                })
            }
        }
    }

    fn try_stage_all(&mut self, jobs: &[Job]) -> Result<Staging, String> {
        let index = self.shared.index.read();
        let next = self.log.next_seq();
        let mut batch = Batch { state: &mut self.state, index: &index, records: Vec::with_capacity(jobs.len()), next };
        let mut replies = Vec::with_capacity(jobs.len());
        for job in jobs {
            match stage(&mut batch, &job.ask) {
                Ok(reply) => replies.push(Ok(reply)),
                Err(Fault::Queue(error)) => replies.push(Err(error)),
                Err(Fault::Index(what)) => return Err(what),
            }
        }
        Ok((replies, batch.records))
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
            Err(Fault::Queue(error)) => self.shared.poison(&error.to_string()),
        }
    }

    /// The state that follows from the journal, with the index brought up to it.
    fn load(&self) -> Result<QueueState, Fault> {
        let index = self.shared.index.read();
        let mut state = QueueState::load(&index)?;
        let next = state.meta.applied + 1;
        Replay::default().run(&mut state, &index, &self.shared.journal, next, &mut |_, _| {})?;
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
        self.shared.behind.store(false, Ordering::Release);
    }

    /// Sets the damaged index aside and makes it anew from the journal.
    fn remake(&mut self, what: &str) -> Result<Verified> {
        tracing::error!(reason = what, "the index of the queue is damaged and made anew from the journal");
        self.replace_index(Old::Keep, &mut |_, _| {})
    }

    fn rebuild(
        &mut self,
        damaged: Option<u64>,
        progress: Option<&mpsc::UnboundedSender<(u64, u64)>>,
    ) -> Result<Verified> {
        let now = self.shared.generation.load(Ordering::Acquire);
        if damaged.is_some_and(|damaged| damaged < now) {
            return Ok(Verified::default());
        }
        let old = if damaged.is_some() { Old::Keep } else { Old::Remove };
        self.replace_index(old, &mut |done, total| {
            if let Some(progress) = progress {
                // Whoever watched may be gone.
                let _ = progress.send((done, total));
            }
        })
    }

    fn replace_index(&mut self, old: Old, progress: &mut dyn FnMut(u64, u64)) -> Result<Verified> {
        let shared = self.shared.clone();
        let mut index = shared.index.write();
        index.close();
        let made = recover::fresh_index(&self.index_dir, self.cache_bytes, old).and_then(|(fresh, _)| {
            *index = fresh;
            let mut state = QueueState::default();
            let mut replay = Replay::default();
            replay.run(&mut state, &index, &self.shared.journal, self.shared.journal.first_seq(), progress)?;
            Ok((state, replay))
        });
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

type Staging = (Vec<Result<Reply>>, Vec<Vec<u8>>);

fn stage(batch: &mut Batch<'_>, ask: &Ask) -> Result<Reply, Fault> {
    Ok(match ask {
        Ask::Write { record, bytes } => match batch.write_encoded(record, bytes.clone())? {
            Some(entry) => Reply::Entry(Box::new(entry)),
            None => Reply::Nothing,
        },
        Ask::Claim { ask, now } => Reply::Claims(batch.claim(ask, *now)?),
        Ask::Child { id, token, child, now } => {
            batch.note_child(*id, *token, *child, *now)?;
            Reply::Nothing
        }
        Ask::Settle { id, token, record, bytes } => {
            Reply::Entry(Box::new(batch.settle(*id, *token, record, bytes.clone())?))
        }
        Ask::Renew { id, token, until } => {
            batch.renew(*id, *token, *until)?;
            Reply::Nothing
        }
        Ask::SettleCrashed { id, now } => Reply::Entry(Box::new(batch.settle_crashed(*id, *now)?)),
        Ask::Act { ids, action, reason, actor, now } => {
            Reply::Entries(batch.act(ids, action, reason.as_deref(), actor, *now)?)
        }
        Ask::Purge { before, limit, now } => Reply::Ids(batch.purge(*before, *limit, *now)?),
        Ask::Carry { ids, now } => {
            batch.carry(ids, *now)?;
            Reply::Nothing
        }
        Ask::CatchUp | Ask::Stats | Ask::NextDue { .. } | Ask::Rebuild { .. } | Ask::Retire { .. } => Reply::Nothing,
    })
}

fn applied(index: &Index, batch: sled::Batch) -> Result<(), String> {
    index.apply(batch).map_err(|fault| match fault {
        Fault::Index(what) => what,
        Fault::Queue(error) => error.to_string(),
    })
}

fn answer(jobs: Vec<Job>, replies: Vec<Result<Reply>>) {
    for (job, reply) in jobs.into_iter().zip(replies) {
        // Whoever asked may be gone; what was done stays done.
        let _ = job.answer.send(reply);
    }
}

fn refuse_all(jobs: Vec<Job>, error: impl Fn(&Job) -> QueueError) {
    for job in jobs {
        let error = error(&job);
        let _ = job.answer.send(Err(error));
    }
}
