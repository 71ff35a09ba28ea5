//! `forebay queue stats`.
//!
//! Figures by partner and state, then a line for everything that holds up others: a lane whose
//! first file is retried, one without a route, a route whose backend is down.

use super::{summary, tone};
use crate::cli::{
    context::{Answered, Context, print, say},
    paint::{Tone, visible},
    table::{Side, Table},
};
use crate::{
    operate::{Problem, Reply, Request, StatsView, time_input},
    units,
};

pub(super) async fn run(context: &Context) -> Result<(), Problem> {
    let mut answered = context.ask(Request::QueueStats).await?;
    while let Some(reply) = answered.reply().await? {
        let Reply::Stats(stats) = reply else { continue };
        if context.json() {
            context.object(&stats)?;
        } else {
            show(context, &answered, &stats)?;
        }
    }
    Ok(())
}

fn show(context: &Context, answered: &Answered, stats: &StatsView) -> Result<(), Problem> {
    say(&format!("queue: {}", summary(stats)))?;
    if let Some(at) = stats.oldest_waiting {
        say(&format!(
            "the oldest that waits came {} ({} ago)",
            answered.long(at),
            time_input::span(answered.now - at)
        ))?;
    }
    if !stats.partners.is_empty() {
        say("")?;
        let mut table = Table::new(&[
            ("partner", Side::Left),
            ("state", Side::Left),
            ("files", Side::Right),
            ("size", Side::Right),
        ]);
        for count in &stats.partners {
            table.row([
                (
                    if count.is_former { format!("{} (removed)", count.partner) } else { count.partner.clone() },
                    Tone::Strong,
                ),
                (count.state.to_string(), tone(count.state)),
                (count.files.to_string(), Tone::Plain),
                (units::format_bytes(count.size_bytes), Tone::Plain),
            ]);
        }
        print(&table.render(context.paint))?;
    }
    let lines = blocked(stats, answered).into_iter().chain(unserved(stats)).chain(paused(stats, answered));
    for line in lines {
        say(&context.paint.tone(Tone::Warm, &visible(&line)))?;
    }
    Ok(())
}

/// A line for each lane whose head waits to be retried.
pub(in crate::cli) fn blocked(stats: &StatsView, answered: &Answered) -> Vec<String> {
    let each = |lane: &forebay_queue::LaneInfo| {
        let due = lane.due_at.map_or(String::new(), |at| format!(", due at {}", answered.at(at)));
        format!(
            "lane {}/{} waits for {}{due}; {} files in it",
            lane.lane.partner, lane.lane.route, lane.head, lane.files
        )
    };
    stats.blocked_lanes.iter().map(each).collect()
}

/// A line for each lane whose route is gone.
fn unserved(stats: &StatsView) -> Vec<String> {
    let each = |lane: &forebay_queue::LaneInfo| {
        format!("lane {}/{} has no route any more; {} files in it", lane.lane.partner, lane.lane.route, lane.files)
    };
    stats.unserved_lanes.iter().map(each).collect()
}

/// A line for each paused route.
pub(in crate::cli) fn paused(stats: &StatsView, answered: &Answered) -> Vec<String> {
    let each = |paused: &crate::operate::PausedView| {
        let probe = paused.probe_at.map_or(String::new(), |at| format!("; tried again at {}", answered.at(at)));
        format!("route {} is paused: {}{probe}", paused.route, paused.reason)
    };
    stats.paused_routes.iter().map(each).collect()
}
