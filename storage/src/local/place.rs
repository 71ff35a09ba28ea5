//! Accepted bytes under another name: copies for processors, and reading a file whole.
//!
//! # Guarantees
//! A copy is checked against the digest of the acceptance while it is made, or, for a reflink,
//! right after. On any error nothing is left at the destination. The reserve of the disk is kept:
//! half of it by copies.

use std::{
    fs::{File, OpenOptions},
    io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::Path,
    sync::Arc,
};

use sha2::Digest;

use super::{
    root::Root,
    spool::{mismatch, unreadable},
};
use crate::{Durability, FileId, FileMeta, Result, Sha256, StorageError, Verified, disk::DiskFile};

/// The most that is copied at a time.
const BUFFER_BYTES: u64 = 256 << 10;

/// The room for a copy is checked before each piece of this many bytes.
const LOOK_BYTES: u64 = 4 << 20;

/// An error of the destination, with both names.
fn placing(id: FileId, dest: &Path) -> impl Fn(io::Error) -> StorageError {
    let doing = format!("cannot place file {id} at {}", dest.display());
    move |error| StorageError::io(doing.clone(), error)
}

/// Makes a copy that is known to be what was accepted. On an error nothing is left at `dest`.
pub(super) fn copy(root: &Root, id: FileId, dest: &Path, durability: Durability) -> Result<Verified> {
    let (source, meta) = root.described(id)?;
    let copy = copy_of(root, &*source, &meta, dest)?;
    if durability == Durability::Synced {
        copy.sync_all().map_err(placing(id, dest)).inspect_err(|_| remove(root, dest))?;
    }
    Ok(Verified { size_bytes: meta.size_bytes, sha256: meta.sha256 })
}

fn copy_of(root: &Root, source: &dyn DiskFile, meta: &FileMeta, dest: &Path) -> Result<Arc<dyn DiskFile>> {
    let id = meta.id;
    let copy = match clone(root, id, dest).map_err(placing(id, dest))? {
        Cloned::Whole => {
            // The source and not the copy: they share their blocks.
            let checked = root.check(source, meta);
            checked.inspect_err(|_| remove(root, dest))?;
            return root.disk.open(dest, true).map_err(placing(id, dest));
        }
        Cloned::Empty => root.disk.open(dest, true).inspect_err(|_| remove(root, dest)),
        Cloned::Nothing => root.disk.create_new(dest),
    };
    let copy = copy.map_err(placing(id, dest))?;
    copy_bytes(root, source, &*copy, meta, dest).inspect_err(|_| remove(root, dest))?;
    Ok(copy)
}

/// Removes a copy that failed. If that fails too it is logged: the caller's error says more.
fn remove(root: &Root, dest: &Path) {
    if let Err(error) = root.disk.unlink(dest) {
        tracing::warn!(path = %dest.display(), %error, "cannot remove a copy that failed");
    }
}

/// Passes all bytes of a file to `take`, and returns whether they are what was accepted.
pub(super) fn read(root: &Root, id: FileId, take: &mut dyn FnMut(&[u8]) -> io::Result<()>) -> Result<Verified> {
    let (source, meta) = root.described(id)?;
    let taking = |error| StorageError::io(format!("cannot copy file {id}"), error);
    each_piece(&*source, &meta, &mut |piece, _| take(piece).map_err(taking))?;
    Ok(Verified { size_bytes: meta.size_bytes, sha256: meta.sha256 })
}

/// Refuses a copy of so many bytes that would take what the journal needs.
pub(super) fn admits(root: &Root, dest: &Path, bytes: u64) -> Result<()> {
    match shares_the_disk(root, dest) && root.space()?.is_short_for_a_copy(bytes) {
        true => Err(StorageError::Full),
        false => Ok(()),
    }
}

/// Returns true if the place of a copy is on the store's own file system.
fn shares_the_disk(root: &Root, dest: &Path) -> bool {
    let Some(dir) = root.disk.real_path(dest).as_deref().and_then(Path::parent).map(Path::to_owned) else {
        return false;
    };
    let device = |path: &Path| std::fs::metadata(path).map(|meta| meta.dev());
    // A directory that is not there yet will be in the one above it, of which nothing is known here.
    matches!((device(&root.path), device(&dir)), (Ok(one), Ok(other)) if one == other)
}

fn copy_bytes(root: &Root, source: &dyn DiskFile, copy: &dyn DiskFile, meta: &FileMeta, dest: &Path) -> Result<()> {
    // Others copy at the same time: it is looked at again and again, not once.
    let looks = shares_the_disk(root, dest);
    each_piece(source, meta, &mut |piece, at| {
        if looks && at % LOOK_BYTES == 0 {
            admits(root, dest, LOOK_BYTES.min(meta.size_bytes.saturating_sub(at)))?;
        }
        copy.write_at(piece, at).map_err(placing(meta.id, dest))
    })
}

/// Gives all bytes of a file to `take`, each piece with its place, and compares them with the metadata.
fn each_piece(source: &dyn DiskFile, meta: &FileMeta, take: &mut dyn FnMut(&[u8], u64) -> Result<()>) -> Result<()> {
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
        take(&buffer[..got], at)?;
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

/// Makes `dest` share the blocks of the file, where the file system can (FICLONE). Any failure of
/// that is no error: the copy is made the slow way.
fn clone(root: &Root, id: FileId, dest: &Path) -> io::Result<Cloned> {
    let (Some(from), Some(to)) = (root.disk.real_path(&root.spool_path(id)), root.disk.real_path(dest)) else {
        return Ok(Cloned::Nothing);
    };
    let source = File::open(from)?;
    let copy = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&to)?;
    Ok(if rustix::fs::ioctl_ficlone(&copy, &source).is_ok() { Cloned::Whole } else { Cloned::Empty })
}
