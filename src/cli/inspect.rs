//! `forebay inspect`: an HL7 v2 file as Forebay reads it, without a server and without a
//! configuration.
//!
//! For partners and operators who want to know what is wrong with a file. It is read as a stream;
//! its size does not matter.

use std::{fs::File, io, path::Path};

use super::{
    args::InspectArgs,
    context::{Context, print, say},
    paint::{Tone, visible},
    progress::Progress,
};
use crate::{
    envelope::hl7::{Limits, Report, inspect},
    operate::{Cause, Problem},
    units,
};

/// Prints what the file holds and every fault; the exit code says whether there is one.
/// # Errors
/// When the file cannot be read (not found has its own exit code), or has a fault.
pub(super) fn run(context: &Context, args: &InspectArgs) -> Result<(), Problem> {
    let limits = Limits { max_message: args.max_message };
    let report = read(&args.file, limits, &Progress::new(&context.clock, context.json()))?;
    if context.json() {
        context.object(&report)?;
    } else {
        print(&summary(context, &report))?;
        for fault in &report.faults {
            say(&format!("{}: {}", context.paint.tone(Tone::Warm, "fault"), visible(&fault.to_string())))?;
        }
        let more = report.fault_count - report.faults.len() as u64;
        if more > 0 {
            say(&format!("and {more} more faults"))?;
        }
    }
    match report.fault_count {
        0 => Ok(()),
        // They are told already.
        _ => Err(Problem { cause: Cause::Failed, text: String::new() }),
    }
}

/// `-` is standard input, without a bar, since its length is unknown.
fn read(path: &Path, limits: Limits, progress: &Progress) -> Result<Report, Problem> {
    let failed = |error: io::Error| {
        let text = format!("{}: {error}", path.display());
        match error.kind() {
            io::ErrorKind::NotFound => Problem::not_found(text),
            _ => Problem::failed(text),
        }
    };
    if path == Path::new("-") {
        return inspect(io::stdin().lock(), limits).map_err(failed);
    }
    let file = File::open(path).map_err(failed)?;
    let size = file.metadata().map_err(failed)?.len();
    let report = inspect(progress.reading("bytes", size, file), limits).map_err(failed);
    progress.end();
    report
}

fn summary(context: &Context, report: &Report) -> String {
    let Some(format) = report.format else { return String::new() };
    let count = |number: u64, one: &str, many: &str| format!("{number} {}", if number == 1 { one } else { many });
    let messages = count(report.messages, "message", "messages");
    let mut text =
        format!("{format}: {} in {}\n", context.paint.tone(Tone::Good, &messages), units::format_bytes(report.bytes));
    text.push_str(&format!(
        "{} and {}, {} and {}, {}\n",
        count(report.files, "file header", "file headers"),
        count(report.file_trailers, "trailer", "trailers"),
        count(report.batches, "batch header", "batch headers"),
        count(report.batch_trailers, "trailer", "trailers"),
        count(report.segments, "segment", "segments"),
    ));
    if report.repeated_control_ids > 0 {
        text.push_str(&count(report.repeated_control_ids, "control id is", "control ids are"));
        text.push_str(" repeated\n");
    }
    if report.fault_count == 0 {
        text.push_str(&format!("{}\n", context.paint.tone(Tone::Good, "no faults")));
    }
    text
}
