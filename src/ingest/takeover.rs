//! The directories of the version before: what a partner saw was a real directory of hard links to spooled files. At the
//! first start its names, folders and times go into the catalogue, and the directory goes.
//!
//! # After a crash
//! A partner's directory is read again from the beginning until all of it is journalled; then it is renamed out of the
//! way before anything of it is removed.

use std::{
    collections::BTreeMap,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use chrono::{DateTime, Utc};
use forebay_queue::{Actor, NameChange, Node, QueueError};
use forebay_storage::{FileId, FileMeta};
use tracing::{info, warn};

use super::{Ingest, Name, OUT, Refusal};
use crate::answers::{Answers, NOTICE};

/// The prefix of a directory that was taken over and is to be removed. No partner's name begins with a dot.
const DONE: &str = ".done-";
/// Where the times were kept that partners gave to files.
const TIMES: &str = ".times";
/// Names that are taken over between two lines of the log.
const TELL_EVERY: usize = 10_000;

/// One partner's directory as it was found.
#[derive(Debug, Default)]
struct Found {
    folders: Vec<String>,
    files: BTreeMap<String, (FileId, Option<DateTime<Utc>>)>,
    /// Files of other programs in `out/`.
    reports: Vec<PathBuf>,
}

impl Ingest {
    /// Takes over what the version before kept in `home`, if that is there; files that other programs had put into an
    /// `out/` are moved to `outbox/<partner>` beside it.
    ///
    /// # Errors
    /// When it cannot be read, or the queue fails; the next start goes on.
    pub async fn take_over(self: &Arc<Self>, home: &Path) -> Result<(), Refusal> {
        for partner in partners(home)? {
            let (directory, times) = (home.join(&partner), home.join(TIMES).join(&partner));
            let found = blocking(move || read(&directory, &times)).await?;
            info!(%partner, files = found.files.len(), folders = found.folders.len(), "taking over a directory");
            self.take_over_names(&partner, &found).await?;
            let (home, name) = (home.to_owned(), partner.clone());
            blocking(move || put_away(&home, &name, &found.reports)).await?;
        }
        let home = home.to_owned();
        blocking(move || remove_rest(&home)).await
    }

    /// Journals folders, files and times that a partner's directory had. May be called again after
    /// a crash: what is there already is not changed.
    async fn take_over_names(&self, partner: &str, found: &Found) -> Result<(), Refusal> {
        for folder in &found.folders {
            if self.catalogue.stat(partner, folder).await?.is_none() {
                self.put_name(partner, NameChange::MakeFolder { path: folder.clone() }).await?;
            }
        }
        for (done, (path, (id, time))) in found.files.iter().enumerate() {
            if done % TELL_EVERY == 0 && done > 0 {
                info!(%partner, done, of = found.files.len(), "names are taken over");
            }
            let entry = match self.queue.get(*id).await {
                Ok(entry) => entry,
                Err(QueueError::NotFound(_)) => continue,
                Err(error) => return Err(error.into()),
            };
            let is_shown = self.catalogue.path_of(*id).await?.as_ref() == Some(path);
            if !is_shown || time.is_some() {
                let at = time.unwrap_or(entry.received_at);
                self.put_name(partner, NameChange::Show { path: path.clone(), id: *id, at }).await?;
            }
        }
        self.hide_others(partner, found).await
    }

    /// What follows from the journal and is not in the directory, the partner had removed.
    async fn hide_others(&self, partner: &str, found: &Found) -> Result<(), Refusal> {
        let (mut folders, mut seen) = (vec![String::new()], Vec::new());
        while let Some(folder) = folders.pop() {
            let mut after: Option<String> = None;
            loop {
                let page = self.catalogue.list(partner, &folder, after.as_deref(), 1_000).await?;
                let Some(last) = page.last() else { break };
                after = Some(last.name.clone());
                for named in page {
                    let path = if folder.is_empty() { named.name } else { format!("{folder}/{}", named.name) };
                    match named.node {
                        Node::Folder { .. } => {
                            folders.push(path.clone());
                            seen.push(path);
                        }
                        Node::File { .. } if !found.files.contains_key(&path) => {
                            self.put_name(partner, NameChange::Hide { path }).await?;
                        }
                        Node::File { .. } => {}
                    }
                }
            }
        }
        // The deepest first; one that still has names stays.
        for path in seen.into_iter().rev().filter(|path| !found.folders.contains(path)) {
            match self.put_name(partner, NameChange::RemoveFolder { path }).await {
                Ok(()) | Err(Refusal::Denied(_)) => {}
                Err(refusal) => return Err(refusal),
            }
        }
        Ok(())
    }

    async fn put_name(&self, partner: &str, change: NameChange) -> Result<(), Refusal> {
        Ok(self.catalogue.change(partner, change, Actor::Server, self.clock.now()).await?)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> io::Result<T> + Send + 'static) -> Result<T, Refusal> {
    let done = tokio::task::spawn_blocking(work).await;
    Ok(done.map_err(|error| Refusal::Internal(error.to_string()))??)
}

fn partners(home: &Path) -> io::Result<Vec<String>> {
    let entries = match fs::read_dir(home) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut partners = Vec::new();
    for entry in entries {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            partners.extend(entry.file_name().into_string().ok().filter(|name| !name.starts_with('.')));
        }
    }
    partners.sort_unstable();
    Ok(partners)
}

/// Reads one partner's directory. Blocks.
fn read(directory: &Path, times: &Path) -> io::Result<Found> {
    let mut found = Found::default();
    let mut open = vec![String::new()];
    while let Some(folder) = open.pop() {
        for entry in fs::read_dir(directory.join(&folder))? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let path = if folder.is_empty() { name } else { format!("{folder}/{name}") };
            let there = entry.metadata()?;
            if path == OUT && there.is_dir() {
                found.reports = reports(&entry.path())?;
            } else if Name::parse(&path).is_err() {
                warn!(path = %entry.path().display(), "a name that no partner could have given is left out");
            } else if there.is_dir() {
                found.folders.push(path.clone());
                open.push(path);
            } else if there.is_file()
                && let Some(meta) = FileMeta::of(&entry.path())?
            {
                found.files.insert(path, (meta.id, time_of(&there, times)));
            }
        }
    }
    // Those above come before those below.
    found.folders.sort_unstable();
    Ok(found)
}

/// The time that the partner had given to a file: that of an empty file which is named after the inode.
fn time_of(there: &fs::Metadata, times: &Path) -> Option<DateTime<Utc>> {
    let name = format!("{}-{}.{:09}", there.ino(), there.mtime(), there.mtime_nsec());
    fs::symlink_metadata(times.join(name)).ok()?.modified().ok().map(DateTime::from)
}

fn reports(out: &Path) -> io::Result<Vec<PathBuf>> {
    let mut reports = Vec::new();
    for entry in fs::read_dir(out)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        let is_ours = name == NOTICE || name.ends_with(".tmp") || Answers::file_of(&name).is_some();
        if !is_ours {
            reports.push(entry.path());
        }
    }
    Ok(reports)
}

/// Moves what other programs had put there, and the directory out of the way.
fn put_away(home: &Path, partner: &str, reports: &[PathBuf]) -> io::Result<()> {
    if !reports.is_empty() {
        let outbox = home.with_file_name("outbox").join(partner);
        fs::create_dir_all(&outbox)?;
        for report in reports {
            fs::rename(report, outbox.join(report.file_name().unwrap_or_default()))?;
        }
        warn!(%partner, files = reports.len(), outbox = %outbox.display(),
            "files of other programs in out/ were moved: set outbox of this partner to show them again");
    }
    // Last: from now on the directory is not read again. All of it is journalled.
    fs::rename(home.join(partner), home.join(format!("{DONE}{partner}")))?;
    fs::File::open(home)?.sync_all()
}

/// Removes what was taken over, and what else the version before kept there; anything else stays, and is told of.
fn remove_rest(home: &Path) -> io::Result<()> {
    if !home.try_exists()? {
        return Ok(());
    }
    let mut strangers = 0;
    for entry in fs::read_dir(home)? {
        let entry = entry?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if name.starts_with(DONE) || [TIMES, ".new"].contains(&&*name) {
            fs::remove_dir_all(entry.path())?;
        } else if name.starts_with(".checkpoint") {
            fs::remove_file(entry.path())?;
        } else {
            strangers += 1;
        }
    }
    if strangers > 0 {
        warn!(directory = %home.display(), names = strangers, "means nothing any more; what is left in it is not Forebay's");
        return Ok(());
    }
    fs::remove_dir(home)?;
    match fs::remove_file(home.with_file_name("receipts.json")) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}
