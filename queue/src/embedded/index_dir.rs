//! The directory of the index: made, put in another's place, set aside, and copied into a smaller one.

use std::{
    io,
    ops::ControlFlow,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
};

use super::{
    index::{self, Fault, Index},
    layered::Changes,
    recover::{CHUNK, io},
};
use crate::Watch;

/// What to do with the index that is replaced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Old {
    /// Set it aside: someone may want to know what happened to it.
    Keep,
    Remove,
}

/// An empty index in place of the one in `dir`, which must be closed; and where that one went, if it was kept.
pub(super) fn fresh_index(dir: &Path, cache_bytes: u64, old: Old) -> Result<(Index, Option<PathBuf>), Fault> {
    let mut aside = None;
    if dir.try_exists().map_err(Fault::Disk)? {
        match old {
            Old::Keep => aside = Some(set_aside(dir).map_err(Fault::Disk)?),
            Old::Remove => {
                let away = beside(dir, "old");
                std::fs::rename(dir, &away).map_err(Fault::Disk)?;
                std::fs::remove_dir_all(&away).map_err(Fault::Disk)?;
            }
        }
    }
    make_dir(dir)?;
    Ok((Index::open(dir, cache_bytes)?, aside))
}

/// Copies what is live into a fresh directory, for sled gives no room back; and whether that was done. Without room for
/// both it is left as it is.
pub(super) fn compact(mut old: Index, dir: &Path, cache_bytes: u64, watch: &Watch) -> Result<(Index, bool), Fault> {
    let path = beside(dir, "new");
    let mut new = match make_dir(&path).and_then(|()| Index::open(&path, cache_bytes)) {
        Err(Fault::Disk(_)) => return Ok((old, false)),
        opened => opened?,
    };
    let (mut batch, mut count) = (Changes::new(), 0);
    old.scan(&[0], &[0xff], |key, value| {
        batch.insert(key, Some(value));
        count += 1;
        if count % CHUNK == 0 {
            new.apply(std::mem::take(&mut batch))?;
            // How much there is nobody knows.
            watch.at(0, 1)?;
        }
        Ok(if new.is_behind() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) })
    })?;
    new.apply(batch)?;
    if new.is_behind() {
        new.close();
        // The next start tries that again too.
        let _ = std::fs::remove_dir_all(&path);
        return Ok((old, false));
    }
    old.close();
    new.close();
    // A crash between the two leaves no index, and the next start makes it anew from the journal.
    std::fs::remove_dir_all(dir).map_err(|error| io("cannot remove the old index", error))?;
    std::fs::rename(&path, dir).map_err(|error| io("cannot move the new index into place", error))?;
    Ok((Index::open(dir, cache_bytes)?, true))
}

pub(super) fn make_dir(dir: &Path) -> Result<(), Fault> {
    let made = std::fs::DirBuilder::new().recursive(true).mode(0o700).create(dir);
    made.map_err(|error| match index::is_full(&error) {
        true => Fault::Disk(error),
        false => io(&format!("cannot make {}", dir.display()), error).into(),
    })
}

pub(super) fn beside(dir: &Path, what: &str) -> PathBuf {
    let mut name = dir.file_name().unwrap_or_default().to_owned();
    name.push(".");
    name.push(what);
    dir.with_file_name(name)
}
/// Moves the directory of an index out of the way, named after the time it was last written, and says where to.
fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let written = std::fs::metadata(dir.join("db")).or_else(|_| std::fs::metadata(dir))?.modified()?;
    let written = chrono::DateTime::<chrono::Utc>::from(written).format("%Y%m%dT%H%M%SZ");
    let name = dir.file_name().map_or_else(|| "queue".into(), |name| name.to_string_lossy().into_owned());
    for count in 0.. {
        let suffix = if count == 0 { String::new() } else { format!("-{count}") };
        let aside = dir.with_file_name(format!("{name}.corrupt-{written}{suffix}"));
        if !aside.try_exists()? {
            std::fs::rename(dir, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other("no name is left to set the index aside"))
}
