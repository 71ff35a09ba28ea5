//! The admission of a connection: the header of a proxy, the limits, and a word to those who are turned away.
//!
//! The order protects the server: a proxy's header is read first, because the limits are those of
//! the client and not of the proxy; the limits come before a descriptor is copied and a session
//! begins.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    time::{Instant, sleep, timeout},
};
use tracing::{debug, info};

use crate::partners::{ConnectionTicket, Denied};

use super::{
    accept::SessionDoor,
    context::DoorContext,
    link::Link,
    listening::prepare,
    proxy::{self, Passed},
};

/// The time for the words to a client that is turned away. Nobody is owed more than a try.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The time between two looks at whether a connection has its turn.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// A connection that was admitted, and counted: its place is given back when the link is dropped.
#[derive(Debug)]
pub(in crate::doors) struct Accepted<E> {
    pub(in crate::doors) stream: TcpStream,
    pub(in crate::doors) link: Arc<Link>,
    /// The address that the client has connected to, if a proxy says that it is another than ours.
    pub(in crate::doors) reached: Option<IpAddr>,
    pub(in crate::doors) entrance: E,
}

/// The reason why a connection gets no session.
#[derive(Debug, thiserror::Error)]
enum NoSession {
    #[error(transparent)]
    Denied(#[from] Denied),
    /// A proxy does not say whose connection it is.
    #[error(transparent)]
    NoHeader(io::Error),
    /// It was gone at once.
    #[error(transparent)]
    Gone(#[from] io::Error),
}

/// Admits a connection and has it served, or turns it away.
pub(super) async fn admit<D: SessionDoor>(
    door: Arc<D>,
    mut stream: TcpStream,
    peer: SocketAddr,
    entrance: D::Entrance,
) {
    match admitted(door.common(), &mut stream, peer).await {
        Ok((link, reached)) => {
            let _connected = door.common().connected();
            Arc::clone(&door).serve(Accepted { stream, link, reached, entrance }).await;
        }
        Err(NoSession::Denied(denied)) => {
            door.common().connection_refused();
            debug!(%peer, %denied, "connection refused");
            turn_away(stream, D::turn_away(entrance, &denied)).await;
        }
        Err(NoSession::NoHeader(error)) => {
            info!(%peer, %error, "closing a connection of a proxy that does not say whose it is");
        }
        Err(NoSession::Gone(error)) => debug!(%peer, %error, "connection was gone at once"),
    }
}

/// Admits a connection: header, limits, turn, socket options, and its place among the links.
async fn admitted(
    common: &DoorContext,
    stream: &mut TcpStream,
    peer: SocketAddr,
) -> Result<(Arc<Link>, Option<IpAddr>), NoSession> {
    let passed = match proxy::is_trusted(&common.settings.proxies, peer.ip()) {
        true => passed(common, stream, peer).await?,
        false => None,
    };
    let client = passed.map_or(peer, |passed| passed.client);
    // After the header: the client's address is counted, not that of the proxy.
    let place = common.partners.admit_connection(client.ip())?;
    turn(common, &place).await?;
    prepare(stream)?;
    let link = Arc::new(Link::new(stream, client, place)?);
    // Last: a server that stops tells it from now on. What was told to all before, it is told by
    // this.
    common.links.add(&link);
    Ok((link, passed.map(|passed| passed.reached.ip())))
}

/// Waits until the connection has its turn: its address may have opened many without a login.
async fn turn(common: &DoorContext, place: &ConnectionTicket) -> Result<(), Denied> {
    let ends = Instant::now() + common.partners.limits().login_grace;
    while let Some(wait) = place.wait() {
        if Instant::now() >= ends {
            return Err(Denied::TooManyFromAddress);
        }
        // A partner may log in from there meanwhile: then nobody waits.
        sleep(wait.min(LOOK_AGAIN)).await;
    }
    Ok(())
}

/// Reads the header of a proxy, which has a place of its own until then. The client is counted in its stead.
async fn passed(common: &DoorContext, stream: &mut TcpStream, proxy: SocketAddr) -> Result<Option<Passed>, NoSession> {
    let _place = common.partners.admit_proxy(proxy.ip())?;
    proxy::passed(stream).await.map_err(NoSession::NoHeader)
}

/// Writes the words for a client that is turned away, for a second at most.
async fn turn_away(mut stream: TcpStream, words: Option<String>) {
    if let Some(words) = words {
        let _ = timeout(LAST_WORDS, stream.write_all(words.as_bytes())).await;
    }
}
