//! The journal, readable.
//!
//! The audit trail is the journal itself and no copy of it: what is shown is what the state was
//! made of. It reaches back as far as the journal does (`[queue] keep_days`).

use chrono::{DateTime, Utc};
use forebay_queue::Fact;

use super::{
    answer::Answer,
    audit_text,
    operator::Operator,
    problem::{Problem, Result},
    reply::Reply,
};

/// Records that are read at a time.
const PAGE: usize = 500;

impl Operator {
    /// The journal's records, and with `follow` those that come.
    /// One [`Reply::Record`] for each, in the order of the journal. With `follow` it ends when the
    /// reader goes or the queue does.
    ///
    /// # Errors
    /// A usage problem when `since` is no time; a failure of the queue.
    pub(super) async fn audit(&self, since: Option<String>, follow: bool, answer: &Answer) -> Result<()> {
        let since = since.map(|text| self.past(&text)).transpose()?;
        // Looked at before the records: what comes in between wakes us.
        let mut changed = self.dependencies.queue.changed();
        let mut after = 0;
        loop {
            changed.borrow_and_update();
            after = self.tell_after(after, since, answer).await?;
            if !follow {
                return Ok(());
            }
            tokio::select! {
                () = answer.gone() => return Err(Problem::gone()),
                woken = changed.changed() => if woken.is_err() { return Ok(()) },
            }
        }
    }

    /// The sequence of the last record that was read, shown or not.
    async fn tell_after(&self, mut after: u64, since: Option<DateTime<Utc>>, answer: &Answer) -> Result<u64> {
        loop {
            let records = self.dependencies.queue.audit(after, PAGE).await?;
            let Some((last, _)) = records.last() else { return Ok(after) };
            // Before anything is left out: else a page of records that are not shown would be read
            // for ever.
            after = *last;
            for (seq, record) in &records {
                // What is carried over so that old segments can go is nothing that happened.
                let carried = matches!(record.fact, Fact::Carried { .. });
                if !carried && since.is_none_or(|since| record.at >= since) {
                    answer.give(Reply::Record(audit_text::view(*seq, record))).await?;
                }
            }
        }
    }
}
