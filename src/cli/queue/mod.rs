//! `forebay queue`: files, one file per verb.

mod act;
mod export;
mod list;
mod show;
mod stats;
mod verify;
mod watch;

use forebay_queue::State;

use super::{
    args::{QueueVerb, Which},
    context::{Answered, Context},
    paint::Tone,
};
use crate::operate::{self, Act, FileView, Problem, Request, StateTotal, StatsView};

pub(super) use stats::{blocked, paused};

/// Does what is asked with files.
pub(super) async fn run(context: &Context, verb: QueueVerb) -> Result<(), Problem> {
    match verb {
        QueueVerb::List(args) => list::run(context, args).await,
        QueueVerb::Show { id } => show::run(context, id).await,
        QueueVerb::Hold(args) => act::run(context, Act::Hold, args).await,
        QueueVerb::Release(args) => act::run(context, Act::Release, args).await,
        QueueVerb::Requeue(args) => act::run(context, Act::Requeue, args).await,
        QueueVerb::Cancel(args) => act::run(context, Act::Cancel, args).await,
        QueueVerb::Stats => stats::run(context).await,
        QueueVerb::Watch => watch::run(context).await,
        QueueVerb::Export { id, file } => export::run(context, id, file).await,
        QueueVerb::Verify => verify::run(context, Request::QueueVerify).await,
        QueueVerb::Rebuild => verify::run(context, Request::QueueRebuild).await,
    }
}

impl From<Which> for operate::Which {
    fn from(which: Which) -> Self {
        Self { states: which.state, partner: which.partner, route: which.route }
    }
}

/// The tone of a state.
/// By what an operator has to do: [`Tone::Bad`] needs one.
fn tone(state: State) -> Tone {
    match state {
        State::Done => Tone::Good,
        State::Ready | State::Active => Tone::Plain,
        State::Retrying | State::Unfinished => Tone::Warm,
        State::Held | State::Quarantined | State::Dead => Tone::Bad,
        State::Cancelled | State::Duplicate | State::Superseded | State::Withdrawn => Tone::Faint,
    }
}

/// A remark on a file, besides its state.
/// What it waits for first, then why it is as it is.
fn remark(file: &FileView, answered: &Answered) -> String {
    let mut parts = Vec::new();
    match (file.deferred, file.resumes_at) {
        (true, Some(at)) => parts.push(format!("deferred, resumes at {}", answered.at(at))),
        (true, None) => parts.push("deferred until the gate is opened".to_owned()),
        (false, _) => {}
    }
    if let Some(at) = file.due_at {
        parts.push(format!("due at {}", answered.at(at)));
    }
    parts.extend(file.reason.clone());
    parts.extend(file.continues.as_ref().map(|it| format!("continues {} from byte {}", it.file, it.at)));
    parts.join("; ")
}

/// `3 ready, 1 held`.
fn totals(states: &[StateTotal]) -> String {
    let parts: Vec<_> = states.iter().map(|total| format!("{} {}", total.files, total.state)).collect();
    if parts.is_empty() { "no files".to_owned() } else { parts.join(", ") }
}

/// The queue in a line.
pub(super) fn summary(stats: &StatsView) -> String {
    let deferred = if stats.deferred > 0 { format!(" ({} deferred)", stats.deferred) } else { String::new() };
    format!("{}{deferred}", totals(&stats.states))
}
