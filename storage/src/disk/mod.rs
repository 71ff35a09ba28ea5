//! The few calls that storage makes to a machine's disk, as a trait, so that tests can cut the
//! power (`sim`).
//!
//! What is not synced may be lost by a power cut, or kept, in any combination: names apart from
//! contents, later writes without earlier ones. The simulated disk does all of that, so code that
//! passes its tests relies on nothing that POSIX does not promise.
//!
//! Accepted bytes are read and written through it alone, with two exceptions: `local/place.rs`
//! makes reflinks by the real path, and `Sha256::is_of` reads files of others.

mod observed;
mod os;
#[cfg(any(test, feature = "sim"))]
pub mod sim;

use std::{
    fmt::Debug,
    io,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use observed::ObservedDisk;
pub use os::OsDisk;

use crate::Space;

/// A disk, as POSIX has it: what is written is there at once for everyone, and after a power cut only what was synced.
/// All calls block. Paths are absolute.
pub trait Disk: Send + Sync + Debug + 'static {
    /// Creates a file that must not exist (`O_EXCL`), for reading and writing. The name is durable
    /// only after [`Disk::sync_dir`].
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>>;
    /// Opens a file for reading and, with `write`, for writing.
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>>;
    /// Renames; fails with `AlreadyExists` when the new name is taken (RENAME_NOREPLACE).
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Renames over whatever has the new name.
    /// As `rename(2)`: whoever looks sees the old or the new one, but after a power cut either may
    /// be there.
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()>;
    /// Removes a name.
    fn unlink(&self, path: &Path) -> io::Result<()>;
    /// Removes a name; none there is no error.
    fn unlink_if_there(&self, path: &Path) -> io::Result<()> {
        match self.unlink(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            outcome => outcome,
        }
    }
    /// Creates a directory, mode 0700; fails with `AlreadyExists`.
    fn create_dir(&self, path: &Path) -> io::Result<()>;
    /// Removes a directory, which must be empty.
    fn remove_dir(&self, path: &Path) -> io::Result<()>;
    /// The names in a directory (without the directory), in no order.
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>>;
    /// Makes the names in this directory durable (fsync of the directory).
    /// Without it a created, renamed or removed name may be there after a power cut or not.
    fn sync_dir(&self, dir: &Path) -> io::Result<()>;
    /// Free and total bytes and inodes of the file system that holds `path`; the reserves are left 0.
    fn space(&self, path: &Path) -> io::Result<Space>;
    /// The real path, when bytes can be reached by one (reflink, copy by the kernel).
    fn real_path(&self, path: &Path) -> Option<PathBuf>;
}

/// An open file.
pub trait DiskFile: Send + Sync + Debug {
    /// Writes all of `bytes` at `offset`.
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()>;
    /// Reads up to `buffer.len()` bytes at `offset`; 0 at the end.
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize>;
    /// Has the next read come from the disk where it can: a page that a failed write left behind says what was meant.
    fn drop_cached(&self);
    /// Length in bytes.
    fn len(&self) -> io::Result<u64>;
    /// Whether it has no bytes.
    fn is_empty(&self) -> io::Result<bool> {
        Ok(self.len()? == 0)
    }
    /// Cuts or extends with zeros.
    fn set_len(&self, len: u64) -> io::Result<()>;
    /// Starts writing back a range, for pace only; promises nothing.
    fn write_back(&self, offset: u64, len: u64);
    /// Sets an extended attribute (needs write permission on the inode, so before `make_read_only`).
    fn set_xattr(&self, name: &str, value: &[u8]) -> io::Result<()>;
    /// An extended attribute, if it is there.
    fn xattr(&self, name: &str) -> io::Result<Option<Vec<u8>>>;
    /// Takes an extended attribute away; none there is no error.
    fn remove_xattr(&self, name: &str) -> io::Result<()>;
    /// Mode 0400.
    fn make_read_only(&self) -> io::Result<()>;
    /// Mode 0600.
    fn make_writable(&self) -> io::Result<()>;
    /// Last modification, in milliseconds since the Unix epoch.
    fn modified_ms(&self) -> io::Result<i64>;
    /// Contents, length, attributes and mode onto stable storage (fsync).
    fn sync_all(&self) -> io::Result<()>;
    /// Contents and length only (fdatasync). Attributes that were set late may be lost.
    /// Enough for the segments of a log, whose length and blocks do not change.
    fn sync_data(&self) -> io::Result<()>;
}

/// Reads up to `buffer.len()` bytes, fewer only at the end of the file.
pub fn read_full(file: &dyn DiskFile, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64)? {
            0 => break,
            more => got += more,
        }
    }
    Ok(got)
}
