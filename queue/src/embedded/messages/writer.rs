//! The thread that writes the log of messages: it takes what waits, appends it as one group, and answers.

use std::sync::mpsc;

use forebay_storage::{FileId, StorageError, log::Log};
use parking_lot::Mutex;
use tokio::sync::oneshot;

use super::{of_storage, record::Record, state::Files};
use crate::{LeaseToken, QueueError, Result};

/// No group has more records.
const MOST_GROUPED: usize = 256;
/// Beyond so many bytes of the log a file that is not at work is written anew at its end.
const CARRY_BEYOND: u64 = 8 * super::SEGMENT_BYTES;

/// Something for the log's thread.
pub(super) enum Job {
    Write {
        record: Record,
        token: Option<LeaseToken>,
        answer: oneshot::Sender<Result<()>>,
    },
    /// Writes a file anew, if this record still says all that is known of it: outcomes that came since would be lost.
    Anew {
        record: Record,
        answer: oneshot::Sender<Result<()>>,
    },
    /// Gives up what nobody needs. Tells whether the oldest file should be written anew.
    Retire {
        answer: oneshot::Sender<Result<Option<FileId>>>,
    },
}

/// Appends what waits, as one group, until nobody can ask any more.
pub(super) fn run(mut log: Log, files: &Mutex<Files>, waiting: &mpsc::Receiver<Job>) {
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
        match other {
            Some(Job::Retire { answer }) => drop(answer.send(retire(&mut log, files))),
            // Only this thread changes what is known: between the look and the append nothing does.
            Some(Job::Anew { record, answer }) if files.lock().are_as_in(&record) => {
                write(&mut log, files, vec![(record, None, answer)]);
            }
            Some(Job::Anew { answer, .. }) => drop(answer.send(Ok(()))),
            Some(Job::Write { .. }) | None => {}
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
