//! A control connection as those know it who are not its session, and the registry of all:
//! shutdown, closing, partner.
//!
//! A session owns its stream. Whoever else wants something of a connection (the stopping server, an
//! operator, the watch over files that wait) has its [`Link`], with a descriptor of its own.

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    sync::{Arc, OnceLock, Weak},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::{
    net::TcpStream,
    sync::watch,
    time::{Instant, sleep},
};
use tracing::info;

use crate::{
    descriptors,
    partners::{ConnectionTicket, PartnerName, Partners},
};

use super::words;

const DRAIN_STEP: Duration = Duration::from_millis(20);
/// The time that sessions get to say goodbye after their transfers were cancelled.
const GOODBYE_TIME: Duration = Duration::from_secs(3);

/// The shutdown that is requested of a session, with the reason its client is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doors) enum Shutdown {
    /// None: the session goes on.
    No,
    /// The session ends when its present command is done.
    Graceful(&'static str),
    /// The session ends now; a transfer is cancelled.
    Now(&'static str),
}

/// A connection as those know it who are not its session. Dropped, it gives its place among the connections back.
#[derive(Debug)]
pub(in crate::doors) struct Link {
    /// The control connection, on a descriptor of our own.
    pub(in crate::doors) control: OwnedFd,
    pub(in crate::doors) peer: SocketAddr,
    shutdown: watch::Sender<Shutdown>,
    partner: OnceLock<PartnerName>,
    place: ConnectionTicket,
}

impl Link {
    /// The link of a connection that was admitted.
    ///
    /// # Errors
    /// When the system has no descriptor left.
    pub(in crate::doors) fn new(stream: &TcpStream, peer: SocketAddr, place: ConnectionTicket) -> io::Result<Self> {
        Ok(Self {
            control: stream.as_fd().try_clone_to_owned().and_then(descriptors::spared)?,
            peer,
            shutdown: watch::Sender::new(Shutdown::No),
            partner: OnceLock::new(),
            place,
        })
    }

    /// Some partner has proved on it who it is: it is no longer among those that may be a flood.
    pub(super) fn is_a_partner_s(&self, partners: &Partners) {
        self.place.logged_in(&partners.limits());
    }

    /// A partner has logged in on it.
    pub(in crate::doors) fn logged_in(&self, partner: PartnerName, partners: &Partners) {
        self.is_a_partner_s(partners);
        // There is one login on a connection.
        let _ = self.partner.set(partner);
    }

    /// Returns true if a partner has logged in from its address before.
    pub(in crate::doors) fn is_of_known(&self) -> bool {
        self.place.is_of_known()
    }

    /// The partner, once one has logged in.
    pub(in crate::doors) fn partner(&self) -> Option<&PartnerName> {
        self.partner.get()
    }

    /// Requests a shutdown of the session. One that was requested before and is more urgent stays in force.
    pub(in crate::doors) fn tell(&self, shutdown: Shutdown) {
        self.shutdown.send_if_modified(|current| {
            let more_urgent =
                matches!((&*current, shutdown), (Shutdown::No, _) | (Shutdown::Graceful(_), Shutdown::Now(_)));
            if more_urgent {
                *current = shutdown;
            }
            more_urgent
        });
    }

    /// The shutdowns that are requested of its session.
    pub(in crate::doors) fn told(&self) -> watch::Receiver<Shutdown> {
        self.shutdown.subscribe()
    }

    /// Closes the connection in both directions, when its session does not do it.
    /// The descriptor of the session stays open: it reads the end of its connection.
    pub(in crate::doors) fn close(&self, why: &str) {
        if let Ok(socket) = self.control.try_clone().map(socket2::Socket::from)
            && socket.shutdown(std::net::Shutdown::Both).is_ok()
        {
            info!(peer = %self.peer, partner = self.partner().map(PartnerName::as_str), why, "closing a connection");
        }
    }
}

/// All connections of a door.
#[derive(Debug, Default)]
pub(in crate::doors) struct Links(Mutex<Known>);

#[derive(Debug, Default)]
struct Known {
    links: Vec<Weak<Link>>,
    /// Requested of all connections, and so also of those that are added later, when a proxy was slow to name its
    /// client.
    shutdown: Option<Shutdown>,
}

impl Links {
    /// A connection was admitted. What was requested of all is requested of it too.
    pub(in crate::doors) fn add(&self, link: &Arc<Link>) {
        let mut known = self.0.lock();
        known.links.push(Arc::downgrade(link));
        if let Some(shutdown) = known.shutdown {
            link.tell(shutdown);
        }
    }

    /// The connections that are not over. Those that are over are forgotten.
    pub(in crate::doors) fn present(&self) -> Vec<Arc<Link>> {
        let links = &mut self.0.lock().links;
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends sessions whose account was disabled.
    pub(in crate::doors) fn dismiss_disabled(&self, partners: &Partners) {
        for link in self.present() {
            if link.partner().is_some_and(|partner| !partners.is_enabled(partner)) {
                link.tell(Shutdown::Now(words::DISABLED));
            }
        }
    }

    /// Shuts all connections down: gracefully within `grace`, then at once. Partial uploads are kept.
    pub(in crate::doors) async fn drain(&self, grace: Duration) {
        self.tell_all(Shutdown::Graceful(words::STOPPING));
        if self.gone_within(grace).await {
            return;
        }
        // Transfers that still run are cancelled and their partial uploads kept; a commit that has begun is finished.
        self.tell_all(Shutdown::Now(words::STOPPING));
        if self.gone_within(GOODBYE_TIME).await {
            return;
        }
        self.present().iter().for_each(|link| link.close(words::STOPPING));
    }

    fn tell_all(&self, shutdown: Shutdown) {
        // Noted before the look at who is there: a connection that is added in between is told by
        // `add`.
        self.0.lock().shutdown = Some(shutdown);
        self.present().iter().for_each(|link| link.tell(shutdown));
    }

    /// Waits until no connection is left. Returns false when some are after `time`.
    async fn gone_within(&self, time: Duration) -> bool {
        let end = Instant::now() + time;
        while Instant::now() < end {
            if self.present().is_empty() {
                return true;
            }
            sleep(DRAIN_STEP).await;
        }
        self.present().is_empty()
    }
}
