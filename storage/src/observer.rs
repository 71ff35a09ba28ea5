//! What an observer is told of the disk, for figures: nothing waits for it, and nothing follows from it.

use std::{fmt::Debug, time::Duration};

/// Is told of syncs. It is called on the threads that write, between them and those who wait for the answer: it must
/// neither block nor take its time.
pub trait Observer: Send + Sync + Debug + 'static {
    /// A sync has ended, whether it succeeded or not, and took so long.
    fn synced(&self, what: Synced, took: Duration);
}

/// What was synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Synced {
    /// Contents and length of a file (`fdatasync`): the segments of logs, each time for all records that came together.
    Data,
    /// A file with its attributes (`fsync`).
    File,
    /// The names in a directory.
    Directory,
}
