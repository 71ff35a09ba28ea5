//! A program in a process group of its own, from its start until nothing of the group is left.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child as Process, Command, ExitStatus},
};

use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::io::{Interest, unix::AsyncFd};

/// A running program. Dropped, its whole group is killed.
pub(super) struct Group {
    process: Process,
    pid: Pid,
    ended: AsyncFd<OwnedFd>,
    reaped: bool,
}

impl Group {
    /// Starts it: `spawn` does so, on whatever thread it likes. Needs the runtime's context.
    pub(super) fn start(
        mut command: Command,
        spawn: impl FnOnce(&mut Command) -> io::Result<Process>,
    ) -> io::Result<Self> {
        let mut process = spawn(command.process_group(0))?;
        // It holds the writing ends of the program's output. The program's group alone shall have
        // them, so that the end of the pipe means that nobody writes any more.
        drop(command);
        let pid = Pid::from_child(&process);
        // The process is not reaped before this struct says so: until then its number belongs to it.
        match pidfd_open(pid, PidfdFlags::NONBLOCK).map_err(io::Error::from).and_then(watch) {
            Ok(ended) => Ok(Self { process, pid, ended, reaped: false }),
            Err(error) => {
                let _ = kill_process_group(pid, Signal::KILL);
                let _ = process.wait();
                Err(error)
            }
        }
    }

    /// The number of the group, and when its leader was started.
    pub(super) fn identity(&self) -> Option<(i32, u64)> {
        let pgid = self.pid.as_raw_nonzero().get();
        Some((pgid, start_ticks(pgid)?))
    }

    /// Waits until the program has ended; what it left running may go on. Cancel safe.
    pub(super) async fn ended(&self) -> io::Result<()> {
        self.ended.readable().await.map(drop)
    }

    /// Signals the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        // The only error left is that nothing of the group is there any more.
        let _ = kill_process_group(self.pid, signal);
    }

    /// After [`Group::ended`]: ends what the program left running in its group. Its number stays its own until
    /// [`Group::reap`].
    /// Called before [`Group::reap`]: afterwards the number could be another group's.
    pub(super) fn end_rest(&self) {
        self.signal(Signal::KILL);
    }

    /// The status of the program that has ended.
    pub(super) fn reap(mut self) -> io::Result<ExitStatus> {
        let status = self.process.wait()?;
        self.reaped = true;
        Ok(status)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if !self.reaped {
            self.signal(Signal::KILL);
            let _ = self.process.wait();
        }
    }
}

/// Readable when the process has ended.
fn watch(pidfd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` gives the same open descriptor for as long as it lives, and `AsyncFd`, which owns it from
    // here on, deregisters it before it is closed.
    #[allow(unsafe_code, reason = "there is no other way to wait for a descriptor of our own")]
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    Ok(watched?)
}

/// Field 22 of `/proc/<pid>/stat`, if there is such a process.
pub(super) fn start_ticks(pid: i32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field is the program's name in parentheses and may hold anything, so count from its end.
    stat[stat.rfind(')')? + 1..].split_ascii_whitespace().nth(19)?.parse().ok()
}

/// The exit status as text, for operators.
pub(super) fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit {code}"),
        (None, Some(signal)) => format!("killed by signal {signal}"),
        (None, None) => "ended in an unknown way".to_owned(),
    }
}
