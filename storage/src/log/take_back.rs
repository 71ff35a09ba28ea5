//! Takes back a group whose write found no room.
//!
//! Room that was made ahead is no promise where the file system writes elsewhere what is written over (btrfs, ZFS) and a
//! quota is spent. A part of the group may be in the file then, and in the segments before, synced.
//!
//! # Guarantees
//! When [`Log::take_back`] returns Ok, no record of the group is on the disk, durably: none is shown by a restart, and none
//! stands behind what is written in its place. The log goes on where it stood before the group.
//!
//! # After a crash
//! A crash before Ok leaves the group's first records, or none: as after a crash before the group's own sync. Nobody was
//! told of them.

use std::{io, sync::Arc};

use super::{
    Log, Seq,
    append::broken,
    record::used,
    segment::{DATA_START, Segment},
};
use crate::{
    Result, StorageError,
    disk::{DiskFile, read_full},
    error::is_full,
};

/// What is looked at and written at a time, in bytes.
const PIECE: usize = 64 << 10;

/// Where the log stood before a group.
#[derive(Debug)]
pub(super) struct Before {
    next: Seq,
    at: u64,
    current: Arc<Segment>,
}

impl Before {
    pub(super) fn of(log: &Log) -> Self {
        Self { next: log.next, at: log.at, current: log.current.clone() }
    }
}

impl Log {
    /// Makes what there is of the group unreadable, durably. No sync of the group may have failed.
    ///
    /// # Errors
    /// Never [`StorageError::Full`]: the log is in no known state then, and has to be poisoned.
    pub(super) fn take_back(&mut self, before: &Before) -> Result<()> {
        // The newest first: a crash in between leaves no hole.
        while self.current.first > before.next {
            self.remove_current()?;
        }
        // A segment that began with the group stays, empty: the one before it may be gone.
        self.at = if Arc::ptr_eq(&self.current, &before.current) { before.at } else { DATA_START };
        self.next = before.next;
        self.current.forget_from(before.next);
        self.erase()?;
        self.sync()
    }

    /// Removes the newest segment, durably, and goes back to the one before it.
    fn remove_current(&mut self) -> Result<()> {
        let (disk, path) = (&self.shared.disk, &self.current.path);
        let removing = |e| broken(format!("cannot take back {}", path.display()), e);
        disk.unlink(path).map_err(removing)?;
        disk.sync_dir(&self.shared.dir).map_err(removing)?;
        let mut segments = self.shared.segments.write();
        segments.pop();
        let Some(last) = segments.last().cloned() else {
            return Err(StorageError::Unsupported("no segment is left".to_owned()));
        };
        self.file = disk.open(&last.path, true).map_err(removing)?;
        self.current = last;
        Ok(())
    }

    /// Has zeros where the next record goes, and behind it. Where the disk has no room even for these, the segments that
    /// were made ahead give theirs.
    fn erase(&mut self) -> Result<()> {
        let mut erased = erase(&*self.file, self.at, self.current.end);
        if matches!(&erased, Err(error) if is_full(error)) && self.give_up_spares()? {
            erased = erase(&*self.file, self.at, self.current.end);
        }
        erased.map_err(|e| broken(format!("cannot take back what was written to {}", self.current.path.display()), e))
    }

    fn give_up_spares(&mut self) -> Result<bool> {
        self.spares.give_up().map_err(|error| match error {
            StorageError::Full => broken("cannot remove a segment".to_owned(), io::ErrorKind::StorageFull.into()),
            other => other,
        })
    }
}

/// Writes zeros over everything from `from` to `end` that is not zero. What is zero was not written, and is not touched: it
/// would cost room.
fn erase(file: &dyn DiskFile, from: u64, end: u64) -> io::Result<()> {
    let mut piece = vec![0; PIECE];
    let mut at = from;
    while at < end {
        let most = usize::try_from(end - at).unwrap_or(PIECE).min(PIECE);
        let got = read_full(file, &mut piece[..most], at)?;
        let written = used(&piece[..got]);
        if written > 0 {
            file.write_at(&vec![0; written], at)?;
        }
        if got < most {
            break;
        }
        at += got as u64;
    }
    Ok(())
}
