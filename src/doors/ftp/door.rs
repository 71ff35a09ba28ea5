//! The listener, its connections, and their end.

use std::{
    collections::HashMap,
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Weak},
    time::Duration,
};

use libunftp::{ServerBuilder, options::PassiveHost};
use parking_lot::Mutex;
use rustls::ServerConfig;
use slog::Drain;
use socket2::{SockRef, TcpKeepalive};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpSocket, TcpStream},
    sync::watch,
    time::{Instant, sleep},
};
use tracing::{debug, info, warn};

use crate::{
    clock::Clock,
    gate::{Gate, Scope, deferral},
    ingest::Ingest,
    partners::{Denied, Partners},
};

use super::{
    CertificateInfo, Options, Tls, TlsError,
    backend::Backend,
    binder::EveryPort,
    certificate,
    line::Line,
    login::{Gatekeeper, User},
};

const ROUND: Duration = Duration::from_secs(2);
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// How long connections get to notice that they were closed.
const LAST_WORDS: Duration = Duration::from_secs(2);
const BACKLOG: u32 = 1024;
const GREETING: &str = "Forebay ready";
/// Greetings live as long as the process, so there are only so many.
const GREETINGS: usize = 64;

/// Why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It cannot listen there.
    #[error("cannot listen for FTP on {at}: {source}")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It has no certificate.
    #[error("FTP door has no TLS: {0}")]
    Tls(#[from] TlsError),
}

/// The FTP door. It listens from [`Door::bind`] on and serves in [`Door::run`].
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
    house: Arc<House>,
}

/// What all connections share.
struct House {
    options: Options,
    ingest: Arc<Ingest>,
    partners: Arc<Partners>,
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    tls: Option<Arc<ServerConfig>>,
    certificate: Option<CertificateInfo>,
    logger: slog::Logger,
    lines: Mutex<HashMap<SocketAddr, Weak<Line>>>,
    greetings: Mutex<HashMap<String, &'static str>>,
    stop_transfers: watch::Sender<bool>,
}

impl Door {
    /// Takes the listener, and makes or loads the certificate in `tls_directory`.
    ///
    /// # Errors
    /// When the address is taken or not ours, or the certificate cannot be used.
    pub fn bind(
        options: Options,
        ingest: Arc<Ingest>,
        partners: Arc<Partners>,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        tls_directory: &Path,
    ) -> Result<Self, DoorError> {
        let (tls, certificate) = match options.tls() {
            Tls::Off => (None, None),
            Tls::Optional | Tls::Required => {
                let (config, info) = certificate::load(&options, tls_directory, clock.now())?;
                (Some(config), Some(info))
            }
        };
        let failed = |source| DoorError::Listen { at: options.listen, source };
        let listener = listen(options.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let house = Arc::new(House {
            options,
            ingest,
            partners,
            gate,
            clock,
            tls,
            certificate,
            logger: slog::Logger::root(tracing_slog::TracingSlogDrain.fuse(), slog::o!()),
            lines: Mutex::default(),
            greetings: Mutex::default(),
            stop_transfers: watch::Sender::new(false),
        });
        Ok(Self { listener, address, house })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Its certificate, unless TLS is off.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateInfo> {
        self.house.certificate.as_ref()
    }

    /// Serves until `shutdown` is true or its sender is gone, then lets transfers end for `grace`, and cuts the rest.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        info!(address = %self.address, tls = ?self.house.options.tls(), "FTP door is open");
        let mut round = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((stream, peer)) => self.house.clone().admit(stream, peer),
                    Err(error) => {
                        warn!(%error, "cannot accept an FTP connection");
                        sleep(Duration::from_millis(50)).await;
                    }
                },
                _ = round.tick() => self.house.look_around(),
                // The value seen is a lock's guard, which must not live on beside the other branches.
                () = async { let _ = shutdown.wait_for(|&stop| stop).await; } => break,
            }
        }
        drop(self.listener);
        self.house.drain().await;
        info!("FTP door is closed");
    }
}

impl House {
    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let place = match self.partners.admit_connection(peer.ip()) {
            Ok(place) => place,
            Err(denied) => {
                debug!(%peer, %denied, "connection refused");
                tokio::spawn(turn_away(stream, denied));
                return;
            }
        };
        let line = prepare(&stream).and_then(|()| Line::new(&stream, peer, place, self.stop_transfers.subscribe()));
        match line {
            Ok(line) => {
                let line = Arc::new(line);
                self.lines.lock().insert(peer, Arc::downgrade(&line));
                tokio::spawn(self.serve(stream, line));
            }
            Err(error) => debug!(%peer, %error, "connection was gone at once"),
        }
    }

    async fn serve(self: Arc<Self>, stream: TcpStream, line: Arc<Line>) {
        let peer = line.peer;
        match self.server(line.clone()) {
            Ok(server) => {
                // It reports its own failures.
                let _ = server.service(stream).await;
            }
            Err(error) => warn!(%peer, %error, "cannot set up an FTP session"),
        }
        // Our descriptor would keep the connection half open. A transfer that still runs needs it to look at.
        if !line.is_busy() {
            line.close("its session is over");
        }
        let mut lines = self.lines.lock();
        if lines.get(&peer).is_some_and(|there| there.ptr_eq(&Arc::downgrade(&line))) && !line.is_busy() {
            lines.remove(&peer);
        }
    }

    fn server(&self, line: Arc<Line>) -> Result<libunftp::Server<Backend, User>, libunftp::ServerError> {
        let limits = self.partners.limits();
        let gatekeeper = Arc::new(Gatekeeper {
            line,
            partners: self.partners.clone(),
            ingest: self.ingest.clone(),
            needs_tls: self.options.tls() == Tls::Required,
            settle: self.options.settle,
            pending: Mutex::default(),
        });
        let mut builder =
            ServerBuilder::<Backend, User>::with_user_detail_provider(Box::new(|| Backend), gatekeeper.clone())
                .authenticator(gatekeeper)
                .greeting(self.greeting())
                .idle_session_timeout(limits.idle.as_secs().max(1))
                .passive_ports(self.options.passive_ports.range())
                .passive_host(self.options.advertise.as_deref().map_or(PassiveHost::FromConnection, PassiveHost::from))
                .binder(EveryPort)
                .sitemd5(libunftp::options::SiteMd5::None)
                .logger(self.logger.clone());
        if let Some(tls) = &self.tls {
            let required = self.options.tls() == Tls::Required;
            builder = builder.ftps_manual::<std::path::PathBuf>(tls.clone()).ftps_required(required, required);
        }
        builder.build()
    }

    fn greeting(&self) -> &'static str {
        let Some(deferral) = deferral(self.gate.zone(), self.clock.now(), &self.gate.state(&Scope::Web)) else {
            return GREETING;
        };
        let mut greetings = self.greetings.lock();
        if let Some(known) = greetings.get(&deferral) {
            return known;
        }
        if greetings.len() >= GREETINGS {
            return GREETING;
        }
        let text: &'static str = Box::leak(format!("{GREETING}; uploads are kept, {deferral}").into_boxed_str());
        greetings.insert(deferral, text);
        text
    }

    fn present(&self) -> Vec<Arc<Line>> {
        let mut lines = self.lines.lock();
        lines.retain(|_, line| line.strong_count() > 0);
        lines.values().filter_map(Weak::upgrade).collect()
    }

    /// Closes what takes too long to log in, is idle beyond what libunftp notices, or whose account was disabled.
    fn look_around(&self) {
        for line in self.present() {
            if let Some(why) = line.overdue(self.partners.limits()) {
                line.close(why);
            } else if line.partner().is_some_and(|partner| !self.partners.is_enabled(partner)) {
                line.close("its account is disabled");
            }
        }
    }

    async fn drain(&self) {
        let end = Instant::now() + self.options.grace;
        loop {
            let lines = self.present();
            for line in lines.iter().filter(|line| line.is_quiet()) {
                line.close("the server is stopping");
            }
            if lines.is_empty() {
                return;
            }
            drop(lines);
            if Instant::now() >= end {
                break;
            }
            sleep(DRAIN_STEP).await;
        }
        // Transfers that still run are cut, and what came of them is kept; what is being committed is finished.
        self.stop_transfers.send_replace(true);
        let end = Instant::now() + LAST_WORDS;
        while Instant::now() < end {
            let lines = self.present();
            if lines.is_empty() {
                return;
            }
            lines.iter().filter(|line| line.is_quiet()).for_each(|line| line.close("the server is stopping"));
            drop(lines);
            sleep(DRAIN_STEP).await;
        }
        self.present().iter().for_each(|line| line.close("the server is stopping"));
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("address", &self.address).finish_non_exhaustive()
    }
}

fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    socket.listen(BACKLOG)
}

/// Small replies at once; a peer that vanished without a word is noticed within some minutes.
fn prepare(stream: &TcpStream) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let keepalive =
        TcpKeepalive::new().with_time(Duration::from_secs(60)).with_interval(Duration::from_secs(15)).with_retries(4);
    SockRef::from(stream).set_tcp_keepalive(&keepalive)
}

async fn turn_away(mut stream: TcpStream, denied: Denied) {
    let reply = format!("421 {denied}\r\n");
    // Nobody is owed more than a try.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(reply.as_bytes())).await;
}
