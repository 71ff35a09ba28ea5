//! Whose turn it is.

use std::collections::{HashMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::FileId;
use uuid::Uuid;

use super::{batch::Batch, index::Fault, keys, lanes::LaneState, staged::after};
use crate::{Actor, Claim, ClaimRequest, Entry, Fact, LeaseToken, Order, Record, RouteRequest, State};

/// A claim that meets nothing but duplicates gives up after so many, so that others get their turn.
const MOST_DUPLICATES: usize = 1_024;

/// Files that wait for their confirmation are passed over up to so many in a lane without order.
const MOST_PASSED: usize = 1_024;

impl Batch<'_> {
    /// Claims what the ask allows: one file of each partner in turn, and again until nothing more may be given.
    pub(super) fn claim(&mut self, ask: &ClaimRequest, now: DateTime<Utc>) -> Result<Vec<Claim>, Fault> {
        self.take_back_overdue(ask, now)?;
        self.waiting.prune(now);
        let mut round =
            Round { ask, now, given: HashMap::new(), spent: HashSet::new(), duplicates: 0, claims: Vec::new() };
        let partners = self.state.lanes.rotation();
        loop {
            let before = round.claims.len();
            for partner in &partners {
                if round.claims.len() >= ask.limit {
                    return Ok(round.claims);
                }
                self.claim_of(partner, &mut round)?;
            }
            if round.claims.len() == before {
                return Ok(round.claims);
            }
        }
    }

    /// One file of this partner, of whichever of its lanes has the oldest that may be given.
    fn claim_of(&mut self, partner: &str, round: &mut Round<'_>) -> Result<(), Fault> {
        loop {
            let active = self.state.lanes.partners.get(partner).map_or(0, |partner| partner.active);
            if round.ask.per_partner > 0 && active >= round.ask.per_partner {
                return Ok(());
            }
            let mut best: Option<(u64, FileId, &RouteRequest)> = None;
            for route in &round.ask.routes {
                let place = (partner.to_owned(), route.name.clone());
                if round.given.get(&route.name).copied().unwrap_or(0) >= route.slots || round.spent.contains(&place) {
                    continue;
                }
                match self.head(partner, route, round.now)? {
                    Some((turn, id)) if best.is_none_or(|(oldest, ..)| turn < oldest) => best = Some((turn, id, route)),
                    Some(_) => {}
                    None => {
                        round.spent.insert(place);
                    }
                }
            }
            let Some((_, id, route)) = best else { return Ok(()) };
            let entry = self.listed(id, State::waits)?;
            match self.earlier(&entry, round)? {
                Some(of) if round.duplicates < MOST_DUPLICATES => {
                    round.duplicates += 1;
                    self.write(&server(id, round.now, Fact::Duplicate { of }))?;
                }
                // The rest of them at the next claim.
                Some(_) => return Ok(()),
                None => {
                    self.start(&entry, route, round)?;
                    partner.clone_into(&mut self.state.lanes.served);
                    return Ok(());
                }
            }
        }
    }

    /// The file of the lane that may be given now.
    fn head(&self, partner: &str, route: &RouteRequest, now: DateTime<Utc>) -> Result<Option<(u64, FileId)>, Fault> {
        let Some(lane) = self.state.lanes.lane(partner, &route.name) else { return Ok(None) };
        if lane.files() == 0 || (route.order == Order::Strict && !lane.active.is_empty()) {
            return Ok(None);
        }
        if route.per_partner > 0 && lane.active.len() >= route.per_partner {
            return Ok(None);
        }
        let ready = self.claimable(lane, route.order, now)?;
        let retrying = match route.order {
            Order::Strict => lane.retrying.first_key_value().map(|(turn, (due, id))| (*turn, *due, *id)),
            Order::None => lane.due.first().and_then(|(due, turn)| Some((*turn, *due, lane.retrying.get(turn)?.1))),
        };
        Ok(match (retrying, ready) {
            (Some((turn, due, id)), ready) if ready.is_none_or(|(behind, _)| turn < behind) => match route.order {
                // It blocks those behind it until it is due.
                Order::Strict => (due <= now || self.clock_went_back(id, now)?).then_some((turn, id)),
                Order::None => {
                    if due <= now || self.clock_went_back(id, now)? {
                        Some((turn, id))
                    } else {
                        ready
                    }
                }
            },
            (_, ready) => ready,
        })
    }

    /// The first ready file of a lane, if it may be given. In a strict lane one that waits for its confirmation holds up
    /// those behind it; otherwise the next that does not wait may be given.
    fn claimable(&self, lane: &LaneState, order: Order, now: DateTime<Utc>) -> Result<Option<(u64, FileId)>, Fault> {
        if lane.ready == 0 {
            return Ok(None);
        }
        let (mut from, to) = (keys::ready(lane.number, 0).to_vec(), keys::ready(lane.number, u64::MAX));
        for _ in 0..MOST_PASSED {
            let Some((key, value)) = self.state.staged.first(self.index, &from, &to)? else { return Ok(None) };
            let (Some(turn), Some(id)) = (keys::last_number(&key), keys::id(&value)) else { return Ok(None) };
            if self.waiting.is_claimable(&self.listed(id, State::waits)?, now) {
                return Ok(Some((turn, id)));
            }
            if order == Order::Strict {
                return Ok(None);
            }
            from = after(&key);
        }
        Ok(None)
    }

    /// Returns whether the clock was set back since this file began to wait: then its time means nothing, and may be a year away.
    fn clock_went_back(&self, id: FileId, now: DateTime<Utc>) -> Result<bool, Fault> {
        Ok(self.listed(id, State::waits)?.since > now)
    }

    /// The same file, done shortly before, if there is one.
    fn earlier(&self, entry: &Entry, round: &Round<'_>) -> Result<Option<FileId>, Fault> {
        if round.ask.duplicate_window_ms == 0 || entry.not_duplicate {
            return Ok(None);
        }
        let Some(id) = self.state.staged.get(self.index, &keys::done(entry))? else { return Ok(None) };
        let id = keys::id(&id).ok_or_else(|| Fault::Index("a done file has no id".into()))?;
        let Some(other) = self.state.stored(self.index, id)?.map(|stored| stored.entry) else { return Ok(None) };
        let same = other.state == State::Done
            && other.id != entry.id
            && other.sha256 == entry.sha256
            && other.size_bytes == entry.size_bytes
            && other.name == entry.name
            && other.partner == entry.partner;
        let age_ms = u64::try_from((round.now - other.since).num_milliseconds()).unwrap_or(0);
        Ok((same && age_ms < round.ask.duplicate_window_ms).then_some(id))
    }

    fn start(&mut self, entry: &Entry, route: &RouteRequest, round: &mut Round<'_>) -> Result<(), Fault> {
        let token = LeaseToken(Uuid::new_v4());
        let attempt = entry.attempts.saturating_add(1);
        let until = later(round.now, round.ask.lease_ms);
        let entry = self.write_entry(&server(entry.id, round.now, Fact::Started { token, attempt, until }))?;
        *round.given.entry(route.name.clone()).or_default() += 1;
        round.claims.push(Claim { entry, token, attempt });
        Ok(())
    }

    /// A holder that let its lease run out is gone, and its file is ready again. A clock that jumped ahead makes all
    /// leases look so: they get half a lease more to be renewed in.
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
    given: HashMap<String, usize>,
    /// Lanes that have nothing more to give.
    spent: HashSet<(String, String)>,
    duplicates: usize,
    claims: Vec<Claim>,
}

fn server(id: FileId, at: DateTime<Utc>, fact: Fact) -> Record {
    Record { at, actor: Actor::Server, id: Some(id), fact }
}

fn later(at: DateTime<Utc>, ms: u64) -> DateTime<Utc> {
    let ms = i64::try_from(ms).ok().and_then(TimeDelta::try_milliseconds).unwrap_or(TimeDelta::MAX);
    at.checked_add_signed(ms).unwrap_or(DateTime::<Utc>::MAX_UTC)
}
