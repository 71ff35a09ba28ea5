//! `forebay message`: the messages of a file that is handed over message by message.

use forebay_queue::{MessageResult, MessageRun};

use super::{
    args::{MessageListArgs, MessageVerb},
    context::{Context, say},
    paint::{Tone, visible},
};
use crate::operate::{MessagesView, Problem, Reply, Request};

/// Does what is asked with messages.
pub(super) async fn run(context: &Context, verb: MessageVerb) -> Result<(), Problem> {
    let MessageVerb::List(MessageListArgs { id, result, from, limit }) = verb;
    let mut answered = context.ask(Request::MessageList { id, results: result, from, limit }).await?;
    while let Some(reply) = answered.reply().await? {
        match reply {
            Reply::Messages(of) if context.json() => context.object(&of)?,
            Reply::Messages(of) => head(context, &of)?,
            Reply::MessageRun(run) if context.json() => context.object(&run)?,
            // As it comes: a file may have a million messages.
            Reply::MessageRun(run) => line(context, &run)?,
            _ => {}
        }
    }
    Ok(())
}

fn head(context: &Context, of: &MessagesView) -> Result<(), Problem> {
    let name = context.paint.tone(Tone::Strong, &visible(&of.file.name));
    say(&format!("{name} of {}: {}", visible(&of.file.partner), of.progress))
}

fn line(context: &Context, run: &MessageRun) -> Result<(), Problem> {
    let which = match run.count {
        1 => run.first.to_string(),
        _ => format!("{} to {}", run.first, run.end() - 1),
    };
    let result = context.paint.tone(tone(run.result), run.result.as_str());
    let text = run.detail.as_ref().map(|detail| visible(&detail.text)).unwrap_or_default();
    say(format!("{which:>16}  {result}  {text}").trim_end())
}

fn tone(result: MessageResult) -> Tone {
    match result {
        MessageResult::Accepted => Tone::Good,
        MessageResult::Tested | MessageResult::Duplicate | MessageResult::Skipped => Tone::Faint,
        MessageResult::Refused | MessageResult::Rejected => Tone::Bad,
    }
}
