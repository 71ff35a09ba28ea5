//! The SFTP service on one channel: requests come in, and are done at the same time where the protocol allows.
//!
//! Requests for a handle go to the handle's own task, in order. Requests for names get a task each, in turn where names
//! touch (`dispatch`). Memory is bounded four times: bytes that are being written hold back the reading of more, bytes
//! that were read from files wait for room, few folders are listed at once, and a client that leaves too many answers
//! unread is dropped. What bounds it is the session's and the partner's, not the channel's (`room`).

use std::sync::Arc;

use parking_lot::Mutex;
use russh::{Channel, ChannelMsg, ChannelReadHalf, server::Msg};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::{
    answer::Answers,
    handles::Handles,
    packet::{Assembler, Broken, Code, Reply, Request},
    room::Rooms,
    sftp_session::SftpSession,
    turns::Turns,
};

/// Requests for names that are done at once.
const NAMES_AT_ONCE: usize = 64;

/// The end of a channel.
enum End {
    Closed,
    Broken(Broken),
    Flooded,
    /// The client takes no answers.
    Unread,
}

/// The service of a channel, shared by all its requests.
#[derive(Clone)]
pub(super) struct Service {
    pub(super) session: Arc<SftpSession>,
    answers: Answers,
    pub(super) handles: Handles,
    pub(super) turns: Arc<Mutex<Turns>>,
    pub(super) rooms: Rooms,
    pub(super) names: Arc<Semaphore>,
}

/// Serves the channel until the client ends it or the connection has gone. Files that are open then are cut, and what
/// was asked before is done.
pub(super) async fn serve(session: Arc<SftpSession>, channel: Channel<Msg>) {
    let (mut from, to) = channel.split();
    let (answers, way) = Answers::new(session.clone());
    let (stalled, unread) = (session.transfers.limits().stalled, CancellationToken::new());
    let service = Service::new(session.clone(), answers);
    let (end, ()) = tokio::join!(service.run(&mut from, &unread), way.run(&to, &session.gone, stalled, &unread));
    if let Some(why) = end.fault() {
        warn!(partner = %session.info.partner, why, "an SFTP channel is ended");
    }
    // The client may have gone; then these fail, and nobody misses them.
    let _ = to.exit_status(u32::from(end.fault().is_some())).await;
    let _ = to.eof().await;
    let _ = to.close().await;
}

impl End {
    /// The client's fault, unless it has ended the channel in order.
    fn fault(&self) -> Option<String> {
        match self {
            Self::Closed => None,
            Self::Broken(broken) => Some(broken.to_string()),
            Self::Flooded => Some("too many answers wait to be taken, and more is asked for".to_owned()),
            Self::Unread => Some("its answers were not taken for too long".to_owned()),
        }
    }
}

impl Service {
    fn new(session: Arc<SftpSession>, answers: Answers) -> Self {
        Self {
            rooms: session.room.channel(),
            session,
            answers,
            handles: Handles::default(),
            turns: Arc::default(),
            names: Arc::new(Semaphore::new(NAMES_AT_ONCE)),
        }
    }

    /// Reads requests until the channel ends, one way or another.
    async fn run(self, from: &mut ChannelReadHalf, unread: &CancellationToken) -> End {
        let end = tokio::select! {
            end = self.read(from) => end,
            () = unread.cancelled() => End::Unread,
        };
        // Before the answers end: what was asked before is still done and answered.
        self.handles.end();
        if let End::Flooded = end {
            // What waits for a client that takes nothing is not waited for.
            unread.cancel();
        }
        if let End::Broken(Broken::Short { id: Some(id), .. }) = &end
            && let Some(answer) = self.answers.to(*id)
        {
            answer.status(Code::BadMessage, "the packet ends too early");
        }
        end
    }

    /// Reads the channel's bytes and has the requests in them done.
    async fn read(&self, from: &mut ChannelReadHalf) -> End {
        let mut assembler = Assembler::default();
        let mut is_greeted = false;
        loop {
            match from.wait().await {
                Some(ChannelMsg::Data { data }) => assembler.push(data),
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => break,
                Some(_) => continue,
            }
            self.session.ticket.touch();
            if let Err(end) = self.requests(&mut assembler, &mut is_greeted).await {
                return end;
            }
        }
        if assembler.held_bytes() > 0 {
            debug!(bytes = assembler.held_bytes(), "an SFTP channel ended within a packet");
        }
        End::Closed
    }

    /// Has all requests done that have come whole.
    async fn requests(&self, assembler: &mut Assembler, is_greeted: &mut bool) -> Result<(), End> {
        while let Some(packet) = assembler.next_packet().map_err(End::Broken)? {
            match Request::parse(packet).map_err(End::Broken)? {
                Request::Init { .. } if !*is_greeted => {
                    *is_greeted = true;
                    self.answers.send(Reply::version());
                }
                Request::Asked { id, what } if *is_greeted => {
                    let answer = self.answers.to(id).ok_or(End::Flooded)?;
                    self.dispatch(what, answer).await;
                }
                _ => return Err(End::Broken(Broken::Version)),
            }
        }
        Ok(())
    }
}
