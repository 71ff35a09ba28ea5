//! Programs that a crashed server left running are stopped before anything is claimed.
//!
//! # After a crash
//! A program leads its own process group, so it outlives a server that is killed. It is found twice over: by the
//! process group in the journal, if its start time still agrees, and by `FOREBAY_INSTANCE` in its environment, which
//! its own children inherit, in whatever group they are. TERM, then KILL, and only when all are gone are their
//! entries given back.

use std::{fs, io, path::Path, sync::Arc, time::Duration};

use forebay_queue::{Child, EmbeddedMaintenance, Entry, NodeId, QueueError, State};
use rustix::{
    fd::OwnedFd,
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, kill_process_group, pidfd_open, pidfd_send_signal, test_kill_process,
        test_kill_process_group,
    },
};
use tokio::{task, time};
use tracing::{info, warn};
use uuid::Uuid;

use super::group::start_ticks;
use crate::clock::Clock;
use crate::durable_file;

const LOOK_EVERY: Duration = Duration::from_millis(20);
/// The longest time that a process may be in the middle of an exec.
const EXEC_WAIT: Duration = Duration::from_secs(2);
/// The longest wait for processes that even KILL does not end, such as those in a hung file system.
const KILL_WAIT: Duration = Duration::from_secs(30);

/// The longest wait for programs of a runner, which stops them when its connection ends.
const RUNNER_WAIT: Duration = Duration::from_secs(2);

/// The reason why recovery could not stop everything that a former server had started.
#[derive(Debug, thiserror::Error)]
pub enum ChildrenError {
    /// Processes do not end. Claiming now could run a file twice at the same time.
    #[error("processes of a former server do not end, not even by KILL: {0:?}")]
    Stuck(Vec<i32>),
    /// The queue could not settle an entry.
    #[error(transparent)]
    Queue(#[from] QueueError),
    /// The system refused an action.
    #[error("{doing}: {source}")]
    Io {
        /// The action that failed.
        doing: String,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// The result of a recovery.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ChildrenReport {
    /// Processes that had to be stopped.
    pub stopped: usize,
    /// Entries that are ready again.
    pub ready: usize,
    /// Entries that three crashes found active, and that wait for an operator now.
    pub held: usize,
}

/// The mark of the programs of this data directory: made once and kept in `<data>/instance`.
///
/// # Errors
/// When it can be neither read nor made.
pub fn instance_of(data: &Path) -> Result<Uuid, ChildrenError> {
    let path = data.join("instance");
    let failed = |source| ChildrenError::Io { doing: format!("cannot read or make {}", path.display()), source };
    match fs::read_to_string(&path) {
        Ok(text) => Uuid::try_parse(text.trim()).map_err(|error| failed(io::Error::other(error))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let instance = Uuid::new_v4();
            // Durable before any program carries it.
            durable_file::replace(&path, format!("{instance}\n").as_bytes()).map_err(|error| failed(error.into()))?;
            Ok(instance)
        }
        Err(error) => Err(failed(error)),
    }
}

/// Stops what runs on of a former server, empties `<data>/scratch`, and gives the interrupted entries back. Called
/// before anything is claimed. `kill_after` is the time between TERM and KILL.
///
/// # Errors
/// When something cannot be stopped or given back; then nothing may be claimed.
pub async fn recover_children(
    queue: &Arc<dyn EmbeddedMaintenance>,
    interrupted: &[Entry],
    instance: Uuid,
    data: &Path,
    clock: &Arc<dyn Clock>,
    kill_after: Duration,
) -> Result<ChildrenReport, ChildrenError> {
    let children = own_children(interrupted);
    let mut report =
        ChildrenReport { stopped: stop_all(&mark_of(instance), children, kill_after).await?, ..Default::default() };
    // Stopped, then the directories, then the entries: the next attempt may have the same number,
    // and so the same directory.
    empty_scratch(data).await?;
    for entry in interrupted {
        match queue.settle_crashed(entry.id, clock.now()).await?.state {
            State::Held => report.held += 1,
            _ => report.ready += 1,
        }
    }
    if report != ChildrenReport::default() {
        info!(report.stopped, report.ready, report.held, "entries of interrupted attempts are ready again or held");
    }
    Ok(report)
}

/// Removes the directories of former attempts. None of these runs any more.
async fn empty_scratch(data: &Path) -> Result<(), ChildrenError> {
    let scratch = data.join("scratch");
    let doing = format!("cannot empty {}", scratch.display());
    let removed = task::spawn_blocking(move || match fs::remove_dir_all(&scratch) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    });
    let removed = removed.await.unwrap_or_else(|error| Err(io::Error::other(error)));
    removed.map_err(|source| ChildrenError::Io { doing, source })
}

/// A variable that all programs of a data directory have, and what these start.
fn mark_of(instance: Uuid) -> String {
    format!("FOREBAY_INSTANCE={instance}")
}

/// Stops what has this variable in its environment, and these groups; gives how many processes there were.
pub(super) async fn stop_all(mark: &str, children: Vec<Child>, kill_after: Duration) -> Result<usize, ChildrenError> {
    let former = Arc::new(Former { mark: mark.to_owned(), children });
    // First: a process in the middle of an exec shows no environment, so it would not be found.
    wait_for_execs().await?;
    let found = look(&former, Some(Signal::TERM)).await?;
    if found.is_empty() {
        return Ok(0);
    }
    warn!(processes = ?found, "stopping processes that a former server or runner left running");
    if let Some(left) = until_gone(&former, None, kill_after).await? {
        warn!(processes = ?left, "processes of a former server or runner do not end by TERM and are killed");
        let bound = if left.iter().all(|pid| is_anothers(*pid)) { RUNNER_WAIT } else { KILL_WAIT };
        let left = until_gone(&former, Some(Signal::KILL), bound).await?.unwrap_or_default();
        // Only their runner can stop them, and it does so before it begins anything else.
        let (anothers, own): (Vec<_>, Vec<_>) = left.into_iter().partition(|pid| is_anothers(*pid));
        if !anothers.is_empty() {
            warn!(processes = ?anothers, "programs of a runner run on; it stops them before it begins anything new");
        }
        if !own.is_empty() {
            return Err(ChildrenError::Stuck(own));
        }
    }
    Ok(found.len())
}

/// What a former server or runner has left running.
struct Former {
    mark: String,
    children: Vec<Child>,
}

/// Returns true for a process that this user may not signal: it is a runner's.
fn is_anothers(pid: i32) -> bool {
    Pid::from_raw(pid).is_some_and(|pid| test_kill_process(pid) == Err(Errno::PERM))
}

/// Waits for processes that are in the middle of an exec. A child of the former server lets go of the data's lock in
/// the middle of that, a moment before its environment says whose it is.
async fn wait_for_execs() -> Result<(), ChildrenError> {
    for _ in 0..EXEC_WAIT.as_millis() / LOOK_EVERY.as_millis() {
        let in_exec = task::spawn_blocking(|| Ok(processes()?.into_iter().any(is_in_exec))).await;
        let in_exec = in_exec.unwrap_or_else(|error| Err(io::Error::other(error)));
        if !in_exec.map_err(looking)? {
            break;
        }
        time::sleep(LOOK_EVERY).await;
    }
    Ok(())
}

/// Looks again and again, since what is stopped may have started something meanwhile. Returns what
/// is left at the end of `bound`, if anything.
async fn until_gone(
    former: &Arc<Former>,
    signal: Option<Signal>,
    bound: Duration,
) -> Result<Option<Vec<i32>>, ChildrenError> {
    let mut left = Vec::new();
    for _ in 0..=bound.as_millis() / LOOK_EVERY.as_millis() {
        left = look(former, signal).await?;
        if left.is_empty() {
            return Ok(None);
        }
        time::sleep(LOOK_EVERY).await;
    }
    Ok(Some(left))
}

/// Looks through all processes, and sends a signal if one is given. Returns those that were found.
async fn look(former: &Arc<Former>, signal: Option<Signal>) -> Result<Vec<i32>, ChildrenError> {
    let former = Arc::clone(former);
    let found = task::spawn_blocking(move || former.look(signal)).await;
    let found = found.unwrap_or_else(|error| Err(io::Error::other(error)));
    found.map_err(looking)
}

/// The children that run on this node. Numbers of another's mean something else here, and it stops its own.
fn own_children(interrupted: &[Entry]) -> Vec<Child> {
    let children = interrupted.iter().filter_map(|entry| entry.lease.as_ref()?.child.as_ref());
    children.filter(|child| child.node == NodeId::local()).cloned().collect()
}

fn looking(source: io::Error) -> ChildrenError {
    ChildrenError::Io { doing: "cannot look through /proc".to_owned(), source }
}

/// All processes but this one.
fn processes() -> io::Result<Vec<i32>> {
    let own = std::process::id();
    let mut pids = Vec::new();
    for process in fs::read_dir("/proc")? {
        pids.extend(process?.file_name().to_str().and_then(|name| name.parse::<i32>().ok()));
    }
    pids.retain(|pid| pid.unsigned_abs() != own);
    Ok(pids)
}

/// Returns true if the process is in the middle of an exec: it has an executable, and neither arguments nor environment
/// yet. Kernel threads have no executable, and for processes of other users this cannot be read.
fn is_in_exec(pid: i32) -> bool {
    let is_empty = |what| fs::read(format!("/proc/{pid}/{what}")).map(|bytes| bytes.is_empty());
    match is_empty("environ") {
        Ok(empty) => empty && is_empty("cmdline").unwrap_or(false) && fs::read_link(format!("/proc/{pid}/exe")).is_ok(),
        // For a moment it is as closed to others as the server that it was copied from.
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => is_own(pid) && is_new(pid),
        Err(_) => false,
    }
}

/// Returns true for a process of this user. Not by who owns its files in `/proc`: those of a closed one are root's.
fn is_own(pid: i32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let uid = status.lines().find_map(|line| line.strip_prefix("Uid:")?.split_ascii_whitespace().nth(1)?.parse().ok());
    uid == Some(rustix::process::geteuid().as_raw())
}

/// Returns true for a process that was started shortly before this one, or later.
fn is_new(pid: i32) -> bool {
    let ticks =
        u64::try_from(EXEC_WAIT.as_millis()).unwrap_or(u64::MAX) * rustix::param::clock_ticks_per_second() / 1000;
    let own = start_ticks(rustix::process::getpid().as_raw_pid());
    start_ticks(pid).zip(own).is_some_and(|(its, own)| its + ticks >= own)
}

impl Former {
    fn look(&self, signal: Option<Signal>) -> io::Result<Vec<i32>> {
        let mut found = Vec::new();
        for pid in processes()? {
            if is_marked(pid, &self.mark) {
                send(pid, &self.mark, signal);
                found.push(pid);
            }
        }
        for child in &self.children {
            if is_there(child) && !found.contains(&child.pgid) {
                if let (Some(signal), Some(group)) = (signal, Pid::from_raw(child.pgid)) {
                    let _ = kill_process_group(group, signal);
                }
                found.push(child.pgid);
            }
        }
        Ok(found)
    }
}

/// Returns true if the process has the mark in its environment.
fn is_marked(pid: i32, mark: &str) -> bool {
    // Not readable are zombies and processes of other users; those of this data directory are neither.
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()))
}

/// The number may have gone to another process since it was read: the descriptor holds on to one process, which is
/// looked at again.
fn send(pid: i32, mark: &str, signal: Option<Signal>) {
    let Some(signal) = signal else { return };
    let Some(fd) = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok()) else { return };
    if is_marked(pid, mark) {
        deliver(&fd, pid, signal);
    }
}

fn deliver(fd: &OwnedFd, pid: i32, signal: Signal) {
    match pidfd_send_signal(fd, signal) {
        Ok(()) | Err(Errno::SRCH) => {}
        Err(error) => warn!(pid, %error, "cannot stop a process that a former server left"),
    }
}

/// Returns true if the journalled process still leads its group. A later process with its number has another start
/// time.
fn is_there(child: &Child) -> bool {
    let Some(group) = Pid::from_raw(child.pgid) else { return false };
    start_ticks(child.pgid) == Some(child.start_ticks)
        && !is_zombie(child.pgid)
        // A runner's cannot be signalled by this user.
        && matches!(test_kill_process_group(group), Ok(()) | Err(Errno::PERM))
}

fn is_zombie(pid: i32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rfind(')').is_some_and(|end| matches!(stat.as_bytes().get(end + 2), Some(b'Z' | b'X')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_runs_a_program_is_not_on_the_way_to_one() {
        let all = processes().unwrap();
        let there = |pid: i32| std::path::Path::new(&format!("/proc/{pid}")).exists();
        // A few at most are caught in the act, and not twice.
        assert!(!all.into_iter().filter(|pid| is_in_exec(*pid)).any(|pid| {
            std::thread::sleep(Duration::from_millis(200));
            there(pid) && is_in_exec(pid)
        }));
    }

    #[test]
    fn an_instance_is_made_once() {
        let data = tempfile::tempdir().unwrap();
        let first = instance_of(data.path()).unwrap();
        assert_eq!(instance_of(data.path()).unwrap(), first);
        fs::write(data.path().join("instance"), "nonsense").unwrap();
        assert!(instance_of(data.path()).is_err());
    }

    #[test]
    fn children_of_another_node_are_left_to_it() {
        let entry = |node: &str| -> Entry {
            let lease = serde_json::json!({
                "token": Uuid::new_v4(), "began_at": "2026-06-01T00:00:00Z", "until": "2026-06-01T00:00:00Z",
                "child": { "pgid": 7, "start_ticks": 1, "node": node }, "node": node
            });
            serde_json::from_value(serde_json::json!({
                "id": Uuid::new_v4(), "turn": 1, "partner": "clinic", "name": "a", "door": "ftp", "size_bytes": 1,
                "sha256": "00".repeat(32), "received_at": "2026-06-01T00:00:00Z", "route": "rest", "state": "active",
                "since": "2026-06-01T00:00:00Z", "reason": null, "attempts": 0, "due_at": null, "failing_since": null,
                "lease": lease, "crashes": 0, "changed_seq": 1
            }))
            .unwrap()
        };
        let own = own_children(&[entry("second"), entry("local")]);
        assert!(own.len() == 1 && own[0].node.is_local(), "{own:?}");
    }

    #[tokio::test]
    async fn a_marked_process_and_a_journalled_group_are_stopped_and_others_are_not() {
        use std::{
            os::unix::process::CommandExt,
            process::{Command, Stdio},
        };
        let instance = Uuid::new_v4();
        let sleep = |arguments: &[&str], mark: Option<Uuid>| {
            let mut command = Command::new("/bin/sh");
            command.args(arguments).process_group(0).env_clear().stdout(Stdio::null());
            command.envs(mark.map(|mark| ("FOREBAY_INSTANCE", mark.to_string())));
            command.spawn().unwrap()
        };
        let mut marked = sleep(&["-c", "sleep 600 & wait"], Some(instance));
        let mut stubborn = sleep(&["-c", "trap '' TERM; while :; do sleep 600; done"], Some(instance));
        let mut journalled = sleep(&["-c", "exec sleep 600"], None);
        let mut other = sleep(&["-c", "exec sleep 600"], Some(Uuid::new_v4()));
        let child = |pid: u32| {
            let pgid = i32::try_from(pid).unwrap();
            Child { pgid, start_ticks: start_ticks(pgid).unwrap(), node: NodeId::local() }
        };
        let stale = Child { start_ticks: 1, ..child(other.id()) };
        // Both shells have to be past their first lines.
        time::timeout(Duration::from_secs(10), async {
            let marked = Arc::new(Former { mark: mark_of(instance), children: Vec::new() });
            while look(&marked, None).await.unwrap().len() < 4 {
                time::sleep(Duration::from_millis(5)).await;
            }
        })
        .await
        .unwrap();
        let (mark, children) = (mark_of(instance), vec![child(journalled.id()), stale]);
        // They are this test's children and have to be reaped while it is waited for their end.
        let (stopped, ()) = tokio::join!(stop_all(&mark, children, Duration::from_millis(300)), async {
            for process in [&mut marked, &mut stubborn, &mut journalled] {
                while process.try_wait().unwrap().is_none() {
                    time::sleep(Duration::from_millis(5)).await;
                }
            }
        });
        assert!(stopped.unwrap() >= 5, "two shells, their two sleeps, and the journalled one");
        assert!(other.try_wait().unwrap().is_none(), "another instance's process runs on");
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
