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
    kept::Kept,
    record::{Record, bounded, encode_runs},
    state::Files,
};
use super::{EmbeddedQueue, index::Fault, read};
use crate::{LeaseToken, MessageRun, MessageSource, MessageState, Messages, Progress, QueueError, QueueStore, Result};

/// The size of a segment.
const SEGMENT_BYTES: u64 = 1 << 20;
/// No group has more records.
const MOST_GROUPED: usize = 256;
/// Beyond so many bytes of the log a file that is not at work is written anew at its end.
const CARRY_BEYOND: u64 = 8 * SEGMENT_BYTES;
/// What is read of the log at a time.
const READ_BYTES: usize = 256 << 10;
/// So much of what became of its messages goes with the record of a file's end.
const INLINE_BYTES: usize = 4 << 10;
/// A file is written anew if it takes less than this: a record takes a quarter of a segment at most.
const MOST_CARRIED: usize = 200 << 10;
/// Outcomes that are written together when they are kept.
const CHUNK_RUNS: usize = 64;

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

/// Something for the log's thread.
enum Job {
    Write {
        record: Record,
        token: Option<LeaseToken>,
        answer: oneshot::Sender<Result<()>>,
    },
    /// Gives up what nobody needs. Tells whether the oldest file should be written anew.
    Retire {
        answer: oneshot::Sender<Result<Option<FileId>>>,
    },
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
        tokio::task::spawn_blocking(move || own.opened())
            .await
            .map_err(|error| QueueError::Poisoned(error.to_string()))?
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
        let mut gathered = Gathered { runs: Vec::new(), bytes: 0, writer: None, kept: &open.kept, id };
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

    /// Gives up segments that nobody needs. `is_at_work` tells which files are not to be written anew.
    pub(super) async fn tidy(self: &Arc<Self>, is_at_work: impl Fn(FileId) -> bool) -> Result<()> {
        let Some(open) = self.if_open() else { return Ok(()) };
        let (answer, told) = oneshot::channel();
        open.send(Job::Retire { answer })?;
        let Some(oldest) = told.await.map_err(|_| gone())?? else { return Ok(()) };
        if is_at_work(oldest) {
            return Ok(());
        }
        let own = Arc::clone(&open);
        let gathered = tokio::task::spawn_blocking(move || own.anew(oldest));
        match gathered.await.map_err(|error| QueueError::Poisoned(error.to_string()))?? {
            Some(record) => open.write(record, None).await,
            // It keeps the segments that it has.
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
                Some(record) => files.replay(seq, record),
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
        let thread = std::thread::Builder::new().name("messages".into()).spawn(move || run(log, &own, &waiting));
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
                    if let Some(before) = merge(&mut last, run)
                        && !visit(before)?
                    {
                        return Ok(());
                    }
                }
            }
        }
        // Behind a message without an outcome.
        for run in waiting.into_values() {
            if let Some(before) = merge(&mut last, run)
                && !visit(before)?
            {
                return Ok(());
            }
        }
        last.map_or(Ok(()), |last| visit(last).map(drop))
    }

    /// All records of a file as one; none when that is too long. Blocks.
    fn anew(&self, id: FileId) -> Result<Option<Record>> {
        let found = {
            let files = self.files.lock();
            files.source(id).zip(files.get(id).map(|file| file.progress))
        };
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

/// Joins a run to the one before it if they are alike; otherwise gives that one.
fn merge(last: &mut Option<MessageRun>, run: MessageRun) -> Option<MessageRun> {
    match last {
        Some(before)
            if before.end() == run.first
                && before.result == run.result
                && before.detail.is_none()
                && run.detail.is_none() =>
        {
            before.count += run.count;
            None
        }
        _ => last.replace(run),
    }
}

/// The outcomes of a file that is over: in memory as long as they are short.
struct Gathered<'a> {
    runs: Vec<MessageRun>,
    bytes: usize,
    writer: Option<kept::Writer>,
    kept: &'a Kept,
    id: FileId,
}

impl Gathered<'_> {
    fn add(&mut self, run: MessageRun) -> Result<()> {
        self.bytes += encode_runs(std::slice::from_ref(&run)).len();
        self.runs.push(run);
        if self.writer.is_none() && self.bytes > INLINE_BYTES {
            self.writer = Some(self.kept.create(self.id)?);
        }
        match &mut self.writer {
            Some(writer) if self.runs.len() >= CHUNK_RUNS => writer.add(&std::mem::take(&mut self.runs)),
            _ => Ok(()),
        }
    }

    fn finish(self) -> Result<Option<Vec<u8>>> {
        match self.writer {
            None => Ok(Some(encode_runs(&self.runs))),
            Some(mut writer) => {
                writer.add(&self.runs)?;
                writer.finish().map(|()| None)
            }
        }
    }
}

/// Appends what waits, as one group, until nobody can ask any more.
fn run(mut log: Log, files: &Mutex<Files>, waiting: &mpsc::Receiver<Job>) {
    while let Ok(first) = waiting.recv() {
        let (mut group, mut other) = (Vec::new(), None);
        let mut next = Some(first);
        while let Some(job) = next.take() {
            match job {
                Job::Write { record, token, answer } => group.push((record, token, answer)),
                job => other = Some(job),
            }
            if other.is_none() && group.len() < MOST_GROUPED {
                next = waiting.try_recv().ok();
            }
        }
        write(&mut log, files, group);
        if let Some(Job::Retire { answer }) = other {
            let _ = answer.send(retire(&mut log, files));
        }
    }
}

type Waiting = (Record, Option<LeaseToken>, oneshot::Sender<Result<()>>);

fn write(log: &mut Log, files: &Mutex<Files>, group: Vec<Waiting>) {
    if group.is_empty() {
        return;
    }
    let bytes: Vec<_> = group.iter().map(|(record, ..)| record.encode()).collect();
    match log.append(&bytes) {
        Ok(seqs) => {
            // Before anyone is answered: whoever was finds what was answered.
            let mut files = files.lock();
            for (seq, (record, token, _)) in seqs.zip(&group) {
                files.apply(seq, record, *token);
            }
            drop(files);
            group.into_iter().for_each(|(.., answer)| drop(answer.send(Ok(()))));
        }
        Err(error) => {
            let full = matches!(error, StorageError::Full);
            let text = error.to_string();
            for (.., answer) in group {
                let error = if full { QueueError::Full } else { QueueError::Poisoned(text.clone()) };
                let _ = answer.send(Err(error));
            }
        }
    }
}

/// Gives up segments before the first record that is needed. Gives the oldest file when the log is long all the same.
fn retire(log: &mut Log, files: &Mutex<Files>) -> Result<Option<FileId>> {
    let (first, oldest) = {
        let files = files.lock();
        (files.first_seq().unwrap_or(log.next_seq()), files.oldest())
    };
    log.retire(first).map_err(of_storage)?;
    Ok(oldest.filter(|_| log.bytes() > CARRY_BEYOND))
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
        let active = self.between(|committer| Ok(committer.active())).await;
        let tidied = match active {
            Ok(active) => self.messages.tidy(|id| active.contains(&id)).await,
            Err(error) => Err(error),
        };
        if let Err(error) = tidied {
            tracing::warn!(%error, "the log of messages is not tidied");
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
