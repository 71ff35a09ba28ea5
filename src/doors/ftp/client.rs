//! The client of a session, in all its phases: its connection, what it has protected, and its time.
//!
//! The phases (`greeting`, `logged_in`, `transferring`) borrow it one after the other, so what must
//! outlast a phase is here: the control connection, the TLS state, the clock of the session. It
//! names no file and no path. Every function that writes returns a [`Flow`]: a client that does not
//! take a reply within the time of `control` ends the session, and nothing is retried.

use std::{io, net::IpAddr, sync::Arc};

use socket2::SockRef;
use tokio::time::Instant;

use crate::doors::core::{Accepted, PartnerSession, SessionTime, Shutdown};

use super::{
    confirmation::AcceptedFile,
    context::{Entrance, FtpContext},
    control::Control,
    data::{Offer, Security},
    data_channel::DataChannel,
    digest::Algorithm,
    lines::Line,
    protection::Protection,
    reply::Reply,
    session::Flow,
    transfer::Transfer,
};

/// What of a session lasts from the first byte to the last; its phases borrow it.
pub(super) struct Client {
    pub(super) context: Arc<FtpContext>,
    pub(super) control: Control,
    pub(super) protection: Protection,
    pub(super) time: SessionTime,
    /// Our address, and the one that the client has connected to: with a proxy between they differ.
    pub(super) local: IpAddr,
    pub(super) reached: IpAddr,
    /// The algorithm of HASH.
    pub(super) hash: Algorithm,
}

impl Client {
    /// A client whose connection was admitted.
    ///
    /// # Errors
    /// When the connection is gone already.
    pub(super) fn new(context: Arc<FtpContext>, accepted: Accepted<Entrance>) -> io::Result<Self> {
        let Accepted { stream, link, reached, .. } = accepted;
        // ABOR comes with urgent data: it is read in its place, and not lost.
        // RFC 959, 4.1.3 has ABOR sent as a Telnet "Synch" signal, which is TCP urgent data.
        SockRef::from(&stream).set_out_of_band_inline(true)?;
        let local = stream.local_addr()?.ip();
        Ok(Self {
            context,
            control: Control::new(link, stream),
            protection: Protection::default(),
            time: SessionTime::begin(),
            local,
            reached: reached.unwrap_or(local),
            hash: Algorithm::Sha256,
        })
    }

    /// The end of the session, unless something happens before.
    pub(super) fn ends(&self) -> Instant {
        self.time.ends(&self.context.common.partners.limits())
    }

    /// Says goodbye if the session has lasted long enough.
    pub(super) async fn time_passed(&mut self) -> Flow {
        let limits = self.context.common.partners.limits();
        match self.time.over(&limits, Instant::now()) {
            Some(why) => self.control.goodbye(why).await,
            None => Flow::Continue,
        }
    }

    /// Says goodbye if the end of this session is requested.
    pub(super) async fn dismissed(&mut self) -> Option<Flow> {
        match self.control.ends.latest() {
            Shutdown::No => None,
            Shutdown::Graceful(why) | Shutdown::Now(why) => Some(self.control.goodbye(why).await),
        }
    }

    /// Writes a reply. Returns [`Flow::End`] when the client does not take it in time or is gone.
    ///
    /// Not cancel safe: a reply that was written in part cannot be continued. The session's phases
    /// never drop it half-way; only the end of the whole session does.
    pub(super) async fn say(&mut self, reply: Reply) -> Flow {
        self.control.say(reply).await
    }

    /// Answers a line that is no command: 500 and 501 as RFC 959, 4.2.1 has them. A line that goes
    /// on without end is answered with 421 and the session ends, because its end cannot be found.
    pub(super) async fn answer_bad_line(&mut self, line: &Line) -> Flow {
        match line {
            Line::TooLong => self.say(Reply::new(500, "Line is too long")).await,
            Line::NotText => self.say(Reply::new(501, "Line is not valid UTF-8 text")).await,
            Line::Flood => self.control.goodbye("Line is far too long").await,
            Line::Command(_) => Flow::Continue,
        }
    }

    /// The reply to a file is written next: its sender is to be seen to have it.
    /// Called before the reply is written, by the function that builds it
    /// (`transferring::received`).
    pub(super) fn expect_confirmation(&mut self, stored: AcceptedFile, partner: &PartnerSession) {
        // Lines that are here already were sent before the reply could be read: they are no sign
        // that the client has read it (`Unconfirmed::heard`).
        let lines_ahead = self.control.lines_ahead();
        let Control { link, confirmations, .. } = &mut self.control;
        confirmations.add(stored, lines_ahead, || self.context.watch.first_of_session(&partner.ingest, link));
    }

    /// The data connection of a transfer, as it will come about.
    /// Nothing is opened by this: [`DataChannel::open`] does, in the transfer's own task. What it
    /// needs of the session is copied here, because the task outlives the borrow of the client.
    pub(super) fn data_channel(&self, offer: Offer, transfer: &Arc<Transfer>) -> DataChannel {
        let (options, partners) = (&self.context.options, &self.context.common.partners);
        DataChannel {
            offer,
            link: self.control.link.clone(),
            tls: self.data_tls(),
            marks: self.protection.marks.clone(),
            certificate: self.protection.certificate.clone(),
            partners: partners.clone(),
            resumption: options.data_resumption(),
            transfer: transfer.clone(),
        }
    }

    /// TLS for the next data connection, if there is to be any.
    pub(super) fn data_tls(&self) -> Option<Security> {
        self.protection.data_tls(self.context.tls.as_ref(), self.context.options.handshake)
    }

    /// The session is over: hands over the files that still wait for a confirmation, and ends the
    /// connection in order (TLS close_notify, then FIN).
    pub(super) async fn finish(mut self) {
        // Before our FIN: `leave` notes that the closing is ours and keeps a descriptor. Otherwise
        // the next look at the connection would take our own end for a reset of the client's, and
        // withdraw the files.
        let has_ended = self.control.confirmations.leave(&self.context.watch).await;
        // What is said to a client that has ended the connection would only provoke a reset.
        if !has_ended {
            self.control.finish().await;
        }
    }
}
