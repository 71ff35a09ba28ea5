//! Opening the queue, and rebuilding its index.
//!
//! The order when it is opened:
//!
//! 1. the index, whose lock keeps a second process away from the journal as well;
//! 2. the journal, and whether the index belongs to it;
//! 3. the records that the index lacks are replayed;
//! 4. damage is dealt with: files whose outcome may be in lost records become held, and files whose
//!    acceptance is lost but whose bytes are in a pack are accepted again, held;
//! 5. the mark "unfinished" is cleared, and all leases are void.
//!
//! A stop or crash in between leaves an index that is right up to some record, and the next opening
//! goes on there. Runs before the committer starts, or on its thread.

use std::{io, ops::ControlFlow, path::Path, sync::Arc, time::Duration};

use forebay_storage::{
    FileId, StorageError,
    disk::Disk,
    journal::{Journal, JournalOptions, JournalReader},
    log::Recovery,
};

use super::{
    Options,
    damage::{Knowledge, adopt_contents, deal_with, knowledge},
    entry_codec::Stored,
    index::{Fault, Index, Slice},
    index_dir::{Old, beside, compact, fresh_index, make_dir},
    keys,
    layered::Changes,
    meta::Meta,
    record_codec,
    state::{QueueState, Take},
};
use crate::{Entry, Fact, QueueError, Record, Recovered, Result, Watch};

/// Records that are read, and applied as one batch, at a time. Batches that are larger take sled no less time, and twice
/// the memory.
pub(super) const CHUNK: usize = 2_048;

/// The time between two tries to open what is being closed.
const STEP: Duration = Duration::from_millis(5);

/// No more faults are told one by one.
const MOST_FAULTS: usize = 100;

/// An open journal with an index that agrees with it.
pub(super) struct Opened {
    pub(super) journal: Journal,
    pub(super) index: Index,
    pub(super) state: QueueState,
    pub(super) recovered: Recovered,
}

/// Opens journal and index and makes them agree.
pub(super) fn open(
    disk: Arc<dyn Disk>,
    journal_dir: &Path,
    dir: &Path,
    options: &Options,
    watch: &Watch,
) -> Result<Opened> {
    // The index first: its lock keeps a second process away from the journal.
    let found = match open_index(dir, options.cache_bytes) {
        Err(Fault::Queue(error)) => return Err(error),
        found => found,
    };
    let applied = found.as_ref().ok().and_then(Option::as_ref).map_or(0, |(_, state)| state.meta.applied);
    let (journal, recovery) = open_journal(disk, journal_dir, options, applied + 1)?;
    let found = found.and_then(|found| match found {
        Some((index, state)) => {
            belongs(&index, &state, &journal.reader(), recovery.first, recovery.next).map(|()| Some((index, state)))
        }
        None => Ok(None),
    });
    let mut recovered = Recovered { torn_bytes: recovery.torn_bytes, ..Recovered::default() };
    let (index, state) = found_or_fresh(found, dir, options, &mut recovered)?;
    recovered.set_aside.extend(recovery.set_aside.iter().cloned());
    let mut opened = Opened { journal, index, state, recovered };
    let caught_up = opened.catch_up(recovery.first, watch)?;
    opened.give_room_back(dir, options, watch)?;
    // Before damage is dealt with: that may turn active entries to held, which drops their lease
    // and with it the process group that `recover_children` has to stop.
    opened.recovered.interrupted = active(&opened.index, &opened.state)?;
    opened.deal_with_losses(&caught_up, &recovery, watch)?;
    if caught_up.is_new {
        adopt_contents((0, recovery.first), &mut opened.journal, &opened.index, &mut opened.state)?;
        end_anew(&opened.index)?;
    }
    opened.state.lanes.void_leases();
    Ok(opened)
}

/// Opens the journal. A newer version's is left alone, and so is its index.
fn open_journal(disk: Arc<dyn Disk>, dir: &Path, options: &Options, from: u64) -> Result<(Journal, Recovery)> {
    let layout = JournalOptions {
        segment_bytes: options.segment_bytes,
        recent_segment_bytes: options.recent_bytes / 4,
        recent_bytes: options.recent_bytes,
    };
    let (journal, recovery) = Journal::open(disk, dir, layout, from).map_err(journal_error)?;
    let last = journal.reader().read(recovery.next.saturating_sub(1), 1).map_err(journal_error)?;
    if let Some((seq, bytes)) = last.last() {
        record_codec::decode(*seq, bytes)?;
    }
    Ok((journal, recovery))
}

/// The index that was found, or an empty one in its place.
fn found_or_fresh(
    found: Result<Option<(Index, QueueState)>, Fault>,
    dir: &Path,
    options: &Options,
    recovered: &mut Recovered,
) -> Result<(Index, QueueState), Fault> {
    let index = match found {
        Ok(Some(found)) => return Ok(found),
        Ok(None) => {
            tracing::info!("the index of the queue is of another format, and is made anew from the journal");
            recovered.rebuilt = true;
            fresh_index(dir, options.cache_bytes, Old::Remove)?.0
        }
        // It is as good as it was, and cannot be opened without some room; what it says is in the journal too.
        Err(Fault::Disk(error)) => in_memory(dir, &error),
        Err(fault) => {
            tracing::warn!(reason = %QueueError::from(fault), "the index of the queue is made anew from the journal");
            recovered.rebuilt = true;
            let (index, aside) = fresh_index(dir, options.cache_bytes, Old::Keep)?;
            recovered.set_aside.extend(aside);
            index
        }
    };
    Ok((index, QueueState::default()))
}

/// What is known after the index has caught up with the journal.
struct CaughtUp {
    /// The index was made from this journal, now or in part by an opening that was cut.
    is_new: bool,
    /// The last record that the index had applied before; an index that was made from the journal knows nothing that the
    /// journal has lost, so 0.
    known: u64,
    gaps: Vec<(u64, u64)>,
}

impl Opened {
    /// Applies the records that the index lacks.
    fn catch_up(&mut self, first: u64, watch: &Watch) -> Result<CaughtUp, Fault> {
        let applied = self.state.meta.applied;
        // sled may also come up empty from a damaged file.
        if applied == 0 {
            begin_anew(&self.index)?;
        }
        let is_new = is_unfinished(&self.index)?;
        let from = if applied == 0 { first } else { applied + 1 };
        let mut replay = Replay::default();
        let reader = self.journal.reader();
        replay.run(&mut self.state, &self.index, &reader, from, &mut |done, total| watch.at(done, total))?;
        let recovered = &mut self.recovered;
        recovered.replayed = replay.records;
        recovered.rebuilt |= is_new && replay.records > 0 && !self.index.is_in_memory();
        recovered.faults = replay.faults;
        recovered.newest_at = self.state.meta.newest_at;
        Ok(CaughtUp { is_new, known: if is_new { 0 } else { applied }, gaps: replay.gaps })
    }

    /// Makes an index smaller that takes much more than what is in it.
    fn give_room_back(&mut self, dir: &Path, options: &Options, watch: &Watch) -> Result<(), Fault> {
        let fair = self.state.meta.entries.saturating_mul(3 << 10).saturating_add(64 << 20);
        if self.index.size_on_disk()? <= fair {
            return Ok(());
        }
        let grown = std::mem::replace(&mut self.index, Index::in_memory(dir));
        let (index, was_copied) = compact(grown, dir, options.cache_bytes, watch)?;
        self.index = index;
        self.recovered.rebuilt |= was_copied;
        self.state = QueueState::load(&self.index)?;
        Ok(())
    }

    /// Deals with the damage that nobody has dealt with yet.
    fn deal_with_losses(&mut self, caught_up: &CaughtUp, recovery: &Recovery, watch: &Watch) -> Result<(), Fault> {
        let mut gaps = caught_up.gaps.clone();
        for lost in &recovery.lost {
            if !gaps.iter().any(|gap| gap.0 < lost.end && lost.start < gap.1) {
                gaps.push((lost.start, lost.end));
            }
        }
        for gap in gaps {
            if self.index.get(&keys::damage(gap.0, gap.1))?.is_some() {
                continue;
            }
            let knowledge = if recovery.unsettled.iter().any(|lost| lost.start <= gap.0 && gap.1 <= lost.end) {
                Knowledge::NeverAcknowledged
            } else {
                self.recovered.lost_records += gap.1 - gap.0;
                knowledge(gap, caught_up.known)
            };
            deal_with(gap, knowledge, &mut self.journal, &self.index, &mut self.state, watch)?;
        }
        Ok(())
    }
}

/// None: it is of another format.
fn open_index(dir: &Path, cache_bytes: u64) -> Result<Option<(Index, QueueState)>, Fault> {
    let _ = std::fs::remove_dir_all(beside(dir, "new"));
    let _ = std::fs::remove_dir_all(beside(dir, "old"));
    make_dir(dir)?;
    let index = Index::open(dir, cache_bytes)?;
    if index.get(keys::META)?.is_some_and(|meta| Meta::is_of_another_format(&meta)) {
        return Ok(None);
    }
    let state = QueueState::load(&index).and_then(|state| state.cross_check(&index).map(|()| state))?;
    Ok(Some((index, state)))
}

/// Notes in an empty index that it is being made from the journal. A crash or a stop leaves it at some record, with all
/// before that; what damage took is dealt with when it is whole.
pub(super) fn begin_anew(index: &Index) -> Result<(), Fault> {
    index.apply(Changes::from([(keys::UNFINISHED.into(), Some(Slice::default()))]))
}

/// The index is whole, and damage has been dealt with.
pub(super) fn end_anew(index: &Index) -> Result<(), Fault> {
    index.apply(Changes::from([(keys::UNFINISHED.into(), None)]))
}

fn is_unfinished(index: &Index) -> Result<bool, Fault> {
    Ok(index.get(keys::UNFINISHED)?.is_some())
}

/// Whether this index is one of this journal.
fn belongs(index: &Index, state: &QueueState, journal: &JournalReader, first: u64, next: u64) -> Result<(), Fault> {
    let applied = state.meta.applied;
    if applied >= next {
        return Err(Fault::Index(format!("it is at record {applied}, ahead of the journal's {}", next - 1)));
    }
    if applied + 1 < first && !(applied == 0 && state.meta.entries == 0) {
        return Err(Fault::Index(format!("it is at record {applied}, and the journal begins at {first}")));
    }
    let records = if applied == 0 { Vec::new() } else { journal.read(applied, 1).map_err(journal_error)? };
    let Some((seq, bytes)) = records.first().filter(|(seq, _)| *seq == applied) else { return Ok(()) };
    let record = record_codec::decode(*seq, bytes)?;
    let Some(id) = record.id else { return Ok(()) };
    // Other entries may have followed the record as well; its own says enough.
    let changed = state.stored(index, id)?.map(|stored| stored.entry.changed_seq);
    if changed == Some(applied) || (changed.is_none() && matches!(record.fact, Fact::Purged)) {
        return Ok(());
    }
    // A record about a file whose acceptance is gone leaves no entry.
    if changed.is_none() && !matches!(record.fact, Fact::Accepted { .. } | Fact::Carried { .. }) {
        return Ok(());
    }
    Err(Fault::Index(format!("its entry of file {id} is not what record {applied} says")))
}

/// An empty index in memory, for as long as none can be opened in `dir`.
pub(super) fn in_memory(dir: &Path, error: &io::Error) -> Index {
    tracing::warn!(%error, "the index of the queue cannot be opened, and is kept in memory until it can");
    Index::in_memory(dir)
}

/// Opens an index again that the disk had failed, and brings it up to the journal.
///
/// # Errors
/// [`Fault::Disk`] when the disk still fails it, and [`Fault::Index`] when it has to be made anew.
pub(super) fn reopened(dir: &Path, cache_bytes: u64, journal: &JournalReader) -> Result<(Index, QueueState), Fault> {
    let of_another_format = || Fault::Index("it is of another format".into());
    let found = loop {
        match open_index(dir, cache_bytes) {
            // The one before was closed a moment ago, and its threads have the lock a little longer.
            Err(Fault::Queue(QueueError::Locked(_))) => std::thread::sleep(STEP),
            found => break found?,
        }
    };
    let (index, mut state) = found.ok_or_else(of_another_format)?;
    belongs(&index, &state, journal, journal.first_seq(), journal.next_seq())?;
    let next = state.meta.applied + 1;
    let mut replay = Replay::default();
    replay.run(&mut state, &index, journal, next, &mut |_, _| Ok(()))?;
    match replay.gaps.is_empty() {
        true => Ok((index, state)),
        false => Err(Fault::Index("damage has taken records that it does not know".into())),
    }
}

/// Applies the journal to the index.
#[derive(Debug, Default)]
pub(super) struct Replay {
    pub(super) records: u64,
    pub(super) faults: Vec<String>,
    /// First and next sequence of each stretch that is missing.
    pub(super) gaps: Vec<(u64, u64)>,
}

impl Replay {
    /// Applies every record from `from` on. An error of `progress` ends it at a record up to which the index is whole.
    pub(super) fn run(
        &mut self,
        state: &mut QueueState,
        index: &Index,
        journal: &JournalReader,
        from: u64,
        progress: &mut dyn FnMut(u64, u64) -> Result<()>,
    ) -> Result<(), Fault> {
        let end = journal.next_seq();
        // What an old segment said of a file is gone with it; that is no fault.
        let whole = journal.first_seq() <= 1;
        let mut next = from.max(1);
        while next < end {
            let records = journal.read(next, CHUNK).map_err(journal_error)?;
            if records.is_empty() {
                self.gaps.push((next, end));
                break;
            }
            for (seq, bytes) in records {
                if seq > next {
                    self.gaps.push((next, seq));
                }
                self.take(state, index, seq, &record_codec::decode(seq, &bytes)?, whole)?;
                next = seq + 1;
            }
            index.apply(state.take_batch())?;
            progress(next - from.min(next), end - from.min(end))?;
        }
        Ok(())
    }

    fn take(
        &mut self,
        state: &mut QueueState,
        index: &Index,
        seq: u64,
        record: &Record,
        whole: bool,
    ) -> Result<(), Fault> {
        self.records += 1;
        let error = match state.apply(index, seq, record, Take::Checked) {
            Ok(_) => return Ok(()),
            Err(Fault::Queue(error)) => error,
            Err(fault) => return Err(fault),
        };
        // It is in the journal, so it happened; but why it was possible wants to be known.
        let expected = !self.gaps.is_empty() || (!whole && matches!(error, QueueError::NotFound(_)));
        if !expected && self.faults.len() < MOST_FAULTS {
            self.faults.push(format!("journal record {seq} does not follow: {error}"));
        }
        state.apply(index, seq, record, Take::Follow)?;
        Ok(())
    }
}

/// Every entry, in the order of turns.
pub(super) fn each_entry(
    index: &Index,
    mut visit: impl FnMut(Stored) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Fault> {
    index.scan(b"e", &keys::behind(b'e'), |_, value| visit(Stored::decode(&value)?))
}

pub(super) fn entry_id(key: &[u8]) -> Result<FileId, Fault> {
    key.get(1..).and_then(keys::id).ok_or_else(|| Fault::Index("an entry has no id".into()))
}

fn active(index: &Index, state: &QueueState) -> Result<Vec<Entry>, Fault> {
    let mut entries = Vec::new();
    for id in state.lanes.leases.keys() {
        entries.extend(state.stored(index, *id)?.map(|stored| stored.entry));
    }
    entries.sort_unstable_by_key(|entry| entry.turn);
    Ok(entries)
}

pub(super) fn journal_error(error: StorageError) -> QueueError {
    match error {
        StorageError::Full => QueueError::Full,
        StorageError::Poisoned(why) => QueueError::Poisoned(why),
        StorageError::Unsupported(what) => QueueError::Unreadable(what),
        other => io("journal", io::Error::from(other)),
    }
}

pub(super) fn io(doing: &str, source: io::Error) -> QueueError {
    QueueError::Io { doing: doing.into(), source }
}
