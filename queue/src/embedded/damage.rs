//! What follows from records that damage took from the journal.
//!
//! # Guarantees
//! No file is processed again whose outcome may be among what was lost: it is `held`. What the index had applied is written
//! to the journal again. A file whose acceptance is lost and whose bytes are in a pack is in the queue again, `held`. That a
//! loss has been dealt with is journalled last, so that a crash in between begins anew.

use std::ops::ControlFlow;

use chrono::{DateTime, Utc};
use forebay_storage::journal::{Journal, JournalReader};

use super::{
    batch::Batch,
    entry_codec::Stored,
    index::{Fault, Index},
    keys, read, record_codec,
    recover::{CHUNK, each_entry, journal_error},
    state::{QueueState, damage_text},
    waiting::Waiting,
};
use crate::{Actor, Entry, Fact, Hold, Inline, NodeId, Record, State, Watch};

/// What is known of the records that damage took.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Knowledge {
    /// The index had applied them all.
    Index,
    Nothing,
    /// They were part of the last append before a crash, which no one was told of.
    NeverAcknowledged,
}

pub(super) fn knowledge((_, next): (u64, u64), applied: u64) -> Knowledge {
    if applied + 1 >= next { Knowledge::Index } else { Knowledge::Nothing }
}

/// After an index was made anew from the journal: what follows from damage, also from that before the journal's first record.
pub(super) fn after_replay(
    gaps: &[(u64, u64)],
    first: u64,
    journal: &mut Journal,
    index: &Index,
    state: &mut QueueState,
    watch: &Watch,
) -> Result<(), Fault> {
    for gap in gaps {
        if index.get(&keys::damage(gap.0, gap.1))?.is_none() {
            deal_with(*gap, Knowledge::Nothing, journal, index, state, watch)?;
        }
    }
    // What was given up in good order has left nothing behind but what was carried on.
    adopt_contents((0, first), journal, index, state).map(drop)
}

/// Journals what follows from a loss, and that it has been dealt with. Stopped by `watch` it leaves the rest to the next
/// start.
pub(super) fn deal_with(
    gap: (u64, u64),
    known: Knowledge,
    journal: &mut Journal,
    index: &Index,
    state: &mut QueueState,
    watch: &Watch,
) -> Result<(), Fault> {
    let at = state.meta.newest_at.unwrap_or(DateTime::UNIX_EPOCH);
    let mut entries = Vec::new();
    let reader = journal.reader();
    each_entry(index, |stored| {
        let is_wanted = match known {
            Knowledge::Index => stored.seqs.iter().any(|seq| (gap.0..gap.1).contains(seq)),
            Knowledge::Nothing => !stored.entry.state.is_settled() && !is_vouched_for(&reader, &stored, gap)?,
            Knowledge::NeverAcknowledged => false,
        };
        if is_wanted {
            entries.push(stored.entry);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    let (mut done, total) = (0, entries.len() as u64);
    for chunk in entries.chunks(CHUNK) {
        watch.at(done, total)?;
        done += chunk.len() as u64;
        commit(journal, index, state, |batch| {
            for entry in chunk {
                let record = after_loss(batch, entry, gap, known, at)?;
                batch.write(&record)?;
            }
            Ok(())
        })?;
    }
    let text = damage_text(gap.0, gap.1);
    let adopted = adopt_contents(gap, journal, index, state)?;
    tracing::warn!(files = entries.len(), adopted, "journal: {text}");
    commit(journal, index, state, |batch| {
        let fact = Fact::Damaged { first: gap.0, next: gap.1 };
        batch.write(&Record { at, actor: Actor::Server, id: None, fact }).map(|_| ())
    })
}

/// Whether a record behind the gap says in which state the file is. Some say nothing of that: the outcome may be lost all
/// the same.
fn is_vouched_for(journal: &JournalReader, stored: &Stored, gap: (u64, u64)) -> Result<bool, Fault> {
    for seq in stored.seqs.iter().rev().filter(|seq| **seq >= gap.1) {
        let records = journal.read(*seq, 1).map_err(journal_error)?;
        let Some((_, bytes)) = records.first().filter(|(found, _)| found == seq) else { continue };
        if record_codec::decode(*seq, bytes)?.fact.tells_state() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Files whose acceptance is lost, and whose bytes are in a pack with a copy of its record, are in the queue again, held.
/// Gives how many.
pub(super) fn adopt_contents(
    gap: (u64, u64),
    journal: &mut Journal,
    index: &Index,
    state: &mut QueueState,
) -> Result<usize, Fault> {
    let mut lost = Vec::new();
    for (seq, bytes) in journal.reader().packed_records(gap.0..gap.1).map_err(journal_error)? {
        let mut record = record_codec::decode(seq, &bytes)?;
        let Some(id) = record.id else { continue };
        // It is known by what was journalled later, or was purged.
        let is_known = match read::knows(index, id)? {
            Some(knows) => knows,
            None => read::purged_long_ago(&journal.reader(), id)?,
        };
        if is_known || state.stored(index, id)?.is_some() {
            continue;
        }
        if let Fact::Accepted { state, reason, hold, inline, supersedes, claimable_from, .. } = &mut record.fact {
            *reason = Some(format!("{}: what became of this file is not known", damage_text(gap.0, gap.1)));
            (*state, *hold, *inline) = (State::Held, Some(Hold::JournalDamage), Some(Inline::With(seq)));
            (*supersedes, *claimable_from) = (None, None);
            lost.push(record);
        }
    }
    for chunk in lost.chunks(CHUNK) {
        commit(journal, index, state, |batch| chunk.iter().try_for_each(|record| batch.write(record).map(drop)))?;
    }
    Ok(lost.len())
}

/// What the index knows is written again; a file whose outcome may have been lost waits for an operator.
fn after_loss(
    batch: &Batch<'_>,
    entry: &Entry,
    gap: (u64, u64),
    known: Knowledge,
    at: DateTime<Utc>,
) -> Result<Record, Fault> {
    let reason = Some(format!("{}: what became of this file is not known", damage_text(gap.0, gap.1)));
    let fact = match (known, entry.state) {
        (Knowledge::Index, _) => Fact::Carried { entry: Box::new(entry.clone()), shown: batch.shown(entry.id)? },
        (_, State::Active) => Fact::Ended {
            state: State::Held,
            counted: false,
            due_at: None,
            reason,
            output: String::new(),
            messages: None,
        },
        _ => Fact::Held { reason, hold: Some(Hold::JournalDamage) },
    };
    Ok(Record { at, actor: Actor::Server, id: Some(entry.id), fact })
}

impl State {
    /// Whether no processor may get it without an operator.
    fn is_settled(self) -> bool {
        !matches!(self, Self::Ready | Self::Retrying | Self::Active)
    }
}

/// One group of records, before the committer runs.
fn commit(
    journal: &mut Journal,
    index: &Index,
    state: &mut QueueState,
    write: impl FnOnce(&mut Batch<'_>) -> Result<(), Fault>,
) -> Result<(), Fault> {
    let next = journal.next_seq();
    let waiting = Waiting::default();
    let most_record = journal.most_record_bytes();
    let node = NodeId::local();
    let mut batch = Batch { state, index, waiting: &waiting, node: &node, records: Vec::new(), next, most_record };
    write(&mut batch)?;
    let records = batch.records;
    journal.append(&records).map_err(journal_error)?;
    // Journal, then index: an index ahead of its journal is thrown away at the next opening
    // (`belongs`).
    index.apply(state.take_batch())
}
