//! The gate: now, what comes, and overrides.
//!
//! Requests that change the gate do it in this order: the override takes force and is on disk in
//! the gate's own memory (a closing is in force first, an opening on disk first); then the journal
//! gets its line for the audit trail; then the operator is answered. A crash between the first two
//! loses the line, never the override. When the journal takes no line, the answer says that the
//! override holds all the same.
//!
//! Plans (`gate list`, `gate simulate`) are made from the schedule in force. When the file on disk
//! is another, because it is broken or has not stood still yet, a [`Reply::Plan`] says so first and
//! the answer ends as failed, so that a script does not take the plan for the whole truth.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use forebay_queue::Actor;
use serde_json::Value;

use super::{
    answer::Answer,
    operator::{Operator, name_of},
    problem::{Problem, Result},
    reply::{ClosureView, GateView, OverrideView, PlanView, Reply, RunningView, ScopeView},
    request::End,
    time_input,
};
use crate::gate::{Action, Closure, Gate, GateError, Override, Scope, Span, State, Until, WEB};
use crate::units;

impl From<GateError> for Problem {
    fn from(error: GateError) -> Self {
        match &error {
            GateError::NoSuchOverride(_) => Self::not_found(format!("{error}; `forebay gate status` shows them")),
            GateError::TooEarly { .. } | GateError::Words(_) => Self::usage(error.to_string()),
            _ => Self::failed(error.to_string()),
        }
    }
}

/// The interval at which `gate close --wait` checks for running attempts.
const LOOK: Duration = Duration::from_millis(200);

impl Operator {
    /// The gate now.
    /// One [`Reply::Gate`].
    pub(super) async fn gate_status(&self, answer: &Answer) -> Result<()> {
        answer.give(Reply::Gate(Box::new(self.gate_view()))).await
    }

    /// Windows that come.
    /// One [`Reply::Closure`] for each window that begins or lasts before `to`. Overrides are not
    /// in it.
    ///
    /// # Errors
    /// A usage problem when `to` is no time; a failure, after all windows, when the file of the
    /// schedule is not in force.
    pub(super) async fn gate_list(&self, to: &str, answer: &Answer) -> Result<()> {
        let (from, to) = (self.now(), self.future(to)?);
        // Said first, and made the result last: whoever reads only the beginning knows, and whoever
        // looks only at the exit code too.
        let refused = self.tell_plan(answer).await?;
        for one in self.dependencies.gate.upcoming(from, to) {
            let view = ClosureView {
                name: one.name,
                from: one.start,
                until: Some(one.end),
                from_local: one.start_local,
                until_local: Some(one.end_local),
                routes: one.routes,
                reason: one.reason,
                message: Some(one.message).filter(|message| !message.is_empty()),
            };
            answer.give(Reply::Closure(view)).await?;
        }
        refused
    }

    /// Lists the closings of a period, by schedule and overrides as they are.
    pub(super) async fn gate_simulate(&self, from: &str, to: &str, answer: &Answer) -> Result<()> {
        let (from, to) = (self.future(from)?, self.future(to)?);
        if to <= from {
            return Err(Problem::usage("--to must be later than --from"));
        }
        let refused = self.tell_plan(answer).await?;
        for (span, routes) in together(self.dependencies.gate.simulate(from, to)) {
            let view = ClosureView {
                name: span.name,
                from: span.from,
                until: span.to,
                from_local: time_input::long(span.from, self.zone()),
                until_local: span.to.map(|at| time_input::long(at, self.zone())),
                routes,
                reason: span.reason,
                message: None,
            };
            answer.give(Reply::Closure(view)).await?;
        }
        refused
    }

    /// Says what of the schedule's file is not in force, before anything is planned by what is. The result is for the
    /// end of the answer: who plans must not take it for the whole.
    /// The outer result is that nobody reads the answer any more.
    async fn tell_plan(&self, answer: &Answer) -> Result<Result<()>> {
        let Some(view) = self.plan_view() else { return Ok(Ok(())) };
        let text = "this plan is made of what is in force, and not of the file as it is";
        answer.give(Reply::Plan(view)).await?;
        Ok(Err(Problem::failed(text)))
    }

    /// Nothing when the schedule in force is that of the file.
    fn plan_view(&self) -> Option<PlanView> {
        let gate = &self.dependencies.gate;
        let schedule = gate.status().schedule;
        let file = schedule.file.as_deref().unwrap_or("the schedule");
        let refused = match (schedule.broken_since, schedule.pending) {
            (Some(since), _) => {
                let all: Vec<_> = schedule.faults.iter().map(ToString::to_string).collect();
                vec![format!("{file} is refused since {}: {}", gate.local(since), all.join("; "))]
            }
            (None, true) => {
                vec![format!(
                    "a change of {file} waits until the file has stood still; what it closes is closed already"
                )]
            }
            (None, false) => return None,
        };
        let in_force = match (schedule.is_good, schedule.in_force_since) {
            (false, _) => "no schedule, so everything is closed until one is good, or `forebay gate open`".to_owned(),
            (true, Some(since)) => {
                format!("the last good schedule, of {}, with {}", gate.local(since), windows(schedule.windows))
            }
            (true, None) => format!("a schedule with {}", windows(schedule.windows)),
        };
        Some(PlanView { refused, in_force, schedule: schedule.is_good })
    }

    /// Closes the gate. When this has answered, no hand-over can begin any more.
    /// Attempts that were begun before go on: they are named in the answer, and `wait` makes the
    /// answer last until they are over. Without an end it holds until `gate open` or `gate clear`.
    ///
    /// # Errors
    /// A route that does not exist or an end in the past: nothing is closed. A memory that cannot
    /// be written: closed all the same, until a restart.
    ///
    /// Cancel safety: once begun the closing is carried out, even if the client goes; only waiting
    /// is cut.
    #[allow(clippy::too_many_arguments, reason = "they are the fields of the request")]
    pub(super) async fn gate_close(
        &self,
        routes: Vec<String>,
        end: End,
        reason: String,
        message: Option<String>,
        wait: bool,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        self.check_routes(&routes)?;
        let until = match end {
            End::Open => None,
            End::After(ms) => Some(self.now() + delta(ms)?),
            End::At(text) => Some(self.future(&text)?),
        };
        let by = name_of(&actor);
        // The gate first: an audit line for a closing that then failed would be a lie.
        let scope = routes.clone();
        let closed = self.at_gate(move |gate| gate.close(scope, until, reason, message, by)).await?;
        self.record("gate.close", &closed, &actor).await?;
        answer.give(Reply::Override(view(&closed))).await?;
        self.await_running(&routes, wait, answer).await
    }

    /// Names what still runs behind the closed gate, and waits for its end if that is wanted.
    /// Every attempt is named once, also one that began before the closing and was seen late.
    async fn await_running(&self, routes: &[String], wait: bool, answer: &Answer) -> Result<()> {
        let concerned = |running: &RunningView| routes.is_empty() || routes.contains(&running.route);
        let mut told = Vec::new();
        loop {
            let running: Vec<_> = self.running().into_iter().filter(concerned).collect();
            for one in &running {
                if !told.contains(&(one.id, one.attempt)) {
                    told.push((one.id, one.attempt));
                    answer.give(Reply::Running(one.clone())).await?;
                }
            }
            if running.is_empty() {
                return answer.give(Reply::Said("the gate is closed; nothing runs".to_owned())).await;
            }
            if !wait {
                let count = running.len();
                let runs =
                    if count == 1 { "1 attempt still runs".to_owned() } else { format!("{count} attempts still run") };
                let text = format!("the gate is closed; {runs} (--wait waits for the end)");
                return answer.give(Reply::Said(text)).await;
            }
            tokio::select! {
                () = answer.gone() => return Err(Problem::gone()),
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    /// Opens the gate for the rest of the present closure.
    /// It opens what is closed now, by schedule or override, until that closure would have ended;
    /// the next window closes again.
    pub(super) async fn gate_open(
        &self,
        routes: Vec<String>,
        reason: String,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        self.check_routes(&routes)?;
        let by = name_of(&actor);
        let opened = self.at_gate(move |gate| gate.reopen(routes, reason, by)).await?;
        self.record("gate.open", &opened, &actor).await?;
        answer.give(Reply::Override(view(&opened))).await
    }

    /// Puts the end of the present closure off.
    /// # Errors
    /// When nothing is closed, or the new end is not later than the present one.
    pub(super) async fn gate_extend(
        &self,
        end: End,
        reason: Option<String>,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        let until = match end {
            End::Open => return Err(Problem::usage("say --by or --until")),
            End::After(ms) => Until::By(Duration::from_millis(ms)),
            End::At(text) => Until::At(self.future(&text)?),
        };
        let by = name_of(&actor);
        let reason = reason.unwrap_or_else(|| "extended".to_owned());
        let extended = self.at_gate(move |gate| gate.extend(until, reason, by)).await?;
        self.record("gate.extend", &extended, &actor).await?;
        answer.give(Reply::Override(view(&extended))).await
    }

    /// Takes overrides back.
    /// One of them by its id, or all.
    pub(super) async fn gate_clear(
        &self,
        id: Option<String>,
        reason: Option<String>,
        actor: Actor,
        answer: &Answer,
    ) -> Result<()> {
        let id = id
            .map(|text| text.parse::<u64>().map_err(|_| Problem::usage(format!("\"{text}\" is no override's id"))))
            .transpose()?;
        let by = name_of(&actor);
        // All go at once and in one write: after a crash either all hold or none.
        let cleared = self.at_gate(move |gate| gate.clear(id, &by)).await?;
        for one in &cleared {
            let why = reason.as_deref().map_or(String::new(), |reason| format!(": {reason}"));
            self.note(&actor, "gate.clear", &format!("override {} taken back{why}", one.id)).await?;
            answer.give(Reply::Override(view(one))).await?;
        }
        let text = match cleared.len() {
            0 => "there is no override; the schedule decides".to_owned(),
            1 => "1 override taken back".to_owned(),
            count => format!("{count} overrides taken back"),
        };
        answer.give(Reply::Said(text)).await
    }

    /// Trusts the clock.
    /// For a clock that was set, after which the gate opens nothing for a while: the operator says
    /// that the time is right now.
    pub(super) async fn gate_confirm_clock(&self, actor: Actor, answer: &Answer) -> Result<()> {
        let by = name_of(&actor);
        self.at_gate(move |gate| gate.confirm_clock(&by)).await?;
        self.note(&actor, "gate.confirm_clock", "the clock was confirmed to be right").await?;
        answer.give(Reply::Said("the clock is trusted".to_owned())).await
    }

    /// The gate as operators see it.
    /// `closed` for everything means that no route can start anything; single scopes say the rest.
    pub(super) fn gate_view(&self) -> GateView {
        let gate = &self.dependencies.gate;
        let status = gate.status();
        let everything = gate.state(&Scope::Route("*".to_owned()));
        let mut scopes: Vec<_> =
            self.dependencies.routes.iter().map(|route| Scope::Route(route.name().to_owned())).collect();
        scopes.push(Scope::Web);
        let scopes: Vec<_> = scopes.iter().map(|scope| scope_view(scope, &gate.state(scope))).collect();
        let mut faults = Vec::new();
        if let Some(since) = status.schedule.broken_since {
            let all: Vec<_> = status.schedule.faults.iter().map(ToString::to_string).collect();
            faults.push(format!("the schedule is broken since {}: {}", gate.local(since), all.join("; ")));
        }
        if let Some(newest) = status.clock_behind {
            faults.push(format!(
                "the clock is behind the journal's newest record of {}; set it right, or `forebay gate confirm-clock`",
                gate.local(newest)
            ));
        }
        if let Some(jumped) = status.clock_jumped {
            let by = Duration::from_secs(jumped.seconds.unsigned_abs());
            faults.push(format!(
                "the clock was set {} {}: it opens nothing before {}; if it is right, `forebay gate confirm-clock`",
                units::format_duration(by),
                if jumped.seconds < 0 { "back" } else { "forward" },
                gate.local(jumped.settles_at)
            ));
        }
        // With all routes named in the schedule, no route may be left for `*`.
        let routes_only = || scopes.iter().filter(|scope| scope.scope != WEB);
        let all_closed = routes_only().count() > 0 && routes_only().all(|scope| scope.closed);
        let closed = !everything.is_open() || all_closed;
        let (closure, resumes_at, closes_at) = match &everything {
            State::Closed(closure) => (Some(self.closure_view(closure)), closure.until, None),
            State::Open { closes_at } => {
                let resumes = if all_closed { routes_only().filter_map(|scope| scope.resumes_at).min() } else { None };
                (None, resumes, if all_closed { None } else { *closes_at })
            }
        };
        GateView {
            state: if closed { "closed" } else { "open" }.to_owned(),
            closure,
            resumes_at,
            closes_at,
            scopes,
            zone: status.zone.clone(),
            faults,
            overrides: status.overrides.iter().map(view).collect(),
            detail: serde_json::to_value(&status).unwrap_or(Value::Null),
        }
    }

    fn closure_view(&self, closure: &Closure) -> ClosureView {
        let from = closure.since.unwrap_or_else(|| self.now());
        ClosureView {
            name: closure.name.clone(),
            from,
            until: closure.until,
            from_local: time_input::long(from, self.zone()),
            until_local: closure.until.map(|at| time_input::long(at, self.zone())),
            routes: Vec::new(),
            reason: closure.reason.clone(),
            message: Some(closure.message.clone()).filter(|message| !message.is_empty()),
        }
    }

    /// A closing of a misspelt route would close nothing and look as if it had.
    fn check_routes(&self, routes: &[String]) -> Result<()> {
        for name in routes {
            if name != WEB && self.dependencies.routes.get(name).is_none() {
                let known: Vec<_> =
                    self.dependencies.routes.iter().map(crate::routes::Route::name).chain([WEB]).collect();
                return Err(Problem::not_found(format!("no route \"{name}\"; there are {}", known.join(", "))));
            }
        }
        Ok(())
    }

    /// The gate waits for hand-overs that begin and syncs its memory: not for a thread that serves others.
    /// Not cut when the client goes: a blocking thread runs to its end.
    async fn at_gate<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Gate) -> Result<T, GateError> + Send + 'static,
    ) -> Result<T> {
        let gate = self.dependencies.gate.clone();
        let done = tokio::task::spawn_blocking(move || work(&gate)).await;
        match done.map_err(|error| Problem::failed(format!("the work was cut: {error}")))? {
            // Told in the zone in which operators think.
            Err(GateError::TooEarly { until, than }) => Err(Problem::usage(format!(
                "{} is not after {}",
                time_input::long(until, self.zone()),
                time_input::long(than, self.zone())
            ))),
            done => Ok(done?),
        }
    }

    /// The line of an override in the audit trail.
    async fn record(&self, topic: &str, one: &Override, actor: &Actor) -> Result<()> {
        let scope = if one.scope.is_empty() { "everything".to_owned() } else { one.scope.join(", ") };
        let until = one.until.map_or("until it is taken back".to_owned(), |at| format!("until {}", stamp(at)));
        let text = format!("override {}: {scope} {until}: {}", one.id, one.reason);
        self.note(actor, topic, &text).await
    }
}

/// Spans that differ in their scope alone as one, with all their scopes; none stands for everything, `*` for every
/// route that nothing names.
/// So that a plan shows a night's closing once and not for every route.
fn together(spans: Vec<Span>) -> Vec<(Span, Vec<String>)> {
    let mut groups: Vec<(Span, Vec<String>)> = Vec::new();
    for span in spans {
        let scope = span.scope.clone();
        let same = |other: &Span| Span { scope: scope.clone(), ..other.clone() } == span;
        match groups.iter_mut().rev().find(|(other, _)| same(other)) {
            Some((_, scopes)) => scopes.push(scope),
            None => groups.push((span, vec![scope])),
        }
    }
    for (_, scopes) in &mut groups {
        let has = |name: &str| scopes.iter().any(|scope| scope == name);
        if has("*") && has(WEB) {
            scopes.clear();
        }
    }
    groups
}

fn windows(count: usize) -> String {
    if count == 1 { "1 window".to_owned() } else { format!("{count} windows") }
}

fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// A time span of so many milliseconds, as the dates count.
///
/// # Errors
/// A usage problem for more than ten years, which is surely a slip and would overflow dates further
/// on.
fn delta(ms: u64) -> Result<TimeDelta> {
    let most = TimeDelta::days(3_660);
    let delta = i64::try_from(ms).ok().and_then(TimeDelta::try_milliseconds).filter(|delta| *delta <= most);
    delta.ok_or_else(|| Problem::usage("that is longer than ten years"))
}

fn scope_view(scope: &Scope, state: &State) -> ScopeView {
    let name = scope.name().to_owned();
    match state {
        State::Open { closes_at } => {
            ScopeView { scope: name, closed: false, resumes_at: None, closes_at: *closes_at, reason: None }
        }
        State::Closed(closure) => ScopeView {
            scope: name,
            closed: true,
            resumes_at: closure.until,
            closes_at: None,
            reason: Some(closure.reason.clone()),
        },
    }
}

fn view(one: &Override) -> OverrideView {
    let what = match one.action {
        Action::Close => "close",
        Action::Open => "open",
        Action::Extend => "extend",
    };
    OverrideView {
        id: one.id.to_string(),
        what: what.to_owned(),
        routes: one.scope.clone(),
        since: one.at,
        until: one.until,
        reason: one.reason.clone(),
        actor: one.actor.clone(),
    }
}
