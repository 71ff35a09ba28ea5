//! One attempt in a runner: from the server's connection to the program's status.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Seek as _},
    os::{
        fd::{AsFd as _, OwnedFd},
        unix::{fs::OpenOptionsExt as _, process::CommandExt as _, process::ExitStatusExt as _},
    },
    path::PathBuf,
    pin::pin,
    process::{Command, Stdio},
    sync::Arc,
    time::Duration,
};

use rustix::process::Signal;
use tokio::{
    io::Interest,
    net::UnixStream,
    task,
    time::{self, Instant},
};
use tracing::{debug, warn};

use super::{
    service::Shared,
    wire::{self, Prepare, Said},
};
use crate::process::{group::Group, program, scratch::Scratch};

/// The time that a server may take to say what it wants.
const ASK_WITHIN: Duration = Duration::from_secs(30);
/// The longest time between TERM and KILL.
const LONGEST_KILL_AFTER: Duration = Duration::from_secs(600);

/// What a program needs, in a directory of its own.
struct Prepared {
    prepare: Prepare,
    scratch: Scratch,
    file: File,
    output: OwnedFd,
}

/// Carries out what this connection asks for.
///
/// The server sends what is needed (`Prepare`) with two descriptors; then one byte to begin, and
/// bytes for signals. Nothing is started before that byte: it is sent under the gate's lock.
pub(super) async fn run(stream: Arc<UnixStream>, shared: Arc<Shared>) -> io::Result<()> {
    let asked = time::timeout(ASK_WITHIN, receive(&stream)).await;
    let (prepare, descriptors) = asked.map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
    // Of its own, also when an attempt of the same number is still being cleaned up.
    let dir = shared.directory.join(format!("{}-{}-{}", prepare.file, prepare.number, shared.number()));
    // Off the runtime: the file may be large, and the copy slow.
    let prepared = task::spawn_blocking(move || place(dir, prepare, descriptors)).await.map_err(io::Error::other)?;
    let Prepared { prepare, scratch, file, output } = match prepared {
        Ok(prepared) => prepared,
        Err(error) => return say(&stream, &Said::Refused(format!("cannot prepare the attempt: {error}"))).await,
    };
    // The server that was cut off here may have had the same file in work.
    shared.until_former_ended().await;
    say(&stream, &Said::Ready).await?;
    if asked_for(&stream).await? != wire::GO {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "it asks for something before the program has begun"));
    }
    let entered = shared.enter(&stream);
    // A server that has gone away in the meantime, with its word on the way, has given the attempt up.
    if shared.stopping.is_cancelled() || super::service::is_gone(&stream) {
        return Ok(());
    }
    let group = command(&shared, &prepare, &scratch, file, output)
        .and_then(|command| Group::start(command, |command| command.spawn()));
    let group = match group {
        Ok(group) => group,
        Err(error) => {
            let program = prepare.command.first().cloned().unwrap_or_default();
            return say(&stream, &Said::Refused(format!("cannot start {program}: {error}"))).await;
        }
    };
    debug!(attempt = %prepare.file, number = prepare.number, "started");
    // One that cannot be told is noticed as gone below.
    let _ = say(&stream, &Said::Started(group.identity())).await;
    let kill_after = Duration::from_millis(prepare.kill_after_ms).min(LONGEST_KILL_AFTER);
    let ended = attend(&stream, &shared, &group, kill_after).await;
    // Before it is reaped, and before the server hears of the end: nothing of the group is left
    // when it does.
    group.end_rest();
    let status = group.reap()?;
    // Before the server hears of it, so that nothing is left of what has ended.
    let _ = task::spawn_blocking(move || drop(scratch)).await;
    drop(entered);
    match ended {
        End::Own => say(&stream, &Said::Ended(status.into_raw())).await,
        End::Stopped => Ok(()),
    }
}

/// How a program came to its end.
enum End {
    /// By itself, or as the server asked.
    Own,
    /// The server went away, or the runner stops.
    Stopped,
}

/// Waits for the end of a program, signals it as the server asks, and stops it when the server is gone or the runner
/// is to stop.
async fn attend(stream: &UnixStream, shared: &Shared, group: &Group, kill_after: Duration) -> End {
    let mut end = End::Own;
    let mut bell = pin!(time::sleep(kill_after));
    let mut killed = false;
    loop {
        let is_own = matches!(end, End::Own);
        tokio::select! {
            biased;
            ended = group.ended() => {
                if let Err(error) = ended {
                    warn!(%error, "cannot wait for a program, which is killed");
                    end = End::Stopped;
                }
                return end;
            }
            // Also the end of the connection: a server that is gone wants nothing more.
            asked = asked_for(stream), if is_own => match asked {
                Ok(wire::TERM) => group.signal(Signal::TERM),
                Ok(wire::KILL) => group.signal(Signal::KILL),
                Ok(_) | Err(_) => end = End::Stopped,
            },
            () = shared.stopping.cancelled(), if is_own => end = End::Stopped,
            () = &mut bell, if !is_own && !killed => {
                killed = true;
                group.signal(Signal::KILL);
            }
        }
        if is_own && matches!(end, End::Stopped) {
            group.signal(Signal::TERM);
            bell.as_mut().reset(Instant::now() + kill_after);
        }
    }
}

/// Receives the first frame of a connection, with its descriptors.
async fn receive(stream: &UnixStream) -> io::Result<(Prepare, Vec<OwnedFd>)> {
    let (mut bytes, mut descriptors) = (Vec::new(), Vec::new());
    let mut buffer = vec![0; 64 << 10];
    loop {
        let got = stream.async_io(Interest::READABLE, || wire::receive_first(stream.as_fd(), &mut buffer)).await?;
        if got.0 == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        bytes.extend_from_slice(&buffer[..got.0]);
        descriptors.extend(got.1);
        // A frame may come in pieces; the descriptors come with its first byte.
        let Some((length, rest)) = bytes.split_first_chunk() else { continue };
        let length = wire::length_of(*length)?;
        if rest.len() >= length {
            return Ok((serde_json::from_slice(&rest[..length])?, descriptors));
        }
    }
}

/// Makes the attempt's directory, with a copy of the file. Blocks.
fn place(dir: PathBuf, prepare: Prepare, descriptors: Vec<OwnedFd>) -> io::Result<Prepared> {
    // Before anything of it is used: another version may mean something else by it.
    if prepare.version != wire::VERSION {
        return Err(io::Error::other("server and runner are of different versions: restart both"));
    }
    let Ok([file, output]) = <[OwnedFd; 2]>::try_from(descriptors) else {
        return Err(io::Error::other("the file or the output is missing"));
    };
    let scratch = Scratch::make_at(dir, &prepare.name)?;
    let mut file = File::from(file);
    if prepare.is_message {
        // In memory, and sealed by the server.
        return Ok(Prepared { prepare, scratch, file, output });
    }
    let mut copy = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(scratch.file())?;
    // A copy of its own, so that the program never has the server's file.
    if rustix::fs::ioctl_ficlone(&copy, &file).is_err() {
        io::copy(&mut file, &mut copy)?;
        // The program reads this descriptor from the beginning.
        file.rewind()?;
    }
    Ok(Prepared { prepare, scratch, file, output })
}

/// The command with its environment, working directory and streams.
fn command(shared: &Shared, prepare: &Prepare, scratch: &Scratch, file: File, output: OwnedFd) -> io::Result<Command> {
    let mut environment = program::own_environment();
    let given = prepare.variables.iter().map(|(name, value)| (OsString::from(name), OsString::from(value)));
    environment.extend(given);
    let name = prepare.command.first().ok_or_else(|| io::Error::other("there is no command"))?;
    let path = environment.get(&OsString::from("PATH")).cloned().unwrap_or_default();
    let program = program::find(name, &path)
        .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, "PATH does not lead to it"))?;
    let mut command = Command::new(program);
    command.arg0(name).args(&prepare.command[1..]).current_dir(scratch.dir());
    command.env_clear().envs(environment);
    if !prepare.is_message {
        command.env("FOREBAY_PATH", scratch.file());
    }
    // The runner's own mark last: no route can set it to something else.
    command.env("FOREBAY_RUNNER", &shared.mark);
    let output = File::from(output);
    command.stdin(file).stdout(Stdio::from(output.try_clone()?)).stderr(Stdio::from(output));
    Ok(command)
}

/// Waits for the next byte that the server sends. Cancel safe. An error when the connection has
/// ended.
async fn asked_for(stream: &UnixStream) -> io::Result<u8> {
    let mut byte = [0];
    loop {
        stream.readable().await?;
        match stream.try_read(&mut byte) {
            Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
            Ok(_) => return Ok(byte[0]),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
}

async fn say(stream: &UnixStream, said: &Said) -> io::Result<()> {
    let bytes = wire::encode(said)?;
    let mut rest = &bytes[..];
    while !rest.is_empty() {
        stream.writable().await?;
        match stream.try_write(rest) {
            Ok(count) => rest = &rest[count..],
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
