//! The queue's state: index, what is staged for it, and the outline in memory, changed by records and nothing else.

use std::collections::BTreeSet;

use forebay_storage::FileId;

use super::{
    entry_codec::{self, Stored},
    index::{Fault, Index},
    keys,
    lanes::{Count, Counts, LaneState, Lanes},
    meta::Meta,
    names::{Roots, decode_root},
    staged::Staged,
};
use crate::{Entry, Fact, KnownOrigin, QueueError, Record, State};

/// This many purged ids are kept at hand; of others the journal is asked.
const PURGED_KEPT: u64 = 65_536;

/// The text by which the journal notes that damage has been dealt with.
pub(super) const DAMAGE_TOPIC: &str = "journal.damage";

/// What follows from all records up to `meta.applied`.
#[derive(Debug, Default)]
pub(super) struct QueueState {
    pub(super) meta: Meta,
    pub(super) lanes: Lanes,
    pub(super) staged: Staged,
    pub(super) roots: Roots,
    touched_partners: BTreeSet<String>,
    touched_lanes: BTreeSet<(String, String)>,
}

/// How strictly a record is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// A record that does not follow is refused.
    Checked,
    /// It is in the journal, so it happened.
    Follow,
}

impl QueueState {
    /// Reads the outline from the index.
    pub(super) fn load(index: &Index) -> Result<Self, Fault> {
        let mut state = Self::default();
        let Some(meta) = index.get(keys::META)? else { return Ok(state) };
        state.meta = Meta::decode(&meta).ok_or_else(|| Fault::Index("it has another layout".into()))?;
        index.scan(b"k", &keys::behind(b'k'), |key, value| {
            let name = text(&key[1..])?;
            state.lanes.partner(name).counts = decode_counts(&value)?;
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        index.scan(b"n", &keys::behind(b'n'), |key, value| {
            let number = key.get(1..).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(u32::from_be_bytes);
            let (ready, partner, route) = decode_lane(&value)?;
            let number = number.ok_or_else(|| Fault::Index("a lane has no number".into()))?;
            let lane = LaneState { number, ready, ..LaneState::default() };
            state.lanes.partner(partner).lanes.insert(route.to_owned(), lane);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        index.scan(b"r", &keys::behind(b'r'), |key, value| {
            state.roots.insert(text(&key[1..])?.to_owned(), decode_root(&value)?);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        for wanted in [State::Active, State::Retrying] {
            let (from, to) = (keys::by_state(wanted, 0), keys::by_state(wanted, u64::MAX));
            let mut ids = Vec::new();
            index.scan(&from, &to, |_, value| {
                ids.push(keys::id(&value).ok_or_else(|| Fault::Index("a listing names no id".into()))?);
                Ok(std::ops::ControlFlow::Continue(()))
            })?;
            for id in ids {
                let stored = state.stored(index, id)?.ok_or_else(|| missing(id))?;
                state.lanes.enter_lane(&stored.entry);
            }
        }
        Ok(state)
    }

    pub(super) fn stored(&self, index: &Index, id: FileId) -> Result<Option<Stored>, Fault> {
        let bytes = self.staged.get(index, &keys::entry(id))?;
        bytes.map(|bytes| Stored::decode(id, &bytes)).transpose()
    }

    /// Takes the record that stands at `seq` in the journal, or will. An error changes nothing.
    pub(super) fn apply(
        &mut self,
        index: &Index,
        seq: u64,
        record: &Record,
        take: Take,
    ) -> Result<Option<Entry>, Fault> {
        let old = match record.id {
            Some(id) => self.stored(index, id)?,
            None => None,
        };
        if take == Take::Checked {
            self.check_names(index, &record.fact)?;
        }
        let before = old.as_ref().map(|old| &old.entry);
        let after = match take {
            Take::Checked => Entry::apply(before, seq, record)?,
            Take::Follow => Entry::follow(before, seq, record),
        };
        self.meta.applied = seq;
        self.meta.newest_at = self.meta.newest_at.max(Some(record.at));
        let Some(id) = record.id else {
            self.take_note(record);
            self.touch_others(index, seq, record, None)?;
            self.change_names(index, seq, record)?;
            return Ok(None);
        };
        if let Some(known) = KnownOrigin::of(record) {
            self.staged.put(keys::origin(id), known.encode()?);
        }
        if record.fact == Fact::Purged {
            self.keep_purged(index, id)?;
        }
        let replaced = old.as_ref().and_then(|old| old.replaced);
        let replaced = self.change_name_of(index, seq, record, after.as_ref(), before, replaced)?;
        let mut new = after.map(|entry| next_stored(old.as_ref(), entry, seq, &record.fact));
        if let (Some(new), Fact::Accepted { .. }) = (&mut new, &record.fact) {
            new.replaced = replaced;
        }
        self.shift(index, old.as_ref(), new.as_ref())?;
        self.touch_others(index, seq, record, old.as_ref().map(|old| &old.entry))?;
        Ok(new.map(|new| new.entry))
    }

    /// The other entries that the record is about follow it.
    fn touch_others(&mut self, index: &Index, seq: u64, record: &Record, own: Option<&Entry>) -> Result<(), Fault> {
        for id in Entry::others(record, own) {
            let Some(old) = self.stored(index, id)? else { continue };
            let Some(entry) = old.entry.touched(seq, record) else { continue };
            let new = next_stored(Some(&old), entry, seq, &record.fact);
            self.shift(index, Some(&old), Some(&new))?;
        }
        Ok(())
    }

    fn take_note(&mut self, record: &Record) {
        if let Fact::OriginsGone { files } = &record.fact {
            files.iter().for_each(|id| self.staged.remove(keys::origin(*id)));
        }
        if let Fact::Damaged { first, next } = &record.fact {
            self.staged.put(keys::damage(*first, *next), Vec::new());
        }
        // As versions before this one noted it.
        if let Fact::Noted { topic, text } = &record.fact
            && topic == DAMAGE_TOPIC
            && let Some((first, next)) = parse_damage(text)
        {
            self.staged.put(keys::damage(first, next), Vec::new());
        }
    }

    /// Keeps the id as purged, and forgets the smallest when there are too many.
    fn keep_purged(&mut self, index: &Index, id: FileId) -> Result<(), Fault> {
        let key = keys::purged(id);
        if self.staged.get(index, &key)?.is_some() {
            return Ok(());
        }
        self.staged.put(key, Vec::new());
        self.meta.purged += 1;
        if self.meta.purged > PURGED_KEPT
            && let Some((smallest, _)) = self.staged.first(index, b"p", &keys::behind(b'p'))?
        {
            if let Ok(id) = <[u8; 16]>::try_from(&smallest[1..]) {
                self.meta.forgotten = self.meta.forgotten.max(id);
            }
            self.staged.remove(smallest);
            self.meta.purged -= 1;
        }
        Ok(())
    }

    /// Every key, counter and lane follows the entry from old to new, here and nowhere else.
    fn shift(&mut self, index: &Index, old: Option<&Stored>, new: Option<&Stored>) -> Result<(), Fault> {
        if let Some(old) = old.map(|old| &old.entry) {
            self.lanes.leave(old);
            self.touch(old);
            self.unlist(index, old, new.is_none())?;
        }
        match (old, new) {
            (None, Some(new)) => {
                self.meta.entries += 1;
                self.staged.put(keys::of_partner(&new.entry.partner, new.entry.id), Vec::new());
            }
            (Some(old), None) => {
                self.meta.entries = self.meta.entries.saturating_sub(1);
                self.staged.remove(keys::entry(old.entry.id));
                self.staged.remove(keys::of_partner(&old.entry.partner, old.entry.id));
            }
            _ => {}
        }
        let Some(new) = new else { return Ok(()) };
        self.staged.put(keys::entry(new.entry.id), new.encode());
        self.list(&new.entry);
        self.lanes.enter(&new.entry);
        self.touch(&new.entry);
        Ok(())
    }

    fn unlist(&mut self, index: &Index, entry: &Entry, forget: bool) -> Result<(), Fault> {
        self.staged.remove(keys::by_state(entry.state, entry.turn));
        self.staged.remove(keys::changed(entry.changed_seq, entry.id));
        if entry.state == State::Ready
            && let Some(number) = self.lane_number(entry)
        {
            self.staged.remove(keys::ready(number, entry.turn));
        }
        if may_be_purged(entry.state) {
            self.staged.remove(keys::ended(entry.since, entry.turn));
        }
        if forget && entry.state == State::Done {
            let key = keys::done(entry);
            if self.staged.get(index, &key)?.is_some_and(|id| id == entry.id.as_bytes()) {
                self.staged.remove(key);
            }
        }
        Ok(())
    }

    fn list(&mut self, entry: &Entry) {
        let id = entry.id.as_bytes();
        self.staged.put(keys::by_state(entry.state, entry.turn), id);
        self.staged.put(keys::changed(entry.changed_seq, entry.id), id);
        if entry.state.waits() || entry.state == State::Active {
            self.number_lane(entry);
        }
        if entry.state == State::Ready
            && let Some(number) = self.lane_number(entry)
        {
            self.staged.put(keys::ready(number, entry.turn), id);
        }
        if may_be_purged(entry.state) {
            self.staged.put(keys::ended(entry.since, entry.turn), id);
        }
        if entry.state == State::Done {
            self.staged.put(keys::done(entry), id);
        }
    }

    fn lane_number(&self, entry: &Entry) -> Option<u32> {
        Some(self.lanes.lane(&entry.partner, entry.route.as_deref()?)?.number)
    }

    fn number_lane(&mut self, entry: &Entry) {
        let Some(route) = &entry.route else { return };
        let next = self.meta.next_lane;
        let lanes = &mut self.lanes.partner(&entry.partner).lanes;
        if !lanes.contains_key(route) {
            lanes.insert(route.clone(), LaneState { number: next, ..LaneState::default() });
            self.meta.next_lane += 1;
        }
    }

    fn touch(&mut self, entry: &Entry) {
        if !self.touched_partners.contains(&entry.partner) {
            self.touched_partners.insert(entry.partner.clone());
        }
        if let Some(route) = &entry.route {
            self.touched_lanes.insert((entry.partner.clone(), route.clone()));
        }
    }

    /// The counters of the partners whose entries have changed since the last batch was taken.
    pub(super) fn touched_counts(&self) -> impl Iterator<Item = (&str, Counts)> {
        let counts = |name: &String| self.lanes.partners.get(name).map(|partner| partner.counts).unwrap_or_default();
        self.touched_partners.iter().map(move |name| (name.as_str(), counts(name)))
    }

    /// Everything that is staged, with counters and the applied sequence, as one batch.
    pub(super) fn take_batch(&mut self) -> sled::Batch {
        for name in std::mem::take(&mut self.touched_partners) {
            let count = self.lanes.partner(&name).counts;
            self.staged.put(keys::partner(&name), encode_counts(&count));
        }
        for (partner, route) in std::mem::take(&mut self.touched_lanes) {
            if let Some(lane) = self.lanes.lane(&partner, &route) {
                self.staged.put(keys::lane(lane.number), encode_lane(lane.ready, &partner, &route));
            }
        }
        self.staged.put(keys::META.into(), self.meta.encode());
        self.staged.take()
    }

    pub(super) fn all_counts(&self) -> impl Iterator<Item = (String, Counts)> {
        self.lanes.partners.iter().map(|(name, partner)| (name.clone(), partner.counts))
    }

    /// Cheap signs that the index is whole and belongs to itself.
    pub(super) fn cross_check(&self, index: &Index) -> Result<(), Fault> {
        let disagree = |what: &str| Err(Fault::Index(format!("it disagrees with itself: {what}")));
        let files: u64 = self.all_counts().flat_map(|(_, counts)| counts).map(|count| count.files).sum();
        if files != self.meta.entries {
            return disagree("the counters do not add up");
        }
        let code = usize::from(entry_codec::code(State::Ready));
        let ready: u64 = self.all_counts().map(|(_, counts)| counts[code].files).sum();
        let in_lanes: u64 = self.lanes.partners.values().flat_map(|p| p.lanes.values()).map(|lane| lane.ready).sum();
        if ready != in_lanes {
            return disagree("the lanes do not add up");
        }
        let latest = index.last(b"c", &keys::behind(b'c'))?;
        if latest.is_none() != (files == 0) {
            return disagree("changes are missing");
        }
        let Some((key, value)) = latest else { return Ok(()) };
        let (Some(seq), Some(id)) = (keys::changed_seq(&key), keys::id(&value)) else {
            return disagree("the latest change names nothing");
        };
        match self.stored(index, id)? {
            Some(stored) if stored.entry.changed_seq == seq && seq <= self.meta.applied => Ok(()),
            _ => disagree("the latest change is not its entry's"),
        }
    }
}

fn next_stored(old: Option<&Stored>, entry: Entry, seq: u64, fact: &Fact) -> Stored {
    let mut seqs = old.map_or_else(Vec::new, |old| old.seqs.clone());
    seqs.push(seq);
    let basis = match (old, fact) {
        (_, Fact::Carried { .. }) | (None, _) => seq,
        (Some(old), _) => old.basis,
    };
    Stored { entry, basis, seqs, replaced: old.and_then(|old| old.replaced) }
}

pub(super) fn may_be_purged(state: State) -> bool {
    state.is_over()
}

pub(super) fn missing(id: FileId) -> Fault {
    Fault::Index(format!("file {id} is listed and has no entry"))
}

pub(super) fn damage_text(first: u64, next: u64) -> String {
    format!("records {first} to {} were lost to damage", next - 1)
}

fn parse_damage(text: &str) -> Option<(u64, u64)> {
    let (first, rest) = text.strip_prefix("records ")?.split_once(" to ")?;
    let last: u64 = rest.split_once(' ')?.0.parse().ok()?;
    Some((first.parse().ok()?, last + 1))
}

fn text(bytes: &[u8]) -> Result<&str, Fault> {
    std::str::from_utf8(bytes).map_err(|_| Fault::Index("a name is not text".into()))
}

fn encode_counts(counts: &Counts) -> Vec<u8> {
    counts.iter().flat_map(|count| [count.files.to_be_bytes(), count.size_bytes.to_be_bytes()]).flatten().collect()
}

fn decode_counts(bytes: &[u8]) -> Result<Counts, Fault> {
    let mut counts = Counts::default();
    if bytes.len() != counts.len() * 16 {
        return Err(Fault::Index("a counter has another length".into()));
    }
    for (count, pair) in counts.iter_mut().zip(bytes.chunks_exact(16)) {
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        *count = Count { files: number(&pair[..8]), size_bytes: number(&pair[8..]) };
    }
    Ok(counts)
}

fn encode_lane(ready: u64, partner: &str, route: &str) -> Vec<u8> {
    let mut out = ready.to_be_bytes().to_vec();
    out.extend_from_slice(partner.as_bytes());
    out.push(0);
    out.extend_from_slice(route.as_bytes());
    out
}

pub(super) fn decode_lane(bytes: &[u8]) -> Result<(u64, &str, &str), Fault> {
    let Some((ready, names)) = bytes.split_first_chunk::<8>() else {
        return Err(Fault::Index("a lane is cut short".into()));
    };
    let (partner, route) = text(names)?.split_once('\0').ok_or_else(|| Fault::Index("a lane has no route".into()))?;
    Ok((u64::from_be_bytes(*ready), partner, route))
}

/// A queue error for what must not happen.
pub(super) fn broken(what: &str) -> QueueError {
    QueueError::Io { doing: "queue".into(), source: std::io::Error::other(what.to_owned()) }
}
