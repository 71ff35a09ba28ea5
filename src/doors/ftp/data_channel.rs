//! The client's data connection as it comes about for one transfer.
//!
//! `data` offers and accepts connections; here is what must hold before a transfer may use one: the
//! transfer is not cancelled, the certificate is that of the control connection, and where the
//! policy demands it, the TLS session of the control connection was resumed. The bytes go by
//! `receiving` and `download`.

use std::{sync::Arc, time::Duration};

use tokio::time::timeout;
use tracing::{info, warn};

use crate::{
    doors::core::{Link, words},
    partners::{ClientCertificate, DataResumption, Partners, Resumes},
};

use super::{
    data::{CONTESTED, NoConnection, Offer, Opened, Port, Security},
    reply::Reply,
    resumption::SessionMarks,
    transfer::{Rest, Transfer},
};

/// The time for the client to open its data connection.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// The time for the connection of a client that has gone.
/// Its last bytes are in the kernel's queue already, or will not come.
const LAST_CONNECTION: Duration = Duration::from_millis(200);

/// The client's data connection as it will come about.
pub(super) struct DataChannel {
    pub(super) offer: Offer,
    /// The control connection.
    pub(super) link: Arc<Link>,
    pub(super) tls: Option<Security>,
    /// What tells TLS sessions of this FTP session from others.
    pub(super) marks: Arc<SessionMarks>,
    /// The certificate that the client has shown on the control connection: on this one it may leave it out.
    pub(super) certificate: Option<ClientCertificate>,
    pub(super) partners: Arc<Partners>,
    /// Whether data connections must resume a TLS session of this FTP session, unless the partner's policy says
    /// otherwise.
    pub(super) resumption: DataResumption,
    pub(super) transfer: Arc<Transfer>,
}

impl DataChannel {
    /// Waits for the connection.
    ///
    /// Waits at most 30 seconds for the client. A cancelled transfer ends the wait; if its sender
    /// has gone and its bytes shall be kept, a connection that is here already is still taken.
    ///
    /// # Errors
    /// The reply, when there is none or it must not be used.
    pub(super) async fn open(self) -> Result<Opened, Reply> {
        let transfer = self.transfer.clone();
        let connect = self.connect();
        tokio::pin!(connect);
        let (why, rest) = tokio::select! {
            biased;
            // A connection that is here is taken even if the transfer was cancelled at the same
            // time: the bytes in it were sent before, and the transfer itself sees the cancel next.
            opened = &mut connect => return opened,
            cancelled = transfer.cancelled() => cancelled,
        };
        let gone = Err(Reply::new(426, words::capitalised(&why)));
        match rest {
            Rest::Dropped | Rest::Discarded => gone,
            // What the client had sent before it went waits in a connection that is here already.
            Rest::Kept => timeout(LAST_CONNECTION, connect).await.unwrap_or(gone),
        }
    }

    /// Opens the offered connection and checks that it is the client's: by certificate, and by
    /// resumption. 522 says that the TLS of this connection does not do (RFC 4217).
    async fn connect(self) -> Result<Opened, Reply> {
        let Self { offer, link, tls, marks, certificate, partners, resumption, .. } = self;
        let opened = match offer.open(CONNECT_TIME, tls).await {
            Ok(opened) => opened,
            Err(NoConnection::Contested) => return Err(Reply::new(425, words::capitalised(CONTESTED))),
            Err(NoConnection::None(error)) => return Err(Reply::new(425, format!("No data connection: {error}"))),
            Err(NoConnection::NoTls(error)) => {
                info!(peer = %link.peer.ip(), %error, "TLS handshake on a data connection failed");
                return Err(Reply::new(425, "TLS handshake on the data connection failed"));
            }
        };
        let shown = opened.wire.client_certificate();
        if let (Some(control), Some(data)) = (&certificate, &shown)
            && control != data
        {
            return Err(Reply::new(522, "The data connection shows another certificate than the control connection"));
        }
        let Some(mark) = opened.mark else { return Ok(opened) };
        let has_resumed = opened.wire.resumed().is_some_and(|resumed| marks.is_own(&resumed));
        // Nobody else has the key of its certificate either, and that can be shown any number of times.
        let resumes = match shown.is_some() && shown == certificate {
            true => Resumes::Again,
            false if has_resumed && marks.has_own() => Resumes::Again,
            false if has_resumed => Resumes::First,
            false => Resumes::No,
        };
        // Before the policy is asked: what this connection resumed proves its client, whatever the
        // policy says, and its own tickets may be resumed by the next one.
        if resumes != Resumes::No {
            marks.trust(mark);
        }
        match link.partner().is_none_or(|partner| partners.may_connect(partner, resumption, resumes)) {
            true => Ok(opened),
            false => {
                warn!(peer = %link.peer, partner = link.partner().map(AsRef::as_ref),
                    "a data connection does not resume the TLS session of its control connection: refused");
                Err(Reply::new(522, "The data connection must resume the TLS session of the control connection"))
            }
        }
    }
}

/// Does the work of a transfer while its data port stays open. A second connection there ends it, and nothing of it is
/// kept: whose bytes they are nobody knows.
pub(super) async fn uncontested<T>(port: Option<Port>, transfer: &Transfer, work: impl Future<Output = T>) -> T {
    tokio::pin!(work);
    let Some(port) = port else { return work.await };
    tokio::select! {
        // The port is looked at first: what came there before the end of the data is seen before the file is taken.
        biased;
        () = port.contested() => {}
        done = &mut work => return done,
    }
    transfer.cancel(CONTESTED, Rest::Discarded);
    drop(port);
    work.await
}
