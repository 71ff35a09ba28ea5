//! A file that is read through a handle.
//!
//! Requests for one handle are answered in their order (READ, 6.4). How many answers may wait is
//! bounded by room, which is taken before the bytes are read.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::warn;

use crate::{
    doors::core::{TransferTime, words},
    ingest::OpenFile,
};

use super::{
    answer::Answer,
    attributes,
    handles::{Asked, Op},
    packet::{Code, MAX_DATA_BYTES, Reply},
    room::{Held, Room},
    sftp_session::{Busy, SftpSession},
};

/// An open file on its way to the client.
pub(super) struct Download {
    pub(super) session: Arc<SftpSession>,
    pub(super) file: OpenFile,
    pub(super) time: TransferTime,
    pub(super) sent_bytes: u64,
    /// Memory for what is read and not yet sent.
    pub(super) room: Room,
    pub(super) _busy: Busy,
}

impl Download {
    /// Does what is asked of the handle until it is closed or the connection has gone.
    pub(super) async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Asked>) {
        while let Some(Asked { op, answer, .. }) = asked.recv().await {
            match op {
                Op::Read { offset, length } => self.read(offset, length, answer).await,
                Op::Fstat => answer.attributes(&attributes::of(&self.file.stat())),
                Op::Fsync => answer.ok(),
                Op::Fsetstat(set) if set.size.is_some_and(|size| size != self.file.stat().size_bytes) => {
                    answer.status(Code::OpUnsupported, "what was accepted does not change");
                }
                Op::Fsetstat(_) => answer.ok(),
                Op::Write { .. } => answer.status(Code::PermissionDenied, "the file is open for reading"),
                Op::Readdir => answer.status(Code::Failure, "is not a directory"),
                Op::Close(_) => {
                    self.session.ticket.doing("");
                    return answer.ok();
                }
            }
        }
        self.session.ticket.doing("");
    }

    /// Serves READ: at most [`MAX_DATA_BYTES`] at a time, EOF at the end.
    async fn read(&mut self, offset: u64, length: u32, answer: Answer) {
        if self.session.transfers.is_too_long(&self.time, self.sent_bytes) {
            return answer.status(Code::Failure, words::TOO_LONG);
        }
        if offset >= self.file.stat().size_bytes {
            return answer.status(Code::Eof, "end of file");
        }
        let length = length.min(MAX_DATA_BYTES);
        let session = self.session.clone();
        let _moving = session.transfers.moving();
        let Some(held) = self.room.take(length as usize).await else { return };
        match self.file.read(offset, length as usize).await {
            Ok(data) if data.is_empty() => answer.status(Code::Eof, "end of file"),
            Ok(data) => self.give(data, held, answer).await,
            Err(refusal) => {
                warn!(partner = %session.info.partner, %refusal, "cannot read a file");
                answer.status(Code::Failure, "the file cannot be read");
            }
        }
    }

    /// Sends bytes, and waits until they are within the partner's bandwidth.
    async fn give(&mut self, data: Bytes, held: Held, answer: Answer) {
        let count = data.len() as u64;
        let packet = Reply::data(answer.id(), &data);
        // For a moment there are two copies, of this one piece alone.
        drop(data);
        answer.packet(packet, Some(held));
        self.sent_bytes += count;
        self.session.moved(count).await;
    }
}
