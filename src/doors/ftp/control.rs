//! The control connection: command lines that come, replies that go, and its end.
//!
//! It names no verb. Lines are bounded in length and, during a transfer, in number; a client that
//! sends more is not read until the transfer is over, so TCP holds it back.

use std::{collections::VecDeque, io, sync::Arc, time::Duration};

use futures_util::FutureExt;
use rustls::ServerConfig;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use crate::{
    doors::core::{EndRequests, Link, words},
    partners::ClientCertificate,
};

use super::{
    confirmations::Confirmations,
    lines::{Line, Lines},
    quiet::Quiet,
    reply::Reply,
    resumption::{ConnectionTls, SessionMarks, Tickets},
    session::Flow,
    wire::Wire,
};

/// How long a client may take to read a reply.
const REPLY_TIME: Duration = Duration::from_secs(30);
/// Commands that may come during a transfer and wait for its end.
const MOST_WAITING: usize = 64;

/// The control connection of one session (RFC 959, 2.3), in the clear or in TLS.
pub(super) struct Control {
    pub(super) link: Arc<Link>,
    /// None only while TLS is being set up, and after it has failed.
    pub(super) wire: Option<Wire>,
    pub(super) lines: Lines,
    /// Lines that came during a transfer.
    pub(super) waiting: VecDeque<Line>,
    pub(super) ends: EndRequests,
    pub(super) confirmations: Confirmations,
}

/// What wakes a session that waits for a command.
pub(super) enum Event {
    Line(Line),
    /// The connection is over.
    Closed,
    /// The end of the session is requested.
    EndRequested,
    Time,
}

impl Control {
    /// A connection in the clear, on which nothing was said.
    pub(super) fn new(link: Arc<Link>, stream: TcpStream) -> Self {
        Self {
            ends: EndRequests::of(&link),
            link,
            wire: Some(Wire::Urgent(stream)),
            lines: Lines::default(),
            waiting: VecDeque::new(),
            confirmations: Confirmations::default(),
        }
    }

    /// Waits for the next line, for the end of the connection, for a request to end the session, or
    /// for `until`. Cancel safe: a line that has come in part stays in the buffer. Lines that
    /// waited during a transfer come first, in their order.
    pub(super) async fn next(&mut self, until: Instant) -> Event {
        if let Some(line) = self.waiting.pop_front() {
            return Event::Line(line);
        }
        let Some(wire) = &mut self.wire else { return Event::Closed };
        tokio::select! {
            line = self.lines.next(wire) => match line {
                Ok(Some(line)) => Event::Line(line),
                Ok(None) => Event::Closed,
                Err(error) => {
                    // Many TLS clients go without close_notify.
                    if error.kind() != io::ErrorKind::UnexpectedEof {
                        debug!(peer = %self.link.peer, %error, "control connection failed");
                    }
                    Event::Closed
                }
            },
            () = self.ends.changed() => Event::EndRequested,
            () = sleep_until(until) => Event::Time,
        }
    }

    /// Writes a reply. Returns [`Flow::End`] when the client does not take it within 30 seconds.
    pub(super) async fn say(&mut self, reply: Reply) -> Flow {
        let Some(wire) = &mut self.wire else { return Flow::End };
        let bytes = reply.to_bytes();
        // Before the write: the count of acknowledged bytes that ends the last file's reply can be
        // known only while nothing was written after it.
        self.confirmations.before_writing();
        let written = timeout(REPLY_TIME, async {
            wire.write_all(&bytes).await?;
            wire.flush().await
        });
        // A reply that was not taken stays `Unwritten` for the files that wait for it: `written` is
        // not called.
        let Ok(Ok(())) = written.await else { return Flow::End };
        self.confirmations.written();
        Flow::Continue
    }

    /// Writes 421, the reply that ends a session at any time (RFC 959, 4.2.1), and ends it.
    pub(super) async fn goodbye(&mut self, why: &str) -> Flow {
        let link = &self.link;
        info!(peer = %link.peer, partner = link.partner().map(AsRef::as_ref), why, "closing a connection");
        self.say(Reply::new(421, words::capitalised(why))).await.and_end()
    }

    /// The TLS handshake. What came in the clear before it is forgotten. Returns the certificate that the client shows.
    ///
    /// # Errors
    /// When it fails: the connection is no more.
    pub(super) async fn secure(
        &mut self,
        tls: Arc<ServerConfig>,
        within: Duration,
        marks: &SessionMarks,
    ) -> io::Result<Option<ClientCertificate>> {
        // Before the handshake: commands that an attacker has put in front of it in the clear must
        // not be obeyed as if they had come protected ("STARTTLS injection", CVE-2011-0411).
        if self.lines.clear() || !self.waiting.is_empty() {
            warn!(peer = %self.link.peer, "dropped what was sent in the clear behind AUTH TLS");
            self.waiting.clear();
        }
        // Taken out, and put back only when TLS stands: after a failed handshake nobody can speak
        // in the clear on this connection.
        let Some(Wire::Plain(stream) | Wire::Urgent(stream)) = self.wire.take() else {
            return Err(io::ErrorKind::NotConnected.into());
        };
        let tls = ConnectionTls::new(&tls, marks.control(), Tickets::ForAll);
        let wire = self.wire.insert(Wire::secured(Quiet::never(stream), tls, within).await?);
        marks.resumed_from(wire.resumed());
        Ok(wire.client_certificate())
    }

    /// Returns whether TLS stands on it.
    pub(super) fn is_secure(&self) -> bool {
        self.wire.as_ref().is_some_and(Wire::is_secure)
    }

    /// Lines of which at least the first byte is here, and that were not brought to their commands.
    pub(super) fn lines_ahead(&self) -> usize {
        self.waiting.len() + self.lines.begun()
    }

    /// Returns whether so many lines wait that no more are read.
    pub(super) fn is_full(&self) -> bool {
        self.waiting.len() >= MOST_WAITING
    }

    /// Takes in all whole lines that are here. Lines that the client had sent before it could read
    /// 150 are commands for after the transfer, NOOP too: an answer to them now would be taken for
    /// 150's.
    pub(super) fn hear_what_is_here(&mut self) {
        while !self.is_full()
            && let Some(wire) = &mut self.wire
            && let Some(Ok(Some(line))) = self.lines.next(wire).now_or_never()
        {
            self.waiting.push_back(line);
        }
    }

    /// Takes an ABOR out of the lines that wait.
    pub(super) fn take_waiting_abort(&mut self) -> Option<Line> {
        let at = self.waiting.iter().position(Line::is_abort)?;
        self.waiting.remove(at)
    }

    /// Ends the connection in order.
    pub(super) async fn finish(&mut self) {
        if let Some(wire) = &mut self.wire {
            wire.finish().await;
        }
    }
}
