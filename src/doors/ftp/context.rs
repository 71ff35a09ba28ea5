//! What all connections of the door share, and the door as the accept loop knows it.
//!
//! One for the life of the door. Whatever a connection changes is its own; what is shared here is
//! changed by nobody but the certificate's reload.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
};

use crate::{
    doors::core::{Accepted, DoorContext, SessionDoor},
    partners::Denied,
    tls::Reloaded,
};

use super::{Options, Tls, session, tls_setup::TlsSetup, unconfirmed_watch::Watch};

const GREETING: &str = "Forebay ready";

/// The context of the FTP door.
pub(super) struct FtpContext {
    pub(super) common: DoorContext,
    pub(super) options: Options,
    /// None when TLS is off.
    pub(super) tls: Option<Reloaded<TlsSetup>>,
    /// Over files whose senders were not yet seen to have the reply.
    pub(super) watch: Arc<Watch>,
}

/// The listener that a connection came through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entrance {
    /// Clients begin in the clear, and may go on with TLS.
    Plain,
    /// Clients begin with TLS.
    ImplicitTls,
}

impl SessionDoor for FtpContext {
    type Entrance = Entrance;

    fn common(&self) -> &DoorContext {
        &self.common
    }

    fn turn_away(entrance: Entrance, denied: &Denied) -> Option<String> {
        // In implicit TLS a text would be a broken handshake to the client.
        (entrance == Entrance::Plain).then(|| format!("421 {denied}\r\n"))
    }

    async fn serve(self: Arc<Self>, accepted: Accepted<Entrance>) {
        session::serve(self, accepted).await;
    }

    fn look_around(&self) {
        if let Some(tls) = &self.tls {
            tls.reload(self.common.clock.now());
        }
    }

    async fn sessions_over(&self) {
        self.watch.close().await;
    }
}

impl FtpContext {
    /// The text of 220, which tells of maintenance before anyone has logged in.
    pub(super) fn greeting(&self) -> String {
        self.common.welcome().map_or_else(|| GREETING.to_owned(), |welcome| format!("{GREETING}; {welcome}"))
    }

    /// Returns whether neither a password nor a byte of a file may travel in the clear.
    pub(super) fn tls_is_required(&self) -> bool {
        self.options.tls() == Tls::Required
    }

    /// The IPv4 address for PASV, when there is one.
    pub(super) async fn advertised(&self, reached: IpAddr) -> Option<[u8; 4]> {
        let Some(host) = &self.options.advertise else {
            return ipv4(reached.to_canonical());
        };
        if let Ok(at) = host.parse::<Ipv4Addr>() {
            return Some(at.octets());
        }
        // Looked up each time: a name that is told for a changing address must be believed as it is
        // now.
        let found = tokio::net::lookup_host((host.as_str(), 0)).await.ok()?;
        found.into_iter().find_map(|at| ipv4(at.ip()))
    }
}

fn ipv4(address: IpAddr) -> Option<[u8; 4]> {
    match address {
        IpAddr::V4(at) => Some(at.octets()),
        IpAddr::V6(_) => None,
    }
}
