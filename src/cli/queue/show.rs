//! `forebay queue show`.
//!
//! The file's facts, then its history from the journal, with the output of each attempt.

use super::{remark, tone};
use crate::cli::{
    context::{Context, say},
    paint::{Tone, visible, visible_lines},
};
use crate::{
    operate::{Problem, Reply, Request},
    units,
};

pub(super) async fn run(context: &Context, id: String) -> Result<(), Problem> {
    let mut answered = context.ask(Request::QueueShow { id }).await?;
    while let Some(reply) = answered.reply().await? {
        let Reply::Detail(detail) = reply else { continue };
        if context.json() {
            context.object(&detail)?;
            continue;
        }
        let (file, paint) = (&detail.file, context.paint);
        let fact =
            |key: &str, value: String| say(&format!("{}  {value}", paint.tone(Tone::Faint, &format!("{key:>9}"))));
        fact("file", file.id.to_string())?;
        fact("partner", visible(&file.partner))?;
        fact("name", paint.tone(Tone::Strong, &visible(&file.name)))?;
        fact("size", format!("{} ({} bytes)", units::format_bytes(file.size_bytes), file.size_bytes))?;
        fact("sha256", file.sha256.to_string())?;
        fact("received", format!("{} by {}", answered.long(file.received_at), visible(&file.door)))?;
        fact("route", visible(file.route.as_deref().unwrap_or("none")))?;
        let state = paint.tone(tone(file.state), file.state.as_str());
        fact("state", format!("{state} since {}", answered.long(file.since)))?;
        let remark = remark(file, &answered);
        if !remark.is_empty() {
            fact("", visible(&remark))?;
        }
        if let Some(progress) = &file.messages {
            fact("messages", progress.to_string())?;
        }
        fact("attempts", format!("{} that counted", file.attempts))?;
        if detail.crashes > 0 {
            fact("crashes", format!("{} found it active", detail.crashes))?;
        }
        say("")?;
        for record in &detail.history {
            let at = paint.tone(Tone::Faint, &answered.long(record.at));
            say(&format!("{at}  {}: {}", visible(&record.actor), visible(&record.text)))?;
            if !record.output.is_empty() {
                for line in visible_lines(&record.output).lines() {
                    say(&format!("    {} {line}", paint.tone(Tone::Faint, "|")))?;
                }
            }
        }
    }
    Ok(())
}
