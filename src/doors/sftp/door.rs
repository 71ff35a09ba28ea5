//! The listener, its connections, and their end.

use std::{borrow::Cow, fmt, io, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use russh::{SshId, server};
use tokio::{
    io::AsyncWriteExt,
    net::{TcpListener, TcpStream},
    sync::watch,
    time::{sleep, timeout},
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

use super::{HostKeyError, HostKeyInfo, Options, algorithms, authorities::Authorities, host_keys, session};

/// The door's name in files and sessions.
pub(super) const DOOR: &str = "sftp";
const ROUND: Duration = Duration::from_secs(2);
const VERSION: &str = "SSH-2.0-Forebay";
/// The bytes that a client may send before it waits for us.
const WINDOW_BYTES: u32 = 2 << 20;
/// The longest SSH packet: the larger, the fewer.
const PACKET_BYTES: u32 = 65_535;
/// Packets of a channel that wait to be looked at.
const WAITING_PACKETS: usize = 64;

/// The reason why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It cannot listen there.
    #[error("cannot listen for SFTP on {at}: {source}")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// It has no keys.
    #[error("SFTP door has no host keys: {0}")]
    HostKeys(#[from] HostKeyError),
    /// The file with trusted authorities cannot be used.
    #[error("cannot read [sftp] trusted_ca: {0}")]
    Authorities(#[source] io::Error),
    /// The system has no threads for its sessions.
    #[error("cannot start threads for SFTP sessions: {0}")]
    Threads(#[source] io::Error),
}

/// The SFTP door. It listens from [`Door::bind`] on and serves in [`Door::run`].
pub struct Door {
    listener: TcpListener,
    address: SocketAddr,
    host_keys: Vec<HostKeyInfo>,
    context: Arc<DoorContext>,
    threads: SessionThreads,
}

/// The parts that all connections share.
pub(super) struct DoorContext {
    pub(super) options: Options,
    pub(super) ssh: Arc<server::Config>,
    pub(super) authorities: Option<Authorities>,
    pub(super) ingest: Arc<Ingest>,
    pub(super) partners: Arc<Partners>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) maintenance: Arc<Maintenance>,
    links: Links,
}

impl Door {
    /// Takes the listener, and makes or loads the host keys in `directory`. The first time that takes a second.
    ///
    /// # Errors
    /// When the address is taken or not ours, or keys or authorities cannot be used.
    pub fn bind(
        options: Options,
        ingest: Arc<Ingest>,
        partners: Arc<Partners>,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        directory: &Path,
    ) -> Result<Self, DoorError> {
        let failed = |source| DoorError::Listen { at: options.listen, source };
        let listener = listen(options.listen).map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        let keys = host_keys::load(&options, directory)?;
        let host_keys = host_keys::shown(&keys);
        let authorities = options.trusted_ca.as_deref().map(Authorities::read).transpose();
        let context = Arc::new(DoorContext {
            ssh: Arc::new(config(&options, keys, partners.limits().idle)),
            authorities: authorities.map_err(DoorError::Authorities)?,
            options,
            ingest,
            partners,
            maintenance: Arc::new(Maintenance::new(gate, clock.clone())),
            clock,
            links: Links::default(),
        });
        let threads = SessionThreads::start("sftp").map_err(DoorError::Threads)?;
        Ok(Self { listener, address, host_keys, context, threads })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The keys by which clients know it.
    #[must_use]
    pub fn host_keys(&self) -> &[HostKeyInfo] {
        &self.host_keys
    }

    /// Serves until `shutdown` is true or its sender is gone, then lets uploads end for `grace`, and cuts the rest.
    pub async fn run(self, mut shutdown: watch::Receiver<bool>) {
        info!(address = %self.address, "SFTP door is open");
        let mut round = tokio::time::interval(ROUND);
        loop {
            tokio::select! {
                accepted = self.listener.accept() => self.welcome(accepted).await,
                _ = round.tick() => self.context.links.dismiss_disabled(&self.context.partners),
                // The value seen is a lock's guard, which must not live on beside the other branches.
                () = async { let _ = shutdown.wait_for(|&stop| stop).await; } => break,
            }
        }
        drop(self.listener);
        self.context.links.drain(self.context.options.grace).await;
        // What sessions began goes on when they are over, on their threads.
        self.context.ingest.idle().await;
        drop(self.threads);
        info!("SFTP door is closed");
    }
}

impl Door {
    async fn welcome(&self, accepted: io::Result<(TcpStream, SocketAddr)>) {
        match accepted {
            Ok((stream, peer)) => {
                let context = self.context.clone();
                self.threads.serve(stream, peer, move |stream| context.admit(stream, peer));
            }
            Err(error) => {
                warn!(%error, "cannot accept an SFTP connection");
                sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

impl DoorContext {
    async fn admit(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        if proxy::is_trusted(&self.options.proxy_protocol_from, peer.ip()) {
            self.admit_passed(stream, peer).await;
        } else {
            self.admit_client(stream, peer).await;
        }
    }

    /// From a proxy: it says whose connection it is.
    async fn admit_passed(self: Arc<Self>, mut stream: TcpStream, peer: SocketAddr) {
        let place = match self.partners.admit_proxy(peer.ip()) {
            Ok(place) => place,
            Err(denied) => {
                debug!(%peer, %denied, "connection refused");
                return turn_away(stream, denied).await;
            }
        };
        let passed = match proxy::passed(&mut stream).await {
            Ok(passed) => passed,
            Err(error) => return info!(%peer, %error, "closing a connection of a proxy that does not say whose it is"),
        };
        // The client is counted in the proxy's place.
        drop(place);
        self.admit_client(stream, passed.map_or(peer, |passed| passed.client)).await;
    }

    async fn admit_client(self: Arc<Self>, stream: TcpStream, peer: SocketAddr) {
        let place = match self.partners.admit_connection(peer.ip()) {
            Ok(place) => place,
            Err(denied) => {
                debug!(%peer, %denied, "connection refused");
                return turn_away(stream, denied).await;
            }
        };
        match prepare(&stream).and_then(|()| Link::new(&stream, peer, place)) {
            Ok(link) => {
                let link = Arc::new(link);
                self.links.add(&link);
                session::run(self.clone(), link, stream).await;
            }
            Err(error) => debug!(%peer, %error, "connection was gone at once"),
        }
    }

    /// The text that is shown before the login.
    pub(super) fn banner(&self) -> Option<String> {
        let notice = self.maintenance.notice().map(|notice| format!("Uploads are kept, {notice}"));
        let texts: Vec<_> = notice.into_iter().chain(self.options.banner.clone()).collect();
        (!texts.is_empty()).then(|| format!("{}\r\n", texts.join("\r\n").trim_end()))
    }
}

fn config(options: &Options, keys: Vec<russh::keys::PrivateKey>, idle: Duration) -> server::Config {
    let rekey = usize::try_from(options.rekey_after).unwrap_or(1 << 30);
    server::Config {
        server_id: SshId::Standard(Cow::Borrowed(VERSION)),
        methods: [russh::MethodKind::PublicKey, russh::MethodKind::Password].as_slice().into(),
        // A wrong password takes as long as a right one, and waits grow with failures; keys cannot be guessed.
        auth_rejection_time: Duration::ZERO,
        auth_rejection_time_initial: Some(Duration::ZERO),
        keys,
        limits: russh::Limits::new(rekey, rekey, options.rekey_every),
        window_size: WINDOW_BYTES,
        maximum_packet_size: PACKET_BYTES,
        channel_buffer_size: WAITING_PACKETS,
        event_buffer_size: WAITING_PACKETS,
        preferred: algorithms::preferred(&options.kex, &options.ciphers, &options.macs, &options.host_key_algorithms),
        max_auth_attempts: options.max_attempts as usize,
        inactivity_timeout: Some(idle + ROUND),
        nodelay: true,
        ..server::Config::default()
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("address", &self.address).finish_non_exhaustive()
    }
}

async fn turn_away(mut stream: TcpStream, denied: Denied) {
    // A line in front of the version is for people (RFC 4253, 4.2). Nobody is owed more than a try.
    let _ = timeout(Duration::from_secs(1), stream.write_all(format!("{denied}\r\n").as_bytes())).await;
}
