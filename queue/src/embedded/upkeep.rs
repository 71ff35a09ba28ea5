//! Forgetting what is over: entries, the room of their bytes, and old segments of the journal.
//!
//! The order is that of what depends on what:
//!
//! 1. Entries are purged, by records in the journal.
//! 2. The room of their contents is given back (`sweep`). A crash before that leaves contents
//!    nobody wants; the first sweep after a start looks at all.
//! 3. Segments of the journal that are old enough are deleted (`retire`), once a day. Before that,
//!    the entries and folders that need their records are written again, and contents whose purge is
//!    told by them alone are swept.
//!
//! A failure of the later steps is logged and tried again another time; it never undoes a purge.

use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::FileId;

use super::{
    contents, names,
    queue::{EmbeddedQueue, GROUP},
    retire,
};
use crate::{Purged, Result};

impl EmbeddedQueue {
    /// Forgets entries that are over and ended before `before`, at most `limit`.
    ///
    /// Returns what was purged, also when a later group failed: storage has to remove those files.
    pub(super) async fn forget(&self, before: DateTime<Utc>, limit: usize, now: DateTime<Utc>) -> Result<Purged> {
        let (mut purged, mut contents) = (Purged::default(), Vec::new());
        // In small groups: sled's memory grows with what one batch removes, and others wait meanwhile.
        while purged.files < limit {
            let group = GROUP.min(limit - purged.files);
            match self.journal(move |batch| batch.purge(before, group, now)).await {
                Ok(gone) if gone.is_empty() => break,
                Ok(gone) => note(gone, &mut purged, &mut contents),
                // What is journalled as purged has to be told, or its bytes would stay.
                Err(_) if purged.files > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = self.sweep(contents).await {
            tracing::warn!(%error, "the room of files that were purged could not be given back");
        }
        if purged.files > 0
            && let Err(error) = self.sweep_messages().await
        {
            tracing::warn!(%error, "what became of the messages of files that were purged is kept");
        }
        if let Err(error) = self.retire(now).await {
            tracing::warn!(%error, "old segments of the journal could not be given up");
        }
        Ok(purged)
    }

    /// Forgets these entries, if they are over.
    pub(super) async fn forget_these(&self, ids: &[FileId], now: DateTime<Utc>) -> Result<Purged> {
        let (mut purged, mut contents) = (Purged::default(), Vec::new());
        for ids in ids.chunks(GROUP) {
            let ids = ids.to_vec();
            match self.journal(move |batch| batch.purge_these(&ids, now)).await {
                Ok(gone) => note(gone, &mut purged, &mut contents),
                // What is journalled as purged has to be told, or its bytes would stay.
                Err(_) if purged.files > 0 => break,
                Err(error) => return Err(error),
            }
        }
        if let Err(error) = self.sweep(contents).await {
            tracing::warn!(%error, "the room of files that were purged could not be given back");
        }
        Ok(purged)
    }

    /// Gives back the room of contents that came with these records and are purged, and of what
    /// earlier sweeps have left.
    async fn sweep(&self, purged: Vec<u64>) -> Result<()> {
        let what = self.unswept.with(purged);
        if what.is_nothing() {
            return Ok(());
        }
        let end = self.agreed().await?;
        let swept = self.read(move |shared, index| contents::sweep(index, &shared.journal, end, &what)).await;
        self.unswept.settle(swept)
    }

    /// Deletes segments of the journal that are older than is to be kept, once a day by the given
    /// time.
    async fn retire(&self, now: DateTime<Utc>) -> Result<()> {
        {
            let mut retired_at = self.retired_at.lock();
            if retired_at.is_some_and(|at| (now - at).abs() < TimeDelta::days(1)) {
                return Ok(());
            }
            // Before the work: when it fails it is tried tomorrow, and not with every sweep.
            *retired_at = Some(now);
        }
        let Some(limit) = now.checked_sub_signed(self.keep) else { return Ok(()) };
        let end = self.agreed().await?;
        let old = self.read(move |shared, index| match retire::cutoff(&shared.journal, limit)? {
            Some(cutoff) => {
                let cutoff = cutoff.min(end);
                Ok(Some((cutoff, retire::resting_on(index, cutoff)?, names::folders_before(index, cutoff)?)))
            }
            None => Ok(None),
        });
        let Some((before, ids, folders)) = old.await? else { return Ok(()) };
        for ids in ids.chunks(GROUP) {
            let ids = ids.to_vec();
            self.journal(move |batch| batch.carry(&ids, now)).await?;
        }
        for folders in folders.chunks(GROUP) {
            let folders = folders.to_vec();
            self.journal(move |batch| batch.carry_folders(&folders, now)).await?;
        }
        // Before the journal forgets that they are purged. Here, for it may take its time.
        self.read(move |shared, index| contents::sweep_before(index, &shared.journal, before)).await?;
        // Last, and on the committer's thread: nothing is journalled meanwhile that would rest on
        // what goes.
        self.between(move |committer| committer.retire(before)).await
    }
}

/// Notes which files went: those that storage keeps, and those whose bytes came with a record.
fn note(gone: Vec<(FileId, Option<u64>)>, purged: &mut Purged, contents: &mut Vec<u64>) {
    purged.files += gone.len();
    contents.extend(gone.iter().filter_map(|(_, content)| *content));
    purged.kept.extend(gone.iter().filter(|(_, content)| content.is_none()).map(|(id, _)| *id));
}
