//! The files of the gate: overrides and the last good schedule.
//!
//! # Guarantees
//! When a write returns, what was written is on stable storage: a file of its own is written and synced, renamed over
//! the old one, and the directory is synced.
//!
//! A full disk does not keep an operator's action from being stored: the state has a second file of the same length, which
//! is written over and then exchanged with the first, so that neither a block nor an inode is needed for it.
//!
//! # After a crash
//! Either the old or the new file is found whole. One that cannot be read is an error and nobody's to guess about: it
//! may have held the override that keeps the gate closed.

use std::{
    fs::{self, OpenOptions},
    io,
    os::unix::fs::{FileExt, OpenOptionsExt},
    path::{Path, PathBuf},
    time::SystemTime,
};

use chrono::{DateTime, Utc};
use rustix::{
    fs::{CWD, RenameFlags, renameat_with},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{live::GateError, overrides::Override, settled::Anchor};
use crate::durable_file::{self, WriteError};

const VERSION: u32 = 1;
/// The room that the state has, in bytes: some dozens of overrides.
const STATE_BYTES: usize = 16 << 10;

/// The contents of `state.json`.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Memory {
    version: u32,
    /// The last epoch; the next start continues above it.
    pub(super) epoch: u64,
    pub(super) next_id: u64,
    /// True if a schedule file has ever been there.
    pub(super) seen: bool,
    /// The time at which the last good schedule came into force.
    pub(super) good_since: Option<DateTime<Utc>>,
    /// The journal record that an operator knows to be ahead of the clock.
    pub(super) confirmed: Option<DateTime<Utc>>,
    pub(super) overrides: Vec<Override>,
}

impl Default for Memory {
    fn default() -> Self {
        let (epoch, next_id, overrides) = (0, 1, Vec::new());
        Self { version: VERSION, epoch, next_id, seen: false, good_since: None, confirmed: None, overrides }
    }
}

/// The directory of the gate's files. Callers hold the ledger's lock, so there is one writer.
pub(super) struct Store {
    dir: PathBuf,
}

impl Store {
    pub(super) fn open(dir: &Path) -> Result<Self, GateError> {
        let store = Self { dir: dir.to_owned() };
        let made = fs::DirBuilder::new();
        store.make(made).map_err(|source| GateError::Io { what: "make", path: dir.to_owned(), source })?;
        Ok(store)
    }

    fn make(&self, mut builder: fs::DirBuilder) -> io::Result<()> {
        use std::os::unix::fs::DirBuilderExt;
        if self.dir.is_dir() {
            return Ok(());
        }
        builder.recursive(true).mode(0o700).create(&self.dir)?;
        Ok(durable_file::sync_directory(durable_file::directory_of(&self.dir))?)
    }

    /// Reads the state; the default one when there was none.
    ///
    /// # Errors
    /// When it is damaged or written by a newer version. Nothing is repaired and nothing is
    /// guessed.
    pub(super) fn read(&self) -> Result<Memory, GateError> {
        let path = self.dir.join("state.json");
        let damaged = |reason: String| GateError::Damaged { path: path.clone(), reason };
        let Some(text) = read(&path)? else { return Ok(Memory::default()) };
        let value: serde_json::Value = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
        match value.get("version").and_then(serde_json::Value::as_u64) {
            Some(version) if version > u64::from(VERSION) => Err(GateError::Newer { path: path.clone(), version }),
            Some(_) => serde_json::from_value(value).map_err(|error| damaged(error.to_string())),
            None => Err(damaged("it has no version".to_owned())),
        }
    }

    /// Stores the state. Returns the file system's time of the write, if it can be read.
    pub(super) fn write(&self, memory: &Memory) -> Result<Option<SystemTime>, GateError> {
        let path = self.dir.join("state.json");
        let text = serde_json::to_string_pretty(memory)
            .map_err(|error| GateError::Damaged { path: path.clone(), reason: error.to_string() })?;
        self.exchange("state.json", &text)?;
        Ok(fs::metadata(&path).and_then(|meta| meta.modified()).ok())
    }

    /// Both clocks as they were last believed; none when that cannot be read, for nothing follows from it alone.
    pub(super) fn anchor(&self) -> Option<Anchor> {
        let text = read(&self.dir.join("clock.json")).ok().flatten()?;
        serde_json::from_str(&text).ok()
    }

    pub(super) fn keep_anchor(&self, anchor: &Anchor) -> Result<(), GateError> {
        let text = serde_json::to_string(anchor)
            .map_err(|error| GateError::Damaged { path: self.dir.join("clock.json"), reason: error.to_string() })?;
        self.replace("clock.json", &text)
    }

    pub(super) fn last_good(&self) -> Result<Option<String>, GateError> {
        read(&self.dir.join("last-good.toml"))
    }

    pub(super) fn keep_good(&self, text: &str) -> Result<(), GateError> {
        self.replace("last-good.toml", text)
    }

    /// Replaces a file as [`Store::replace`] does, without any need of room unless the text is
    /// longer than ever before.
    fn exchange(&self, name: &str, text: &str) -> Result<(), GateError> {
        let (path, spare) = (self.dir.join(name), self.dir.join(format!("{name}.new")));
        let write = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&spare)?;
            // Never cut: what it has of the disk it keeps.
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(0).max(text.len()).max(STATE_BYTES);
            file.write_all_at(format!("{text:<length$}").as_bytes(), 0)?;
            // Synced before it has the name: a power cut must not leave the name on a file without
            // its content.
            file.sync_all()?;
            match renameat_with(CWD, &spare, CWD, &path, RenameFlags::EXCHANGE) {
                Ok(()) => {}
                // There is nothing to exchange it with yet, or the file system knows no such rename.
                Err(Errno::NOENT | Errno::INVAL | Errno::NOSYS) => fs::rename(&spare, &path)?,
                Err(error) => return Err(error.into()),
            }
            // A rename alone can vanish.
            Ok(durable_file::sync_directory(&self.dir)?)
        };
        write().map_err(|source| GateError::Io { what: "write", path: path.clone(), source })?;
        self.keep_spare(&spare);
        Ok(())
    }

    /// Gives the spare all its room while there is some. What is in it does not matter.
    /// After the exchange the spare is the old state, which may be shorter than it has to be.
    fn keep_spare(&self, spare: &Path) {
        let made = || -> io::Result<()> {
            let file = OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(spare)?;
            let length = usize::try_from(file.metadata()?.len()).unwrap_or(0);
            file.write_all_at(" ".repeat(STATE_BYTES.saturating_sub(length)).as_bytes(), length as u64)
        };
        if let Err(error) = made() {
            tracing::debug!(%error, "the gate's state has no spare file on the full disk");
        }
    }

    /// Replaces a file: written beside it, synced, renamed over it, and the directory synced.
    fn replace(&self, name: &str, text: &str) -> Result<(), GateError> {
        let written = durable_file::replace(&self.dir.join(name), text.as_bytes());
        written.map_err(|WriteError { doing: what, path, source }| GateError::Io { what, path, source })
    }
}

/// Reads all that a start reads of the gate's memory in `dir`, and makes nothing.
///
/// # Errors
/// As a start would fail.
pub fn look(dir: &Path) -> Result<(), GateError> {
    let store = Store { dir: dir.to_owned() };
    store.read()?;
    store.last_good().map(drop)
}

fn read(path: &Path) -> Result<Option<String>, GateError> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(GateError::Io { what: "read", path: path.to_owned(), source }),
    }
}
