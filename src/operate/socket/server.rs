//! The end of the socket that answers.
//!
//! Each conversation is a task of its own: one request, one answer, then the connection ends.
//! Operators are let in even when the process is out of file descriptors: some are kept aside for
//! that, since that is just when an operator wants to see what is wrong.

use std::{
    fs, io,
    os::{fd::OwnedFd, unix::fs::PermissionsExt as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay_queue::Actor;
use tokio::{
    io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader, BufWriter},
    net::{UnixListener, UnixStream},
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use super::{
    place::{NAME, Place},
    secret::{self, Asked},
    wire,
};
use crate::{
    descriptors,
    operate::{answer::Answer, operator::Operator, problem::Problem, reply::Reply, system_users},
    telemetry::Repeated,
};

/// Operators that are served at once.
/// More wait in the listener's backlog. A `--follow` holds one for as long as it lasts.
const AT_ONCE: usize = 64;

/// Descriptors that are kept for an operator.
/// The connection itself, and the files that a request opens, such as an account and its directory.
const SPARES: usize = 6;
/// The time between two tries to make the socket where there is no room.
const TRY_AGAIN: Duration = Duration::from_secs(1);
/// The pause when a connection cannot be accepted.
const RETRY: Duration = Duration::from_millis(100);
static FAILED: Repeated = Repeated::new();

/// The time that an operator may take to send a request.
/// A client has its request ready when it connects: only a machine that is very busy needs seconds.
const ASK_WITHIN: Duration = Duration::from_secs(30);

/// The listening socket. Its file stays when this goes, for who connects then finds out that nobody listens: a start on a
/// file system that has no inode left could not make another.
#[derive(Debug)]
pub struct AdminSocket {
    data: PathBuf,
    /// None: there was no room for it.
    listening: Option<Listening>,
}

#[derive(Debug)]
struct Listening {
    listener: UnixListener,
    secret: Arc<str>,
}

impl AdminSocket {
    /// Listens in `data`, whose lock the caller holds: a socket that is there is a dead server's. Where there is no room for
    /// it the server starts all the same, and [`AdminSocket::run`] makes it when there is some.
    ///
    /// # Errors
    /// When it cannot be made.
    pub fn bind(data: &Path) -> io::Result<Self> {
        let listening = match Listening::begin(data) {
            Err(error) if is_full(&error) => {
                error!(%error, "no room for {NAME}: commands cannot reach this server until there is some");
                None
            }
            begun => Some(begun?),
        };
        Ok(Self { data: data.to_owned(), listening })
    }

    /// The listener, made as soon as there is room for it. None at the shutdown.
    async fn listening(&mut self, shutdown: &CancellationToken) -> Option<Listening> {
        loop {
            if let Some(listening) = self.listening.take() {
                return Some(listening);
            }
            tokio::select! {
                () = shutdown.cancelled() => return None,
                () = tokio::time::sleep(TRY_AGAIN) => {}
            }
            // It has been told that there is no room.
            self.listening = Listening::begin(&self.data).inspect(|_| info!("{NAME} is there")).ok();
        }
    }

    /// Answers until `shutdown`, and then ends every conversation.
    /// Failures of single conversations are logged at `debug`; accepting goes on after any error,
    /// with a pause.
    ///
    /// Cancel safety: meant to be ended by `shutdown`. Dropped, conversations are cut.
    pub async fn run(mut self, operator: Arc<Operator>, shutdown: CancellationToken) {
        let Some(Listening { listener, secret }) = self.listening(&shutdown).await else { return };
        let mut conversations = JoinSet::new();
        let mut spares = Vec::new();
        keep_spares(&mut spares);
        loop {
            let stream = tokio::select! {
                () = shutdown.cancelled() => break,
                Some(_) = conversations.join_next() => {
                    keep_spares(&mut spares);
                    continue;
                }
                accepted = listener.accept(), if conversations.len() < AT_ONCE => match accepted {
                    Ok((stream, _)) => stream,
                    Err(error) => {
                        // Operators come first: what is kept for them is free for the one who waits, and for its request.
                        if descriptors::are_spent(&error) && !spares.is_empty() {
                            spares.clear();
                            continue;
                        }
                        if let Some(untold) = FAILED.happened() {
                            warn!(%error, untold, "cannot accept on the admin socket");
                        }
                        tokio::time::sleep(RETRY).await;
                        continue;
                    }
                },
            };
            let (operator, secret) = (Arc::clone(&operator), Arc::clone(&secret));
            conversations.spawn(async move {
                if let Err(error) = converse(stream, operator, &secret).await {
                    debug!(%error, "an operator's connection ended");
                }
            });
        }
        conversations.shutdown().await;
    }
}

impl Listening {
    /// The mode is set after the binding: in between the directory's own 0700 keeps others out.
    fn begin(data: &Path) -> io::Result<Self> {
        let place = Place::new(data)?;
        match fs::remove_file(data.join(NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        // Before it listens: a client reads the secret after it has connected.
        let secret = secret::find_or_make(data)?.into();
        let listener = UnixListener::bind(place.path())?;
        fs::set_permissions(place.path(), fs::Permissions::from_mode(0o600))?;
        Ok(Self { listener, secret })
    }
}

fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Takes descriptors that are given back when an operator finds none. What cannot be had is not.
fn keep_spares(spares: &mut Vec<OwnedFd>) {
    while spares.len() < SPARES {
        match fs::File::open("/dev/null") {
            Ok(file) => spares.push(file.into()),
            Err(_) => return,
        }
    }
}

/// Answers one request. Peers of another user, and those without the secret, get a refusal.
///
/// # Errors
/// The client's: gone, silent for too long, or not reading.
async fn converse(stream: UnixStream, operator: Arc<Operator>, secret: &str) -> io::Result<()> {
    // Asked of the kernel: nothing that the peer sends can change it.
    let uid = stream.peer_cred()?.uid();
    let (reader, writer) = stream.into_split();
    let (mut reader, mut writer) = (BufReader::new(reader), BufWriter::new(writer));
    if uid != 0 && uid != rustix::process::geteuid().as_raw() {
        warn!(uid, "refused a user at the admin socket");
        let problem = Problem::failed("only the server's own user and root may ask this server");
        wire::line(&mut writer, &Reply::Failed(problem)).await?;
        return writer.flush().await;
    }
    // Whoever connects and says nothing takes a place from others.
    let asked = tokio::time::timeout(ASK_WITHIN, wire::read_line(&mut reader)).await;
    let Some(text) = asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))?? else { return Ok(()) };
    let request = match serde_json::from_slice::<Asked>(&text) {
        Ok(asked) if asked.secret == secret => asked.request,
        Ok(_) => {
            warn!(uid, "refused a request at the admin socket that does not have its secret");
            let problem =
                Problem::failed("the request does not have the secret of admin.secret in this server's data directory");
            wire::line(&mut writer, &Reply::Failed(problem)).await?;
            return writer.flush().await;
        }
        Err(error) => {
            let what = format!("the server does not understand the request ({error}); is it another version?");
            wire::line(&mut writer, &Reply::Failed(Problem::usage(what))).await?;
            return writer.flush().await;
        }
    };
    let (answer, mut pieces) = Answer::channel();
    let actor = Actor::Operator(system_users::name_of(uid));
    // In a task of its own: when the client goes, this end of the answer is dropped, and the deed
    // itself is not.
    let work = tokio::spawn(async move { operator.answer(request, actor, answer).await });
    loop {
        let piece = tokio::select! {
            piece = pieces.recv() => piece,
            // The client says nothing more: whatever comes now is its end.
            _ = reader.fill_buf() => break,
        };
        let Some(piece) = piece else { break };
        wire::write(&mut writer, piece).await?;
        if pieces.is_empty() {
            writer.flush().await?;
        }
    }
    writer.flush().await?;
    drop(pieces);
    // A change that was begun is finished; a stream notices at its next piece that nobody listens.
    work.await.map_err(io::Error::other)
}
