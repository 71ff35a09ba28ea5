//! The door: bound to its address, and open until the server stops.

use std::{fmt, io, net::SocketAddr, path::Path, sync::Arc};

use tokio::sync::watch;
use tracing::info;

use crate::{
    clock::Clock,
    doors::core::{AcceptLoop, DoorContext, DoorServices, DoorSettings, Listeners},
    gate::Gate,
    ingest::Ingest,
    partners::Partners,
};

use super::{
    HostKeyError, HostKeyInfo, Options,
    authorities::Authorities,
    context::{SftpContext, ssh_config},
    handshake_threads::HandshakeThreads,
    host_keys,
};

/// The door's name in files and sessions.
const DOOR: &str = "sftp";

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
    accept: AcceptLoop<SftpContext>,
    address: SocketAddr,
    host_keys: Vec<HostKeyInfo>,
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
        let mut listeners = Listeners::new(DOOR);
        let listening = listeners.listen(options.listen, ());
        let address = listening.map_err(|source| DoorError::Listen { at: options.listen, source })?;
        let keys = host_keys::load(&options, directory)?;
        let host_keys = host_keys::shown(&keys);
        let authorities = options.trusted_ca.as_deref().map(Authorities::read).transpose();
        let authorities = authorities.map_err(DoorError::Authorities)?;
        let ssh = Arc::new(ssh_config(&options, keys, partners.limits().idle));
        let services = DoorServices { ingest, partners, gate, clock };
        let common = DoorContext::new(DOOR, settings(&options), services);
        let handshakes = Arc::new(HandshakeThreads::start().map_err(DoorError::Threads)?);
        let context = SftpContext { common, options, ssh, authorities, handshakes, shut_out: Default::default() };
        let accept = AcceptLoop::new(context, listeners).map_err(DoorError::Threads)?;
        Ok(Self { accept, address, host_keys })
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
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        info!(address = %self.address, "SFTP door is open");
        self.accept.run(shutdown).await;
        info!("SFTP door is closed");
    }
}

fn settings(options: &Options) -> DoorSettings {
    DoorSettings {
        proxies: options.proxy_protocol_from.clone(),
        longest_per_gib: options.longest_per_gib,
        grace: options.grace,
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("address", &self.address).finish_non_exhaustive()
    }
}
