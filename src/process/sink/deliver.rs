//! The sink that puts files into a directory: `<directory>/<partner>/<path>`.
//!
//! # Guarantees
//! - A name in the directory has all its bytes: they are written under `.<name>.<id>.tmp`, synced, and renamed.
//! - Nothing is overwritten. When the name is taken by another file, the end of the id is put before its extension:
//!   `batch.1a2b3c4d.hl7`.
//! - Done means durable: file and directory are synced before the outcome.
//!
//! # After a crash
//! The id is the idempotency key. A delivered file carries it (`user.forebay.id`;
//! where extended attributes are missing the content decides), so what a crashed attempt had delivered is seen
//! and not delivered again, unless someone has taken it away by then.

use std::{
    fs::{self, File, Permissions},
    io,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::Arc,
};

use async_trait::async_trait;
use forebay_queue::Entry;
use forebay_storage::Durability;
use rustix::{
    fs::{CWD, RenameFlags, XattrFlags, lgetxattr, renameat_with, setxattr},
    io::Errno,
};
use tokio::task;

use super::{
    Item, Sink,
    directory::{Syncs, make_durably},
    given::verify,
};
use crate::{
    contents::Contents,
    process::{Outcome, Report, Work},
};

const ID_ATTRIBUTE: &str = "user.forebay.id";
const NAME_MAX_BYTES: usize = 255;

/// The sink `deliver` of one route.
pub struct Deliver {
    inner: Arc<Inner>,
}

struct Inner {
    directory: PathBuf,
    contents: Contents,
    syncs: Syncs,
}

impl Deliver {
    /// Delivers into `directory`, which is made when it is missing.
    #[must_use]
    pub fn new(directory: PathBuf, contents: Contents) -> Self {
        Self { inner: Arc::new(Inner { directory, contents, syncs: Syncs::default() }) }
    }
}

#[async_trait]
impl Sink for Deliver {
    async fn take(&self, work: &Arc<Work>, item: Item) -> Report {
        if let Item::Message(_) = item {
            // No configuration leads here: `[route.messages]` is refused beside `deliver`.
            return Outcome::Hold { reason: "deliver takes whole files".to_owned() }.into();
        }
        let (inner, own) = (Arc::clone(&self.inner), Arc::clone(work));
        let outcome = match task::spawn_blocking(move || inner.deliver(&own)).await {
            Ok(Ok(())) => Outcome::Done,
            Ok(Err(outcome)) => outcome,
            Err(error) => Outcome::Failed { reason: format!("delivering: {error}") },
        };
        outcome.into()
    }
}

/// Removes the temporary name unless it was renamed.
struct Temporary(PathBuf);

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.0);
    }
}

impl Inner {
    /// Delivers one file. Blocks.
    fn deliver(&self, work: &Work) -> Result<(), Outcome> {
        let entry = &work.entry;
        let target = self.target(entry)?;
        let (dir, name) = split(&target)?;
        // Before anything is written: the directory is the first thing that the systems behind can
        // see.
        work.hand_over(|| ()).map_err(|_| Outcome::gate_closed())?;
        make_durably(dir).map_err(|error| cannot_make(dir, &error))?;
        let temporary = Temporary(dir.join(temporary_name(name, entry)));
        match fs::remove_file(&temporary.0) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(down(&temporary.0, &error)),
            _ => {}
        }
        verify(self.contents.materialize(entry, &temporary.0, Durability::Unsynced), entry)?;
        // The mark and the sync before the final name: what a crash leaves under it is whole, and
        // is known as ours.
        finish_file(&temporary.0, entry).map_err(|error| down(&temporary.0, &error))?;
        for candidate in names(name, entry) {
            let path = dir.join(candidate);
            match self.rename(work, &temporary.0, &path)? {
                Renamed::Now => return self.syncs.sync(dir).map_err(|error| down(dir, &error)),
                Renamed::NameTaken => {
                    if is_ours(&path, entry).map_err(|error| down(&path, &error))? {
                        return self.confirm(&path, dir);
                    }
                }
            }
        }
        Err(Outcome::Hold { reason: format!("every name for it is taken in {}", dir.display()) })
    }

    /// Syncs a file that a crashed attempt has delivered, perhaps without its syncs.
    fn confirm(&self, path: &Path, dir: &Path) -> Result<(), Outcome> {
        File::open(path).and_then(|file| file.sync_all()).map_err(|error| down(path, &error))?;
        self.syncs.sync(dir).map_err(|error| down(dir, &error))
    }

    /// Renames the file to its final name. That makes it visible to the systems behind, so the gate is asked once more,
    /// unless it lets running attempts finish.
    fn rename(&self, work: &Work, from: &Path, to: &Path) -> Result<Renamed, Outcome> {
        if work.stop.is_asked() {
            return Err(Outcome::Stopped { reason: work.stop.why().to_owned() });
        }
        let renamed = match work.hand_over(|| rename_new(from, to)) {
            Ok(renamed) => renamed,
            Err(closure) if work.must_stop() => return Err(Outcome::Stopped { reason: closure.to_string() }),
            Err(_) => rename_new(from, to),
        };
        renamed.map_err(|error| down(to, &error))
    }

    /// Returns where a file belongs. Names were checked when the file came in; here once more,
    /// because a path of this machine is made of them.
    fn target(&self, entry: &Entry) -> Result<PathBuf, Outcome> {
        let mut target = self.directory.join(&entry.partner);
        for component in entry.name.split('/') {
            if matches!(component, "" | "." | "..") || component.contains('\0') {
                return Err(Outcome::Hold { reason: format!("cannot deliver under the name {:?}", entry.name) });
            }
            target.push(component);
        }
        Ok(target)
    }
}

enum Renamed {
    Now,
    NameTaken,
}

fn split(target: &Path) -> Result<(&Path, &str), Outcome> {
    let name = target.file_name().and_then(|name| name.to_str());
    target.parent().zip(name).ok_or_else(|| Outcome::Hold { reason: "it has no name".to_owned() })
}

/// A directory that is full, gone or forbidden is no fault of the file.
fn down(path: &Path, error: &io::Error) -> Outcome {
    Outcome::BackendDown { reason: format!("cannot deliver to {}: {error}", path.display()) }
}

fn cannot_make(dir: &Path, error: &io::Error) -> Outcome {
    match error.kind() {
        // A file that was delivered before has the name that this one needs for a directory.
        io::ErrorKind::NotADirectory | io::ErrorKind::AlreadyExists => {
            Outcome::Hold { reason: format!("cannot make the directory {}: {error}", dir.display()) }
        }
        _ => down(dir, error),
    }
}

fn temporary_name(name: &str, entry: &Entry) -> String {
    let end = format!(".{}.tmp", entry.id);
    format!(".{}{end}", cut(name, NAME_MAX_BYTES - 1 - end.len()))
}

/// The names to try, in order: its own, with the end of its id, with the whole of it.
fn names(name: &str, entry: &Entry) -> [String; 3] {
    let id = entry.id.to_string();
    let with = |mark: &str| {
        let (stem, extension) = match name.rfind('.') {
            Some(dot) if dot > 0 && name.len() - dot <= 32 => name.split_at(dot),
            _ => (name, ""),
        };
        let stem = cut(stem, NAME_MAX_BYTES - 1 - mark.len() - extension.len());
        format!("{stem}.{mark}{extension}")
    };
    // The beginning of an id is the time, which files of one minute share.
    [name.to_owned(), with(&id[id.len() - 8..]), with(&id)]
}

fn cut(text: &str, most_bytes: usize) -> &str {
    &text[..text.floor_char_boundary(most_bytes)]
}

/// Marks, opens to the group, and syncs a placed file.
fn finish_file(path: &Path, entry: &Entry) -> io::Result<()> {
    let file = File::open(path)?;
    file.set_permissions(Permissions::from_mode(0o640))?;
    match setxattr(path, ID_ATTRIBUTE, entry.id.to_string().as_bytes(), XattrFlags::empty()) {
        Ok(()) | Err(Errno::OPNOTSUPP) => {}
        Err(error) => return Err(error.into()),
    }
    file.sync_all()
}

/// Renames without replacing anything.
fn rename_new(from: &Path, to: &Path) -> io::Result<Renamed> {
    match renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE) {
        Ok(()) => Ok(Renamed::Now),
        Err(Errno::EXIST) => Ok(Renamed::NameTaken),
        // Some file systems know no such rename. A link does not replace either.
        Err(Errno::INVAL | Errno::NOSYS) => match fs::hard_link(from, to) {
            Ok(()) => fs::remove_file(from).map(|()| Renamed::Now),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(Renamed::NameTaken),
            Err(error) => Err(error),
        },
        Err(error) => Err(error.into()),
    }
}

/// Returns true if the target is this very file, delivered by an attempt whose outcome was lost.
fn is_ours(path: &Path, entry: &Entry) -> io::Result<bool> {
    let there = fs::symlink_metadata(path)?;
    if !there.is_file() || there.len() != entry.size_bytes {
        return Ok(false);
    }
    let mut mark = [0; 64];
    match lgetxattr(path, ID_ATTRIBUTE, &mut mark[..]) {
        Ok(length) => Ok(mark[..length] == *entry.id.to_string().as_bytes()),
        Err(Errno::NODATA | Errno::RANGE) => Ok(false),
        Err(Errno::OPNOTSUPP) => entry.sha256.is_of(path, entry.size_bytes),
        Err(error) => Err(error.into()),
    }
}
