//! One client's session: its control connection, what it has said so far, and its time.

use std::{collections::VecDeque, io, net::IpAddr, sync::Arc, time::Duration};

use rustls::ServerConfig;
use tokio::{
    io::AsyncWriteExt,
    net::TcpStream,
    sync::watch,
    task::JoinHandle,
    time::{Instant, sleep_until, timeout},
};
use tracing::{debug, info, warn};

use crate::{ingest::Accepted, partners::ClientCertificate};

use super::{
    Tls,
    certificate::TlsSetup,
    data::Offer,
    digest::Algorithm,
    door::House,
    inner::Inner,
    lines::{Line, Lines},
    link::{Link, Stay},
    login::Login,
    reply::Reply,
    tcp_state::tcp_state,
    transfer::{Rest, Transfer},
    wire::Wire,
};

/// How long a client may take to read a reply.
const REPLY_TIME: Duration = Duration::from_secs(30);
/// An inner session that was not needed for this long is closed: the next command opens another.
const INNER_IDLE: Duration = Duration::from_secs(5);
/// A data port that no command came for is given to others after this long.
const OFFER_TIME: Duration = Duration::from_secs(60);
/// How long a reset may take to come back after the last reply: more than any network's way there and back.
const RESET_TIME: Duration = Duration::from_secs(1);
const RESET_STEP: Duration = Duration::from_millis(5);
/// How long a client that is silent after a reply must stay to count as having read it.
const CONFIRMED_AFTER: Duration = Duration::from_secs(2);
/// What a transfer that is over may still have to do before the next begins.
const ENDING_TIME: Duration = Duration::from_secs(60);

/// What a partner is told; the operator's reason stands in the audit trail.
const KICKED: &str = "An operator has ended this session";

/// Whether the session goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Continue,
    End,
}

pub(super) struct Session {
    pub(super) house: Arc<House>,
    pub(super) link: Arc<Link>,
    /// None only while TLS is being set up.
    pub(super) wire: Option<Wire>,
    pub(super) lines: Lines,
    /// Lines that came during a transfer.
    pub(super) waiting: VecDeque<Line>,
    pub(super) told: watch::Receiver<Stay>,
    /// TLS that is this session's alone, where its data connections must resume it.
    pub(super) own_tls: Option<TlsSetup>,
    /// Where we are, and what the client has connected to: with a proxy between they differ.
    pub(super) local: IpAddr,
    pub(super) reached: IpAddr,
    began: Instant,
    active: Instant,
    pub(super) login: Option<Arc<Login>>,
    pub(super) user: Option<String>,
    /// What the client has shown in the TLS handshake of this connection.
    pub(super) certificate: Option<ClientCertificate>,
    pub(super) failed_logins: u32,
    pub(super) before_login: u32,
    /// The working directory: absolute, without `.` and `..`.
    pub(super) directory: String,
    /// REST's position, for the next command alone.
    pub(super) start: u64,
    /// ALLO's size, for the next upload.
    pub(super) declared: Option<u64>,
    pub(super) rename_from: Option<String>,
    pub(super) sized: bool,
    pub(super) protected: bool,
    pub(super) offer: Option<Offer>,
    pub(super) offered: Instant,
    pub(super) only_epsv: bool,
    pub(super) hash: Algorithm,
    pub(super) inner: Option<(Inner, Instant)>,
    /// A transfer that is over for the client, and gives the inner session back when it is over altogether.
    pub(super) ending: Option<JoinHandle<Option<Inner>>>,
    /// The last upload, which for the client may be over while what it still sends is dropped.
    pub(super) storing: Option<(Arc<Transfer>, JoinHandle<()>)>,
    pub(super) unconfirmed: Option<(Accepted, Instant)>,
    /// The last file that was accepted, until the client goes on after its reply.
    pub(super) last_accepted: Option<Accepted>,
}

/// What wakes a session.
enum Event {
    Line(Line),
    Closed,
    Failed(io::Error),
    Told,
    Time,
}

impl Session {
    pub(super) fn new(
        house: Arc<House>,
        link: Arc<Link>,
        stream: TcpStream,
        reached: Option<IpAddr>,
    ) -> io::Result<Self> {
        let now = Instant::now();
        let local = stream.local_addr()?.ip();
        Ok(Self {
            told: link.told(),
            local,
            reached: reached.unwrap_or(local),
            house,
            link,
            wire: Some(Wire::Urgent(stream)),
            lines: Lines::default(),
            waiting: VecDeque::new(),
            own_tls: None,
            began: now,
            active: now,
            login: None,
            user: None,
            certificate: None,
            failed_logins: 0,
            before_login: 0,
            directory: "/".to_owned(),
            start: 0,
            declared: None,
            rename_from: None,
            sized: false,
            protected: false,
            offer: None,
            offered: now,
            only_epsv: false,
            hash: Algorithm::Sha256,
            inner: None,
            ending: None,
            storing: None,
            unconfirmed: None,
            last_accepted: None,
        })
    }

    /// Serves until the client or the server ends it.
    pub(super) async fn run(mut self, implicit_tls: bool) {
        if implicit_tls {
            if Box::pin(self.secure()).await == Flow::End {
                return;
            }
            (self.sized, self.protected) = (true, true);
        }
        let greeting = self.house.greeting();
        if self.say(Reply::new(220, greeting)).await == Flow::End {
            return;
        }
        while Box::pin(self.step()).await == Flow::Continue {}
        self.doubt_what_was_not_read().await;
        if let Some(wire) = &mut self.wire {
            wire.finish().await;
        }
        debug!(peer = %self.link.peer, "session is over");
    }

    async fn step(&mut self) -> Flow {
        if let Some(flow) = self.dismissed().await {
            return flow;
        }
        let event = match self.waiting.pop_front() {
            Some(line) => Event::Line(line),
            None => self.next().await,
        };
        match event {
            Event::Line(line) => {
                self.active = Instant::now();
                self.last_accepted = None;
                self.confirm().await;
                let flow = self.heed(line).await;
                self.active = Instant::now();
                flow
            }
            Event::Closed => {
                // Who closes in order has read what was said. Who was killed before closed in order too, and answers
                // with a reset what is said then.
                if self.unconfirmed.is_some() && self.was_read().await {
                    self.confirm().await;
                }
                Flow::End
            }
            Event::Failed(error) => {
                debug!(peer = %self.link.peer, %error, "control connection failed");
                Flow::End
            }
            Event::Told => Flow::Continue,
            Event::Time => self.time_passed().await,
        }
    }

    async fn next(&mut self) -> Event {
        let deadline = self.deadline();
        let Some(wire) = &mut self.wire else { return Event::Closed };
        tokio::select! {
            line = self.lines.next(wire) => match line {
                Ok(Some(line)) => Event::Line(line),
                Ok(None) => Event::Closed,
                // Many TLS clients go without close_notify.
                Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Event::Closed,
                Err(error) => Event::Failed(error),
            },
            _ = self.told.changed() => Event::Told,
            () = kicked(self.login.as_deref()) => Event::Told,
            () = sleep_until(deadline) => Event::Time,
        }
    }

    fn deadline(&self) -> Instant {
        let limits = self.house.partners.limits();
        let mut deadline = self.active + limits.idle;
        if self.login.is_none() {
            deadline = deadline.min(self.began + limits.login_grace);
        }
        if let Some((_, used)) = &self.inner {
            deadline = deadline.min(*used + INNER_IDLE);
        }
        if self.offer.is_some() {
            deadline = deadline.min(self.offered + OFFER_TIME);
        }
        if let Some((_, since)) = &self.unconfirmed {
            deadline = deadline.min(*since + CONFIRMED_AFTER);
        }
        deadline
    }

    async fn time_passed(&mut self) -> Flow {
        let now = Instant::now();
        let limits = self.house.partners.limits();
        let (grace, idle) = (limits.login_grace, limits.idle);
        if self.inner.as_ref().is_some_and(|(_, used)| now >= *used + INNER_IDLE) {
            self.inner = None;
        }
        if self.offer.is_some() && now >= self.offered + OFFER_TIME {
            self.offer = None;
        }
        if self.unconfirmed.as_ref().is_some_and(|(_, since)| now >= *since + CONFIRMED_AFTER) {
            let up = tcp_state(std::os::fd::AsFd::as_fd(&self.link.control)).is_ok_and(|state| state.established);
            match up {
                true => self.confirm().await,
                false => self.unconfirmed = None,
            }
        }
        if self.login.is_none() && now >= self.began + grace {
            return self.goodbye("No login in time").await;
        }
        if now >= self.active + idle {
            return self.goodbye("Idle for too long").await;
        }
        Flow::Continue
    }

    /// The file that waits for it is confirmed: its sender has gone on after the reply.
    async fn confirm(&mut self) {
        if let (Some((accepted, _)), Some(login)) = (self.unconfirmed.take(), &self.login) {
            login.ingest.confirm(&accepted).await;
        }
    }

    /// A client that was killed in mid-file may outlive the evidence by a moment on a machine that is busy. Then the reply
    /// finds nobody, and its system answers with a reset: nobody knows the file as accepted, so an operator decides.
    /// Who closes in order after the reply has read it.
    async fn doubt_what_was_not_read(&mut self) {
        let (Some(accepted), Some(login)) = (self.last_accepted.take(), self.login.clone()) else { return };
        if !self.was_read().await {
            login.ingest.doubt(&accepted).await;
        }
    }

    /// Whether nothing speaks against it that the client has read the last reply: a reset would.
    async fn was_read(&self) -> bool {
        let over = Instant::now() + RESET_TIME;
        loop {
            match tcp_state(std::os::fd::AsFd::as_fd(&self.link.control)) {
                Ok(state) if state.established => return true,
                Ok(state) if !state.reset && Instant::now() < over => tokio::time::sleep(RESET_STEP).await,
                Ok(state) if !state.reset => return true,
                _ => return false,
            }
        }
    }

    /// Whether the server wants this session to end.
    async fn dismissed(&mut self) -> Option<Flow> {
        match self.stay() {
            Stay::Welcome => None,
            Stay::Finish(why) | Stay::Leave(why) => Some(self.goodbye(why).await),
        }
    }

    /// Whether the server and its operators want this session to go on.
    pub(super) fn stay(&mut self) -> Stay {
        if self.login.as_ref().is_some_and(|login| login.ticket.is_kicked()) {
            return Stay::Leave(KICKED);
        }
        *self.told.borrow_and_update()
    }

    /// The last reply.
    pub(super) async fn goodbye(&mut self, why: &str) -> Flow {
        info!(peer = %self.link.peer, partner = self.link.partner().map(AsRef::as_ref), why, "closing a connection");
        self.say(Reply::new(421, why)).await;
        Flow::End
    }

    pub(super) async fn say(&mut self, reply: Reply) -> Flow {
        let Some(wire) = &mut self.wire else { return Flow::End };
        let bytes = reply.to_bytes();
        let written = timeout(REPLY_TIME, async {
            wire.write_all(&bytes).await?;
            wire.flush().await
        });
        match written.await {
            Ok(Ok(())) => Flow::Continue,
            _ => Flow::End,
        }
    }

    /// The TLS handshake on the control connection. What came in the clear before it is forgotten.
    pub(super) async fn secure(&mut self) -> Flow {
        if self.lines.clear() || !self.waiting.is_empty() {
            warn!(peer = %self.link.peer, "dropped what was sent in the clear behind AUTH TLS");
            self.waiting.clear();
        }
        let (Some(Wire::Plain(stream) | Wire::Urgent(stream)), Some(tls)) = (self.wire.take(), self.house.tls()) else {
            return Flow::End;
        };
        let tls = match self.house.options.require_data_resumption.then(|| tls.of_one_session()) {
            None => tls,
            Some(Ok(own)) => self.own_tls.insert(own).clone(),
            Some(Err(error)) => {
                warn!(peer = %self.link.peer, %error, "cannot set up TLS for a session");
                return Flow::End;
            }
        };
        match Wire::secured(stream, tls.control, self.house.options.handshake).await {
            Ok(wire) => {
                self.certificate = wire.client_certificate();
                if let Some(shown) = &self.certificate {
                    info!(peer = %self.link.peer, subject = shown.subject(), sha256 = shown.fingerprint(), "client shows a certificate");
                }
                self.wire = Some(wire);
                // Nobody is known by what was said in the clear.
                self.user = None;
                Flow::Continue
            }
            Err(error) => {
                info!(peer = %self.link.peer, %error, "TLS handshake failed");
                Flow::End
            }
        }
    }

    pub(super) fn is_secure(&self) -> bool {
        self.wire.as_ref().is_some_and(Wire::is_secure)
    }

    pub(super) fn tls_is_required(&self) -> bool {
        self.house.options.tls() == Tls::Required
    }

    /// TLS for the next data connection, if there is to be any.
    pub(super) fn data_tls(&self) -> Option<Arc<ServerConfig>> {
        let tls = || self.own_tls.clone().or_else(|| self.house.tls());
        self.protected.then(tls).flatten().map(|tls| tls.data)
    }

    /// The inner session, when the transfer before has given it back.
    pub(super) async fn take_inner(&mut self) -> Option<Inner> {
        if let Some(ending) = self.ending.take() {
            match timeout(ENDING_TIME, ending).await {
                Ok(Ok(inner)) => return inner,
                _ => return None,
            }
        }
        self.inner.take().map(|(inner, _)| inner)
    }

    /// The upload before is over altogether: a session has one data connection, however fast its client sends what is
    /// refused. Who asks for the next has read the reply to it.
    pub(super) async fn stored(&mut self) {
        if let Some((transfer, storing)) = self.storing.take() {
            transfer.cancel("another upload begins", Rest::Dropped);
            // One that panicked is over too.
            let _ = timeout(ENDING_TIME, storing).await;
        }
    }

    pub(super) fn keep_inner(&mut self, inner: Inner) {
        self.inner = Some((inner, Instant::now()));
    }

    /// Asks the inner server. When it fails, another is opened; what may have been done is not asked twice.
    pub(super) async fn ask(&mut self, line: &str, login: &Arc<Login>) -> Reply {
        let again = !["MKD", "RMD", "DELE", "RNTO"].iter().any(|verb| line.starts_with(verb));
        for _ in 0..if again { 2 } else { 1 } {
            let inner = match self.take_inner().await {
                Some(inner) => Ok(inner),
                None => Inner::open(login).await,
            };
            let asked = match inner {
                Ok(mut inner) => inner.command(line).await.map(|reply| (reply, inner)),
                Err(error) => Err(error),
            };
            match asked {
                Ok((reply, inner)) => {
                    self.keep_inner(inner);
                    return reply;
                }
                Err(error) => warn!(partner = %login.session.partner, %error, "the inner server failed"),
            }
        }
        Reply::new(451, "Internal error, try again later")
    }
}

/// Waits until an operator wants the session to end.
pub(super) async fn kicked(login: Option<&Login>) {
    match login {
        Some(login) => login.ticket.kicked().await,
        None => std::future::pending().await,
    }
}
