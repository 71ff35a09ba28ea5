//! Checks every hash and record, and rebuilds the index.
//!
//! `queue verify` compares three things that must agree: the journal (each record's checksum, and
//! the state that comes of replaying it), the index (each entry equal to that state), and the bytes
//! (each spooled file and each content within a record against its digest). It runs beside uploads
//! and processing: what changes between the listing and the look, such as a file that is purged or
//! is just being accepted, is no fault, and each such place says so.
//!
//! Faults are collected and not acted on: nothing is repaired by looking.

use std::collections::HashSet;

use forebay_queue::{Actor, Entry, State, Verified};
use forebay_storage::{FileId, Sha256, SpoolItem, StorageError};
use sha2::Digest;

use super::{
    answer::Answer,
    operator::Operator,
    problem::{Problem, Result},
    reply::{ProgressView, Reply, VerifiedView},
};
use crate::contents::Contents;

/// What is read at once.
const PIECE_BYTES: u64 = 256 << 10;

/// Looking for a file takes about as long as reading so many bytes. By that its progress tells how much time is left.
/// Measured as a rule of thumb; only the progress bar depends on it.
const COST_OF_A_FILE: u64 = 64 << 10;

impl Operator {
    /// Reads journal, index and every byte of every file, and writes nothing: not even a sync, for which uploads would wait.
    /// It ends when nobody wants the result any more.
    /// One [`Reply::Verified`] at the end, with every fault; [`Reply::Progress`] on the way.
    ///
    /// Cancel safe: it changes nothing.
    pub(super) async fn queue_verify(&self, answer: &Answer) -> Result<()> {
        let progress = answer.progress("journal");
        let verified = tokio::select! {
            verified = self.dependencies.maintenance.verify(&*progress) => verified?,
            () = answer.gone() => return Err(Problem::gone()),
        };
        let mut found = view(verified);
        // The spool before the queue: a file is in the spool before it is in the queue, so one that
        // is accepted in between is found among `others`, and looked for in the spool once more.
        let spooled = self.dependencies.spool.ids().await?;
        let spooled: HashSet<FileId> = spooled.into_iter().collect();
        let mut others = self.dependencies.queue.ids().await?;
        others.retain(|id| !spooled.contains(id));
        let files = (spooled.len() + others.len()) as u64;
        let total = files * COST_OF_A_FILE + self.accepted_bytes().await?;
        for (done, id) in (0..).zip(spooled.iter().chain(&others)) {
            let done = (done * COST_OF_A_FILE + found.size_bytes).min(total);
            answer.give(Reply::Progress(ProgressView { what: "files".to_owned(), done, total })).await?;
            match spooled.contains(id) {
                true => self.verify_file(*id, &mut found).await?,
                false => self.verify_unspooled(*id, &mut found).await?,
            }
        }
        answer.give(Reply::Verified(found)).await
    }

    /// The bytes of all files that the queue knows.
    async fn accepted_bytes(&self) -> Result<u64> {
        let stats = self.dependencies.queue.stats(self.now()).await?;
        Ok(stats.counts.iter().map(|count| count.size_bytes).sum())
    }

    /// A file of the spool: its bytes against the digest beside them, and both against the queue.
    async fn verify_file(&self, id: FileId, found: &mut VerifiedView) -> Result<()> {
        match self.dependencies.spool.examine(id).await {
            Ok(SpoolItem::Sound(meta)) => {
                found.files += 1;
                found.size_bytes += meta.size_bytes;
                match self.dependencies.queue.get(id).await {
                    Ok(entry) => {
                        let extent = entry.extent();
                        let agrees = (extent.sha256, extent.size_bytes) == (meta.sha256, meta.size_bytes);
                        if !agrees || (entry.size_bytes, entry.sha256) != meta.whole() {
                            let fault = "the queue has another size or digest than the spool";
                            found.faults.push(format!("file {id}: {fault}"));
                        }
                        self.verify_whole(&entry, found).await?;
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
            match self.dependencies.queue.content(&entry.extent()).await {
                Ok(_) => {
                    found.files += 1;
                    found.size_bytes += entry.extent().size_bytes;
                    self.verify_whole(&entry, found).await?;
                }
                // One that was withdrawn wants its bytes no more.
                Err(_) if entry.state == State::Withdrawn => {}
                Err(error) => found.faults.push(error.to_string()),
            }
            return Ok(());
        }
        // In the spool since the listing.
        let is_missing = self.dependencies.spool.meta(id).await.is_err();
        let is_wanted = !entry.state.is_over() || entry.state == State::Done;
        if is_missing && (is_wanted || !self.dependencies.queue.continued_by(id).await?.is_empty()) {
            found.faults.push(format!("file {id} ({}) has no bytes in the spool", entry.state));
        }
        Ok(())
    }

    /// Reads the last of several files that continue each other whole: its parts are looked at each by itself.
    async fn verify_whole(&self, entry: &Entry, found: &mut VerifiedView) -> Result<()> {
        let rests_on_none = entry.rests_on().is_none();
        if rests_on_none || !self.dependencies.queue.continued_by(entry.id).await?.is_empty() {
            return Ok(());
        }
        match digest(&self.dependencies.contents, entry).await {
            Ok(sha256) if sha256 == entry.sha256 => {}
            Ok(_) => found.faults.push(format!("file {}: its parts are not the whole that was accepted", entry.id)),
            // Purged meanwhile.
            Err(StorageError::NotFound(_)) => {}
            Err(error) => found.faults.push(format!("file {}, as a whole: {error}", entry.id)),
        }
        Ok(())
    }

    /// Rebuilds the index from the journal.
    /// The index is only a view of the journal, and is never the sole holder of a fact: throwing it
    /// away loses nothing. In a running server no change is committed meanwhile: it runs between
    /// two groups.
    pub(super) async fn queue_rebuild(&self, actor: Actor, answer: &Answer) -> Result<()> {
        let progress = answer.progress("index");
        let found = view(self.dependencies.maintenance.rebuild(&*progress).await?);
        self.note(&actor, "queue.rebuild", &format!("the index was made anew: {} entries", found.entries)).await?;
        answer.give(Reply::Verified(found)).await
    }
}

/// The digest of all bytes of a file.
/// Read in pieces: a file may be larger than the memory.
async fn digest(contents: &Contents, entry: &Entry) -> Result<Sha256, StorageError> {
    let (content, mut digest, mut at) = (contents.open(entry.id).await?, sha2::Sha256::new(), 0);
    loop {
        let piece = content.read(at..at + PIECE_BYTES).await?;
        if piece.is_empty() {
            return Ok(Sha256(digest.finalize().into()));
        }
        at += piece.len() as u64;
        digest.update(&piece);
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
