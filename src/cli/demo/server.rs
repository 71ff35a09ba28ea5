//! The demo's server: a real `forebay serve` in a process of its own, on temporary data and free
//! ports.
//!
//! Ports are chosen by the system and asked of `status` by the admin socket. The process is killed
//! when the demo is dropped, so an interrupted one leaves nothing that runs.

use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Stdio,
    time::Duration,
};

use tokio::process::{Child, Command};

use crate::operate::{Client, FileView, Piece, Problem, Reply, Request, StatusView, Which};

/// The time that the server may take to be ready.
const START: Duration = Duration::from_secs(20);

/// The server's process, and where to find it.
pub(super) struct Server {
    child: Child,
    dir: PathBuf,
    pub(super) ftp: SocketAddr,
    pub(super) sftp: SocketAddr,
    /// The fingerprints of its host keys.
    pub(super) host_keys: String,
    pub(super) web: SocketAddr,
}

/// The addresses of the running server.
struct Doors {
    ftp: SocketAddr,
    sftp: SocketAddr,
    host_keys: String,
    web: SocketAddr,
}

impl Server {
    /// Starts it and waits until it answers.
    /// # Errors
    /// When it ends by itself, with its log, or is not ready in time.
    pub(super) async fn start(dir: &Path) -> Result<Self, Problem> {
        let program = std::env::current_exe().map_err(|error| failed("find this program", &error))?;
        let log = fs::OpenOptions::new().create(true).append(true).open(dir.join("server.log"));
        let log = log.map_err(|error| failed("write the server's log", &error))?;
        let mut command = Command::new(program);
        command.arg("serve").arg("--config").arg(dir.join("forebay.toml")).arg("--json");
        // Its greeting is not read: a pipe that nobody reads would fill.
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).kill_on_drop(true);
        let mut child = command.spawn().map_err(|error| failed("start the server", &error))?;
        let ready = async {
            loop {
                if let Some(found) = doors(dir).await {
                    return Ok(found);
                }
                // A server that ends says why in its log: waiting on would hide it.
                if let Ok(Some(status)) = child.try_wait() {
                    let log = fs::read_to_string(dir.join("server.log")).unwrap_or_default();
                    return Err(Problem::failed(format!("the server ended with {status}:\n{log}")));
                }
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        let ready = tokio::time::timeout(START, ready).await;
        let doors = ready.map_err(|_| Problem::failed("the server was not ready in 20 s"))??;
        let Doors { ftp, sftp, host_keys, web } = doors;
        Ok(Self { child, dir: dir.to_owned(), ftp, sftp, host_keys, web })
    }

    /// Its process.
    pub(super) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Kills it as `kill -9` does.
    pub(super) async fn kill(mut self) -> Result<(), Problem> {
        self.child.kill().await.map_err(|error| failed("kill the server", &error))
    }

    /// Asks it to stop, and waits until it has.
    pub(super) async fn stop(mut self) -> Result<(), Problem> {
        if let Some(pid) = self.child.id().and_then(|pid| rustix::process::Pid::from_raw(pid.cast_signed())) {
            rustix::process::kill_process(pid, rustix::process::Signal::TERM)
                .map_err(|error| failed("stop the server", &error.into()))?;
        }
        let ended = tokio::time::timeout(Duration::from_secs(30), self.child.wait()).await;
        match ended {
            Ok(Ok(status)) if status.success() => Ok(()),
            Ok(Ok(status)) => Err(Problem::failed(format!("the server ended with {status}"))),
            Ok(Err(error)) => Err(failed("wait for the server", &error)),
            Err(_) => Err(Problem::failed("the server did not stop in 30 s")),
        }
    }

    /// The files, as `forebay queue list --json` gives them.
    pub(super) async fn files(&self) -> Result<Vec<FileView>, Problem> {
        let request = Request::QueueList { which: Which::default(), since: None, limit: None };
        let replies = ask(&self.dir, request).await?;
        let files = replies.into_iter().filter_map(|reply| match reply {
            Reply::File(file) => Some(file),
            _ => None,
        });
        Ok(files.collect())
    }
}

/// Nothing until every door of the demo is there.
async fn doors(dir: &Path) -> Option<Doors> {
    let replies = ask(dir, Request::Status).await.ok()?;
    let status: Box<StatusView> = replies.into_iter().find_map(|reply| match reply {
        Reply::Status(status) => Some(status),
        _ => None,
    })?;
    let doors = status.server?.doors;
    let of = |name: &str| doors.iter().find(|door| door.door == name);
    let at = |name: &str| of(name)?.address.parse().ok();
    Some(Doors { ftp: at("ftp")?, sftp: at("sftp")?, host_keys: of("sftp")?.note.clone()?, web: at("web")? })
}

/// Asks the server over its admin socket, and returns the whole answer.
pub(super) async fn ask(dir: &Path, request: Request) -> Result<Vec<Reply>, Problem> {
    let client = Client::connect(&dir.join("data")).await.map_err(|error| failed("reach the server", &error))?;
    let client = client.ok_or_else(|| Problem::needs_server("the server does not run"))?;
    let mut conversation = client.ask(&request).await.map_err(|error| failed("ask the server", &error))?;
    let mut replies = Vec::new();
    while let Some(piece) = conversation.next().await? {
        if let Piece::Reply(reply) = piece {
            replies.push(reply);
        }
    }
    Ok(replies)
}

pub(super) fn failed(doing: &str, error: &std::io::Error) -> Problem {
    Problem::failed(format!("cannot {doing}: {error}"))
}
