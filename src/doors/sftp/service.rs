//! The SFTP service on one channel: requests come in, and are done at the same time where the protocol allows.
//!
//! Requests for a handle go to the handle's own task, in order. Requests for names get a task each, in turn where names
//! touch (`dispatch`). Memory is bounded four times: bytes that are being written hold back the reading of more, bytes
//! that were read from files wait for room, few folders are listed at once, and a client that leaves too many answers
//! unread is dropped.

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
    sftp_session::SftpSession,
    turns::Turns,
};

/// Bytes that were taken from the client and not yet given to storage.
const WRITING_BYTES: usize = 8 << 20;
/// Bytes that came early, of all files of the channel.
const EARLY_BYTES: usize = 8 << 20;
/// Bytes that were read from files and are not yet sent.
const READING_BYTES: usize = 4 << 20;
/// Folders that are listed at once: each holds at most one page of the catalogue, 300 KiB with the longest names.
const MOST_FOLDERS: usize = 64;
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
    pub(super) writing: Arc<Semaphore>,
    pub(super) early: Arc<Semaphore>,
    pub(super) reading: Arc<Semaphore>,
    pub(super) folders: Arc<Semaphore>,
    pub(super) names: Arc<Semaphore>,
}

/// Serves the channel until the client ends it or the connection has gone. Files that are open then are cut, and what
/// was asked before is done.
pub(super) async fn serve(session: Arc<SftpSession>, channel: Channel<Msg>) {
    let (mut from, to) = channel.split();
    let (answers, way) = Answers::new(session.clone());
    let service = Service {
        session,
        answers,
        handles: Handles::default(),
        turns: Arc::default(),
        writing: Arc::new(Semaphore::new(WRITING_BYTES)),
        early: Arc::new(Semaphore::new(EARLY_BYTES)),
        reading: Arc::new(Semaphore::new(READING_BYTES)),
        folders: Arc::new(Semaphore::new(MOST_FOLDERS)),
        names: Arc::new(Semaphore::new(NAMES_AT_ONCE)),
    };
    let (partner, gone) = (service.session.info.partner.clone(), service.session.gone.clone());
    let (stalled, unread) = (service.session.transfers.limits().stalled, CancellationToken::new());
    let (end, ()) = tokio::join!(service.run(&mut from, &unread), way.run(&to, &gone, stalled, &unread));
    let status = match end {
        End::Closed => 0,
        End::Broken(broken) => {
            warn!(%partner, %broken, "an SFTP channel is ended");
            1
        }
        End::Flooded => {
            warn!(%partner, "an SFTP channel is ended: too many answers wait to be taken, and more is asked for");
            1
        }
        End::Unread => {
            warn!(%partner, "an SFTP channel is ended: its answers were not taken for too long");
            1
        }
    };
    // The client may have gone; then these fail, and nobody misses them.
    let _ = to.exit_status(status).await;
    let _ = to.eof().await;
    let _ = to.close().await;
}

impl Service {
    async fn run(self, from: &mut ChannelReadHalf, unread: &CancellationToken) -> End {
        let end = tokio::select! {
            end = self.read(from) => end,
            () = unread.cancelled() => End::Unread,
        };
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

    async fn read(&self, from: &mut ChannelReadHalf) -> End {
        let mut assembler = Assembler::default();
        let mut greeted = false;
        loop {
            match from.wait().await {
                Some(ChannelMsg::Data { data }) => assembler.push(data),
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => break,
                Some(_) => continue,
            }
            self.session.ticket.touch();
            loop {
                let request = match assembler.next_packet().and_then(|packet| packet.map(Request::parse).transpose()) {
                    Ok(Some(request)) => request,
                    Ok(None) => break,
                    Err(broken) => return End::Broken(broken),
                };
                match request {
                    Request::Init { .. } if !greeted => {
                        greeted = true;
                        self.answers.send(Reply::version());
                    }
                    Request::Asked { id, what } if greeted => {
                        let Some(answer) = self.answers.to(id) else { return End::Flooded };
                        self.dispatch(what, answer).await;
                    }
                    _ => return End::Broken(Broken::Version),
                }
            }
        }
        if assembler.held_bytes() > 0 {
            debug!(bytes = assembler.held_bytes(), "an SFTP channel ended within a packet");
        }
        End::Closed
    }
}
