//! Data connections of clients: offered on a port, and taken from the client's own address alone.
//!
//! RFC 959 has no link between a data connection and its control connection but the address, and
//! RFC 2577, 8 tells what follows when that is not checked. So:
//!
//! # Guarantees
//! - Only a connection of the control connection's peer address is taken, or one for which a
//!   trusted proxy names that address (PROXY protocol). All others are closed and logged.
//! - A passive port stays open until its transfer is over. A second connection of the client's
//!   address contests the first: then neither is used.
//! - A dropped [`Offer`] closes its port and its connection.
//!
//! It names no file: what goes over the connection is the transfer's affair.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::oneshot,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info, warn};

use super::{
    PortRange,
    quiet::Quiet,
    resumption::{ConnectionTls, Mark},
    wire::Wire,
};
use crate::{descriptors, doors::core::proxy, partners::Network};

/// Rounds over the ports when all are taken: with the pause between them, two seconds.
const ROUNDS: u32 = 200;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(10);
/// Connections that the kernel keeps until they are accepted. Strangers may connect too; they are
/// turned away, but must not fill the queue before the client comes.
const BACKLOG: u32 = 64;

/// The next data connection, before it is there.
#[derive(Debug)]
pub(super) enum Offer {
    /// The client connects to us.
    Passive(Awaited),
    /// We connect to the client.
    Active { from: IpAddr, to: SocketAddr },
}

/// TLS for a data connection.
#[derive(Clone, Debug)]
pub(super) struct Security {
    pub(super) tls: ConnectionTls,
    /// The longest time for its handshake.
    pub(super) handshake: Duration,
    /// What its tickets are marked with.
    pub(super) mark: Mark,
}

/// A data connection that is there.
pub(super) struct Opened {
    pub(super) wire: Wire,
    /// The mark of its tickets, if it is in TLS.
    pub(super) mark: Option<Mark>,
    /// The port that it came through, which stays open beside it.
    pub(super) port: Option<Port>,
}

impl Offer {
    /// Opens the connection, in TLS if `tls` is given and it is not so already.
    ///
    /// Waits at most `patience`, and for a passive port the time of a TLS handshake on top.
    ///
    /// # Errors
    /// When nobody came in time or the client cannot be reached, when TLS fails, or when a second
    /// connection has contested the port.
    pub(super) async fn open(self, patience: Duration, tls: Option<Security>) -> Result<Opened, NoConnection> {
        let opened = match self {
            Self::Passive(awaited) => awaited.open(patience).await?,
            Self::Active { from, to } => {
                let stream = timeout(patience, connected(from, to)).await;
                let stream = stream.map_err(|_| NoConnection::None(io::ErrorKind::TimedOut.into()))??;
                stream.set_nodelay(true)?;
                Opened { wire: Wire::Plain(stream), mark: None, port: None }
            }
        };
        match (opened, tls) {
            // TLS was asked for behind the data port.
            (Opened { wire: Wire::Plain(stream), port, .. }, Some(tls)) => {
                let (wire, mark) = watched(port.as_ref(), secured(stream, tls)).await?;
                Ok(Opened { wire, mark: Some(mark), port })
            }
            (opened, _) => Ok(opened),
        }
    }
}

/// The failure of a data connection.
#[derive(Debug, thiserror::Error)]
pub(super) enum NoConnection {
    /// Nobody came, or cannot be reached.
    #[error("{0}")]
    None(#[from] io::Error),
    /// Somebody came, and does not speak TLS.
    #[error("TLS handshake failed: {0}")]
    NoTls(#[source] io::Error),
    /// Two came, and nobody knows which of them is the client.
    #[error("{CONTESTED}")]
    Contested,
}

/// The reason for the end of a transfer whose data port had a second connection.
pub(super) const CONTESTED: &str = "another connection came to the data port: nothing was kept, send it again";

/// The client's connection, accepted before the client says what it is for. Strangers are turned
/// away at once and do not fill the queue, and TLS begins as soon as the client begins: some
/// clients send STOR or RETR only when TLS is established. Dropped, it closes the port and the
/// connection.
#[derive(Debug)]
pub(super) struct Awaited {
    work: JoinSet<Result<Opened, NoConnection>>,
    wanted: oneshot::Sender<()>,
    handshake: Duration,
    /// TLS begins on it.
    pub(super) secure: bool,
}

impl Awaited {
    /// Begins to accept. Connections of other addresses than the client's are closed, as are those of proxies that do
    /// not name it.
    pub(super) fn new(port: Port, tls: Option<Security>) -> Self {
        let (wanted, is_wanted) = oneshot::channel();
        let (secure, handshake) = (tls.is_some(), tls.as_ref().map_or(Duration::ZERO, |tls| tls.handshake));
        let mut work = JoinSet::new();
        work.spawn(async move {
            let stream = port.accept().await?;
            stream.set_nodelay(true)?;
            let (wire, mark) = watched(Some(&port), begun(stream, tls, is_wanted)).await?;
            Ok(Opened { wire, mark, port: Some(port) })
        });
        Self { work, wanted, handshake, secure }
    }

    /// Says that a transfer wants the connection, and waits for it.
    async fn open(mut self, patience: Duration) -> Result<Opened, NoConnection> {
        // If it has ended, its result is here.
        let _ = self.wanted.send(());
        match timeout(patience + self.handshake, self.work.join_next()).await {
            Ok(Some(Ok(opened))) => opened,
            Ok(_) => Err(NoConnection::None(io::ErrorKind::BrokenPipe.into())),
            Err(_) => Err(NoConnection::None(io::ErrorKind::TimedOut.into())),
        }
    }
}

/// The connection in the clear, or in TLS when its client begins or a transfer wants it.
async fn begun(
    stream: TcpStream,
    tls: Option<Security>,
    is_wanted: oneshot::Receiver<()>,
) -> Result<(Wire, Option<Mark>), NoConnection> {
    let Some(tls) = tls else { return Ok((Wire::Plain(stream), None)) };
    tokio::select! {
        // The client's first bytes (its ClientHello), or the command that wants the connection:
        // whichever is first. Without the second a client that lets the server wait would never get
        // its handshake.
        begun = stream.readable() => begun?,
        _ = is_wanted => {}
    }
    let (wire, mark) = secured(stream, tls).await?;
    Ok((wire, Some(mark)))
}

/// Runs the TLS handshake as the server, as RFC 4217, 7 has it also for data connections.
async fn secured(stream: TcpStream, tls: Security) -> Result<(Wire, Mark), NoConnection> {
    let Security { tls, handshake, mark } = tls;
    let wire = Wire::secured(Quiet::behind_handshake(stream), tls, handshake).await.map_err(NoConnection::NoTls)?;
    Ok((wire, mark))
}

/// Does `work`, unless a second connection comes to the port before it is done.
async fn watched<T>(
    port: Option<&Port>,
    work: impl Future<Output = Result<T, NoConnection>>,
) -> Result<T, NoConnection> {
    let Some(port) = port else { return work.await };
    tokio::select! {
        // The port is looked at first, so that a second connection is seen that came together with the first.
        biased;
        () = port.contested() => Err(NoConnection::Contested),
        done = work => done,
    }
}

/// A data port, open for one client from the moment at which it is told until the transfer is over.
#[derive(Debug)]
pub(super) struct Port {
    pub(super) listener: TcpListener,
    /// The client's address.
    pub(super) peer: IpAddr,
    pub(super) proxies: Vec<Network>,
}

impl Port {
    /// Waits for a connection of the client's address. Those of others are closed, as are those of proxies that do not
    /// name it.
    async fn accept(&self) -> io::Result<TcpStream> {
        let peer = self.peer;
        loop {
            let (stream, from) = self.listener.accept().await?;
            let mut stream = descriptors::spared(stream)?;
            let client = match proxy::is_trusted(&self.proxies, from.ip()) {
                false => Some(from),
                true => match proxy::passed(&mut stream).await {
                    Ok(passed) => passed.map(|passed| passed.client),
                    Err(error) => {
                        info!(%from, %error, "closing a data connection of a proxy that does not say whose it is");
                        None
                    }
                },
            };
            match client {
                Some(client) if client.ip().to_canonical() == peer.to_canonical() => return Ok(stream),
                _ => info!(%peer, %from, ?client, "turned away a data connection of another address"),
            }
        }
    }

    /// Waits for a second connection of the client's address. A client opens one, so nobody can
    /// tell which of two is its own. Cancel safe: a connection that was accepted and dropped is
    /// closed.
    pub(super) async fn contested(&self) {
        // One that cannot be accepted has come all the same.
        let second = self.accept().await;
        let from = second.and_then(|second| second.peer_addr()).ok();
        warn!(peer = %self.peer, ?from, "a second connection came to a data port: the transfer is ended");
    }
}

/// Connects to a client in active mode (PORT, EPRT) from the address that the client knows.
async fn connected(from: IpAddr, to: SocketAddr) -> io::Result<TcpStream> {
    let socket = if to.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(to).await.and_then(descriptors::spared)
}

/// Listens on a free port of the range, and returns it: tries every one from a random one on, and again for a while.
///
/// The first port is a random one: a port that can be guessed can be connected to before the client
/// comes (RFC 2577, 8).
///
/// # Errors
/// `AddrInUse` when every port is taken for two seconds; otherwise the system's error.
pub(super) async fn listen(at: IpAddr, ports: PortRange) -> io::Result<(TcpListener, u16)> {
    let (first, count) = (u32::from(ports.first), u32::from(ports.last - ports.first) + 1);
    for _ in 0..ROUNDS {
        let offset = rand::random_range(0..count);
        for step in 0..count {
            // Within the range, so it fits.
            let port = (first + (offset + step) % count) as u16;
            match listener(SocketAddr::new(at, port)) {
                Ok(listener) => return Ok((listener, port)),
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => {}
                Err(error) => return Err(error),
            }
        }
        debug!("every data port is taken");
        sleep(BETWEEN_ROUNDS).await;
    }
    Err(io::ErrorKind::AddrInUse.into())
}

fn listener(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG).and_then(descriptors::spared)
}

/// Parses the argument of PORT (RFC 959, 4.1.2): `h1,h2,h3,h4,p1,p2`, each a number below 256.
pub(super) fn parse_port(argument: &str) -> Option<SocketAddr> {
    let numbers: Vec<u8> = argument.split(',').map(|part| part.trim().parse().ok()).collect::<Option<_>>()?;
    let [a, b, c, d, high, low] = numbers[..] else { return None };
    Some(SocketAddr::from(([a, b, c, d], u16::from_be_bytes([high, low]))))
}

/// Parses the argument of EPRT (RFC 2428, 2): `|1|192.0.2.1|6275|`. The delimiter is the argument's
/// first character, and the family must be that of the address.
pub(super) fn parse_eprt(argument: &str) -> Option<SocketAddr> {
    let delimiter = argument.chars().next()?;
    let parts: Vec<&str> = argument.split(delimiter).collect();
    let ["", family, address, port, ""] = parts[..] else { return None };
    let address: IpAddr = address.parse().ok()?;
    let agrees = matches!((family, address), ("1", IpAddr::V4(_)) | ("2", IpAddr::V6(_)));
    agrees.then_some(SocketAddr::new(address, port.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_read_and_nonsense_is_not() {
        assert_eq!(parse_port("127,0,0,1,4,1"), Some("127.0.0.1:1025".parse().unwrap()));
        assert_eq!(parse_eprt("|1|127.0.0.1|1025|"), Some("127.0.0.1:1025".parse().unwrap()));
        assert_eq!(parse_eprt("|2|::1|1025|"), Some("[::1]:1025".parse().unwrap()));
        for bad in ["", "127,0,0,1,4", "1,2,3,4,5,256", "1,2,3,4,5,6,7", "a"] {
            assert_eq!(parse_port(bad), None, "{bad}");
        }
        for bad in ["", "|", "|1|::1|1|", "|2|127.0.0.1|1|", "|1|127.0.0.1|70000|", "|3|x|1|"] {
            assert_eq!(parse_eprt(bad), None, "{bad}");
        }
    }
}
