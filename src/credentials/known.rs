//! Addresses that accounts have logged in from.
//!
//! Nobody is locked out of an address of its own by strangers who guess at its name elsewhere, and a connection from such
//! an address needs no luck while strangers flood the server. So they are remembered over restarts.
//!
//! # Guarantees
//! A login is answered without waiting for the disk: a thread writes what is new. The file is replaced whole
//! (`durable_file`).
//!
//! # After a crash
//! The file is as before or as after the last write. What was not written yet, or cannot be read, is learned again from
//! the next logins; nothing else depends on it.

use std::{
    collections::{BTreeMap, HashMap},
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, mpsc},
    thread::{self, JoinHandle},
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::warn;

use crate::{clock::Clock, durable_file, origin::Origin};

/// The file, beside the accounts: no name of an account begins with a dot.
const FILE: &str = ".origins.json";
const VERSION: u32 = 1;
/// Most names, and most addresses of each, that are remembered.
const MOST_NAMES: usize = 8192;
const MOST_OF_NAME: usize = 8;
/// An address that nobody has logged in from for so long is forgotten.
const KEEP: Duration = Duration::from_secs(90 * 24 * 60 * 60);
/// A login is written again when the last one that was written is so old.
const WRITE_AFTER: Duration = Duration::from_secs(24 * 60 * 60);

/// Addresses that accounts have logged in from, by the folded name of the account.
#[derive(Debug)]
pub struct KnownOrigins {
    clock: Arc<dyn Clock>,
    shared: Arc<Shared>,
    writer: Mutex<Option<Writer>>,
}

#[derive(Debug)]
struct Shared {
    /// None: nothing is written.
    file: Option<PathBuf>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    by_name: HashMap<String, Vec<Seen>>,
    /// The number of names that each belongs to.
    names_of: HashMap<Origin, u32>,
}

/// An address and the last login from it.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Seen {
    from: Origin,
    at: DateTime<Utc>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    version: u32,
    partners: BTreeMap<String, Vec<Seen>>,
}

#[derive(Debug)]
struct Writer {
    wake: mpsc::SyncSender<()>,
    thread: JoinHandle<()>,
}

impl KnownOrigins {
    /// Those that are remembered in this directory.
    #[must_use]
    pub fn open(directory: &Path, clock: Arc<dyn Clock>) -> Self {
        let file = directory.join(FILE);
        let mut known = Known::default();
        match read(&file) {
            Ok(Some(written)) => known.fill(written, clock.now()),
            Ok(None) => {}
            Err(error) => warn!(
                file = %file.display(), %error,
                "cannot read from where accounts have logged in; it is learned again from their next logins"
            ),
        }
        let shared = Arc::new(Shared { file: Some(file), known: Mutex::new(known) });
        Self { clock, shared, writer: Mutex::default() }
    }

    /// None yet, and none is written.
    #[cfg(test)]
    #[must_use]
    pub fn in_memory(clock: Arc<dyn Clock>) -> Self {
        Self { clock, shared: Arc::new(Shared { file: None, known: Mutex::default() }), writer: Mutex::default() }
    }

    /// Returns true if someone has logged in from there.
    #[must_use]
    pub fn is_known(&self, origin: Origin) -> bool {
        self.shared.known.lock().names_of.contains_key(&origin)
    }

    /// Returns true if this account has.
    #[must_use]
    pub fn is_of(&self, name: &str, origin: Origin) -> bool {
        let known = self.shared.known.lock();
        known.by_name.get(name).is_some_and(|seen| seen.iter().any(|one| one.from == origin))
    }

    /// The account has logged in from there.
    pub fn came(&self, name: &str, origin: Origin) {
        if self.shared.known.lock().add(name, Seen { from: origin, at: self.clock.now() }) {
            self.write();
        }
    }

    /// Forgets those of an account, and returns them.
    pub fn forget(&self, name: &str) -> Vec<Origin> {
        let origins = self.shared.known.lock().remove(name);
        if !origins.is_empty() {
            self.write();
        }
        origins
    }

    /// Has the thread write, which begins with the first thing to write.
    fn write(&self) {
        if self.shared.file.is_none() {
            return;
        }
        let mut writer = self.writer.lock();
        if writer.is_none() {
            *writer = Writer::start(&self.shared).inspect_err(|error| warn!(%error, "no thread is left")).ok();
        }
        if let Some(writer) = &*writer {
            // One that is woken already writes this too.
            let _ = writer.wake.try_send(());
        }
    }
}

/// What is new is written before the end of the server.
impl Drop for KnownOrigins {
    fn drop(&mut self) {
        if let Some(Writer { wake, thread }) = self.writer.get_mut().take() {
            // First the channel, which ends the thread; the other way round it would wait for ever.
            drop(wake);
            let _ = thread.join();
        }
    }
}

impl Writer {
    fn start(shared: &Arc<Shared>) -> io::Result<Self> {
        let (wake, woken) = mpsc::sync_channel(1);
        let shared = Arc::clone(shared);
        let thread = thread::Builder::new().name("known-origins".to_owned()).spawn(move || {
            let mut is_told = false;
            while woken.recv().is_ok() {
                match shared.write() {
                    Ok(()) => is_told = false,
                    // Said once: a full disk stays full for a while.
                    Err(error) if !is_told => {
                        is_told = true;
                        warn!(%error, "cannot write from where accounts have logged in; a restart would forget it");
                    }
                    Err(_) => {}
                }
            }
        })?;
        Ok(Self { wake, thread })
    }
}

impl Shared {
    fn write(&self) -> io::Result<()> {
        let Some(file) = &self.file else { return Ok(()) };
        // Copied under the lock and written without it: logins do not wait for the disk.
        let partners = self.known.lock().by_name.iter().map(|(name, seen)| (name.clone(), seen.clone())).collect();
        let text = serde_json::to_vec(&Written { version: VERSION, partners }).map_err(io::Error::other)?;
        Ok(durable_file::replace(file, &text)?)
    }
}

fn read(file: &Path) -> io::Result<Option<Written>> {
    let text = match fs::read(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let written: Written = serde_json::from_slice(&text)?;
    match written.version {
        VERSION => Ok(Some(written)),
        other => Err(io::Error::other(format!("it is of version {other}"))),
    }
}

impl Known {
    fn fill(&mut self, written: Written, now: DateTime<Utc>) {
        for (name, seen) in written.partners {
            for one in seen {
                // One from the future stays: the clock may have been set back since.
                if (now - one.at).to_std().is_ok_and(|age| age <= KEEP) || one.at > now {
                    self.add(&name, one);
                }
            }
        }
    }

    /// Remembers a login; true if it has to be written.
    fn add(&mut self, name: &str, seen: Seen) -> bool {
        // Full: those that are known stay. Only logins that succeeded come here, so nobody can push
        // others out by guessing.
        if self.by_name.len() >= MOST_NAMES && !self.by_name.contains_key(name) {
            return false;
        }
        let all = self.by_name.entry(name.to_owned()).or_default();
        if let Some(one) = all.iter_mut().find(|one| one.from == seen.from) {
            let is_old = (seen.at - one.at).to_std().is_ok_and(|age| age >= WRITE_AFTER);
            if is_old {
                one.at = seen.at;
            }
            return is_old;
        }
        let oldest = (all.len() >= MOST_OF_NAME).then(|| (0..all.len()).min_by_key(|at| all[*at].at)).flatten();
        let gone = oldest.map(|at| all.remove(at).from);
        all.push(seen);
        *self.names_of.entry(seen.from).or_default() += 1;
        gone.into_iter().for_each(|origin| self.one_less(origin));
        true
    }

    fn remove(&mut self, name: &str) -> Vec<Origin> {
        let origins: Vec<_> = self.by_name.remove(name).unwrap_or_default().iter().map(|seen| seen.from).collect();
        origins.iter().for_each(|origin| self.one_less(*origin));
        origins
    }

    fn one_less(&mut self, origin: Origin) {
        if let Some(names) = self.names_of.get_mut(&origin) {
            *names -= 1;
            if *names == 0 {
                self.names_of.remove(&origin);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SetClock;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    fn open(directory: &Path, clock: &SetClock) -> KnownOrigins {
        KnownOrigins::open(directory, Arc::new(clock.clone()))
    }

    #[test]
    fn they_last_over_restarts_and_not_for_ever() {
        let data = tempfile::tempdir().unwrap();
        let clock = SetClock::new(DateTime::UNIX_EPOCH);
        let known = open(data.path(), &clock);
        known.came("demo", origin("192.0.2.1"));
        known.came("lab", origin("192.0.2.1"));
        known.came("lab", origin("2001:db8::7"));
        drop(known);
        clock.advance(Duration::from_secs(60 * 60 * 24 * 80));
        let known = open(data.path(), &clock);
        assert!(known.is_of("demo", origin("192.0.2.1")) && known.is_of("lab", origin("2001:db8::9")));
        assert!(!known.is_of("demo", origin("2001:db8::7")) && known.is_known(origin("2001:db8::7")));
        known.came("demo", origin("192.0.2.1"));
        assert_eq!(known.forget("lab").len(), 2);
        assert!(known.is_known(origin("192.0.2.1")), "it is another partner's too");
        assert!(!known.is_known(origin("2001:db8::7")));
        drop(known);
        clock.advance(Duration::from_secs(60 * 60 * 24 * 80));
        let known = open(data.path(), &clock);
        assert!(known.is_of("demo", origin("192.0.2.1")), "it came again meanwhile");
        assert!(!known.is_of("lab", origin("192.0.2.1")));
        clock.advance(Duration::from_secs(60 * 60 * 24 * 80));
        drop(known);
        assert!(!open(data.path(), &clock).is_known(origin("192.0.2.1")), "nobody came for too long");
    }

    #[test]
    fn the_latest_of_a_name_are_kept() {
        let clock = SetClock::new(DateTime::UNIX_EPOCH);
        let known = KnownOrigins::in_memory(Arc::new(clock.clone()));
        for n in 0..20 {
            known.came("demo", origin(&format!("192.0.2.{n}")));
            clock.advance(Duration::from_secs(1));
        }
        let kept = |n: usize| known.is_known(origin(&format!("192.0.2.{n}")));
        assert!((0..12).all(|n| !kept(n)) && (12..20).all(kept));
        assert_eq!(known.shared.known.lock().names_of.len(), MOST_OF_NAME);
    }

    #[test]
    fn a_file_that_is_rubbish_is_learned_anew() {
        let data = tempfile::tempdir().unwrap();
        let clock = SetClock::new(DateTime::UNIX_EPOCH);
        for rubbish in ["", "{", "{\"version\":2,\"partners\":{}}", "\0\0\0"] {
            fs::write(data.path().join(FILE), rubbish).unwrap();
            let known = open(data.path(), &clock);
            assert!(!known.is_known(origin("192.0.2.1")));
            known.came("demo", origin("192.0.2.1"));
            drop(known);
            assert!(open(data.path(), &clock).is_of("demo", origin("192.0.2.1")));
        }
    }
}
