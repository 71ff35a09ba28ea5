//! A durable log of records in preallocated segments.
//!
//! # Guarantees
//! When [`Log::append`] returns Ok, its records are on stable storage, in order, under consecutive sequences. One
//! `fdatasync` covers all records of a call, so the caller groups what waits. (A call that fills a segment syncs that
//! segment too, before it writes to the next.) After a failed sync, or a write that failed otherwise than for want of
//! room, the log takes nothing more: the records of that call may or may not be there after a restart. A call that
//! found no room has left nothing behind, and the log goes on.
//!
//! # After a crash
//! [`Log::open`] syncs segments and directory before it shows a record. Only invalid bytes with no valid record
//! after them, in the last segment, are a torn tail and cut; other damage is reported in [`Recovery`], the segment
//! is set aside as a copy (in `aside/` below the log), and the valid records around it are still shown. Payloads may be
//! hostile: checksums are salted with random bytes of the segment's, so nothing in a payload passes for a record. A segment's
//! name, header and zeros are durable before a record goes into it; what was being prepared is thrown away. Segments
//! that lie wholly before the sequence that is asked for are not read again at open.

mod append;
#[cfg(test)]
mod full_tests;
mod open;
#[cfg(test)]
mod power_tests;
mod read;
pub(crate) mod record;
pub(crate) mod segment;
mod take_back;
#[cfg(test)]
mod tests;

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

pub use append::Log;
pub(crate) use open::make_dir;
pub use read::LogReader;

use crate::{Result, StorageError, disk::Disk};

/// The place of a record in the log. Sequences start at 1 and have no gaps but where damage was found.
pub type Seq = u64;

type SharedDisk = Arc<dyn Disk>;

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Size of a segment in bytes, from 16 KiB to 1 GiB; a record may take a quarter of it.
    pub segment_bytes: u64,
    /// The sequence that a log begins with which has no segment yet.
    pub first: Seq,
    /// Records of these sequences are kept elsewhere, and here they may be torn: they are cut off at open, unless there are
    /// others behind them.
    pub elsewhere: Range<Seq>,
    /// No segment is of the first version of the format, which had no salt: one that tells nothing has no records.
    pub is_salted: bool,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20, first: 1, elsewhere: 0..0, is_salted: false }
    }
}

/// What [`Log::open`] found besides sound records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of a torn tail that were cut. They were never acknowledged.
    pub torn_bytes: u64,
    /// Sequences that damage took.
    pub lost: Vec<Range<Seq>>,
    /// Sequences missing within the very last append. A power cut before its acknowledgement leaves this behind, so
    /// it is most likely no loss; the segment is set aside all the same.
    pub unsettled: Vec<Range<Seq>>,
    /// Copies of damaged segments that were set aside. The same damage gives the same path at every start.
    pub set_aside: Vec<PathBuf>,
    /// The sequence of the oldest record.
    pub first: Seq,
    /// The sequence the next record gets.
    pub next: Seq,
}

/// Whether a log was begun in this directory.
pub(crate) fn has_segments(disk: &dyn Disk, dir: &Path) -> Result<bool> {
    match disk.list(dir) {
        Ok(names) => Ok(names.iter().any(|name| segment::first_of(name).is_some())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(StorageError::io(format!("cannot list {}", dir.display()), error)),
    }
}
