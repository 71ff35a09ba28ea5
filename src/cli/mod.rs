//! The command line: one file per verb. Exit codes: 0 done, 1 failed, 2 wrong usage, 3 not found, 4
//! needs the server.
//!
//! It reads arguments, asks an [`operate::Operator`](crate::operate::Operator) and prints; what a
//! verb does is in `operate`. Output for people goes to standard output as text and may change;
//! with `--json` it is one object a line, whose keys do not. Problems and progress go to standard
//! error. Text that comes from partners is escaped before it is printed, in `paint`: a file name
//! must not steer a terminal.
//!
//! A reader that goes (`forebay queue list | head`) is no failure.

mod args;
mod audit;
mod check;
mod context;
mod demo;
mod gate;
mod init;
mod inspect;
mod key;
mod message;
mod paint;
mod partner;
mod progress;
mod queue;
mod runner;
mod serve;
mod sessions;
mod status;
mod table;
mod token;

use std::{process::ExitCode, time::Duration};

use clap::{CommandFactory as _, Parser as _};

use self::{
    args::{Cli, Verb},
    context::Context,
};
use crate::{
    operate::{Cause, Problem},
    telemetry,
    units::text::visible_json,
};

/// The time that the end of the program waits for blocking work.
/// Short: what it would wait for is a file system that hangs.
const STOP: Duration = Duration::from_secs(2);

/// Does what the command line says, and returns the exit code.
#[must_use]
pub fn run() -> ExitCode {
    // First of all: nothing secret is in the memory yet.
    if let Err(error) = hide_memory() {
        context::complain(&format!(
            "forebay: cannot keep other programs of this user from reading its memory: {error}"
        ));
        // Never on without it: it would be a silent loss of what was promised.
        return ExitCode::FAILURE;
    }
    let cli = Cli::parse();
    let context = Context::new(cli.global);
    let json = context.json();
    let done = dispatch(cli.verb, context);
    // What was logged comes before the last word.
    let is_heard = telemetry::finish_log(STOP);
    match done {
        Ok(()) => ExitCode::SUCCESS,
        // Whoever read the output has seen enough.
        Err(problem) if problem.cause == Cause::Gone => ExitCode::SUCCESS,
        Err(problem) => {
            // It would wait for ever for a standard error that stands still.
            if is_heard {
                tell(&problem, json);
            }
            ExitCode::from(problem.exit_code())
        }
    }
}

/// Passwords, keys and partners' bytes come into this memory. Before any of them does: no other program of the same
/// user, such as one that a route starts, can read it, and no core file is written. Programs that are started are as
/// open as ever, for this does not survive an exec.
fn hide_memory() -> std::io::Result<()> {
    use rustix::process::{DumpableBehavior, set_dumpable_behavior};
    Ok(set_dumpable_behavior(DumpableBehavior::NotDumpable)?)
}

/// One object with `--json`, so that a script reads problems the same way as answers.
fn tell(problem: &Problem, json: bool) {
    if problem.text.is_empty() {
        return;
    }
    if json {
        let object = serde_json::json!({ "error": problem.text, "cause": problem.cause });
        context::complain(&visible_json(&object.to_string()));
    } else {
        context::complain(&format!("forebay: {}", paint::visible_lines(&problem.text)));
    }
}

/// Verbs that need no runtime are done before there is one.
fn dispatch(verb: Verb, context: Context) -> Result<(), Problem> {
    match verb {
        Verb::Init(args) => return init::run(&args),
        Verb::Check => return check::run(&context),
        Verb::Inspect(args) => return inspect::run(&context, &args),
        Verb::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "forebay", &mut script);
            return context::print(&String::from_utf8_lossy(&script));
        }
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .map_err(|error| Problem::failed(format!("cannot start: {error}")))?;
    let done = runtime.block_on(async {
        match verb {
            Verb::Serve => serve::run(&context).await,
            Verb::Runner(args) => runner::run(args).await,
            Verb::Demo(args) => demo::run(&context, &args).await,
            Verb::Status => status::run(&context).await,
            Verb::Partner { verb } => partner::run(&context, verb).await,
            Verb::Sessions { verb } => sessions::run(&context, verb).await,
            Verb::Queue { verb } => queue::run(&context, verb).await,
            Verb::Message { verb } => message::run(&context, verb).await,
            Verb::Gate { verb } => gate::run(&context, verb).await,
            Verb::Audit(args) => audit::run(&context, args).await,
            Verb::Init(_) | Verb::Check | Verb::Inspect(_) | Verb::Completions { .. } => Ok(()),
        }
    });
    // What hangs in a file system must not keep a program that was told to stop. Whatever is dropped here kills the
    // programs that it had started.
    runtime.shutdown_timeout(STOP);
    done
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_holds_together() {
        Cli::command().debug_assert();
    }
}
