//! A durable log of records in preallocated segments.
//!
//! # Guarantees
//! When [`Log::append`] returns Ok, its records are on stable storage, in order, under consecutive sequences. One
//! `fdatasync` covers all records of a call, so the caller groups what waits.
//!
//! # After a crash
//! [`Log::open`] syncs segments and directory before it shows a record. Only invalid bytes with no valid record
//! after them, in the last segment, are a torn tail and cut; other damage is reported in [`Recovery`], the segment
//! is set aside as a copy, and the valid records around it are still shown.

use std::{ops::Range, path::PathBuf};

/// The place of a record in the log. Sequences start at 1 and have no gaps but where damage was found.
pub type Seq = u64;

/// How a log is laid out.
#[derive(Clone, Debug)]
pub struct LogOptions {
    /// Size of a segment in bytes; a record may take a quarter of it.
    pub segment_bytes: u64,
}

impl Default for LogOptions {
    fn default() -> Self {
        Self { segment_bytes: 16 << 20 }
    }
}

/// What [`Log::open`] found besides sound records.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recovery {
    /// Bytes of a torn tail that were cut. They were never acknowledged.
    pub torn_bytes: u64,
    /// Sequences that damage took.
    pub lost: Vec<Range<Seq>>,
    /// Copies of damaged segments that were set aside.
    pub set_aside: Vec<PathBuf>,
    /// The sequence of the oldest record.
    pub first: Seq,
    /// The sequence the next record gets.
    pub next: Seq,
}
