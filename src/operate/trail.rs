//! The journal, readable.

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

    async fn tell_after(&self, mut after: u64, since: Option<DateTime<Utc>>, answer: &Answer) -> Result<u64> {
        loop {
            let records = self.dependencies.queue.audit(after, PAGE).await?;
            let Some((last, _)) = records.last() else { return Ok(after) };
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
