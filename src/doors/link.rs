//! One control connection, as the house sees it from outside its session.

use std::{
    io,
    net::{Shutdown, SocketAddr},
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

use crate::partners::{ConnectionTicket, PartnerName, Partners};

const DRAIN_STEP: Duration = Duration::from_millis(20);
/// How long connections get to notice that they were closed.
const LAST_WORDS: Duration = Duration::from_secs(3);
const STOPPING: &str = "The server is stopping";

/// Whether a session may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doors) enum Stay {
    Welcome,
    /// It ends when what it does is done, and says why.
    Finish(&'static str),
    /// It ends now; a transfer is cut.
    Leave(&'static str),
}

#[derive(Debug)]
pub(in crate::doors) struct Link {
    /// The control connection, on a descriptor of our own.
    pub(in crate::doors) control: OwnedFd,
    pub(in crate::doors) peer: SocketAddr,
    stay: watch::Sender<Stay>,
    partner: OnceLock<PartnerName>,
    _place: ConnectionTicket,
}

impl Link {
    pub(in crate::doors) fn new(stream: &TcpStream, peer: SocketAddr, place: ConnectionTicket) -> io::Result<Self> {
        Ok(Self {
            control: stream.as_fd().try_clone_to_owned()?,
            peer,
            stay: watch::Sender::new(Stay::Welcome),
            partner: OnceLock::new(),
            _place: place,
        })
    }

    pub(in crate::doors) fn logged_in(&self, partner: PartnerName) {
        // There is one login on a connection.
        let _ = self.partner.set(partner);
    }

    pub(in crate::doors) fn partner(&self) -> Option<&PartnerName> {
        self.partner.get()
    }

    /// Tells the session whether it may go on. What was said before and is harder holds.
    pub(in crate::doors) fn tell(&self, stay: Stay) {
        self.stay.send_if_modified(|now| {
            let harder = matches!((&*now, stay), (Stay::Welcome, _) | (Stay::Finish(_), Stay::Leave(_)));
            if harder {
                *now = stay;
            }
            harder
        });
    }

    pub(in crate::doors) fn told(&self) -> watch::Receiver<Stay> {
        self.stay.subscribe()
    }

    /// Closes the connection in both directions, when its session does not do it.
    pub(in crate::doors) fn close(&self, why: &str) {
        if let Ok(socket) = self.control.try_clone().map(socket2::Socket::from)
            && socket.shutdown(Shutdown::Both).is_ok()
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
    /// What was said to all: it holds for those too whose proxy took its time to name them.
    said: Option<Stay>,
}

impl Links {
    pub(in crate::doors) fn add(&self, link: &Arc<Link>) {
        let mut known = self.0.lock();
        known.links.push(Arc::downgrade(link));
        if let Some(stay) = known.said {
            link.tell(stay);
        }
    }

    pub(in crate::doors) fn present(&self) -> Vec<Arc<Link>> {
        let links = &mut self.0.lock().links;
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends sessions whose account was disabled.
    pub(in crate::doors) fn dismiss_disabled(&self, partners: &Partners) {
        for link in self.present() {
            if link.partner().is_some_and(|partner| !partners.is_enabled(partner)) {
                link.tell(Stay::Leave("Your account is disabled"));
            }
        }
    }

    /// Ends all: what is under way gets `grace`, and what came of the rest is kept.
    pub(in crate::doors) async fn drain(&self, grace: Duration) {
        self.tell_all(Stay::Finish(STOPPING));
        if self.gone_within(grace).await {
            return;
        }
        // Transfers that still run are cut, and what came of them is kept; what is being committed is finished.
        self.tell_all(Stay::Leave(STOPPING));
        if self.gone_within(LAST_WORDS).await {
            return;
        }
        self.present().iter().for_each(|link| link.close("the server is stopping"));
    }

    fn tell_all(&self, stay: Stay) {
        self.0.lock().said = Some(stay);
        self.present().iter().for_each(|link| link.tell(stay));
    }

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
