//! `forebay queue verify` and `rebuild`.
//!
//! Both print how much was compared, and each fault; exit code 1 says that there is one.

use crate::cli::{
    context::{Context, say},
    paint::{Tone, visible},
    progress::Progress,
};
use crate::{
    operate::{Problem, Reply, Request},
    units,
};

pub(super) async fn run(context: &Context, request: Request) -> Result<(), Problem> {
    let mut answered = context.ask(request).await?;
    let shown = Progress::new(&context.clock, context.json());
    let mut faults = 0;
    while let Some(reply) = answered.reply().await? {
        match reply {
            Reply::Progress(progress) => shown.at(&progress.what, progress.done, progress.total),
            Reply::Verified(found) => {
                shown.end();
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
