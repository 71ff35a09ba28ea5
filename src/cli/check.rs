//! `forebay check`: every fault of configuration and schedule. Binds nothing.
//!
//! One line for each, `FILE:LINE: KEY: SENTENCE`, in the order of the file. Warnings do not change
//! the exit code, and are left out of `--json`.

use serde::Serialize;

use super::{
    context::{Context, say},
    paint::{Tone, visible},
};
use crate::{
    config::{self, Checked, Fault, Place},
    operate::{Cause, Problem},
};

/// A finding as machines read it: one object a line.
#[derive(Serialize)]
struct Finding<'a> {
    severity: Severity,
    #[serde(flatten)]
    what: &'a Fault,
}

/// How bad a finding is. Warnings change no exit code.
#[derive(Clone, Copy, Serialize)]
#[serde(rename_all = "lowercase")]
enum Severity {
    Fault,
    Warning,
}

/// Prints every fault and warning; the exit code says whether there is a fault.
pub(super) fn run(context: &Context) -> Result<(), Problem> {
    let place = Place { config: context.global.config.clone(), data: context.global.data.clone() };
    let checked = config::check(&place);
    if context.json() {
        print_json(context, &checked)?
    } else {
        print_text(context, &checked)?
    }
    match checked.faults.len() {
        0 => Ok(()),
        _ if context.json() => Err(Problem { cause: Cause::Failed, text: String::new() }),
        1 => Err(Problem { cause: Cause::Failed, text: "1 fault".to_owned() }),
        count => Err(Problem { cause: Cause::Failed, text: format!("{count} faults") }),
    }
}

fn print_json(context: &Context, checked: &Checked) -> Result<(), Problem> {
    let warnings = checked.warnings.iter().map(|what| Finding { severity: Severity::Warning, what });
    let faults = checked.faults.iter().map(|what| Finding { severity: Severity::Fault, what });
    warnings.chain(faults).try_for_each(|finding| context.object(&finding))
}

fn print_text(context: &Context, checked: &Checked) -> Result<(), Problem> {
    for warning in &checked.warnings {
        say(&format!("{}: {}", context.paint.tone(Tone::Warm, "warning"), visible(&warning.to_string())))?;
    }
    for fault in &checked.faults {
        say(&visible(&fault.to_string()))?;
    }
    if !checked.faults.is_empty() {
        return Ok(());
    }
    let files: Vec<_> = checked.files.iter().map(|file| file.display().to_string()).collect();
    let what = if files.is_empty() { "no configuration: the defaults hold".to_owned() } else { files.join(", ") };
    say(&format!("{}: {}", context.paint.tone(Tone::Good, "no faults"), visible(&what)))
}
