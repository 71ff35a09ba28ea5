//! One control connection, as the house sees it from outside its session.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::OnceLock,
};

use tokio::{net::TcpStream, sync::watch};
use tracing::info;

use crate::partners::{ConnectionTicket, PartnerName};

/// Whether a session may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stay {
    Welcome,
    /// It ends when what it does is done, and says why.
    Finish(&'static str),
    /// It ends now; a transfer is cut.
    Leave(&'static str),
}

#[derive(Debug)]
pub(super) struct Link {
    /// The control connection, on a descriptor of our own.
    pub(super) control: OwnedFd,
    pub(super) peer: SocketAddr,
    stay: watch::Sender<Stay>,
    partner: OnceLock<PartnerName>,
    _place: ConnectionTicket,
}

impl Link {
    pub(super) fn new(stream: &TcpStream, peer: SocketAddr, place: ConnectionTicket) -> io::Result<Self> {
        Ok(Self {
            control: stream.as_fd().try_clone_to_owned()?,
            peer,
            stay: watch::Sender::new(Stay::Welcome),
            partner: OnceLock::new(),
            _place: place,
        })
    }

    pub(super) fn logged_in(&self, partner: PartnerName) {
        // There is one login on a connection.
        let _ = self.partner.set(partner);
    }

    pub(super) fn partner(&self) -> Option<&PartnerName> {
        self.partner.get()
    }

    /// Tells the session whether it may go on. What was said before and is harder holds.
    pub(super) fn tell(&self, stay: Stay) {
        self.stay.send_if_modified(|now| {
            let harder = matches!((&*now, stay), (Stay::Welcome, _) | (Stay::Finish(_), Stay::Leave(_)));
            if harder {
                *now = stay;
            }
            harder
        });
    }

    pub(super) fn told(&self) -> watch::Receiver<Stay> {
        self.stay.subscribe()
    }

    /// Closes the connection in both directions, when its session does not do it.
    pub(super) fn close(&self, why: &str) {
        if let Ok(socket) = self.control.try_clone().map(socket2::Socket::from)
            && socket.shutdown(Shutdown::Both).is_ok()
        {
            info!(peer = %self.peer, partner = self.partner().map(PartnerName::as_str), why, "closing a connection");
        }
    }
}
