//! Accepted bytes under another name.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
};

use sha2::Digest;

use super::{
    root::Root,
    spool::{mismatch, unreadable},
};
use crate::{FileId, FileMeta, Placement, Result, Sha256, StorageError, disk::DiskFile};

/// The most that is copied at a time.
const BUFFER_BYTES: u64 = 256 << 10;

pub(super) fn place(root: &Root, id: FileId, dest: &Path, how: Placement) -> Result<()> {
    match how {
        Placement::Copy => copy(root, id, dest).map(drop),
        Placement::Link => link(root, id, dest),
    }
}

fn placing(id: FileId, dest: &Path) -> impl Fn(io::Error) -> StorageError {
    let doing = format!("cannot place file {id} at {}", dest.display());
    move |error| StorageError::io(doing.clone(), error)
}

fn link(root: &Root, id: FileId, dest: &Path) -> Result<()> {
    use io::ErrorKind::{CrossesDevices, NotFound, PermissionDenied, TooManyLinks, Unsupported};
    match root.disk.link(&root.spool_path(id), dest) {
        Ok(()) => Ok(()),
        // File systems without hard links say EPERM.
        Err(error) if matches!(error.kind(), CrossesDevices | PermissionDenied | TooManyLinks | Unsupported) => {
            copy(root, id, dest)?.make_read_only().map_err(placing(id, dest))
        }
        Err(error) if error.kind() == NotFound => {
            root.open_spooled(id)?;
            Err(placing(id, dest)(error))
        }
        Err(error) => Err(placing(id, dest)(error)),
    }
}

/// Whether both names are one inode's.
pub(super) fn is_link(root: &Root, id: FileId, at: &Path) -> Result<bool> {
    let (Some(spooled), Some(there)) = (root.disk.real_path(&root.spool_path(id)), root.disk.real_path(at)) else {
        return Ok(false);
    };
    let inode = |path: &Path| match path.symlink_metadata() {
        Ok(found) => Ok(Some((found.dev(), found.ino()))),
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => Ok(None),
        Err(error) => Err(StorageError::io(format!("cannot look at {}", path.display()), error)),
    };
    let spooled = inode(&spooled)?;
    Ok(spooled.is_some() && spooled == inode(&there)?)
}

/// A copy that is known to be what was accepted; nothing is left at `dest` otherwise.
fn copy(root: &Root, id: FileId, dest: &Path) -> Result<std::sync::Arc<dyn DiskFile>> {
    let (source, meta) = root.described(id)?;
    let copy = match clone(root, id, dest).map_err(placing(id, dest))? {
        Cloned::Whole => {
            let checked = root.check(&*source, &meta);
            checked.inspect_err(|_| remove(root, dest))?;
            return root.disk.open(dest, true).map_err(placing(id, dest));
        }
        Cloned::Empty => root.disk.open(dest, true).inspect_err(|_| remove(root, dest)),
        Cloned::Nothing => root.disk.create_new(dest),
    };
    let copy = copy.map_err(placing(id, dest))?;
    copy_bytes(&*source, &*copy, &meta, dest).inspect_err(|_| remove(root, dest))?;
    Ok(copy)
}

fn remove(root: &Root, dest: &Path) {
    if let Err(error) = root.disk.unlink(dest) {
        tracing::warn!(path = %dest.display(), %error, "cannot remove a copy that failed");
    }
}

fn copy_bytes(source: &dyn DiskFile, copy: &dyn DiskFile, meta: &FileMeta, dest: &Path) -> Result<()> {
    let mut hasher = sha2::Sha256::new();
    // One byte more than there should be: then the end is seen by the first read of a small file.
    let mut buffer = vec![0; usize::try_from(meta.size_bytes.saturating_add(1).min(BUFFER_BYTES)).unwrap_or(1)];
    let mut at = 0;
    loop {
        let got = source.read_at(&mut buffer, at).map_err(unreadable(meta.id))?;
        if got == 0 {
            break;
        }
        hasher.update(&buffer[..got]);
        copy.write_at(&buffer[..got], at).map_err(placing(meta.id, dest))?;
        at += got as u64;
    }
    match mismatch(meta, at, Sha256(hasher.finalize().into())) {
        Some(what) => Err(StorageError::Damaged { id: meta.id, what }),
        None => Ok(()),
    }
}

/// What an attempt to share blocks left behind.
enum Cloned {
    /// All of the file.
    Whole,
    /// A new file with nothing in it yet: making it a second time would cost as much again.
    Empty,
    /// Nothing.
    Nothing,
}

/// Makes `dest` share the blocks of the file, where the file system can.
fn clone(root: &Root, id: FileId, dest: &Path) -> io::Result<Cloned> {
    let (Some(from), Some(to)) = (root.disk.real_path(&root.spool_path(id)), root.disk.real_path(dest)) else {
        return Ok(Cloned::Nothing);
    };
    let source = File::open(from)?;
    let copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to)?;
    Ok(if rustix::fs::ioctl_ficlone(&copy, &source).is_ok() { Cloned::Whole } else { Cloned::Empty })
}
