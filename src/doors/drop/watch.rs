//! The events that the system tells of a folder. It may lose some, so nothing depends on it alone but what was seen to
//! be written in place.

use std::{
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use notify::{
    Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher,
    event::{AccessKind, AccessMode, CreateKind, ModifyKind, RenameMode},
};
use tokio::sync::mpsc;

/// Hints that wait; when there are more, the folder is swept instead.
const MOST_HINTS: usize = 16_384;

/// Something happened to a name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Hint {
    /// A file was created under it.
    Created(String),
    /// A file was renamed to it.
    Renamed(String),
    /// A file was written, closed or changed otherwise.
    Touched(String),
}

/// A watched folder.
pub(super) struct Watch {
    /// The events.
    pub(super) hints: mpsc::Receiver<Hint>,
    /// The system lost something, or a directory came: look at everything.
    pub(super) sweep: Arc<AtomicBool>,
    _watcher: RecommendedWatcher,
}

/// Begins to watch.
pub(super) fn begin(folder: &Path, recursive: bool) -> notify::Result<Watch> {
    let (tell, hints) = mpsc::channel(MOST_HINTS);
    let sweep = Arc::new(AtomicBool::new(false));
    let (root, lost) = (folder.to_owned(), Arc::clone(&sweep));
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
        let all_told = match event {
            Ok(event) if event.need_rescan() => false,
            Ok(event) => hint(&root, event).is_none_or(|hint| hint.is_ok_and(|hint| tell.try_send(hint).is_ok())),
            Err(_) => false,
        };
        if !all_told {
            lost.store(true, Ordering::Release);
        }
    })?;
    let mode = if recursive { RecursiveMode::Recursive } else { RecursiveMode::NonRecursive };
    watcher.watch(folder, mode)?;
    Ok(Watch { hints, sweep, _watcher: watcher })
}

/// A directory came: what is in it has to be looked for.
struct Directory;

/// Translates an event of the system. `None` for one that says nothing of files.
fn hint(root: &Path, event: Event) -> Option<Result<Hint, Directory>> {
    let make: fn(String) -> Hint = match event.kind {
        EventKind::Create(CreateKind::Folder) => return Some(Err(Directory)),
        EventKind::Create(_) => Hint::Created,
        EventKind::Modify(ModifyKind::Name(RenameMode::To)) => Hint::Renamed,
        // It was told as `From` and `To` already, and our own reading is not of interest.
        EventKind::Modify(ModifyKind::Name(_)) => return None,
        EventKind::Modify(_) | EventKind::Access(AccessKind::Close(AccessMode::Write)) => Hint::Touched,
        _ => return None,
    };
    let path: PathBuf = event.paths.into_iter().next()?;
    if matches!(event.kind, EventKind::Modify(ModifyKind::Name(_))) && path.is_dir() {
        return Some(Err(Directory));
    }
    let name = path.strip_prefix(root).ok()?.to_str()?;
    (!name.is_empty()).then(|| Ok(make(name.to_owned())))
}
