//! The login: the password is verified, and a session opened.

use std::{net::SocketAddr, ops::Deref, sync::Arc};

use tracing::info;

use crate::partners::{ClientCertificate, Denied, Partner, Partners};

use super::{
    access::{Access, TransferLimits},
    door::DoorContext,
    link::Link,
};

/// A partner's access, and the connection that it logged in on.
#[derive(Debug)]
pub(super) struct Login {
    access: Arc<Access>,
    pub(super) link: Arc<Link>,
}

impl Login {
    pub(super) fn access(&self) -> &Arc<Access> {
        &self.access
    }
}

/// A login is its access; the rest is for what happens on the connection itself.
impl Deref for Login {
    type Target = Access;

    fn deref(&self) -> &Access {
        &self.access
    }
}

/// A login that failed.
pub(super) enum Failed {
    /// Counted against the client.
    Wrong,
    /// Told as it is: it says nothing about names and passwords.
    Told(String),
}

/// Has the password verified by `partners`.
pub(super) async fn verify(
    name: &str,
    password: &str,
    certificate: Option<&ClientCertificate>,
    peer: SocketAddr,
    partners: &Partners,
) -> Result<Partner, Failed> {
    partners.verify_showing(certificate, name, password, peer.ip()).await.map_err(|denied| {
        info!(%peer, why = %denied, "login refused");
        match denied {
            Denied::Unavailable => Failed::Told(denied.to_string()),
            _ => Failed::Wrong,
        }
    })
}

/// Opens a session.
pub(super) fn open(partner: &Partner, link: &Arc<Link>, context: &DoorContext) -> Result<Login, String> {
    let peer = link.peer;
    let ticket = context.partners.open_session(&partner.name, "ftp", peer).map_err(|denied| {
        info!(%peer, why = %denied, "login refused");
        denied.to_string()
    })?;
    info!(partner = %partner.name, %peer, session = %ticket.id(), "logged in");
    link.logged_in(partner.name.clone());
    let limits =
        TransferLimits { stalled: context.partners.limits().stalled, longest_per_gib: context.options.longest_per_gib };
    Ok(Login {
        access: Arc::new(Access::new(&context.ingest, ticket, context.clock.clone(), limits)),
        link: link.clone(),
    })
}
