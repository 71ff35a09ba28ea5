//! `forebay queue watch`: live, with a countdown while the gate is closed.
//!
//! On a terminal the picture is drawn in place, by moving the cursor up; elsewhere, as in a file or
//! a pipe, a line is printed for each change, and one when the figures have changed.

use std::{collections::VecDeque, io::IsTerminal as _};

use super::{remark, tone, totals};
use crate::cli::{
    context::{Answered, Context, print, say},
    paint::{Tone, visible},
};
use crate::operate::{FileView, Problem, PulseView, Reply, Request, time_input};

/// Changes that stay on the screen.
const RECENT: usize = 15;

pub(super) async fn run(context: &Context) -> Result<(), Problem> {
    let mut answered = context.ask(Request::QueueWatch).await?;
    let live = std::io::stdout().is_terminal() && !context.json();
    let mut recent = VecDeque::new();
    let (mut pulse, mut drawn, mut said) = (None::<PulseView>, 0, String::new());
    while let Some(reply) = answered.reply().await? {
        match reply {
            Reply::Change(file) if context.json() => {
                context.object(&serde_json::json!({ "event": "change", "file": file }))?;
            }
            Reply::Pulse(now) if context.json() => {
                context.object(&serde_json::json!({ "event": "pulse", "pulse": now }))?;
            }
            Reply::Change(file) if live => {
                recent.push_back(line(context, &answered, &file));
                while recent.len() > RECENT {
                    recent.pop_front();
                }
            }
            Reply::Change(file) => say(&line(context, &answered, &file))?,
            Reply::Pulse(now) => {
                answered.now = now.now;
                if !live {
                    // Plain lines: only when the gate's state or the figures have changed.
                    let text = format!("{}; {}", gate(&answered, &now, Countdown::No), totals(&now.states));
                    if text != said {
                        say(&format!("{} {text}", answered.long(now.now)))?;
                        said = text;
                    }
                }
                pulse = Some(now);
            }
            _ => {}
        }
        if let (true, Some(pulse)) = (live, &pulse) {
            drawn = draw(context, &answered, pulse, &recent, drawn)?;
        }
    }
    Ok(())
}

#[derive(PartialEq, Eq)]
enum Countdown {
    Yes,
    No,
}

/// Without a countdown where it is compared with the line before: a countdown changes every second.
fn gate(answered: &Answered, pulse: &PulseView, countdown: Countdown) -> String {
    let left = |at| match countdown {
        Countdown::Yes => format!(", in {}", time_input::span(at - pulse.now)),
        Countdown::No => String::new(),
    };
    match (pulse.closed, pulse.resumes_at, pulse.closes_at) {
        (true, Some(at), _) => format!("gate closed, resumes at {}{}", answered.at(at), left(at)),
        (true, None, _) => "gate closed until it is opened".to_owned(),
        (false, _, Some(at)) => format!("gate open, closes at {}{}", answered.at(at), left(at)),
        (false, _, None) => "gate open".to_owned(),
    }
}

fn line(context: &Context, answered: &Answered, file: &FileView) -> String {
    let word = if file.deferred { "deferred" } else { file.state.as_str() };
    let state = context.paint.tone(if file.deferred { Tone::Warm } else { tone(file.state) }, &format!("{word:<11}"));
    let remark = remark(file, answered);
    let at = context.paint.tone(Tone::Faint, &answered.at(file.since));
    format!("{at} {state} {}/{} {}", visible(&file.partner), visible(&file.name), visible(&remark))
        .trim_end()
        .to_owned()
}

/// Draws over what was drawn before, and returns the lines that it took.
fn draw(
    context: &Context,
    answered: &Answered,
    pulse: &PulseView,
    recent: &VecDeque<String>,
    drawn: usize,
) -> Result<usize, Problem> {
    let tone = if pulse.closed { Tone::Warm } else { Tone::Good };
    let mut lines = vec![
        context.paint.tone(tone, &gate(answered, pulse, Countdown::Yes)),
        format!("{}; {} sessions", totals(&pulse.states), pulse.sessions),
    ];
    for running in &pulse.running {
        let time = time_input::span(pulse.now - running.since);
        lines.push(format!(
            "runs {time}: {}/{} on {}",
            visible(&running.partner),
            visible(&running.name),
            running.route
        ));
    }
    lines.push(String::new());
    lines.extend(recent.iter().cloned());
    let mut text = if drawn > 0 { format!("\x1b[{drawn}F\x1b[J") } else { String::new() };
    for line in &lines {
        // No line wraps, or the next drawing would not find its way back.
        text.push_str(&format!("\x1b[?7l{line}\x1b[?7h\n"));
    }
    print(&text)?;
    Ok(lines.len())
}
