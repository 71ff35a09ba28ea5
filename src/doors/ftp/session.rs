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

use crate::partners::ClientCertificate;

use super::{
    Tls,
    certificate::TlsSetup,
    command::Command,
    confirmation::{Claim, Sign, Stored},
    data::Offer,
    digest::Algorithm,
    door::DoorContext,
    inner::Inner,
    lines::{Line, Lines},
    link::{Link, Shutdown},
    login::Login,
    paths::changed,
    reply::Reply,
    transfer::{Rest, Transfer},
    unconfirmed::Unconfirmed,
    wire::Wire,
};

/// How long a client may take to read a reply.
const REPLY_TIME: Duration = Duration::from_secs(30);
/// An inner session that was not needed for this long is closed: the next command opens another.
const INNER_IDLE: Duration = Duration::from_secs(5);
/// A data port that no command came for is given to others after this long.
const OFFER_TIME: Duration = Duration::from_secs(60);
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
    pub(super) context: Arc<DoorContext>,
    pub(super) link: Arc<Link>,
    /// None only while TLS is being set up.
    pub(super) wire: Option<Wire>,
    pub(super) lines: Lines,
    /// Lines that came during a transfer.
    pub(super) waiting: VecDeque<Line>,
    pub(super) told: watch::Receiver<Shutdown>,
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
    /// Lines that were brought to their commands.
    heard: u64,
    /// Files whose sender was not seen to have the reply, once there was one.
    unconfirmed: Option<Arc<Unconfirmed>>,
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
        context: Arc<DoorContext>,
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
            context,
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
            heard: 0,
            unconfirmed: None,
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
        let greeting = self.context.greeting();
        if self.say(Reply::new(220, greeting)).await == Flow::End {
            return;
        }
        while Box::pin(self.step()).await == Flow::Continue {}
        let has_ended = self.leave_unconfirmed().await;
        if let Some(wire) = &mut self.wire
            && !has_ended
        {
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
                let mut confirmed = self.goes_on(&line);
                if !changes_names(&line) {
                    self.confirm(std::mem::take(&mut confirmed));
                }
                let flow = self.dispatch(line).await;
                self.confirm(confirmed);
                self.active = Instant::now();
                flow
            }
            Event::Closed => Flow::End,
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
        let limits = self.context.partners.limits();
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
        deadline
    }

    async fn time_passed(&mut self) -> Flow {
        let now = Instant::now();
        let limits = self.context.partners.limits();
        let (grace, idle) = (limits.login_grace, limits.idle);
        if self.inner.as_ref().is_some_and(|(_, used)| now >= *used + INNER_IDLE) {
            self.inner = None;
        }
        if self.offer.is_some() && now >= self.offered + OFFER_TIME {
            self.offer = None;
        }
        if self.login.is_none() && now >= self.began + grace {
            return self.goodbye("No login in time").await;
        }
        if now >= self.active + idle {
            return self.goodbye("Idle for too long").await;
        }
        Flow::Continue
    }

    /// The reply to a file is written next.
    pub(super) fn expect_sign(&mut self, stored: Stored) {
        let Some(login) = &self.login else { return };
        let unconfirmed = match &self.unconfirmed {
            Some(unconfirmed) => unconfirmed,
            None => {
                let first = Arc::new(Unconfirmed::new(&login.ingest, &self.link));
                self.context.watch.add(&first);
                self.unconfirmed.insert(first)
            }
        };
        let sent_ahead = self.heard + (self.waiting.len() + self.lines.begun()) as u64;
        unconfirmed.add(stored, sent_ahead);
    }

    /// Takes out the files whose sender goes on with this line.
    fn goes_on(&mut self, line: &Line) -> Vec<Stored> {
        self.heard += 1;
        let (Some(unconfirmed), Line::Command(line)) = (&self.unconfirmed, line) else { return Vec::new() };
        let sign_of = |name: &str| Sign::of(&Command::parse(line), name, |given| changed(&self.directory, given).ok());
        unconfirmed.heard(self.heard, sign_of)
    }

    fn confirm(&self, files: Vec<Stored>) {
        let Some(login) = &self.login else { return };
        for file in files.iter().filter(|file| file.claim == Claim::OnceConfirmed) {
            login.ingest.confirm(&file.accepted);
        }
    }

    /// Hands over what is still to be confirmed; whether its client has ended the connection.
    async fn leave_unconfirmed(&mut self) -> bool {
        match self.unconfirmed.take() {
            Some(unconfirmed) => self.context.watch.take_over(unconfirmed).await,
            None => false,
        }
    }

    /// Says goodbye if a shutdown of this session is requested.
    async fn dismissed(&mut self) -> Option<Flow> {
        match self.shutdown() {
            Shutdown::No => None,
            Shutdown::Graceful(why) | Shutdown::Now(why) => Some(self.goodbye(why).await),
        }
    }

    /// The shutdown that the server or an operator requests of this session.
    pub(super) fn shutdown(&mut self) -> Shutdown {
        if self.login.as_ref().is_some_and(|login| login.ticket.is_kicked()) {
            return Shutdown::Now(KICKED);
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
        if let Some(unconfirmed) = &self.unconfirmed {
            unconfirmed.before_writing();
        }
        let written = timeout(REPLY_TIME, async {
            wire.write_all(&bytes).await?;
            wire.flush().await
        });
        let Ok(Ok(())) = written.await else { return Flow::End };
        if let Some(unconfirmed) = &self.unconfirmed {
            unconfirmed.written();
        }
        Flow::Continue
    }

    /// The TLS handshake on the control connection. What came in the clear before it is forgotten.
    pub(super) async fn secure(&mut self) -> Flow {
        if self.lines.clear() || !self.waiting.is_empty() {
            warn!(peer = %self.link.peer, "dropped what was sent in the clear behind AUTH TLS");
            self.waiting.clear();
        }
        let (Some(Wire::Plain(stream) | Wire::Urgent(stream)), Some(tls)) = (self.wire.take(), self.context.tls())
        else {
            return Flow::End;
        };
        let tls = match self.context.options.require_data_resumption.then(|| tls.of_one_session()) {
            None => tls,
            Some(Ok(own)) => self.own_tls.insert(own).clone(),
            Some(Err(error)) => {
                warn!(peer = %self.link.peer, %error, "cannot set up TLS for a session");
                return Flow::End;
            }
        };
        match Wire::secured(stream, tls.control, self.context.options.handshake).await {
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
        self.context.options.tls() == Tls::Required
    }

    /// TLS for the next data connection, if there is to be any.
    pub(super) fn data_tls(&self) -> Option<Arc<ServerConfig>> {
        let tls = || self.own_tls.clone().or_else(|| self.context.tls());
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
                None => Inner::open(login.access()).await,
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

/// Returns whether a command gives a file another name or takes it away: a processor is to begin it only then.
fn changes_names(line: &Line) -> bool {
    let Line::Command(line) = line else { return false };
    matches!(Command::parse(line), Command::Rnto(_) | Command::Dele(_))
}

/// Waits until an operator wants the session to end.
pub(super) async fn kicked(login: Option<&Login>) {
    match login {
        Some(login) => login.ticket.kicked().await,
        None => std::future::pending().await,
    }
}
