//! Reading an accepted file and finding out whether it still is what was accepted.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use sha2::Digest;
use tokio::{
    io::{AsyncRead, ReadBuf},
    task::{JoinHandle, spawn_blocking},
};

use super::spool::mismatch;
use crate::{FileMeta, Sha256, disk::DiskFile};

const BUFFER_BYTES: usize = 256 << 10;

/// Gives the bytes of a file, and at their end `InvalidData` instead of the end when they are not what was accepted.
pub(super) struct VerifiedReader {
    file: Arc<dyn DiskFile>,
    meta: FileMeta,
    state: State,
    /// What the last read gave, and how much of that was handed out.
    bytes: Vec<u8>,
    given: usize,
    at: u64,
}

enum State {
    Idle(sha2::Sha256),
    Reading(JoinHandle<io::Result<(Vec<u8>, sha2::Sha256)>>),
    /// Over, and why it is not right.
    Over(Option<String>),
}

impl VerifiedReader {
    pub(super) fn new(file: Arc<dyn DiskFile>, meta: FileMeta) -> Self {
        Self { file, meta, state: State::Idle(sha2::Sha256::new()), bytes: Vec::new(), given: 0, at: 0 }
    }

    fn begin(&mut self, mut hasher: sha2::Sha256) -> State {
        let (file, at, mut bytes) = (self.file.clone(), self.at, std::mem::take(&mut self.bytes));
        self.given = 0;
        State::Reading(spawn_blocking(move || {
            bytes.resize(BUFFER_BYTES, 0);
            let got = file.read_at(&mut bytes, at)?;
            bytes.truncate(got);
            hasher.update(&bytes);
            Ok((bytes, hasher))
        }))
    }

    fn take_in(&mut self, bytes: Vec<u8>, hasher: sha2::Sha256) -> State {
        if !bytes.is_empty() {
            self.at += bytes.len() as u64;
            self.bytes = bytes;
            return State::Idle(hasher);
        }
        let fault = mismatch(&self.meta, self.at, Sha256(hasher.finalize().into()));
        State::Over(fault.map(|what| format!("spool file {} is damaged: {what}", self.meta.id)))
    }
}

impl AsyncRead for VerifiedReader {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        loop {
            let rest = &this.bytes[this.given..];
            if !rest.is_empty() || buffer.remaining() == 0 {
                let count = rest.len().min(buffer.remaining());
                buffer.put_slice(&rest[..count]);
                this.given += count;
                return Poll::Ready(Ok(()));
            }
            match std::mem::replace(&mut this.state, State::Over(None)) {
                State::Idle(hasher) => this.state = this.begin(hasher),
                State::Reading(mut task) => {
                    let Poll::Ready(outcome) = Pin::new(&mut task).poll(cx) else {
                        this.state = State::Reading(task);
                        return Poll::Pending;
                    };
                    match outcome.map_err(io::Error::other).flatten() {
                        Ok((bytes, hasher)) => this.state = this.take_in(bytes, hasher),
                        Err(error) => {
                            this.state = State::Over(Some(error.to_string()));
                            return Poll::Ready(Err(error));
                        }
                    }
                }
                State::Over(None) => return Poll::Ready(Ok(())),
                State::Over(Some(why)) => {
                    this.state = State::Over(Some(why.clone()));
                    return Poll::Ready(Err(io::Error::new(io::ErrorKind::InvalidData, why)));
                }
            }
        }
    }
}
