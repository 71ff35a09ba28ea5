//! Giving up old segments of the journal: what is still needed of them is written again first.
//!
//! `cutoff` finds how far, `resting_on` which entries would be lost. Both only read; `upkeep` acts.

use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use forebay_storage::{FileId, journal::JournalReader};

use super::{
    index::{Fault, Index},
    record_codec,
    recover::{each_entry, journal_error},
};
use crate::Result;

/// Returns the first record that is not older than `limit`, and `None` when there is nothing before
/// it. By bisection: a clock that was set back makes this a little early or late, and no harm comes
/// of either, because what is live is written again first.
pub(super) fn cutoff(journal: &JournalReader, limit: DateTime<Utc>) -> Result<Option<u64>> {
    let (first, mut high) = (journal.first_seq(), journal.next_seq());
    let mut low = first;
    while low < high {
        let middle = low + (high - low) / 2;
        match journal.read(middle, 1).map_err(journal_error)?.first() {
            Some((seq, bytes)) if record_codec::decode(*seq, bytes)?.at < limit => low = seq + 1,
            _ => high = middle,
        }
    }
    Ok((low > first).then_some(low))
}

/// Entries that could not be replayed without the records before `cutoff`.
pub(super) fn resting_on(index: &Index, cutoff: u64) -> Result<Vec<FileId>, Fault> {
    let mut ids = Vec::new();
    each_entry(index, |stored| {
        if stored.basis < cutoff {
            ids.push(stored.entry.id);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ids)
}
