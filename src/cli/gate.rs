//! `forebay gate`: now, what comes, and overrides.
//!
//! Times come from the server in its own zone, and are shown in it, however far away the terminal
//! is. Lists are printed as a table at their end, since columns need all rows; with `--json` each
//! object is printed as it comes.

use super::{
    args::GateVerb,
    context::{Answered, Context, print, say},
    paint::{Tone, visible},
    table::{Side, Table},
};
use crate::{
    operate::{ClosureView, End, GateView, OverrideView, PlanView, Problem, Reply, Request, time_input},
    units,
};

/// Does what is asked with the gate.
pub(super) async fn run(context: &Context, verb: GateVerb) -> Result<(), Problem> {
    let request = match verb {
        GateVerb::Status => Request::GateStatus,
        GateVerb::List { to } => Request::GateList { to },
        GateVerb::Simulate { from, to } => Request::GateSimulate { from, to },
        GateVerb::Close { duration, until, reason, message, route, wait } => {
            Request::GateClose { routes: route, end: end(duration, until)?, reason, message, wait }
        }
        GateVerb::Open { reason, route } => Request::GateOpen { routes: route, reason },
        GateVerb::Extend { by, until, reason } => Request::GateExtend { end: end(by, until)?, reason },
        GateVerb::Clear { id, reason } => Request::GateClear { id, reason },
        GateVerb::ConfirmClock => Request::GateConfirmClock,
    };
    // Looked at before it is sent away.
    let windows = matches!(request, Request::GateList { .. });
    let listing = windows || matches!(request, Request::GateSimulate { .. });
    let mut answered = context.ask(request).await?;
    let mut told = Told::default();
    let ended = tell(context, &mut answered, &mut told).await;
    // With `--json` every object was printed as it came.
    if context.json() || !listing {
        return ended;
    }
    // What follows the answer's pieces is said also behind a plan that is not the whole; its problem comes last.
    if !told.closures.is_empty() {
        print(&table(&told.closures).render(context.paint))?;
    } else if told.schedule.unwrap_or(ended.is_ok()) {
        say(if windows { "no window comes in that time" } else { "the gate is open all that time" })?;
    }
    ended
}

/// What was told of a plan.
#[derive(Default)]
struct Told {
    closures: Vec<ClosureView>,
    /// Whether a schedule is in force, where something of its file is not.
    schedule: Option<bool>,
}

async fn tell(context: &Context, answered: &mut Answered, told: &mut Told) -> Result<(), Problem> {
    while let Some(reply) = answered.reply().await? {
        if context.json() {
            match reply {
                Reply::Gate(gate) => context.object(&gate)?,
                Reply::Closure(closure) => context.object(&closure)?,
                Reply::Override(one) => context.object(&one)?,
                Reply::Plan(plan) => context.object(&serde_json::json!({ "plan": plan }))?,
                Reply::Running(running) => context.object(&serde_json::json!({ "running": running }))?,
                _ => {}
            }
            continue;
        }
        match reply {
            Reply::Gate(gate) => show(context, answered, &gate)?,
            Reply::Closure(closure) => told.closures.push(closure),
            Reply::Override(one) => say(&format!("override {}", override_line(&one, answered)))?,
            Reply::Running(running) => say(&format!(
                "still runs: {}/{} on {} since {}",
                visible(&running.partner),
                visible(&running.name),
                visible(&running.route),
                answered.at(running.since)
            ))?,
            Reply::Said(text) => say(&visible(&text))?,
            Reply::Plan(plan) => {
                show_plan(context, &plan)?;
                told.schedule = Some(plan.schedule);
            }
            _ => {}
        }
    }
    Ok(())
}

/// Before the table: what a reader must know who takes it for the truth.
fn show_plan(context: &Context, plan: &PlanView) -> Result<(), Problem> {
    for refused in &plan.refused {
        say(&context.paint.tone(Tone::Bad, &visible(refused)))?;
    }
    say(&format!("in force: {}", visible(&plan.in_force)))
}

/// With neither it stays until it is taken back.
///
/// # Errors
/// A usage problem for what is no duration, or is none at all.
fn end(duration: Option<String>, until: Option<String>) -> Result<End, Problem> {
    match (duration, until) {
        (_, Some(until)) => Ok(End::At(until)),
        (Some(text), None) => {
            let span =
                units::parse_duration(&text).map_err(|error| Problem::usage(format!("duration \"{text}\" {error}")))?;
            let ms = u64::try_from(span.as_millis()).unwrap_or(u64::MAX);
            if ms == 0 { Err(Problem::usage("a duration of nothing does nothing")) } else { Ok(End::After(ms)) }
        }
        (None, None) => Ok(End::Open),
    }
}

fn table(closures: &[ClosureView]) -> Table {
    let columns = [
        ("window", Side::Left),
        ("from", Side::Left),
        ("until", Side::Left),
        ("long", Side::Right),
        ("UTC", Side::Left),
        ("closes", Side::Left),
        ("reason", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for closure in closures {
        let until = closure.until.map_or("…".to_owned(), |at| at.format("%Y-%m-%d %H:%M:%SZ").to_string());
        let routes = if closure.routes.is_empty() { "everything".to_owned() } else { closure.routes.join(", ") };
        table.row([
            (closure.name.clone(), Tone::Strong),
            (closure.from_local.clone(), Tone::Plain),
            (closure.until_local.clone().unwrap_or_else(|| "until it is opened".to_owned()), Tone::Plain),
            (closure.until.map_or("-".to_owned(), |at| time_input::span(at - closure.from)), Tone::Plain),
            (format!("{} – {until}", closure.from.format("%Y-%m-%d %H:%M:%SZ")), Tone::Faint),
            (routes, Tone::Plain),
            (closure.reason.clone(), Tone::Faint),
        ]);
    }
    table
}

/// The gate for people.
/// Scopes that stand as everything does are left out.
pub(super) fn show(context: &Context, answered: &Answered, gate: &GateView) -> Result<(), Problem> {
    let paint = context.paint;
    say(&format!("gate: {}", headline(context, answered, gate)))?;
    if let (true, Some(closure)) = (gate.state == "closed", &gate.closure) {
        let reason = if closure.reason.is_empty() { String::new() } else { format!(": {}", closure.reason) };
        say(&format!("      {}", visible(&format!("{}{reason}", closure.name))))?;
    }
    // What holds for everything is said once, in the headline.
    let common = gate.state == "closed";
    for scope in gate.scopes.iter().filter(|scope| scope.closed != common || scope.resumes_at != gate.resumes_at) {
        let word = match (scope.closed, scope.resumes_at, scope.closes_at) {
            (true, Some(at), _) => format!("closed, resumes at {}", answered.at(at)),
            (true, None, _) => "closed until it is opened".to_owned(),
            (false, _, Some(at)) => format!("open, closes at {}", answered.at(at)),
            (false, _, None) => "open".to_owned(),
        };
        if scope.closed || common {
            say(&format!("      {}: {word}", visible(&scope.scope)))?;
        }
    }
    for one in &gate.overrides {
        say(&format!("      override {}", override_line(one, answered)))?;
    }
    for fault in &gate.faults {
        say(&paint.tone(Tone::Bad, &format!("      {}", visible(fault))))?;
    }
    Ok(())
}

fn headline(context: &Context, answered: &Answered, gate: &GateView) -> String {
    let paint = context.paint;
    match (gate.state == "closed", gate.resumes_at, gate.closes_at) {
        (true, Some(at), _) => {
            let left = time_input::span(at - answered.now);
            format!("{}, resumes at {} (in {left})", paint.tone(Tone::Warm, "closed"), answered.at(at))
        }
        (true, None, _) => format!("{} until it is opened", paint.tone(Tone::Warm, "closed")),
        (false, _, Some(at)) => format!("{}, closes at {}", paint.tone(Tone::Good, "open"), answered.at(at)),
        (false, _, None) => paint.tone(Tone::Good, "open"),
    }
}

fn override_line(one: &OverrideView, answered: &Answered) -> String {
    let routes = if one.routes.is_empty() { "everything".to_owned() } else { one.routes.join(", ") };
    let until = one.until.map_or("until it is taken back".to_owned(), |at| format!("until {}", answered.at(at)));
    visible(&format!("{}: {} {routes} {until}, by {}: {}", one.id, one.what, one.actor, one.reason))
}
