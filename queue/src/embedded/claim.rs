//! Chooses the files that a claim gets.
//!
//! Partners in rotation, one file of each in a round; of a partner's lanes the one whose first file
//! has waited longest, by its position. In a strict lane the first file blocks those after it while
//! it is active, retrying and not due, or waiting for its confirmation. In a lane without order it
//! is passed over.
//!
//! # Guarantees
//! - No file of a route that was not asked for, none above the asked limits, none that `Waiting`
//!   holds back.
//! - All files of one claim are journalled together, in one record (or a few) with one lease token.
//! - A file that is the same as one done shortly before becomes a duplicate on the way, by a record
//!   of its own.
//! - Leases that have ended are taken back first, with half a lease of grace.
//!
//! Runs on the committer's thread, within a group of changes: what it sees includes all that is
//! staged.

use std::{
    collections::{HashMap, HashSet},
    ops::ControlFlow,
};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::FileId;
use uuid::Uuid;

use super::{
    batch::{Batch, OpenClaim},
    entry_codec::Stored,
    index::Fault,
    keys,
    lanes::LaneState,
    staged::after,
};
use crate::{Actor, Claim, ClaimRequest, Entry, Fact, LeaseToken, NodeId, Order, Record, RouteRequest, State};

/// A claim that meets nothing but duplicates ends after this many, so that others get their turn.
const MOST_DUPLICATES: usize = 1_024;

/// The number of ready files of a lane that one look at the index finds.
const LOOK_AHEAD: usize = 64;

/// The number of files waiting for their confirmation that are passed over in a lane without order.
const MOST_PASSED: usize = 1_024;

impl Batch<'_> {
    /// Claims what the request allows: one file of each partner in turn, and again until nothing
    /// more may be given.
    ///
    /// # Errors
    /// The index's fault. The record of what was begun by then is complete all the same.
    pub(super) fn claim(&mut self, ask: &ClaimRequest, now: DateTime<Utc>) -> Result<Vec<Claim>, Fault> {
        // First: a file whose holder is gone may be given by this very claim.
        self.take_back_overdue(ask, now)?;
        self.waiting.prune(now);
        let mut round = Round {
            ask,
            now,
            token: LeaseToken(Uuid::new_v4()),
            open: None,
            given: HashMap::new(),
            spent: HashSet::new(),
            duplicates: 0,
            claims: Vec::new(),
        };
        let given = self.go_round(&mut round);
        // In any case: what has begun by then has begun.
        if let Some(open) = round.open.take() {
            self.finish(open)?;
        }
        given.map(|()| round.claims)
    }

    /// Rounds over the partners until one brings nothing. The rotation begins after the partner
    /// that was served last, so that a claim of one file at a time is fair too.
    fn go_round(&mut self, round: &mut Round<'_>) -> Result<(), Fault> {
        let partners = self.state.lanes.rotation();
        loop {
            let before = round.claims.len();
            for partner in &partners {
                if round.claims.len() >= round.ask.limit {
                    return Ok(());
                }
                self.claim_of(partner, round)?;
            }
            if round.claims.len() == before {
                return Ok(());
            }
        }
    }

    /// Claims one file of this partner, from the lane whose first file has the earliest position.
    fn claim_of(&mut self, partner: &str, round: &mut Round<'_>) -> Result<(), Fault> {
        loop {
            let active = self.state.lanes.partners.get(partner).map_or(0, |partner| partner.active);
            if round.ask.per_partner > 0 && active >= round.ask.per_partner {
                return Ok(());
            }
            let mut best: Option<(Stored, &RouteRequest)> = None;
            for route in &round.ask.routes {
                let lane = self.state.lanes.lane(partner, &route.name).map(|lane| lane.number);
                let Some(lane) = lane.filter(|lane| !round.spent.contains(lane)) else { continue };
                if round.given.get(&route.name).copied().unwrap_or(0) >= route.slots {
                    continue;
                }
                match self.head(partner, route, round.now)? {
                    Some(head) if best.as_ref().is_none_or(|(oldest, _)| head.entry.turn < oldest.entry.turn) => {
                        best = Some((head, route));
                    }
                    Some(_) => {}
                    None => {
                        // Within one claim a lane that has nothing gets nothing more, so it is
                        // asked once.
                        round.spent.insert(lane);
                    }
                }
            }
            let Some((head, route)) = best else { return Ok(()) };
            let entry = &head.entry;
            match self.earlier(entry, round)? {
                Some(of) if round.duplicates < MOST_DUPLICATES => {
                    round.duplicates += 1;
                    self.write(&server(entry.id, round.now, Fact::Duplicate { of }))?;
                }
                // The rest of them at the next claim.
                Some(_) => return Ok(()),
                None => {
                    self.start(&head, route, round)?;
                    // After a file was given, and not after a duplicate: that costs the partner no
                    // turn.
                    partner.clone_into(&mut self.state.lanes.served);
                    return Ok(());
                }
            }
        }
    }

    /// Returns the lane's file that may be given now.
    fn head(&self, partner: &str, route: &RouteRequest, now: DateTime<Utc>) -> Result<Option<Stored>, Fault> {
        let Some(lane) = self.state.lanes.lane(partner, &route.name) else { return Ok(None) };
        // The checks that need only the summary in memory come before any look at the index.
        if lane.files() == 0 || (route.order == Order::Strict && !lane.active.is_empty()) {
            return Ok(None);
        }
        if route.per_partner > 0 && lane.active.len() >= route.per_partner {
            return Ok(None);
        }
        let ready = self.claimable(lane, route.order, now)?;
        let retrying = match route.order {
            Order::Strict => lane.retrying.first_key_value().map(|(turn, (due, _))| (*turn, *due)),
            Order::None => lane.due.first().map(|(due, turn)| (*turn, *due)),
        };
        match retrying {
            Some((turn, due)) if ready.as_ref().is_none_or(|behind| turn < behind.entry.turn) => {
                let retrying = self.listed(turn, State::waits)?;
                match (due <= now || clock_went_back(&retrying, now), route.order) {
                    (true, _) => Ok(Some(retrying)),
                    // It blocks those behind it until it is due.
                    (false, Order::Strict) => Ok(None),
                    (false, Order::None) => Ok(ready),
                }
            }
            _ => Ok(ready),
        }
    }

    /// Returns a lane's first ready file if it may be given. In a strict lane one that waits for
    /// its confirmation blocks those after it; otherwise the next that does not wait may be given.
    fn claimable(&self, lane: &LaneState, order: Order, now: DateTime<Utc>) -> Result<Option<Stored>, Fault> {
        if lane.ready == 0 {
            return Ok(None);
        }
        let first = match lane.known_ready() {
            Some(first) => first,
            None => self.look_ahead(lane)?,
        };
        let first = self.listed(first, State::waits)?;
        match (self.waiting.is_claimable(&first.entry, now), order) {
            (true, _) => Ok(Some(first)),
            (false, Order::Strict) => Ok(None),
            (false, Order::None) => self.claimable_behind(lane, first.entry.turn, now),
        }
    }

    /// Finds the lane's first ready files in the index and remembers them. Returns the position of
    /// the first.
    fn look_ahead(&self, lane: &LaneState) -> Result<u64, Fault> {
        let (from, to) = (keys::ready(lane.number, lane.first_ready()), keys::ready(lane.number, u64::MAX));
        let mut turns = Vec::with_capacity(LOOK_AHEAD);
        self.state.staged.over(self.index).scan(&from, &to, |key, _| {
            turns.extend(keys::last_number(&key));
            Ok(if turns.len() < LOOK_AHEAD { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        lane.know_ready(&turns);
        // It is counted and not listed: asked again it would be the same, until the index is rebuilt.
        let none = || Fault::Index(format!("lane {} has {} ready files and lists none", lane.number, lane.ready));
        turns.first().copied().ok_or_else(none)
    }

    /// Returns the lane's first ready file after this position that does not wait.
    fn claimable_behind(&self, lane: &LaneState, turn: u64, now: DateTime<Utc>) -> Result<Option<Stored>, Fault> {
        let (mut from, to) = (keys::ready(lane.number, turn + 1).to_vec(), keys::ready(lane.number, u64::MAX));
        for _ in 1..MOST_PASSED {
            let Some((key, _)) = self.state.staged.first(self.index, &from, &to)? else { break };
            let turn = keys::last_number(&key).ok_or_else(|| Fault::Index("a lane names no turn".into()))?;
            let next = self.listed(turn, State::waits)?;
            if self.waiting.is_claimable(&next.entry, now) {
                return Ok(Some(next));
            }
            from = after(&key);
        }
        Ok(None)
    }

    /// Returns a file that is the same and was done shortly before, if there is one.
    fn earlier(&self, entry: &Entry, round: &Round<'_>) -> Result<Option<FileId>, Fault> {
        if round.ask.duplicate_window_ms == 0 || entry.not_duplicate {
            return Ok(None);
        }
        let Some(turn) = self.state.staged.get(self.index, &keys::done(entry))? else { return Ok(None) };
        let turn = keys::turn(&turn).ok_or_else(|| Fault::Index("a done file has no turn".into()))?;
        let Some(bytes) = self.state.staged.get(self.index, &keys::entry(turn))? else { return Ok(None) };
        let other = Stored::decode(&bytes)?.entry;
        // The key has only twelve bytes of a digest: the entries themselves decide.
        let same = other.state == State::Done
            && other.id != entry.id
            && other.sha256 == entry.sha256
            && other.size_bytes == entry.size_bytes
            && other.name == entry.name
            && other.partner == entry.partner
            // What another partner of the name has sent is nothing that this one sends twice.
            && self.state.is_of_former(&other) == self.state.is_of_former(entry);
        let age_ms = u64::try_from((round.now - other.since).num_milliseconds()).unwrap_or(0);
        Ok((same && age_ms < round.ask.duplicate_window_ms).then_some(other.id))
    }

    /// Begins with a file: stages it as active, and adds it to the claim's record.
    fn start(&mut self, file: &Stored, route: &RouteRequest, round: &mut Round<'_>) -> Result<(), Fault> {
        if let Some(full) = round.open.take_if(|open| open.is_full()) {
            self.finish(full)?;
        }
        let mut open = round.open.take().unwrap_or_else(|| self.open_claim(round.record(self.node)));
        let begun = self.begin(&mut open, file);
        // Put back before the error is looked at: the record has to be finished with what has
        // begun.
        round.open = Some(open);
        let (entry, attempt) = begun?;
        *round.given.entry(route.name.clone()).or_default() += 1;
        round.claims.push(Claim { entry, token: round.token, attempt, node: self.node.clone() });
        Ok(())
    }

    /// Takes back leases that have ended: their holder is gone, and the file is ready again. A
    /// clock that jumped ahead makes all leases look ended, so each gets half a lease more to be
    /// renewed in, from the first claim that sees it.
    fn take_back_overdue(&mut self, ask: &ClaimRequest, now: DateTime<Utc>) -> Result<(), Fault> {
        let mut gone = Vec::new();
        for (id, held) in &mut self.state.lanes.leases {
            if held.void || held.until > now {
                held.overdue_since = None;
                continue;
            }
            match held.overdue_since {
                Some(since) if since <= now && later(since, ask.lease_ms / 2) <= now => gone.push(*id),
                Some(since) if since <= now => {}
                _ => held.overdue_since = Some(now),
            }
        }
        for id in gone {
            let fact = Fact::Ended {
                state: State::Ready,
                counted: false,
                due_at: None,
                reason: Some("the lease ended without a word from its holder".into()),
                output: String::new(),
                messages: None,
            };
            self.write(&server(id, now, fact))?;
        }
        Ok(())
    }
}

/// What a claim has given so far.
struct Round<'a> {
    ask: &'a ClaimRequest,
    now: DateTime<Utc>,
    /// All of its leases have the same.
    token: LeaseToken,
    /// The record of what it gives.
    open: Option<OpenClaim>,
    /// Files given so far, by route.
    given: HashMap<String, usize>,
    /// Numbers of lanes that have nothing more to give.
    spent: HashSet<u32>,
    duplicates: usize,
    claims: Vec<Claim>,
}

impl Round<'_> {
    /// The record of what it gives, without the files.
    fn record(&self, node: &NodeId) -> Record {
        let until = later(self.now, self.ask.lease_ms);
        let fact = Fact::Claimed { token: self.token, until, node: node.clone(), files: Vec::new() };
        Record { at: self.now, actor: Actor::Server, id: None, fact }
    }
}

/// Returns true if the clock was set back since this file began to wait. Then its due time means
/// nothing, and may be a year away.
fn clock_went_back(file: &Stored, now: DateTime<Utc>) -> bool {
    file.entry.since > now
}

fn server(id: FileId, at: DateTime<Utc>, fact: Fact) -> Record {
    Record { at, actor: Actor::Server, id: Some(id), fact }
}

fn later(at: DateTime<Utc>, ms: u64) -> DateTime<Utc> {
    let ms = i64::try_from(ms).ok().and_then(TimeDelta::try_milliseconds).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(ms).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
