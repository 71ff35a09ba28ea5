//! The committer's view of the queue: the index, changes staged over it, and a summary in memory
//! (lanes, counters, leases).
//!
//! Only records change it, through [`QueueState::apply`], and through [`QueueState::begin`] and
//! [`QueueState::reserve`] for a claim whose record is still being filled.
//!
//! # Guarantees
//! - A refusal leaves it unchanged.
//! - Every key of an entry is written by `shift`, and nowhere else but in `set_place`.
//! - `take_batch` returns everything that is staged, with the counters and the applied sequence, as
//!   one batch: the index is never between two records.
//!
//! Used on the committer's thread alone, and before that when the queue is opened.

use std::collections::BTreeSet;

use forebay_storage::FileId;

use super::{
    counts::Counts,
    entry_codec::{Place, Stored},
    figures,
    index::{Fault, Index},
    keys,
    lanes::{LaneState, Lanes},
    layered::Changes,
    meta::Meta,
    names::{Roots, decode_root},
    staged::Staged,
};
use crate::{Entry, Fact, KeyedFile, KnownOrigin, QueueError, Record, State};

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
}

/// How strictly a record is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Take {
    /// A record that does not follow is refused.
    Checked,
    /// Applied without the check: it is in the journal, so it happened.
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
            state.lanes.partner(name).counts = Counts::decode(&value)?;
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        index.scan(b"n", &keys::behind(b'n'), |key, value| {
            let number = key.get(1..).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok()).map(u32::from_be_bytes);
            let (ready, partner, route) = decode_lane(&value)?;
            let number = number.ok_or_else(|| Fault::Index("a lane has no number".into()))?;
            let lane = LaneState::new(number, ready);
            state.lanes.partner(partner).lanes.insert(route.to_owned(), lane);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        index.scan(b"r", &keys::behind(b'r'), |key, value| {
            state.roots.insert(text(&key[1..])?.to_owned(), decode_root(&value)?);
            Ok(std::ops::ControlFlow::Continue(()))
        })?;
        for wanted in [State::Active, State::Retrying] {
            let (from, to) = (keys::by_state(wanted, 0), keys::by_state(wanted, u64::MAX));
            let mut turns = Vec::new();
            index.scan(&from, &to, |key, _| {
                turns.extend(keys::last_number(&key));
                Ok(std::ops::ControlFlow::Continue(()))
            })?;
            for turn in turns {
                let stored = state.listed(index, turn)?;
                state.lanes.enter_lane(&stored.entry);
            }
        }
        Ok(state)
    }

    pub(super) fn stored(&self, index: &Index, id: FileId) -> Result<Option<Stored>, Fault> {
        match self.lanes.leases.get(&id) {
            // While it is active its turn stays, and is at hand.
            Some(held) => self.listed(index, held.turn).map(Some),
            None => self.staged.over(index).stored(id),
        }
    }

    /// The entry of a turn that a listing names.
    pub(super) fn listed(&self, index: &Index, turn: u64) -> Result<Stored, Fault> {
        self.staged.over(index).listed(turn)
    }

    /// Takes the record that stands at `seq` in the journal, or will. What a record may not follow on is refused before
    /// anything is changed; an index that cannot be read may leave half of it done, which [`Staged::touches`] tells.
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
        // Before anything is changed: from the next statement on there is no way back.
        if take == Take::Checked {
            self.check_names(index, &record.fact)?;
            self.check_others(index, record)?;
        }
        let before = old.as_ref().map(|old| &old.entry);
        let after = match take {
            Take::Checked => Entry::apply(before, seq, record)?,
            Take::Follow => Entry::follow(before, seq, record),
        };
        self.staged.touch();
        self.meta.applied = self.meta.applied.max(seq);
        self.meta.newest_at = self.meta.newest_at.max(Some(record.at));
        let Some(id) = record.id else {
            self.take_note(record);
            self.note_former(record);
            self.touch_others(index, seq, record, None)?;
            self.change_names(index, seq, record)?;
            return Ok(None);
        };
        if let Some(known) = KnownOrigin::of(record) {
            self.staged.put(keys::origin(id), known.encode()?);
        }
        if let Some((partner, key, file)) = KeyedFile::of(record) {
            self.keep_key(index, partner, key, &file)?;
        }
        if record.fact == Fact::Purged {
            self.keep_purged(index, id)?;
        }
        let effect = self.change_name_of(index, seq, record, after.as_ref(), old.as_ref())?;
        let mut new = after.map(|entry| next_stored(old.as_ref(), entry, seq, &record.fact));
        if let Some(new) = &mut new {
            effect.shape(new, &record.fact);
        }
        self.shift(index, old.as_ref(), new.as_ref())?;
        // After its own entry: a withdrawal gives the entry before it its name back, which
        // `change_name_of` took.
        self.touch_others(index, seq, record, old.as_ref().map(|old| &old.entry))?;
        Ok(new.map(|new| new.entry))
    }

    /// The other entries that the record is about follow it.
    fn touch_others(&mut self, index: &Index, seq: u64, record: &Record, own: Option<&Entry>) -> Result<(), Fault> {
        for id in Entry::others(record, own) {
            if let Some(old) = self.stored(index, id)? {
                self.touch_one(index, seq, record, &old)?;
            }
        }
        Ok(())
    }

    /// One of them does.
    fn touch_one(&mut self, index: &Index, seq: u64, record: &Record, old: &Stored) -> Result<Option<Entry>, Fault> {
        let Some(entry) = old.entry.touched(seq, record) else { return Ok(None) };
        let new = next_stored(Some(old), entry, seq, &record.fact);
        self.shift(index, Some(old), Some(&new))?;
        Ok(Some(new.entry))
    }

    /// A processor begins with a file of a claim, whose record stands at `seq` and will name it. Other records may have been
    /// taken since, about other files.
    pub(super) fn begin(&mut self, index: &Index, seq: u64, claim: &Record, old: &Stored) -> Result<Entry, Fault> {
        old.entry.check_touched(claim)?;
        self.staged.touch();
        self.meta.newest_at = self.meta.newest_at.max(Some(claim.at));
        self.touch_one(index, seq, claim, old)?.ok_or_else(|| missing(old.entry.id))
    }

    /// The record at `seq` is in the group.
    pub(super) fn reserve(&mut self, seq: u64) {
        self.staged.touch();
        self.meta.applied = self.meta.applied.max(seq);
    }

    /// Refuses a record about entries that it may not follow on.
    fn check_others(&self, index: &Index, record: &Record) -> Result<(), Fault> {
        if let Fact::Claimed { files, .. } = &record.fact {
            for file in files {
                let stored = self.stored(index, file.id)?.ok_or(QueueError::NotFound(file.id))?;
                stored.entry.check_touched(record)?;
            }
        }
        if let (Fact::Withdrawn { .. }, Some(id)) = (&record.fact, record.id)
            && self.is_continued(index, id)?
            && let Some(stored) = self.stored(index, id)?
        {
            let (state, action) = (stored.entry.state, "withdraw what another file continues");
            return Err(QueueError::WrongState { id, state, action }.into());
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

    /// What was received under the name of a removed partner until now is another one's than what comes.
    fn note_former(&mut self, record: &Record) {
        if let Fact::NamesForgotten { partner: name } = &record.fact
            && let Some(partner) = self.lanes.partners.get_mut(name)
        {
            // Whatever the clock says now, nothing in the journal is of the next one.
            partner.counts.become_former(self.meta.newest_at.unwrap_or(record.at));
            self.touched_partners.insert(name.clone());
        }
    }

    /// Returns whether a removed partner of the same name has sent the entry.
    pub(super) fn is_of_former(&self, entry: &Entry) -> bool {
        self.lanes.partners.get(&entry.partner).is_some_and(|partner| partner.counts.is_former(entry))
    }

    /// Remembers the id as purged, and forgets the smallest when there are too many.
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
                // Before the key goes: for smaller ids only the journal can tell from then on
                // (`read::knows`).
                self.meta.forgotten = self.meta.forgotten.max(id);
            }
            self.staged.remove(smallest);
            self.meta.purged -= 1;
        }
        Ok(())
    }

    /// Moves every key, counter and lane of an entry from its old to its new state.
    fn shift(&mut self, index: &Index, old: Option<&Stored>, new: Option<&Stored>) -> Result<(), Fault> {
        if let Some(old) = old.map(|old| &old.entry) {
            // Out of the old place first: the same keys may be written again below.
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
                self.staged.remove(keys::entry(old.entry.turn));
                self.staged.remove(keys::turn_of(old.entry.id));
                self.staged.remove(keys::of_partner(&old.entry.partner, old.entry.id));
            }
            _ => {}
        }
        self.rest(index, old.map(|old| &old.entry), new.map(|new| &new.entry))?;
        let Some(new) = new else { return Ok(()) };
        self.place(old.map(|old| old.entry.turn), new);
        self.list(index, &new.entry)?;
        self.lanes.enter(&new.entry);
        self.touch(&new.entry);
        Ok(())
    }

    /// Keeps the listing of what continues what: an entry is listed under the one whose bytes it
    /// needs, for as long as it needs them.
    fn rest(&mut self, index: &Index, old: Option<&Entry>, new: Option<&Entry>) -> Result<(), Fault> {
        let before = old.and_then(|old| Some((old.rests_on()?, old.id)));
        let after = new.and_then(|new| Some((new.rests_on()?, new.id)));
        if before == after {
            return Ok(());
        }
        if let Some((earlier, later)) = after {
            self.staged.put(keys::continued(earlier, later), Vec::new());
        }
        if let Some((earlier, later)) = before {
            self.staged.remove(keys::continued(earlier, later));
            // It may go by itself from now on.
            if let Some(Stored { entry, .. }) = self.stored(index, earlier)?
                && self.is_listed_as_ended(index, &entry)?
            {
                self.staged.put(keys::ended(entry.since, entry.turn), Vec::new());
            }
        }
        Ok(())
    }

    /// Returns whether the listing by ends names the entry. Of what a later one took the place of and goes on from, that one
    /// decides how long it stays: thousands of pieces of a file that waits are not looked at at every purge.
    pub(super) fn is_listed_as_ended(&self, index: &Index, entry: &Entry) -> Result<bool, Fault> {
        match entry.state {
            State::Superseded => Ok(!self.is_continued(index, entry.id)?),
            state => Ok(may_be_purged(state)),
        }
    }

    /// Returns whether another entry needs the bytes of this one.
    pub(super) fn is_continued(&self, index: &Index, id: FileId) -> Result<bool, Fault> {
        let (from, to) = keys::continuing(id);
        Ok(self.staged.first(index, &from, &to)?.is_some())
    }

    /// Stores the entry at its position in the queue, and the position under its id.
    fn place(&mut self, old_turn: Option<u64>, new: &Stored) {
        if old_turn != Some(new.entry.turn) {
            if let Some(turn) = old_turn {
                self.staged.remove(keys::entry(turn));
            }
            self.staged.put(keys::turn_of(new.entry.id), keys::turn_value(new.entry.turn));
        }
        self.staged.put(keys::entry(new.entry.turn), new.encode());
    }

    /// Keeps where the catalogue shows a file.
    pub(super) fn set_place(&mut self, index: &Index, id: FileId, place: Place) -> Result<(), Fault> {
        if let Some(mut stored) = self.stored(index, id)? {
            stored.place = Some(place);
            self.staged.put(keys::entry(stored.entry.turn), stored.encode());
        }
        Ok(())
    }

    fn unlist(&mut self, index: &Index, entry: &Entry, forget: bool) -> Result<(), Fault> {
        self.staged.remove(keys::by_state(entry.state, entry.turn));
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
            if self.staged.get(index, &key)?.is_some_and(|turn| keys::turn(&turn) == Some(entry.turn)) {
                self.staged.remove(key);
            }
        }
        Ok(())
    }

    fn list(&mut self, index: &Index, entry: &Entry) -> Result<(), Fault> {
        let nothing: &[u8] = &[];
        self.staged.put(keys::by_state(entry.state, entry.turn), nothing);
        if entry.state.waits() || entry.state == State::Active {
            self.number_lane(entry);
        }
        if entry.state == State::Ready
            && let Some(number) = self.lane_number(entry)
        {
            self.staged.put(keys::ready(number, entry.turn), nothing);
        }
        if self.is_listed_as_ended(index, entry)? {
            self.staged.put(keys::ended(entry.since, entry.turn), nothing);
        }
        if entry.state == State::Done {
            self.staged.put(keys::done(entry), keys::turn_value(entry.turn));
        }
        Ok(())
    }

    fn lane_number(&self, entry: &Entry) -> Option<u32> {
        Some(self.lanes.lane(&entry.partner, entry.route.as_deref()?)?.number)
    }

    fn number_lane(&mut self, entry: &Entry) {
        let Some(route) = &entry.route else { return };
        let next = self.meta.next_lane;
        let lanes = &mut self.lanes.partner(&entry.partner).lanes;
        if !lanes.contains_key(route) {
            lanes.insert(route.clone(), LaneState::new(next, 0));
            self.meta.next_lane += 1;
        }
    }

    /// Marks the partner and lane of an entry: their counters are written with the next batch.
    fn touch(&mut self, entry: &Entry) {
        if !self.touched_partners.contains(&entry.partner) {
            self.touched_partners.insert(entry.partner.clone());
        }
        if let Some(route) = &entry.route
            && let Some(lane) = self.lanes.partner(&entry.partner).lanes.get_mut(route)
        {
            lane.is_touched = true;
        }
    }

    /// The counters of the partners whose entries have changed since the last batch was taken.
    pub(super) fn touched_counts(&self) -> impl Iterator<Item = (&str, Counts)> {
        let counts = |name: &String| self.lanes.partners.get(name).map(|partner| partner.counts).unwrap_or_default();
        self.touched_partners.iter().map(move |name| (name.as_str(), counts(name)))
    }

    /// Everything that is staged, with counters and the applied sequence, as one batch.
    pub(super) fn take_batch(&mut self) -> Changes {
        for name in std::mem::take(&mut self.touched_partners) {
            let partner = self.lanes.partner(&name);
            let counts = partner.counts;
            for (route, lane) in partner.lanes.iter_mut().filter(|(_, lane)| lane.is_touched) {
                lane.is_touched = false;
                self.staged.put(keys::lane(lane.number), encode_lane(lane.ready, &name, route));
            }
            self.staged.put(keys::partner(&name), counts.encode());
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
        let files: u64 = self.all_counts().map(|(_, counts)| figures::all_files(&counts)).sum();
        if files != self.meta.entries {
            return disagree("the counters do not add up");
        }
        let ready: u64 = self.all_counts().map(|(_, counts)| counts.all(State::Ready).files).sum();
        let in_lanes: u64 = self.lanes.partners.values().flat_map(|p| p.lanes.values()).map(|lane| lane.ready).sum();
        if ready != in_lanes {
            return disagree("the lanes do not add up");
        }
        let Some((key, value)) = index.first(b"e", &keys::behind(b'e'))? else {
            return if files == 0 { Ok(()) } else { disagree("there are no entries") };
        };
        let oldest = Stored::decode(&value)?.entry;
        let turn = index.get(&keys::turn_of(oldest.id))?.and_then(|turn| keys::turn(&turn));
        match turn == keys::last_number(&key) && turn == Some(oldest.turn) && oldest.changed_seq <= self.meta.applied {
            true => Ok(()),
            false => disagree("the oldest entry is not where it should be"),
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
    let (replaced, place) = old.map_or((None, None), |old| (old.replaced, old.place.clone()));
    Stored { entry, basis, seqs, replaced, place }
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
