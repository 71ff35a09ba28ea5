//! The handle: asks the committer for changes, and reads the index itself.

use std::{
    collections::HashSet,
    path::Path,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::{FileId, disk::Disk};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Options,
    ask::{self, Ask, Job, Reply, end_of, start_of},
    committer::{Committer, Shared},
    figures,
    index::{Fault, Index},
    read, record_codec,
    recover::{self, Opened},
    retire,
    state::broken,
    verify,
};
use crate::{
    Action, Actor, Child, Claim, ClaimAsk, Cursor, Entry, Fact, Filter, KnownOrigin, LeaseToken, NewEntry, NewName,
    Page, QueueError, QueueStore, Record, Recovered, Result, Settlement, Stats, Verified,
};

/// Jobs that wait for the committer before those who ask have to wait as well.
const MOST_WAITING: usize = 4_096;
/// The end of a processor's output that is kept, in bytes.
const OUTPUT_BYTES: usize = 4 << 10;
/// What is kept of a reason, in bytes.
const REASON_BYTES: usize = 4 << 10;
/// What is kept of a note, in bytes.
const NOTE_BYTES: usize = 16 << 10;
/// Ids that are acted on, purged or carried in one group.
const GROUP: usize = 256;

/// How long a queue that is locked may still be closing: sled's threads hold it a little longer than its owner.
const CLOSING: Duration = Duration::from_secs(5);

/// The queue on one machine. Dropping it ends the committer, after what waits has been answered.
pub struct EmbeddedQueue {
    shared: Arc<Shared>,
    jobs: Option<mpsc::Sender<Job>>,
    committer: Option<JoinHandle<()>>,
    keep: TimeDelta,
    /// When old segments were last looked for.
    retired_at: Mutex<Option<DateTime<Utc>>>,
}

impl EmbeddedQueue {
    /// Opens the queue with its journal and its index in these directories, which are made if they are not there.
    /// Blocks until the index agrees with the journal. One that is being closed is waited for, up to 5 s.
    ///
    /// # Errors
    /// [`QueueError::Locked`] when another process has it open; [`QueueError::Unreadable`] when a newer version wrote
    /// it, and nothing has been changed then.
    pub fn open(
        disk: Arc<dyn Disk>,
        journal_dir: &Path,
        index_dir: &Path,
        options: Options,
    ) -> Result<(Self, Recovered)> {
        let Opened { log, index, state, recovered } =
            once_closed(|| recover::open(disk.clone(), journal_dir, index_dir, &options))?;
        let shared = Arc::new(Shared {
            index: RwLock::new(index),
            generation: AtomicU64::new(0),
            behind: AtomicBool::new(false),
            journal: log.reader(),
            poisoned: OnceLock::new(),
            counts: RwLock::new(state.all_counts().collect()),
            changed: watch::Sender::new(state.meta.applied),
        });
        let void: HashSet<LeaseToken> = state.lanes.leases.values().map(|held| held.token).collect();
        let committer = Committer {
            shared: shared.clone(),
            log,
            state,
            index_dir: index_dir.to_owned(),
            cache_bytes: options.cache_bytes,
            void,
        };
        let (jobs, waiting) = mpsc::channel(MOST_WAITING);
        let poison = shared.clone();
        let work = move || {
            let run = std::panic::AssertUnwindSafe(|| committer.run(waiting));
            if std::panic::catch_unwind(run).is_err() {
                poison.poison("the committer panicked");
            }
        };
        let thread = std::thread::Builder::new().name("queue".into()).spawn(work);
        let thread = thread.map_err(|error| recover::io("cannot start the queue's thread", error))?;
        let keep = TimeDelta::days(i64::from(options.keep_days));
        let queue = Self { shared, jobs: Some(jobs), committer: Some(thread), keep, retired_at: Mutex::new(None) };
        Ok((queue, recovered))
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    async fn ask(&self, ask: Ask) -> Result<Reply> {
        let (answer, reply) = oneshot::channel();
        let Some(jobs) = &self.jobs else { return Err(self.shared.poison_error()) };
        if jobs.send(Job { ask, answer }).await.is_err() {
            return Err(self.shared.poison_error());
        }
        // The committer took it and is gone: it may have got as far as the journal.
        reply.await.map_err(|_| self.shared.unknown_error())?
    }

    async fn ask_entry(&self, ask: Ask) -> Result<Entry> {
        match self.ask(ask).await? {
            Reply::Entry(entry) => Ok(*entry),
            _ => Err(unexpected()),
        }
    }

    async fn ask_nothing(&self, ask: Ask) -> Result<()> {
        self.ask(ask).await.map(|_| ())
    }

    /// Whoever was answered finds in the index what was answered.
    async fn caught_up(&self) -> Result<()> {
        match self.shared.behind.load(Ordering::Acquire) {
            true => self.ask_nothing(Ask::CatchUp).await,
            false => Ok(()),
        }
    }

    /// An end of the journal before which the index has everything: for who compares the two, or trusts the index to know
    /// what the journal may forget.
    async fn agreed(&self) -> Result<u64> {
        let end = self.shared.journal.next_seq();
        // Asked in any case: the committer may be between the journal and saying that the index is behind.
        self.ask_nothing(Ask::CatchUp).await?;
        Ok(end)
    }

    /// A short look into the index, on the spot unless it is just being made anew.
    async fn look<T: Send + 'static>(
        &self,
        read: impl Fn(&Index) -> Result<T, Fault> + Send + Sync + Clone + 'static,
    ) -> Result<T> {
        self.caught_up().await?;
        for _ in 0..2 {
            let generation = self.shared.generation.load(Ordering::Acquire);
            let first = self.shared.index.try_read().map(|index| read(&index));
            match first {
                Some(Err(Fault::Index(_))) => self.heal(generation).await?,
                Some(other) => return Ok(other?),
                None => break,
            }
        }
        let read = move |_: &Shared, index: &Index| read(index);
        self.read(read).await
    }

    /// A longer look, on a thread that may block. An index that turns out to be damaged is made anew, and asked again.
    async fn read<T: Send + 'static>(
        &self,
        read: impl Fn(&Shared, &Index) -> Result<T, Fault> + Send + Sync + Clone + 'static,
    ) -> Result<T> {
        self.caught_up().await?;
        let mut healed = false;
        loop {
            let generation = self.shared.generation.load(Ordering::Acquire);
            let (shared, read) = (self.shared.clone(), read.clone());
            let work = move || {
                let index = shared.index.read();
                read(&shared, &index)
            };
            match tokio::task::spawn_blocking(work).await {
                Ok(Err(Fault::Index(_))) if !healed => self.heal(generation).await?,
                Ok(outcome) => return Ok(outcome?),
                Err(_) => return Err(broken("reading was cut short")),
            }
            healed = true;
        }
    }

    async fn heal(&self, generation: u64) -> Result<()> {
        self.ask_nothing(Ask::Rebuild { damaged: Some(generation), progress: None }).await
    }

    /// Gives up segments of the journal that are older than is to be kept, once a day.
    async fn retire(&self, now: DateTime<Utc>) -> Result<()> {
        {
            let mut retired_at = self.retired_at.lock();
            if retired_at.is_some_and(|at| (now - at).abs() < TimeDelta::days(1)) {
                return Ok(());
            }
            *retired_at = Some(now);
        }
        let Some(limit) = now.checked_sub_signed(self.keep) else { return Ok(()) };
        let end = self.agreed().await?;
        let old = self.read(move |shared, index| match retire::cutoff(&shared.journal, limit)? {
            Some(cutoff) => {
                let cutoff = cutoff.min(end);
                Ok(Some((cutoff, retire::resting_on(index, cutoff)?)))
            }
            None => Ok(None),
        });
        let Some((before, ids)) = old.await? else { return Ok(()) };
        for ids in ids.chunks(GROUP) {
            self.ask_nothing(Ask::Carry { ids: ids.to_vec(), now }).await?;
        }
        self.ask_nothing(Ask::Retire { before }).await
    }
}

fn once_closed<T>(open: impl Fn() -> Result<T>) -> Result<T> {
    let step = Duration::from_millis(5);
    let mut waited = Duration::ZERO;
    loop {
        match open() {
            Err(QueueError::Locked(_)) if waited < CLOSING => std::thread::sleep(step),
            opened => return opened,
        }
        waited += step;
    }
}

impl Drop for EmbeddedQueue {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(committer) = self.committer.take() {
            // Its panic has been told already.
            let _ = committer.join();
        }
    }
}

impl std::fmt::Debug for EmbeddedQueue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("EmbeddedQueue").field("last_seq", &*self.shared.changed.borrow()).finish_non_exhaustive()
    }
}

#[async_trait]
impl QueueStore for EmbeddedQueue {
    async fn enqueue(&self, new: NewEntry, now: DateTime<Utc>) -> Result<Entry> {
        let actor = Actor::Partner(new.partner.clone());
        let fact = Fact::Accepted {
            partner: new.partner,
            name: new.name,
            door: new.door,
            size_bytes: new.size_bytes,
            sha256: new.sha256,
            received_at: new.received_at,
            route: new.route,
            state: new.state,
            reason: short(new.reason),
            origin: new.origin,
        };
        self.ask_entry(ask::write(Record { at: now, actor, id: Some(new.id), fact })?).await
    }

    async fn rename(&self, id: FileId, to: NewName, actor: Actor, now: DateTime<Utc>) -> Result<Entry> {
        let fact = Fact::Named { name: to.name, route: to.route, state: to.state, reason: short(to.reason) };
        self.ask_entry(ask::write(Record { at: now, actor, id: Some(id), fact })?).await
    }

    async fn claim(&self, ask: ClaimAsk, now: DateTime<Utc>) -> Result<Vec<Claim>> {
        match self.ask(Ask::Claim { ask, now }).await? {
            Reply::Claims(claims) => Ok(claims),
            _ => Err(unexpected()),
        }
    }

    async fn note_child(&self, token: LeaseToken, id: FileId, child: Child, now: DateTime<Utc>) -> Result<()> {
        self.ask_nothing(Ask::Child { id, token, child, now }).await
    }

    async fn settle(&self, token: LeaseToken, id: FileId, end: Settlement, now: DateTime<Utc>) -> Result<Entry> {
        let fact = Fact::Ended {
            state: end.state,
            counted: end.counted,
            due_at: end.due_at,
            reason: short(end.reason),
            output: end_of(end.output, OUTPUT_BYTES),
        };
        let record = Box::new(Record { at: now, actor: Actor::Server, id: Some(id), fact });
        let bytes = record_codec::encode(&record)?;
        self.ask_entry(Ask::Settle { id, token, record, bytes }).await
    }

    async fn renew(&self, token: LeaseToken, id: FileId, until: DateTime<Utc>, _now: DateTime<Utc>) -> Result<()> {
        self.ask_nothing(Ask::Renew { id, token, until }).await
    }

    async fn settle_crashed(&self, id: FileId, now: DateTime<Utc>) -> Result<Entry> {
        self.ask_entry(Ask::SettleCrashed { id, now }).await
    }

    async fn act(
        &self,
        ids: &[FileId],
        action: Action,
        reason: Option<String>,
        actor: Actor,
        now: DateTime<Utc>,
    ) -> Vec<Result<Entry>> {
        let reason = short(reason);
        let mut answers = Vec::with_capacity(ids.len());
        for (group, ids) in ids.chunks(GROUP).enumerate() {
            let action = part_of(&action, group * GROUP, ids.len());
            let ask = Ask::Act { ids: ids.to_vec(), action, reason: reason.clone(), actor: actor.clone(), now };
            match self.ask(ask).await {
                Ok(Reply::Entries(entries)) => answers.extend(entries),
                Ok(_) => answers.extend(ids.iter().map(|_| Err(unexpected()))),
                Err(error) => answers.extend(ids.iter().map(|_| Err(ask::again(&error)))),
            }
        }
        answers
    }

    async fn note(&self, actor: Actor, topic: &str, text: &str, now: DateTime<Utc>) -> Result<()> {
        let text = start_of(text.to_owned(), NOTE_BYTES);
        self.ask_nothing(ask::write(ask::noted(actor, topic, text, now))?).await
    }

    async fn get(&self, id: FileId) -> Result<Entry> {
        self.look(move |index| Ok(read::stored(index, id)?.entry)).await
    }

    async fn resolve(&self, prefix: &str) -> Result<FileId> {
        let prefix = prefix.to_owned();
        self.look(move |index| read::resolve(index, &prefix)).await
    }

    async fn list(&self, filter: &Filter, after: Option<Cursor>, limit: usize) -> Result<Page> {
        let filter = filter.clone();
        self.read(move |_, index| read::list(index, &filter, after, limit)).await
    }

    async fn history(&self, id: FileId) -> Result<Vec<(u64, Record)>> {
        self.read(move |shared, index| read::history(index, &shared.journal, id)).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, Record)>> {
        self.read(move |shared, _| Ok(read::audit(&shared.journal, after, limit)?)).await
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<Entry>> {
        self.read(move |_, index| read::changes(index, after, limit)).await
    }

    async fn stats(&self, _now: DateTime<Utc>) -> Result<Stats> {
        match self.ask(Ask::Stats).await? {
            Reply::Stats(stats) => Ok(*stats),
            _ => Err(unexpected()),
        }
    }

    async fn unprocessed_bytes(&self, partner: &str) -> Result<u64> {
        Ok(self.shared.counts.read().get(partner).map_or(0, figures::unprocessed_bytes))
    }

    async fn next_due(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        match self.ask(Ask::NextDue { now }).await? {
            Reply::Due(due) => Ok(due),
            _ => Err(unexpected()),
        }
    }

    async fn ids(&self) -> Result<Vec<FileId>> {
        self.read(|_, index| read::ids(index)).await
    }

    async fn knows(&self, id: FileId) -> Result<bool> {
        match self.look(move |index| read::knows(index, id)).await? {
            Some(knows) => Ok(knows),
            None => self.read(move |shared, _| Ok(read::purged_long_ago(&shared.journal, id)?)).await,
        }
    }

    async fn purge(&self, before: DateTime<Utc>, limit: usize, now: DateTime<Utc>) -> Result<Vec<FileId>> {
        let mut purged = Vec::new();
        // In small groups: sled's memory grows with what one batch removes, and others wait meanwhile.
        while purged.len() < limit {
            let group = GROUP.min(limit - purged.len());
            match self.ask(Ask::Purge { before, limit: group, now }).await {
                Ok(Reply::Ids(ids)) if ids.is_empty() => break,
                Ok(Reply::Ids(ids)) => purged.extend(ids),
                Ok(_) => return Err(unexpected()),
                // What is journalled as purged has to be told, or its bytes would stay.
                Err(_) if !purged.is_empty() => return Ok(purged),
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = self.retire(now).await {
            tracing::warn!(%error, "old segments of the journal could not be given up");
        }
        Ok(purged)
    }

    async fn origins(&self) -> Result<Vec<KnownOrigin>> {
        self.read(|_, index| read::origins(index)).await
    }

    async fn forget_origins(&self, files: &[FileId], now: DateTime<Utc>) -> Result<()> {
        for files in files.chunks(GROUP) {
            let fact = Fact::OriginsGone { files: files.to_vec() };
            self.ask_nothing(ask::write(Record { at: now, actor: Actor::Server, id: None, fact })?).await?;
        }
        Ok(())
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    async fn verify(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<Verified> {
        let (told, mut tell) = mpsc::unbounded_channel();
        let end = self.agreed().await?;
        let work = self.read(move |shared, index| {
            verify::verify(index, &shared.journal, end, &|done, total| {
                // Whoever watched may be gone.
                let _ = told.send((done, total));
            })
        });
        watched(work, &mut tell, progress).await
    }

    async fn rebuild(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<Verified> {
        let (told, mut tell) = mpsc::unbounded_channel();
        let work = self.ask(Ask::Rebuild { damaged: None, progress: Some(told) });
        match watched(work, &mut tell, progress).await? {
            Reply::Verified(verified) => Ok(verified),
            _ => Err(unexpected()),
        }
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.poisoned.get().cloned()
    }
}

/// Waits for the work and tells its progress meanwhile.
async fn watched<T>(
    work: impl Future<Output = Result<T>>,
    tell: &mut mpsc::UnboundedReceiver<(u64, u64)>,
    progress: &(dyn Fn(u64, u64) + Send + Sync),
) -> Result<T> {
    tokio::pin!(work);
    loop {
        tokio::select! {
            biased;
            Some((done, total)) = tell.recv() => progress(done, total),
            outcome = &mut work => return outcome,
        }
    }
}

/// The action for `length` of its ids from place `start` on.
fn part_of(action: &Action, start: usize, length: usize) -> Action {
    let part = |routes: &[Option<String>]| routes.iter().skip(start).take(length).cloned().collect();
    match action {
        Action::Release(routes) => Action::Release(part(routes)),
        Action::Requeue(routes) => Action::Requeue(part(routes)),
        Action::Hold => Action::Hold,
        Action::Cancel => Action::Cancel,
    }
}

fn short(reason: Option<String>) -> Option<String> {
    reason.map(|reason| start_of(reason, REASON_BYTES))
}

fn unexpected() -> QueueError {
    broken("an answer to another question")
}
