//! The client's data connection as it comes about for one transfer.

use std::{sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::time::timeout;
use tracing::info;

use crate::{
    doors::core::{Link, words},
    partners::ClientCertificate,
};

use super::{
    data::{NoConnection, Offer},
    reply::Reply,
    transfer::{Rest, Transfer},
    wire::Wire,
};

/// The time for the client to open its data connection.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// The time for the connection of a client that has gone.
const LAST_CONNECTION: Duration = Duration::from_millis(200);

/// The client's data connection as it will come about.
pub(super) struct DataChannel {
    pub(super) offer: Offer,
    /// The control connection.
    pub(super) link: Arc<Link>,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) handshake: Duration,
    /// The certificate that the client has shown on the control connection: on this one it may leave it out.
    pub(super) certificate: Option<ClientCertificate>,
    /// The data connection must resume a TLS session of this FTP session.
    pub(super) must_resume: bool,
    pub(super) transfer: Arc<Transfer>,
}

impl DataChannel {
    /// Waits for the connection.
    ///
    /// # Errors
    /// The reply, when there is none or it must not be used.
    pub(super) async fn open(self) -> Result<Wire, Reply> {
        let transfer = self.transfer.clone();
        let connect = self.connect();
        tokio::pin!(connect);
        let (why, rest) = tokio::select! {
            biased;
            wire = &mut connect => return wire,
            cancelled = transfer.cancelled() => cancelled,
        };
        let gone = Err(Reply::new(426, words::capitalised(&why)));
        match rest {
            Rest::Dropped => gone,
            // What the client had sent before it went waits in a connection that is here already.
            Rest::Kept => timeout(LAST_CONNECTION, connect).await.unwrap_or(gone),
        }
    }

    async fn connect(self) -> Result<Wire, Reply> {
        let tls = self.tls.map(|tls| (tls, self.handshake));
        let secure = tls.is_some();
        let wire = match self.offer.open(CONNECT_TIME, tls).await {
            Ok(wire) => wire,
            Err(NoConnection::None(error)) => return Err(Reply::new(425, format!("No data connection: {error}"))),
            Err(NoConnection::NoTls(error)) => {
                info!(peer = %self.link.peer.ip(), %error, "TLS handshake on a data connection failed");
                return Err(Reply::new(425, "TLS handshake on the data connection failed"));
            }
        };
        if let (Some(control), Some(data)) = (&self.certificate, wire.client_certificate())
            && *control != data
        {
            return Err(Reply::new(522, "The data connection shows another certificate than the control connection"));
        }
        match self.must_resume && secure && !wire.is_resumed() {
            true => Err(Reply::new(522, "The data connection must resume the TLS session of the control connection")),
            false => Ok(wire),
        }
    }
}
