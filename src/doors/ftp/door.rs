//! The listener, its connections, and their end.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use parking_lot::{Mutex, RwLock};
use socket2::SockRef;
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::sleep,
};
use tracing::{debug, info, warn};

use crate::{
    clock::Clock,
    doors::{
        link::{Link, Links},
        listening::{listen, prepare},
        maintenance::Maintenance,
        proxy,
        session_threads::SessionThreads,
    },
    gate::Gate,
    ingest::Ingest,
    partners::{Denied, Partners},
};

use super::{
    CertificateInfo, Options, Tls, TlsError,
    certificate::{self, Stamp, TlsSetup},
    session::Session,
    unconfirmed::Watch,
};

const ROUND: Duration = Duration::from_secs(2);
const GREETING: &str = "Forebay ready";

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
    /// The system has no threads for its sessions.
    #[error("cannot start threads for FTP sessions: {0}")]
    Threads(#[source] io::Error),
}

/// The FTP door. It listens from [`Door::bind`] on and serves in [`Door::run`].
pub struct Door {
    listener: TcpListener,
    implicit: Option<TcpListener>,
    address: SocketAddr,
    context: Arc<DoorContext>,
    threads: SessionThreads,
}

/// What all connections share.
pub(super) struct DoorContext {
    pub(super) options: Options,
    pub(super) ingest: Arc<Ingest>,
    pub(super) partners: Arc<Partners>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Arc<dyn Clock>,
    tls: RwLock<Option<TlsSetup>>,
    tls_directory: PathBuf,
    tls_stamp: Mutex<Stamp>,
    certificate: Option<CertificateInfo>,
    links: Links,
    maintenance: Maintenance,
    /// Over files whose senders were not yet seen to have the reply.
    pub(super) watch: Arc<Watch>,
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
        let tls_stamp = certificate::stamp(&options, tls_directory);
        let failed = |at| move |source| DoorError::Listen { at, source };
        let listener = listen(options.listen).map_err(failed(options.listen))?;
        let address = listener.local_addr().map_err(failed(options.listen))?;
        let implicit = match options.implicit_listen.filter(|_| tls.is_some()) {
            Some(at) => Some(listen(at).map_err(failed(at))?),
            None => None,
        };
        let context = Arc::new(DoorContext {
            options,
            ingest,
            partners,
            maintenance: Maintenance::new(gate.clone(), clock.clone()),
            gate,
            clock,
            tls: RwLock::new(tls),
            tls_stamp: Mutex::new(tls_stamp),
            tls_directory: tls_directory.to_owned(),
            certificate,
            links: Links::default(),
            watch: Arc::default(),
        });
        let threads = SessionThreads::start("ftp").map_err(DoorError::Threads)?;
        Ok(Self { listener, implicit, address, context, threads })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// Where it listens for implicit TLS.
    #[must_use]
    pub fn implicit_addr(&self) -> Option<SocketAddr> {
        self.implicit.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Its certificate, unless TLS is off.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateInfo> {
        self.context.certificate.as_ref()
    }

    /// Serves until `shutdown` is true or its sender is gone, then lets transfers end for `grace`, and cuts the rest.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        info!(address = %self.address, implicit = ?self.implicit_addr(), tls = ?self.context.options.tls(), "FTP door is open");
        let mut round = tokio::time::interval(ROUND);
        let watching = tokio::spawn(self.context.watch.clone().run(self.context.ingest.confirm_after()));
        loop {
            tokio::select! {
                accepted = self.listener.accept() => self.welcome(accepted, false).await,
                accepted = accept(self.implicit.as_ref()) => self.welcome(accepted, true).await,
                _ = round.tick() => self.context.look_around(),
                // The value seen is a lock's guard, which must not live on beside the other branches.
                () = async { let _ = shutdown.wait_for(|&stop| stop).await; } => break,
            }
        }
        drop((self.listener, self.implicit));
        self.context.links.drain(self.context.options.grace).await;
        self.context.watch.close().await;
        // What sessions began goes on when they are over, on their threads.
        self.context.ingest.idle().await;
        drop(self.threads);
        // It has stopped by itself; one that panicked is over too.
        let _ = watching.await;
        info!("FTP door is closed");
    }
}

impl Door {
    async fn welcome(&self, accepted: io::Result<(TcpStream, SocketAddr)>, implicit_tls: bool) {
        match accepted {
            Ok((stream, peer)) => {
                let context = self.context.clone();
                self.threads.serve(stream, peer, move |stream| context.admit(stream, peer, implicit_tls));
            }
            Err(error) => {
                warn!(%error, "cannot accept an FTP connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl DoorContext {
    async fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, implicit_tls: bool) {
        if proxy::is_trusted(&self.options.proxy_protocol_from, peer.ip()) {
            self.admit_passed(stream, peer, implicit_tls).await;
        } else {
            self.admit_client(stream, peer, None, implicit_tls).await;
        }
    }

    /// From a proxy: it says whose connection it is.
    async fn admit_passed(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr, implicit_tls: bool) {
        let place = match self.partners.admit_proxy(peer.ip()) {
            Ok(place) => place,
            Err(denied) => {
                debug!(%peer, %denied, "connection refused");
                return turn_away(stream, denied, implicit_tls).await;
            }
        };
        let passed = match proxy::passed(&mut stream).await {
            Ok(passed) => passed,
            Err(error) => return info!(%peer, %error, "closing a connection of a proxy that does not say whose it is"),
        };
        // The client is counted in the proxy's place.
        drop(place);
        let client = passed.map_or(peer, |passed| passed.client);
        self.admit_client(stream, client, passed.map(|passed| passed.reached.ip()), implicit_tls).await;
    }

    async fn admit_client(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        reached: Option<IpAddr>,
        implicit_tls: bool,
    ) {
        let place = match self.partners.admit_connection(peer.ip()) {
            Ok(place) => place,
            Err(denied) => {
                debug!(%peer, %denied, "connection refused");
                return turn_away(stream, denied, implicit_tls).await;
            }
        };
        // ABOR comes with urgent data: it is read in its place, and not lost.
        let prepared = prepare(&stream).and_then(|()| SockRef::from(&stream).set_out_of_band_inline(true));
        let session = prepared.and_then(|()| {
            let link = Arc::new(Link::new(&stream, peer, place)?);
            self.links.add(&link);
            Session::new(self.clone(), link, stream, reached)
        });
        match session {
            Ok(session) => session.run(implicit_tls).await,
            Err(error) => debug!(%peer, %error, "connection was gone at once"),
        }
    }

    /// TLS as it is now; none when it is off.
    pub(super) fn tls(&self) -> Option<TlsSetup> {
        self.tls.read().clone()
    }

    pub(super) fn greeting(&self) -> String {
        self.notice().map_or_else(|| GREETING.to_owned(), |notice| format!("{GREETING}; uploads are kept, {notice}"))
    }

    /// What a partner should know of maintenance that is on or near.
    pub(super) fn notice(&self) -> Option<String> {
        self.maintenance.notice()
    }

    /// The IPv4 address for PASV, when there is one.
    pub(super) async fn advertised(&self, reached: IpAddr) -> Option<[u8; 4]> {
        let Some(host) = &self.options.advertise else {
            return match reached.to_canonical() {
                IpAddr::V4(at) => Some(at.octets()),
                IpAddr::V6(_) => None,
            };
        };
        if let Ok(at) = host.parse::<Ipv4Addr>() {
            return Some(at.octets());
        }
        let found = tokio::net::lookup_host((host.as_str(), 0)).await.ok()?;
        found.into_iter().find_map(|at| match at.ip() {
            IpAddr::V4(at) => Some(at.octets()),
            IpAddr::V6(_) => None,
        })
    }

    /// Ends sessions whose account was disabled, and loads the certificate again when its files have changed.
    fn look_around(&self) {
        self.links.dismiss_disabled(&self.partners);
        self.reload_certificate();
    }

    fn reload_certificate(&self) {
        let there = certificate::stamp(&self.options, &self.tls_directory);
        if self.tls.read().is_none() || there.is_none() || *self.tls_stamp.lock() == there {
            return;
        }
        // Only a round ago they were others: a pair that is not whole yet is looked at again when it changes.
        *self.tls_stamp.lock() = there;
        match certificate::load(&self.options, &self.tls_directory, self.clock.now()) {
            Ok((setup, info)) => {
                info!(not_after = %info.not_after, "FTP door has another certificate");
                *self.tls.write() = Some(setup);
            }
            Err(error) => warn!(%error, "the changed certificate cannot be used; the one before stays"),
        }
    }
}

async fn accept(listener: Option<&TcpListener>) -> io::Result<(TcpStream, SocketAddr)> {
    match listener {
        Some(listener) => listener.accept().await,
        None => std::future::pending().await,
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn turn_away(mut stream: TcpStream, denied: Denied, implicit_tls: bool) {
    if implicit_tls {
        return;
    }
    let reply = format!("421 {denied}\r\n");
    // Nobody is owed more than a try.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(reply.as_bytes())).await;
}
