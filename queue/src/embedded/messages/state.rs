//! What the log of messages says of the files that are under way: in memory, made anew from the log at the start.

use std::collections::{BTreeSet, HashMap};

use forebay_storage::{FileId, log::Seq};

use super::record::Record;
use crate::{LeaseToken, MessageRun, MessageSource, MessageState, Progress, QueueError, Result, Tally};

/// No more messages may be ahead of the first without an outcome.
const MOST_AHEAD: usize = 4_096;

/// A file that is under way.
#[derive(Clone, Debug)]
pub(super) struct File {
    pub(super) source: MessageSource,
    pub(super) progress: Progress,
    ahead: BTreeSet<u64>,
    /// Who may note outcomes; nobody after a restart, until a new claim begins.
    token: Option<LeaseToken>,
    /// Its first record.
    pub(super) first_seq: Seq,
}

impl File {
    fn new(source: MessageSource, token: Option<LeaseToken>, first_seq: Seq) -> Self {
        let progress = Progress { messages: source.messages, next: 1, offset: 0, tally: Tally::default() };
        Self { source, progress, ahead: BTreeSet::new(), token, first_seq }
    }

    fn state(&self) -> MessageState {
        MessageState { progress: self.progress, ahead: self.ahead.iter().copied().collect() }
    }

    /// Adds outcomes. None when they are not what can follow.
    fn add(&mut self, runs: &[MessageRun], next: u64, offset: u64) -> Option<()> {
        for run in runs {
            if run.count == 0 || run.first < self.progress.next || run.end() > self.progress.messages + 1 {
                return None;
            }
            if self.ahead.range(run.first..run.end()).next().is_some() {
                return None;
            }
            if run.first == self.progress.next {
                self.progress.next = run.end();
            } else if run.count <= MOST_AHEAD as u64 {
                self.ahead.extend(run.first..run.end());
            } else {
                return None;
            }
            while self.ahead.first() == Some(&self.progress.next) {
                self.ahead.pop_first();
                self.progress.next += 1;
            }
            self.progress.tally.add(run);
        }
        if self.progress.next != next || offset < self.progress.offset || self.ahead.len() > MOST_AHEAD {
            return None;
        }
        self.progress.offset = offset;
        Some(())
    }
}

/// All files that are under way.
#[derive(Debug, Default)]
pub(super) struct Files {
    files: HashMap<FileId, File>,
    /// The log lost records: what it says of files that began before is not all.
    pub(super) is_damaged: bool,
}

impl Files {
    /// What follows from a record of the log, which is durable; `token` is the lease that began a file with it.
    pub(super) fn apply(&mut self, seq: Seq, record: &Record, token: Option<LeaseToken>) {
        match record {
            Record::Begun(id, source) => {
                self.files.insert(*id, File::new(*source, token, seq));
            }
            Record::Advanced(id, runs, next, offset) => {
                // Those of a file that is over may be left, when the segment with its beginning is gone.
                let Some(file) = self.files.get_mut(id) else { return };
                // Records behind a hole do not fit any more. Any other was tried before it was appended.
                self.is_damaged |= file.add(runs, *next, *offset).is_none();
            }
            Record::Ended(id) => self.remove(*id),
            Record::Anew(id, source, runs, next, offset) => {
                let token = self.files.get(id).and_then(|file| file.token);
                let mut file = File::new(*source, token, seq);
                self.is_damaged |= file.add(runs, *next, *offset).is_none();
                self.files.insert(*id, file);
            }
        }
    }

    /// Returns whether a record that writes a file anew says what is known of it.
    pub(super) fn are_as_in(&self, record: &Record) -> bool {
        let Record::Anew(id, source, runs, next, offset) = record else { return false };
        let mut file = File::new(*source, None, 0);
        let known = self.files.get(id).map(|file| (file.progress, &file.ahead));
        file.add(runs, *next, *offset).is_some() && known == Some((file.progress, &file.ahead))
    }

    pub(super) fn get(&self, id: FileId) -> Option<&File> {
        self.files.get(&id)
    }

    pub(super) fn ids(&self) -> Vec<FileId> {
        self.files.keys().copied().collect()
    }

    pub(super) fn remove(&mut self, id: FileId) {
        self.files.remove(&id);
    }

    /// The first record that is still needed.
    pub(super) fn first_seq(&self) -> Option<Seq> {
        self.files.values().map(|file| file.first_seq).min()
    }

    /// The file whose first record is the oldest.
    pub(super) fn oldest(&self) -> Option<FileId> {
        self.files.iter().min_by_key(|(_, file)| file.first_seq).map(|(id, _)| *id)
    }

    /// Begins a file for a lease, or lets that go on with it. With a record there is something to journal first.
    pub(super) fn begin(
        &mut self,
        id: FileId,
        token: LeaseToken,
        source: MessageSource,
        is_first: bool,
    ) -> Result<(MessageState, Option<Record>)> {
        if self.is_damaged && !is_first {
            let what = "the log of messages has lost records: which of its messages were handed over is not known";
            return Err(QueueError::Damaged { id, what: what.to_owned() });
        }
        match self.files.get_mut(&id) {
            Some(file) => {
                if file.source != source {
                    return Err(QueueError::OtherMessages(id));
                }
                file.token = Some(token);
                Ok((file.state(), None))
            }
            None => {
                let file = File::new(source, Some(token), 0);
                Ok((file.state(), Some(Record::Begun(id, source))))
            }
        }
    }

    /// The progress with these outcomes, if whoever gives them may.
    pub(super) fn try_advance(
        &self,
        token: LeaseToken,
        id: FileId,
        runs: &[MessageRun],
        next: u64,
        offset: u64,
    ) -> Result<Progress> {
        let file = self.files.get(&id).filter(|file| file.token == Some(token)).ok_or(QueueError::LeaseLost(id))?;
        let mut file = file.clone();
        match file.add(runs, next, offset) {
            Some(()) => Ok(file.progress),
            None => {
                Err(QueueError::Damaged { id, what: "outcomes of its messages do not follow each other".to_owned() })
            }
        }
    }
}
