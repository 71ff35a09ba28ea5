//! Files that are handed over message by message: `[route.messages]`.
//!
//! A pass over the whole file comes first (`pass.rs`): nothing of a file is handed over whose envelopes say that it is cut.
//! Then its messages are found one by one (`units.rs`) and handed to the route's [`Sink`], each through the gate. What became
//! of them is durable in the queue's log of messages before more than `in_flight` are out (`ledger.rs`), so a crash, a
//! closure or a backend that is down goes on with the next message.
//!
//! # Guarantees
//! - A message is handed over at least once, and after a crash no more of them again than were unanswered.
//! - One bad message sinks nothing: it is refused, and the file is done when all its messages have an outcome.
//! - A message that always fails is told from a backend that is down; see `ledger.rs`.

mod ledger;
mod pass;
mod units;

use std::{future::pending, pin::Pin, sync::Arc, time::Duration};

use async_trait::async_trait;
use chrono::DateTime;
use forebay_queue::{MessageSource, MessageState, QueueError, QueueStore};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use tokio::time;
use tracing::warn;

use self::{
    ledger::{Group, Ledger},
    units::Messages,
};
use super::{
    Item, Outcome, Processor, Report, Sink, Work,
    sink::{Message, cannot_place},
};
use crate::{
    clock::Clock,
    contents::{Contents, OpenContent},
    routes::{MessageOptions, Retry},
};

/// The time between two tries to make outcomes durable while there is no room for them.
const NOTE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// The processor of a route that hands files over message by message.
pub(super) struct MessageByMessage {
    pub(super) sink: Arc<dyn Sink>,
    pub(super) contents: Contents,
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: MessageOptions,
    pub(super) retry: Retry,
    pub(super) pause_after: u32,
}

#[async_trait]
impl Processor for MessageByMessage {
    async fn process(&self, work: &Arc<Work>) -> Report {
        match self.hand_over(work).await {
            Ok(report) => report,
            Err(outcome) => outcome.into(),
        }
    }
}

impl MessageByMessage {
    async fn hand_over(&self, work: &Arc<Work>) -> Result<Report, Outcome> {
        let content = self.contents.open(work.entry.id).await.map_err(|error| cannot_place(&error))?;
        let state = self.begin(work, &content).await?;
        let ledger = Ledger::new(&state, &self.options, self.pause_after);
        let messages = Messages::read(&content, state.progress.next, state.ahead, &self.options);
        let outcome = self.drive(work, ledger, messages).await;
        let output = match self.queue.progress(work.entry.id).await {
            Ok(Some(progress)) => progress.to_string(),
            _ => String::new(),
        };
        Ok(Report { outcome, output })
    }

    /// Where the file stands, after the pass over the whole of it if nothing of it was handed over yet.
    async fn begin(&self, work: &Work, content: &OpenContent) -> Result<MessageState, Outcome> {
        let entry = &work.entry;
        // What was judged once is not judged again: an operator who releases a file wants it handed over.
        let (source, verdict) = match self.queue.under_way(entry.id) {
            Some(progress) => (MessageSource { messages: progress.messages, sha256: entry.sha256 }, None),
            None => {
                let passed = pass::pass(content, entry, &self.options, &work.stop).await?;
                for warning in &passed.warnings {
                    warn!(file.id = %entry.id, partner = entry.partner, warning, "a file has a fault");
                }
                (passed.source, passed.verdict)
            }
        };
        if let Some(refused @ Outcome::Quarantine { .. }) = verdict {
            return Err(refused);
        }
        let begun = self.queue.begin_messages(work.token, entry.id, source).await;
        let state = begun.map_err(|error| not_noted(&error))?;
        match verdict {
            Some(held) => Err(held),
            None => Ok(state),
        }
    }

    /// Hands over what has no outcome yet, until all have one or something ends it. What has begun is waited for, and its
    /// outcome made durable, whatever ends it.
    async fn drive(&self, work: &Arc<Work>, mut ledger: Ledger, mut messages: Messages) -> Outcome {
        let mut running = FuturesUnordered::new();
        let mut noting = None;
        // Nothing more is handed over once something ends it, and nothing more is noted once that failed.
        let (mut ending, mut can_note, mut all_found) = (None, true, false);
        loop {
            while ending.is_none()
                && let Some(message) = ledger.begin(self.clock.elapsed())
            {
                running.push(self.take(work, message));
            }
            if noting.is_none() && can_note {
                noting = ledger.take_outcomes().map(|group| Box::pin(self.note(work, group)));
            }
            let is_idle = running.is_empty() && noting.is_none();
            match &ending {
                Some(_) if is_idle => break,
                None if is_idle && all_found && !ledger.has_more() => return ledger.end(),
                _ => {}
            }
            let due = ledger.due().filter(|_| ending.is_none()).map(|due| due.saturating_sub(self.clock.elapsed()));
            tokio::select! {
                Some((ordinal, report)) = running.next() => {
                    let end = ledger.answered(ordinal, report, self.clock.elapsed(), |attempt| self.again_after(attempt));
                    ending = ending.or(end);
                }
                noted = if_any(&mut noting) => {
                    noting = None;
                    match noted {
                        Ok(()) => ledger.noted(),
                        Err(outcome) => (ending, can_note) = (Some(outcome), false),
                    }
                }
                found = messages.next(), if ending.is_none() && !all_found && ledger.wants_more() => match found {
                    Ok(Some(found)) => ledger.take(found),
                    Ok(None) => all_found = true,
                    Err(outcome) => ending = Some(outcome),
                },
                () = until(due) => {}
                () = work.stop.asked(), if ending.is_none() => {
                    ending = Some(Outcome::Stopped { reason: work.stop.why().to_owned() });
                }
            }
        }
        ending.unwrap_or_else(Outcome::gate_closed)
    }

    async fn take(&self, work: &Arc<Work>, message: Message) -> (u64, Report) {
        (message.ordinal, self.sink.take(work, Item::Message(message)).await)
    }

    /// Makes outcomes durable, as soon as there is room for them.
    async fn note(&self, work: &Work, group: Group) -> Result<(), Outcome> {
        let Group { runs, next, offset } = group;
        let mut is_told = false;
        loop {
            let error = match self.queue.advance(work.token, work.entry.id, runs.clone(), next, offset).await {
                Ok(_) => return Ok(()),
                Err(error @ QueueError::Full) => error,
                Err(error) => return Err(not_noted(&error)),
            };
            if !is_told {
                warn!(file.id = %work.entry.id, %error, "cannot note what became of messages: nothing more of the file is handed over until there is room");
                is_told = true;
            }
            tokio::select! {
                () = time::sleep(NOTE_RETRY_AFTER) => {}
                () = work.stop.asked() => return Err(Outcome::Stopped { reason: work.stop.why().to_owned() }),
            }
        }
    }

    /// The wait before a message is tried again that has failed so often.
    fn again_after(&self, attempt: u32) -> Duration {
        let start = DateTime::UNIX_EPOCH;
        let due = self.retry.backoff().next(attempt, None, start, None, &mut rand::rng());
        due.and_then(|due| (due - start).to_std().ok()).unwrap_or_default()
    }
}

/// What follows when the queue does not take what became of messages.
fn not_noted(error: &QueueError) -> Outcome {
    let reason = format!("cannot note what became of its messages: {error}");
    match error {
        // Somebody must look: messages could be handed over twice.
        QueueError::OtherMessages(_) | QueueError::Damaged { .. } => Outcome::Hold { reason },
        QueueError::LeaseLost(_) | QueueError::NotFound(_) => Outcome::Stopped { reason },
        _ => Outcome::BackendDown { reason },
    }
}

/// Waits for what is there; for ever if nothing is. Cancel safe.
async fn if_any<T>(future: &mut Option<Pin<Box<impl Future<Output = T>>>>) -> T {
    match future {
        Some(future) => future.await,
        None => pending().await,
    }
}

/// Waits so long; for ever if there is no such time. Cancel safe.
async fn until(due: Option<Duration>) {
    match due {
        Some(due) => time::sleep(due).await,
        None => pending().await,
    }
}
