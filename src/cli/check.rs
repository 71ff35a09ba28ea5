//! `forebay check`: every fault of configuration and schedule. Binds nothing.
//!
//! One line for each, `FILE:LINE: KEY: SENTENCE`, in the order of the file. Warnings do not change
//! the exit code, and are left out of `--json`.

use super::{
    context::{Context, say},
    paint::{Tone, visible},
};
use crate::{
    config::{self, Place},
    operate::{Cause, Problem},
};

/// Prints every fault; the exit code says whether there is one.
pub(super) fn run(context: &Context) -> Result<(), Problem> {
    let place = Place { config: context.global.config.clone(), data: context.global.data.clone() };
    let checked = config::check(&place);
    if !context.json() {
        for warning in &checked.warnings {
            say(&format!("{}: {}", context.paint.tone(Tone::Warm, "warning"), visible(&warning.to_string())))?;
        }
    }
    for fault in &checked.faults {
        if context.json() {
            context.object(fault)?;
        } else {
            say(&visible(&fault.to_string()))?;
        }
    }
    if checked.faults.is_empty() {
        if !context.json() {
            let files: Vec<_> = checked.files.iter().map(|file| file.display().to_string()).collect();
            let what =
                if files.is_empty() { "no configuration: the defaults hold".to_owned() } else { files.join(", ") };
            say(&format!("{}: {}", context.paint.tone(Tone::Good, "no faults"), visible(&what)))?;
        }
        return Ok(());
    }
    let count = checked.faults.len();
    let text =
        if context.json() { String::new() } else { format!("{count} fault{}", if count == 1 { "" } else { "s" }) };
    Err(Problem { cause: Cause::Failed, text })
}
