//! Files in a folder, found step by step without following a link.
//!
//! Each step goes by the descriptor of the directory above, so a directory that is replaced
//! meanwhile leads nowhere else.

use std::{
    fs::{File, Metadata},
    io,
    path::Path,
};

use rustix::{
    fs::{CWD, Mode, OFlags, openat},
    io::Errno,
};

use crate::ingest::Origin;

/// The beginning of our own names: a file that was taken has one for the moment in which it is removed.
pub(super) const ASIDE: &str = ".forebay-";

/// A regular file that was opened, and where.
#[derive(Debug)]
pub(super) struct Found {
    /// Its directory.
    pub(super) parent: File,
    /// Its name in there.
    pub(super) name: String,
    /// The file, open to be read.
    pub(super) file: File,
    /// Its identity.
    pub(super) origin: Origin,
}

/// The reason why there is nothing to take under a name.
#[derive(Debug)]
pub(super) enum Absent {
    /// Nothing has that name.
    Gone,
    /// Something has it that is not taken as it is now.
    Refused(String),
}

/// Opens a directory, which is where a link leads to if the operator made the folder one.
pub(super) fn directory(path: &Path) -> io::Result<File> {
    Ok(openat(CWD, path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?.into())
}

/// The directory below `folder` that `name` is in, and the last part of `name`.
pub(super) fn parent<'a>(folder: &Path, name: &'a str) -> io::Result<(File, &'a str)> {
    let mut at = directory(folder)?;
    let mut parts = name.split('/');
    let last = parts.next_back().unwrap_or(name);
    for part in parts {
        let flags = OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::RDONLY | OFlags::CLOEXEC;
        at = openat(&at, part, flags, Mode::empty())?.into();
    }
    Ok((at, last))
}

/// Looks at what stands under a name; a link is itself.
pub(super) fn look(parent: &File, name: &str) -> io::Result<Metadata> {
    let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    File::from(openat(parent, name, flags, Mode::empty())?).metadata()
}

/// Opens the file `name` of `folder`.
pub(super) fn find(folder: &Path, name: &str) -> Result<Found, Absent> {
    let (parent, last) = parent(folder, name).map_err(absent)?;
    // Before it is opened: opening a device may do something.
    refuse(&look(&parent, last).map_err(absent)?)?;
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let file = File::from(openat(&parent, last, flags, Mode::empty()).map_err(|error| absent(error.into()))?);
    let meta = file.metadata().map_err(absent)?;
    refuse(&meta)?;
    let origin = Origin::of(&folder.to_string_lossy(), &meta);
    Ok(Found { name: last.to_owned(), parent, file, origin })
}

/// Refuses what is no regular file of its own.
fn refuse(meta: &Metadata) -> Result<(), Absent> {
    use std::os::unix::fs::MetadataExt;
    let kind = meta.file_type();
    let what = match () {
        () if kind.is_symlink() => "is a symbolic link".to_owned(),
        () if kind.is_dir() => "is a directory".to_owned(),
        () if !kind.is_file() => "is no regular file".to_owned(),
        () if meta.nlink() > 1 => format!("has {} hard links, and may be someone else's", meta.nlink()),
        () => return Ok(()),
    };
    Err(Absent::Refused(what))
}

/// The reason that an error of the system stands for.
fn absent(error: io::Error) -> Absent {
    match Errno::from_io_error(&error) {
        Some(Errno::NOENT | Errno::NOTDIR) => Absent::Gone,
        Some(Errno::LOOP) => Absent::Refused("is a symbolic link".to_owned()),
        _ => Absent::Refused(format!("cannot be opened: {error}")),
    }
}
