//! sled, behind a wall: its errors and its panics (damage makes it panic) become [`Fault::Index`].

use std::{
    io,
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
};

use crate::QueueError;

/// Changes that are applied together.
pub(super) use sled::Batch as IndexBatch;
/// Keys and values.
pub(super) use sled::IVec as Slice;

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

/// The open index.
pub(super) struct Index {
    db: Option<sled::Db>,
    /// Tests let the next batch fail as a damaged sled does.
    #[cfg(test)]
    pub(super) fail: std::sync::atomic::AtomicBool,
}

impl Index {
    /// Opens or creates the index in `dir`.
    pub(super) fn open(dir: &Path, cache_bytes: u64) -> Result<Self, Fault> {
        let config = sled::Config::new()
            .path(dir)
            .cache_capacity(cache_bytes)
            .mode(sled::Mode::HighThroughput)
            // For pace alone: the journal is what is durable.
            .flush_every_ms(Some(2_000));
        let db = wall(|| config.open()).map_err(|fault| locked(fault, dir))?;
        Ok(Self {
            db: Some(db),
            #[cfg(test)]
            fail: false.into(),
        })
    }

    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Fault> {
        let db = self.db()?;
        wall(|| db.get(key))
    }

    /// The first pair from `from` on and before `to`.
    pub(super) fn first(&self, from: &[u8], to: &[u8]) -> Result<Option<(Slice, Slice)>, Fault> {
        let db = self.db()?;
        wall(|| db.range(from..to).next().transpose())
    }

    /// Every pair from `from` on and before `to`, until `visit` has enough.
    pub(super) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        mut visit: impl FnMut(Slice, Slice) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        let db = self.db()?;
        let mut pairs = wall(|| Ok(db.range(from..to)))?;
        while let Some((key, value)) = wall(|| pairs.next().transpose())? {
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
        let db = self.db()?;
        wall(|| db.apply_batch(batch))
    }

    /// Makes durable what was applied. Ok: a crash takes nothing of it.
    pub(super) fn persist(&self) -> Result<(), Fault> {
        let db = self.db()?;
        wall(|| db.flush().map(drop))
    }

    pub(super) fn size_on_disk(&self) -> Result<u64, Fault> {
        let db = self.db()?;
        wall(|| db.size_on_disk())
    }

    /// Closes it, so that its directory can be moved. Everything asked of it from now on is a fault.
    pub(super) fn close(&mut self) {
        if let Some(db) = self.db.take() {
            // A damaged one may panic on its way out too, and has nothing to lose.
            let _ = wall(|| {
                drop(db);
                Ok(())
            });
        }
    }

    fn db(&self) -> Result<&sled::Db, Fault> {
        self.db.as_ref().ok_or_else(|| Fault::Index("it is closed".into()))
    }
}

fn wall<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(sled::Error::Io(error))) if error.kind() == io::ErrorKind::StorageFull => {
            Err(Fault::Queue(QueueError::Full))
        }
        Ok(Err(error)) => Err(Fault::Index(error.to_string())),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(Fault::Index(format!("sled panicked: {said}")))
        }
    }
}

fn locked(fault: Fault, dir: &Path) -> Fault {
    match fault {
        // sled tells a lock that is taken from other errors by its text alone.
        Fault::Index(what) if what.contains("could not acquire lock") => Fault::Queue(QueueError::Locked(format!(
            "another process has the queue in {} open: is a server running on this data?",
            dir.display()
        ))),
        other => other,
    }
}

/// Moves the directory of an index out of the way, named after the time it was last written, and says where to.
pub(super) fn set_aside(dir: &Path) -> io::Result<PathBuf> {
    let written = std::fs::metadata(dir.join("db")).or_else(|_| std::fs::metadata(dir))?.modified()?;
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
