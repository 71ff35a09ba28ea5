//! Answers on their way to the client: each request gets one, whatever becomes of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use russh::{ChannelWriteHalf, server::Msg};
use tokio::{
    sync::{OwnedSemaphorePermit, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;

use crate::{doors::core::words, ingest::Refusal};

use super::{
    packet::{Attributes, Code, Named, Reply},
    refused::{self, Status},
    room,
    sftp_session::{Busy, SftpSession},
};

/// Bytes of a session's answers that wait to be sent. What is read of files and directories is not among them: it waits for room
/// before it is read.
const MOST_WAITING_BYTES: usize = 4 << 20;
/// Answers are gathered up to here, so that many small ones are one packet.
const GATHERED_BYTES: usize = 32 << 10;

/// A packet, and what it holds until it is sent.
struct Outgoing {
    packet: Bytes,
    _held: Held,
    _outstanding: Option<Outstanding>,
}

/// The memory that a packet takes until it is sent.
enum Held {
    /// Room that was waited for.
    Room { _room: room::Held },
    /// Counted with all others.
    Counted(Arc<AtomicUsize>, usize),
}

impl Drop for Held {
    fn drop(&mut self) {
        if let Self::Counted(waiting, bytes) = self {
            waiting.fetch_sub(*bytes, Ordering::AcqRel);
        }
    }
}

/// A request without an answer counts, and keeps its connection.
struct Outstanding {
    _place: OwnedSemaphorePermit,
    _busy: Busy,
}

/// The answers of a channel.
#[derive(Clone)]
pub(super) struct Answers {
    session: Arc<SftpSession>,
    send: mpsc::UnboundedSender<Outgoing>,
}

/// The way to the client.
pub(super) struct Way {
    outgoing: mpsc::UnboundedReceiver<Outgoing>,
}

/// The answer to one request, to be given. Dropped without, it says that something failed.
/// That makes it impossible to forget one, whatever error path is taken.
pub(super) struct Answer {
    id: u32,
    answers: Answers,
    outstanding: Option<Outstanding>,
}

impl Answers {
    /// The answers of a channel on which nothing was asked, and their way out.
    pub(super) fn new(session: Arc<SftpSession>) -> (Self, Way) {
        let (send, outgoing) = mpsc::unbounded_channel();
        (Self { session, send }, Way { outgoing })
    }

    /// The answer to come for a request; none when too many of the session have none yet, or too much of its answers is
    /// not sent yet.
    pub(super) fn to(&self, id: u32) -> Option<Answer> {
        if self.session.waiting_bytes.load(Ordering::Acquire) > MOST_WAITING_BYTES {
            return None;
        }
        // Not waited for: a client that asks on and on without reading is ended by its channel's
        // reader.
        let place = self.session.outstanding.clone().try_acquire_owned().ok()?;
        let outstanding = Outstanding { _place: place, _busy: self.session.busy() };
        Some(Answer { id, answers: self.clone(), outstanding: Some(outstanding) })
    }

    /// A packet that answers no request.
    pub(super) fn send(&self, packet: Bytes) {
        self.put(packet, None, None);
    }

    /// Queues a packet for sending. What has no room of its own is counted.
    fn put(&self, packet: Bytes, room: Option<room::Held>, outstanding: Option<Outstanding>) {
        let held = match room {
            Some(room) => Held::Room { _room: room },
            None => {
                // Before the packet is queued: it is subtracted when the packet is dropped, which
                // may be at once.
                self.session.waiting_bytes.fetch_add(packet.len(), Ordering::AcqRel);
                Held::Counted(self.session.waiting_bytes.clone(), packet.len())
            }
        };
        // The client may have gone.
        let _ = self.send.send(Outgoing { packet, _held: held, _outstanding: outstanding });
    }
}

impl Answer {
    /// The number of the request.
    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Answers with a status and its reason.
    pub(super) fn status(self, code: Code, text: &str) {
        let packet = Reply::status(self.id, code, text);
        self.packet(packet, None);
    }

    /// Answers that it is done.
    pub(super) fn ok(self) {
        self.status(Code::Ok, "");
    }

    /// Answers that it is done, or why it is not.
    pub(super) fn done(self, done: Result<(), Status>) {
        match done {
            Ok(()) => self.ok(),
            Err((code, text)) => self.status(code, &text),
        }
    }

    /// Answers with the reason why `ingest` refuses.
    pub(super) fn refuse(self, refusal: &Refusal) {
        let (code, text) = refused::status(refusal);
        self.status(code, &text);
    }

    /// Answers with a handle.
    pub(super) fn handle(self, handle: u32) {
        let packet = Reply::handle(self.id, handle);
        self.packet(packet, None);
    }

    /// Of a directory: `held` is the room that they take.
    pub(super) fn names(self, names: &[Named], held: Option<room::Held>) {
        let packet = Reply::names(self.id, names);
        self.packet(packet, held);
    }

    /// Answers with the attributes of a name.
    pub(super) fn attributes(self, attributes: &Attributes) {
        let packet = Reply::attributes(self.id, attributes);
        self.packet(packet, None);
    }

    /// Answers with the numbers of an extension.
    pub(super) fn numbers(self, numbers: &[u64]) {
        let packet = Reply::numbers(self.id, numbers);
        self.packet(packet, None);
    }

    /// Sends it; `held` is given back when it is out.
    pub(super) fn packet(mut self, packet: Bytes, held: Option<room::Held>) {
        let outstanding = self.outstanding.take();
        self.answers.put(packet, held, outstanding);
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        if self.outstanding.is_some() {
            let packet = Reply::status(self.id, Code::Failure, words::INTERNAL);
            let outstanding = self.outstanding.take();
            self.answers.put(packet, None, outstanding);
        }
    }
}

impl Way {
    /// Sends answers until there can be no more of them, the connection has gone, or nobody takes them. A client that
    /// takes none for as long as `stalled` is told of by `unread`.
    pub(super) async fn run(
        mut self,
        to: &ChannelWriteHalf<Msg>,
        gone: &CancellationToken,
        stalled: Duration,
        unread: &CancellationToken,
    ) {
        let sending = async {
            while let Some(first) = self.outgoing.recv().await {
                match timeout(stalled, self.send(first, to)).await {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(_) => {
                        unread.cancel();
                        break;
                    }
                }
            }
        };
        tokio::select! {
            () = sending => {}
            () = gone.cancelled() => {}
            () = unread.cancelled() => {}
        }
    }

    /// Sends it, with what else is ready and small.
    async fn send(&mut self, first: Outgoing, to: &ChannelWriteHalf<Msg>) -> bool {
        let mut next = Some(first);
        let mut gathered = Vec::new();
        let mut bytes = 0;
        while let Some(one) = next.take() {
            bytes += one.packet.len();
            gathered.push(one);
            // What is ready already and nothing else: no answer waits for the next one.
            if bytes < GATHERED_BYTES {
                next = self.outgoing.try_recv().ok();
            }
        }
        // Alone it goes out without a copy: that is how the pieces of downloads go.
        if let [one] = &mut gathered[..] {
            return to.data_bytes(std::mem::take(&mut one.packet)).await.is_ok();
        }
        let mut together = BytesMut::with_capacity(bytes);
        gathered.iter().for_each(|one| together.extend_from_slice(&one.packet));
        to.data_bytes(together.freeze()).await.is_ok()
    }
}
