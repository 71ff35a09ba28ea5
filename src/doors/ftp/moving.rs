//! Transfers: what is told to the client, and who does the work meanwhile.
//!
//! The work goes on in a task of its own, so that the control connection is heard all the time, and so that what has
//! begun to be kept is kept or taken back also when the client goes.

use std::{net::IpAddr, sync::Arc, time::Duration};

use futures_util::FutureExt;
use rustls::ServerConfig;
use tokio::{
    io::AsyncWriteExt,
    sync::oneshot,
    task::JoinHandle,
    time::{Instant, sleep, timeout},
};
use tracing::{info, warn};
use uuid::Uuid;

use crate::{
    ingest::{Accepted, Intake, Kept, Refusal, Start},
    partners::Complete,
};

use super::{
    data::Offer,
    download::{Download, within},
    inner::{Errand, Inner},
    lines::Line,
    link::Stay,
    login::Login,
    paths::changed,
    reply::{Reply, capitalised},
    session::{Flow, Session},
    transfer::{Rest, Transfer},
    upload::Upload,
    wire::Wire,
};

/// How long the client may take to open its data connection.
const CONNECT_TIME: Duration = Duration::from_secs(30);
/// How long that of a client that has gone may take.
const LAST_CONNECTION: Duration = Duration::from_millis(200);
/// How long the inner server may take to begin.
const BEGIN_TIME: Duration = Duration::from_secs(10);
/// Commands that may come during a transfer and wait for its end.
const MOST_WAITING: usize = 64;
/// How long a name may be busy with the end of an upload that was cut just now.
const BUSY_ROUNDS: u32 = 40;
const BUSY_STEP: Duration = Duration::from_millis(50);
/// What a transfer that was told to stop gets for it.
const STOPPING: Duration = Duration::from_secs(2);

/// An upload as the client asks for it.
pub(super) struct Store<'a> {
    pub(super) argument: &'a str,
    pub(super) start: u64,
    pub(super) declared: Option<u64>,
    pub(super) append: bool,
    pub(super) unique: bool,
}

/// What became of a transfer.
enum Outcome {
    Stored(Box<Accepted>),
    Sent(u64),
    Refused(Refusal),
    Told(Reply),
}

/// Where the client's bytes come from or go to.
struct Route {
    offer: Offer,
    peer: IpAddr,
    tls: Option<Arc<ServerConfig>>,
    handshake: Duration,
    /// What the session's tickets carry, when the data connection must resume it.
    badge: Option<[u8; 16]>,
    transfer: Arc<Transfer>,
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
        let stream = match self.offer.open(self.peer, CONNECT_TIME).await {
            Ok(stream) => stream,
            Err(error) => return Err(Reply::new(425, format!("No data connection: {error}"))),
        };
        let Some(tls) = self.tls else { return Ok(Wire::Plain(stream)) };
        let wire = match Wire::secured(stream, tls, &[], self.handshake).await {
            Ok(wire) => wire,
            Err(error) => {
                info!(peer = %self.peer, %error, "TLS handshake on a data connection failed");
                return Err(Reply::new(425, "TLS handshake on the data connection failed"));
            }
        };
        match self.badge {
            Some(badge) if wire.resumed_with() != Some(&badge) => {
                Err(Reply::new(522, "The data connection must resume the TLS session of the control connection"))
            }
            _ => Ok(wire),
        }
    }
}

impl Session {
    pub(super) async fn store(&mut self, asked: Store<'_>, login: Arc<Login>) -> Flow {
        let Some((offer, path)) = (match self.may_store(&asked) {
            Ok(path) => self.offer.take().map(|offer| (offer, path)),
            Err(reply) => {
                self.offer = None;
                return self.say(reply).await;
            }
        }) else {
            return self.say(Reply::new(425, "Send EPSV or PASV first")).await;
        };
        let inner = self.take_inner().await;
        let intake = match begin(&login, &path, &asked).await {
            Ok(intake) => intake,
            Err(reply) => {
                if let Some(inner) = inner {
                    self.keep_inner(inner);
                }
                info!(partner = %login.session.partner, %path, reply = reply.text, "upload refused");
                return self.say(reply).await;
            }
        };
        let told = if asked.unique { format!("FILE: {}", &path[1..]) } else { "Ready for the file".to_owned() };
        login.ticket.doing(format!("STOR {path}"));
        self.hear_what_is_here();
        if self.say(Reply::new(150, told)).await == Flow::End {
            login.ticket.doing("");
            intake.cut("the client went away").await;
            return Flow::End;
        }
        let transfer = Arc::new(Transfer::default());
        let route = self.route(offer, &transfer);
        let (tell, outcome) = oneshot::channel();
        let declared = asked.declared;
        let begins_at = intake.size_bytes();
        let work = async move { take_in(login, inner, route, intake, path, declared, begins_at, tell).await };
        let ending = tokio::spawn(work);
        self.ride(transfer, None, outcome, ending).await
    }

    fn may_store(&self, asked: &Store<'_>) -> Result<String, Reply> {
        if let Some(reply) = self.unprotected() {
            return Err(reply);
        }
        let unique;
        let name = match asked.unique {
            true => {
                unique = Uuid::new_v4().simple().to_string();
                &unique
            }
            false => asked.argument,
        };
        changed(&self.directory, name)
    }

    pub(super) async fn retrieve(&mut self, path: &str, start: u64, login: Arc<Login>) -> Flow {
        let offer = self.offer.take();
        if let Some(reply) = self.unprotected() {
            return self.say(reply).await;
        }
        let Some(offer) = offer else { return self.say(Reply::new(425, "Send EPSV or PASV first")).await };
        let inner = self.take_inner().await;
        login.ticket.doing(format!("RETR {path}"));
        let transfer = Arc::new(Transfer::default());
        let route = self.route(offer, &transfer);
        let (tell, outcome) = oneshot::channel();
        let (opened, open) = oneshot::channel();
        let line = format!("RETR {path}");
        let ending = tokio::spawn(give_out(login, inner, route, line, start, opened, tell));
        self.ride(transfer, Some(open), outcome, ending).await
    }

    pub(super) async fn list(&mut self, line: &str, login: Arc<Login>) -> Flow {
        let offer = self.offer.take();
        if let Some(reply) = self.unprotected() {
            return self.say(reply).await;
        }
        let Some(offer) = offer else { return self.say(Reply::new(425, "Send EPSV or PASV first")).await };
        let inner = self.take_inner().await;
        login.ticket.doing(line);
        let transfer = Arc::new(Transfer::default());
        let route = self.route(offer, &transfer);
        let (tell, outcome) = oneshot::channel();
        let (opened, open) = oneshot::channel();
        let ending = tokio::spawn(show(login, inner, route, line.to_owned(), opened, tell));
        self.ride(transfer, Some(open), outcome, ending).await
    }

    fn route(&self, offer: Offer, transfer: &Arc<Transfer>) -> Route {
        Route {
            offer,
            peer: self.link.peer.ip(),
            tls: self.data_tls(),
            handshake: self.house.options.handshake,
            badge: self.house.options.require_data_resumption.then_some(self.badge),
            transfer: transfer.clone(),
        }
    }

    /// Hears the client until the transfer is over. `open` tells when it is time for 150, unless that was said.
    async fn ride(
        &mut self,
        transfer: Arc<Transfer>,
        mut open: Option<oneshot::Receiver<u64>>,
        mut outcome: oneshot::Receiver<Outcome>,
        ending: JoinHandle<Option<Inner>>,
    ) -> Flow {
        self.ending = Some(ending);
        let began = Instant::now();
        let mut late_abort = false;
        loop {
            if let Some(at) = self.waiting.iter().position(is_abort) {
                self.waiting.remove(at);
                match self.abort(&transfer).await {
                    Some(flow) => return flow,
                    None => late_abort = true,
                }
            }
            let Some(wire) = &mut self.wire else { return Flow::End };
            let event = tokio::select! {
                biased;
                size = opened(&mut open), if open.is_some() => Event::Open(size),
                outcome = &mut outcome => Event::Over(outcome.ok()),
                line = self.lines.next(wire), if self.waiting.len() < MOST_WAITING => match line {
                    Ok(Some(line)) => Event::Line(line),
                    Ok(None) | Err(_) => Event::Gone,
                },
                _ = self.told.changed() => Event::Told,
            };
            match event {
                Event::Open(Some(bytes)) => {
                    open = None;
                    self.hear_what_is_here();
                    if self.say(Reply::new(150, format!("{bytes} bytes are coming"))).await == Flow::End {
                        transfer.cancel("the client went away", Rest::Dropped);
                        return Flow::End;
                    }
                }
                Event::Open(None) => open = None,
                Event::Over(outcome) => {
                    let reply = self.told_of(outcome);
                    let flow = self.say(reply).await;
                    match late_abort && flow == Flow::Continue {
                        true => return self.say(Reply::new(226, "Nothing to abort: the transfer is over")).await,
                        false => return flow,
                    }
                }
                Event::Line(line) if is_abort(&line) => match self.abort(&transfer).await {
                    Some(flow) => return flow,
                    None => late_abort = true,
                },
                Event::Line(line) => {
                    if self.heed_meanwhile(line, began).await == Flow::End {
                        transfer.cancel("the client went away", Rest::Kept);
                        return Flow::End;
                    }
                }
                Event::Gone => {
                    transfer.cancel("the control connection closed during the transfer", Rest::Kept);
                    return Flow::End;
                }
                Event::Told => {
                    // The next step says goodbye, unless it has to be now.
                    let Stay::Leave(why) = *self.told.borrow_and_update() else { continue };
                    transfer.cancel(why, Rest::Dropped);
                    let over = timeout(STOPPING, &mut outcome).await.ok().and_then(Result::ok);
                    let reply = self.told_of(over);
                    self.say(reply).await;
                    return self.goodbye(why).await;
                }
            }
        }
    }

    /// Lines that the client had sent before it could read 150 are commands for afterwards, NOOP too.
    fn hear_what_is_here(&mut self) {
        while self.waiting.len() < MOST_WAITING
            && let Some(wire) = &mut self.wire
            && let Some(Ok(Some(line))) = self.lines.next(wire).now_or_never()
        {
            self.waiting.push_back(line);
        }
    }

    /// ABOR: None when the file is being committed already.
    async fn abort(&mut self, transfer: &Transfer) -> Option<Flow> {
        if !transfer.cancel("the client aborted it", Rest::Dropped) {
            return None;
        }
        if let Some(login) = &self.login {
            login.ticket.doing("");
        }
        if self.say(Reply::new(426, "Transfer aborted")).await == Flow::End {
            return Some(Flow::End);
        }
        Some(self.say(Reply::new(226, "Aborted")).await)
    }

    /// What can be answered during a transfer, when nothing waits before it.
    async fn heed_meanwhile(&mut self, line: Line, began: Instant) -> Flow {
        if let Line::Command(command) = &line
            && self.waiting.is_empty()
        {
            if command.eq_ignore_ascii_case("NOOP") {
                return self.say(Reply::new(200, "A transfer is under way")).await;
            }
            if command.eq_ignore_ascii_case("STAT") {
                let doing = self.login.as_ref().map(|login| login.ticket.moved()).unwrap_or_default();
                let text = format!("{doing} bytes in {} s", began.elapsed().as_secs());
                return self.say(Reply::new(213, format!("Transfer is under way: {text}"))).await;
            }
        }
        self.waiting.push_back(line);
        Flow::Continue
    }

    fn told_of(&mut self, outcome: Option<Outcome>) -> Reply {
        match outcome {
            Some(Outcome::Stored(accepted)) => self.received(*accepted),
            Some(Outcome::Sent(bytes)) => Reply::new(226, format!("Sent {bytes} bytes")),
            Some(Outcome::Refused(refusal)) => Reply::from(&refusal),
            Some(Outcome::Told(reply)) => reply,
            None => Reply::new(451, "Internal error, try again later"),
        }
    }

    /// What 226 says of a file that is kept.
    fn received(&mut self, accepted: Accepted) -> Reply {
        let then = match accepted.kept() {
            Kept::Queued { route } => self.house.gate.deferral(&route),
            Kept::Unfinished => Some("it waits for its final name".to_owned()),
            Kept::Held { reason } => Some(format!("held: {reason}")),
        };
        let then = then.map(|then| format!("; {then}")).unwrap_or_default();
        let text = format!("Received {}; {} bytes, sha256 {}{then}", accepted.id, accepted.size_bytes, accepted.sha256);
        if accepted.unconfirmed {
            self.unconfirmed = Some((accepted, Instant::now()));
        }
        Reply::new(226, text)
    }
}

enum Event {
    Open(Option<u64>),
    Over(Option<Outcome>),
    Line(Line),
    Gone,
    Told,
}

async fn opened(open: &mut Option<oneshot::Receiver<u64>>) -> Option<u64> {
    match open {
        Some(open) => open.await.ok(),
        None => None,
    }
}

fn is_abort(line: &Line) -> bool {
    matches!(line, Line::Command(command) if command.trim_end().eq_ignore_ascii_case("ABOR"))
}

/// Begins the upload: everything that can be refused is refused before 150.
async fn begin(login: &Arc<Login>, path: &str, asked: &Store<'_>) -> Result<Intake, Reply> {
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

#[allow(clippy::too_many_arguments, reason = "they are what a task is given to keep")]
async fn take_in(
    login: Arc<Login>,
    inner: Option<Inner>,
    route: Route,
    intake: Intake,
    path: String,
    declared: Option<u64>,
    start: u64,
    tell: oneshot::Sender<Outcome>,
) -> Option<Inner> {
    let transfer = route.transfer.clone();
    let (wire, inner) = tokio::join!(route.open(), ready(inner, &login));
    let wire = match wire {
        Ok(wire) => wire,
        Err(reply) => {
            login.ticket.doing("");
            intake.cut(&reply.text).await;
            let _ = tell.send(Outcome::Told(reply));
            return inner.ok();
        }
    };
    let (done, kept) = oneshot::channel();
    let upload = Upload { login: login.clone(), intake, wire, transfer, declared, start, done };
    let mut errand = Some(Errand::Upload(Box::new(upload)));
    let mut inner = inner.ok();
    let line = format!("STOR {path}");
    // A second try with a fresh inner session, as long as the first has not begun.
    for _ in 0..2 {
        let Some(given) = errand.take() else { break };
        if inner.is_none() {
            inner = Inner::open(&login).await.ok();
        }
        let Some(serving) = &mut inner else {
            errand = Some(given);
            continue;
        };
        errand = begun(serving, given, &line).await;
        if errand.is_some() {
            inner = None;
        }
    }
    if let Some(Errand::Upload(upload)) = errand {
        warn!(partner = %login.session.partner, %path, "the inner server does not begin");
        login.ticket.doing("");
        upload.intake.cut("the server could not begin").await;
        let _ = tell.send(Outcome::Told(Reply::new(451, "Internal error, try again later")));
        return None;
    }
    let _ = tell.send(match kept.await {
        Ok(Ok(accepted)) => Outcome::Stored(Box::new(accepted)),
        Ok(Err(refusal)) => Outcome::Refused(refusal),
        Err(_) => Outcome::Refused(Refusal::Internal("the upload was lost".to_owned())),
    });
    used(inner).await
}

/// Puts the errand on the desk and has it begun; gives it back when it was not.
async fn begun(inner: &mut Inner, errand: Errand, line: &str) -> Option<Errand> {
    let desk = inner.desk().clone();
    desk.put(errand);
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

async fn give_out(
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
    if begun(&mut inner, Errand::Download(Box::new(download)), &line).await.is_some() {
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
        Ok(Err(refusal)) => Outcome::Refused(refusal),
        Err(_) => broken(),
    });
    used(Some(inner)).await
}

async fn show(
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
            Outcome::Sent(bytes.len() as u64)
        }
        Err(refusal) => Outcome::Refused(refusal),
    }
}
