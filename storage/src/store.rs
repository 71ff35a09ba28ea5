//! The contracts of a place that keeps bytes: [`Storage`], [`Upload`], [`Sealed`] and
//! [`SpoolMaintenance`].
//!
//! # Guarantees
//! - [`Sealed::commit`] returning `Ok` means that bytes, metadata and name are on stable storage.
//!   `Err` means that nothing of it is in the spool.
//! - A small file may never come here: [`Sealed::into_inline`] returns its bytes, and the caller
//!   makes them durable with its own record.
//! - No caller learns where a file lies. Two methods take a path from the caller, as the place of a
//!   copy (`materialize`, `admits_copy`).
//! - After a failed sync a store takes nothing more until a restart ([`StorageError::Poisoned`]).
//!
//! It names no queue and no rules of partners.

use std::{ops::Range, path::Path};

use async_trait::async_trait;
use bytes::Bytes;
use chrono::{DateTime, Utc};

use crate::{FileId, FileMeta, NewFile, Result, StorageError};

/// A place that keeps bytes. Cheap to share; every method may be called from many tasks at once.
///
/// No caller assumes that an accepted file is a file of its own on a local disk, or that there is one process. Small
/// files need not be here at all ([`Sealed::into_inline`]).
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Begins an upload. Ok promises nothing yet; [`StorageError::Full`] and [`StorageError::Poisoned`] are answered
    /// here already, so that a door can refuse before the first byte.
    ///
    /// Costs no disk access but the question for free space: the file is created when its bytes no
    /// longer stay in memory.
    async fn begin(&self, file: NewFile) -> Result<Box<dyn Upload>>;

    /// Goes on with the partial of this partner and name at byte `at` of what it has, which must not lie beyond what is
    /// durable. Bytes beyond `at` are dropped; the digest covers the whole. One writer at a time ([`StorageError::Busy`]).
    /// The file has to go on from the same accepted file as the partial, or from none as it does.
    async fn resume(&self, file: NewFile, at: u64) -> Result<Box<dyn Upload>>;

    /// What is kept of an upload that was cut, if anything. Its length is durable.
    async fn partial(&self, partner: &str, name: &str) -> Result<Option<PartialInfo>>;

    /// Removes partials that were last written before `older_than`, and returns how many.
    async fn sweep_partials(&self, older_than: DateTime<Utc>) -> Result<usize>;

    /// How many partials of this partner there are.
    async fn partial_count(&self, partner: &str) -> Result<u64>;

    /// Removes all partials of this partner but those that are being written, and returns how many.
    async fn forget_partials(&self, partner: &str) -> Result<usize>;

    /// Bytes that the partials of this partner take.
    async fn partial_bytes(&self, partner: &str) -> Result<u64>;

    /// Whether this partner may have partials, for those who would look after every upload.
    fn may_have_partials(&self, partner: &str) -> bool;

    /// Removes the partial of this name, unless somebody goes on with it. None is no error.
    async fn drop_partial(&self, partner: &str, name: &str) -> Result<()>;

    /// Removes the oldest partials of this partner until they are so many bytes, but for that of the name `but` and those
    /// that somebody goes on with; gives how many bytes they were.
    async fn give_up_partials(&self, partner: &str, bytes: u64, but: &str) -> Result<u64>;

    /// Takes a committed file back before anyone was told of it. Ok: it will not be there after a crash either.
    /// When that cannot be made durable the store is poisoned, for a file that was refused must not appear later.
    /// Used for a file whose record could not be journalled, and for one that is withdrawn.
    async fn retract(&self, id: FileId, keep: Retract) -> Result<()>;

    /// A range of the bytes of an accepted file, short at its end. Not verified: only the whole has a digest.
    async fn read(&self, id: FileId, range: Range<u64>) -> Result<Bytes>;

    /// Gives all bytes of an accepted file to `take`, in pieces and in order. Verified on the way: on an error what was given
    /// is worth nothing. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Damaged`] when the bytes are not what was accepted, and the error of `take`
    /// as [`StorageError::Io`].
    fn read_whole(&self, id: FileId, take: &mut dyn FnMut(&[u8]) -> std::io::Result<()>) -> Result<Verified>;

    /// Puts a copy (a reflink where the file system can) of the accepted bytes at `destination`, which must not exist.
    /// Verified on the way: on an error nothing is left there. Blocks.
    ///
    /// # Errors
    /// [`StorageError::Full`], [`StorageError::Damaged`], or what the machine reported.
    fn materialize(&self, id: FileId, destination: &Path, durability: Durability) -> Result<Verified>;

    /// Removes files for good. Ok: none of them comes back after a crash. Missing files are no error.
    /// Partners' copies and links are not touched: only what storage keeps.
    async fn remove(&self, ids: &[FileId]) -> Result<()>;

    /// Ends the store: what is to be committed, taken back or removed later is refused, and when this returns nothing
    /// changes accepted files any more.
    ///
    /// # Errors
    /// When not everything could be left in order; nothing is lost by that.
    async fn close(&self) -> Result<()>;

    /// Whether so many more bytes of a copy at this place leave what the journal needs; always where that is another file
    /// system.
    ///
    /// # Errors
    /// [`StorageError::Full`] when it does not.
    fn admits_copy(&self, destination: &Path, bytes: u64) -> Result<()>;

    /// Free space and the reserve that uploads do not touch.
    /// Four rules use it: uploads keep away from the whole reserve ([`Space::is_short`]), copies
    /// from half of it ([`Space::is_short_for_a_copy`]), and `ingest` has shares of its own for a
    /// partner's partials and for files that are over (`ingest/share.rs`, `ingest/kept.rs`).
    fn space(&self) -> Result<Space>;

    /// Why the store takes nothing more, if it does not.
    fn poisoned(&self) -> Option<String>;
}

/// Upkeep of a place that keeps bytes on this machine's disk: for recovery and for operators.
#[async_trait]
pub trait SpoolMaintenance: Send + Sync + 'static {
    /// Every id in the spool, in ascending order.
    async fn ids(&self) -> Result<Vec<FileId>>;

    /// What the file says of itself.
    async fn meta(&self, id: FileId) -> Result<FileMeta>;

    /// Reads a spool file whole and says whether it is what it claims to be. What is sound is also synced.
    async fn inspect(&self, id: FileId) -> Result<SpoolItem>;

    /// As [`SpoolMaintenance::inspect`], and writes nothing: what is checked beside uploads must not make them wait for the
    /// disk.
    async fn examine(&self, id: FileId) -> Result<SpoolItem>;

    /// Moves a spool file that cannot be trusted out of the way, with the reason beside it. It is never deleted.
    async fn set_aside(&self, id: FileId, reason: &str) -> Result<()>;
}

/// An upload in progress. Dropping it without a word keeps nothing, nor does a failed commit: also the partial it
/// went on with is gone then.
#[async_trait]
pub trait Upload: Send {
    /// Bytes so far, with those that were resumed; without those of an accepted file that it goes on from.
    fn len(&self) -> u64;

    /// Whether there are none yet.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Takes the next bytes, in large pieces (256 KiB is good). Bounded memory: waits when the disk is behind.
    ///
    /// Not cancel safe: a dropped call may have taken the chunk or not, so the upload has to be
    /// dropped too.
    async fn write(&mut self, chunk: Bytes) -> Result<()>;

    /// No more bytes come. Waits until none is on its way any more, so that what is left is one piece of blocking work.
    ///
    /// # Errors
    /// That of an earlier write: [`StorageError::Full`] when it found no room. Nothing is kept
    /// then.
    async fn seal(self: Box<Self>) -> Result<Box<dyn Sealed>>;

    /// Seals and commits, for those who are not on a thread that may block. Not cancel safe: the work goes on when the
    /// future is dropped. Promises and fails as [`Sealed::commit`].
    async fn commit(self: Box<Self>, received_at: DateTime<Utc>) -> Result<FileMeta>;

    /// Makes what came durable as the partial of its partner and name, gives its length, and goes on. Until this upload is
    /// over nobody else can go on with that partial or take its place. Busy when somebody else has it; then nothing has
    /// changed.
    async fn sync(&mut self) -> Result<u64>;

    /// Keeps what came as a partial to resume, synced, and returns its length.
    async fn keep_partial(self: Box<Self>) -> Result<u64>;

    /// Drops everything.
    async fn abort(self: Box<Self>) -> Result<()>;
}

/// Where the bytes of an accepted file are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// Here: they are few, and become durable with the record of the acceptance.
    Inline(Bytes),
    /// In storage, durable already.
    Kept,
}

/// An upload that has all its bytes. Dropping it keeps nothing.
pub trait Sealed: Send {
    /// The bytes themselves and what they are, when they are so few that they need no place of their own. Nothing of them
    /// is on the disk then: they are as durable as what the caller does with them. Does not block.
    /// `Err` is the usual way of a larger file, and no failure.
    ///
    /// # Errors
    /// The upload again, when its bytes are too many: they are to be committed.
    fn into_inline(self: Box<Self>, received_at: DateTime<Utc>) -> Result<(FileMeta, Bytes), Box<dyn Sealed>>;

    /// Ok: bytes, metadata and directory entry are on stable storage, and the file is immutable.
    /// Err: nothing of it is in the spool. Blocks.
    fn commit(self: Box<Self>, received_at: DateTime<Utc>) -> Result<FileMeta>;
}

/// What is kept of an upload that was cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PartialInfo {
    /// Durable length in bytes.
    pub size_bytes: u64,
    /// The accepted file that its bytes go on from, and the length of that.
    pub goes_on: Option<(FileId, u64)>,
    /// When it was last written.
    pub written_at: DateTime<Utc>,
}

/// What to do with the bytes of a commit that is taken back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Retract {
    /// Keep them as the partial of that partner and name.
    ToPartial,
    /// Drop them.
    Drop,
}

/// Whether a copy is on stable storage when it is there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Its bytes are synced; its name is the caller's to sync.
    Synced,
    /// Nothing is synced.
    Unsynced,
}

/// Bytes that were found to be what was accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verified {
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes.
    pub sha256: crate::Sha256,
}

/// A spool file after a look at all of it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SpoolItem {
    /// Metadata, size and digest agree.
    Sound(FileMeta),
    /// They do not.
    Damaged {
        /// The file.
        id: FileId,
        /// What was found.
        what: String,
    },
}

/// Room on the disk, in bytes and inodes.
///
/// Free bytes and inodes are those of this process, without what a file system keeps for root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Space {
    /// Free for this process.
    pub free_bytes: u64,
    /// The size of the file system.
    pub total_bytes: u64,
    /// What uploads leave untouched so that the journal can go on.
    pub reserve_bytes: u64,
    /// Files that can still be made.
    pub free_inodes: u64,
    /// How many the file system can have; 0 where it has no fixed number.
    pub total_inodes: u64,
    /// Inodes that uploads leave untouched.
    pub reserve_inodes: u64,
}

impl Space {
    /// Whether uploads are refused for want of room.
    /// The journal, the index and the outcomes of processors go on below this.
    #[must_use]
    pub fn is_short(&self) -> bool {
        self.free_bytes <= self.reserve_bytes || self.is_short_of_inodes()
    }

    /// Says what there is too little of for uploads, and how much is left.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        let (bytes, inodes) = (self.free_bytes <= self.reserve_bytes, self.is_short_of_inodes());
        let mebibytes = |bytes: u64| format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20));
        match (bytes, inodes) {
            (true, _) if self.free_bytes == 0 => Some("the disk is full and its reserve is spent".to_owned()),
            (true, _) => Some(format!(
                "the disk is full but for its reserve of {}, of which {} are free",
                mebibytes(self.reserve_bytes),
                mebibytes(self.free_bytes)
            )),
            (false, true) => Some(format!(
                "the file system has no inodes but for a reserve of {}, of which {} are free",
                self.reserve_inodes, self.free_inodes
            )),
            (false, false) => None,
        }
    }

    /// Whether uploads are refused for want of inodes.
    #[must_use]
    pub fn is_short_of_inodes(&self) -> bool {
        self.total_inodes > 0 && self.free_inodes <= self.reserve_inodes
    }

    /// Whether there is no room for so many more bytes of a copy that is made for somebody else: such copies take half of
    /// the reserve at most, and what is left is the journal's.
    #[must_use]
    pub fn is_short_for_a_copy(&self, bytes: u64) -> bool {
        let inodes = self.total_inodes > 0 && self.free_inodes <= self.reserve_inodes / 2;
        inodes || self.free_bytes.saturating_sub(bytes) <= self.reserve_bytes / 2
    }
}

impl From<StorageError> for std::io::Error {
    fn from(error: StorageError) -> Self {
        match error {
            StorageError::Io { source, .. } => source,
            StorageError::Full => std::io::ErrorKind::StorageFull.into(),
            StorageError::NotFound(_) => std::io::ErrorKind::NotFound.into(),
            other => std::io::Error::other(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SPACE: Space = Space {
        free_bytes: 9 << 20,
        total_bytes: 99 << 20,
        reserve_bytes: 4 << 20,
        free_inodes: 900,
        total_inodes: 1_000,
        reserve_inodes: 100,
    };

    #[test]
    fn what_there_is_too_little_of_is_told_as_it_is() {
        assert_eq!(SPACE.shortage(), None);
        for (space, told) in [
            (Space { free_bytes: 0, ..SPACE }, "the disk is full and its reserve is spent"),
            (Space { free_bytes: 0, free_inodes: 0, ..SPACE }, "the disk is full and its reserve is spent"),
            (
                Space { free_bytes: 1 << 20, ..SPACE },
                "the disk is full but for its reserve of 4.0 MiB, of which 1.0 MiB are free",
            ),
            (
                Space { free_inodes: 7, ..SPACE },
                "the file system has no inodes but for a reserve of 100, of which 7 are free",
            ),
        ] {
            assert_eq!(space.shortage().as_deref(), Some(told));
            assert!(space.is_short());
        }
        let without_a_number = Space { free_inodes: 0, total_inodes: 0, ..SPACE };
        assert!(!without_a_number.is_short() && !without_a_number.is_short_for_a_copy(0));
    }

    #[test]
    fn a_copy_leaves_half_of_either_reserve() {
        let is_short =
            |free_bytes, free_inodes| Space { free_bytes, free_inodes, ..SPACE }.is_short_for_a_copy(1 << 20);
        assert!(!is_short((3 << 20) + 1, 51) && is_short(3 << 20, 51) && is_short(9 << 20, 50));
    }
}
