//! Files and directories that are read through a handle.

use std::{fs::File, os::unix::fs::FileExt, sync::Arc};

use cap_std::fs::ReadDir;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tracing::warn;

use super::{
    answer::Answer,
    guest::{Busy, Guest},
    handles::{Asked, Op},
    motion::{Span, TOO_LONG},
    packet::{Attributes, Code, MAX_DATA_BYTES, Named, Reply},
    view,
};

/// Names in one answer: some 20 KiB.
const NAMES: usize = 128;
/// What they take at most: each twice, the second time in a line as `ls` has it.
const NAMES_BYTES: u32 = 96 << 10;

/// A file that is read.
pub(super) struct Download {
    pub(super) guest: Arc<Guest>,
    pub(super) file: Arc<File>,
    pub(super) there: Attributes,
    pub(super) span: Span,
    pub(super) sent: u64,
    /// Memory for what is read and not yet sent, shared by the channel.
    pub(super) room: Arc<Semaphore>,
    pub(super) _busy: Busy,
}

impl Download {
    pub(super) async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Asked>) {
        while let Some(Asked { op, answer, .. }) = asked.recv().await {
            match op {
                Op::Read { offset, length } => self.read(offset, length, answer).await,
                Op::Fstat => answer.attributes(&self.there),
                Op::Fsync => answer.ok(),
                Op::Fsetstat(attributes) if attributes.size.is_some_and(|size| Some(size) != self.there.size) => {
                    answer.status(Code::OpUnsupported, "what was accepted does not change");
                }
                Op::Fsetstat(_) => answer.ok(),
                Op::Write { .. } => answer.status(Code::PermissionDenied, "the file is open for reading"),
                Op::Readdir => answer.status(Code::Failure, "is not a directory"),
                Op::Close(_) => {
                    self.guest.ticket.doing("");
                    return answer.ok();
                }
            }
        }
        self.guest.ticket.doing("");
    }

    async fn read(&mut self, offset: u64, length: u32, answer: Answer) {
        if self.guest.motion.is_over(&self.span, self.sent) {
            return answer.status(Code::Failure, TOO_LONG);
        }
        if offset >= self.there.size.unwrap_or(0) {
            return answer.status(Code::Eof, "end of file");
        }
        let length = length.min(MAX_DATA_BYTES);
        let guest = self.guest.clone();
        let _moving = guest.motion.moving();
        let Ok(held) = self.room.clone().acquire_many_owned(length).await else { return };
        let (file, guest) = (self.file.clone(), self.guest.clone());
        // It gives the answer itself: the next read may begin.
        let read = tokio::task::spawn_blocking(move || read_at(&file, offset, length, &guest, answer, held));
        match read.await {
            Ok(bytes) => {
                self.sent += bytes;
                self.guest.moved(bytes).await;
            }
            Err(error) => warn!(%error, "a read was lost"),
        }
    }
}

fn read_at(file: &File, offset: u64, length: u32, guest: &Guest, answer: Answer, held: OwnedSemaphorePermit) -> u64 {
    let mut packet = Reply::begin_data(answer.id(), length as usize);
    let head = packet.len();
    packet.resize(head + length as usize, 0);
    match file.read_at(&mut packet[head..], offset) {
        Ok(0) => {
            answer.status(Code::Eof, "end of file");
            0
        }
        Ok(count) => {
            packet.truncate(head + count);
            answer.packet(Reply::finish_data(packet), Some(held));
            count as u64
        }
        Err(error) => {
            warn!(partner = %guest.session.partner, %error, "cannot read a file of a view");
            answer.status(Code::Failure, "the file cannot be read");
            0
        }
    }
}

/// A directory that is listed.
pub(super) struct Listing {
    pub(super) guest: Arc<Guest>,
    pub(super) path: String,
    pub(super) entries: ReadDir,
    pub(super) there: Attributes,
    /// Memory for what is read and not yet sent, shared by the channel.
    pub(super) room: Arc<Semaphore>,
}

impl Listing {
    pub(super) async fn run(self, mut asked: mpsc::UnboundedReceiver<Asked>) {
        let Self { guest, path, mut entries, there, room } = self;
        let path: Arc<str> = path.into();
        while let Some(Asked { op, answer, .. }) = asked.recv().await {
            match op {
                Op::Readdir => {
                    let Ok(held) = room.clone().acquire_many_owned(NAMES_BYTES).await else { return };
                    let (owner, path) = (guest.clone(), path.clone());
                    let read = tokio::task::spawn_blocking(move || {
                        let names = some(&mut entries, &path, &owner);
                        (names, entries)
                    });
                    let Ok((names, rest)) = read.await else { return };
                    entries = rest;
                    match names.is_empty() {
                        true => answer.status(Code::Eof, "no more names"),
                        false => answer.names(&names, Some(held)),
                    }
                }
                Op::Fstat => answer.attributes(&there),
                Op::Close(_) => return answer.ok(),
                _ => answer.status(Code::Failure, "is a directory"),
            }
        }
    }
}

fn some(entries: &mut ReadDir, path: &str, guest: &Guest) -> Vec<Named> {
    let now = guest.clock.now();
    let found = entries.filter_map(|found| view::entry(&found.ok()?, path, guest, now));
    found.take(NAMES).collect()
}
