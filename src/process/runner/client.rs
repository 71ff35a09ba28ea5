//! The server's side: an attempt that a runner carries out.

use std::{
    io::{self, Write as _},
    os::{
        fd::AsFd as _,
        unix::{net::UnixStream as BlockingStream, process::ExitStatusExt as _},
    },
    path::PathBuf,
    process::ExitStatus,
    time::Duration,
};

use rustix::process::Signal;
use tokio::{io::AsyncReadExt as _, net::UnixStream};

use super::wire::{self, Prepare, Said};

/// The longest time that starting a program may take, with the gate's lock held.
const START_WAIT: Duration = Duration::from_secs(10);
/// How often it is looked whether a runner that copies a file is still wanted.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// Where a runner listens, and whose it must be.
#[derive(Clone, Debug)]
pub(in crate::process) struct Place {
    pub(in crate::process) socket: PathBuf,
    pub(in crate::process) user: u32,
}

/// A runner that is ready to begin.
pub(in crate::process) struct Start {
    stream: BlockingStream,
}

/// A program that a runner runs. Dropped, the runner stops it.
pub(in crate::process) struct Remote {
    stream: UnixStream,
    identity: Option<(i32, u64)>,
    read: Vec<u8>,
    status: Option<ExitStatus>,
}

impl Place {
    /// Connects, and has everything prepared: when this returns only the word to begin is missing. Blocks while the
    /// runner copies the file, for so long at most; given up when `is_unwanted` says so.
    pub(in crate::process) fn prepare(
        &self,
        prepare: &Prepare,
        file: &std::fs::File,
        output: &io::PipeWriter,
        bound: Duration,
        is_unwanted: impl Fn() -> bool,
    ) -> io::Result<Start> {
        let stream = BlockingStream::connect(&self.socket)?;
        let peer = rustix::net::sockopt::socket_peercred(&stream)?.uid.as_raw();
        // Before anything is sent: another user could have put a socket there, and would get the
        // file.
        if peer != self.user {
            return Err(io::Error::other(format!("it belongs to uid {peer}, and not to {}", self.user)));
        }
        stream.set_write_timeout(Some(START_WAIT))?;
        wire::send(&stream, prepare, &[file.as_fd(), output.as_fd()])?;
        stream.set_read_timeout(Some(LOOK_EVERY))?;
        let mut looks = bound.as_millis() / LOOK_EVERY.as_millis();
        loop {
            match wire::receive(&stream) {
                Ok(Said::Ready) => return Ok(Start { stream }),
                Ok(said) => return Err(unexpected(said)),
                Err(error) if is_time_out(&error) && looks > 0 && !is_unwanted() => looks -= 1,
                Err(error) => return Err(error),
            }
        }
    }
}

impl Start {
    /// Lets the program begin; when this returns it has begun, or it never will. Needs the runtime's context. Blocks.
    /// Called under the gate's lock, so it is bounded by [`START_WAIT`].
    pub(in crate::process) fn begin(self) -> io::Result<Remote> {
        let mut stream = self.stream;
        stream.set_read_timeout(Some(START_WAIT))?;
        stream.write_all(&[wire::GO])?;
        // Whatever goes wrong from here on closes the stream, upon which the runner stops what it may have started.
        let identity = match wire::receive(&stream)? {
            Said::Started(identity) => identity,
            said => return Err(unexpected(said)),
        };
        stream.set_nonblocking(true)?;
        Ok(Remote { stream: UnixStream::from_std(stream)?, identity, read: Vec::new(), status: None })
    }
}

impl Remote {
    /// The process group and its start time, as the runner knows them.
    pub(in crate::process) fn identity(&self) -> Option<(i32, u64)> {
        self.identity
    }

    /// Waits until the program has ended. An error says that the runner has gone. Cancel safe.
    pub(in crate::process) async fn ended(&mut self) -> io::Result<()> {
        while self.status.is_none() {
            if self.stream.read_buf(&mut self.read).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
            let Some((length, rest)) = self.read.split_first_chunk() else { continue };
            let length = wire::length_of(*length)?;
            if let Some(frame) = rest.get(..length) {
                match serde_json::from_slice(frame)? {
                    Said::Ended(status) => self.status = Some(ExitStatus::from_raw(status)),
                    said => return Err(unexpected(said)),
                }
            }
        }
        Ok(())
    }

    /// Has the whole group signalled: by KILL, or by TERM.
    pub(in crate::process) fn signal(&self, signal: Signal) {
        let asked = if signal == Signal::KILL { wire::KILL } else { wire::TERM };
        // A runner that has gone is noticed by who waits for the end.
        let _ = self.stream.try_write(&[asked]);
    }

    /// The status of a program that has ended.
    pub(in crate::process) fn status(self) -> io::Result<ExitStatus> {
        self.status.ok_or_else(|| io::Error::other("it has not ended"))
    }
}

fn unexpected(said: Said) -> io::Error {
    match said {
        Said::Refused(reason) => io::Error::other(reason),
        other => io::Error::other(format!("it answers {other:?}: is it another version?")),
    }
}

/// Frames come in one piece: a time-out in the middle of one does not happen while the runner lives.
fn is_time_out(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut)
}
