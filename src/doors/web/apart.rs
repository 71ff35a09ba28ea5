//! A listener of its own for those who look after the server. It has places of its own, so that whatever happens to the web
//! faces they are answered.

use std::{fmt, future::Future, io, net::SocketAddr, sync::Arc, time::Duration};

use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue},
    http::request::Parts,
};
use tokio::{net::TcpStream, sync::watch, task::JoinSet, time::timeout};
use tracing::{debug, info};

use super::{
    answer::{self, Answer},
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

/// What a listener of its own answers.
pub(super) trait Answers: Send + Sync + 'static {
    /// The listener's name in the log.
    const NAME: &'static str;

    /// The answer to a request whose body is of no interest.
    fn answer(&self, head: &Parts, dialect: Dialect) -> impl Future<Output = Answer> + Send;
}

/// A listener of its own, with what it answers.
pub(super) struct ApartDoor<A> {
    listeners: Listeners<()>,
    local: SocketAddr,
    places: PlacesApart,
    answers: Arc<A>,
}

impl<A: Answers> ApartDoor<A> {
    /// Takes the listener.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub(super) fn bind(listen: SocketAddr, partners: &Partners, answers: A) -> Result<Self, BindError> {
        let mut listeners = Listeners::new(A::NAME);
        let local = listeners.listen(listen, ()).map_err(|source: io::Error| BindError::Listen { listen, source })?;
        Ok(Self { listeners, local, places: partners.places_apart(PLACES.0, PLACES.1), answers: Arc::new(answers) })
    }

    pub(super) fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until `shutdown` is true or its sender is gone; then answers in progress are finished, within some seconds.
    pub(super) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => continue,
                incoming = self.listeners.accept() => (incoming.stream, incoming.peer),
            };
            match self.places.take(peer.ip()) {
                Ok(place) => {
                    connections.spawn(serve(stream, place, Arc::clone(&self.answers), shutdown.clone()));
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
        info!(listen = %self.local, "{} is told no more", A::NAME);
    }
}

async fn serve<A: Answers>(
    stream: TcpStream,
    _place: ConnectionTicket,
    answers: Arc<A>,
    mut stop: watch::Receiver<bool>,
) {
    // A connection that is gone already is noticed by the first read.
    let _ = prepare(&stream);
    let end = async { _ = stop.wait_for(|stop| *stop).await };
    let answer = |request| answered(request, Arc::clone(&answers));
    if let Err(error) = http::serve(stream, BOUNDS, &Transfers::default(), end, answer).await {
        debug!(%error, "a connection to {} ended early", A::NAME);
    }
}

async fn answered<A: Answers>(request: Request<Incoming>, answers: Arc<A>) -> Answer {
    let (head, body) = request.into_parts();
    let dialect = Dialect::of(&head.method, &head.headers);
    let (lent, rest) = Lent::new(body);
    drop(lent);
    let read = rest.forget(answer::expects_go_ahead(&head.headers), BODY_BYTES, BODY_TIME).await;
    let mut answer = match Hosts::of(head.version, &head.uri, &head.headers, &[]) {
        Hosts::Bad => answer::bad_request(dialect),
        _ => answers.answer(&head, dialect).await,
    };
    if !read || answer.status() == StatusCode::BAD_REQUEST {
        answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
    }
    answer
}

impl<A> fmt::Debug for ApartDoor<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApartDoor").field("local", &self.local).finish_non_exhaustive()
    }
}
