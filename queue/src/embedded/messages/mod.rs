//! The log of messages: what became of the messages of files that are handed over one by one, `<data>/messages/`.
//!
//! # Guarantees
//! Ok of [`MessageLog::begin`] and [`MessageLog::advance`] means that it is durable. Outcomes that wait at the same time, of all
//! files, are one group with one `fdatasync`. Only the lease that began a file notes its outcomes. Where there is no room
//! nothing has changed, and it goes on when there is; any other failure ends the hand-over of messages until a restart, and
//! nothing else of the queue.
//!
//! The log has files that are under way alone. What became of the messages of a file that is done goes with the record of
//! that; what is too long for it into a file of its own, `messages/<id>`, durable before that record. So the log is short.
//! A file that keeps old segments of it is written anew at its end, as one record.
//!
//! # After a crash
//! The log is read whole at the start. Where it has lost records, no file goes on that may have begun before: its messages
//! would come again.

mod kept;
mod record;
mod state;
#[cfg(test)]
mod tests;
mod writer;

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{Arc, mpsc},
    thread::JoinHandle,
};

use forebay_storage::{
    FileId, StorageError,
    disk::Disk,
    log::{Log, LogOptions, LogReader},
};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use self::{
    kept::{Gathered, Kept},
    record::{Record, bounded, encode_runs},
    state::Files,
    writer::Job,
};
use super::{EmbeddedQueue, index::Fault, read};
use crate::{LeaseToken, MessageRun, MessageSource, MessageState, Messages, Progress, QueueError, QueueStore, Result};

/// The size of a segment.
const SEGMENT_BYTES: u64 = 1 << 20;
/// What is read of the log at a time.
const READ_BYTES: usize = 256 << 10;
/// A file is written anew if it takes less than this: a record takes a quarter of a segment at most.
const MOST_CARRIED: usize = 200 << 10;

/// The log, which is opened when it is needed first.
#[derive(Debug)]
pub(super) struct MessageLog {
    disk: Arc<dyn Disk>,
    dir: PathBuf,
    open: Mutex<Option<Arc<OpenLog>>>,
}

/// The log that is open.
#[derive(Debug)]
struct OpenLog {
    files: Arc<Mutex<Files>>,
    reader: LogReader,
    kept: Kept,
    jobs: Mutex<Option<mpsc::Sender<Job>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl MessageLog {
    /// The log in this directory; opened now if it is there.
    pub(super) fn new(disk: Arc<dyn Disk>, dir: PathBuf) -> Result<Self> {
        let log = Self { disk, dir, open: Mutex::new(None) };
        match log.disk.list(&log.dir) {
            Ok(_) => drop(log.opened()?),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(source) => return Err(QueueError::Io { doing: format!("cannot list {}", log.dir.display()), source }),
        }
        Ok(log)
    }

    /// Opens it, if it is not. Blocks.
    fn opened(&self) -> Result<Arc<OpenLog>> {
        let mut open = self.open.lock();
        if let Some(open) = &*open {
            return Ok(Arc::clone(open));
        }
        let made = Arc::new(OpenLog::open(&self.disk, &self.dir)?);
        *open = Some(Arc::clone(&made));
        Ok(made)
    }

    fn if_open(&self) -> Option<Arc<OpenLog>> {
        self.open.lock().clone()
    }

    /// Opens it on a thread that may block.
    async fn opened_somewhere(self: &Arc<Self>) -> Result<Arc<OpenLog>> {
        if let Some(open) = self.if_open() {
            return Ok(open);
        }
        let own = Arc::clone(self);
        somewhere(move || own.opened()).await
    }

    /// Begins a file for a lease, or goes on with it. `is_first`: no processor had it before.
    pub(super) async fn begin(
        self: &Arc<Self>,
        token: LeaseToken,
        id: FileId,
        source: MessageSource,
        is_first: bool,
    ) -> Result<MessageState> {
        let open = self.opened_somewhere().await?;
        let (state, record) = open.files.lock().begin(id, token, source, is_first)?;
        if let Some(record) = record {
            open.write(record, Some(token)).await?;
        }
        Ok(state)
    }

    /// Notes outcomes.
    pub(super) async fn advance(
        &self,
        token: LeaseToken,
        id: FileId,
        runs: Vec<MessageRun>,
        next: u64,
        offset: u64,
    ) -> Result<Progress> {
        let open = self.if_open().ok_or(QueueError::LeaseLost(id))?;
        let runs: Vec<_> = runs.into_iter().map(bounded).collect();
        let progress = open.files.lock().try_advance(token, id, &runs, next, offset)?;
        open.write(Record::Advanced(id, runs, next, offset), None).await?;
        Ok(progress)
    }

    /// How far a file is that is under way.
    pub(super) fn progress(&self, id: FileId) -> Option<Progress> {
        self.if_open()?.files.lock().get(id).map(|file| file.progress)
    }

    /// Forgets all files but those that `is_under_way`, at the start.
    pub(super) fn keep_those(&self, is_under_way: &mut dyn FnMut(FileId) -> bool) -> Result<()> {
        let Some(open) = self.if_open() else { return Ok(()) };
        let ids = open.files.lock().ids();
        for id in ids {
            if !is_under_way(id) {
                let (answer, _) = oneshot::channel();
                // Not waited for: at the next start it is forgotten again.
                open.send(Job::Write { record: Record::Ended(id), token: None, answer })?;
                open.files.lock().remove(id);
            }
        }
        Ok(())
    }

    /// Outcomes of a file that is under way, from this message on, at most so many runs. Blocks.
    pub(super) fn outcomes(&self, id: FileId, from: u64, limit: usize) -> Result<Vec<MessageRun>> {
        let Some(open) = self.if_open() else { return Ok(Vec::new()) };
        let mut runs = Vec::new();
        open.each_run(id, &mut |run| {
            if run.end() > from {
                runs.push(run);
            }
            Ok(runs.len() < limit)
        })?;
        runs.truncate(limit);
        Ok(runs)
    }

    /// Outcomes of a file that is over and has them in a file of its own. Blocks.
    pub(super) fn kept_outcomes(&self, id: FileId, from: u64, limit: usize) -> Result<Vec<MessageRun>> {
        Kept::new(&self.disk, &self.dir).read(id, from, limit)
    }

    /// What the record of a file's end says of its messages, if it has any. When it is `over`, they go with it or into a file
    /// of their own, durably. Blocks.
    pub(super) fn at_end(&self, id: FileId, over: bool) -> Result<Option<Messages>> {
        let Some(open) = self.if_open() else { return Ok(None) };
        let Some(progress) = open.files.lock().get(id).map(|file| file.progress) else { return Ok(None) };
        if !over {
            return Ok(Some(Messages { progress, outcomes: None }));
        }
        let mut gathered = Gathered::new(&open.kept, id);
        open.each_run(id, &mut |run| gathered.add(run).map(|()| true))?;
        let outcomes = gathered.finish()?;
        Ok(Some(Messages { progress, outcomes }))
    }

    /// Forgets a file whose outcomes are kept elsewhere, or that nobody asks for any more.
    pub(super) async fn forget(&self, id: FileId) {
        let Some(open) = self.if_open() else { return };
        if open.files.lock().get(id).is_none() {
            return;
        }
        // Where that fails the next start forgets it: the journal says that the file is over.
        if let Err(error) = open.write(Record::Ended(id), None).await {
            tracing::warn!(file.id = %id, %error, "the log of messages keeps a file that is over");
            open.files.lock().remove(id);
        }
    }

    /// Gives up segments that nobody needs. Gives the file whose records keep the oldest, when the log is long all the same.
    pub(super) async fn retire(&self) -> Result<Option<FileId>> {
        let Some(open) = self.if_open() else { return Ok(None) };
        let (answer, told) = oneshot::channel();
        open.send(Job::Retire { answer })?;
        told.await.map_err(|_| gone())?
    }

    /// Writes all that is known of a file anew at the end of the log, so that what was before can go; not where that is too
    /// long, nor where it went on meanwhile: it keeps the segments that it has.
    pub(super) async fn write_anew(&self, id: FileId) -> Result<()> {
        let Some(open) = self.if_open() else { return Ok(()) };
        let own = Arc::clone(&open);
        match somewhere(move || own.anew(id)).await? {
            Some(record) => {
                let (answer, told) = oneshot::channel();
                open.send(Job::Anew { record, answer })?;
                told.await.map_err(|_| gone())?
            }
            None => Ok(()),
        }
    }

    /// Removes the outcomes of files that `is_known` does not know any more. Blocks.
    pub(super) fn sweep(&self, is_known: &mut dyn FnMut(FileId) -> Result<bool, Fault>) -> Result<(), Fault> {
        match self.if_open() {
            Some(open) => open.kept.sweep(is_known),
            None => Ok(()),
        }
    }
}

fn gone() -> QueueError {
    QueueError::Poisoned("the log of messages has ended".to_owned())
}

fn of_storage(error: StorageError) -> QueueError {
    match error {
        StorageError::Full => QueueError::Full,
        StorageError::Unsupported(what) => QueueError::Unreadable(what),
        StorageError::Io { doing, source } => QueueError::Io { doing, source },
        other => QueueError::Poisoned(format!("the log of messages: {other}")),
    }
}

impl OpenLog {
    fn open(disk: &Arc<dyn Disk>, dir: &std::path::Path) -> Result<Self> {
        let (mut files, mut unreadable) = (Files::default(), None);
        let options = LogOptions { segment_bytes: SEGMENT_BYTES, is_salted: true, ..LogOptions::default() };
        let (log, recovery) =
            Log::open(Arc::clone(disk), dir, options, 0, &mut |seq, bytes| match Record::decode(bytes) {
                Some(record) => files.apply(seq, &record, None),
                None => unreadable = Some(seq),
            })
            .map_err(of_storage)?;
        if let Some(seq) = unreadable {
            let text = format!("record {seq} of the log of messages cannot be read, or is a newer Forebay's");
            return Err(QueueError::Unreadable(text));
        }
        // What is unsettled nobody was told of: as if it had not been appended.
        files.is_damaged |= !recovery.lost.is_empty();
        let (files, reader) = (Arc::new(Mutex::new(files)), log.reader());
        let (jobs, waiting) = mpsc::channel();
        let own = Arc::clone(&files);
        let thread =
            std::thread::Builder::new().name("messages".into()).spawn(move || writer::run(log, &own, &waiting));
        let thread = thread.map_err(|source| QueueError::Io { doing: "cannot start a thread".to_owned(), source })?;
        let kept = Kept::new(disk, dir);
        Ok(Self { files, reader, kept, jobs: Mutex::new(Some(jobs)), thread: Mutex::new(Some(thread)) })
    }

    fn send(&self, job: Job) -> Result<()> {
        self.jobs.lock().as_ref().and_then(|jobs| jobs.send(job).ok()).ok_or_else(gone)
    }

    async fn write(&self, record: Record, token: Option<LeaseToken>) -> Result<()> {
        let (answer, told) = oneshot::channel();
        self.send(Job::Write { record, token, answer })?;
        told.await.map_err(|_| gone())?
    }

    /// Gives the outcomes of a file in order, those alike as one run, until `visit` has enough. In memory are those that came
    /// out of order.
    fn each_run(&self, id: FileId, visit: &mut dyn FnMut(MessageRun) -> Result<bool>) -> Result<()> {
        let Some(mut seq) = self.files.lock().get(id).map(|file| file.first_seq) else { return Ok(()) };
        let (mut waiting, mut next, mut last) = (BTreeMap::new(), 1, None::<MessageRun>);
        // Gives the run before, unless this one joins it.
        let mut give = |run: MessageRun, last: &mut Option<MessageRun>| {
            if last.as_mut().is_some_and(|before| before.join(&run)) {
                return Ok(true);
            }
            last.replace(run).map_or(Ok(true), &mut *visit)
        };
        loop {
            let records = self.reader.read_bytes(seq, READ_BYTES).map_err(of_storage)?;
            let Some((end, _)) = records.last() else { break };
            seq = end + 1;
            for (_, bytes) in &records {
                match Record::decode(bytes) {
                    Some(Record::Advanced(of, runs, ..) | Record::Anew(of, _, runs, ..)) if of == id => {
                        waiting.extend(runs.into_iter().map(|run| (run.first, run)));
                    }
                    _ => continue,
                }
                while let Some(run) = waiting.remove(&next) {
                    next = run.end();
                    if !give(run, &mut last)? {
                        return Ok(());
                    }
                }
            }
        }
        // Behind a message without an outcome.
        for run in waiting.into_values() {
            if !give(run, &mut last)? {
                return Ok(());
            }
        }
        last.map_or(Ok(()), |last| visit(last).map(drop))
    }

    /// All records of a file as one; none when that is too long. Blocks.
    fn anew(&self, id: FileId) -> Result<Option<Record>> {
        let found = self.files.lock().get(id).map(|file| (file.source, file.progress));
        let Some((source, progress)) = found else { return Ok(None) };
        let (mut runs, mut bytes) = (Vec::new(), 0);
        self.each_run(id, &mut |run| {
            bytes += encode_runs(std::slice::from_ref(&run)).len();
            runs.push(run);
            Ok(bytes < MOST_CARRIED)
        })?;
        Ok((bytes < MOST_CARRIED).then_some(Record::Anew(id, source, runs, progress.next, progress.offset)))
    }
}

impl Drop for OpenLog {
    fn drop(&mut self) {
        // The thread ends when nobody can ask it any more.
        drop(self.jobs.lock().take());
        if let Some(Err(_)) = self.thread.lock().take().map(JoinHandle::join) {
            tracing::error!("the thread of the log of messages panicked");
        }
    }
}

impl EmbeddedQueue {
    /// What the record of an attempt's end says of the file's messages.
    pub(super) async fn messages_at_end(&self, id: FileId, is_done: bool) -> Result<Option<Messages>> {
        if self.messages.progress(id).is_none() {
            return Ok(None);
        }
        let messages = Arc::clone(&self.messages);
        somewhere(move || messages.at_end(id, is_done)).await
    }

    /// What became of a file's messages, wherever that is kept.
    pub(super) async fn outcomes_of(&self, id: FileId, from: u64, limit: usize) -> Result<Vec<MessageRun>> {
        let messages = Arc::clone(&self.messages);
        if messages.progress(id).is_some() {
            return somewhere(move || messages.outcomes(id, from, limit)).await;
        }
        let Some(of_entry) = self.get(id).await?.messages else { return Ok(Vec::new()) };
        let Some(bytes) = of_entry.outcomes else {
            return somewhere(move || messages.kept_outcomes(id, from, limit)).await;
        };
        let damaged = || QueueError::Damaged { id, what: "what became of its messages cannot be read".to_owned() };
        let runs = record::decode_runs(&bytes).ok_or_else(damaged)?;
        Ok(runs.into_iter().filter(|run| run.end() > from).take(limit).collect())
    }

    /// Keeps the log short. What fails is tried again with the next file.
    pub(super) async fn tidy_messages(&self) {
        if let Err(error) = self.try_tidy_messages().await {
            tracing::warn!(%error, "the log of messages is not tidied");
        }
    }

    async fn try_tidy_messages(&self) -> Result<()> {
        let Some(oldest) = self.messages.retire().await? else { return Ok(()) };
        match self.between(move |committer| Ok(committer.is_leased(oldest))).await? {
            true => Ok(()),
            false => self.messages.write_anew(oldest).await,
        }
    }

    /// Removes what became of the messages of files that were purged.
    pub(super) async fn sweep_messages(&self) -> Result<()> {
        let messages = Arc::clone(&self.messages);
        self.read(move |_, index| messages.sweep(&mut |id| read::has_entry(index, id))).await
    }
}

/// Does this on a thread that may block.
async fn somewhere<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(|error| QueueError::Poisoned(error.to_string()))?
}
