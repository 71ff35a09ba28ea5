//! The door: bound to its addresses, and open until the server stops.

use std::{fmt, io, net::SocketAddr, path::Path, sync::Arc};

use tokio::sync::watch;
use tracing::info;

use crate::{
    clock::Clock,
    doors::core::{AcceptLoop, DoorContext, DoorServices, DoorSettings, Listeners},
    gate::Gate,
    ingest::Ingest,
    partners::Partners,
    tls::{CertificateInfo, Reloaded, TlsError},
};

use super::{
    Options, Tls,
    context::{Entrance, FtpContext},
    tls_setup::TlsSetup,
};

/// The door's name in files and sessions.
const DOOR: &str = "ftp";

/// The reason why the door does not open.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// It cannot listen there.
    #[error("cannot listen for FTP on {at}: {source}")]
    Listen {
        /// The address.
        at: SocketAddr,
        /// The cause.
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
    accept: AcceptLoop<FtpContext>,
    address: SocketAddr,
    implicit: Option<SocketAddr>,
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
        // Before the port is taken: a door that cannot open takes nothing.
        let load = |files| Reloaded::load(DOOR, files, TlsSetup::new, clock.now());
        let tls = (options.tls() != Tls::Off).then(|| load(options.tls_files(tls_directory))).transpose()?;
        let mut listeners = Listeners::new(DOOR);
        let mut listen = |at, entrance| {
            let listening = listeners.listen(at, entrance);
            listening.map_err(|source| DoorError::Listen { at, source })
        };
        let address = listen(options.listen, Entrance::Plain)?;
        let implicit = options.implicit_listen.filter(|_| tls.is_some());
        let implicit = implicit.map(|at| listen(at, Entrance::ImplicitTls)).transpose()?;
        let services = DoorServices { ingest, partners, gate, clock };
        let common = DoorContext::new(DOOR, settings(&options), services);
        let context = FtpContext { common, options, tls, watch: Arc::default() };
        let accept = AcceptLoop::new(context, listeners).map_err(DoorError::Threads)?;
        Ok(Self { accept, address, implicit })
    }

    /// The address that it listens on.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.address
    }

    /// The address that it listens on for implicit TLS.
    #[must_use]
    pub fn implicit_addr(&self) -> Option<SocketAddr> {
        self.implicit
    }

    /// Its certificate, unless TLS is off.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateInfo> {
        self.accept.door.tls.as_ref().map(Reloaded::certificate)
    }

    /// Serves until `shutdown` is true or its sender is gone, then lets transfers end for `grace`, and cuts the rest.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let context = self.accept.door.clone();
        info!(address = %self.address, implicit = ?self.implicit, tls = ?context.options.tls(), "FTP door is open");
        // Beside the sessions, since it outlives each of them.
        let watching = tokio::spawn(context.watch.clone().run(context.common.ingest.confirm_after()));
        self.accept.run(shutdown).await;
        // It has stopped by itself; one that panicked is over too.
        let _ = watching.await;
        info!("FTP door is closed");
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
