//! Tells partners what became of their files, in their `out/`.
//!
//! # Guarantees
//! None that an upload could fail by: receipts follow the journal, a moment behind, and are made again from it when
//! they are lost. They are replaced as a whole, never seen half written.
//!
//! # After a crash
//! The cursor that is kept lags a minute behind, so what was not yet on the disk is written again. Without a cursor,
//! or when an `out/` is missing, all receipts are written anew. A receipt goes when its entry is purged.

use std::{
    collections::BTreeMap,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay_queue::{Entry, Filter, QueueError, QueueStore, State};
use forebay_storage::FileId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tokio::time;
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{
    notice::{Notices, write_over},
    receipt::{Receipt, file_name, id_of},
};
use crate::{
    clock::Clock,
    gate::{Gate, Scope},
    routes::Routes,
};

/// What is added to the nice value of the thread.
const NICENESS: i32 = 10;
/// Changes gather for this long, so that a file that is processed at once costs one receipt.
const GATHER: Duration = Duration::from_millis(150);
const LOOK_EVERY: Duration = Duration::from_secs(1);
const LAG: Duration = Duration::from_secs(60);
const SWEEP_EVERY: Duration = Duration::from_secs(3600);
const PAGE: usize = 256;
/// A file that has been processed for this long gets a receipt meanwhile.
const LONG: Duration = Duration::from_secs(1);
/// Notices follow the clock this often, and a change of the gate at once.
const NOTICES_EVERY: Duration = Duration::from_secs(1);

/// Writes receipts and notices.
pub struct Receipts {
    queue: Arc<dyn QueueStore>,
    gate: Arc<Gate>,
    routes: Arc<Routes>,
    clock: Arc<dyn Clock>,
    home: PathBuf,
    cursor_path: PathBuf,
    place: Mutex<Place>,
    notices: Mutex<Notices>,
}

/// How far it has come: `<data>/receipts.json`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
struct Cursor {
    version: u8,
    /// Where to go on after a restart: what came before is on the disk for sure.
    after: u64,
}

#[derive(Debug)]
struct Place {
    after: u64,
    /// Where it was a minute ago, and where it was when that minute began.
    safe: u64,
    next_safe: u64,
    turned_at: Duration,
    kept: u64,
    swept_at: Duration,
    /// What was said of each route that was closed.
    deferrals: BTreeMap<String, Option<String>>,
    /// Files that were being processed when they were seen, and since when that is known.
    active: BTreeMap<FileId, Duration>,
    /// The gate's epoch at the last look at the notices, and when that was.
    noticed: Option<(u64, Duration)>,
}

impl Receipts {
    /// Receipts of this data directory.
    #[must_use]
    pub fn new(
        queue: Arc<dyn QueueStore>,
        gate: Arc<Gate>,
        routes: Arc<Routes>,
        clock: Arc<dyn Clock>,
        data: &Path,
    ) -> Self {
        let (home, cursor_path) = (data.join("home"), data.join("receipts.json"));
        let after = if is_any_out_missing(&home) { 0 } else { read_cursor(&cursor_path) };
        let now = clock.elapsed();
        let place = Place {
            after,
            safe: after,
            next_safe: after,
            turned_at: now,
            kept: after,
            swept_at: now,
            deferrals: BTreeMap::new(),
            active: BTreeMap::new(),
            noticed: None,
        };
        let (place, notices) = (Mutex::new(place), Mutex::default());
        Self { queue, gate, routes, clock, home, cursor_path, place, notices }
    }

    /// Follows the queue and the gate until `shutdown`, and catches up once more then. Blocks: give it a thread of its
    /// own, within a runtime. The thread gets a low priority, for uploads and processing come before paper.
    pub fn run_aside(&self, shutdown: CancellationToken) {
        if let Err(error) = rustix::process::setpriority_process(None, NICENESS) {
            warn!(%error, "receipts keep the priority of everything else");
        }
        tokio::runtime::Handle::current().block_on(self.run(shutdown));
    }

    /// Follows the queue and the gate until `shutdown`, and catches up once more then. Writes files in place.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut changed = self.queue.changed();
        let mut complained = false;
        loop {
            let last = shutdown.is_cancelled();
            changed.mark_unchanged();
            match self.pass().await {
                Ok(()) => complained = false,
                Err(error) if !complained => {
                    warn!(%error, "receipts are behind");
                    complained = true;
                }
                Err(_) => {}
            }
            if last {
                return;
            }
            tokio::select! {
                _ = changed.changed() => {
                    tokio::select! {
                        () = time::sleep(GATHER) => {}
                        () = shutdown.cancelled() => {}
                    }
                }
                () = time::sleep(LOOK_EVERY) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Writes all receipts anew with the next pass.
    pub fn rebuild(&self) {
        let mut place = self.place.lock();
        place.after = 0;
        place.safe = 0;
        place.next_safe = 0;
    }

    /// Brings receipts and notices up to date once.
    ///
    /// # Errors
    /// When the queue does not answer or the disk is full; it goes on from there the next time.
    pub async fn pass(&self) -> Result<(), QueueError> {
        self.follow().await?;
        self.tell_long_ones().await?;
        self.tell_deferrals().await?;
        if self.notices_are_due() {
            self.tell_notices();
        }
        self.keep_cursor();
        let now = self.clock.elapsed();
        if now.saturating_sub(self.place.lock().swept_at) >= SWEEP_EVERY {
            self.sweep().await?;
            self.place.lock().swept_at = now;
        }
        Ok(())
    }

    async fn follow(&self) -> Result<(), QueueError> {
        loop {
            let after = self.place.lock().after;
            let entries = self.queue.changes(after, PAGE).await?;
            let Some(last) = entries.last().map(|entry| entry.changed_seq) else { return Ok(()) };
            let (active, others): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| entry.state == State::Active);
            self.write(others).await?;
            let now = self.clock.elapsed();
            let mut place = self.place.lock();
            place.active.extend(active.iter().map(|entry| (entry.id, now)));
            // Unless all are to be written anew since.
            if place.after == after {
                place.after = last;
            }
        }
    }

    /// Most files are through before anyone could read that they are being processed; the others get a receipt too.
    async fn tell_long_ones(&self) -> Result<(), QueueError> {
        let now = self.clock.elapsed();
        let long: Vec<FileId> = {
            let place = self.place.lock();
            let long = place.active.iter().filter(|(_, since)| now.saturating_sub(**since) >= LONG);
            long.map(|(id, _)| *id).collect()
        };
        let mut files = Vec::new();
        for id in &long {
            match self.queue.get(*id).await {
                Ok(entry) if entry.state == State::Active => files.push(entry),
                Ok(_) | Err(QueueError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        self.write(files).await?;
        self.place.lock().active.retain(|id, _| !long.contains(id));
        Ok(())
    }

    fn notices_are_due(&self) -> bool {
        let (epoch, now) = (self.gate.epoch(), self.clock.elapsed());
        let place = &mut self.place.lock();
        let due = place.noticed.is_none_or(|(seen, at)| seen != epoch || now.saturating_sub(at) >= NOTICES_EVERY);
        if due {
            place.noticed = Some((epoch, now));
        }
        due
    }

    /// The files that wait hear of a closure when it begins and when its end moves. When it ends they are about to be
    /// processed, and their receipts follow then.
    async fn tell_deferrals(&self) -> Result<(), QueueError> {
        for route in self.routes.iter().map(|route| route.name()) {
            let text = self.gate.state(&Scope::Route(route.to_owned()));
            let text = match text {
                crate::gate::State::Open { .. } => None,
                crate::gate::State::Closed(closure) => Some(format!("{:?}", closure.until)),
            };
            let before = self.place.lock().deferrals.get(route).cloned();
            if text.is_some() && before.as_ref().is_some_and(|before| *before != text) {
                self.write_waiting(route).await?;
            }
            self.place.lock().deferrals.insert(route.to_owned(), text);
        }
        Ok(())
    }

    async fn write_waiting(&self, route: &str) -> Result<(), QueueError> {
        let states = vec![State::Ready, State::Retrying];
        let filter = Filter { states, route: Some(route.to_owned()), ..Filter::default() };
        let mut cursor = None;
        loop {
            let page = self.queue.list(&filter, cursor, PAGE).await?;
            self.write(page.entries).await?;
            cursor = page.next;
            if cursor.is_none() {
                return Ok(());
            }
        }
    }

    async fn write(&self, entries: Vec<Entry>) -> Result<(), QueueError> {
        let mut files = Vec::new();
        let zone = self.gate.zone();
        let mut states = BTreeMap::new();
        for entry in &entries {
            let route = entry.route.clone().unwrap_or_default();
            let state = states.entry(route).or_insert_with_key(|route| self.gate.state(&Scope::Route(route.clone())));
            let Some(receipt) = Receipt::of(entry, state, zone) else { continue };
            let mut text = serde_json::to_vec_pretty(&receipt).unwrap_or_default();
            text.push(b'\n');
            files.push((self.out(&entry.partner), file_name(entry), text));
        }
        write_files(&files).map_err(|source| match source.kind() {
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => QueueError::Full,
            _ => QueueError::Io { doing: "cannot write receipts".to_owned(), source },
        })
    }

    fn out(&self, partner: &str) -> PathBuf {
        self.home.join(partner).join("out")
    }

    fn tell_notices(&self) {
        let Ok(partners) = partners(&self.home) else { return };
        let (mut texts, mut by_routes) = (Vec::new(), BTreeMap::new());
        for partner in partners {
            let routes: Vec<_> = self
                .routes
                .iter()
                .filter(|route| route.serves(&partner))
                .map(|route| route.name().to_owned())
                .collect();
            // A schedule is not worked out anew for each of a thousand partners.
            let text: &Option<String> = by_routes.entry(routes).or_insert_with_key(|routes| self.gate.notice(routes));
            texts.push((self.out(&partner), text.clone()));
        }
        if let Err(error) = self.tell(texts) {
            warn!(%error, "cannot write a notice");
        }
    }

    fn tell(&self, texts: Vec<(PathBuf, Option<String>)>) -> io::Result<()> {
        let mut notices = self.notices.lock();
        for (out, text) in texts {
            make_out(&out)?;
            notices.tell(&out, text)?;
        }
        Ok(())
    }

    fn keep_cursor(&self) {
        let now = self.clock.elapsed();
        let cursor = {
            let mut place = self.place.lock();
            if now.saturating_sub(place.turned_at) >= LAG {
                place.safe = place.next_safe;
                place.next_safe = place.after;
                place.turned_at = now;
            }
            if place.safe == place.kept && self.cursor_path.exists() {
                return;
            }
            place.kept = place.safe;
            Cursor { version: 1, after: place.safe }
        };
        let text = serde_json::to_vec(&cursor).unwrap_or_default();
        if let Err(error) = write_over(&self.cursor_path, &text) {
            warn!(%error, "cannot keep how far the receipts have come");
        }
    }

    /// Removes the receipts of entries that are no more.
    ///
    /// # Errors
    /// When the queue does not answer.
    pub async fn sweep(&self) -> Result<(), QueueError> {
        let Ok(receipts) = receipts_in(&self.home) else { return Ok(()) };
        for (id, path) in receipts {
            match self.queue.get(id).await {
                Err(QueueError::NotFound(_)) => {
                    let _ = fs::remove_file(path);
                }
                Ok(_) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// A full disk ends it, to go on from there later; one partner's broken `out/` does not keep the others waiting.
fn write_files(files: &[(PathBuf, String, Vec<u8>)]) -> io::Result<()> {
    for (out, name, text) in files {
        match make_out(out).and_then(|()| write_over(&out.join(name), text)) {
            Ok(()) => {}
            Err(error) if matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded) => {
                return Err(error);
            }
            Err(error) => warn!(path = %out.join(name).display(), %error, "cannot write a receipt"),
        }
    }
    Ok(())
}

fn make_out(out: &Path) -> io::Result<()> {
    if out.is_dir() {
        return Ok(());
    }
    DirBuilder::new().recursive(true).mode(0o700).create(out)
}

fn partners(home: &Path) -> io::Result<Vec<String>> {
    let mut partners = Vec::new();
    for dir in fs::read_dir(home)? {
        let dir = dir?;
        if dir.file_type()?.is_dir() {
            // What begins with a dot is no partner's.
            partners.extend(dir.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
        }
    }
    Ok(partners)
}

fn receipts_in(home: &Path) -> io::Result<Vec<(FileId, PathBuf)>> {
    let mut found = Vec::new();
    for partner in partners(home)? {
        let Ok(files) = fs::read_dir(home.join(partner).join("out")) else { continue };
        for file in files {
            let file = file?;
            found.extend(file.file_name().to_str().and_then(id_of).map(|id| (id, file.path())));
        }
    }
    Ok(found)
}

fn is_any_out_missing(home: &Path) -> bool {
    partners(home).is_ok_and(|partners| partners.iter().any(|partner| !home.join(partner).join("out").is_dir()))
}

fn read_cursor(path: &Path) -> u64 {
    let Ok(text) = fs::read(path) else { return 0 };
    match serde_json::from_slice::<Cursor>(&text) {
        Ok(Cursor { version: 1, after }) => after,
        // Written by another version, or torn: all receipts are made anew.
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_begins_with_a_dot_is_no_partner() {
        let home = tempfile::tempdir().unwrap();
        for dir in ["clinic/out", ".new", ".times/clinic"] {
            fs::create_dir_all(home.path().join(dir)).unwrap();
        }
        assert_eq!(partners(home.path()).unwrap(), ["clinic"]);
        assert!(!is_any_out_missing(home.path()), "nothing has to be made anew");
        fs::create_dir(home.path().join("lab")).unwrap();
        assert!(is_any_out_missing(home.path()));
    }
}
