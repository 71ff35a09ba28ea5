//! What all connections of the door share, and the door as the accept loop knows it.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use axum::{Router, body::Body};
use hyper::{
    Request, StatusCode,
    body::Incoming,
    header::{CONNECTION, HeaderValue, STRICT_TRANSPORT_SECURITY, TRANSFER_ENCODING},
};
use rustls::ServerConfig;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tower::ServiceExt;
use tracing::{debug, info};

use super::{
    Options,
    answer::{self, Answer},
    door::FULL,
    faces::Faces,
};
use crate::{
    doors::core::{Accepted, DoorContext, Link, SessionDoor, Shutdown},
    http::{self, Bounds, HostName, Lent, Transfers},
    partners::{ClientCertificate, Denied},
    tls::Reloaded,
};

/// How long an answer in progress may take when its connection is to end.
const LAST_ANSWER: Duration = Duration::from_secs(5);

/// How long browsers remember that this host speaks TLS (RFC 6797), where the public address says so.
const A_YEAR: &str = "max-age=31536000";

/// The context of the web door.
pub(super) struct WebContext {
    pub(super) common: Arc<DoorContext>,
    pub(super) options: Options,
    pub(super) hosts: Vec<HostName>,
    /// None when TLS is off.
    pub(super) tls: Option<Reloaded<Arc<ServerConfig>>>,
    pub(super) faces: Arc<Faces>,
    pub(super) router: Router,
}

/// The listener that a connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// Clients speak HTTP in the clear.
    Clear,
    /// Clients begin with TLS.
    Tls,
}

/// A client, as its requests know it.
pub(super) struct Caller {
    pub(super) link: Arc<Link>,
    /// Whether nobody between it and us can read what it sends.
    pub(super) is_private: bool,
    /// The certificate that it has shown.
    pub(super) certificate: Option<ClientCertificate>,
    pub(super) transfers: Transfers,
    /// Logins that failed on this connection and may be guesses.
    guesses: AtomicU32,
}

impl Caller {
    /// A login that may be a guess has failed. Returns how many have.
    pub(super) fn guessed(&self) -> u32 {
        self.guesses.fetch_add(1, Ordering::AcqRel) + 1
    }
}

/// TLS of web connections, of what was loaded from the files of the certificate.
pub(super) fn tls_form(mut config: ServerConfig) -> Arc<ServerConfig> {
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Arc::new(config)
}

impl SessionDoor for WebContext {
    type Entrance = Entrance;

    fn common(&self) -> &DoorContext {
        &self.common
    }

    /// It fits into the socket's buffer, or is lost: nobody is waited for.
    fn turn_away(entrance: Entrance, _: &Denied) -> Option<String> {
        (entrance == Entrance::Clear).then(|| FULL.to_owned())
    }

    async fn serve(self: Arc<Self>, accepted: Accepted<Entrance>) {
        let Accepted { stream, link, reached, .. } = accepted;
        let is_behind_tls = reached.is_some() && self.options.is_https_outside();
        let is_private = link.peer.ip().to_canonical().is_loopback() || is_behind_tls;
        let peer = link.peer;
        let caller = |certificate, is_private| {
            let (transfers, guesses) = (Transfers::default(), AtomicU32::new(0));
            Arc::new(Caller { link, is_private, certificate, transfers, guesses })
        };
        let Some(tls) = self.tls.as_ref().map(Reloaded::get) else {
            return self.serve_http(stream, caller(None, is_private)).await;
        };
        match handshake(tls, self.options.handshake, stream).await {
            Ok(stream) => {
                let certificate = shown(&stream);
                self.serve_http(stream, caller(certificate, true)).await;
            }
            Err(error) => info!(%peer, %error, "TLS handshake failed"),
        }
    }

    fn look_around(&self) {
        if let Some(tls) = &self.tls {
            tls.reload(self.common.clock.now());
        }
        self.common.end_disabled_requests();
    }
}

async fn handshake(tls: Arc<ServerConfig>, time: Duration, stream: TcpStream) -> io::Result<TlsStream<TcpStream>> {
    timeout(time, TlsAcceptor::from(tls).accept(stream)).await?
}

fn shown(stream: &TlsStream<TcpStream>) -> Option<ClientCertificate> {
    ClientCertificate::of(stream.get_ref().1.peer_certificates()?.first()?)
}

impl WebContext {
    async fn serve_http<S: AsyncRead + AsyncWrite + Unpin>(self: Arc<Self>, stream: S, caller: Arc<Caller>) {
        let bounds =
            Bounds { head: self.options.head_timeout, age: self.options.max_connection_age, last_answer: LAST_ANSWER };
        let mut told = caller.link.told();
        let end = async { _ = told.wait_for(|shutdown| *shutdown != Shutdown::No).await };
        let answer = |request| Arc::clone(&self).answer(Arc::clone(&caller), request);
        if let Err(error) = http::serve(stream, bounds, &caller.transfers, end, answer).await {
            debug!(peer = %caller.link.peer, %error, "a web connection ended early");
        }
    }

    /// Answers by a face, where that needs no routing, and otherwise by the router.
    async fn answer(self: Arc<Self>, caller: Arc<Caller>, request: Request<Incoming>) -> Answer {
        let (head, body) = request.into_parts();
        let (client_waits, is_chunked) =
            (answer::expects_go_ahead(&head.headers), head.headers.contains_key(TRANSFER_ENCODING));
        let (method, (lent, rest)) = (head.method.clone(), Lent::new(body));
        let mut answer = match self.faces.before_routing(&head, &self.hosts) {
            Some(answer) => {
                drop(lent);
                answer
            }
            None => {
                let mut request = Request::from_parts(head, Body::new(lent));
                request.extensions_mut().insert(caller);
                // The router's error is none that could be.
                self.router.clone().oneshot(request).await.unwrap_or_else(|never| match never {})
            }
        };
        // Where the connection ends anyway nobody waits for the rest: who sends on is read for a moment behind the answer.
        let ends = answer.headers().contains_key(CONNECTION);
        let (most, within) = (self.options.max_body_bytes, self.options.body_timeout);
        let read = !ends && rest.forget(client_waits, most, within).await;
        if !read || is_chunked || answer.status() == StatusCode::BAD_REQUEST {
            // The rest of the body stands between this answer and the next request; the end of one in chunks is not
            // looked for.
            answer.headers_mut().insert(CONNECTION, HeaderValue::from_static("close"));
        }
        if self.options.is_https_outside() {
            answer.headers_mut().insert(STRICT_TRANSPORT_SECURITY, HeaderValue::from_static(A_YEAR));
        }
        debug!(%method, status = answer.status().as_u16(), "web request answered");
        answer
    }
}
