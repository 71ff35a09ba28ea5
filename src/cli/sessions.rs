//! `forebay sessions`: lists sessions, and ends them.
//!
//! Ids are shown short and accepted short.

use chrono::TimeDelta;

use super::{
    args::{KickArgs, SessionsVerb},
    context::{Answered, Context, complain, print, say},
    paint::{Tone, visible},
    table::{Side, Table},
};
use crate::{
    operate::{Problem, Reply, Request, SessionView, time_input},
    units,
};

/// So much of an id is shown; it is enough to name one among thousands.
const SHOWN: usize = 8;

/// Shows sessions, or ends some.
pub(super) async fn run(context: &Context, verb: Option<SessionsVerb>) -> Result<(), Problem> {
    match verb {
        None => list(context).await,
        Some(SessionsVerb::Kick(args)) => kick(context, args).await,
    }
}

async fn list(context: &Context) -> Result<(), Problem> {
    let mut answered = context.ask(Request::Sessions).await?;
    let mut sessions = Vec::new();
    while let Some(reply) = answered.reply().await? {
        let Reply::Session(session) = reply else { continue };
        match context.json() {
            true => context.object(&session)?,
            false => sessions.push(session),
        }
    }
    match sessions.is_empty() {
        true if context.json() => Ok(()),
        true => say("no sessions"),
        false => print(&table(&sessions, &answered).render(context.paint)),
    }
}

fn table(sessions: &[SessionView], answered: &Answered) -> Table {
    let columns = [
        ("id", Side::Left),
        ("partner", Side::Left),
        ("door", Side::Left),
        ("from", Side::Left),
        ("since", Side::Left),
        ("idle", Side::Right),
        ("moved", Side::Right),
        ("a second", Side::Right),
        ("doing", Side::Left),
    ];
    let mut table = Table::new(&columns);
    for session in sessions {
        let idle = TimeDelta::try_seconds(i64::try_from(session.idle_seconds).unwrap_or(i64::MAX)).unwrap_or_default();
        let busy = !session.doing.is_empty();
        table.row([
            (short(session).to_owned(), Tone::Plain),
            (session.partner.clone(), Tone::Strong),
            (session.door.clone(), Tone::Plain),
            (session.peer.clone(), Tone::Plain),
            (session.since.map_or("-".to_owned(), |at| answered.at(at)), Tone::Faint),
            (time_input::span(idle), Tone::Plain),
            (units::format_bytes(session.bytes), Tone::Plain),
            (if busy { units::format_bytes(session.bytes_per_second) } else { "-".to_owned() }, Tone::Plain),
            (if busy { session.doing.clone() } else { "waits".to_owned() }, Tone::Plain),
        ]);
    }
    table
}

/// Ends sessions, and prints one line for each.
///
/// # Errors
/// What was the matter with each: one kind of problem keeps its exit code, several become 1.
async fn kick(context: &Context, args: KickArgs) -> Result<(), Problem> {
    let KickArgs { ids, partner, all: _, reason } = args;
    let mut answered = context.ask(Request::SessionsKick { ids, partner, reason }).await?;
    let (mut done, mut worst) = (0_u64, None::<Problem>);
    while let Some(reply) = answered.reply().await? {
        let Reply::Kicked(kicked) = reply else { continue };
        if context.json() {
            context.object(&kicked)?;
        }
        if let Some(session) = &kicked.session {
            done += 1;
            if !context.json() {
                let text = format!("{}: session of {} from {} ended", short(session), session.partner, session.peer);
                say(&visible(&text))?;
            }
        }
        if let Some(problem) = kicked.error {
            if !context.json() {
                complain(&format!("forebay: {}", visible(&problem.text)));
            }
            worst = Some(match worst {
                Some(other) if other.exit_code() != problem.exit_code() => Problem::failed(""),
                _ => problem,
            });
        }
    }
    match worst {
        // Each was reported by itself.
        Some(problem) => Err(Problem { text: String::new(), ..problem }),
        None if done == 0 && !context.json() => say("no session matches; nothing was done"),
        None => Ok(()),
    }
}

fn short(session: &SessionView) -> &str {
    session.id.get(..SHOWN).unwrap_or(&session.id)
}
