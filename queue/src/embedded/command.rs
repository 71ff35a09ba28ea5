//! Requests to the committer. Each brings its own answer along, so that none can get an answer of another kind.
//!
//! The closure of a change runs on the committer's thread. The task that asks waits on the channel
//! that its command carries, and never blocks.

use std::sync::Arc;

use tokio::sync::oneshot;

use super::{batch::Batch, committer::Committer, index::Fault, mailbox::Mailbox, recover};
use crate::{QueueError, Result};

/// The way back to whoever asked.
pub(super) type Answer<T> = oneshot::Sender<Result<T>>;

/// A request.
pub(super) enum Command {
    /// A change, which is journalled together with others that wait.
    Change(Box<dyn Change>),
    /// Something that is done between two groups of changes, so that it sees what is durable and nothing else.
    Between(Box<dyn FnOnce(&mut Committer) + Send>),
}

/// A change that is checked, journalled and answered, in this order.
pub(super) trait Change: Send {
    /// Checks it against everything before it, and adds its records to the group. May be called again when the index
    /// turns out to be damaged, and was made anew.
    ///
    /// # Errors
    /// The index's fault; what the asker is to be told is kept for the answer.
    fn stage(&mut self, batch: &mut Batch<'_>) -> Result<(), String>;

    /// Whether it was refused, or could not be checked, when it was staged.
    fn has_failed(&self) -> bool;

    /// Notes that the journal did not take it. What was refused on its own account stays so.
    fn fail(&mut self, error: QueueError);

    /// Tells the asker what became of it.
    fn answer(self: Box<Self>);

    /// Where its answer goes together with others, if it does.
    fn mailbox(&self) -> Option<&Arc<Mailbox>>;

    /// Bytes that it brings along, by which a group is bounded.
    fn bytes(&self) -> usize;

    /// Whether there is a file's content among them.
    fn brings_content(&self) -> bool;
}

/// A change whose effect is a closure over the group.
pub(super) struct Staged<T, F> {
    stage: F,
    outcome: Option<Result<T>>,
    answer: Answer<T>,
    mailbox: Option<Arc<Mailbox>>,
    content_bytes: Option<usize>,
}

/// What a record counts for in the bound of a group, in bytes.
const RECORD_BYTES: usize = 512;

impl<T, F> Staged<T, F>
where
    T: Send + 'static,
    F: FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send + 'static,
{
    /// A command of whoever asks on this thread, and where its answer comes. It may bring a content of so many bytes.
    pub(super) fn command(stage: F, content_bytes: Option<usize>) -> (Command, oneshot::Receiver<Result<T>>) {
        let (answer, told) = oneshot::channel();
        let mailbox = Mailbox::here();
        (Command::Change(Box::new(Self { stage, outcome: None, answer, mailbox, content_bytes })), told)
    }
}

impl<T, F> Change for Staged<T, F>
where
    T: Send,
    F: FnMut(&mut Batch<'_>) -> Result<T, Fault> + Send,
{
    fn stage(&mut self, batch: &mut Batch<'_>) -> Result<(), String> {
        match (self.stage)(batch) {
            Ok(done) => self.outcome = Some(Ok(done)),
            Err(Fault::Queue(error)) => self.outcome = Some(Err(error)),
            Err(fault @ Fault::Disk(_)) => self.outcome = Some(Err(fault.into())),
            Err(Fault::Index(what)) => return Err(what),
        }
        Ok(())
    }

    fn has_failed(&self) -> bool {
        matches!(self.outcome, Some(Err(_)))
    }

    fn fail(&mut self, error: QueueError) {
        if !matches!(self.outcome, Some(Err(_))) {
            self.outcome = Some(Err(error));
        }
    }

    fn answer(self: Box<Self>) {
        let not_staged = || Err(recover::io("queue", std::io::Error::other("a change was not staged")));
        // Whoever asked may be gone; what was done stays done.
        let _ = self.answer.send(self.outcome.unwrap_or_else(not_staged));
    }

    fn mailbox(&self) -> Option<&Arc<Mailbox>> {
        self.mailbox.as_ref()
    }

    fn bytes(&self) -> usize {
        RECORD_BYTES + self.content_bytes.unwrap_or(0)
    }

    fn brings_content(&self) -> bool {
        self.content_bytes.is_some()
    }
}

/// The same error for another asker.
pub(super) fn again(error: &QueueError) -> QueueError {
    match error {
        QueueError::Full => QueueError::Full,
        QueueError::Poisoned(why) => QueueError::Poisoned(why.clone()),
        QueueError::Unknown(why) => QueueError::Unknown(why.clone()),
        other => recover::io("queue", std::io::Error::other(other.to_string())),
    }
}
