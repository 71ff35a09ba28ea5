//! The summary that the committer keeps in memory: lanes, counters, leases. Waiting files
//! themselves stay in the index.
//!
//! Its size grows with partners and routes, with files that are active or retrying, and never with
//! those that wait. It changes by [`Lanes::leave`] and [`Lanes::enter`], which `QueueState::shift`
//! calls for each entry that changes; what it is after a restart is read from the index.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, VecDeque},
    sync::atomic::{AtomicU64, Ordering},
};

use chrono::{DateTime, Utc};
use forebay_storage::FileId;
use parking_lot::Mutex;

use super::counts::Counts;
use crate::{Entry, LeaseToken, State};

/// A lane in summary: the files of one partner on one route.
#[derive(Debug, Default)]
pub(super) struct LaneState {
    /// Its number in keys.
    pub(super) number: u32,
    /// How many of its files are ready.
    pub(super) ready: u64,
    /// The turns of the first of them, in order, as far as the index was looked at.
    ahead: Mutex<VecDeque<u64>>,
    /// No file with an earlier turn is ready. Where many were, the index has to step over what is left of them.
    first_ready: AtomicU64,
    /// Its outline is to be written.
    pub(super) is_touched: bool,
    /// Retrying files by turn, and the same by when they are due.
    pub(super) retrying: BTreeMap<u64, (DateTime<Utc>, FileId)>,
    pub(super) due: BTreeSet<(DateTime<Utc>, u64)>,
    /// Active files by turn.
    pub(super) active: BTreeMap<u64, FileId>,
}

impl LaneState {
    /// An outline of a lane with this number, of which so many files are ready.
    pub(super) fn new(number: u32, ready: u64) -> Self {
        Self { number, ready, ..Self::default() }
    }

    pub(super) fn first_ready(&self) -> u64 {
        self.first_ready.load(Ordering::Relaxed)
    }

    /// Returns the position of the first ready file, if that is known without a look at the index.
    pub(super) fn known_ready(&self) -> Option<u64> {
        self.ahead.lock().front().copied()
    }

    /// A look at the listing has found these turns first.
    pub(super) fn know_ready(&self, turns: &[u64]) {
        if let Some(first) = turns.first() {
            self.first_ready.store(*first, Ordering::Relaxed);
        }
        *self.ahead.lock() = turns.iter().copied().collect();
    }

    /// A file of this position is ready now.
    fn enter_ready(&mut self, turn: u64) {
        self.ready += 1;
        // A requeued or released file may come before all that wait.
        let first = self.first_ready.get_mut();
        *first = turn.min(*first);
        // Where it comes among them the index knows.
        let ahead = self.ahead.get_mut();
        // It belongs among those that are known, and only the index has the order: they are looked
        // up again.
        if ahead.back().is_some_and(|last| turn < *last) {
            ahead.clear();
        }
    }

    /// A file of this position is not ready any more.
    fn leave_ready(&mut self, turn: u64) {
        self.ready = self.ready.saturating_sub(1);
        let ahead = self.ahead.get_mut();
        // The usual case: files leave from the front.
        if ahead.front() == Some(&turn) {
            ahead.pop_front();
        } else {
            ahead.retain(|other| *other != turn);
        }
    }

    pub(super) fn files(&self) -> u64 {
        self.ready + self.retrying.len() as u64 + self.active.len() as u64
    }
}

/// A partner in outline.
#[derive(Debug, Default)]
pub(super) struct PartnerState {
    pub(super) counts: Counts,
    pub(super) lanes: BTreeMap<String, LaneState>,
    /// Active files over all its lanes.
    pub(super) active: usize,
}

/// A lease as the committer knows it. Its end is put off in memory alone: after a crash every lease is void.
#[derive(Clone, Debug)]
pub(super) struct Held {
    pub(super) token: LeaseToken,
    /// The entry's turn.
    pub(super) turn: u64,
    pub(super) until: DateTime<Utc>,
    /// Found active when the queue was opened: no one holds it.
    pub(super) void: bool,
    /// When a claim first found that it had ended.
    pub(super) overdue_since: Option<DateTime<Utc>>,
}

/// All partners in outline.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    pub(super) partners: BTreeMap<String, PartnerState>,
    pub(super) leases: HashMap<FileId, Held>,
    /// The partner that was served last.
    pub(super) served: String,
}

impl Lanes {
    /// Takes the entry out of counters and lane.
    pub(super) fn leave(&mut self, entry: &Entry) {
        let Some(partner) = self.partners.get_mut(&entry.partner) else { return };
        partner.counts.take(entry);
        if entry.state == State::Active {
            partner.active = partner.active.saturating_sub(1);
            // With the state: a lease of a file that is not active is nobody's.
            self.leases.remove(&entry.id);
        }
        // Files without a route are in no lane.
        let Some(lane) = entry.route.as_ref().and_then(|route| partner.lanes.get_mut(route)) else { return };
        match entry.state {
            State::Ready => lane.leave_ready(entry.turn),
            State::Retrying => {
                if let Some((due, _)) = lane.retrying.remove(&entry.turn) {
                    lane.due.remove(&(due, entry.turn));
                }
            }
            State::Active => {
                lane.active.remove(&entry.turn);
            }
            _ => {}
        }
    }

    /// Puts the entry into counters and lane, which there is already when the entry has one.
    pub(super) fn enter(&mut self, entry: &Entry) {
        let partner = self.partner(&entry.partner);
        partner.counts.add(entry);
        if let (State::Ready, Some(lane)) = (entry.state, lane_of(partner, entry)) {
            lane.enter_ready(entry.turn);
        }
        self.enter_lane(entry);
    }

    /// The part of [`Lanes::enter`] that the index keeps no number of.
    pub(super) fn enter_lane(&mut self, entry: &Entry) {
        let partner = self.partner(&entry.partner);
        match entry.state {
            State::Retrying => {
                let due = entry.due_at.unwrap_or(entry.since);
                if let Some(lane) = lane_of(partner, entry) {
                    lane.retrying.insert(entry.turn, (due, entry.id));
                    lane.due.insert((due, entry.turn));
                }
            }
            State::Active => {
                partner.active += 1;
                if let Some(lane) = lane_of(partner, entry) {
                    lane.active.insert(entry.turn, entry.id);
                }
                if let Some(lease) = &entry.lease {
                    let (token, until) = (lease.token, lease.until);
                    let held = Held { token, turn: entry.turn, until, void: false, overdue_since: None };
                    self.leases.insert(entry.id, held);
                }
            }
            _ => {}
        }
    }

    pub(super) fn partner(&mut self, name: &str) -> &mut PartnerState {
        // Asked first, so that the name is copied only for a new partner.
        if !self.partners.contains_key(name) {
            self.partners.insert(name.to_owned(), PartnerState::default());
        }
        self.partners.entry(name.to_owned()).or_default()
    }

    pub(super) fn lane(&self, partner: &str, route: &str) -> Option<&LaneState> {
        self.partners.get(partner)?.lanes.get(route)
    }

    /// No lease outlives the process that gave it.
    pub(super) fn void_leases(&mut self) {
        self.leases.values_mut().for_each(|held| held.void = true);
    }

    /// Returns partners in the order in which they are to be served, beginning after the one served
    /// last.
    pub(super) fn rotation(&self) -> Vec<String> {
        let behind = self
            .partners
            .range::<String, _>((std::ops::Bound::Excluded(self.served.clone()), std::ops::Bound::Unbounded));
        let before = self.partners.range::<String, _>(..=self.served.clone());
        behind
            .chain(before)
            // Those with nothing to do would only cost a look.
            .filter(|(_, partner)| partner.lanes.values().any(|lane| lane.files() > 0))
            .map(|(name, _)| name.clone())
            .collect()
    }
}

fn lane_of<'a>(partner: &'a mut PartnerState, entry: &Entry) -> Option<&'a mut LaneState> {
    partner.lanes.get_mut(entry.route.as_ref()?)
}
