//! The transfers of a session: a file received, a file sent, a listing sent.
//!
//! Each goes on in a task of its own, so that the control connection is heard all the time, and so that what has begun to
//! be kept is kept or taken back also when the client goes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::AsyncWriteExt,
    sync::oneshot,
    time::{Instant, timeout},
};
use tracing::{info, warn};

use crate::{
    ingest::{Listed, Listing, Refusal},
    partners::ClientCertificate,
};

use super::{
    confirmation::Stored,
    data::{NoConnection, Offer},
    data_handover::DataHandover,
    download::{Sending, within},
    inner::Inner,
    listing::Format,
    login::Login,
    reply::{Reply, capitalised},
    transfer::{Rest, Transfer},
    upload::Incoming,
    wire::Wire,
};

/// The time for the client to open its data connection.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// The time for the connection of a client that has gone.
const LAST_CONNECTION: Duration = Duration::from_millis(200);
/// The time for the inner server to begin.
const BEGIN_TIME: Duration = Duration::from_secs(10);
/// The time between two looks at whether it has.
const BEGIN_STEP: Duration = Duration::from_millis(50);

/// The end of a transfer.
pub(super) enum Outcome {
    Stored(Box<Stored>),
    Sent(u64),
    Refused(Refusal),
    Told(Reply),
}

/// The client's data connection as it will come about.
pub(super) struct DataChannel {
    pub(super) offer: Offer,
    pub(super) peer: IpAddr,
    pub(super) tls: Option<Arc<ServerConfig>>,
    pub(super) handshake: Duration,
    /// The certificate that the client has shown on the control connection: on this one it may leave it out.
    pub(super) certificate: Option<ClientCertificate>,
    /// The data connection must resume a TLS session of this FTP session.
    pub(super) must_resume: bool,
    pub(super) transfer: Arc<Transfer>,
}

impl DataChannel {
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

/// The inner session, with its data connection ready.
async fn ready(inner: Option<Inner>, login: &Arc<Login>) -> std::io::Result<Inner> {
    if let Some(mut inner) = inner
        && inner.prepare().await.is_ok()
    {
        return Ok(inner);
    }
    let mut inner = Inner::open(login.access()).await?;
    inner.prepare().await?;
    Ok(inner)
}

/// Receives a file. The inner server has no part in it: the name has been looked at, and only `ingest` decides the rest.
pub(super) async fn receive(login: Arc<Login>, channel: DataChannel, file: Incoming, tell: oneshot::Sender<Outcome>) {
    let transfer = channel.transfer.clone();
    match channel.open().await {
        Ok(wire) => file.take(&login, wire, &transfer, tell).await,
        Err(reply) => {
            login.ticket.doing("");
            file.intake.cut(&reply.text).await;
            let _ = tell.send(Outcome::Told(reply));
        }
    }
}

/// Hands the client's data connection over and has libunftp begin with it; gives it back when it was not taken.
async fn begun(inner: &mut Inner, handover: DataHandover, line: &str) -> Option<Box<DataHandover>> {
    let state = inner.state().clone();
    state.hand_over(handover);
    let triggered = timeout(BEGIN_TIME, inner.trigger(line)).await;
    if !matches!(triggered, Ok(Ok(()))) {
        return state.take_handover();
    }
    let end = Instant::now() + BEGIN_TIME;
    while state.has_handover() {
        if Instant::now() >= end {
            return state.take_handover();
        }
        let _ = timeout(BEGIN_STEP, state.handover_taken()).await;
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

/// Sends a file, and gives the inner session back.
pub(super) async fn send(
    login: Arc<Login>,
    inner: Option<Inner>,
    channel: DataChannel,
    line: String,
    start: u64,
    opened: oneshot::Sender<u64>,
    tell: oneshot::Sender<Outcome>,
) -> Option<Inner> {
    let transfer = channel.transfer.clone();
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
    let handover = DataHandover { transfer, start, opened, wire, done };
    if begun(&mut inner, handover, &line).await.is_some() {
        login.ticket.doing("");
        let _ = tell.send(broken());
        return None;
    }
    let early = tokio::select! {
        biased;
        sent = &mut sent => Some(sent),
        wire = channel.open() => match wire {
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

/// A listing that has begun: its first names are known.
pub(super) struct Listable {
    listing: Listing,
    format: Format,
    first: Vec<Listed>,
}

impl Listable {
    /// Begins a listing: what can be refused is refused here, before 150.
    pub(super) async fn begin(login: &Login, path: &str, format: Format) -> Result<Self, Reply> {
        let refused = |refusal| Reply::from(&refusal);
        // RFC 3659, 7.1: a file is for MLST.
        if format == Format::Mlsd && login.files.stat(path).await.map_err(refused)?.is_file() {
            return Err(Reply::new(501, "MLSD lists directories"));
        }
        let mut listing = login.files.list(path).await.map_err(refused)?;
        let first = listing.next().await.map_err(refused)?.unwrap_or_default();
        Ok(Self { listing, format, first })
    }

    /// Sends it page by page: what is in memory does not grow with the folder.
    async fn send(self, login: &Login, wire: &mut Wire) -> Result<u64, Refusal> {
        let Self { mut listing, format, first } = self;
        let mut sending = Sending::new(login);
        let mut page = Some(first);
        while let Some(names) = page {
            sending.send(&format.lines(&names, login.clock.now()), wire).await?;
            within(login.limits.stalled, wire.flush()).await?;
            page = listing.next().await?;
        }
        Ok(sending.sent)
    }
}

/// Sends a listing. The inner server has no part in it.
pub(super) async fn send_listing(
    login: Arc<Login>,
    channel: DataChannel,
    listable: Listable,
    tell: oneshot::Sender<Outcome>,
) {
    let outcome = listed(&login, channel, listable).await;
    login.ticket.doing("");
    let _ = tell.send(outcome);
}

async fn listed(login: &Login, channel: DataChannel, listable: Listable) -> Outcome {
    let transfer = channel.transfer.clone();
    let mut wire = match channel.open().await {
        Ok(wire) => wire,
        Err(reply) => return Outcome::Told(reply),
    };
    let sent = tokio::select! {
        sent = listable.send(login, &mut wire) => sent,
        (why, _) = transfer.cancelled() => Err(Refusal::Cut(why)),
    };
    match sent {
        Ok(bytes) => {
            wire.finish().await;
            Outcome::Sent(bytes)
        }
        Err(refusal) => not_sent(refusal),
    }
}

/// The outcome of a download or listing that failed: what was cut there is no upload to be gone on with.
fn not_sent(refusal: Refusal) -> Outcome {
    match refusal {
        Refusal::Cut(why) => Outcome::Told(Reply::new(426, capitalised(&why))),
        refused => Outcome::Refused(refused),
    }
}
