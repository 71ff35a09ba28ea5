//! A running program, from its start until nothing of its process group is left: one that this
//! server has started itself, or one that a runner has.
//!
//! (The attempt of a file, which the queue counts, is a number: `Work::attempt`. Processors that
//! start no program, such as `deliver`, have no [`Attempt`].)

use std::{
    io,
    process::{Command, ExitStatus, Stdio},
};

use forebay_queue::{Child, NodeId};
use rustix::process::Signal;

use super::{
    confine::Cage,
    group::{Group, start_ticks},
    output::Output,
    runner::Remote,
};

/// A running program. Dropped, its whole group is killed.
pub(super) struct Attempt {
    program: Program,
    output: Output,
}

enum Program {
    Own(Group),
    Remote(Remote),
}

/// Why an attempt has no status.
pub(super) enum Lost {
    /// The runner has gone away, and stops the program if it can.
    Runner(io::Error),
    /// This machine said no.
    Own(io::Error),
}

impl Attempt {
    /// Starts it, with standard output and error read into a bounded tail. Needs the runtime's context.
    pub(super) fn start(mut command: Command, cage: Option<Cage>) -> io::Result<Self> {
        let (output, writer) = Output::pipe()?;
        command.stdout(Stdio::from(writer.try_clone()?)).stderr(Stdio::from(writer));
        let group = Group::start(command, |command| match cage {
            Some(cage) => cage.spawn(command),
            None => command.spawn(),
        })?;
        Ok(Self { program: Program::Own(group), output })
    }

    /// One that a runner has started.
    pub(super) fn remote(remote: Remote, output: Output) -> Self {
        Self { program: Program::Remote(remote), output }
    }

    /// The process group with its start time, to find it again after a crash.
    pub(super) fn child(&self, node: NodeId) -> Option<Child> {
        let (pgid, ticks) = match &self.program {
            Program::Own(group) => group.identity()?,
            // What a runner in a container of its own calls so is nobody or somebody else here.
            Program::Remote(remote) => remote.identity().filter(|(pgid, ticks)| start_ticks(*pgid) == Some(*ticks))?,
        };
        Some(Child { pgid, start_ticks: ticks, node })
    }

    /// Reads output until the program has ended. Cancel safe.
    pub(super) async fn ended(&mut self) -> Result<(), Lost> {
        let Self { program, output } = self;
        let ended = async {
            match program {
                Program::Own(group) => group.ended().await.map_err(Lost::Own),
                Program::Remote(remote) => remote.ended().await.map_err(Lost::Runner),
            }
        };
        tokio::select! {
            ended = ended => ended,
            Err(error) = output.read_on() => Err(Lost::Own(error)),
        }
    }

    /// Signals the whole group.
    pub(super) fn signal(&self, signal: Signal) {
        match &self.program {
            Program::Own(group) => group.signal(signal),
            Program::Remote(remote) => remote.signal(signal),
        }
    }

    /// After [`Attempt::ended`]: ends what the program left running in its group, and returns its status and the end
    /// of its output.
    pub(super) fn finish(self) -> io::Result<(ExitStatus, String)> {
        match self.program {
            Program::Own(group) => {
                // Before it is reaped: afterwards the number could be someone else's.
                group.end_rest();
                let output = self.output.finish();
                Ok((group.reap()?, output))
            }
            Program::Remote(remote) => {
                let output = self.output.finish();
                Ok((remote.status()?, output))
            }
        }
    }
}
