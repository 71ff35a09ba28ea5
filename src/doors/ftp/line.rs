//! One control connection: what outlives a command of it.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{AsFd, OwnedFd},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{net::TcpStream, sync::watch, time::Instant};
use tracing::info;

use crate::partners::{ConnectionTicket, Limits, PartnerName};

use super::tcp_state::tcp_state;

/// A 226 that is on its way when the door closes gets this long.
const LAST_REPLY: Duration = Duration::from_millis(100);
/// What libunftp's own idle time-out gets before the door does it the hard way.
const IDLE_SLACK: Duration = Duration::from_secs(5);

#[derive(Debug)]
pub(super) struct Line {
    /// The control connection, on a descriptor of our own.
    pub(super) control: OwnedFd,
    pub(super) peer: SocketAddr,
    pub(super) stop: watch::Receiver<bool>,
    began: Instant,
    partner: OnceLock<PartnerName>,
    failed_logins: AtomicU32,
    transfers: AtomicUsize,
    last_transfer: Mutex<Instant>,
    _place: ConnectionTicket,
}

impl Line {
    pub(super) fn new(
        stream: &TcpStream,
        peer: SocketAddr,
        place: ConnectionTicket,
        stop: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        Ok(Self {
            control: stream.as_fd().try_clone_to_owned()?,
            peer,
            stop,
            began: now,
            partner: OnceLock::new(),
            failed_logins: AtomicU32::new(0),
            transfers: AtomicUsize::new(0),
            last_transfer: Mutex::new(now),
            _place: place,
        })
    }

    pub(super) fn logged_in(&self, partner: PartnerName) {
        // A second login on one connection is refused by libunftp.
        let _ = self.partner.set(partner);
    }

    pub(super) fn partner(&self) -> Option<&PartnerName> {
        self.partner.get()
    }

    /// Counts a failed login and closes the connection when there were too many.
    pub(super) fn login_failed(&self, limits: &Limits) {
        if self.failed_logins.fetch_add(1, Ordering::Relaxed) + 1 > limits.max_failed_logins {
            self.close("too many failed logins");
        }
    }

    /// Marks a transfer until the mark is dropped.
    pub(super) fn transfer(self: &Arc<Self>) -> Transfer {
        self.transfers.fetch_add(1, Ordering::AcqRel);
        Transfer(self.clone())
    }

    pub(super) fn is_busy(&self) -> bool {
        self.transfers.load(Ordering::Acquire) > 0
    }

    /// Whether the last transfer's reply has had time to go out.
    pub(super) fn is_quiet(&self) -> bool {
        !self.is_busy() && self.last_transfer.lock().elapsed() >= LAST_REPLY
    }

    /// Why the connection should be closed now, if it should.
    pub(super) fn overdue(&self, limits: &Limits) -> Option<&'static str> {
        if self.is_busy() {
            return None;
        }
        if self.partner.get().is_none() {
            return (self.began.elapsed() > limits.login_grace).then_some("no login in time");
        }
        let since_transfer = self.last_transfer.lock().elapsed();
        let silent = tcp_state(self.control.as_fd()).map_or(Duration::ZERO, |state| state.silent_for);
        (silent.min(since_transfer) > limits.idle + IDLE_SLACK).then_some("idle for too long")
    }

    /// Closes the connection in both directions; libunftp sees its end.
    pub(super) fn close(&self, why: &str) {
        if let Ok(socket) = self.control.try_clone().map(socket2::Socket::from)
            && socket.shutdown(Shutdown::Both).is_ok()
        {
            info!(peer = %self.peer, partner = self.partner().map(PartnerName::as_str), why, "closing a connection");
        }
    }
}

/// A transfer that is under way.
#[derive(Debug)]
pub(super) struct Transfer(Arc<Line>);

impl Drop for Transfer {
    fn drop(&mut self) {
        *self.0.last_transfer.lock() = Instant::now();
        self.0.transfers.fetch_sub(1, Ordering::AcqRel);
    }
}
