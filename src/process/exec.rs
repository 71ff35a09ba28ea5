//! The processor that gives files to a program.
//!
//! The program gets the file on standard input and at `FOREBAY_PATH`, in a directory of its own that is its working
//! directory too and goes when it ends. No shell is involved. Its environment is PATH, HOME, LANG, what the route
//! adds, and `FOREBAY_*`. It leads a process group, and what it leaves running in that group ends with it.
//!
//! Exit 0 is done, 65 (EX_DATAERR) bad content, 75 (EX_TEMPFAIL) try again, 71 (EX_OSERR) the backend is down;
//! anything else and signals are failures, tried again. See sysexits(3) and Postfix's pipe(8).

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs,
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
use forebay_queue::{Entry, NodeId, QueueError, QueueStore};
use forebay_storage::{Durability, StorageError, Verified};
use rustix::process::Signal;
use tokio::{task, time};
use tracing::warn;
use uuid::Uuid;

use super::{
    Outcome, Processor, Report, Work,
    attempt::{Attempt, describe},
    scratch::Scratch,
};
use crate::{clock::Clock, contents::Contents, routes, units};

/// A program that has run for this long is written into the journal. One that the server leaves behind sooner is
/// found by its environment alone.
const NOTE_CHILD_AFTER: Duration = Duration::from_millis(100);
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// The processor `exec` of one route.
pub struct Exec {
    inner: Arc<Inner>,
    queue: Arc<dyn QueueStore>,
    clock: Arc<dyn Clock>,
    timeout: Duration,
    kill_after: Duration,
}

struct Inner {
    command: Vec<String>,
    environment: BTreeMap<OsString, OsString>,
    contents: Contents,
    scratch: PathBuf,
}

impl Exec {
    /// A processor for this route. The directories of its attempts are made in `scratch`.
    #[must_use]
    pub fn new(
        route: &routes::Options,
        contents: Contents,
        queue: Arc<dyn QueueStore>,
        clock: Arc<dyn Clock>,
        scratch: PathBuf,
        instance: Uuid,
        kill_after: Duration,
    ) -> Self {
        let mut environment = BTreeMap::new();
        environment.insert("PATH".into(), env::var_os("PATH").unwrap_or_else(|| DEFAULT_PATH.into()));
        for kept in ["HOME", "LANG"] {
            environment.extend(env::var_os(kept).map(|value| (kept.into(), value)));
        }
        environment.extend(route.environment.iter().map(|(name, value)| (name.into(), value.into())));
        environment.insert("FOREBAY_ROUTE".into(), route.name.clone().into());
        environment.insert("FOREBAY_INSTANCE".into(), instance.to_string().into());
        let inner = Inner { command: route.command.clone(), environment, contents, scratch };
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
                biased;
                ended = attempt.ended() => {
                    if let Err(error) = ended {
                        return Outcome::Failed { reason: format!("cannot wait for the program: {error}") }.into();
                    }
                    break;
                }
                () = work.stop.asked(), if because.is_none() => {
                    because = Some(Outcome::Stopped { reason: work.stop.why().to_owned() });
                    attempt.signal(Signal::TERM);
                    bell.as_mut().reset(time::Instant::now() + self.kill_after);
                }
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
impl Processor for Exec {
    async fn process(&self, work: &Arc<Work>) -> Report {
        let (inner, own) = (Arc::clone(&self.inner), Arc::clone(work));
        // Starting a program blocks until it has replaced the copy of this process.
        let begun = task::spawn_blocking(move || inner.begin(&own)).await;
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
    fn begin(&self, work: &Work) -> Result<(Attempt, Scratch), Outcome> {
        let down =
            |doing: &str, error: &dyn std::fmt::Display| Outcome::BackendDown { reason: format!("{doing}: {error}") };
        let entry = &work.entry;
        let scratch = Scratch::make(&self.scratch, entry.id, work.attempt, &entry.name)
            .map_err(|error| down("cannot make the attempt's directory", &error))?;
        // A copy: what is kept must not change whatever the program does with its file.
        let placed = self.contents.materialize(entry, scratch.file(), Durability::Unsynced);
        verify(placed, entry)?;
        let stdin = fs::File::open(scratch.file()).map_err(|error| down("cannot open the attempt's file", &error))?;
        let mut command = self.command(work, &scratch)?;
        command.stdin(stdin);
        let started = work.hand_over(|| Attempt::start(command)).map_err(|_| Outcome::gate_closed())?;
        let attempt = started.map_err(|error| down(&format!("cannot start {}", self.command[0]), &error))?;
        Ok((attempt, scratch))
    }

    fn command(&self, work: &Work, scratch: &Scratch) -> Result<Command, Outcome> {
        let entry = &work.entry;
        let program = self.program()?;
        let mut command = Command::new(program);
        command.arg0(&self.command[0]).args(&self.command[1..]).current_dir(scratch.dir());
        command.env_clear().envs(&self.environment);
        command.env("FOREBAY_FILE_ID", entry.id.to_string()).env("FOREBAY_PARTNER", &entry.partner);
        command.env("FOREBAY_NAME", &entry.name).env("FOREBAY_PATH", scratch.file());
        command.env("FOREBAY_SHA256", entry.sha256.to_string()).env("FOREBAY_SIZE", entry.size_bytes.to_string());
        command.env("FOREBAY_ATTEMPT", work.attempt.to_string()).env("FOREBAY_DOOR", &entry.door);
        command.env("FOREBAY_RECEIVED_AT", entry.received_at.to_rfc3339());
        Ok(command)
    }

    /// The program's file. A bare name is looked up here, since only a path can be started the fast way.
    fn program(&self) -> Result<PathBuf, Outcome> {
        let Some(name) = self.command.first() else {
            return Err(Outcome::BackendDown { reason: "the route has no command".to_owned() });
        };
        if name.contains('/') {
            return Ok(PathBuf::from(name));
        }
        let path = self.environment.get(Path::new("PATH").as_os_str()).map(OsString::as_os_str).unwrap_or_default();
        env::split_paths(path)
            .map(|dir| dir.join(name))
            .find(|file| fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0))
            .ok_or_else(|| Outcome::BackendDown { reason: format!("cannot find {name} in PATH") })
    }
}

/// Refuses a copy that is not what was accepted.
pub(super) fn verify(placed: Result<Verified, StorageError>, entry: &Entry) -> Result<(), Outcome> {
    let verified = placed.map_err(|error| cannot_place(&error))?;
    match verified.sha256 == entry.sha256 && verified.size_bytes == entry.size_bytes {
        true => Ok(()),
        false => Err(Outcome::Hold { reason: format!("file {} is not what was accepted", entry.id) }),
    }
}

/// The outcome of an attempt whose spooled bytes cannot be put where the program needs them.
pub(super) fn cannot_place(error: &StorageError) -> Outcome {
    let reason = error.to_string();
    match error {
        StorageError::NotFound(_) | StorageError::Damaged { .. } => Outcome::Hold { reason },
        _ => Outcome::BackendDown { reason },
    }
}

/// The outcome that an exit status stands for.
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
