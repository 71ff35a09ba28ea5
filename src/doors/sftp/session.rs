//! One client's connection: its login, its channels, its time and its end.

use std::{
    collections::HashMap,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicUsize, Ordering},
    },
    time::Duration,
};

use russh::{
    Channel, ChannelId, ChannelOpenFailure, Disconnect, MethodKind, MethodSet, Pty,
    keys::{Algorithm, Certificate},
    server::{Auth, ChannelOpenHandle, Handle, Handler, Msg, PublicKeyOffer, Session, VerifiedPublicKey, run_stream},
};
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    doors::link::{Link, Shutdown},
    ingest::SessionInfo,
    partners::{Authentication, Denied, Partner, PartnerName, Proof},
};

use super::{
    door::{DOOR, DoorContext},
    partner_session::PartnerSession,
    service,
    transfer_clock::{TransferClock, TransferLimits},
};

/// The time that a client gets to read why it is disconnected.
const LAST_WORDS: Duration = Duration::from_secs(1);
const NO_SHELL: &str = "This server takes files by SFTP only: no shell, no commands, no scp of the old kind.\r\n\
                        Use sftp, or scp without -O.\r\n";
/// The text that a partner is told; the operator's reason stands in the audit trail.
const KICKED: &str = "An operator has ended this session";

/// The state that the connection and those who watch it share.
struct Shared {
    login: OnceLock<Arc<PartnerSession>>,
    logged_in: Notify,
    /// The connection is over.
    gone: CancellationToken,
    /// Channels that serve.
    serving: AtomicU32,
}

/// Serves a client until it or the server ends it.
pub(super) async fn run(context: Arc<DoorContext>, link: Arc<Link>, stream: TcpStream) {
    let peer = link.peer;
    let shared = Arc::new(Shared {
        login: OnceLock::new(),
        logged_in: Notify::new(),
        gone: CancellationToken::new(),
        serving: AtomicU32::new(0),
    });
    let began = Instant::now();
    let grace = context.partners.limits().login_grace;
    let client = Client {
        context: context.clone(),
        link: link.clone(),
        shared: shared.clone(),
        channels: HashMap::new(),
        proved: None,
        failed: 0,
        turned_away: None,
    };
    let running = match timeout(grace, run_stream(context.ssh.clone(), stream, client)).await {
        Ok(Ok(running)) => running,
        Ok(Err(error)) => return debug!(%peer, %error, "no SSH connection"),
        Err(_) => return debug!(%peer, "no SSH version in time"),
    };
    let handle = running.handle();
    tokio::pin!(running);
    let why = tokio::select! {
        ended = &mut running => {
            if let Err(error) = ended {
                debug!(%peer, %error, "connection ended");
            }
            None
        }
        why = dismissed(&context, &link, &shared, began + grace) => Some(why),
    };
    if let Some(why) = why {
        info!(%peer, partner = link.partner().map(AsRef::as_ref), why, "closing a connection");
        goodbye(&handle, why).await;
        // It takes its time to notice that the client does not close; we do not.
        if timeout(LAST_WORDS, &mut running).await.is_err() {
            link.close(why);
            shared.gone.cancel();
            let _ = running.await;
        }
    }
    shared.gone.cancel();
    debug!(%peer, "session is over");
}

async fn goodbye(handle: &Handle, why: &str) {
    let said = handle.disconnect(Disconnect::ByApplication, why.to_owned(), "en".to_owned());
    // A client that reads nothing is told nothing.
    let _ = timeout(LAST_WORDS, said).await;
}

/// Waits until the connection has to end, and returns the reason.
async fn dismissed(context: &DoorContext, link: &Link, shared: &Shared, login_until: Instant) -> &'static str {
    let mut told = link.told();
    let idle = context.partners.limits().idle;
    loop {
        let shutdown = *told.borrow_and_update();
        let login = shared.login.get();
        match shutdown {
            Shutdown::Now(why) => return why,
            // It may finish its present request.
            Shutdown::Graceful(why) if login.is_none_or(|login| !login.is_busy()) => return why,
            Shutdown::Graceful(_) | Shutdown::No => {}
        }
        let mut wake = match login {
            None => login_until,
            Some(login) => Instant::now() + idle.saturating_sub(login.ticket.idle()),
        };
        if matches!(shutdown, Shutdown::Graceful(_)) {
            wake = wake.min(Instant::now() + Duration::from_millis(20));
        }
        tokio::select! {
            _ = told.changed() => {}
            () = shared.logged_in.notified() => {}
            () = kicked(login) => return KICKED,
            () = sleep_until(wake) => match login {
                None if Instant::now() >= login_until => return "No login in time",
                Some(login) if login.ticket.idle() >= idle => return "Idle for too long",
                _ => {}
            },
        }
    }
}

async fn kicked(login: Option<&Arc<PartnerSession>>) {
    match login {
        Some(login) => login.ticket.kicked().await,
        None => std::future::pending().await,
    }
}

/// The client's side of the connection, as russh asks us for it.
struct Client {
    context: Arc<DoorContext>,
    link: Arc<Link>,
    shared: Arc<Shared>,
    /// Channels that nothing was asked of yet.
    channels: HashMap<ChannelId, Channel<Msg>>,
    /// The partner that has proved to have a key, and still has to give a password.
    proved: Option<PartnerName>,
    failed: u32,
    /// The reason why a partner that has logged in cannot stay.
    turned_away: Option<String>,
}

fn methods() -> MethodSet {
    MethodSet::from(&[MethodKind::PublicKey, MethodKind::Password][..])
}

fn rejected() -> Auth {
    Auth::Reject { proceed_with_methods: Some(methods()), partial_success: false }
}

impl Client {
    fn denied(&self, user: &str, how: &str, why: &str) -> Auth {
        info!(peer = %self.link.peer, name = ?user, how, why, "login refused");
        rejected()
    }

    /// Lets the partner in, or asks for what is wanted still.
    fn proved(&mut self, partner: Partner, how: &str) -> Auth {
        if partner.policy.authentication != Authentication::KeyAndPassword {
            return self.enter(partner, how);
        }
        self.proved = Some(partner.name);
        Auth::Reject { proceed_with_methods: Some(MethodSet::from(&[MethodKind::Password][..])), partial_success: true }
    }

    fn enter(&mut self, partner: Partner, how: &str) -> Auth {
        match self.open_session(partner, how) {
            Ok(login) => {
                // There is one login on a connection.
                let _ = self.shared.login.set(login);
                self.shared.logged_in.notify_one();
            }
            Err(why) => {
                info!(peer = %self.link.peer, why, "login refused");
                self.turned_away = Some(why);
            }
        }
        Auth::Accept
    }

    fn open_session(&self, partner: Partner, how: &str) -> Result<Arc<PartnerSession>, String> {
        let (context, peer) = (&self.context, self.link.peer);
        let ticket = context.partners.open_session(&partner.name, DOOR, peer).map_err(|denied| denied.to_string())?;
        info!(partner = %partner.name, %peer, how, session = %ticket.id(), "logged in");
        self.link.logged_in(partner.name.clone());
        let info = SessionInfo { partner: partner.name, door: DOOR, peer: peer.into(), id: ticket.id() };
        Ok(Arc::new(PartnerSession {
            files: context.ingest.files(&info),
            info,
            ticket,
            ingest: context.ingest.clone(),
            clock: context.clock.clone(),
            maintenance: context.maintenance.clone(),
            under_way: AtomicUsize::new(0),
            transfer_clock: TransferClock::new(TransferLimits {
                stalled: context.partners.limits().stalled,
                longest_per_gib: context.options.longest_per_gib,
            }),
            gone: self.shared.gone.clone(),
            _link: self.link.clone(),
        }))
    }

    /// Tells a client that wants something else than SFTP.
    fn no_shell(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&channel);
        session.channel_success(channel)?;
        session.extended_data(channel, 1, NO_SHELL)?;
        session.exit_status_request(channel, 1)?;
        session.eof(channel)?;
        session.close(channel)
    }
}

/// SHA-1 proves nothing any more.
fn is_sha1(algorithm: &Algorithm) -> bool {
    matches!(algorithm, Algorithm::Rsa { hash: None })
}

impl Handler for Client {
    type Error = russh::Error;

    async fn auth_none(&mut self, _user: &str) -> Result<Auth, russh::Error> {
        Ok(rejected())
    }

    async fn auth_password(&mut self, user: &str, password: &str) -> Result<Auth, russh::Error> {
        let partners = &self.context.partners;
        if self.failed >= partners.limits().max_failed_logins {
            return Ok(Auth::Reject { proceed_with_methods: Some(MethodSet::empty()), partial_success: false });
        }
        let same = |name: &PartnerName| user.parse::<PartnerName>().is_ok_and(|user| user == *name);
        let proof = if self.proved.as_ref().is_some_and(same) { Proof::Key } else { Proof::Nothing };
        match partners.verify_behind(proof, user, password, self.link.peer.ip()).await {
            Ok(partner) => Ok(self.enter(partner, "password")),
            Err(denied) => {
                // What was no fault of the client's is not counted.
                self.failed += u32::from(!matches!(denied, Denied::Unavailable));
                Ok(self.denied(user, "password", &denied.to_string()))
            }
        }
    }

    async fn auth_publickey_offered(&mut self, user: &str, offer: PublicKeyOffer<'_>) -> Result<Auth, russh::Error> {
        let known = || self.context.partners.knows_key(user, offer.public_key, self.link.peer.ip());
        // Whether a certificate comes with the key is told only when it signs.
        let may_be = !is_sha1(offer.algorithm) && (self.context.authorities.is_some() || known());
        Ok(if may_be { Auth::Accept } else { rejected() })
    }

    async fn auth_publickey(&mut self, user: &str, key: VerifiedPublicKey<'_>) -> Result<Auth, russh::Error> {
        if is_sha1(key.algorithm) {
            return Ok(self.denied(user, "key", "it is signed with SHA-1"));
        }
        match self.context.partners.verify_key(user, key.public_key, self.link.peer.ip()) {
            Ok(partner) => Ok(self.proved(partner, "key")),
            Err(denied) => Ok(self.denied(user, "key", &denied.to_string())),
        }
    }

    async fn auth_openssh_certificate(&mut self, user: &str, certificate: &Certificate) -> Result<Auth, russh::Error> {
        let Some(authorities) = &self.context.authorities else { return Ok(rejected()) };
        let peer = self.link.peer.ip();
        let Ok(name) = user.parse::<PartnerName>() else { return Ok(rejected()) };
        if let Err(why) = authorities.vouch(certificate, &name, peer, self.context.clock.now()) {
            return Ok(self.denied(user, "certificate", &why));
        }
        match self.context.partners.verify_vouched(&name, peer) {
            Ok(partner) => Ok(self.proved(partner, "certificate")),
            Err(denied) => Ok(self.denied(user, "certificate", &denied.to_string())),
        }
    }

    async fn authentication_banner(&mut self) -> Result<Option<String>, russh::Error> {
        Ok(self.context.banner())
    }

    async fn auth_succeeded(&mut self, session: &mut Session) -> Result<(), russh::Error> {
        match &self.turned_away {
            Some(why) => session.disconnect(Disconnect::TooManyConnections, why, "en"),
            None => Ok(()),
        }
    }

    async fn channel_open_session(
        &mut self,
        channel: Channel<Msg>,
        reply: ChannelOpenHandle,
        _session: &mut Session,
    ) -> Result<(), russh::Error> {
        let open = self.channels.len() as u32 + self.shared.serving.load(Ordering::Acquire);
        if open >= self.context.options.max_channels || self.shared.login.get().is_none() {
            reply.reject(ChannelOpenFailure::ResourceShortage).await;
            return Ok(());
        }
        self.channels.insert(channel.id(), channel);
        reply.accept().await;
        Ok(())
    }

    async fn channel_close(&mut self, channel: ChannelId, _session: &mut Session) -> Result<(), russh::Error> {
        self.channels.remove(&channel);
        Ok(())
    }

    async fn subsystem_request(
        &mut self,
        id: ChannelId,
        name: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        let (Some(login), "sftp", Some(channel)) = (self.shared.login.get(), name, self.channels.remove(&id)) else {
            return session.channel_failure(id);
        };
        session.channel_success(id)?;
        let (login, shared) = (login.clone(), self.shared.clone());
        shared.serving.fetch_add(1, Ordering::AcqRel);
        tokio::spawn(async move {
            service::serve(login, channel).await;
            shared.serving.fetch_sub(1, Ordering::AcqRel);
        });
        Ok(())
    }

    async fn shell_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<(), russh::Error> {
        self.no_shell(channel, session)
    }

    async fn exec_request(
        &mut self,
        channel: ChannelId,
        _command: &[u8],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        self.no_shell(channel, session)
    }

    async fn pty_request(
        &mut self,
        channel: ChannelId,
        _term: &str,
        _columns: u32,
        _rows: u32,
        _width: u32,
        _height: u32,
        _modes: &[(Pty, u32)],
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        // It is told that there is no shell when it asks for one.
        session.channel_success(channel)
    }

    async fn env_request(
        &mut self,
        channel: ChannelId,
        _name: &str,
        _value: &str,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn x11_request(
        &mut self,
        channel: ChannelId,
        _single: bool,
        _protocol: &str,
        _cookie: &str,
        _screen: u32,
        session: &mut Session,
    ) -> Result<(), russh::Error> {
        session.channel_failure(channel)
    }

    async fn agent_request(&mut self, channel: ChannelId, session: &mut Session) -> Result<bool, russh::Error> {
        session.channel_failure(channel)?;
        Ok(false)
    }
}
