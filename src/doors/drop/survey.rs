//! One look over a folder: whether it is there and is still the same, and the names in it.

use std::{
    collections::HashSet,
    ffi::OsStr,
    fs, io,
    os::unix::fs::{DirEntryExt as _, MetadataExt as _},
    path::Path,
};

use super::{
    options::{Accept, Options},
    place::{self, ASIDE},
};
use crate::{
    ingest::{FileId, MAX_DEPTH},
    partners::Policy,
};

/// Most names of a folder that are known at once. Others have their turn when these are gone.
pub(super) const MOST_NAMES: usize = 65_536;

/// The findings of one look.
#[derive(Debug, Default)]
pub(super) struct Survey {
    /// Device and inode of the folder.
    pub(super) identity: (u64, u64),
    /// Names of files, if they were asked for.
    pub(super) names: Option<HashSet<String>>,
    /// There are more names than are known at once.
    pub(super) more: bool,
    /// Names that are not UTF-8, as well as they can be shown.
    pub(super) strange: Vec<String>,
    /// Files that a crash left under our own name, by the directory's name in the folder.
    pub(super) aside: Vec<(String, FileId)>,
}

/// Tells a look whether names are wanted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Names {
    Wanted,
    Unwanted,
}

/// Looks at the folder.
pub(super) fn survey(options: &Options, policy: &Policy, names: Names) -> io::Result<Survey> {
    let there = place::directory(&options.directory)?.metadata()?;
    let mut survey = Survey { identity: (there.dev(), there.ino()), ..Survey::default() };
    if names == Names::Wanted {
        survey.names = Some(HashSet::new());
        read(&options.directory, "", 0, options, policy, &mut survey)?;
    }
    Ok(survey)
}

/// Reads one directory, and those below it if subfolders are taken.
fn read(
    path: &Path,
    below: &str,
    depth: usize,
    options: &Options,
    policy: &Policy,
    survey: &mut Survey,
) -> io::Result<()> {
    for entry in fs::read_dir(path)? {
        let entry = entry?;
        let kind = entry.file_type()?;
        let Some(name) = entry.file_name().to_str().map(|name| format!("{below}{name}")) else {
            if survey.strange.len() < MOST_NAMES {
                survey.strange.push(format!("{below}{}", shown(&entry.file_name())));
            }
            continue;
        };
        if kind.is_dir() {
            // A directory that is gone meanwhile is no fault, and one that became a link is not followed when its
            // files are opened.
            if options.subfolders && depth + 1 < MAX_DEPTH && !policy.is_temporary(&name) && entry.ino() != 0 {
                match read(&entry.path(), &format!("{name}/"), depth + 1, options, policy, survey) {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    other => other?,
                }
            }
            continue;
        }
        if let Some(id) = name.rsplit('/').next().and_then(|last| last.strip_prefix(ASIDE)) {
            survey.aside.extend(id.parse().ok().map(|id| (below.to_owned(), id)));
            continue;
        }
        if !is_wanted(&name, options, policy) {
            continue;
        }
        let Some(names) = &mut survey.names else { continue };
        if names.len() >= MOST_NAMES {
            survey.more = true;
            return Ok(());
        }
        names.insert(name);
    }
    Ok(())
}

/// Returns whether a file of that name is ever to be taken.
pub(super) fn is_wanted(name: &str, options: &Options, policy: &Policy) -> bool {
    let last = name.rsplit('/').next().unwrap_or(name);
    !(policy.is_temporary(name)
        || last.starts_with(ASIDE)
        || (!options.subfolders && name.contains('/'))
        || (options.accept == Accept::Marker && last.ends_with(&options.marker)))
}

/// A name as it can be shown in a log.
fn shown(name: &OsStr) -> String {
    name.to_string_lossy().chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}
