//! Whether journal and index say the same, while both go on.
//!
//! The journal is replayed into memory, and each entry of the index, each key of a listing and each
//! name is compared with what comes out. The committer works meanwhile, so what differs is read a
//! second time: what has changed since is not judged. It repairs nothing.

use std::{cell::Cell, collections::HashMap, ops::ControlFlow};

use forebay_storage::{FileId, journal::JournalReader};

use super::{
    binary,
    entry_codec::Stored,
    index::{Fault, Index},
    keys,
    names::Leaf,
    read, record_codec,
    recover::{each_entry, journal_error},
    state::{decode_lane, may_be_purged},
};
use crate::{Entry, QueueError, Record, State, Verified};

const CHUNK: usize = 4_096;

/// The number of faults that are reported one by one.
const MOST_FAULTS: usize = 1_000;

/// The progress of a check, in steps that take about as long: a record replayed, an entry compared,
/// a key of a listing looked up.
struct Steps<'a> {
    done: Cell<u64>,
    total: u64,
    progress: &'a dyn Fn(u64, u64) -> crate::Result<()>,
}

impl Steps<'_> {
    /// Counts one more. An error when the asker is gone.
    fn step(&self) -> crate::Result<()> {
        self.done.set(self.done.get() + 1);
        match self.done.get().is_multiple_of(CHUNK as u64) {
            true => (self.progress)(self.done.get().min(self.total), self.total),
            false => Ok(()),
        }
    }

    fn end(&self) -> crate::Result<()> {
        (self.progress)(self.total, self.total)
    }
}

/// Keys of listings and names for each entry.
const KEYS_OF_ENTRY: u64 = 4;

/// Replays the journal in memory up to `end`, before which the index has everything, and compares
/// what comes out with the index. What has changed since then is not judged.
///
/// # Errors
/// The index's fault when it cannot be read, or that of a stop. Differences are no error: they are
/// in the result.
pub(super) fn verify(
    index: &Index,
    journal: &JournalReader,
    end: u64,
    progress: &dyn Fn(u64, u64) -> crate::Result<()>,
) -> Result<Verified, Fault> {
    let mut found = Verified::default();
    // A journal that has forgotten its beginning has records about files whose acceptance is gone:
    // no fault.
    let whole = journal.first_seq() <= 1;
    let entries = read::meta(index)?.entries;
    let total = end.saturating_sub(journal.first_seq()) + entries * (2 + KEYS_OF_ENTRY);
    let steps = Steps { done: Cell::new(0), total, progress };
    let replayed = replay(journal, end, whole, &mut found, &steps)?;
    let mut entries = Vec::new();
    each_entry(index, |stored| {
        entries.push(stored.entry.id);
        steps.step()?;
        Ok(ControlFlow::Continue(()))
    })?;
    // One that got another turn meanwhile was met at both.
    entries.sort_unstable();
    entries.dedup();
    found.entries = entries.len() as u64;
    let lanes = lane_numbers(index)?;
    for id in &entries {
        steps.step()?;
        // Read again: it may have gone or changed meanwhile, and then so have its keys.
        let stored = match read::stored(index, *id) {
            Ok(stored) if stored.entry.changed_seq < end => stored,
            Ok(_) | Err(Fault::Queue(QueueError::NotFound(_))) => continue,
            Err(fault) => return Err(fault),
        };
        let said = replayed.get(id).map(|bytes| Stored::decode(bytes)).transpose()?;
        for fault in compare(index, &lanes, &stored.entry, said.as_ref().map(|said| &said.entry))? {
            if !changed_since(index, &stored.entry)? {
                tell(&mut found, fault);
            }
        }
    }
    for id in replayed.keys() {
        if read::find(index, *id)?.is_none() && read::knows(index, *id)? == Some(false) {
            tell(&mut found, format!("file {id} is in the journal and not in the index"));
        }
    }
    superfluous(index, &steps, &mut found)?;
    compare_continued(index, &mut found)?;
    compare_names(index, &steps, &mut found)?;
    steps.end()?;
    Ok(found)
}

/// Replays the journal into encoded entries, without names and listings. Memory grows with the
/// entries.
fn replay(
    journal: &JournalReader,
    end: u64,
    whole: bool,
    found: &mut Verified,
    steps: &Steps<'_>,
) -> Result<HashMap<FileId, Box<[u8]>>, Fault> {
    let mut entries: HashMap<FileId, Box<[u8]>> = HashMap::new();
    let (mut next, mut gaps) = (journal.first_seq(), false);
    while next < end {
        let records = journal.read(next, CHUNK).map_err(journal_error)?;
        if records.is_empty() {
            break;
        }
        for (seq, bytes) in records.into_iter().take_while(|(seq, _)| *seq < end) {
            steps.step()?;
            gaps |= seq != next;
            next = seq + 1;
            found.records += 1;
            let record = record_codec::decode(seq, &bytes)?;
            let Some(id) = record.id else {
                if !gaps && let Err(error) = check_others(&entries, &record)? {
                    tell(found, format!("journal record {seq} does not follow: {error}"));
                }
                replay_others(&mut entries, seq, &record, None)?;
                continue;
            };
            let old = entries.get(&id).map(|bytes| Stored::decode(bytes)).transpose()?.map(|old| old.entry);
            let new = match Entry::apply(old.as_ref(), seq, &record) {
                Ok(new) => new,
                Err(error) => {
                    if !gaps && (whole || !matches!(error, QueueError::NotFound(_))) {
                        tell(found, format!("journal record {seq} does not follow: {error}"));
                    }
                    // As a rebuild does: what is in the journal has happened.
                    Entry::follow(old.as_ref(), seq, &record)
                }
            };
            match new {
                Some(entry) => entries.insert(id, encoded(entry)),
                None => entries.remove(&id),
            };
            replay_others(&mut entries, seq, &record, old.as_ref())?;
        }
    }
    Ok(entries)
}

/// Checks whether the record may follow on the states of the other files that it is about.
fn check_others(entries: &HashMap<FileId, Box<[u8]>>, record: &Record) -> Result<crate::Result<()>, Fault> {
    for id in Entry::others(record, None) {
        let Some(bytes) = entries.get(&id) else { continue };
        if let Err(error) = Stored::decode(bytes)?.entry.check_touched(record) {
            return Ok(Err(error));
        }
    }
    Ok(Ok(()))
}

fn encoded(entry: Entry) -> Box<[u8]> {
    Stored { entry, basis: 0, seqs: Vec::new(), replaced: None, place: None }.encode().into()
}

fn replay_others(
    entries: &mut HashMap<FileId, Box<[u8]>>,
    seq: u64,
    record: &Record,
    own: Option<&Entry>,
) -> Result<(), Fault> {
    for id in Entry::others(record, own) {
        let Some(bytes) = entries.get(&id) else { continue };
        if let Some(entry) = Stored::decode(bytes)?.entry.touched(seq, record) {
            entries.insert(id, encoded(entry));
        }
    }
    Ok(())
}

/// Each name leads to an entry that says it is shown there.
fn compare_names(index: &Index, steps: &Steps<'_>, found: &mut Verified) -> Result<(), Fault> {
    index.scan(b"f", &keys::behind(b'f'), |key, value| {
        steps.step()?;
        let Leaf::File { id, .. } = Leaf::decode(&value)? else { return Ok(ControlFlow::Continue(())) };
        let place = read::find(index, id)?.and_then(|stored| stored.place);
        let agrees = place.is_some_and(|place| keys::name(place.folder, &place.name) == key);
        // Still so at a second look, or it has merely changed meanwhile.
        if !agrees && index.get(&key)?.is_some_and(|now| now == value) {
            tell(found, format!("the catalogue does not agree on the name of file {id}"));
        }
        Ok(ControlFlow::Continue(()))
    })
}

/// Each "is continued by" is true of an entry that is there.
fn compare_continued(index: &Index, found: &mut Verified) -> Result<(), Fault> {
    index.scan(b"c", &keys::behind(b'c'), |key, _| {
        let (earlier, later) = (key.get(1..17).and_then(keys::id), key.get(17..).and_then(keys::id));
        let rests_on = later.map(|id| read::find(index, id)).transpose()?.flatten().and_then(|at| at.entry.rests_on());
        // Still so at a second look, or it has merely changed meanwhile.
        if (earlier.is_none() || rests_on != earlier) && index.get(&key)?.is_some() {
            tell(found, "bytes are kept for a file that does not continue them".to_owned());
        }
        Ok(ControlFlow::Continue(()))
    })
}

type LaneNumbers = HashMap<String, HashMap<String, u32>>;

fn lane_numbers(index: &Index) -> Result<LaneNumbers, Fault> {
    let mut lanes = LaneNumbers::new();
    index.scan(b"n", &keys::behind(b'n'), |key, value| {
        let (_, partner, route) = decode_lane(&value)?;
        if let Some(number) = key.last_chunk::<4>() {
            lanes.entry(partner.to_owned()).or_default().insert(route.to_owned(), u32::from_be_bytes(*number));
        }
        Ok(ControlFlow::Continue(()))
    })?;
    Ok(lanes)
}

/// Compares one entry with the replayed one, and checks that each listing it belongs to has it.
fn compare(index: &Index, lanes: &LaneNumbers, entry: &Entry, said: Option<&Entry>) -> Result<Vec<String>, Fault> {
    let id = entry.id;
    let mut faults = Vec::new();
    match said {
        None => faults.push(format!("file {id} is in the index and not in the journal")),
        Some(said) if said != entry => {
            faults.push(format!("file {id} is {} in the index and {} after the journal", entry.state, said.state));
        }
        Some(_) => {}
    }
    let mut wanted = vec![keys::by_state(entry.state, entry.turn)];
    // Of what another continues that one decides.
    let is_kept = entry.state == State::Superseded && !read::continued_by(index, id)?.is_empty();
    if may_be_purged(entry.state) && !is_kept {
        wanted.push(keys::ended(entry.since, entry.turn));
    }
    if let Some(earlier) = entry.rests_on() {
        wanted.push(keys::continued(earlier, id));
    }
    let lane = entry.route.as_ref().and_then(|route| lanes.get(&entry.partner)?.get(route));
    match (entry.state, lane) {
        (State::Ready, Some(lane)) => wanted.push(keys::ready(*lane, entry.turn)),
        (State::Ready, None) => faults.push(format!("file {id} is ready in no lane")),
        _ => {}
    }
    for key in wanted {
        if index.get(&key)?.is_none() {
            faults.push(format!("file {id} is missing in a listing ({})", char::from(key[0])));
        }
    }
    Ok(faults)
}

/// Returns true if the entry has changed since it was compared: then the differences mean nothing.
fn changed_since(index: &Index, entry: &Entry) -> Result<bool, Fault> {
    match read::stored(index, entry.id) {
        Ok(stored) => Ok(stored.entry.changed_seq != entry.changed_seq),
        Err(Fault::Queue(QueueError::NotFound(_))) => Ok(true),
        Err(fault) => Err(fault),
    }
}

/// Listings must not name what is not there.
fn superfluous(index: &Index, steps: &Steps<'_>, found: &mut Verified) -> Result<(), Fault> {
    let mut listed = Vec::new();
    for prefix in [b's', b'l', b'x', b'i'] {
        index.scan(&[prefix], &keys::behind(prefix), |key, value| {
            listed.push((key, value));
            Ok(ControlFlow::Continue(()))
        })?;
        for (key, value) in listed.drain(..) {
            steps.step()?;
            let turn = if prefix == b'i' { keys::turn(&value) } else { keys::last_number(&key) };
            let Some(turn) = turn else {
                tell(found, format!("a listing names no file ({})", char::from(prefix)));
                continue;
            };
            let belongs = read::at(index, turn)?.is_some_and(|stored| names(prefix, &key, &stored.entry));
            // Still so at a second look, or it has merely changed meanwhile.
            if !belongs && index.get(&key)?.is_some_and(|now| now == value) {
                tell(found, format!("turn {turn} stands in a listing that is not its own ({})", char::from(prefix)));
            }
        }
    }
    Ok(())
}

/// Returns true if a listing's key is one of this entry's.
fn names(prefix: u8, key: &[u8], entry: &Entry) -> bool {
    match prefix {
        b's' => key.get(1) == Some(&binary::code(entry.state)),
        b'l' => entry.state == State::Ready,
        b'i' => key.get(1..) == Some(entry.id.as_bytes()),
        _ => may_be_purged(entry.state),
    }
}

fn tell(found: &mut Verified, fault: String) {
    if found.faults.len() < MOST_FAULTS {
        found.faults.push(fault);
    }
}
