//! Reading the index, beside the committer.
//!
//! Nothing is locked, so an entry can change between two reads: it may get another position (a
//! rename of an unfinished file), another state, or go. Each function says what it does then. What
//! the index cannot explain even so is [`Fault::Index`], and the index is rebuilt from the journal.

use std::{collections::HashSet, ops::ControlFlow};

use forebay_storage::{FileId, journal::JournalReader};

use super::{
    counts::Counts,
    entry_codec::Stored,
    index::{Fault, Index},
    keys,
    meta::Meta,
    record_codec,
    recover::{entry_id, journal_error},
    staged::after,
};
use crate::{Continues, Cursor, Entry, Extent, Filter, KnownOrigin, Page, QueueError, Record, Result, State};

/// More matches of a prefix are not counted.
const MOST_MATCHES: usize = 1_000;

/// The number of tries to read an entry that gets another position meanwhile.
const MOST_LOOKS: usize = 16;

/// Entries that do not pass before a listing gives what it has: whoever asked may not want the rest any more.
pub(super) const MOST_PASSED_OVER: usize = 4_096;

/// Records that are read from the journal at a time.
const CHUNK: usize = 4_096;

/// An entry, if there is one.
/// Two reads: id to position, position to entry. Between the two the committer may have moved it.
pub(super) fn find(index: &Index, id: FileId) -> Result<Option<Stored>, Fault> {
    for _ in 0..MOST_LOOKS {
        let Some(value) = index.get(&keys::turn_of(id))? else { return Ok(None) };
        let turn = keys::turn(&value).ok_or_else(|| Fault::Index(format!("file {id} has no turn")))?;
        match at(index, turn)? {
            Some(stored) if stored.entry.id == id => return Ok(Some(stored)),
            // It has got another turn, or gone, between the two looks.
            _ => {}
        }
    }
    Err(Fault::Index(format!("file {id} is not at its turn")))
}

/// Returns the entry at a position in the queue, if there is one.
pub(super) fn at(index: &Index, turn: u64) -> Result<Option<Stored>, Fault> {
    index.get(&keys::entry(turn))?.map(|bytes| Stored::decode(&bytes)).transpose()
}

/// Whether a file may still be handed over message by message.
pub(super) fn is_under_way(index: &Index, id: FileId) -> Result<bool, Fault> {
    Ok(find(index, id)?.is_some_and(|stored| !stored.entry.state.is_over()))
}

/// Whether a file is in the queue.
pub(super) fn has_entry(index: &Index, id: FileId) -> Result<bool, Fault> {
    Ok(find(index, id)?.is_some())
}

pub(super) fn stored(index: &Index, id: FileId) -> Result<Stored, Fault> {
    find(index, id)?.ok_or(Fault::Queue(QueueError::NotFound(id)))
}

/// Returns the stretches that a file consists of, from its first byte on.
///
/// # Errors
/// [`QueueError::Damaged`] when an earlier part is not there or has another length than the later
/// ones were made for.
pub(super) fn extents(index: &Index, entry: &Entry) -> Result<Vec<Extent>, Fault> {
    let mut extents = vec![entry.extent()];
    let mut before = entry.continues.clone();
    while let Some(continues) = before {
        let Continues { of, at, .. } = *continues;
        let earlier = find(index, of)?.map(|stored| stored.entry);
        let earlier = earlier.filter(|earlier| earlier.size_bytes == at && earlier.state != State::Withdrawn);
        let Some(earlier) = earlier else {
            let what = format!("its first {at} bytes came with file {of}, which is not in the queue any more");
            return Err(QueueError::Damaged { id: entry.id, what }.into());
        };
        extents.push(earlier.extent());
        before = earlier.continues;
    }
    extents.reverse();
    Ok(extents)
}

/// The entries that need the bytes of this one.
pub(super) fn continued_by(index: &Index, id: FileId) -> Result<Vec<FileId>, Fault> {
    let (from, to) = keys::continuing(id);
    let mut later = Vec::new();
    index.scan(&from, &to, |key, _| {
        let id = key.get(17..).and_then(keys::id);
        later.push(id.ok_or_else(|| Fault::Index("what continues a file has no id".into()))?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(later)
}

/// Returns the id that begins with these hexadecimal digits; dashes are ignored.
///
/// # Errors
/// [`QueueError::NoMatch`] and [`QueueError::Ambiguous`].
pub(super) fn resolve(index: &Index, prefix: &str) -> Result<FileId, Fault> {
    let no_match = || QueueError::NoMatch(prefix.to_owned());
    let digits: Vec<u8> = prefix.bytes().filter(|byte| *byte != b'-').map(|byte| byte.to_ascii_lowercase()).collect();
    if digits.is_empty() || digits.len() > 32 || !digits.iter().all(u8::is_ascii_hexdigit) {
        return Err(no_match().into());
    }
    let bound = |fill: u8| {
        let mut bytes = [0u8; 16];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digit = |at: usize| (*digits.get(at).unwrap_or(&fill) as char).to_digit(16).unwrap_or(0) as u8;
            *byte = digit(at * 2) << 4 | digit(at * 2 + 1);
        }
        keys::turn_of(FileId::from_bytes(bytes))
    };
    // One byte longer: the scan ends before `to`, and the last possible id belongs to it.
    let mut to = bound(b'f').to_vec();
    to.push(0);
    let (mut found, mut count) = (None, 0);
    index.scan(&bound(b'0'), &to, |key, _| {
        found = Some(entry_id(&key)?);
        count += 1;
        Ok(if count < MOST_MATCHES { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    match (found, count) {
        (Some(id), 1) => Ok(id),
        (Some(_), count) => Err(QueueError::Ambiguous { prefix: prefix.to_owned(), count }.into()),
        (None, _) => Err(no_match().into()),
    }
}

/// Entries that pass, in the order of their turns: the listings of all states, merged.
///
/// Entries that do not pass the filter are bounded too: the page then ends early, with a cursor.
pub(super) fn list(index: &Index, filter: &Filter, after: Option<&Cursor>, limit: usize) -> Result<Page, Fault> {
    let start = after.map(turn_of).transpose()?.map_or(0, |turn| turn.saturating_add(1));
    let mut heads = Vec::new();
    for state in states_of(filter) {
        heads.push((state, listed(index, state, start)?));
    }
    let mut page = Page::default();
    // An entry that changes its state meanwhile must not be given twice.
    let (mut given, mut passed_over) = (HashSet::new(), 0);
    while let Some((state, head)) = heads.iter_mut().filter(|(_, head)| head.is_some()).min_by_key(|(_, head)| *head) {
        let Some(turn) = *head else { break };
        if page.entries.len() >= limit || passed_over >= MOST_PASSED_OVER {
            // The turn before is behind: this one comes first.
            page.next = turn.checked_sub(1).map(cursor).or_else(|| after.cloned());
            break;
        }
        *head = listed(index, *state, turn + 1)?;
        // Gone since it was listed, or at another turn.
        match at(index, turn)? {
            Some(Stored { entry, .. }) if passes(&entry, filter) && given.insert(entry.id) => page.entries.push(entry),
            _ => passed_over += 1,
        }
    }
    Ok(page)
}

/// The states that pass, each once.
pub(super) fn states_of(filter: &Filter) -> HashSet<State> {
    if filter.states.is_empty() { State::ALL.into() } else { filter.states.iter().copied().collect() }
}

/// The first entry of this state whose turn is `from` or later.
fn listed(index: &Index, state: State, from: u64) -> Result<Option<u64>, Fault> {
    let first = index.first(&keys::by_state(state, from), &keys::by_state(state, u64::MAX))?;
    Ok(first.and_then(|(key, _)| keys::last_number(&key)))
}

/// Cursors of this queue: an entry's turn.
fn cursor(turn: u64) -> Cursor {
    Cursor::new(format!("t{turn}"))
}

fn turn_of(cursor: &Cursor) -> Result<u64, Fault> {
    let turn = cursor.as_str().strip_prefix('t').and_then(|digits| digits.parse().ok());
    turn.ok_or_else(|| QueueError::BadCursor(cursor.clone()).into())
}

pub(super) fn passes(entry: &Entry, filter: &Filter) -> bool {
    (filter.states.is_empty() || filter.states.contains(&entry.state))
        && filter.partner.as_ref().is_none_or(|partner| *partner == entry.partner)
        && filter.route.as_ref().is_none_or(|route| entry.route.as_ref() == Some(route))
        && filter.since.is_none_or(|since| entry.received_at >= since)
        && filter.name.as_ref().is_none_or(|name| *name == entry.name)
}

/// What the journal says of a file, as far back as the journal goes.
pub(super) fn history(index: &Index, journal: &JournalReader, id: FileId) -> Result<Vec<(u64, Record)>, Fault> {
    let mut records = Vec::new();
    for seq in stored(index, id)?.seqs {
        for (found, bytes) in journal.read(seq, 1).map_err(journal_error)? {
            if found == seq {
                records.push((seq, record_codec::decode(seq, &bytes)?.of(id)));
            }
        }
    }
    Ok(records)
}

pub(super) fn audit(journal: &JournalReader, after: u64, limit: usize) -> Result<Vec<(u64, Record)>> {
    let records = journal.read(after.saturating_add(1), limit).map_err(journal_error)?;
    records.into_iter().map(|(seq, bytes)| Ok((seq, record_codec::decode(seq, &bytes)?))).collect()
}

/// Entries whose latest change is a record behind `after`, in that order. The journal tells which: records up to `end` are in
/// the index.
///
/// An entry is in it once, at its latest change: whoever asks again from there on misses nothing.
pub(super) fn changes(
    index: &Index,
    journal: &JournalReader,
    after: u64,
    end: u64,
    limit: usize,
) -> Result<Vec<Entry>, Fault> {
    let (mut entries, mut next) = (Vec::new(), after.saturating_add(1));
    while next < end && entries.len() < limit {
        let records = journal.read(next, CHUNK).map_err(journal_error)?;
        let Some((last, _)) = records.last() else { break };
        next = last + 1;
        for (seq, bytes) in records {
            if seq >= end || entries.len() >= limit {
                return Ok(entries);
            }
            let record = record_codec::decode(seq, &bytes)?;
            let own = record.id.map(|id| find(index, id)).transpose()?.flatten().map(|stored| stored.entry);
            let others = Entry::others(&record, own.as_ref());
            // One that has changed again comes later.
            entries.extend(own.filter(|entry| entry.changed_seq == seq));
            for id in others {
                let other = find(index, id)?.map(|stored| stored.entry);
                entries.extend(other.filter(|entry| entry.changed_seq == seq));
            }
        }
    }
    Ok(entries)
}

pub(super) fn ids(index: &Index) -> Result<Vec<FileId>, Fault> {
    let mut ids = Vec::new();
    index.scan(b"i", &keys::behind(b'i'), |key, _| {
        ids.push(entry_id(&key)?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(ids)
}

/// The ids of the files whose bytes storage keeps.
pub(super) fn kept_ids(index: &Index) -> Result<Vec<FileId>, Fault> {
    let mut ids = Vec::new();
    index.scan(b"e", &keys::behind(b'e'), |_, value| {
        if Stored::is_kept(&value) {
            ids.push(Stored::id(&value)?);
        }
        Ok(ControlFlow::Continue(()))
    })?;
    ids.sort_unstable();
    // One that got another turn meanwhile was met at both.
    ids.dedup();
    Ok(ids)
}

/// Returns how many entries of a partner have bytes that storage keeps.
pub(super) fn kept_of(index: &Index, partner: &str, counts: &Counts) -> Result<u64, Fault> {
    let ((from, to), mut kept) = (keys_of(partner), 0);
    index.scan(&from, &to, |key, _| {
        let turn = index.get(&keys::turn_of(id_at_the_end(&key)?))?;
        if let Some(turn) = turn.and_then(|value| keys::turn(&value))
            && let Some(entry) = index.get(&keys::entry(turn))?
        {
            kept += u64::from(Stored::is_kept(&entry) && !counts.is_former(&Stored::decode(&entry)?.entry));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(kept)
}

/// The first key of a partner's entries, and the first behind them.
fn keys_of(partner: &str) -> (Vec<u8>, Vec<u8>) {
    let mut to = keys::partner_prefix(partner);
    // The byte behind the name ends it: the next one is behind all of its ids.
    if let Some(last) = to.last_mut() {
        *last = 1;
    }
    (keys::partner_prefix(partner), to)
}

fn id_at_the_end(key: &[u8]) -> Result<FileId, Fault> {
    let id = key.len().checked_sub(16).and_then(|start| keys::id(&key[start..]));
    id.ok_or_else(|| Fault::Index("a partner's entry has no id".into()))
}

/// Returns the ids of the files that are not over and whose bytes storage keeps, by the listings of
/// their states, with those that they continue.
pub(super) fn kept_ids_of_states(index: &Index) -> Result<Vec<FileId>, Fault> {
    let mut ids = Vec::new();
    for state in State::ALL.into_iter().filter(|state| !state.is_over()) {
        index.scan(&keys::by_state(state, 0), &keys::by_state(state, u64::MAX), |key, _| {
            let turn = keys::last_number(&key).ok_or_else(|| Fault::Index("a listing names no file".into()))?;
            let mut next = at(index, turn)?;
            while let Some(Stored { entry, .. }) = next {
                if entry.content.is_none() {
                    ids.push(entry.id);
                }
                next = entry.rests_on().map(|of| find(index, of)).transpose()?.flatten();
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    ids.sort_unstable();
    ids.dedup();
    Ok(ids)
}

/// Those of these ids that have no entry.
pub(super) fn without_entry(index: &Index, ids: &[FileId]) -> Result<Vec<FileId>, Fault> {
    let mut without = Vec::new();
    for id in ids {
        if index.get(&keys::turn_of(*id))?.is_none() {
            without.push(*id);
        }
    }
    Ok(without)
}

/// Entries of a partner in order of their ids.
pub(super) fn of_partner(
    index: &Index,
    partner: &str,
    behind: Option<FileId>,
    limit: usize,
) -> Result<Vec<Entry>, Fault> {
    let (mut from, to) = keys_of(partner);
    if let Some(id) = behind {
        from = after(&keys::of_partner(partner, id));
    }
    let mut ids = Vec::new();
    index.scan(&from, &to, |key, _| {
        if ids.len() >= limit {
            return Ok(ControlFlow::Break(()));
        }
        ids.push(id_at_the_end(&key)?);
        Ok(ControlFlow::Continue(()))
    })?;
    let mut entries = Vec::with_capacity(ids.len());
    for id in ids {
        match stored(index, id) {
            Ok(stored) => entries.push(stored.entry),
            Err(Fault::Queue(QueueError::NotFound(_))) => {}
            Err(fault) => return Err(fault),
        }
    }
    Ok(entries)
}

pub(super) fn origins(index: &Index) -> Result<Vec<KnownOrigin>, Fault> {
    let mut origins = Vec::new();
    index.scan(b"o", &keys::behind(b'o'), |_, value| {
        origins.push(KnownOrigin::decode(&value).ok_or_else(|| Fault::Index("an origin cannot be read".into()))?);
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(origins)
}

/// What describes the index as a whole.
pub(super) fn meta(index: &Index) -> Result<Meta, Fault> {
    let Some(meta) = index.get(keys::META)? else { return Ok(Meta::default()) };
    Meta::decode(&meta).ok_or_else(|| Fault::Index("it has another layout".into()))
}

/// Returns whether the index knows the id, as an entry or as purged. `None` when only the journal
/// can tell.
pub(super) fn knows(index: &Index, id: FileId) -> Result<Option<bool>, Fault> {
    if index.get(&keys::turn_of(id))?.is_some() || index.get(&keys::purged(id))?.is_some() {
        return Ok(Some(true));
    }
    let meta = meta(index)?;
    // Ids that were purged and forgotten are all smaller.
    Ok((id.as_bytes() > &meta.forgotten).then_some(false))
}

/// Returns true if a record of the journal says that this file was purged. Reads the whole journal,
/// so it is asked only for ids that are older than all that the index remembers as purged.
pub(super) fn purged_long_ago(journal: &JournalReader, id: FileId) -> Result<bool> {
    let mut next = journal.first_seq();
    loop {
        let records = journal.read(next, CHUNK).map_err(journal_error)?;
        let Some((last, _)) = records.last() else { return Ok(false) };
        next = last + 1;
        for (seq, bytes) in &records {
            let record = record_codec::decode(*seq, bytes)?;
            if record.id == Some(id) && record.fact == crate::Fact::Purged {
                return Ok(true);
            }
        }
    }
}
