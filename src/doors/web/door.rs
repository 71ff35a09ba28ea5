//! The listener, its connections, and what they are told.

use std::{convert::Infallible, io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use chrono::TimeDelta;
use http_body_util::{BodyExt, Limited};
use hyper::{
    Request, Version,
    body::{Body, Incoming},
    header::{CONNECTION, HOST, HeaderValue, TRANSFER_ENCODING},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::TcpStream,
    sync::watch,
    task::JoinSet,
    time::{sleep, timeout},
};
use tracing::{debug, info};

use super::{
    HealthOptions, Options, Readiness,
    announcement::Announcement,
    answer::{self, Answer, Asked},
    dialect::Dialect,
    kept::Kept,
    line_ends::LineEnds,
    places::{Place, Places},
    status::Status,
};
use crate::{
    clock::Clock,
    doors::core::{Listeners, prepare},
    gate::{Gate, Scope, State},
};

/// Most bytes of a request's head, and most lines of it.
const HEAD_BYTES: usize = 16 * 1024;
const HEAD_LINES: usize = 64;

/// How long answers in progress may take when the door closes.
const DRAIN: Duration = Duration::from_secs(5);

/// What those get who find no place.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Type: text/plain\r\n\
    Content-Length: 21\r\nCache-Control: no-store\r\nConnection: close\r\n\r\ntoo many connections\n";

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {listen} for web")]
pub struct BindError {
    /// Where it should have listened.
    pub listen: SocketAddr,
    /// Why not.
    #[source]
    pub source: io::Error,
}

/// The web faces on their listener.
pub struct Door {
    listeners: Listeners<()>,
    local: SocketAddr,
    faces: Arc<Faces>,
}

impl std::fmt::Debug for Door {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Door").field("local", &self.local).finish_non_exhaustive()
    }
}

/// What a listener tells of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Tells {
    All,
    /// Whether the server lives and can take files in, and nothing else.
    HealthAlone,
}

struct Faces {
    tells: Tells,
    options: Options,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    readiness: Arc<dyn Readiness>,
    status: Kept<Status>,
    calendar: Kept<String>,
}

impl Door {
    /// Takes the listener.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind(
        listen: SocketAddr,
        options: Options,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        readiness: Arc<dyn Readiness>,
    ) -> Result<Self, BindError> {
        Self::listening(listen, Tells::All, options, gate, clock, readiness)
    }

    /// Takes a listener for watchdogs alone. It has places of its own, so that whatever happens to the web faces the
    /// server's health is told.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub async fn bind_health(
        listen: SocketAddr,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        readiness: Arc<dyn Readiness>,
    ) -> Result<Self, BindError> {
        Self::listening(listen, Tells::HealthAlone, HealthOptions::limits(), gate, clock, readiness)
    }

    fn listening(
        listen: SocketAddr,
        tells: Tells,
        options: Options,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        readiness: Arc<dyn Readiness>,
    ) -> Result<Self, BindError> {
        let failed = |source| BindError { listen, source };
        let mut listeners = Listeners::new("web");
        let local = listeners.listen(listen, ()).map_err(failed)?;
        let faces = Faces {
            tells,
            options,
            gate,
            clock,
            readiness,
            status: Kept::new(TimeDelta::seconds(1)),
            calendar: Kept::new(TimeDelta::minutes(1)),
        };
        Ok(Self { listeners, local, faces: Arc::new(faces) })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Answers until `shutdown` says true; then answers in progress are finished, within five seconds.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        info!(listen = %self.local, "web faces are open");
        let options = &self.faces.options;
        let places = Places::new(options.max_connections, options.max_connections_per_address);
        let mut connections = JoinSet::new();
        loop {
            let (stream, peer) = tokio::select! {
                // Also when the sender is gone: nobody could stop us any more.
                _ = shutdown.wait_for(|stop| *stop) => break,
                Some(_) = connections.join_next() => continue,
                incoming = self.listeners.accept() => (incoming.stream, incoming.peer),
            };
            match places.take(peer.ip()) {
                Some(place) => _ = connections.spawn(Arc::clone(&self.faces).serve(stream, place, shutdown.clone())),
                // It fits into the socket's buffer, or is lost: nobody is waited for.
                None => _ = stream.try_write(FULL),
            }
        }
        drop(self.listeners);
        let finished = timeout(DRAIN, async { while connections.join_next().await.is_some() {} }).await;
        if finished.is_err() {
            connections.shutdown().await;
        }
        info!(listen = %self.local, "web faces are closed");
    }
}

impl Faces {
    async fn serve(self: Arc<Self>, stream: TcpStream, _place: Place, mut stop: watch::Receiver<bool>) {
        // A connection that is gone already is noticed by the first read.
        let _ = prepare(&stream);
        let age = self.options.max_connection_age;
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(self.options.head_timeout)
            .max_buf_size(HEAD_BYTES)
            .max_headers(HEAD_LINES)
            .half_close(true);
        let service = service_fn(|request| {
            let faces = Arc::clone(&self);
            async move { Ok::<_, Infallible>(faces.answer(request).await) }
        });
        let mut connection = pin!(http.serve_connection(TokioIo::new(LineEnds::new(stream)), service));
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            _ = stop.wait_for(|stop| *stop) => None,
            () = sleep(age) => None,
        };
        let ended = match ended {
            Some(ended) => ended,
            None => {
                connection.as_mut().graceful_shutdown();
                timeout(DRAIN, connection).await.unwrap_or(Ok(()))
            }
        };
        if let Err(error) = ended {
            debug!(%error, "a web connection ended early");
        }
    }

    async fn answer(&self, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let read = if answer::expects_go_ahead(&head.headers) { false } else { self.drain(body).await };
        let dialect = Dialect::of(&head.method, &head.headers);
        // RFC 9112, 3.2.
        let has_no_host = head.version == Version::HTTP_11 && head.headers.get_all(HOST).iter().count() != 1;
        let mut answer = match has_no_host {
            true => answer::bad_request(dialect),
            false => self.decide(&head.method, head.uri.path(), dialect),
        };
        if !read || has_no_host || head.headers.contains_key(TRANSFER_ENCODING) {
            // The rest of the body stands between this answer and the next request; the end of one in chunks is not
            // looked for.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        debug!(method = %head.method, status = answer.status().as_u16(), ?dialect, "web request answered");
        answer
    }

    /// Reads the body and forgets it, so that its sender comes to read the answer. False: not all of it.
    async fn drain(&self, body: Incoming) -> bool {
        if body.is_end_stream() {
            return true;
        }
        let most = self.options.max_body_bytes;
        if body.size_hint().lower() > most {
            return false;
        }
        let mut body = Limited::new(body, usize::try_from(most).unwrap_or(usize::MAX));
        let all = async {
            while let Some(frame) = body.frame().await {
                if frame.is_err() {
                    return false;
                }
            }
            true
        };
        timeout(self.options.body_timeout, all).await.unwrap_or(false)
    }

    fn decide(&self, method: &hyper::Method, path: &str, dialect: Dialect) -> Answer {
        let asked = Asked::of(path);
        match asked {
            Asked::Health | Asked::Readiness if !answer::looks(method) => return answer::not_allowed(dialect),
            Asked::Health => return answer::health(dialect),
            Asked::Readiness => return answer::readiness(&self.readiness.faults(), dialect),
            _ if self.tells == Tells::HealthAlone => return answer::not_found(dialect),
            _ => {}
        }
        let now = self.clock.now();
        if let State::Closed(closure) = self.gate.state(&Scope::Web) {
            let announcement = Announcement::new(&closure, self.gate.zone(), now, self.options.retry_after);
            return answer::unavailable(&announcement, dialect);
        }
        let epoch = self.gate.epoch();
        match asked {
            Asked::Status | Asked::Calendar if !answer::looks(method) => answer::not_allowed(dialect),
            Asked::Status => answer::status(&self.status.get(epoch, now, || Status::look(&self.gate, now)), dialect),
            Asked::Calendar => answer::calendar(self.calendar.get(epoch, now, || self.gate.calendar())),
            _ => answer::not_found(dialect),
        }
    }
}
