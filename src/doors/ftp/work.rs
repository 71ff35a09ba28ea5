//! The work of a transfer: the client's data connection and the inner server are brought together.
//!
//! It goes on in a task of its own, so that the control connection is heard all the time, and so that what has begun to
//! be kept is kept or taken back also when the client goes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::AsyncWriteExt,
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};

use crate::{
    ingest::{Accepted, Intake, Refusal, Start},
    partners::{ClientCertificate, Complete},
};

use super::{
    data::{NoConnection, Offer},
    download::{Download, within},
    inner::Inner,
    login::Login,
    moving::Store,
    reply::{Reply, capitalised},
    transfer::{Rest, Transfer},
    upload::Incoming,
    wire::Wire,
};

/// How long the client may take to open its data connection.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// How long that of a client that has gone may take.
const LAST_CONNECTION: Duration = Duration::from_millis(200);
/// How long the inner server may take to begin.
const BEGIN_TIME: Duration = Duration::from_secs(10);
/// How long a name may be busy with the end of an upload that was cut just now.
const BUSY_ROUNDS: u32 = 40;
const BUSY_STEP: Duration = Duration::from_millis(50);

/// What became of a transfer.
pub(super) enum Outcome {
    Stored(Box<Accepted>),
    Sent(u64),
    Refused(Refusal),
    Told(Reply),
}

/// Where the client's bytes come from or go to.
pub(super) struct Route {
    pub(super) offer: Offer,
    pub(super) peer: IpAddr,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) handshake: Duration,
    /// What the client has shown on the control connection: on this one it may leave it out.
    pub(super) certificate: Option<ClientCertificate>,
    /// Whether the data connection must resume a TLS session of this FTP session.
    pub(super) must_resume: bool,
    pub(super) transfer: Arc<Transfer>,
}

impl Route {
    async fn open(self) -> Result<Wire, Reply> {
        let transfer = self.transfer.clone();
        let connect = self.connect();
        tokio::pin!(connect);
        let (why, rest) = tokio::select! {
            biased;
            wire = &mut connect => return wire,
            cancelled = transfer.cancelled() => cancelled,
        };
        let gone = Err(Reply::new(426, capitalised(&why)));
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
                info!(peer = %self.peer, %error, "TLS handshake on a data connection failed");
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

/// Begins the upload: everything that can be refused is refused before 150.
pub(super) async fn begin(login: &Arc<Login>, path: &str, asked: &Store<'_>) -> Result<Intake, Reply> {
    let start = if asked.append { Start::End } else { Start::At(asked.start) };
    let declared = if start == Start::At(0) { asked.declared } else { None };
    let mut rounds = BUSY_ROUNDS;
    let intake = loop {
        match login.ingest.resume(&login.session, path, start, declared).await {
            Err(Refusal::Busy) if rounds > 0 => {
                rounds -= 1;
                sleep(BUSY_STEP).await;
            }
            other => break other.map_err(|refusal| Reply::from(&refusal))?,
        }
    };
    if intake.policy().complete == Complete::Allo && asked.declared.is_none() {
        intake.cut("no ALLO came before it").await;
        return Err(Reply::new(550, "Declare the size of the file with ALLO first"));
    }
    Ok(intake)
}

/// The inner session, with its data connection ready.
async fn ready(inner: Option<Inner>, login: &Arc<Login>) -> std::io::Result<Inner> {
    if let Some(mut inner) = inner
        && inner.prepare().await.is_ok()
    {
        return Ok(inner);
    }
    let mut inner = Inner::open(login).await?;
    inner.prepare().await?;
    Ok(inner)
}

/// Takes a file. The inner server has no part in it: the name has been looked at, and only `ingest` decides the rest.
pub(super) async fn take_in(login: Arc<Login>, route: Route, file: Incoming, tell: oneshot::Sender<Outcome>) {
    let transfer = route.transfer.clone();
    match route.open().await {
        Ok(wire) => file.take(&login, wire, &transfer, tell).await,
        Err(reply) => {
            login.ticket.doing("");
            file.intake.cut(&reply.text).await;
            let _ = tell.send(Outcome::Told(reply));
        }
    }
}

/// Puts the download on the desk and has it begun; gives it back when it was not.
async fn begun(inner: &mut Inner, download: Download, line: &str) -> Option<Box<Download>> {
    let desk = inner.desk().clone();
    desk.put(download);
    let triggered = timeout(BEGIN_TIME, inner.trigger(line)).await;
    if !matches!(triggered, Ok(Ok(()))) {
        return desk.take();
    }
    let end = Instant::now() + BEGIN_TIME;
    while desk.is_waiting() {
        if Instant::now() >= end {
            return desk.take();
        }
        let _ = timeout(BUSY_STEP, desk.taken()).await;
    }
    None
}

/// The inner session after a transfer, when it is as it should be.
async fn used(inner: Option<Inner>) -> Option<Inner> {
    let mut inner = inner?;
    match inner.triggered().await {
        Ok(()) => Some(inner),
        Err(_) => None,
    }
}

pub(super) async fn give_out(
    login: Arc<Login>,
    inner: Option<Inner>,
    route: Route,
    line: String,
    start: u64,
    opened: oneshot::Sender<u64>,
    tell: oneshot::Sender<Outcome>,
) -> Option<Inner> {
    let transfer = route.transfer.clone();
    let broken = || Outcome::Refused(Refusal::Internal("the inner server does not begin".to_owned()));
    let mut inner = match ready(inner, &login).await {
        Ok(inner) => inner,
        Err(error) => {
            warn!(partner = %login.session.partner, %error, "the inner server failed");
            login.ticket.doing("");
            let _ = tell.send(broken());
            return None;
        }
    };
    let (give, wire) = oneshot::channel();
    let (done, mut sent) = oneshot::channel();
    let download = Download { login: login.clone(), transfer: transfer.clone(), start, opened, wire, done };
    if begun(&mut inner, download, &line).await.is_some() {
        login.ticket.doing("");
        let _ = tell.send(broken());
        return None;
    }
    let early = tokio::select! {
        biased;
        sent = &mut sent => Some(sent),
        wire = route.open() => match wire {
            Ok(wire) => {
                // It may have been refused meanwhile.
                let _ = give.send(wire);
                None
            }
            Err(reply) => {
                drop(give);
                let _ = sent.await;
                let _ = tell.send(Outcome::Told(reply));
                return used(Some(inner)).await;
            }
        },
    };
    let sent = match early {
        Some(sent) => sent,
        None => sent.await,
    };
    let _ = tell.send(match sent {
        Ok(Ok(bytes)) => Outcome::Sent(bytes),
        Ok(Err(refusal)) => not_sent(refusal),
        Err(_) => broken(),
    });
    used(Some(inner)).await
}

pub(super) async fn show(
    login: Arc<Login>,
    inner: Option<Inner>,
    route: Route,
    line: String,
    opened: oneshot::Sender<u64>,
    tell: oneshot::Sender<Outcome>,
) -> Option<Inner> {
    let mut listed = None;
    if let Ok(mut inner) = ready(inner, &login).await {
        match inner.listing(&line).await {
            Ok(listing) => listed = Some((listing, inner)),
            Err(error) => warn!(partner = %login.session.partner, %error, "the inner server failed"),
        }
    }
    let Some((listing, inner)) = listed else {
        login.ticket.doing("");
        let _ = tell.send(Outcome::Refused(Refusal::Internal("no listing".to_owned())));
        return None;
    };
    let outcome = match listing {
        Err(reply) => Outcome::Told(reply),
        Ok(listing) => {
            let _ = opened.send(listing.len() as u64);
            send(&login, route, &listing).await
        }
    };
    login.ticket.doing("");
    let _ = tell.send(outcome);
    Some(inner)
}

/// What was cut is no upload here.
fn not_sent(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Cut(why) => Outcome::Told(Reply::new(426, capitalised(&why))),
        refused => Outcome::Refused(refused),
    }
}

async fn send(login: &Login, route: Route, bytes: &[u8]) -> Outcome {
    let transfer = route.transfer.clone();
    let mut wire = match route.open().await {
        Ok(wire) => wire,
        Err(reply) => return Outcome::Told(reply),
    };
    let sent = tokio::select! {
        sent = within(login.stalled, async {
            wire.write_all(bytes).await?;
            wire.flush().await
        }) => sent,
        (why, _) = transfer.cancelled() => Err(Refusal::Cut(why)),
    };
    match sent {
        Ok(()) => {
            wire.finish().await;
            login.ticket.add_bytes(bytes.len() as u64);
            login.ticket.pace(bytes.len() as u64).await;
            Outcome::Sent(bytes.len() as u64)
        }
        Err(refusal) => not_sent(refusal),
    }
}
