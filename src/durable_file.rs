//! Small files that are replaced whole: accounts, secrets, keys, the gate's schedule, marks.
//!
//! # Guarantees
//! When [`replace`] or [`create`] returns, the new bytes are on stable storage under the name: they are written aside and
//! synced, the aside is renamed, and the directory is synced. Only its owner, the user of this process, may read or write
//! the file: mode 0600, whatever mode a file that was there before had. It is a new file: who has the old one open reads
//! the old one on, and can never write to the new one. A link at the end of the path is replaced and never followed.
//!
//! # After a crash
//! Under the name is the old file whole, or the new one whole, or none where there was none. The aside, `.<name>.tmp`
//! beside it, may be left over: the next write of the same file begins by removing it.
//!
//! # Trust
//! Nobody else writes to the directory, and one file is written by one caller at a time: callers hold a lock of their own,
//! or that of the data directory.

use std::{
    io,
    path::{Path, PathBuf},
};

use forebay_storage::disk::{Disk, OsDisk};

/// Why a file could not be written. Where the new name may be there all the same, `doing` is `"sync"`, and `path` the
/// directory.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}", path.display())]
pub struct WriteError {
    /// The action that failed.
    pub doing: &'static str,
    /// The file or directory that it failed for.
    pub path: PathBuf,
    /// The error of the system.
    #[source]
    pub source: io::Error,
}

impl From<WriteError> for io::Error {
    /// Of the same kind, and says what failed for which path.
    fn from(error: WriteError) -> Self {
        Self::new(error.source.kind(), format!("{error}: {}", error.source))
    }
}

/// Writes `bytes` under `path`, in place of what is there. Blocks for two syncs.
///
/// # Errors
/// [`WriteError`]; unless that is of the last sync, what was there before is still there.
pub fn replace(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write(&OsDisk, path, bytes, Disk::rename_over)
}

/// The same where nothing must have the name.
///
/// # Errors
/// [`WriteError`]; its source is of the kind `AlreadyExists` where something has, and that stays as it is.
pub fn create(path: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    write(&OsDisk, path, bytes, Disk::rename_new)
}

/// Makes the names in a directory durable. Blocks.
///
/// # Errors
/// [`WriteError`].
pub fn sync_directory(directory: &Path) -> Result<(), WriteError> {
    sync(&OsDisk, directory)
}

/// The directory that a file is in; of a bare name, the working directory.
#[must_use]
pub fn directory_of(path: &Path) -> &Path {
    path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

type Rename<D> = fn(&D, &Path, &Path) -> io::Result<()>;

fn write<D: Disk>(disk: &D, path: &Path, bytes: &[u8], rename: Rename<D>) -> Result<(), WriteError> {
    let aside = aside(path)?;
    disk.unlink_if_there(&aside).map_err(failed("remove", &aside))?;
    let put = write_aside(disk, &aside, bytes).and_then(|()| rename(disk, &aside, path).map_err(failed("write", path)));
    if put.is_err() {
        // A second error would say less than the first.
        let _ = disk.unlink_if_there(&aside);
    }
    put?;
    // A rename alone can vanish.
    sync(disk, directory_of(path))
}

fn write_aside(disk: &impl Disk, aside: &Path, bytes: &[u8]) -> Result<(), WriteError> {
    let file = disk.create_new(aside).map_err(failed("write", aside))?;
    file.write_at(bytes, 0).map_err(failed("write", aside))?;
    // Before the rename: else the name could come to stand for nothing.
    file.sync_all().map_err(failed("sync", aside))
}

/// Hidden, and of a name that no other file has.
fn aside(path: &Path) -> Result<PathBuf, WriteError> {
    let Some(name) = path.file_name() else {
        return Err(failed("write", path)(io::Error::new(io::ErrorKind::InvalidInput, "it is no name of a file")));
    };
    let mut hidden = std::ffi::OsString::from(".");
    hidden.push(name);
    hidden.push(".tmp");
    Ok(path.with_file_name(hidden))
}

fn sync(disk: &impl Disk, directory: &Path) -> Result<(), WriteError> {
    // The directory may be a link: the data directory often is.
    let real = disk.real_path(directory).map_or_else(|| Ok(directory.to_owned()), |path| path.canonicalize());
    real.and_then(|real| disk.sync_dir(&real)).map_err(failed("sync", directory))
}

fn failed<'a>(doing: &'static str, path: &'a Path) -> impl Fn(io::Error) -> WriteError + 'a {
    move |source| WriteError { doing, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use std::{
        fs,
        os::unix::fs::{PermissionsExt as _, symlink},
    };

    use forebay_storage::disk::sim::{SimDisk, SyncClass};

    use super::*;

    const FILE: &str = "/data/demo.json";

    fn read(disk: &SimDisk) -> Option<Vec<u8>> {
        let file = disk.open(Path::new(FILE), false).ok()?;
        let mut bytes = vec![0; usize::try_from(file.len().unwrap()).unwrap()];
        let count = file.read_at(&mut bytes, 0).unwrap();
        assert_eq!(count, bytes.len());
        Some(bytes)
    }

    /// A disk on which the file holds `old`.
    fn disk(seed: u64) -> SimDisk {
        let disk = SimDisk::new(seed).with_dir(Path::new("/data"));
        write(&disk, Path::new(FILE), b"old", Disk::rename_over).unwrap();
        disk
    }

    #[test]
    fn a_power_cut_leaves_the_old_file_or_the_new_one() {
        let whole = disk(0);
        let first = whole.operations() + 1;
        write(&whole, Path::new(FILE), b"the new one", Disk::rename_over).unwrap();
        let last = whole.operations();
        assert!(last - first >= 4, "aside, bytes, sync, rename, sync");
        for (at, seed) in (first..=last).flat_map(|at| (0..40).map(move |seed| (at, seed))) {
            let disk = disk(seed);
            disk.cut_at(at);
            let written = write(&disk, Path::new(FILE), b"the new one", Disk::rename_over);
            assert!(written.is_err(), "cut at {at}");
            let after = disk.reboot();
            let found = read(&after);
            let is_one = found.as_deref().is_some_and(|found| found == b"old" || found == b"the new one");
            assert!(is_one, "cut at {at}, seed {seed}: {found:?}");
            // What is left aside hinders nobody.
            write(&after, Path::new(FILE), b"again", Disk::rename_over).unwrap();
            assert_eq!(read(&after.reboot()).unwrap(), b"again");
        }
    }

    #[test]
    fn what_was_written_outlives_a_power_cut() {
        for seed in 0..100 {
            let disk = disk(seed);
            write(&disk, Path::new(FILE), b"the new one", Disk::rename_over).unwrap();
            disk.cut_now();
            assert_eq!(read(&disk.reboot()).unwrap(), b"the new one", "seed {seed}");
        }
    }

    /// The test above can fail: without the syncs it does.
    #[test]
    fn without_syncs_it_would_be_lost() {
        let lost = (0..100).filter(|seed| {
            let disk = SimDisk::new(*seed).with_dir(Path::new("/data")).without(SyncClass::Elsewhere);
            write(&disk, Path::new(FILE), b"the new one", Disk::rename_over).unwrap();
            disk.cut_now();
            read(&disk.reboot()).as_deref() != Some(b"the new one")
        });
        assert!(lost.count() > 20);
    }

    #[test]
    fn errors_name_the_path_and_leave_nothing_aside() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing/demo.json");
        let error = replace(&missing, b"x").unwrap_err();
        assert_eq!(error.source.kind(), io::ErrorKind::NotFound);
        assert!(error.to_string().contains("missing/.demo.json.tmp"), "{error}");
        let there = dir.path().join("there");
        create(&there, b"first").unwrap();
        let error = create(&there, b"second").unwrap_err();
        assert_eq!((error.doing, error.source.kind()), ("write", io::ErrorKind::AlreadyExists));
        assert_eq!(error.path, there);
        assert_eq!(fs::read(&there).unwrap(), b"first");
        let full = disk(1);
        full.set_capacity(0);
        assert!(write(&full, Path::new(FILE), &[7; 10_000], Disk::rename_over).is_err());
        assert_eq!(read(&full).unwrap(), b"old");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1, "no aside is left");
    }

    #[test]
    fn it_is_private_and_a_file_of_its_own() {
        let dir = tempfile::tempdir().unwrap();
        let (file, other) = (dir.path().join("secret"), dir.path().join("other"));
        fs::write(&other, "stays").unwrap();
        symlink(&other, &file).unwrap();
        // Left by a crash, and open to all.
        fs::write(dir.path().join(".secret.tmp"), "torn").unwrap();
        replace(&file, b"new").unwrap();
        let meta = fs::symlink_metadata(&file).unwrap();
        assert!(meta.is_file());
        assert_eq!(meta.permissions().mode() & 0o777, 0o600);
        assert_eq!((fs::read(&file).unwrap(), fs::read(&other).unwrap()), (b"new".to_vec(), b"stays".to_vec()));
        assert!(!dir.path().join(".secret.tmp").exists());
        let linked = dir.path().join("linked");
        symlink(dir.path(), &linked).unwrap();
        replace(&linked.join("secret"), b"through a link").unwrap();
    }
}
