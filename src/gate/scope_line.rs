//! One scope's closings, laid out so that a state is found without walking them all.
//!
//! Here is the rule by which windows and overrides become open or closed: [`ScopeLine::hold`]
//! decides for an instant, [`ScopeLine::end`] follows it to the end of the closure. The data comes
//! from elsewhere: when windows occur from `timeline`, which override rules from
//! `overrides::ruling`. Pure: no clock, no lock.
//!
//! Windows and overrides that overlap or touch are one closure, from the first start to the last
//! end.

use std::time::Duration;

use chrono::{DateTime, Utc};

use super::{
    overrides::{Action, Override, Ruling, ruling},
    state::{Cause, Closure, Scope, State},
    timeline::{Closing, Timeline},
};

/// The most steps over closings that touch each other. A closure that has more ends here: too early
/// in what is shown, while each instant is still decided on its own.
const STEPS: usize = 100_000;

/// The closings of one scope in a period, by start.
pub(super) struct ScopeLine {
    scope: Scope,
    spots: Vec<Spot>,
    /// For each spot, the latest end among it and all before it: a walk back in time stops where
    /// this is over, because nothing earlier can reach further.
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
    /// The drain makes a route close earlier for claims and hand-overs, never for the web faces.
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

    /// Returns the state at an instant, and until when it stays the same if nobody acts and the
    /// clock runs forward. `None` for that time: as far as the timeline reaches.
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
        // The earliest of: the end of what is shown as the reason, the end of the whole closure,
        // and the next start of anything. At each of them the text may change although the gate
        // stays closed.
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

    /// Describes why and how long it is closed; the name and the texts are of what holds it now.
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

    /// The decision itself: what closes the scope at this instant, if anything does.
    ///
    /// The latest override in force rules. A closing one closes. An `open` lets through all windows
    /// but those that begin after it was given. Without an override the windows decide.
    fn hold<'a>(&'a self, overrides: &'a [Override], at: DateTime<Utc>) -> Option<Hold<'a>> {
        let after = match ruling(overrides, &self.scope, at) {
            Ruling::Closed(one) => return Some(Hold::Override(one)),
            Ruling::Opened(since) => Some(since),
            Ruling::Silent => None,
        };
        let mut found: Option<(&Spot, DateTime<Utc>)> = None;
        // The last to begin gives the names, and the end is the latest of all that hold.
        for spot in self.active(at).filter(|spot| after.is_none_or(|after| spot.from > after)) {
            let end = found.map_or(spot.closing.end, |(_, end)| end.max(spot.closing.end));
            found = Some((spot, end));
        }
        found.map(|(spot, end)| Hold::Window { spot, end })
    }

    /// Returns the spots that an instant lies in, the last to begin first.
    fn active(&self, at: DateTime<Utc>) -> impl Iterator<Item = &Spot> {
        let begun = self.spots.partition_point(|spot| spot.from <= at);
        let behind = (0..begun).rev().take_while(move |number| self.furthest[*number] > at);
        behind.map(|number| &self.spots[number]).filter(move |spot| spot.closing.end > at)
    }

    /// The end of a closure that is in force at `at`, over all that overlaps or touches.
    ///
    /// Steps from end to end, and also to each instant at which an `open` begins or ends, because
    /// that may end the closure before its windows do or let it begin again. `None`: not before an
    /// operator acts.
    fn end(&self, overrides: &[Override], at: DateTime<Utc>) -> Option<DateTime<Utc>> {
        let mut at = at;
        for _ in 0..STEPS {
            // Open at this instant: here the closure ends.
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

    /// The next instant at which it closes, from one at which it is open.
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
