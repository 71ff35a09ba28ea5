//! The handle that implements `QueueStore`: sends changes to the committer, and reads the index
//! itself.
//!
//! Which thread does what:
//!
//! - `journal` sends a closure to the committer's thread, which checks it, journals its records
//!   with those of others and answers after the sync. The asker waits on a channel, and no thread
//!   is blocked.
//! - `between` runs a closure on the committer's thread between two groups of changes.
//! - `look` reads the index on the asker's thread, for a few keys.
//! - `read` reads it on a blocking thread, for anything longer.
//! - `read_uncaught` is `look` without waiting until the index has caught up, for the catalogue,
//!   which lays names over it that are journalled and not in it yet.
//!
//! # Guarantees
//! - A caller that was answered finds in `look` and `read` what was answered (`caught_up`).
//! - An index that turns out to be damaged is rebuilt from the journal, and asked again (`heal`).
//! - A future that is dropped loses its answer alone: a change that was sent is made or refused as
//!   a whole.
//! - Dropping the handle answers the changes that wait, and then joins the committer's thread.

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
use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::{Content, FileId, disk::Disk};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{mpsc, oneshot, watch};

use super::{
    Options,
    batch::Batch,
    command::{Command, Staged, again},
    committer::{Committer, Shared},
    contents, figures,
    index::{Fault, Index},
    messages::MessageLog,
    newest, read,
    recover::{self, Opened},
    state::broken,
    text::{end_of, start_of},
    verify,
    waiting::Waiting,
};
use crate::{
    Action, Actor, Child, Claim, ClaimRequest, Cursor, EmbeddedMaintenance, Entry, Extent, Fact, Filter,
    IdempotencyKey, Inline, KeyedFile, KnownOrigin, LeaseToken, MessageRun, MessageSource, MessageState, NewEntry,
    NewName, Page, Progress, Purged, QueueError, QueueStore, Record, Recovered, Result, Settlement, State, StateTotal,
    Stats, Verified, Watch,
};

/// Jobs that wait for the committer before those who ask have to wait as well.
/// A bound on memory: doors wait here when the disk is slow, and so do their clients.
const MOST_WAITING: usize = 4_096;
/// The end of a processor's output that is kept, in bytes.
const OUTPUT_BYTES: usize = 4 << 10;
/// What is kept of a reason, in bytes.
const REASON_BYTES: usize = 4 << 10;
/// What is kept of a note, in bytes.
const NOTE_BYTES: usize = 16 << 10;
/// Ids that are acted on, purged or carried in one group.
pub(super) const GROUP: usize = 256;

/// How long a queue that is locked may still be closing: sled's threads hold it a little longer than its owner.
const CLOSING: Duration = Duration::from_secs(5);

/// The queue on one machine. Dropping it ends the committer, after what waits has been answered.
pub struct EmbeddedQueue {
    shared: Arc<Shared>,
    commands: Option<mpsc::Sender<Command>>,
    committer: Option<JoinHandle<()>>,
    /// For so long the journal keeps what happened to files that are gone.
    pub(super) keep: TimeDelta,
    /// When old segments were last looked for.
    pub(super) retired_at: Mutex<Option<DateTime<Utc>>>,
    pub(super) unswept: contents::Unswept,
    pub(super) messages: Arc<MessageLog>,
}

impl EmbeddedQueue {
    /// Opens the queue with its journal and its index in these directories, which are made if they are not there.
    /// Blocks until the index agrees with the journal. One that is being closed is waited for, up to 5 s.
    ///
    /// The lock on the index keeps a second process away from the journal too.
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
        Self::open_watched(disk, journal_dir, index_dir, options, &Watch::default())
    }

    /// As [`EmbeddedQueue::open`]; `watch` is told how far the index has caught up, and can stop that, and later the
    /// making anew of an index.
    ///
    /// # Errors
    /// As [`EmbeddedQueue::open`]; [`QueueError::Stopped`]: the next opening goes on where this one was.
    pub fn open_watched(
        disk: Arc<dyn Disk>,
        journal_dir: &Path,
        index_dir: &Path,
        options: Options,
        watch: &Watch,
    ) -> Result<(Self, Recovered)> {
        let Opened { journal, index, state, recovered } =
            once_closed(|| recover::open(disk.clone(), journal_dir, index_dir, &options, watch))?;
        let messages = MessageLog::new(disk, journal_dir.with_file_name("messages"))?;
        // One that cannot be looked up now stays.
        messages.keep_those(&mut |id| read::is_under_way(&index, id).unwrap_or(true))?;
        let shared = Arc::new(Shared {
            index: RwLock::new(index),
            generation: AtomicU64::new(0),
            behind: AtomicBool::new(false),
            journal: journal.reader(),
            poisoned: OnceLock::new(),
            counts: RwLock::new(state.all_counts().collect()),
            changed: watch::Sender::new(state.meta.applied),
            names: RwLock::default(),
            waiting: Waiting::default(),
            watch: watch.clone(),
        });
        // All leases that are found now are void: the process that held them is gone.
        let void: HashSet<LeaseToken> = state.lanes.leases.values().map(|held| held.token).collect();
        let committer = Committer {
            shared: shared.clone(),
            journal,
            state,
            index_dir: index_dir.to_owned(),
            cache_bytes: options.cache_bytes,
            node: options.node.clone(),
            void,
        };
        let (commands, waiting) = mpsc::channel(MOST_WAITING);
        let poison = shared.clone();
        let work = move || {
            let run = std::panic::AssertUnwindSafe(|| committer.run(waiting));
            // A panic poisons the queue. Otherwise each asker would wait for an answer that never
            // comes.
            if std::panic::catch_unwind(run).is_err() {
                poison.poison("the committer panicked");
            }
        };
        let thread = std::thread::Builder::new().name("queue".into()).spawn(work);
        let thread = thread.map_err(|error| recover::io("cannot start the queue's thread", error))?;
        let keep = TimeDelta::days(i64::from(options.keep_days));
        let queue = Self {
            shared,
            commands: Some(commands),
            committer: Some(thread),
            keep,
            retired_at: Mutex::new(None),
            unswept: contents::Unswept::default(),
            messages: Arc::new(messages),
        };
        Ok((queue, recovered))
    }

    #[cfg(test)]
    pub(super) fn shared(&self) -> &Shared {
        &self.shared
    }

    /// Has a change journalled. `stage` runs on the committer's thread: it checks the change
    /// against all changes before it and adds its records to the group. It may be called twice,
    /// when the index was rebuilt in between, so it must not use up what it captured.
    ///
    /// # Errors
    /// The refusal of `stage`, or that of the journal. Nothing was changed then, but for
    /// [`QueueError::Unknown`].
    pub(super) async fn journal<T: Send + 'static>(
        &self,
        stage: impl FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T> {
        let (command, answer) = Staged::command(stage, None);
        self.send(command, answer).await
    }

    /// Runs `work` on the committer's thread, between two groups of changes: it sees what is
    /// durable.
    pub(super) async fn between<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Committer) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let (answer, told) = oneshot::channel();
        let work = move |committer: &mut Committer| {
            // Whoever asked may be gone.
            let _ = answer.send(work(committer));
        };
        self.send(Command::Between(Box::new(work)), told).await
    }

    async fn send<T>(&self, command: Command, answer: oneshot::Receiver<Result<T>>) -> Result<T> {
        let Some(commands) = &self.commands else { return Err(self.shared.poison_error()) };
        if commands.send(command).await.is_err() {
            return Err(self.shared.poison_error());
        }
        // The committer took it and is gone: it may have got as far as the journal.
        answer.await.map_err(|_| self.shared.unknown_error())?
    }

    /// Has one record about an entry journalled. Returns the entry after it.
    async fn write(&self, record: Record) -> Result<Entry> {
        self.journal(move |batch| batch.write_entry(&record)).await
    }

    /// Has one record about no entry journalled.
    async fn write_note(&self, record: Record) -> Result<()> {
        self.journal(move |batch| batch.write(&record).map(drop)).await
    }

    /// Waits until the index has all that was answered before. Cheap when it has: one atomic read.
    async fn caught_up(&self) -> Result<()> {
        match self.shared.behind.load(Ordering::Acquire) {
            true => self.between(Committer::catch_up).await,
            false => Ok(()),
        }
    }

    /// Returns an end of the journal before which the index has everything. For callers that
    /// compare the two, or that trust the index to know what the journal may forget.
    pub(super) async fn agreed(&self) -> Result<u64> {
        // Before the catching up: the index has at least these records afterwards, and perhaps
        // later ones.
        let end = self.shared.journal.next_seq();
        // Asked in any case: the committer may be between the journal and saying that the index is behind.
        self.between(Committer::catch_up).await?;
        Ok(end)
    }

    /// Reads a few keys of the index, on the asker's thread unless the index is being rebuilt.
    pub(super) async fn look<T: Send + 'static>(
        &self,
        read: impl Fn(&Index) -> Result<T, Fault> + Send + Sync + Clone + 'static,
    ) -> Result<T> {
        self.caught_up().await?;
        for _ in 0..2 {
            // Before the read, here and in the two functions below: a fault that was found in an
            // index that is replaced meanwhile must not have the new one rebuilt (`Committer::heal`
            // compares generations).
            let generation = self.shared.generation.load(Ordering::Acquire);
            let first = self.shared.index.try_read().map(|index| read(&index));
            match first {
                Some(Err(Fault::Index(_))) => self.heal(generation).await?,
                Some(Err(Fault::Disk(_))) => self.replace_failed().await?,
                Some(other) => return Ok(other?),
                None => break,
            }
        }
        let read = move |_: &Shared, index: &Index| read(index);
        self.read(read).await
    }

    /// Reads a few keys that may not have caught up with the journal, on the asker's thread unless
    /// the index is being rebuilt.
    pub(super) async fn read_uncaught<T: Send + 'static>(
        &self,
        read: impl Fn(&Shared, &Index) -> Result<T, Fault> + Send + Sync + Clone + 'static,
    ) -> Result<T> {
        let generation = self.shared.generation.load(Ordering::Acquire);
        let first = self.shared.index.try_read().map(|index| read(&self.shared, &index));
        match first {
            Some(Err(Fault::Index(_))) => self.heal(generation).await?,
            Some(Err(Fault::Disk(_))) => self.replace_failed().await?,
            Some(other) => return Ok(other?),
            None => {}
        }
        self.read(read).await
    }

    /// Reads the index on a blocking thread. An index that turns out to be damaged is rebuilt, and
    /// asked once more.
    pub(super) async fn read<T: Send + 'static>(
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
                // Once alone: a fault that a rebuilt index has too must not have it rebuilt for
                // ever.
                Ok(Err(Fault::Index(_))) if !healed => self.heal(generation).await?,
                Ok(Err(Fault::Disk(_))) if !healed => self.replace_failed().await?,
                Ok(outcome) => return Ok(outcome?),
                Err(_) => return Err(broken("reading was cut short")),
            }
            healed = true;
        }
    }

    /// Has the index rebuilt, unless that has been done since `generation`.
    async fn heal(&self, generation: u64) -> Result<()> {
        self.between(move |committer| committer.heal(generation)).await
    }

    /// Waits until an index that the disk has failed is replaced by one that can be read.
    async fn replace_failed(&self) -> Result<()> {
        // The committer looks before it serves anything.
        self.between(|_| Ok(())).await
    }
}

/// Opens what another handle of this process may just be closing, waiting up to [`CLOSING`].
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
        // First the sender, then the join: the committer ends when no sender is left.
        self.commands = None;
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
    async fn accept(&self, new: NewEntry, content: Content, now: DateTime<Utc>) -> Result<Entry> {
        let (id, claimable_from, shared) = (new.id, new.claimable_from, Arc::clone(&self.shared));
        let bytes = match content {
            Content::Inline(bytes) => Some(bytes),
            Content::Kept => None,
        };
        let (record, content_bytes) = (accepted(new, bytes.is_some(), now), bytes.as_ref().map(Bytes::len));
        let stage = move |batch: &mut Batch<'_>| {
            let entry = batch.accept(&record, bytes.as_ref())?;
            // Before any claim can see it: this is the thread that claims.
            if let Some(from) = claimable_from {
                // The record is not in the journal yet. If the group is refused an entry stays here
                // that nothing asks for, until `prune` drops it.
                shared.waiting.begin(id, from);
            }
            Ok(entry)
        };
        let (command, answer) = Staged::command(stage, content_bytes);
        self.send(command, answer).await
    }

    async fn content(&self, extent: &Extent) -> Result<Option<Bytes>> {
        let Some(seq) = extent.content else { return Ok(None) };
        let (shared, extent) = (Arc::clone(&self.shared), *extent);
        let work = tokio::task::spawn_blocking(move || contents::read(&shared.journal, &extent, seq));
        work.await.map_err(|_| broken("reading was cut short"))?.map(Some)
    }

    fn content_blocking(&self, extent: &Extent) -> Result<Option<Bytes>> {
        extent.content.map(|seq| contents::read(&self.shared.journal, extent, seq)).transpose()
    }

    async fn extents(&self, entry: &Entry) -> Result<Vec<Extent>> {
        if entry.continues.is_none() {
            return Ok(vec![entry.extent()]);
        }
        let entry = entry.clone();
        self.read(move |_, index| read::extents(index, &entry)).await
    }

    async fn continued_by(&self, id: FileId) -> Result<Vec<FileId>> {
        self.look(move |index| read::continued_by(index, id)).await
    }

    async fn rename(&self, id: FileId, to: NewName, actor: Actor, now: DateTime<Utc>) -> Result<Entry> {
        let reason = short(to.reason);
        let fact = Fact::Named { name: to.name, route: to.route, state: to.state, reason, hold: to.hold };
        self.write(Record { at: now, actor, id: Some(id), fact }).await
    }

    fn confirm(&self, id: FileId) {
        // In memory alone, so there is nothing to wait for. After a restart the time in the record
        // decides.
        if self.shared.waiting.confirm(id) {
            // The dispatcher looks again.
            self.shared.changed.send_modify(|_| {});
        }
    }

    fn put_off(&self, id: FileId, until: DateTime<Utc>) {
        self.shared.waiting.put_off(id, until);
    }

    async fn withdraw(&self, id: FileId, reason: &str, now: DateTime<Utc>) -> Result<Entry> {
        // Before it waits for its turn: no claim may be faster, nor get it when the journal fails.
        self.shared.waiting.bar(id);
        let fact = Fact::Withdrawn { reason: short(Some(reason.to_owned())) };
        let withdrawn = self.write(Record { at: now, actor: Actor::Server, id: Some(id), fact }).await;
        // Otherwise nobody knows whether the record is in the journal. The bar stays until the
        // restart, so that a file that may be withdrawn is not processed.
        if matches!(withdrawn, Ok(_) | Err(QueueError::WrongState { .. } | QueueError::NotFound(_))) {
            self.shared.waiting.forget(id);
        }
        withdrawn
    }

    async fn hide_receipt(&self, id: FileId, actor: Actor, now: DateTime<Utc>) -> Result<()> {
        self.write(Record { at: now, actor, id: Some(id), fact: Fact::ReceiptHidden }).await.map(drop)
    }

    async fn of_partner(&self, partner: &str, after: Option<FileId>, limit: usize) -> Result<Vec<Entry>> {
        let partner = partner.to_owned();
        self.read(move |_, index| read::of_partner(index, &partner, after, limit)).await
    }

    async fn claim(&self, request: ClaimRequest, now: DateTime<Utc>) -> Result<Vec<Claim>> {
        self.journal(move |batch| batch.claim(&request, now)).await
    }

    async fn note_child(&self, token: LeaseToken, id: FileId, child: Child, now: DateTime<Utc>) -> Result<()> {
        self.journal(move |batch| batch.note_child(id, token, child.clone(), now)).await
    }

    async fn settle(&self, token: LeaseToken, id: FileId, end: Settlement, now: DateTime<Utc>) -> Result<Entry> {
        let is_done = end.state == State::Done;
        // Before the record, which says that they are kept.
        let messages = self.messages_at_end(id, is_done).await?;
        let has_messages = messages.is_some();
        let fact = Fact::Ended {
            state: end.state,
            counted: end.counted,
            due_at: end.due_at,
            reason: short(end.reason),
            output: end_of(end.output, OUTPUT_BYTES),
            messages: messages.map(Box::new),
        };
        let record = Record { at: now, actor: Actor::Server, id: Some(id), fact };
        let entry = self.journal(move |batch| batch.settle(id, token, &record)).await?;
        if has_messages && is_done {
            self.messages.forget(id).await;
        }
        Ok(entry)
    }

    async fn begin_messages(&self, token: LeaseToken, id: FileId, source: MessageSource) -> Result<MessageState> {
        let entry = self.get(id).await?;
        if entry.lease.as_ref().is_none_or(|lease| lease.token != token) {
            return Err(QueueError::LeaseLost(id));
        }
        let is_first = entry.messages.is_none() && entry.attempts == 0 && entry.crashes == 0;
        let state = self.messages.begin(token, id, source, is_first).await?;
        self.tidy_messages().await;
        Ok(state)
    }

    async fn advance(
        &self,
        token: LeaseToken,
        id: FileId,
        runs: Vec<MessageRun>,
        next: u64,
        offset: u64,
    ) -> Result<Progress> {
        self.messages.advance(token, id, runs, next, offset).await
    }

    fn under_way(&self, id: FileId) -> Option<Progress> {
        self.messages.progress(id)
    }

    async fn progress(&self, id: FileId) -> Result<Option<Progress>> {
        match self.messages.progress(id) {
            Some(progress) => Ok(Some(progress)),
            None => Ok(self.get(id).await?.messages.map(|messages| messages.progress)),
        }
    }

    async fn outcomes(&self, id: FileId, from: u64, limit: usize) -> Result<Vec<MessageRun>> {
        self.outcomes_of(id, from, limit).await
    }

    async fn renew(&self, token: LeaseToken, id: FileId, until: DateTime<Utc>, _now: DateTime<Utc>) -> Result<()> {
        self.journal(move |batch| batch.renew(id, token, until)).await
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
            let (own, reason, actor) = (ids.to_vec(), reason.clone(), actor.clone());
            match self.journal(move |batch| batch.act(&own, &action, reason.as_deref(), &actor, now)).await {
                Ok(entries) => answers.extend(entries),
                Err(error) => answers.extend(ids.iter().map(|_| Err(again(&error)))),
            }
        }
        answers
    }

    async fn note(&self, actor: Actor, topic: &str, text: &str, now: DateTime<Utc>) -> Result<()> {
        let fact = Fact::Noted { topic: topic.to_owned(), text: start_of(text.to_owned(), NOTE_BYTES) };
        self.write_note(Record { at: now, actor, id: None, fact }).await
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
        self.read(move |_, index| read::list(index, &filter, after.as_ref(), limit)).await
    }

    async fn newest(&self, filter: &Filter, before: Option<Cursor>, limit: usize) -> Result<Page> {
        let filter = filter.clone();
        self.read(move |_, index| newest::newest(index, &filter, before.as_ref(), limit)).await
    }

    async fn history(&self, id: FileId) -> Result<Vec<(u64, Record)>> {
        self.read(move |shared, index| read::history(index, &shared.journal, id)).await
    }

    async fn audit(&self, after: u64, limit: usize) -> Result<Vec<(u64, Record)>> {
        self.read(move |shared, _| Ok(read::audit(&shared.journal, after, limit)?)).await
    }

    async fn changes(&self, after: u64, limit: usize) -> Result<Vec<Entry>> {
        // Before the index catches up: it has all of these then.
        let end = *self.shared.changed.borrow() + 1;
        self.read(move |shared, index| read::changes(index, &shared.journal, after, end, limit)).await
    }

    async fn stats(&self, _now: DateTime<Utc>) -> Result<Stats> {
        self.between(Committer::stats).await
    }

    fn totals(&self) -> Vec<StateTotal> {
        figures::totals(self.shared.counts.read().values())
    }

    async fn kept_files(&self, partner: &str, enough: u64) -> Result<u64> {
        // The cheap count of all files comes first: in most cases it is below what is asked for.
        let counts = self.shared.counts.read().get(partner).copied().unwrap_or_default();
        let files = figures::files(&counts);
        if files < enough {
            return Ok(files);
        }
        let partner = partner.to_owned();
        self.read(move |_, index| read::kept_of(index, &partner, &counts)).await
    }

    async fn unprocessed_bytes(&self, partner: &str) -> Result<u64> {
        Ok(self.shared.counts.read().get(partner).map_or(0, figures::unprocessed_bytes))
    }

    async fn next_due(&self, now: DateTime<Utc>) -> Result<Option<DateTime<Utc>>> {
        self.between(move |committer| Ok(committer.next_due(now))).await
    }

    async fn ids(&self) -> Result<Vec<FileId>> {
        self.read(|_, index| read::ids(index)).await
    }

    async fn kept_ids(&self) -> Result<Vec<FileId>> {
        self.read(|shared, index| {
            let (over, all) = figures::over_of_all(&shared.counts.read());
            // With more than half of all entries over, look the others up by their states.
            // Otherwise one scan over all entries is cheaper.
            if over > all / 2 { read::kept_ids_of_states(index) } else { read::kept_ids(index) }
        })
        .await
    }

    async fn without_entry(&self, ids: Vec<FileId>) -> Result<Vec<FileId>> {
        let ids = Arc::new(ids);
        self.read(move |_, index| read::without_entry(index, &ids)).await
    }

    async fn knows(&self, id: FileId) -> Result<bool> {
        match self.look(move |index| read::knows(index, id)).await? {
            Some(knows) => Ok(knows),
            None => self.read(move |shared, _| Ok(read::purged_long_ago(&shared.journal, id)?)).await,
        }
    }

    async fn purge(&self, before: DateTime<Utc>, limit: usize, now: DateTime<Utc>) -> Result<Purged> {
        self.forget(before, limit, now).await
    }

    async fn purge_these(&self, ids: &[FileId], now: DateTime<Utc>) -> Result<Purged> {
        self.forget_these(ids, now).await
    }

    async fn over_bytes(&self) -> Result<Vec<(String, u64)>> {
        let counts = self.shared.counts.read();
        let bytes = counts.iter().map(|(partner, counts)| (partner.clone(), figures::over_bytes(counts)));
        Ok(bytes.filter(|(_, bytes)| *bytes > 0).collect())
    }

    async fn origins(&self) -> Result<Vec<KnownOrigin>> {
        self.read(|_, index| read::origins(index)).await
    }

    async fn forget_origins(&self, files: &[FileId], now: DateTime<Utc>) -> Result<()> {
        for files in files.chunks(GROUP) {
            let fact = Fact::OriginsGone { files: files.to_vec() };
            self.write_note(Record { at: now, actor: Actor::Server, id: None, fact }).await?;
        }
        Ok(())
    }

    async fn keyed(&self, partner: &str, key: &IdempotencyKey) -> Result<Option<KeyedFile>> {
        let (partner, key) = (partner.to_owned(), key.clone());
        self.look_at_names(move |view| view.keyed(&partner, &key)).await
    }

    async fn forget_keys(&self, before: DateTime<Utc>) -> Result<usize> {
        self.forget_old_keys(before).await
    }

    fn changed(&self) -> watch::Receiver<u64> {
        self.shared.changed.subscribe()
    }

    fn poisoned(&self) -> Option<String> {
        self.shared.poisoned.get().cloned()
    }
}

#[async_trait]
impl EmbeddedMaintenance for EmbeddedQueue {
    async fn settle_crashed(&self, id: FileId, now: DateTime<Utc>) -> Result<Entry> {
        let progress = self.messages.progress(id);
        self.journal(move |batch| batch.settle_crashed(id, progress, now)).await
    }

    async fn verify(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<Verified> {
        let (told, mut tell) = mpsc::unbounded_channel();
        let end = self.agreed().await?;
        let work = self.read(move |shared, index| {
            verify::verify(index, &shared.journal, end, &|done, total| {
                // Whoever asked is gone: nobody wants the rest.
                told.send((done, total)).map_err(|_| QueueError::Stopped)
            })
        });
        watched(work, &mut tell, progress).await
    }

    async fn rebuild(&self, progress: &(dyn Fn(u64, u64) + Send + Sync)) -> Result<Verified> {
        let (told, mut tell) = mpsc::unbounded_channel();
        let work = self.between(move |committer| {
            committer.rebuild(&mut |done, total| {
                // Whoever watched may be gone.
                let _ = told.send((done, total));
            })
        });
        watched(work, &mut tell, progress).await
    }
}

fn accepted(new: NewEntry, is_inline: bool, now: DateTime<Utc>) -> Record {
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
        hold: new.hold,
        origin: new.origin.map(Box::new),
        idempotency_key: new.idempotency_key,
        supersedes: new.supersedes,
        continues: new.continues.map(Box::new),
        claimable_from: new.claimable_from,
        inline: is_inline.then_some(Inline::Here),
    };
    Record { at: now, actor, id: Some(new.id), fact }
}

/// Waits for the work, and reports its progress meanwhile.
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
        Action::Hold(hold) => Action::Hold(*hold),
        Action::Cancel => Action::Cancel,
    }
}

/// Cuts a reason to [`REASON_BYTES`]: reasons are in records, and operators' texts have no end of
/// their own.
fn short(reason: Option<String>) -> Option<String> {
    reason.map(|reason| start_of(reason, REASON_BYTES))
}
