//! The source of the schedule: its file, the last good one, and what is in force while the file
//! changes.
//!
//! An editor that truncates and then writes shows a file with fewer windows for a moment. So what a
//! new reading closes is closed at once, beside all that was closed before, and what it opens waits
//! until the file has stood still.
//!
//! The states of a file, and what is in force:
//!
//! | the file | in force |
//! |---|---|
//! | never seen | no windows |
//! | good, and stood still | its windows |
//! | good, changed a moment ago | its windows and those before it |
//! | faulty, missing, or unreadable | the last good windows; without any, everything is closed |
//!
//! A good schedule is stored before it is in force, so a restart with a broken file finds it.
//! Called with the ledger locked, so nothing here is concurrent.

use std::{
    fs::{self, File},
    io::{self, Read},
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use tracing::{error, info, warn};

use super::{
    Fault, Window,
    live::GateError,
    schedule::{FILE_BYTES, Schedule, parse_schedule, whole},
    store::{Memory, Store},
};
use crate::{clock::Clock, units::text_file::decode};

/// The time that a file must have stood still before its openings take effect.
pub(super) const STILL: Duration = Duration::from_secs(2);

/// The schedule's file and what was made of it.
pub(super) struct Source {
    file: Option<PathBuf>,
    /// The last good schedule; None when there never was one, and something has been there that was not good.
    good: Option<Schedule>,
    good_text: Option<String>,
    /// Windows of readings that have not stood still yet: they close beside the good ones.
    held: Vec<Arc<Window>>,
    /// A good reading that waits to stand still.
    pending: Option<(Schedule, String)>,
    broken: Option<Broken>,
    print: Option<Print>,
    /// When the file was last seen to change, on the monotonic clock.
    changed: Duration,
}

/// The faults of the file.
#[derive(Clone, Debug)]
pub(super) struct Broken {
    pub(super) since: DateTime<Utc>,
    pub(super) faults: Vec<Fault>,
}

/// A fingerprint of a file's state that needs no reading of its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Print {
    Missing,
    There { device: u64, inode: u64, size: u64, modified: (i64, i64), changed: (i64, i64) },
}

/// One reading of the file.
enum Reading {
    Missing,
    Bad(Vec<Fault>),
    Good(Schedule, String),
}

impl Source {
    /// Reads the file for the first time. `written` is the file system's time now, to tell whether the file has stood
    /// still.
    ///
    /// # Errors
    /// When the last good schedule cannot be read. A broken file is no error.
    pub(super) fn open(
        file: Option<PathBuf>,
        store: &Store,
        memory: &mut Memory,
        clock: &dyn Clock,
        written: Option<SystemTime>,
    ) -> Result<Self, GateError> {
        let kept = store.last_good()?.and_then(|text| {
            let good = parse_schedule(&text).inspect_err(|_| error!("the last good schedule cannot be read any more"));
            Some((good.ok()?, text))
        });
        let mut source = Self {
            file: file.clone(),
            good: None,
            good_text: None,
            held: Vec::new(),
            pending: None,
            broken: None,
            print: None,
            changed: clock.elapsed(),
        };
        let Some(file) = file else {
            source.good = Some(Schedule::empty(Tz::UTC));
            return Ok(source);
        };
        match kept {
            Some((good, text)) => (source.good, source.good_text) = (Some(good), Some(text)),
            // Without a stored schedule, an installation that never had a file has no windows. One
            // that had a file has none that could be in force: everything is closed until a good
            // one is read.
            None if !memory.seen => source.good = Some(Schedule::empty(Tz::UTC)),
            None => {}
        }
        // Only a schedule that takes the place of another must have stood still.
        let stood_still = source.good_text.is_none() || stands_still(&file, written);
        source.look(store, memory, clock, true);
        if stood_still && let Some((schedule, text)) = source.pending.take() {
            source.adopt(schedule, text, store, memory, clock);
        }
        Ok(source)
    }

    /// Looks whether the file has changed, or has stood still for long enough. True when what is in force did change,
    /// or what is to be said of it.
    ///
    /// `anyway` reads the file also when its fingerprint is the same (`forebay gate reload`).
    pub(super) fn look(&mut self, store: &Store, memory: &mut Memory, clock: &dyn Clock, anyway: bool) -> bool {
        let Some(file) = self.file.clone() else { return false };
        let print = print(&file);
        if self.print == Some(print) && !anyway {
            return self.wait(&file, store, memory, clock);
        }
        if self.print != Some(print) {
            self.changed = clock.elapsed();
        }
        self.print = Some(print);
        self.take(read(&file), &file, store, memory, clock)
    }

    /// The file has not changed: a waiting schedule may be adopted, unless a second reading differs after all.
    fn wait(&mut self, file: &Path, store: &Store, memory: &mut Memory, clock: &dyn Clock) -> bool {
        if self.pending.is_none() || clock.elapsed().saturating_sub(self.changed) < STILL {
            return false;
        }
        // Read once more: a change that keeps size and times, as on a file system with coarse
        // clocks, is found before it opens anything.
        let reading = read(file);
        match (self.pending.take(), reading) {
            (Some((_, before)), Reading::Good(schedule, text)) if before == text => {
                self.adopt(schedule, text, store, memory, clock);
                true
            }
            (_, reading) => {
                self.changed = clock.elapsed();
                self.take(reading, file, store, memory, clock)
            }
        }
    }

    /// Acts on a reading. Returns true when what is in force, or what is to be said of it, has
    /// changed.
    fn take(&mut self, reading: Reading, file: &Path, store: &Store, memory: &mut Memory, clock: &dyn Clock) -> bool {
        if !memory.seen && !matches!(reading, Reading::Missing) {
            // Stored at once: from now on a missing file is a fault, and not "no windows".
            memory.seen = true;
            self.remember(store, memory);
        }
        match reading {
            Reading::Missing if !memory.seen => false,
            Reading::Missing => self.refuse(whole("the file is missing"), file, clock),
            Reading::Bad(faults) => self.refuse(faults, file, clock),
            Reading::Good(schedule, text) => self.hold(schedule, text),
        }
    }

    /// A good reading: what it closes is closed, the rest waits. Windows of readings before it stay
    /// held.
    fn hold(&mut self, schedule: Schedule, text: String) -> bool {
        let was_broken = self.broken.take().is_some();
        if self.good_text.as_ref() == Some(&text) && self.held.is_empty() {
            self.pending = None;
            return was_broken;
        }
        for window in &schedule.windows {
            if !self.held.contains(window) {
                self.held.push(Arc::clone(window));
            }
        }
        self.pending = Some((schedule, text));
        true
    }

    /// A faulty reading: the last good schedule stays in force, and the faults are logged once.
    fn refuse(&mut self, mut faults: Vec<Fault>, file: &Path, clock: &dyn Clock) -> bool {
        self.pending = None;
        let name = file.file_name().map_or_else(|| file.to_string_lossy(), |name| name.to_string_lossy());
        faults.iter_mut().for_each(|fault| fault.file = name.clone().into_owned());
        if self.good_text.is_none() {
            // There is no last good one, so "no windows" is in force no more either.
            self.good = None;
        }
        if self.broken.as_ref().is_some_and(|broken| broken.faults == faults) {
            return false;
        }
        let first = faults.first().map(ToString::to_string).unwrap_or_default();
        warn!(faults = faults.len(), first, in_force = self.good.is_some(), "the schedule is broken and refused");
        let since = self.broken.as_ref().map_or_else(|| clock.now(), |broken| broken.since);
        self.broken = Some(Broken { since, faults });
        true
    }

    /// Puts a schedule in force that is good and has stood still. Ends every `open` that was given
    /// because the schedule was broken.
    fn adopt(&mut self, schedule: Schedule, text: String, store: &Store, memory: &mut Memory, clock: &dyn Clock) {
        info!(windows = schedule.windows.len(), zone = %schedule.zone, "the schedule is in force");
        // Kept before it is in force: what a restart finds is never older than what was acted on.
        if let Err(error) = store.keep_good(&text) {
            error!(%error, "cannot store the schedule as the last good one");
        }
        memory.good_since = Some(clock.now());
        memory.overrides.retain(|one| !one.broken);
        self.remember(store, memory);
        (self.good, self.good_text) = (Some(schedule), Some(text));
        self.held.clear();
        self.pending = None;
        self.broken = None;
    }

    /// Stores the state. A failure is logged, not returned: what is in force does not depend on it.
    fn remember(&self, store: &Store, memory: &Memory) {
        if let Err(error) = store.write(memory) {
            error!(%error, "cannot store the state of the gate");
        }
    }

    /// Returns the good windows, and those that are held beside them.
    pub(super) fn in_force(&self) -> Schedule {
        let waiting = self.pending.as_ref().map(|(schedule, _)| schedule.zone);
        let mut schedule = self.good.clone().unwrap_or_else(|| Schedule::empty(waiting.unwrap_or(Tz::UTC)));
        if let (None, Some(zone)) = (&self.good_text, waiting) {
            schedule.zone = zone;
        }
        schedule.joined(&self.held)
    }

    /// The instant from which everything is closed because there is no good schedule.
    pub(super) fn closed_since(&self) -> Option<DateTime<Utc>> {
        if self.good.is_some() {
            return None;
        }
        Some(self.broken.as_ref().map_or(DateTime::UNIX_EPOCH, |broken| broken.since))
    }

    pub(super) fn faults(&self) -> Option<&[Fault]> {
        self.broken.as_ref().map(|broken| broken.faults.as_slice())
    }

    pub(super) fn broken(&self) -> Option<&Broken> {
        self.broken.as_ref()
    }

    pub(super) fn is_pending(&self) -> bool {
        self.pending.is_some()
    }

    pub(super) fn file(&self) -> Option<&Path> {
        self.file.as_deref()
    }
}

/// Reads the fingerprint. Any failure counts as missing; when that is new, `read` tells what it is.
fn print(file: &Path) -> Print {
    let Ok(meta) = fs::metadata(file) else { return Print::Missing };
    Print::There {
        device: meta.dev(),
        inode: meta.ino(),
        size: meta.size(),
        modified: (meta.mtime(), meta.mtime_nsec()),
        changed: (meta.ctime(), meta.ctime_nsec()),
    }
}

fn read(file: &Path) -> Reading {
    let text = match read_bounded(file) {
        Ok(text) => text,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Reading::Missing,
        Err(error) => return Reading::Bad(whole(format!("the file cannot be read: {error}"))),
    };
    match parse_schedule(&text) {
        Ok(schedule) => Reading::Good(schedule, text),
        Err(faults) => Reading::Bad(faults),
    }
}

/// Reads one byte more than is allowed, so that `parse_schedule` can tell a file that is too long.
fn read_bounded(file: &Path) -> io::Result<String> {
    // Opening a pipe would block.
    if !fs::metadata(file)?.is_file() {
        return Err(io::Error::other("it is not a regular file"));
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(FILE_BYTES + 1).read_to_end(&mut bytes)?;
    decode(bytes).map_err(io::Error::other)
}

/// Returns true if the file was not changed for `STILL`, by the file system's own clock.
fn stands_still(file: &Path, now: Option<SystemTime>) -> bool {
    let modified = fs::metadata(file).and_then(|meta| meta.modified()).ok();
    now.zip(modified).and_then(|(now, modified)| now.duration_since(modified).ok()).is_some_and(|age| age >= STILL)
}
