//! All that a decision needs, unchanging but for what has been worked out from it already.
//!
//! A decision depends on nothing but this, the scope and the instant, so the same question has the
//! same answer on every thread until the next epoch. Results are cached until the next instant at
//! which they may change; both caches are bounded ([`SCOPES`]), because routes are named by
//! operators and files.
//!
//! An untrusted clock or a broken schedule close before any window is asked. An `open` that was
//! given while the schedule was broken lets its scopes through.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::{Mutex, RwLock};

use super::{
    overrides::{Action, Override},
    schedule::{MESSAGE, Schedule},
    scope_line::ScopeLine,
    state::{Cause, Closure, Scope, State},
    timeline::{HORIZON, Timeline},
};

/// Bounds what is remembered when scopes are made up.
const SCOPES: usize = 1_024;

/// One state of schedule, overrides and trust in the clock, under one epoch.
pub(super) struct Snapshot {
    pub(super) epoch: u64,
    pub(super) schedule: Arc<Schedule>,
    /// The instant since which there is no good schedule.
    pub(super) broken: Option<DateTime<Utc>>,
    /// The journal's newest record, while the clock is behind it and nobody confirmed that.
    pub(super) untrusted: Option<DateTime<Utc>>,
    pub(super) overrides: Vec<Override>,
    forecast: Mutex<Option<Forecast>>,
    states: RwLock<HashMap<Scope, Known>>,
}

/// A timeline around the time at which it was made, and what scopes have taken from it.
struct Forecast {
    from: DateTime<Utc>,
    /// Until here its closings are known well enough; the timeline itself reaches further.
    to: DateTime<Utc>,
    timeline: Arc<Timeline>,
    lines: HashMap<Scope, Arc<ScopeLine>>,
}

/// A state, and for how long it holds.
struct Known {
    from: DateTime<Utc>,
    to: DateTime<Utc>,
    state: State,
}

impl Snapshot {
    pub(super) fn new(
        epoch: u64,
        schedule: Arc<Schedule>,
        broken: Option<DateTime<Utc>>,
        untrusted: Option<DateTime<Utc>>,
        overrides: Vec<Override>,
    ) -> Self {
        let (forecast, states) = (Mutex::new(None), RwLock::new(HashMap::new()));
        Self { epoch, schedule, broken, untrusted, overrides, forecast, states }
    }

    /// Returns the state of a scope. Cached until the next instant at which it may change.
    pub(super) fn state(&self, scope: &Scope, at: DateTime<Utc>) -> State {
        if let Some(known) = self.states.read().get(scope)
            && known.from <= at
            && at < known.to
        {
            return known.state.clone();
        }
        let (state, to) = self.work_out(scope, at);
        let mut states = self.states.write();
        // Emptied as a whole: that is rare, and each state can be worked out again.
        if states.len() >= SCOPES {
            states.clear();
        }
        states.insert(scope.clone(), Known { from: at, to, state: state.clone() });
        state
    }

    /// Works the state out, and until when it holds.
    fn work_out(&self, scope: &Scope, at: DateTime<Utc>) -> (State, DateTime<Utc>) {
        let (line, known_to) = self.line(scope, at);
        // Before the windows: neither they nor an `open` override count while the clock is not
        // trusted.
        if let Some(closure) = self.beyond_schedule(scope, at) {
            let to = closure.until.unwrap_or(known_to);
            return (State::Closed(closure), to);
        }
        let (state, to) = line.state(&self.overrides, at);
        (state, to.unwrap_or(known_to).min(known_to))
    }

    /// The closure that no window and no override makes: the clock is not trusted, or there is no good schedule.
    pub(super) fn beyond_schedule(&self, scope: &Scope, at: DateTime<Utc>) -> Option<Closure> {
        if let Some(newest) = self.untrusted.filter(|newest| at < *newest) {
            return Some(untrusted(newest));
        }
        self.broken.filter(|_| !self.opened_though_broken(scope)).map(broken)
    }

    fn opened_though_broken(&self, scope: &Scope) -> bool {
        self.overrides.iter().any(|one| one.action == Action::Open && one.broken && one.concerns(scope))
    }

    /// The start and the end of the closure that `open` would reopen.
    ///
    /// `None` for a scope that is open. An end of `None` means: until an operator acts.
    pub(super) fn present(&self, scope: &Scope, at: DateTime<Utc>) -> Option<(DateTime<Utc>, Option<DateTime<Utc>>)> {
        if self.broken.is_some() && !self.opened_though_broken(scope) {
            return Some((at, None));
        }
        self.line(scope, at).0.present(&self.overrides, at)
    }

    /// The scope's closings around an instant, and until when they are worked out well enough.
    fn line(&self, scope: &Scope, at: DateTime<Utc>) -> (Arc<ScopeLine>, DateTime<Utc>) {
        let mut forecast = self.forecast.lock();
        let forecast = match &mut *forecast {
            Some(forecast) if forecast.from <= at && at < forecast.to => forecast,
            other => other.insert(Forecast {
                from: at - TimeDelta::days(1),
                to: at + TimeDelta::days(7),
                // From three days before, so that windows that began before and last are in it.
                timeline: Arc::new(Timeline::expand(&self.schedule, at - TimeDelta::days(3), at + HORIZON)),
                lines: HashMap::new(),
            }),
        };
        if forecast.lines.len() >= SCOPES {
            forecast.lines.clear();
        }
        let Forecast { timeline, lines, to, .. } = forecast;
        let line = lines.entry(scope.clone());
        let line = line.or_insert_with(|| Arc::new(ScopeLine::new(timeline, scope, self.schedule.drain)));
        (Arc::clone(line), *to)
    }

    /// The scopes that windows or overrides name, the web faces, and `*` for all other routes.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        let mut names = self.schedule.names();
        names.extend(self.overrides.iter().flat_map(|one| one.scope.iter().cloned()));
        names.retain(|name| name != Scope::Web.name() && name != OTHERS);
        names.sort_unstable();
        names.dedup();
        let named = names.into_iter().map(Scope::Route);
        [Scope::Web].into_iter().chain(named).chain([Scope::Route(OTHERS.to_owned())]).collect()
    }
}

/// Stands for every route that nothing names.
pub(super) const OTHERS: &str = "*";

fn untrusted(newest: DateTime<Utc>) -> Closure {
    Closure {
        until: Some(newest),
        since: None,
        name: "The clock is not trusted".to_owned(),
        reason: "the clock is behind the newest record of the journal".to_owned(),
        message: MESSAGE.to_owned(),
        cause: Cause::UntrustedClock,
    }
}

fn broken(since: DateTime<Utc>) -> Closure {
    Closure {
        until: None,
        since: Some(since),
        name: "The schedule is broken".to_owned(),
        reason: "the maintenance schedule cannot be read and there is no earlier one".to_owned(),
        message: MESSAGE.to_owned(),
        cause: Cause::BrokenSchedule,
    }
}
