//! One client's connection: it is served until the client or the server ends it.
//!
//! The task of the connection runs russh. Beside it this waits for what ends a session from
//! outside: time, an operator, a server that stops.

use std::{
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use russh::{
    Disconnect,
    server::{Handle, RunningSession, run_stream},
};
use tokio::{
    net::TcpStream,
    sync::Notify,
    time::{Instant, sleep_until, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info};

use crate::{
    doors::core::{Accepted, EndRequests, Link, SessionTime, Shutdown, words},
    partners::Origin,
};

use super::{client::Client, client_stream::ClientStream, context::SftpContext, sftp_session::SftpSession, shut_out};

/// The time that a client gets to read why it is disconnected.
const LAST_WORDS: Duration = Duration::from_secs(1);
/// The time between two looks at whether a session is busy that is to end when it is not.
const BUSY_STEP: Duration = Duration::from_millis(20);

/// The state that the connection and those who watch it share.
#[derive(Default)]
pub(super) struct Shared {
    login: OnceLock<Arc<SftpSession>>,
    logged_in: Notify,
    /// The connection is over.
    pub(super) gone: CancellationToken,
    /// Channels that serve.
    serving: AtomicU32,
}

/// A channel that serves, until it is dropped.
pub(super) struct Serving(Arc<Shared>);

impl Shared {
    /// A partner has logged in. There is one login on a connection.
    pub(super) fn log_in(&self, session: SftpSession) {
        let _ = self.login.set(Arc::new(session));
        self.logged_in.notify_one();
    }

    /// The session of the partner, once one has logged in.
    pub(super) fn login(&self) -> Option<&Arc<SftpSession>> {
        self.login.get()
    }

    /// One more channel serves.
    pub(super) fn serve(self: &Arc<Self>) -> Serving {
        self.serving.fetch_add(1, Ordering::AcqRel);
        Serving(self.clone())
    }

    /// Counts the channels that serve.
    pub(super) fn channels(&self) -> u32 {
        self.serving.load(Ordering::Acquire)
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.0.serving.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Serves a client until it or the server ends the connection: on the thread that calls it, if a partner has logged in
/// from its address before and its exchange of keys costs little.
pub(super) async fn serve(context: Arc<SftpContext>, accepted: Accepted<()>) {
    let Accepted { stream, link, .. } = accepted;
    let is_known = link.is_of_known();
    if is_known && !context.options.has_costly_exchanges() {
        let shared = Arc::new(Shared::default());
        let stream = ClientStream::new(stream, shared.clone());
        return converse(context, stream, link, shared).await;
    }
    // It leaves the runtime of this thread.
    let Ok(stream) = stream.into_std() else { return };
    let (threads, turns) = (context.handshakes.clone(), context.handshakes.turns.clone());
    let conversation = async move {
        let Ok(stream) = TcpStream::from_std(stream) else { return };
        let shared = Arc::new(Shared::default());
        let origin = Origin::of(link.peer.ip());
        let stream = ClientStream::in_turn(stream, shared.clone(), turns, origin, is_known);
        converse(context, stream, link, shared).await;
    };
    if let Err(error) = threads.run(conversation).await {
        debug!(%error, "a connection ended early");
    }
}

/// Speaks SSH with a client until one of both ends it.
async fn converse(context: Arc<SftpContext>, stream: ClientStream, link: Arc<Link>, shared: Arc<Shared>) {
    let end = EndWatch::new(&context, &shared, &link);
    let client = Client::new(context.clone(), link.clone(), shared.clone());
    let Some(running) = begin(&context, stream, client, &link).await else { return };
    let handle = running.handle();
    tokio::pin!(running);
    let why = tokio::select! {
        ended = &mut running => {
            if let Err(error) = ended {
                shut_out::tell(&context, &link, &error);
                debug!(peer = %link.peer, %error, "connection ended");
            }
            None
        }
        why = end.reached() => Some(why),
    };
    if let Some(why) = why {
        info!(peer = %link.peer, partner = link.partner().map(AsRef::as_ref), why, "closing a connection");
        goodbye(&handle, why).await;
        // It takes its time to notice that the client does not close; we do not.
        if timeout(LAST_WORDS, &mut running).await.is_err() {
            link.close(why);
            shared.gone.cancel();
            let _ = running.await;
        }
    }
    shared.gone.cancel();
    debug!(peer = %link.peer, "session is over");
}

/// Begins SSH; None when the client does not speak it in time.
async fn begin(
    context: &SftpContext,
    stream: ClientStream,
    client: Client,
    link: &Link,
) -> Option<RunningSession<Client>> {
    let grace = context.common.partners.limits().login_grace;
    match timeout(grace, run_stream(context.ssh.clone(), stream, client)).await {
        Ok(Ok(running)) => return Some(running),
        Ok(Err(error)) => debug!(peer = %link.peer, %error, "no SSH connection"),
        Err(_) => debug!(peer = %link.peer, "no SSH version in time"),
    }
    None
}

/// Sends SSH_MSG_DISCONNECT with the reason (RFC 4253, 11.1).
async fn goodbye(handle: &Handle, why: &str) {
    let said = handle.disconnect(Disconnect::ByApplication, words::capitalised(why), "en".to_owned());
    // A client that reads nothing is told nothing.
    let _ = timeout(LAST_WORDS, said).await;
}

/// Watches for the moment at which the server has to end the connection.
struct EndWatch<'a> {
    context: &'a SftpContext,
    shared: &'a Shared,
    requests: EndRequests,
    time: SessionTime,
}

impl<'a> EndWatch<'a> {
    fn new(context: &'a SftpContext, shared: &'a Shared, link: &Link) -> Self {
        Self { context, shared, requests: EndRequests::of(link), time: SessionTime::begin() }
    }

    /// Waits until it is reached, and returns the reason.
    async fn reached(mut self) -> &'static str {
        loop {
            let wakes = match self.look() {
                Ok(wakes) => wakes,
                Err(why) => return why,
            };
            tokio::select! {
                () = self.requests.changed() => {}
                () = self.shared.logged_in.notified() => {}
                () = sleep_until(wakes) => {}
            }
        }
    }

    /// The time of the next look, or the reason why the end is reached.
    fn look(&mut self) -> Result<Instant, &'static str> {
        let (login, now) = (self.shared.login(), Instant::now());
        if let Some(login) = login {
            self.requests.logged_in(&login.partner);
            self.time.active_at(now.checked_sub(login.ticket.idle()).unwrap_or(now));
        }
        let limits = self.context.common.partners.limits();
        let ends = self.time.over(&limits, now).map_or_else(|| Ok(self.time.ends(&limits)), Err);
        match self.requests.latest() {
            Shutdown::No => ends,
            Shutdown::Now(why) => Err(why),
            // It may finish its present request.
            Shutdown::Graceful(_) if login.is_some_and(|login| login.is_busy()) => {
                ends.map(|at| at.min(now + BUSY_STEP))
            }
            Shutdown::Graceful(why) => Err(why),
        }
    }
}
