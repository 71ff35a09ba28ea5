//! `forebay queue verify` and `rebuild`.

use crate::cli::{
    context::{Context, bar, say},
    paint::{Tone, visible},
};
use crate::{
    operate::{Problem, Reply, Request},
    units,
};

pub(super) async fn run(context: &Context, request: Request) -> Result<(), Problem> {
    let mut answered = context.ask(request).await?;
    let bar = bar(context.json());
    let mut faults = 0;
    while let Some(reply) = answered.reply().await? {
        match reply {
            Reply::Progress(progress) => {
                bar.set_message(progress.what);
                bar.set_length(progress.total);
                bar.set_position(progress.done);
            }
            Reply::Verified(found) => {
                bar.finish_and_clear();
                faults += found.faults.len();
                if context.json() {
                    context.object(&found)?;
                    continue;
                }
                let read = if found.files > 0 {
                    format!(", {} files ({}) read", found.files, units::format_bytes(found.size_bytes))
                } else {
                    String::new()
                };
                say(&format!("{} records, {} entries{read}", found.records, found.entries))?;
                for fault in &found.faults {
                    say(&context.paint.tone(Tone::Bad, &visible(fault)))?;
                }
                if found.faults.is_empty() {
                    say(&context.paint.tone(Tone::Good, "all of it agrees"))?;
                }
            }
            _ => {}
        }
    }
    match faults {
        0 => Ok(()),
        count => Err(Problem::failed(format!("{count} faults; see \"Damage\" in docs/OPERATIONS.md"))),
    }
}
