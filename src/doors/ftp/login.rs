//! Who is at the other end, from the login on.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use tracing::info;
use unftp_sbe_fs::Filesystem;

use crate::{
    ingest::{Ingest, SessionInfo},
    partners::{ClientCertificate, Denied, Partner, Partners, SessionTicket},
};

use super::{Options, link::Link};

/// What a session is from its login on.
#[derive(Debug)]
pub(super) struct Login {
    pub(super) session: SessionInfo,
    pub(super) ticket: SessionTicket,
    pub(super) link: Arc<Link>,
    pub(super) ingest: Arc<Ingest>,
    /// The partner's directory, for reading.
    pub(super) view: Filesystem,
    pub(super) settle: Duration,
    pub(super) stalled: Duration,
    pub(super) longest_per_gib: Duration,
}

/// Why there is no login.
pub(super) enum Failed {
    /// Counted against the client.
    Wrong,
    /// Told as it is: it says nothing about names and passwords.
    Told(String),
}

/// Asks `partners` whether the password is right.
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

/// Opens a session and the partner's directory.
pub(super) fn open(
    partner: Partner,
    link: &Arc<Link>,
    partners: &Partners,
    ingest: &Arc<Ingest>,
    options: &Options,
) -> Result<Login, String> {
    let peer = link.peer;
    let refused = |why: String| {
        info!(%peer, why, "login refused");
    };
    let failed = |why: String| {
        refused(why.clone());
        why
    };
    let ticket = partners.open_session(&partner.name, "ftp", peer).map_err(|denied| failed(denied.to_string()))?;
    let home = ingest.home(&partner.name).map_err(|refusal| {
        refused(refusal.to_string());
        "the login directory cannot be opened".to_owned()
    })?;
    let view = Filesystem::new(home).map_err(|error| {
        refused(error.to_string());
        "the login directory cannot be opened".to_owned()
    })?;
    info!(partner = %partner.name, %peer, session = %ticket.id(), "logged in");
    link.logged_in(partner.name.clone());
    Ok(Login {
        session: SessionInfo { partner: partner.name, door: "ftp", peer: peer.into(), id: ticket.id() },
        ticket,
        link: link.clone(),
        ingest: ingest.clone(),
        view,
        settle: options.settle,
        stalled: partners.limits().stalled,
        longest_per_gib: options.longest_per_gib,
    })
}
