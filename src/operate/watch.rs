//! The queue, live.
//!
//! A subscription to the journal's sequence, not to events: a reader that is slow gets every
//! entry's latest state and not each step, and what it costs does not grow with the backlog.

use std::time::Duration;

use tokio::time::MissedTickBehavior;

use super::{
    answer::Answer,
    operator::Operator,
    problem::{Problem, Result},
    reply::Reply,
};

/// Changes that are read at a time.
const PAGE: usize = 500;

impl Operator {
    /// Changes as they happen, and how things stand each second.
    /// [`Reply::Change`]s and [`Reply::Pulse`]s until the reader goes or the queue does.
    pub(super) async fn queue_watch(&self, answer: &Answer) -> Result<()> {
        let queue = &self.dependencies.queue;
        // Interest is registered before the queue is read, so that no change is lost in between.
        let mut changed = queue.changed();
        let mut after = queue.stats(self.now()).await?.last_seq;
        let mut second = tokio::time::interval(Duration::from_secs(1));
        // A reader that was behind for a minute wants one pulse, not sixty.
        second.set_missed_tick_behavior(MissedTickBehavior::Skip);
        loop {
            tokio::select! {
                () = answer.gone() => return Err(Problem::gone()),
                _ = second.tick() => answer.give(Reply::Pulse(self.pulse().await?)).await?,
                woken = changed.changed() => {
                    if woken.is_err() {
                        return Ok(());
                    }
                    changed.borrow_and_update();
                    after = self.tell_changes(after, answer).await?;
                }
            }
        }
    }

    /// Pages until there are no more; returns the sequence up to which all was sent.
    async fn tell_changes(&self, mut after: u64, answer: &Answer) -> Result<u64> {
        loop {
            let entries = self.dependencies.queue.changes(after, PAGE).await?;
            let Some(last) = entries.last() else { return Ok(after) };
            after = last.changed_seq;
            for entry in &entries {
                answer.give(Reply::Change(self.view(entry))).await?;
            }
        }
    }
}
