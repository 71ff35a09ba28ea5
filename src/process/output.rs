//! A program's standard output and error, read as they come, of which the end is kept.
//!
//! Memory is bounded however much a program writes. It is read all the time, so that no program
//! blocks on a full pipe.

use std::{io, os::fd::OwnedFd};

use tokio::net::unix::pipe;

use super::tail::Tail;

/// After the program has ended, no more than this is read of what others may still write to its output.
const LAST_READ_BYTES: usize = 1 << 20;
const READ_BYTES: usize = 16 << 10;

/// The reading end of a program's output.
pub(super) struct Output {
    pipe: pipe::Receiver,
    is_open: bool,
    tail: Tail,
}

impl Output {
    /// A pipe, and the end that the program writes to. Needs the runtime's context.
    pub(super) fn pipe() -> io::Result<(Self, io::PipeWriter)> {
        let (reader, writer) = io::pipe()?;
        let pipe = pipe::Receiver::from_owned_fd(OwnedFd::from(reader))?;
        Ok((Self { pipe, is_open: true, tail: Tail::default() }, writer))
    }

    /// Reads on and on; returns only with an error. Cancel safe.
    pub(super) async fn read_on(&mut self) -> io::Result<()> {
        while self.is_open {
            self.pipe.readable().await?;
            self.read_some();
        }
        std::future::pending().await
    }

    /// Takes what is there, up to a bound; true when there may be more at once.
    fn read_some(&mut self) -> bool {
        let mut buffer = [0; READ_BYTES];
        match self.pipe.try_read(&mut buffer) {
            Ok(0) => self.is_open = false,
            Ok(length) => {
                self.tail.push(&buffer[..length]);
                return true;
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(_) => self.is_open = false,
        }
        false
    }

    /// When the program has ended: the end of all that it wrote.
    pub(super) fn finish(mut self) -> String {
        for _ in 0..LAST_READ_BYTES / READ_BYTES {
            if !self.is_open || !self.read_some() {
                break;
            }
        }
        self.tail.into_text()
    }
}
