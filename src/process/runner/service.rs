//! The runner itself: its socket, and the attempts that it runs.

use std::{
    collections::HashMap,
    fs::{self, DirBuilder, File},
    io,
    os::{
        fd::AsFd,
        unix::fs::{DirBuilderExt as _, PermissionsExt as _},
    },
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::FlockOperation,
    process::geteuid,
};
use tokio::{
    net::{UnixListener, UnixStream},
    sync::Notify,
    task::JoinSet,
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::run::run;
use crate::process::{ChildrenError, children::stop_all};

/// The time between TERM and KILL for what a former runner left.
const KILL_FORMER_AFTER: Duration = Duration::from_secs(5);

/// Where a runner listens, and for whom.
#[derive(Clone, Debug)]
pub struct Options {
    /// The socket. Its directory must be there.
    pub socket: PathBuf,
    /// The directory of the attempts, made when it is missing.
    pub directory: PathBuf,
    /// The server's user.
    pub server: u32,
}

/// Why a runner does not run.
#[derive(Debug, thiserror::Error)]
pub enum RunnerError {
    /// Its user is one that would defeat its purpose.
    #[error("{0}")]
    User(String),
    /// Programs of a former runner run on.
    #[error(transparent)]
    Former(#[from] ChildrenError),
    /// The system refused an action.
    #[error("{doing}: {source}")]
    Io {
        /// The action that failed.
        doing: String,
        /// The error of the system.
        #[source]
        source: io::Error,
    },
}

/// What all attempts of a runner share.
pub(super) struct Shared {
    pub(super) directory: PathBuf,
    /// The value of `FOREBAY_RUNNER`.
    pub(super) mark: PathBuf,
    pub(super) stopping: CancellationToken,
    runs: Mutex<HashMap<u64, Arc<UnixStream>>>,
    next: AtomicU64,
    ended: Notify,
}

/// An attempt's place among those that run.
pub(super) struct Entered {
    shared: Arc<Shared>,
    number: u64,
}

impl Drop for Entered {
    fn drop(&mut self) {
        self.shared.runs.lock().remove(&self.number);
        self.shared.ended.notify_waiters();
    }
}

impl Shared {
    /// A number that no attempt had before.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// Registers an attempt until the place is dropped.
    pub(super) fn enter(self: &Arc<Self>, stream: &Arc<UnixStream>) -> Entered {
        let number = self.number();
        self.runs.lock().insert(number, Arc::clone(stream));
        Entered { shared: Arc::clone(self), number }
    }

    /// Waits until no program runs whose server has gone.
    pub(super) async fn until_former_ended(&self) {
        loop {
            // Before the look: an attempt that ends between the two would wake nobody.
            let ended = self.ended.notified();
            if !self.runs.lock().values().any(is_gone) {
                return;
            }
            ended.await;
        }
    }
}

/// Returns true if the other end of a connection is closed.
pub(super) fn is_gone(stream: &impl AsFd) -> bool {
    let mut one = [PollFd::new(stream, PollFlags::RDHUP)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    // An error of the look itself counts as gone: such a connection is of no use.
    poll(&mut one, Some(&now)).is_err()
        || one[0].revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR)
}

/// Runs programs until `stop`, and then stops them. `ready` is called when it listens.
///
/// # Errors
/// When it cannot begin.
pub async fn serve(options: Options, stop: CancellationToken, ready: impl FnOnce()) -> Result<(), RunnerError> {
    check_users(&options)?;
    let failed = |doing: &str, path: &Path| {
        let doing = format!("cannot {doing} {}", path.display());
        move |source| RunnerError::Io { doing, source }
    };
    let directory = options.directory.join("attempts");
    DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(&options.directory)
        .map_err(failed("make", &options.directory))?;
    // One runner on a directory: the next statement stops what another one runs.
    let _lock = lock(&options.directory.join("lock")).map_err(failed("lock", &options.directory))?;
    let socket = std::path::absolute(&options.socket).map_err(failed("find", &options.socket))?;
    // Before anything is taken: what a former runner left may have a file in work that comes again.
    stop_all(&format!("FOREBAY_RUNNER={}", socket.display()), Vec::new(), KILL_FORMER_AFTER).await?;
    match fs::remove_dir_all(&directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed("empty", &directory)(error)),
        _ => {}
    }
    let listener = bind(&socket).map_err(failed("listen on", &socket))?;
    let shared = Arc::new(Shared {
        directory,
        mark: socket.clone(),
        stopping: stop,
        runs: Mutex::default(),
        next: AtomicU64::new(0),
        ended: Notify::new(),
    });
    info!(socket = %socket.display(), server = options.server, "the runner is ready");
    // Only now: a server that is told connects at once.
    ready();
    accept(listener, options.server, shared).await;
    // A socket without a runner is found out at the next connect anyway.
    let _ = fs::remove_file(&socket);
    Ok(())
}

/// Refuses users by which a runner would be no protection.
fn check_users(options: &Options) -> Result<(), RunnerError> {
    let own = geteuid();
    if own.is_root() {
        return Err(RunnerError::User(
            "a runner does not run as root: its programs would be root; give it a user of its own".to_owned(),
        ));
    }
    // The kernel tells servers by their user: with the same one, every program of a route could
    // order programs here.
    if own.as_raw() == options.server {
        return Err(RunnerError::User(
            "the runner's user is the server's: its programs would reach all that the server reaches; give it a user of \
             its own"
                .to_owned(),
        ));
    }
    Ok(())
}

fn lock(path: &Path) -> io::Result<File> {
    let file = File::options().write(true).create(true).truncate(false).open(path)?;
    rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive)?;
    Ok(file)
}

fn bind(socket: &Path) -> io::Result<UnixListener> {
    match fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let listener = UnixListener::bind(socket)?;
    // Whoever connects is asked for by the kernel.
    fs::set_permissions(socket, fs::Permissions::from_mode(0o666))?;
    Ok(listener)
}

async fn accept(listener: UnixListener, server: u32, shared: Arc<Shared>) {
    let mut runs = JoinSet::new();
    loop {
        let stream = tokio::select! {
            () = shared.stopping.cancelled() => break,
            Some(_) = runs.join_next() => continue,
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    warn!(%error, "cannot accept");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                    continue;
                }
            },
        };
        match stream.peer_cred() {
            Ok(peer) if peer.uid() == server => {}
            Ok(peer) => {
                warn!(uid = peer.uid(), "refused a user that is not the server's");
                continue;
            }
            Err(error) => {
                warn!(%error, "refused a connection of nobody");
                continue;
            }
        }
        let shared = Arc::clone(&shared);
        runs.spawn(async move {
            if let Err(error) = run(Arc::new(stream), shared).await {
                warn!(%error, "an attempt was given up");
            }
        });
    }
    // First: a server that connects now is refused, and does not wait for attempts that end.
    drop(listener);
    while runs.join_next().await.is_some() {}
}
