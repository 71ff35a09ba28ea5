//! A listener for watchdogs alone. It has places of its own, so that whatever happens to the web faces the server's health is
//! told.

use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{
    Request,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
};
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::timeout};
use tracing::{debug, info};

use super::{
    Readiness,
    answer::{self, Answer, Asked},
    dialect::Dialect,
    door::{BindError, FULL},
};
use crate::{
    doors::core::{Listeners, prepare},
    http::{self, Bounds, Hosts, Lent, Transfers},
    partners::{ConnectionTicket, Partners, PlacesApart},
};

/// Connections at once, and of one address.
const PLACES: (u32, u32) = (64, 16);
/// A watchdog asks little and soon.
const BOUNDS: Bounds =
    Bounds { head: Duration::from_secs(5), age: Duration::from_secs(300), last_answer: Duration::from_secs(5) };
const BODY_BYTES: u64 = 64 << 10;
const BODY_TIME: Duration = Duration::from_secs(5);

/// The listener for watchdogs.
pub struct HealthDoor {
    listeners: Listeners<()>,
    local: SocketAddr,
    places: PlacesApart,
    readiness: Arc<dyn Readiness>,
}

impl HealthDoor {
    /// Takes the listener.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(listen: SocketAddr, partners: &Partners, readiness: Arc<dyn Readiness>) -> Result<Self, BindError> {
        let mut listeners = Listeners::new("health");
        let local = listeners.listen(listen, ()).map_err(|source: io::Error| BindError::Listen { listen, source })?;
        Ok(Self { listeners, local, places: partners.places_apart(PLACES.0, PLACES.1), readiness })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until `shutdown` is true or its sender is gone; then answers in progress are finished, within some seconds.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => continue,
                incoming = self.listeners.accept() => (incoming.stream, incoming.peer),
            };
            match self.places.take(peer.ip()) {
                Ok(place) => {
                    connections.spawn(serve(stream, place, Arc::clone(&self.readiness), shutdown.clone()));
                }
                // It fits into the socket's buffer, or is lost: nobody is waited for.
                Err(_) => _ = stream.try_write(FULL.as_bytes()),
            }
        }
        drop(self.listeners);
        let finished = timeout(BOUNDS.last_answer, async { while connections.join_next().await.is_some() {} }).await;
        if finished.is_err() {
            connections.shutdown().await;
        }
        info!(listen = %self.local, "health is told no more");
    }
}

async fn serve(
    stream: TcpStream,
    _place: ConnectionTicket,
    readiness: Arc<dyn Readiness>,
    mut stop: watch::Receiver<bool>,
) {
    // A connection that is gone already is noticed by the first read.
    let _ = prepare(&stream);
    let end = async { _ = stop.wait_for(|stop| *stop).await };
    let answer = |request| answered(request, Arc::clone(&readiness));
    if let Err(error) = http::serve(stream, BOUNDS, &Transfers::default(), end, answer).await {
        debug!(%error, "a connection of a watchdog ended early");
    }
}

async fn answered(request: Request<Incoming>, readiness: Arc<dyn Readiness>) -> Answer {
    let (head, body) = request.into_parts();
    let dialect = Dialect::of(&head.method, &head.headers);
    let (lent, rest) = Lent::new(body);
    drop(lent);
    let read = rest.forget(answer::expects_go_ahead(&head.headers), BODY_BYTES, BODY_TIME).await;
    let mut answer = match Asked::of(head.uri.path()) {
        _ if Hosts::of(head.version, &head.uri, &head.headers, &[]) == Hosts::Bad => answer::bad_request(dialect),
        Asked::Health | Asked::Readiness if !answer::looks(&head.method) => answer::not_allowed(dialect),
        Asked::Health => answer::health(dialect),
        Asked::Readiness => answer::readiness(&readiness.faults(), dialect),
        _ => answer::not_found(dialect),
    };
    if !read || answer.status() == hyper::StatusCode::BAD_REQUEST {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

impl fmt::Debug for HealthDoor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HealthDoor").field("local", &self.local).finish_non_exhaustive()
    }
}
