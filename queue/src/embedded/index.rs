//! The index, behind a wall: errors and panics of the tree (damage can make it panic) become [`Fault::Index`].

use std::{
    io,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use lsm_tree::{AbstractTree, Guard};

use super::tree::Tree;
use crate::QueueError;

/// What went wrong inside the embedded queue.
#[derive(Debug)]
pub(super) enum Fault {
    /// The index cannot be trusted: it is set aside and made anew from the journal.
    Index(String),
    /// For the caller.
    Queue(QueueError),
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Queue(error) => error,
            Fault::Index(what) => Self::Io { doing: "index of the queue".into(), source: io::Error::other(what) },
        }
    }
}

/// Keys and values.
pub(super) use lsm_tree::Slice;

/// Changes that are applied together: keys with their new values, none where the key goes.
#[derive(Debug, Default)]
pub(super) struct IndexBatch(Vec<(Slice, Option<Slice>)>);

impl IndexBatch {
    pub(super) fn insert(&mut self, key: Slice, value: impl Into<Slice>) {
        self.0.push((key, Some(value.into())));
    }

    pub(super) fn remove(&mut self, key: Slice) {
        self.0.push((key, None));
    }
}

/// The open index.
pub(super) struct Index {
    tree: Option<Tree>,
    /// Tests let the next batch fail as a damaged index does.
    #[cfg(test)]
    pub(super) fail: std::sync::atomic::AtomicBool,
}

impl Index {
    /// Opens or creates the index in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Fault> {
        let tree = wall(|| Tree::open(dir, cache_bytes))?;
        Ok(Self {
            tree: Some(tree),
            #[cfg(test)]
            fail: false.into(),
        })
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Fault> {
        let tree = self.tree()?;
        wall(|| tree.look(|tree, visible| tree.get(key, visible)))
    }

    /// The first pair from `from` on and before `to`.
    pub(super) fn first(&self, from: &[u8], to: &[u8]) -> Result<Option<(Slice, Slice)>, Fault> {
        let mut found = None;
        self.scan(from, to, |key, value| {
            found = Some((key, value));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Every pair from `from` on and before `to`, until `visit` has enough.
    pub(super) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(Slice, Slice) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        if from >= to {
            return Ok(());
        }
        let tree = self.tree()?;
        let _reading = tree.reading();
        let mut pairs = wall(|| Ok(tree.range(from, to)))?;
        while let Some((key, value)) = wall(|| pairs.next().map(Guard::into_inner).transpose())? {
            if visit(key, value)?.is_break() {
                break;
            }
        }
        Ok(())
    }

    /// All of it or nothing, also after a crash.
    pub(super) fn apply(&self, batch: IndexBatch) -> Result<(), Fault> {
        #[cfg(test)]
        if self.fail.swap(false, std::sync::atomic::Ordering::SeqCst) {
            return wall(|| panic!("asked for by a test"));
        }
        let tree = self.tree()?;
        wall(|| tree.apply(batch.0))
    }

    /// Makes durable what was applied. Ok: a crash takes nothing of it.
    pub(super) fn persist(&self) -> Result<(), Fault> {
        let tree = self.tree()?;
        wall(|| tree.persist())
    }

    /// Closes it, so that its directory can be moved. Everything asked of it from now on is a fault.
    pub(super) fn close(&mut self) {
        if let Some(tree) = self.tree.take() {
            // A damaged one may panic on its way out too, and has nothing to lose.
            let _ = wall(|| {
                drop(tree);
                Ok(())
            });
        }
    }

    fn tree(&self) -> Result<&Tree, Fault> {
        self.tree.as_ref().ok_or_else(|| Fault::Index("it is closed".into()))
    }
}

impl Drop for Index {
    fn drop(&mut self) {
        // What is in memory is written, so that the next start has nothing to catch up on. Where that fails, it has.
        if self.tree.is_some()
            && let Err(fault) = self.persist()
        {
            tracing::warn!(reason = %QueueError::from(fault), "the index of the queue could not be written at the end");
        }
        self.close();
    }
}

fn wall<T>(work: impl FnOnce() -> lsm_tree::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(lsm_tree::Error::Io(error))) => Err(match error.kind() {
            io::ErrorKind::StorageFull => Fault::Queue(QueueError::Full),
            io::ErrorKind::WouldBlock => Fault::Queue(QueueError::Locked(error.to_string())),
            _ => Fault::Index(error.to_string()),
        }),
        Ok(Err(error)) => Err(Fault::Index(error.to_string())),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Fault::Index(format!("it panicked: {said}")))
        }
    }
}

/// Moves the directory of an index out of the way, named after the time it was last written, and says where to.
pub(super) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let written = std::fs::metadata(dir)?.modified()?;
    let written = chrono::DateTime::<chrono::Utc>::from(written).format("%Y%m%dT%H%M%SZ");
    let name = dir.file_name().map_or_else(|| "queue".into(), |name| name.to_string_lossy().into_owned());
    for count in 0.. {
        let suffix = if count == 0 { String::new() } else { format!("-{count}") };
        let aside = dir.with_file_name(format!("{name}.corrupt-{written}{suffix}"));
        if !aside.try_exists()? {
            std::fs::rename(dir, &aside)?;
            return Ok(aside);
        }
    }
    Err(io::Error::other("no name is left to set the index aside"))
}
