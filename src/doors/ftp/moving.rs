//! Transfers as the client sees them: it is heard all the time, and told the outcome of each.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use futures_util::FutureExt;
use tokio::{
    sync::oneshot,
    time::{Instant, sleep, timeout},
};
use tracing::info;
use uuid::Uuid;

use crate::ingest::{Kept, Start};

use super::{
    confirmation::{Claim, Stored},
    data::Offer,
    data_transfer::{DataChannel, Listable, Outcome, receive, send, send_listing},
    lines::Line,
    link::{Link, Shutdown},
    listing::Format,
    login::Login,
    paths::changed,
    reply::Reply,
    session::{Flow, Session, kicked},
    tcp_state::tcp_state,
    transfer::{Rest, Transfer},
    unconfirmed::withdraw,
    upload::{Incoming, begin},
};

/// Commands that may come during a transfer and wait for its end.
const MOST_WAITING: usize = 64;
/// What a transfer that was told to stop gets for it.
const STOPPING: Duration = Duration::from_secs(2);
/// What may be needed to commit a file.
const COMMITTING: Duration = Duration::from_secs(60);
/// How often is looked whether a client is there that is not listened to.
const GONE_STEP: Duration = Duration::from_millis(250);

/// An upload as the client asks for it.
pub(super) struct Store<'a> {
    pub(super) argument: &'a str,
    pub(super) start: u64,
    pub(super) declared: Option<u64>,
    pub(super) append: bool,
    pub(super) unique: bool,
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
        self.stored().await;
        login.ticket.doing(format!("STOR {path}"));
        let start = if asked.append { Start::End } else { Start::At(asked.start) };
        let begun = self.while_present(begin(&login, &path, start, asked.declared)).await;
        let begun = begun.ok_or_else(Reply::interrupted);
        let intake = match begun.and_then(|begun| begun.map_err(|refusal| Reply::from(&refusal))) {
            Ok(intake) => intake,
            Err(reply) => {
                login.ticket.doing("");
                info!(partner = %login.session.partner, ?path, reply = reply.text, "upload refused");
                return self.say(reply).await;
            }
        };
        let told = if asked.unique { format!("FILE: {}", &path[1..]) } else { "Ready for the file".to_owned() };
        self.hear_what_is_here();
        if self.say(Reply::new(150, told)).await == Flow::End {
            login.ticket.doing("");
            intake.cut("the client went away").await;
            return Flow::End;
        }
        let transfer = Arc::new(Transfer::default());
        let channel = self.data_channel(offer, &transfer);
        let (tell, outcome) = oneshot::channel();
        let file = Incoming { start: intake.size_bytes(), declared: asked.declared, intake };
        self.storing = Some((transfer.clone(), tokio::spawn(receive(login, channel, file, tell))));
        self.drive(transfer, None, outcome).await
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
        let channel = self.data_channel(offer, &transfer);
        let (tell, outcome) = oneshot::channel();
        let (opened, open) = oneshot::channel();
        let line = format!("RETR {path}");
        self.ending = Some(tokio::spawn(send(login, inner, channel, line, start, opened, tell)));
        self.drive(transfer, Some(open), outcome).await
    }

    pub(super) async fn list(&mut self, format: Format, path: &str, login: Arc<Login>) -> Flow {
        let offer = self.offer.take();
        if let Some(reply) = self.unprotected() {
            return self.say(reply).await;
        }
        let Some(offer) = offer else { return self.say(Reply::new(425, "Send EPSV or PASV first")).await };
        login.ticket.doing(format!("{} {path}", format.verb()));
        let begun = self.while_present(Listable::begin(&login, path, format)).await;
        let listable = match begun.unwrap_or_else(|| Err(Reply::interrupted())) {
            Ok(listable) => listable,
            Err(reply) => {
                login.ticket.doing("");
                return self.say(reply).await;
            }
        };
        self.hear_what_is_here();
        if self.say(Reply::new(150, "The listing is coming")).await == Flow::End {
            return Flow::End;
        }
        let transfer = Arc::new(Transfer::default());
        let channel = self.data_channel(offer, &transfer);
        let (tell, outcome) = oneshot::channel();
        tokio::spawn(send_listing(login, channel, listable, tell));
        self.drive(transfer, None, outcome).await
    }

    fn data_channel(&self, offer: Offer, transfer: &Arc<Transfer>) -> DataChannel {
        DataChannel {
            offer,
            peer: self.link.peer.ip(),
            tls: self.data_tls(),
            handshake: self.context.options.handshake,
            certificate: self.certificate.clone(),
            must_resume: self.context.options.require_data_resumption,
            transfer: transfer.clone(),
        }
    }

    /// Hears the client until the transfer is over. `open` tells when it is time for 150, unless that was said.
    async fn drive(
        &mut self,
        transfer: Arc<Transfer>,
        mut open: Option<oneshot::Receiver<u64>>,
        mut outcome: oneshot::Receiver<Outcome>,
    ) -> Flow {
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
                () = gone(&self.link), if self.waiting.len() >= MOST_WAITING => Event::Gone,
                () = kicked(self.login.as_deref()) => Event::Told,
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
                    self.hear_what_is_here();
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
                    if self.answer_meanwhile(line, began).await == Flow::End {
                        if !transfer.cancel("the client went away", Rest::Kept) {
                            self.take_back_what_is_stored(outcome).await;
                        }
                        return Flow::End;
                    }
                }
                Event::Gone => {
                    if !transfer.cancel("the control connection closed during the transfer", Rest::Kept) {
                        self.take_back_what_is_stored(outcome).await;
                    }
                    return Flow::End;
                }
                Event::Told => {
                    // The next step says goodbye, unless it has to be now.
                    let Shutdown::Now(why) = self.shutdown() else { continue };
                    transfer.cancel(why, Rest::Dropped);
                    let over = timeout(STOPPING, &mut outcome).await.ok().and_then(Result::ok);
                    let reply = self.told_of(over);
                    self.say(reply).await;
                    return self.goodbye(why).await;
                }
            }
        }
    }

    /// The client went while its file was being committed: there is nobody to reply to.
    async fn take_back_what_is_stored(&mut self, outcome: oneshot::Receiver<Outcome>) {
        let Ok(Ok(Outcome::Stored(stored))) = timeout(COMMITTING, outcome).await else { return };
        let Some(login) = &self.login else { return };
        match stored.claim {
            Claim::OnceConfirmed => {
                withdraw(&login.ingest, &stored.accepted, "its sender was gone before the reply").await
            }
            Claim::AtOnce => login.ingest.doubt(&stored.accepted).await,
            Claim::Settled => {}
        }
    }

    /// Does work that may take its time, as reading a whole file does, as long as its client is there and may stay.
    pub(super) async fn while_present<T>(&mut self, work: impl Future<Output = T>) -> Option<T> {
        tokio::pin!(work);
        let link = self.link.clone();
        // Most of it is over before anyone has to be looked for.
        let gone = async {
            sleep(GONE_STEP).await;
            gone(&link).await;
        };
        tokio::pin!(gone);
        loop {
            tokio::select! {
                biased;
                done = &mut work => return Some(done),
                _ = self.told.changed() => {}
                () = kicked(self.login.as_deref()) => {}
                () = &mut gone => return None,
            }
            if let Shutdown::Now(_) = self.shutdown() {
                return None;
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
    async fn answer_meanwhile(&mut self, line: Line, began: Instant) -> Flow {
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
            Some(Outcome::Stored(stored)) => self.received(*stored),
            Some(Outcome::Sent(bytes)) => Reply::new(226, format!("Sent {bytes} bytes")),
            Some(Outcome::Refused(refusal)) => Reply::from(&refusal),
            Some(Outcome::Told(reply)) => reply,
            None => Reply::new(451, "Internal error, try again later"),
        }
    }

    /// What 226 says of a file that is kept.
    fn received(&mut self, stored: Stored) -> Reply {
        let accepted = &stored.accepted;
        let then = match accepted.kept() {
            Kept::Queued { route } => self.context.gate.deferral(&route),
            Kept::Unfinished => Some("it waits for its final name".to_owned()),
            Kept::Held { reason } => Some(format!("held: {reason}")),
        };
        let then = then.map(|then| format!("; {then}")).unwrap_or_default();
        let text = format!("Received {}; {} bytes, sha256 {}{then}", accepted.id, accepted.size_bytes, accepted.sha256);
        if stored.claim != Claim::Settled {
            self.expect_sign(stored);
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

/// The client has gone; asked for while its commands are not read, behind which its end would be hidden.
async fn gone(link: &Link) {
    while tcp_state(link.control.as_fd()).is_ok_and(|state| state.established) {
        sleep(GONE_STEP).await;
    }
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
