//! The sink that gives files, or messages, to a program.
//!
//! The program gets the file on standard input and at `FOREBAY_PATH`, in a directory of its own that is its working
//! directory too and goes when it ends. A message comes on standard input alone. No shell is involved. Its environment is
//! PATH, HOME, LANG, what the route adds, and `FOREBAY_*`. It leads a process group, and what it leaves running in that
//! group ends with it.
//!
//! It runs as the server's own user, free or confined, or in a runner as another one: see [`RunAs`].
//!
//! Exit 0 is done, 65 (EX_DATAERR) bad content, 75 (EX_TEMPFAIL) try again, 71 (EX_OSERR) the backend is down;
//! anything else and signals are failures, tried again. See sysexits(3) and Postfix's pipe(8).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs::{self, File},
    os::unix::{
        fs::PermissionsExt,
        process::{CommandExt, ExitStatusExt},
    },
    path::{Path, PathBuf},
    pin::pin,
    process::{Command, ExitStatus},
    sync::Arc,
    time::Duration,
};

use async_trait::async_trait;
use forebay_queue::{NodeId, QueueError, QueueStore};
use rustix::process::Signal;
use tokio::{task, time};
use tracing::warn;
use uuid::Uuid;

use super::{Item, Message, Sink, given};
use crate::{
    clock::Clock,
    contents::Contents,
    process::{
        Confinement, Outcome, Report, Work,
        attempt::{Attempt, Lost},
        group::describe,
        output::Output,
        program,
        runner::{self, Place, Prepare},
        scratch::Scratch,
    },
    routes::{self, RunAs},
    units,
};

/// A program that has run for this long is written into the journal. One that the server leaves behind sooner is
/// found by its environment alone.
const NOTE_CHILD_AFTER: Duration = Duration::from_millis(100);

/// The sink `exec` of one route.
pub struct Exec {
    inner: Arc<Inner>,
    queue: Arc<dyn QueueStore>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    kill_after: Duration,
}

struct Inner {
    command: Vec<String>,
    /// What the route adds, and what is the same for all its files.
    variables: Vec<(String, String)>,
    run_as: RunAs,
    confinement: Confinement,
    contents: Contents,
    scratch: PathBuf,
    timeout: Duration,
    kill_after: Duration,
}

/// What all programs of a server have in common.
pub struct Common {
    /// Where the directories of attempts are made.
    pub scratch: PathBuf,
    /// The mark of the data directory.
    pub instance: Uuid,
    /// The time between TERM and KILL.
    pub kill_after: Duration,
    /// What confined programs do not reach: the data directory, and keys that lie elsewhere.
    pub hidden: Vec<PathBuf>,
}

impl Exec {
    /// A processor for this route.
    #[must_use]
    pub fn new(
        route: &routes::Options,
        contents: Contents,
        queue: Arc<dyn QueueStore>,
        clock: Arc<dyn Clock>,
        common: Common,
    ) -> Self {
        let Common { scratch, instance, kill_after, hidden } = common;
        let mut variables: Vec<_> =
            route.environment.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        // After the route's own: those cannot stand for the server's.
        variables.push(("FOREBAY_ROUTE".to_owned(), route.name.clone()));
        variables.push(("FOREBAY_INSTANCE".to_owned(), instance.to_string()));
        let inner = Inner {
            command: route.command.clone(),
            variables,
            run_as: route.run_as(),
            confinement: Confinement::new(&hidden, &route.writable),
            contents,
            scratch,
            timeout: route.timeout,
            kill_after,
        };
        Self { inner: Arc::new(inner), queue, clock, timeout: route.timeout, kill_after }
    }

    /// Waits for a started program, stops it when asked, and returns its outcome.
    async fn attend(&self, work: &Work, mut attempt: Attempt) -> Report {
        let mut because = None;
        let mut killed = false;
        let mut noted = false;
        let mut bell = pin!(time::sleep(self.timeout));
        let mut note = pin!(time::sleep(NOTE_CHILD_AFTER));
        loop {
            tokio::select! {
                // The end first: a program that has ended is judged by its status, and not by a
                // stop or a time-out that came at the same time.
                biased;
                ended = attempt.ended() => {
                    match ended {
                        Ok(()) => break,
                        Err(Lost::Own(error)) => {
                            return Outcome::Failed { reason: format!("cannot wait for the program: {error}") }.into();
                        }
                        // It stops the program, and tells no status.
                        Err(Lost::Runner(error)) => {
                            let reason = format!("the runner went away while the program ran ({error})");
                            return because.unwrap_or(Outcome::BackendDown { reason }).into();
                        }
                    }
                }
                () = work.stop.asked(), if because.is_none() => {
                    because = Some(Outcome::Stopped { reason: work.stop.why().to_owned() });
                    attempt.signal(Signal::TERM);
                    bell.as_mut().reset(time::Instant::now() + self.kill_after);
                }
                // The one timer has two meanings: the time-out before anything was asked of the
                // program, and then the time until KILL.
                () = &mut bell, if !killed => {
                    if because.is_some() {
                        killed = true;
                        attempt.signal(Signal::KILL);
                    } else {
                        let reason = format!("timed out after {}", units::format_duration(self.timeout));
                        because = Some(Outcome::Failed { reason });
                        attempt.signal(Signal::TERM);
                        bell.as_mut().reset(time::Instant::now() + self.kill_after);
                    }
                }
                () = &mut note, if !noted => {
                    noted = true;
                    self.note_child(work, &attempt).await;
                }
            }
        }
        match attempt.finish() {
            Ok((status, output)) => Report { outcome: because.unwrap_or_else(|| judge(status)), output },
            Err(error) => Outcome::Failed { reason: format!("cannot reap the program: {error}") }.into(),
        }
    }

    /// Journals the program's process group, so that a crash of the server leaves a trace of it.
    async fn note_child(&self, work: &Work, attempt: &Attempt) {
        let node = work.entry.lease.as_ref().map_or_else(NodeId::local, |lease| lease.node.clone());
        let Some(child) = attempt.child(node) else { return };
        match self.queue.note_child(work.token, work.entry.id, child, self.clock.now()).await {
            Ok(()) => {}
            Err(QueueError::LeaseLost(_)) => work.stop.ask("the lease was lost"),
            Err(error) => warn!(file.id = %work.entry.id, %error, "cannot note the program's process group"),
        }
    }
}

#[async_trait]
impl Sink for Exec {
    async fn take(&self, work: &Arc<Work>, item: Item) -> Report {
        let (inner, own) = (Arc::clone(&self.inner), Arc::clone(work));
        // Starting a program blocks until it has replaced the copy of this process.
        let begun = task::spawn_blocking(move || inner.begin(&own, &item)).await;
        let (attempt, scratch) = match begun {
            Ok(Ok(begun)) => begun,
            Ok(Err(outcome)) => return outcome.into(),
            Err(error) => return Outcome::Failed { reason: format!("starting the program: {error}") }.into(),
        };
        let report = self.attend(work, attempt).await;
        let removal = task::spawn_blocking(move || drop(scratch));
        if report.outcome != Outcome::Done {
            // The next attempt may have the same number, and so the same directory.
            let _ = removal.await;
        }
        report
    }
}

impl Inner {
    /// Prepares and starts the program. Blocks.
    fn begin(&self, work: &Work, item: &Item) -> Result<(Attempt, Option<Scratch>), Outcome> {
        let entry = &work.entry;
        let scratch = Scratch::make_at(self.scratch.join(attempt_name(work, item)), &entry.name)
            .map_err(|error| down("cannot make the attempt's directory", &error))?;
        let file = match item {
            Item::File => given::give(&self.contents, entry, scratch.file())?,
            Item::Message(message) => {
                given::sealed(&message.bytes).map_err(|error| down("cannot hold the message in memory", &error))?
            }
        };
        match &self.run_as {
            RunAs::Runner { socket, user } => {
                let user = runner::uid_of(user)
                    .ok_or_else(|| down("cannot use the runner", &format_args!("there is no user {user}")))?;
                let attempt = self.begin_remote(work, item, &Place { socket: socket.clone(), user }, scratch, file)?;
                Ok((attempt, None))
            }
            RunAs::Server | RunAs::Confined => Ok((self.begin_here(work, item, &scratch, file)?, Some(scratch))),
        }
    }

    /// Starts the program as a child of this server, free or confined.
    fn begin_here(&self, work: &Work, item: &Item, scratch: &Scratch, file: File) -> Result<Attempt, Outcome> {
        let mut command = self.command(work, item, scratch)?;
        command.stdin(file);
        let cage = match self.run_as == RunAs::Confined {
            false => None,
            true => {
                command.env("TMPDIR", scratch.dir());
                let cage = self.confinement.cage(scratch.dir());
                Some(cage.map_err(|error| down("cannot confine the program", &error))?)
            }
        };
        // All that can fail before is done by now: under the gate's lock is only the start itself.
        let started = work.hand_over(|| Attempt::start(command, cage)).map_err(|_| Outcome::gate_closed())?;
        started.map_err(|error| down(&format!("cannot start {}", self.command[0]), &error))
    }

    /// The runner makes a copy of its own, so that the one here goes as soon as that is there.
    fn begin_remote(
        &self,
        work: &Work,
        item: &Item,
        place: &Place,
        scratch: Scratch,
        file: File,
    ) -> Result<Attempt, Outcome> {
        let doing = format!("the runner at {} does not take the file", place.socket.display());
        let failed = |error: std::io::Error| match work.stop.is_asked() {
            true => Outcome::Stopped { reason: work.stop.why().to_owned() },
            false => down(&doing, &error),
        };
        let is_file = matches!(item, Item::File);
        if is_file {
            // Its user may read what it has open, by whatever name. It never can write to it: it is not the owner.
            fs::set_permissions(scratch.file(), fs::Permissions::from_mode(0o444)).map_err(failed)?;
        }
        let mut variables = self.variables.clone();
        variables.extend(variables_of(work, item));
        let prepare = Prepare {
            version: runner::VERSION,
            file: work.entry.id,
            number: work.attempt,
            is_message: !is_file,
            name: work.entry.name.clone(),
            command: self.command.clone(),
            variables,
            kill_after_ms: u64::try_from(self.kill_after.as_millis()).unwrap_or(u64::MAX),
        };
        let (output, writer) = Output::pipe().map_err(failed)?;
        let start = place.prepare(&prepare, &file, &writer, self.timeout, || work.stop.is_asked()).map_err(failed)?;
        drop((writer, file, scratch));
        let begun = work.hand_over(|| start.begin()).map_err(|_| Outcome::gate_closed())?;
        Ok(Attempt::remote(begun.map_err(failed)?, output))
    }

    fn command(&self, work: &Work, item: &Item, scratch: &Scratch) -> Result<Command, Outcome> {
        let mut environment: BTreeMap<OsString, OsString> = program::own_environment();
        let own = self.variables.iter().cloned().chain(variables_of(work, item));
        environment.extend(own.map(|(name, value)| (name.into(), value.into())));
        let program = self.program(environment.get(Path::new("PATH").as_os_str()))?;
        let mut command = Command::new(program);
        command.arg0(&self.command[0]).args(&self.command[1..]).current_dir(scratch.dir());
        command.env_clear().envs(environment);
        if let Item::File = item {
            command.env("FOREBAY_PATH", scratch.file());
        }
        Ok(command)
    }

    /// Returns the path of the route's program, looked up in the PATH that it gets itself.
    fn program(&self, path: Option<&OsString>) -> Result<PathBuf, Outcome> {
        let Some(name) = self.command.first() else {
            return Err(Outcome::BackendDown { reason: "the route has no command".to_owned() });
        };
        let path = path.map(OsString::as_os_str).unwrap_or_default();
        program::find(name, path).ok_or_else(|| Outcome::BackendDown { reason: format!("cannot find {name} in PATH") })
    }
}

fn down(doing: &str, error: &dyn std::fmt::Display) -> Outcome {
    Outcome::BackendDown { reason: format!("{doing}: {error}") }
}

/// The name of an attempt's directory. Attempts at messages of one file may run at once.
fn attempt_name(work: &Work, item: &Item) -> String {
    match item {
        Item::File => format!("{}-{}", work.entry.id, work.attempt),
        Item::Message(message) => format!("{}-{}-{}", message.id(work.entry.id), work.attempt, message.attempt),
    }
}

/// What a program is told of its file, but for the path, and of its message.
fn variables_of(work: &Work, item: &Item) -> Vec<(String, String)> {
    let mut variables = variables_of_file(work);
    if let Item::Message(message) = item {
        variables.extend(variables_of_message(work, message));
    }
    variables
}

fn variables_of_message(work: &Work, message: &Message) -> [(String, String); 6] {
    [
        ("FOREBAY_MESSAGE_ID", message.id(work.entry.id)),
        ("FOREBAY_MESSAGE", message.ordinal.to_string()),
        ("FOREBAY_MESSAGES", message.of.to_string()),
        // The kernel ends a variable at a NUL, and no program is started with one.
        ("FOREBAY_CONTROL_ID", message.control_id.replace('\0', "\u{fffd}")),
        ("FOREBAY_MESSAGE_TYPE", message.message_type.replace('\0', "\u{fffd}")),
        ("FOREBAY_MODE", message.mode.as_str().to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
}

fn variables_of_file(work: &Work) -> Vec<(String, String)> {
    let entry = &work.entry;
    [
        ("FOREBAY_FILE_ID", entry.id.to_string()),
        ("FOREBAY_PARTNER", entry.partner.clone()),
        ("FOREBAY_NAME", entry.name.clone()),
        ("FOREBAY_SHA256", entry.sha256.to_string()),
        ("FOREBAY_SIZE", entry.size_bytes.to_string()),
        ("FOREBAY_ATTEMPT", work.attempt.to_string()),
        ("FOREBAY_DOOR", entry.door.clone()),
        ("FOREBAY_RECEIVED_AT", entry.received_at.to_rfc3339()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Returns the outcome that an exit status stands for (sysexits(3)).
fn judge(status: ExitStatus) -> Outcome {
    let reason = describe(status);
    match (status.code(), status.signal()) {
        (Some(0), _) => Outcome::Done,
        (Some(65), _) => Outcome::Quarantine { reason },
        (Some(71), _) => Outcome::BackendDown { reason },
        (Some(75), _) => Outcome::Retry { reason, after: None },
        _ => Outcome::Failed { reason },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exit_codes_mean_what_the_contract_says() {
        let exit = |code: i32| judge(ExitStatus::from_raw(code << 8));
        assert_eq!(exit(0), Outcome::Done);
        assert_eq!(exit(65), Outcome::Quarantine { reason: "exit 65".to_owned() });
        assert_eq!(exit(71), Outcome::BackendDown { reason: "exit 71".to_owned() });
        assert_eq!(exit(75), Outcome::Retry { reason: "exit 75".to_owned(), after: None });
        assert_eq!(exit(1), Outcome::Failed { reason: "exit 1".to_owned() });
        assert_eq!(exit(78), Outcome::Failed { reason: "exit 78".to_owned() });
        let killed = judge(ExitStatus::from_raw(9));
        assert_eq!(killed, Outcome::Failed { reason: "killed by signal 9".to_owned() });
    }
}
