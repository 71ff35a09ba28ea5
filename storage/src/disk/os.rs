//! The machine's own disk: each method is one system call, or few, with EINTR and links taken care
//! of.

use std::{
    fs::{self, File},
    io,
    os::{
        fd::AsRawFd,
        unix::fs::{FileExt, MetadataExt},
    },
    path::{Path, PathBuf},
    sync::Arc,
};

use rustix::{
    fs::{CWD, Mode, OFlags, RenameFlags, XattrFlags},
    io::Errno,
};

use super::{Disk, DiskFile, observed::timed};
use crate::{Observer, Space, Synced};

/// The machine's own disk. Links at the end of a path are never followed.
#[derive(Debug, Default)]
pub struct OsDisk;

impl OsDisk {
    /// The disk, ready to be shared.
    #[must_use]
    pub fn shared() -> Arc<dyn Disk> {
        Arc::new(Self)
    }
}

impl Disk for OsDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(create_new(path)?))
    }

    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        Ok(Arc::new(open(path, write)?))
    }

    /// RENAME_NOREPLACE is not known to every file system: `Root::probe` tries it at the start.
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        Ok(rustix::fs::renameat_with(CWD, from, CWD, to, RenameFlags::NOREPLACE)?)
    }

    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        fs::rename(from, to)
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        fs::remove_file(path)
    }

    fn create_dir(&self, path: &Path) -> io::Result<()> {
        Ok(rustix::fs::mkdir(path, Mode::RWXU)?)
    }

    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        fs::remove_dir(path)
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        fs::read_dir(dir)?.map(|entry| Ok(entry?.file_name().into())).collect()
    }

    /// A directory is opened for reading to be synced: Linux wants no write permission for that.
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        // A link where a directory should be must not be synced in its place.
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        Ok(rustix::fs::fsync(rustix::fs::open(dir, flags, Mode::empty())?)?)
    }

    fn space(&self, path: &Path) -> io::Result<Space> {
        let stat = rustix::fs::statvfs(path)?;
        Ok(Space {
            // `f_bavail` and not `f_bfree`: what is kept for root is not ours.
            free_bytes: stat.f_bavail.saturating_mul(stat.f_frsize),
            total_bytes: stat.f_blocks.saturating_mul(stat.f_frsize),
            reserve_bytes: 0,
            free_inodes: stat.f_favail,
            total_inodes: stat.f_files,
            reserve_inodes: 0,
        })
    }

    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        Some(path.to_path_buf())
    }
}

pub(super) fn create_new(path: &Path) -> io::Result<OsFile> {
    open_with(path, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)
}

pub(super) fn open(path: &Path, write: bool) -> io::Result<OsFile> {
    open_with(path, if write { OFlags::RDWR } else { OFlags::RDONLY })
}

/// Opens a file without following a link at its end.
fn open_with(path: &Path, flags: OFlags) -> io::Result<OsFile> {
    // A FIFO that someone put here must not stop the opener; on regular files the flag means nothing.
    let flags = flags | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::NONBLOCK;
    let fd = rustix::fs::open(path, flags, Mode::RUSR | Mode::WUSR)?;
    Ok(OsFile { file: File::from(fd), observer: None })
}

/// An open file of the machine.
#[derive(Debug)]
pub(super) struct OsFile {
    file: File,
    /// Is told of its syncs.
    observer: Option<Arc<dyn Observer>>,
}

impl OsFile {
    pub(super) fn observed_by(self, observer: &Arc<dyn Observer>) -> Self {
        Self { observer: Some(Arc::clone(observer)), ..self }
    }

    fn sync(&self, what: Synced, sync: impl FnOnce(&File) -> io::Result<()>) -> io::Result<()> {
        match &self.observer {
            Some(observer) => timed(&**observer, what, || sync(&self.file)),
            None => sync(&self.file),
        }
    }
}

impl DiskFile for OsFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_all_at(bytes, offset)
    }

    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        loop {
            match self.file.read_at(buffer, offset) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                outcome => return outcome,
            }
        }
    }

    fn drop_cached(&self) {
        // Its answer is of no interest: a file system without a cache has nothing to drop.
        let _ = rustix::fs::fadvise(&self.file, 0, None, rustix::fs::Advice::DontNeed);
    }

    fn len(&self) -> io::Result<u64> {
        Ok(self.file.metadata()?.len())
    }

    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }

    #[allow(unsafe_code, reason = "sync_file_range has no safe wrapper in rustix or std")]
    fn write_back(&self, offset: u64, len: u64) {
        let (Ok(offset), Ok(len)) = (i64::try_from(offset), i64::try_from(len)) else { return };
        // SAFETY: the descriptor is open for as long as self is borrowed, and the call takes no pointers. Its answer
        // is of no interest: it only spreads the work that the later fsync would do at once, and fsync reports
        // errors of its own.
        let _ = unsafe { libc::sync_file_range(self.file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE) };
    }

    fn set_xattr(&self, name: &str, value: &[u8]) -> io::Result<()> {
        Ok(rustix::fs::fsetxattr(&self.file, name, value, XattrFlags::empty())?)
    }

    fn xattr(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        // 64 KiB is the kernel's limit for a value; nearly all of ours fit the first try.
        for size in [4 << 10, 64 << 10] {
            let mut value = vec![0; size];
            match rustix::fs::fgetxattr(&self.file, name, &mut value[..]) {
                Ok(len) => {
                    value.truncate(len);
                    return Ok(Some(value));
                }
                Err(Errno::NODATA) => return Ok(None),
                // Longer than the first buffer: asked again with the largest.
                Err(Errno::RANGE) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Err(Errno::RANGE.into())
    }

    fn remove_xattr(&self, name: &str) -> io::Result<()> {
        match rustix::fs::fremovexattr(&self.file, name) {
            Ok(()) | Err(Errno::NODATA) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }

    fn make_read_only(&self) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.file, Mode::RUSR)?)
    }

    fn make_writable(&self) -> io::Result<()> {
        Ok(rustix::fs::fchmod(&self.file, Mode::RUSR | Mode::WUSR)?)
    }

    fn modified_ms(&self) -> io::Result<i64> {
        let metadata = self.file.metadata()?;
        Ok(metadata.mtime().saturating_mul(1000).saturating_add(metadata.mtime_nsec() / 1_000_000))
    }

    fn sync_all(&self) -> io::Result<()> {
        self.sync(Synced::File, File::sync_all)
    }

    fn sync_data(&self) -> io::Result<()> {
        self.sync(Synced::Data, File::sync_data)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_keeps_bytes_and_attributes_and_names_are_never_taken_over() {
        let dir = tempfile::tempdir().expect("a directory");
        let (a, b) = (dir.path().join("a"), dir.path().join("b"));
        let file = OsDisk.create_new(&a).expect("created");
        assert_eq!(OsDisk.create_new(&a).expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        file.write_at(b"hello", 3).expect("written");
        file.write_back(0, 8);
        assert_eq!(file.xattr("user.forebay").expect("asked"), None);
        file.set_xattr("user.forebay", &[7; 3000]).expect("set");
        assert_eq!(file.xattr("user.forebay").expect("asked"), Some(vec![7; 3000]));
        file.make_read_only().expect("mode");
        file.sync_all().expect("synced");
        OsDisk.create_new(&b).expect("created");
        assert_eq!(OsDisk.rename_new(&a, &b).expect_err("taken").kind(), io::ErrorKind::AlreadyExists);
        OsDisk.unlink(&b).expect("unlinked");
        OsDisk.rename_new(&a, &b).expect("renamed");
        OsDisk.sync_dir(dir.path()).expect("synced");
        let mut bytes = [9; 9];
        assert_eq!(OsDisk.open(&b, false).expect("opened").read_at(&mut bytes, 0).expect("read"), 8);
        assert_eq!(&bytes, b"\0\0\0hello\x09");
    }

    #[test]
    fn links_are_not_followed() {
        let dir = tempfile::tempdir().expect("a directory");
        let (target, link) = (dir.path().join("target"), dir.path().join("link"));
        fs::write(&target, b"x").expect("written");
        std::os::unix::fs::symlink(&target, &link).expect("linked");
        assert!(OsDisk.open(&link, true).is_err());
    }
}
