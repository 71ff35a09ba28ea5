//! One process at a time on a data directory.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _},
    os::unix::fs::{DirBuilderExt as _, FileExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use rustix::fs::FlockOperation;

/// The lock on a data directory, held while this lives and given back by the kernel whatever ends the process.
#[derive(Debug)]
pub struct DataLock {
    _file: File,
}

/// Why the lock was not given.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process has it.
    #[error("{holder} has {data} open; stop it first, or name another directory with --data")]
    Held {
        /// The holder, as it wrote itself into the lock.
        holder: Holder,
        /// The directory.
        data: PathBuf,
    },
    /// The machine said no.
    #[error("{doing}: {source}")]
    Io {
        /// The action that failed.
        doing: String,
        /// The error of the system.
        source: io::Error,
    },
}

/// The process that holds a lock.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Holder {
    /// The process, if it is known.
    pub pid: Option<u32>,
    /// The verb it runs.
    pub verb: String,
}

impl std::fmt::Display for Holder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.pid {
            Some(pid) => write!(f, "process {pid} (forebay {})", self.verb),
            None => f.write_str("another process"),
        }
    }
}

/// The time for which the lock of a server that is gone may still be held.
const AFTER_A_KILL: Duration = Duration::from_secs(2);

impl DataLock {
    /// Takes the lock of `data` for `verb`, waiting up to `patience` for a short-lived command.
    ///
    /// # Errors
    /// When another process keeps it.
    pub fn take(data: &Path, verb: &str, patience: Duration) -> Result<Self, LockError> {
        let path = data.join("lock");
        let io = |doing: &str, source| LockError::Io { doing: format!("cannot {doing} {}", path.display()), source };
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path)
            .map_err(|error| io("open", error))?;
        let step = Duration::from_millis(20);
        let mut waited = Duration::ZERO;
        while let Err(error) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            if error != rustix::io::Errno::WOULDBLOCK {
                return Err(io("lock", error.into()));
            }
            let holder = holder(&mut file);
            // A server that was killed while it started a program: that child has the lock until its own exec.
            let gone = holder.pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists());
            let patience = if gone { patience.max(AFTER_A_KILL) } else { patience };
            if (holder.verb == "serve" && !gone) || waited >= patience {
                return Err(LockError::Held { holder, data: data.to_owned() });
            }
            std::thread::sleep(step);
            waited += step;
        }
        // The lock is ours already: that nobody can read whose it is is no reason not to start.
        if let Err(error) = sign(&file, verb) {
            tracing::warn!(path = %path.display(), %error, "cannot write who has the lock of the data directory");
        }
        Ok(Self { _file: file })
    }
}

/// The length of what a holder writes of itself. Always the same, so that it is written over what is there and needs no
/// room on a full disk.
const SIGNED_BYTES: usize = 64;

/// Writes who has the lock, for the messages of others. The lock itself does not depend on it.
fn sign(file: &File, verb: &str) -> io::Result<()> {
    let line = format!("{} {verb}", std::process::id());
    let line = &line[..line.floor_char_boundary(SIGNED_BYTES - 1)];
    file.write_all_at(format!("{line:<width$}\n", width = SIGNED_BYTES - 1).as_bytes(), 0)?;
    if file.metadata()?.len() > SIGNED_BYTES as u64 { file.set_len(SIGNED_BYTES as u64) } else { Ok(()) }
}

/// Reads who has the lock; nobody known when that cannot be read.
pub(super) fn holder(file: &mut File) -> Holder {
    let mut text = String::new();
    if file.rewind().and_then(|()| file.read_to_string(&mut text)).is_err() {
        return Holder::default();
    }
    match text.trim().split_once(' ') {
        Some((pid, verb)) => Holder { pid: pid.parse().ok(), verb: verb.to_owned() },
        None => Holder::default(),
    }
}

/// Creates a directory, 0700, with its parents; one that is there keeps its mode.
///
/// # Errors
/// When it cannot be made.
pub fn private_dir(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_one_is_told_who_has_it() {
        let dir = tempfile::tempdir().unwrap();
        let first = DataLock::take(dir.path(), "serve", Duration::ZERO).unwrap();
        let error = DataLock::take(dir.path(), "queue list", Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (forebay serve)", std::process::id())), "{error}");
        drop(first);
        // Whatever a holder before has left in the file.
        fs::write(dir.path().join("lock"), "1 a verb of another version\n".repeat(9)).unwrap();
        let _lock = DataLock::take(dir.path(), "partner add", Duration::ZERO).unwrap();
        let error = DataLock::take(dir.path(), "serve", Duration::ZERO).unwrap_err().to_string();
        assert!(error.contains(&format!("process {} (forebay partner add)", std::process::id())), "{error}");
    }
}
