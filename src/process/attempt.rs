//! A program in a process group of its own, from its start until nothing of the group is left.

use std::{
    fs, io,
    os::{
        fd::OwnedFd,
        unix::process::{CommandExt, ExitStatusExt},
    },
    process::{Child as Process, Command, ExitStatus, Stdio},
};

use forebay_queue::{Child, NodeId};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process_group, pidfd_open};
use tokio::{
    io::{Interest, unix::AsyncFd},
    net::unix::pipe,
};

use super::tail::Tail;

/// After the program has ended, no more than this is read of what others may still write to its output.
const LAST_READ_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 16 << 10;

/// A running program. Dropped, its whole group is killed.
pub(super) struct Attempt {
    process: Process,
    group: Pid,
    ended: AsyncFd<OwnedFd>,
    output: pipe::Receiver,
    output_open: bool,
    tail: Tail,
    reaped: bool,
}

impl Attempt {
    /// Starts it, with standard output and error read into a bounded tail. Needs the runtime's context.
    pub(super) fn start(mut command: Command) -> io::Result<Self> {
        let (reader, writer) = io::pipe()?;
        command.stdout(Stdio::from(writer.try_clone()?)).stderr(Stdio::from(writer)).process_group(0);
        let output = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        let mut process = command.spawn()?;
        // The command holds the pipe's writing ends; with them open the output would never end.
        drop(command);
        let group = Pid::from_child(&process);
        // The process is not reaped before this struct says so: until then its number belongs to it.
        let ended = match pidfd_open(group, PidfdFlags::NONBLOCK).map_err(io::Error::from).and_then(watch) {
            Ok(ended) => ended,
            Err(error) => {
                let _ = kill_process_group(group, Signal::KILL);
                let _ = process.wait();
                return Err(error);
            }
        };
        Ok(Self { process, group, ended, output, output_open: true, tail: Tail::default(), reaped: false })
    }

    /// The process group with its start time, to find it again after a crash.
    pub(super) fn child(&self, node: NodeId) -> Option<Child> {
        let pgid = self.group.as_raw_nonzero().get();
        Some(Child { pgid, start_ticks: start_ticks(pgid)?, node })
    }

    /// Reads output until the program has ended. Cancel safe.
    pub(super) async fn ended(&mut self) -> io::Result<()> {
        loop {
            tokio::select! {
                ended = self.ended.readable() => return ended.map(|_| ()),
                readable = self.output.readable(), if self.output_open => {
                    readable?;
                    self.read_some();
                }
            }
        }
    }

    /// Takes what is there, up to a bound; true when there may be more at once.
    fn read_some(&mut self) -> bool {
        let mut buffer = [0; READ_BYTES];
        match self.output.try_read(&mut buffer) {
            Ok(0) => self.output_open = false,
            Ok(length) => {
                self.tail.push(&buffer[..length]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.output_open = false,
        }
        false
    }

    /// Signals the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        // The only error left is that nothing of the group is there any more.
        let _ = kill_process_group(self.group, signal);
    }

    /// After [`Attempt::ended`]: ends what the program left running in its group, and gives its status and the end
    /// of its output.
    pub(super) fn finish(mut self) -> io::Result<(ExitStatus, String)> {
        // Before it is reaped: afterwards the number could be someone else's.
        self.signal(Signal::KILL);
        for _ in 0..LAST_READ_BYTES / READ_BYTES {
            if !self.output_open || !self.read_some() {
                break;
            }
        }
        let status = self.process.wait()?;
        self.reaped = true;
        Ok((status, std::mem::take(&mut self.tail).into_text()))
    }
}

impl Drop for Attempt {
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
