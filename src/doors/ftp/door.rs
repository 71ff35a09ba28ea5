//! The listener, its connections, and their end.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::{Arc, Weak},
    time::Duration,
};

use chrono::TimeDelta;
use parking_lot::{Mutex, RwLock};
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
    certificate::{self, Stamp, TlsSetup},
    link::{Link, Stay},
    session::Session,
};

const ROUND: Duration = Duration::from_secs(2);
const DRAIN_STEP: Duration = Duration::from_millis(20);
/// How long connections get to notice that they were closed.
const LAST_WORDS: Duration = Duration::from_secs(3);
/// Maintenance that begins within this long is told of.
const NEAR: TimeDelta = TimeDelta::hours(24);
const AHEAD_KNOWN: Duration = Duration::from_secs(30);
const STOPPING: &str = "The server is stopping";
const BACKLOG: u32 = 1024;
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
}

/// The FTP door. It listens from [`Door::bind`] on and serves in [`Door::run`].
pub struct Door {
    listener: TcpListener,
    implicit: Option<TcpListener>,
    address: SocketAddr,
    house: Arc<House>,
}

/// What all connections share.
pub(super) struct House {
    pub(super) options: Options,
    pub(super) ingest: Arc<Ingest>,
    pub(super) partners: Arc<Partners>,
    pub(super) gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    tls: RwLock<Option<TlsSetup>>,
    tls_directory: PathBuf,
    tls_stamp: Mutex<Stamp>,
    certificate: Option<CertificateInfo>,
    links: Mutex<Vec<Weak<Link>>>,
    ahead: Mutex<Option<Ahead>>,
}

/// What is told of maintenance ahead, and when and under which epoch of the gate that was found out.
struct Ahead {
    at: Duration,
    epoch: u64,
    text: Option<String>,
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
        let house = Arc::new(House {
            options,
            ingest,
            partners,
            gate,
            clock,
            tls: RwLock::new(tls),
            tls_stamp: Mutex::new(tls_stamp),
            tls_directory: tls_directory.to_owned(),
            certificate,
            links: Mutex::default(),
            ahead: Mutex::default(),
        });
        Ok(Self { listener, implicit, address, house })
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
        self.house.certificate.as_ref()
    }

    /// Serves until `shutdown` is true or its sender is gone, then lets transfers end for `grace`, and cuts the rest.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        info!(address = %self.address, implicit = ?self.implicit_addr(), tls = ?self.house.options.tls(), "FTP door is open");
        let mut round = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => self.house.welcome(accepted, false).await,
                accepted = accept(self.implicit.as_ref()) => self.house.welcome(accepted, true).await,
                _ = round.tick() => self.house.look_around(),
                // The value seen is a lock's guard, which must not live on beside the other branches.
                () = async { let _ = shutdown.wait_for(|&stop| stop).await; } => break,
            }
        }
        drop((self.listener, self.implicit));
        self.house.drain().await;
        info!("FTP door is closed");
    }
}

impl House {
    async fn welcome(self: &Arc<Self>, accepted: io::Result<(TcpStream, SocketAddr)>, implicit_tls: bool) {
        match accepted {
            Ok((stream, peer)) => self.clone().admit(stream, peer, implicit_tls),
            Err(error) => {
                warn!(%error, "cannot accept an FTP connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }

    fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, implicit_tls: bool) {
        let place = match self.partners.admit_connection(peer.ip()) {
            Ok(place) => place,
            Err(denied) => {
                debug!(%peer, %denied, "connection refused");
                tokio::spawn(turn_away(stream, denied, implicit_tls));
                return;
            }
        };
        let session = prepare(&stream).and_then(|()| {
            let link = Arc::new(Link::new(&stream, peer, place)?);
            self.links.lock().push(Arc::downgrade(&link));
            Session::new(self.clone(), link, stream)
        });
        match session {
            Ok(session) => drop(tokio::spawn(session.run(implicit_tls))),
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
        deferral(self.gate.zone(), self.clock.now(), &self.gate.state(&Scope::Web)).or_else(|| self.ahead())
    }

    /// Windows are not expanded for every connection.
    fn ahead(&self) -> Option<String> {
        let (at, epoch) = (self.clock.elapsed(), self.gate.epoch());
        let mut ahead = self.ahead.lock();
        match &*ahead {
            Some(known) if known.epoch == epoch && at.saturating_sub(known.at) < AHEAD_KNOWN => known.text.clone(),
            _ => {
                let now = self.clock.now();
                let windows = self.gate.upcoming(now, now + NEAR);
                let next = windows.iter().find(|window| window.start > now && window.routes.is_empty());
                let local = |at| self.gate.local(at);
                let text = next.map(|window| {
                    format!("maintenance is planned from {} to {}", local(window.start), local(window.end))
                });
                *ahead = Some(Ahead { at, epoch, text: text.clone() });
                text
            }
        }
    }

    /// The IPv4 address for PASV, when there is one.
    pub(super) async fn advertised(&self, local: IpAddr) -> Option<[u8; 4]> {
        let Some(host) = &self.options.advertise else {
            return match local.to_canonical() {
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

    fn present(&self) -> Vec<Arc<Link>> {
        let mut links = self.links.lock();
        links.retain(|link| link.strong_count() > 0);
        links.iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends sessions whose account was disabled, and loads the certificate again when its files have changed.
    fn look_around(&self) {
        for link in self.present() {
            if link.partner().is_some_and(|partner| !self.partners.is_enabled(partner)) {
                link.tell(Stay::Leave("Your account is disabled"));
            }
        }
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

    async fn drain(&self) {
        self.tell_all(Stay::Finish(STOPPING));
        if self.gone_within(self.options.grace).await {
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
    let socket = SockRef::from(stream);
    // ABOR comes with urgent data: it is read in its place, and not lost.
    socket.set_out_of_band_inline(true)?;
    socket.set_tcp_keepalive(&keepalive)
}

async fn turn_away(mut stream: TcpStream, denied: Denied, implicit_tls: bool) {
    if implicit_tls {
        return;
    }
    let reply = format!("421 {denied}\r\n");
    // Nobody is owed more than a try.
    let _ = tokio::time::timeout(Duration::from_secs(1), stream.write_all(reply.as_bytes())).await;
}
