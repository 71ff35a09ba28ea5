//! The door: bound to its address, and open until the server stops.

use std::{fmt, io, net::SocketAddr, path::Path, sync::Arc};

use tokio::sync::watch;
use tracing::info;

use super::{
    Options, Readiness,
    context::{Entrance, WebContext, tls_form},
    faces::Faces,
    options::Tls,
    routes,
};
use crate::{
    clock::Clock,
    doors::core::{AcceptLoop, DoorContext, DoorServices, DoorSettings, Listeners},
    gate::Gate,
    ingest::Ingest,
    partners::Partners,
    tls::{CertificateInfo, Reloaded, TlsError},
};

/// The door's name in files and sessions.
pub(super) const DOOR: &str = "web";

/// What those get who find no place.
pub(super) const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\nContent-Type: text/plain\r\n\
    Content-Length: 21\r\nCache-Control: no-store\r\nConnection: close\r\n\r\ntoo many connections\n";

/// Why the door cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// It cannot listen there.
    #[error("cannot listen on {listen} for web")]
    Listen {
        /// Where it should have listened.
        listen: SocketAddr,
        /// Why not.
        #[source]
        source: io::Error,
    },
    /// It has no certificate.
    #[error("web door has no TLS: {0}")]
    Tls(#[from] TlsError),
    /// The system has no threads for its connections.
    #[error("cannot start threads for the web: {0}")]
    Threads(#[source] io::Error),
}

/// The web door. It listens from [`Door::bind`] on and serves in [`Door::run`].
pub struct Door {
    accept: AcceptLoop<WebContext>,
    local: SocketAddr,
}

impl Door {
    /// Takes the listener at `listen`, and loads the certificate, or makes it in `tls_directory`.
    ///
    /// # Errors
    /// When the address cannot be had, or the certificate cannot be used.
    #[expect(clippy::too_many_arguments, reason = "what a door stands on, each of another kind")]
    pub fn bind(
        listen: SocketAddr,
        options: Options,
        ingest: Arc<Ingest>,
        partners: Arc<Partners>,
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        readiness: Arc<dyn Readiness>,
        tls_directory: &Path,
    ) -> Result<Self, BindError> {
        let load = |files| Reloaded::load(DOOR, files, tls_form, clock.now());
        let tls = (options.tls() == Tls::Required).then(|| load(options.tls_files(tls_directory))).transpose()?;
        let entrance = if tls.is_some() { Entrance::Tls } else { Entrance::Clear };
        let mut listeners = Listeners::new(DOOR);
        let local = listeners.listen(listen, entrance).map_err(|source| BindError::Listen { listen, source })?;
        let settings = DoorSettings {
            proxies: options.proxy_protocol_from.clone(),
            longest_per_gib: options.longest_per_gib,
            grace: options.grace,
        };
        let faces = Faces::new(gate.clone(), clock.clone(), readiness, options.retry_after);
        let common = Arc::new(DoorContext::new(DOOR, settings, DoorServices { ingest, partners, gate, clock }));
        let router = routes::router(&common, &faces, &options);
        let context = WebContext { common, hosts: options.names(), options, tls, faces, router };
        let accept = AcceptLoop::new(context, listeners).map_err(BindError::Threads)?;
        Ok(Self { accept, local })
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.local
    }

    /// Its certificate, if it speaks TLS.
    #[must_use]
    pub fn certificate(&self) -> Option<&CertificateInfo> {
        self.accept.door.tls.as_ref().map(Reloaded::certificate)
    }

    /// Serves until `shutdown` is true or its sender is gone, then lets transfers end for `grace`, and cuts the rest.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        let options = &self.accept.door.options;
        let (portal, services) = (options.portal, options.services);
        info!(listen = %self.local, tls = ?options.tls(), portal, services, "web door is open");
        self.accept.run(shutdown).await;
        info!(listen = %self.local, "web door is closed");
    }
}

impl fmt::Debug for Door {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Door").field("local", &self.local).finish_non_exhaustive()
    }
}
