//! Listeners and the connections they give.

use std::{
    future::poll_fn,
    io,
    net::SocketAddr,
    sync::atomic::{AtomicUsize, Ordering},
    task::{Context, Poll},
    time::Duration,
};

use socket2::{SockRef, TcpKeepalive};
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    time::sleep,
};
use tracing::warn;

use crate::{descriptors, telemetry::Repeated};

const BACKLOG: u32 = 1024;
/// Connections that were gone before they were accepted, and the like.
static FAILED: Repeated = Repeated::new();
/// The pause when the system has no more descriptors.
const PAUSE: Duration = Duration::from_millis(50);

/// The listeners of a door, each with the entrance that its connections come through.
#[derive(Debug)]
pub(in crate::doors) struct Listeners<E> {
    door: &'static str,
    listeners: Vec<(TcpListener, E)>,
    /// The listener that is looked at first: none of them starves the others.
    first: AtomicUsize,
}

/// A connection that was accepted.
#[derive(Debug)]
pub(in crate::doors) struct NewConnection<E> {
    pub(in crate::doors) stream: TcpStream,
    pub(in crate::doors) peer: SocketAddr,
    pub(in crate::doors) entrance: E,
}

impl<E: Copy> Listeners<E> {
    /// None yet; the door is named in log lines.
    pub(in crate::doors) fn new(door: &'static str) -> Self {
        Self { door, listeners: Vec::new(), first: AtomicUsize::new(0) }
    }

    /// Takes an address, and returns the one that it listens on: port 0 stands for any that is free.
    ///
    /// # Errors
    /// When the address is taken or not ours.
    pub(in crate::doors) fn listen(&mut self, at: SocketAddr, entrance: E) -> io::Result<SocketAddr> {
        let listener = listen(at)?;
        let address = listener.local_addr()?;
        self.listeners.push((listener, entrance));
        Ok(address)
    }

    /// The next connection. A failure is logged, and accepting goes on. Cancel safe.
    pub(in crate::doors) async fn accept(&self) -> NewConnection<E> {
        loop {
            match poll_fn(|cx| self.poll_accept(cx)).await {
                Ok(incoming) if !descriptors::is_kept(&incoming.stream) => return incoming,
                Ok(NewConnection { peer, .. }) => self.turn_away(Some(peer), "only descriptors for operators are left"),
                Err(error) if descriptors::are_spent(&error) => self.turn_away(None, &error.to_string()),
                Err(error) => {
                    if let Some(untold) = FAILED.happened() {
                        warn!(door = self.door, %error, untold, "cannot accept a connection");
                    }
                }
            }
            sleep(PAUSE).await;
        }
    }

    /// Logs that connections are turned away, once a minute at most.
    fn turn_away(&self, peer: Option<SocketAddr>, why: &str) {
        if let Some(untold) = descriptors::TURNED_AWAY.happened() {
            warn!(
                door = self.door,
                ?peer,
                why,
                untold,
                "too many files and connections are open: turning connections away"
            );
        }
    }

    fn poll_accept(&self, cx: &mut Context<'_>) -> Poll<io::Result<NewConnection<E>>> {
        // Begins with another listener each time, so that a busy one does not starve the others.
        let (before, behind) =
            self.listeners.split_at(self.first.load(Ordering::Relaxed) % self.listeners.len().max(1));
        for (listener, entrance) in behind.iter().chain(before) {
            if let Poll::Ready(accepted) = listener.poll_accept(cx) {
                self.first.fetch_add(1, Ordering::Relaxed);
                return Poll::Ready(accepted.map(|(stream, peer)| NewConnection { stream, peer, entrance: *entrance }));
            }
        }
        Poll::Pending
    }
}

/// Binds a listener. The address can be taken again at once after a restart (SO_REUSEADDR).
fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// A connection that is silent for so long is probed.
pub(in crate::doors) const KEEPALIVE: Duration = Duration::from_secs(60);

/// Small replies at once; a peer that vanished without a word is noticed within some minutes.
pub(in crate::doors) fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE).with_interval(Duration::from_secs(15)).with_retries(4);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn each_listener_has_its_turn() {
        let mut listeners = Listeners::new("test");
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let addresses = ["plain", "tls"].map(|entrance| listeners.listen(any, entrance).unwrap());
        let mut clients = Vec::new();
        for address in [addresses[0], addresses[0], addresses[1]] {
            clients.push(TcpStream::connect(address).await.unwrap());
        }
        let entrances = [listeners.accept().await, listeners.accept().await].map(|incoming| incoming.entrance);
        assert!(entrances.contains(&"tls"), "one that is asked again and again starves the other: {entrances:?}");
    }
}
