//! `forebay queue hold`, `release`, `requeue` and `cancel`.
//!
//! All four go by ids or by a filter. Files that could not be acted on are reported one by one, and
//! the others are done all the same; the exit code tells that some were not.

use std::io;

use super::{remark, tone};
use crate::cli::{
    args::ActArgs,
    context::{Context, complain, say},
    paint::visible,
};
use crate::operate::{Act, Problem, Reply, Request, Which};

/// Acts on the files, and prints one line for each.
///
/// # Errors
/// What was the matter with each: one kind of problem keeps its exit code, several become 1.
pub(super) async fn run(context: &Context, act: Act, args: ActArgs) -> Result<(), Problem> {
    let ids = with_stdin(args.ids)?;
    let which = Which::from(args.which);
    if ids.is_empty() && which.is_everything() {
        // `-` with nothing on standard input: nothing to do is no fault.
        return Ok(());
    }
    // Ids that are named go before the filter.
    let which = ids.is_empty().then_some(which);
    let mut answered = context.ask(Request::QueueAct { act, ids, which, reason: args.reason }).await?;
    let (mut done, mut worst) = (0_u64, None::<Problem>);
    while let Some(reply) = answered.reply().await? {
        let Reply::Acted(acted) = reply else { continue };
        if context.json() {
            context.object(&acted)?;
        }
        match (&acted.file, acted.error) {
            (_, Some(problem)) => {
                if !context.json() {
                    complain(&format!("forebay: {}", visible(&problem.text)));
                }
                worst = Some(match worst {
                    Some(other) if other.exit_code() != problem.exit_code() => Problem::failed(""),
                    _ => problem,
                });
            }
            (Some(file), None) => {
                done += 1;
                if !context.json() {
                    let state = context.paint.tone(tone(file.state), file.state.as_str());
                    let remark = remark(file, &answered);
                    let remark = if remark.is_empty() { remark } else { format!(" ({remark})") };
                    say(&format!("{} {}: {state}{}", file.id, visible(&file.name), visible(&remark)))?;
                }
            }
            (None, None) => {}
        }
    }
    match worst {
        // Each file was reported by itself.
        Some(problem) => Err(Problem { text: String::new(), ..problem }),
        None if done == 0 && !context.json() => say("no file matches; nothing was done"),
        None => Ok(()),
    }
}

/// The ids, with those on standard input in the place of `-`: one a line, its first word, or the `id` of a JSON object.
fn with_stdin(ids: Vec<String>) -> Result<Vec<String>, Problem> {
    let mut all = Vec::new();
    for id in ids {
        if id != "-" {
            all.push(id);
            continue;
        }
        for line in io::stdin().lines() {
            let line = line.map_err(|error| Problem::failed(format!("cannot read standard input: {error}")))?;
            all.extend(id_of(&line));
        }
    }
    Ok(all)
}

/// The header of a list that was piped in is passed over.
fn id_of(line: &str) -> Option<String> {
    // A list that was saved on Windows begins with a byte order mark.
    let line = line.trim_start_matches('\u{feff}');
    if let Ok(object) = serde_json::from_str::<serde_json::Map<String, serde_json::Value>>(line) {
        return object.get("id").and_then(|id| id.as_str()).map(str::to_owned);
    }
    line.split_whitespace().next().filter(|word| *word != "id").map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::id_of;

    #[test]
    fn ids_are_read_from_lines_and_objects() {
        assert_eq!(id_of("0190aa demo a.hl7").as_deref(), Some("0190aa"));
        assert_eq!(id_of("{\"id\":\"0190bb\",\"name\":\"x\"}").as_deref(), Some("0190bb"));
        assert_eq!(id_of("\u{feff}0190cc\r").as_deref(), Some("0190cc"));
        assert_eq!(id_of("id   partner"), None);
        assert_eq!(id_of("   "), None);
    }
}
