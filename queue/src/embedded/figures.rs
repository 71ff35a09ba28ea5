//! The queue in figures, from the outline in memory.
//!
//! Reading them costs a few keys of the index, however many files wait.

use std::{collections::HashMap, ops::Bound};

use chrono::{DateTime, Utc};
use forebay_storage::FileId;

use super::{
    counts::Counts,
    index::{Fault, Index},
    keys,
    lanes::LaneState,
    state::QueueState,
};
use crate::{Lane, LaneInfo, State, StateCount, StateTotal, Stats};

impl QueueState {
    /// Everything in figures: two look-ups for each lane that has something to do.
    pub(super) fn stats(&self, index: &Index) -> Result<Stats, Fault> {
        let mut stats = Stats { last_seq: self.meta.applied, ..Stats::default() };
        for (name, partner) in &self.lanes.partners {
            count_states(name, &partner.counts, &mut stats.counts);
            for (route, lane) in partner.lanes.iter().filter(|(_, lane)| lane.files() > 0) {
                let place = Lane { partner: name.clone(), route: route.clone() };
                self.count_lane(index, place, lane, &mut stats)?;
            }
        }
        Ok(stats)
    }

    fn count_lane(&self, index: &Index, place: Lane, lane: &LaneState, stats: &mut Stats) -> Result<(), Fault> {
        // The count is in memory; the index is looked at only when there is one.
        let ready = if lane.ready == 0 { None } else { self.first_ready(index, lane)? };
        let active = lane.active.first_key_value().map(|(turn, id)| (*turn, *id, State::Active, None));
        let retrying =
            lane.retrying.first_key_value().map(|(turn, (due, id))| (*turn, *id, State::Retrying, Some(*due)));
        let ready = ready.map(|(turn, id)| (turn, id, State::Ready, None));
        // Of those that are first in their lane: turns are given in the order of acceptance, so no
        // later one of its kind is older.
        for (turn, ..) in [ready, retrying].into_iter().flatten() {
            let received = self.listed(index, turn)?.entry.received_at;
            stats.oldest_waiting = Some(stats.oldest_waiting.map_or(received, |oldest| oldest.min(received)));
        }
        // The earliest turn is what the lane waits for, whatever its state.
        let head = [ready, active, retrying].into_iter().flatten().min_by_key(|(turn, ..)| *turn);
        if let Some((_, head, head_state, due_at)) = head {
            stats.lanes.push(LaneInfo { lane: place, files: lane.files(), head, head_state, due_at });
        }
        Ok(())
    }

    pub(super) fn first_ready(&self, index: &Index, lane: &LaneState) -> Result<Option<(u64, FileId)>, Fault> {
        let (from, to) = (keys::ready(lane.number, lane.first_ready()), keys::ready(lane.number, u64::MAX));
        let Some((key, _)) = self.staged.first(index, &from, &to)? else { return Ok(None) };
        let turn = keys::last_number(&key).ok_or_else(|| Fault::Index("a lane names no turn".into()))?;
        Ok(Some((turn, self.listed(index, turn)?.entry.id)))
    }

    /// The next time at which a retrying file becomes due. Leases that run out are left to the poll.
    pub(super) fn next_due(&self, now: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let lanes = self.lanes.partners.values().flat_map(|partner| partner.lanes.values());
        // Those that are due already are to be claimed and wake nobody.
        let behind = (Bound::Excluded((now, u64::MAX)), Bound::Unbounded);
        lanes.filter_map(|lane| lane.due.range(behind).next().map(|(due, _)| *due)).min()
    }
}

fn count_states(partner: &str, counts: &Counts, into: &mut Vec<StateCount>) {
    for state in State::ALL {
        for (is_former, count) in [(false, counts.own(state)), (true, counts.former(state))] {
            if count.files > 0 {
                let (partner, files, size_bytes) = (partner.to_owned(), count.files, count.own_bytes);
                into.push(StateCount { partner, is_former, state, files, size_bytes });
            }
        }
    }
}

/// The sums over these partners, one for each state.
pub(super) fn totals<'a>(partners: impl Iterator<Item = &'a Counts>) -> Vec<StateTotal> {
    let mut totals: Vec<_> =
        State::ALL.into_iter().map(|state| StateTotal { state, files: 0, size_bytes: 0 }).collect();
    for counts in partners {
        for total in &mut totals {
            let count = counts.all(total.state);
            total.files += count.files;
            total.size_bytes += count.own_bytes;
        }
    }
    totals
}

/// Files under the name, in all states.
pub(super) fn all_files(counts: &Counts) -> u64 {
    State::ALL.into_iter().map(|state| counts.all(state).files).sum()
}

/// Files of the partner that has the name now, in all states.
pub(super) fn files(counts: &Counts) -> u64 {
    State::ALL.into_iter().map(|state| counts.own(state).files).sum()
}

/// Bytes of the partner that has the name now that count as unprocessed: of whole files, for those that they continue are
/// over and count no more.
pub(super) fn unprocessed_bytes(counts: &Counts) -> u64 {
    let open = State::ALL.into_iter().filter(|state| !state.is_over());
    open.map(|state| counts.own(state).size_bytes).sum()
}

/// Bytes of files under the name that are over.
pub(super) fn over_bytes(counts: &Counts) -> u64 {
    let over = State::ALL.into_iter().filter(|state| state.is_over());
    over.map(|state| counts.all(state).own_bytes).sum()
}

/// How many files are over, of how many.
pub(super) fn over_of_all(counts: &HashMap<String, Counts>) -> (u64, u64) {
    let files = |state: State| counts.values().map(|counts| counts.all(state).files).sum::<u64>();
    let over = State::ALL.into_iter().filter(|state| state.is_over()).map(files).sum();
    (over, State::ALL.into_iter().map(files).sum())
}
