//! One scope's closings, laid out so that a state is found without walking them all.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    overrides::{Action, Override, Ruling, ruling},
    state::{Cause, Closure, Scope, State},
    timeline::{Closing, Timeline},
};

/// Bounds the walk over closings that touch each other.
const STEPS: usize = 100_000;

pub(super) struct ScopeLine {
    scope: Scope,
    spots: Vec<Spot>,
    /// For each spot, the latest end among it and all before it.
    furthest: Vec<DateTime<Utc>>,
}

/// A closing as this scope feels it.
struct Spot {
    /// The start, less the drain.
    from: DateTime<Utc>,
    closing: Closing,
}

/// The reason why the scope is closed at an instant, and the earliest end of that.
enum Hold<'a> {
    Window { spot: &'a Spot, end: DateTime<Utc> },
    Override(&'a Override),
}

impl Hold<'_> {
    fn end(&self) -> Option<DateTime<Utc>> {
        match self {
            Self::Window { end, .. } => Some(*end),
            Self::Override(one) => one.until,
        }
    }
}

impl ScopeLine {
    pub(super) fn new(timeline: &Timeline, scope: &Scope, drain: Duration) -> Self {
        // Draining concerns claims only: the web faces stay open until the start itself.
        let drain = if *scope == Scope::Web { Duration::ZERO } else { drain };
        let mut spots: Vec<Spot> = Vec::new();
        for closing in timeline.closings.iter().filter(|closing| closing.window.closes(scope.name())) {
            spots.push(Spot { from: closing.start - drain, closing: closing.clone() });
        }
        let mut latest = DateTime::<Utc>::MIN_UTC;
        let furthest = spots.iter().map(|spot| {
            latest = latest.max(spot.closing.end);
            latest
        });
        let furthest = furthest.collect();
        Self { scope: scope.clone(), spots, furthest }
    }

    /// The state at an instant, and until when it stays the same if nobody acts and the clock runs forward.
    pub(super) fn state(&self, overrides: &[Override], at: DateTime<Utc>) -> (State, Option<DateTime<Utc>>) {
        let overrides: Vec<&Override> = overrides.iter().filter(|one| one.concerns(&self.scope)).collect();
        let overrides: Vec<Override> = overrides.into_iter().cloned().collect();
        let Some(hold) = self.hold(&overrides, at) else {
            let closes_at = self.next_close(&overrides, at);
            return (State::Open { closes_at }, closes_at);
        };
        let closure = self.closure(&overrides, &hold, at);
        let shown = match hold {
            Hold::Window { spot, .. } => Some(spot.closing.end),
            Hold::Override(one) => one.until,
        };
        let same_until = [shown, closure.until, self.next_turn(&overrides, at)].into_iter().flatten().min();
        (State::Closed(closure), same_until)
    }

    /// The closure of this instant with its start and end, from windows and overrides alike. An `open` ends with it.
    pub(super) fn present(
        &self,
        overrides: &[Override],
        at: DateTime<Utc>,
    ) -> Option<(DateTime<Utc>, Option<DateTime<Utc>>)> {
        self.hold(overrides, at)?;
        let mut from = at;
        let mut until = Some(at);
        for spot in self.active(at) {
            from = from.min(spot.from);
            until = until.map(|until| until.max(spot.closing.end));
        }
        for one in
            overrides.iter().filter(|one| one.concerns(&self.scope) && one.lasts(at) && one.action != Action::Open)
        {
            until = until.zip(one.until).map(|(one, other)| one.max(other));
        }
        Some((from, until))
    }

    fn closure(&self, overrides: &[Override], hold: &Hold<'_>, at: DateTime<Utc>) -> Closure {
        let until = self.end(overrides, at);
        match hold {
            Hold::Override(one) => Closure {
                until,
                since: Some(one.at).filter(|since| *since <= at),
                name: one.name.clone(),
                reason: one.reason.clone(),
                message: one.message.clone(),
                cause: Cause::Override(one.id),
            },
            Hold::Window { spot, .. } => Closure {
                until,
                since: Some(self.began(spot.from)),
                name: spot.closing.window.name.clone(),
                reason: spot.closing.window.reason.clone(),
                message: spot.closing.window.message.clone(),
                cause: Cause::Window,
            },
        }
    }

    /// The raw decision.
    fn hold<'a>(&'a self, overrides: &'a [Override], at: DateTime<Utc>) -> Option<Hold<'a>> {
        let after = match ruling(overrides, &self.scope, at) {
            Ruling::Closed(one) => return Some(Hold::Override(one)),
            Ruling::Opened(since) => Some(since),
            Ruling::Silent => None,
        };
        let mut found: Option<(&Spot, DateTime<Utc>)> = None;
        for spot in self.active(at).filter(|spot| after.is_none_or(|after| spot.from > after)) {
            let end = found.map_or(spot.closing.end, |(_, end)| end.max(spot.closing.end));
            found = Some((spot, end));
        }
        found.map(|(spot, end)| Hold::Window { spot, end })
    }

    /// The spots that an instant lies in, the last to begin first.
    fn active(&self, at: DateTime<Utc>) -> impl Iterator<Item = &Spot> {
        let begun = self.spots.partition_point(|spot| spot.from <= at);
        let behind = (0..begun).rev().take_while(move |number| self.furthest[*number] > at);
        behind.map(|number| &self.spots[number]).filter(move |spot| spot.closing.end > at)
    }

    /// The end of a closure that is in force at `at`, over all that overlaps or touches.
    fn end(&self, overrides: &[Override], at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut at = at;
        for _ in 0..STEPS {
            let Some(hold) = self.hold(overrides, at) else { return Some(at) };
            let turn =
                opens(overrides).flat_map(|one| [Some(one.from), one.until]).flatten().filter(|turn| *turn > at).min();
            at = match (hold.end(), turn) {
                (None, None) => return None,
                (Some(end), Some(turn)) => end.min(turn),
                (Some(one), None) | (None, Some(one)) => one,
            };
        }
        Some(at)
    }

    /// The start of the closure that this start belongs to.
    fn began(&self, from: DateTime<Utc>) -> DateTime<Utc> {
        let mut from = from;
        for number in (0..self.spots.partition_point(|spot| spot.from < from)).rev() {
            if self.furthest[number] < from {
                break;
            }
            if self.spots[number].closing.end >= from {
                from = from.min(self.spots[number].from);
            }
        }
        from
    }

    fn next_close(&self, overrides: &[Override], at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut at = at;
        for _ in 0..STEPS {
            at = self.next_turn(overrides, at)?;
            if self.hold(overrides, at).is_some() {
                break;
            }
        }
        Some(at)
    }

    /// The next instant at which something begins, or an override turns.
    fn next_turn(&self, overrides: &[Override], at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let begins = self.spots.get(self.spots.partition_point(|spot| spot.from <= at)).map(|spot| spot.from);
        let turns = overrides.iter().flat_map(|one| [Some(one.from), one.until]).flatten();
        turns.filter(|turn| *turn > at).chain(begins).min()
    }
}

fn opens(overrides: &[Override]) -> impl Iterator<Item = &Override> {
    overrides.iter().filter(|one| one.action == Action::Open)
}
