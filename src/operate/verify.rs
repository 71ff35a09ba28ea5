//! Checks every hash and record, and rebuilds the index.

use std::collections::HashSet;

use forebay_queue::{Actor, State, Verified};
use forebay_storage::{FileId, SpoolItem};

use super::{
    answer::Answer,
    operator::Operator,
    problem::Result,
    reply::{ProgressView, Reply, VerifiedView},
};

impl Operator {
    /// Reads journal, index and every byte of every file.
    pub(super) async fn queue_verify(&self, answer: &Answer) -> Result<()> {
        let progress = answer.progress("journal");
        let mut found = view(self.dependencies.maintenance.verify(&*progress).await?);
        let spooled = self.dependencies.spool.ids().await?;
        let spooled: HashSet<FileId> = spooled.into_iter().collect();
        let mut others = self.dependencies.queue.ids().await?;
        others.retain(|id| !spooled.contains(id));
        let total = (spooled.len() + others.len()) as u64;
        for (done, id) in spooled.iter().chain(&others).enumerate() {
            let progress = ProgressView { what: "files".to_owned(), done: done as u64, total };
            answer.give(Reply::Progress(progress)).await?;
            match spooled.contains(id) {
                true => self.verify_file(*id, &mut found).await?,
                false => self.verify_unspooled(*id, &mut found).await?,
            }
        }
        answer.give(Reply::Verified(found)).await
    }

    async fn verify_file(&self, id: FileId, found: &mut VerifiedView) -> Result<()> {
        match self.dependencies.spool.inspect(id).await {
            Ok(SpoolItem::Sound(meta)) => {
                found.files += 1;
                found.size_bytes += meta.size_bytes;
                match self.dependencies.queue.get(id).await {
                    Ok(entry) if entry.sha256 == meta.sha256 && entry.size_bytes == meta.size_bytes => {}
                    Ok(_) => {
                        found.faults.push(format!("file {id}: the queue has another size or digest than the spool"))
                    }
                    // An upload that is being accepted right now is in the spool first: that is no fault.
                    Err(_) if self.dependencies.live.is_some() => {}
                    Err(error) => found.faults.push(format!("file {id} is in the spool: {error}")),
                }
            }
            Ok(SpoolItem::Damaged { what, .. }) => found.faults.push(format!("file {id}: {what}")),
            // Purged since the listing.
            Err(forebay_storage::StorageError::NotFound(_)) => {}
            Err(error) => found.faults.push(format!("file {id}: {error}")),
        }
        Ok(())
    }

    /// A file that is not in the spool: its bytes came with its record, or are missing.
    async fn verify_unspooled(&self, id: FileId, found: &mut VerifiedView) -> Result<()> {
        // Gone from the queue too: purged since the listing.
        let Ok(entry) = self.dependencies.queue.get(id).await else { return Ok(()) };
        if entry.content.is_some() {
            match self.dependencies.contents.open(id).await {
                Ok(_) => {
                    found.files += 1;
                    found.size_bytes += entry.size_bytes;
                }
                Err(forebay_storage::StorageError::NotFound(_)) => {}
                Err(error) => found.faults.push(error.to_string()),
            }
            return Ok(());
        }
        // In the spool since the listing.
        let is_missing = self.dependencies.spool.meta(id).await.is_err();
        if is_missing && (!entry.state.is_over() || entry.state == State::Done) {
            found.faults.push(format!("file {id} ({}) has no bytes in the spool", entry.state));
        }
        Ok(())
    }

    /// Rebuilds the index from the journal.
    pub(super) async fn queue_rebuild(&self, actor: Actor, answer: &Answer) -> Result<()> {
        let progress = answer.progress("index");
        let found = view(self.dependencies.maintenance.rebuild(&*progress).await?);
        self.note(&actor, "queue.rebuild", &format!("the index was made anew: {} entries", found.entries)).await?;
        answer.give(Reply::Verified(found)).await
    }
}

fn view(verified: Verified) -> VerifiedView {
    VerifiedView {
        records: verified.records,
        entries: verified.entries,
        faults: verified.faults,
        ..VerifiedView::default()
    }
}
