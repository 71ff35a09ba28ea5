//! `forebay audit`: the journal, readable.
//!
//! One line a record, as it comes, so that `--follow` shows what happens while it happens.

use super::{
    args::AuditArgs,
    context::{Context, say},
    paint::{Tone, visible},
};
use crate::operate::{Problem, Reply, Request};

/// Prints the journal's records.
pub(super) async fn run(context: &Context, args: AuditArgs) -> Result<(), Problem> {
    let mut answered = context.ask(Request::Audit { since: args.since, follow: args.follow }).await?;
    while let Some(reply) = answered.reply().await? {
        let Reply::Record(record) = reply else { continue };
        if context.json() {
            context.object(&record)?;
            continue;
        }
        let file = record.id.map_or(String::new(), |id| format!(" {id}"));
        let at = context.paint.tone(Tone::Faint, &answered.long(record.at));
        let what = context.paint.tone(Tone::Strong, &visible(&record.what));
        say(&format!("{at} {} {what}{file}: {}", visible(&record.actor), visible(&record.text)))?;
    }
    Ok(())
}
