//! Makes spool and queue agree, once, before a door opens.
//!
//! - A spool file without an entry is removed if it was purged; adopted as held if it is sound
//!   (cancelled, if it is a copy whose original is still in its folder); set aside if it is not.
//! - An entry that is not over and whose bytes are missing is held, with all entries that continue
//!   it.
//!
//! # Guarantees
//! Nothing is deleted that was not purged. Each file that is set aside is in the audit trail when
//! [`Ingest::recover`] returns. It may be cut by a crash at any place: the next start finds what is
//! left.

use std::{collections::HashSet, fs, path::Path, sync::Arc};

use forebay_queue::{Action, Actor, Entry, Hold, NewEntry, QueueError, Recovered, State};
use forebay_storage::{Content, FileId, FileMeta, SpoolItem, SpoolMaintenance};
use tracing::{info, warn};

use super::{Ingest, Refusal, intake::continues};

/// The finds of [`Ingest::recover`], and its deeds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RecoveryReport {
    /// Sound spool files that the journal did not know; they are `held` now.
    pub adopted: Vec<FileId>,
    /// Spool files that were not what they claimed to be, with what was found. They were moved aside, not deleted.
    pub set_aside: Vec<(FileId, String)>,
    /// Entries that are not over and whose bytes are missing. They are `held` where they could be.
    pub missing: Vec<FileId>,
    /// Files whose purge a crash had interrupted; their bytes are removed now.
    pub purged: usize,
}

impl RecoveryReport {
    /// Whether an operator should look.
    #[must_use]
    pub fn needs_an_operator(&self) -> bool {
        !(self.adopted.is_empty() && self.set_aside.is_empty() && self.missing.is_empty())
    }
}

impl Ingest {
    /// Puts spool and queue in order. To be called once, before a door opens. Every find is in the journal's
    /// audit trail when this returns.
    ///
    /// # Errors
    /// When storage or queue fail.
    pub async fn recover(
        self: &Arc<Self>,
        recovered: &Recovered,
        spool: &dyn SpoolMaintenance,
    ) -> Result<RecoveryReport, Refusal> {
        let mut report = RecoveryReport::default();
        // First: `adopt` asks `adopted.same_as`, which has to know what earlier starts have
        // adopted.
        self.find_adopted().await?;
        let spooled: HashSet<FileId> = spool.ids().await?.into_iter().collect();
        let queued: HashSet<FileId> = self.queue.kept_ids().await?.into_iter().collect();
        let mut others: Vec<FileId> = spooled.difference(&queued).copied().collect();
        others.sort();
        // Files that are over are most of all in the end. They are looked up, and only those that are in the spool.
        let strangers = self.queue.without_entry(others).await?;
        for id in strangers {
            self.settle_stranger(id, spool, &mut report).await?;
        }
        let missing: Vec<FileId> = queued.difference(&spooled).copied().collect();
        self.settle_missing(missing, &mut report).await?;
        if recovered.lost_records > 0 {
            warn!(
                lost = recovered.lost_records,
                adopted = report.adopted.len(),
                "the journal was damaged; files it lost are held for an operator"
            );
        }
        Ok(report)
    }

    /// Decides about a spool file that has no entry.
    async fn settle_stranger(
        &self,
        id: FileId,
        spool: &dyn SpoolMaintenance,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        // It has no entry, so what is known of it is that it was purged.
        if self.queue.knows(id).await? {
            self.storage.remove(&[id]).await?;
            report.purged += 1;
            return Ok(());
        }
        match spool.inspect(id).await? {
            SpoolItem::Sound(meta) => {
                let (name, partner) = (meta.name.clone(), meta.partner.clone());
                match self.adopt(meta).await {
                    Ok(_) => {
                        info!(file.id = %id, ?name, %partner, "adopted a file that the journal did not know");
                        report.adopted.push(id);
                    }
                    Err(error @ QueueError::NoBeginning { .. }) => {
                        self.put_aside(id, error.to_string(), spool, report).await?;
                    }
                    Err(error) => return Err(error.into()),
                }
            }
            SpoolItem::Damaged { what, .. } => self.put_aside(id, what, spool, report).await?,
        }
        Ok(())
    }

    /// Sets a spool file aside. The move first: a note about a file that is still in the spool
    /// would be untrue.
    async fn put_aside(
        &self,
        id: FileId,
        what: String,
        spool: &dyn SpoolMaintenance,
        report: &mut RecoveryReport,
    ) -> Result<(), Refusal> {
        warn!(file.id = %id, %what, "set a spool file aside that cannot be trusted");
        spool.set_aside(id, &what).await?;
        let text = format!("spool file {id} was set aside: {what}");
        self.queue.note(Actor::Server, "spool.set_aside", &text, self.clock.now()).await?;
        report.set_aside.push((id, what));
        Ok(())
    }

    /// Queues a file that the journal does not know, held, with what its metadata say.
    async fn adopt(&self, meta: FileMeta) -> Result<Entry, QueueError> {
        let route = self.routes.serve(&meta.partner, &meta.name).map(|route| route.name().to_owned());
        let there = is_still_there(&meta);
        let (size_bytes, sha256) = meta.whole();
        let continues = continues(&meta);
        let reason = "found in the spool without a record in the journal: it was not acknowledged, and the partner may \
                      have sent it again";
        // Sent again, and cut by another crash: one of the two is enough.
        let supersedes = self.adopted.same_as(&meta, || self.since(&meta.partner));
        let new = NewEntry {
            id: meta.id,
            partner: meta.partner,
            name: meta.name,
            door: meta.door,
            size_bytes,
            sha256,
            received_at: meta.received_at,
            route,
            state: State::Held,
            reason: Some(reason.to_owned()),
            hold: Some(Hold::Adopted),
            // The folder's file is not known by this: it is to be taken, or is gone.
            origin: None,
            idempotency_key: None,
            supersedes,
            continues,
            claimable_from: None,
        };
        let entry = self.queue.accept(new, Content::Kept, self.clock.now()).await?;
        self.adopted.add(&entry);
        if !there {
            return Ok(entry);
        }
        let reason = Some("a crash cut its taking, and its original is still in the folder".to_owned());
        let mut done = self.queue.act(&[entry.id], Action::Cancel, reason, Actor::Server, self.clock.now()).await;
        done.pop().unwrap_or(Ok(entry))
    }

    /// Holds the entries whose bytes are missing, and those that continue them: they miss the same
    /// bytes.
    async fn settle_missing(&self, missing: Vec<FileId>, report: &mut RecoveryReport) -> Result<(), Refusal> {
        let mut looked_at = HashSet::new();
        for id in missing {
            // Those that continue it miss them too.
            let mut without = vec![id];
            while let Some(next) = without.pop() {
                if !looked_at.insert(next) {
                    continue;
                }
                without.extend(self.queue.continued_by(next).await?);
                let entry = self.queue.get(next).await?;
                if !entry.state.is_over() {
                    self.hold_without_bytes(&entry, id).await?;
                    report.missing.push(next);
                }
            }
        }
        Ok(())
    }

    /// Holds a file of which the bytes that `of` brought are missing.
    async fn hold_without_bytes(&self, entry: &Entry, of: FileId) -> Result<(), Refusal> {
        warn!(file.id = %entry.id, name = %entry.name, partner = %entry.partner, state = %entry.state, of = %of,
            "the bytes of a queued file are missing");
        let reason = match entry.id == of {
            true => "its bytes are missing from the spool".to_owned(),
            false => format!("its beginning is missing from the spool: the bytes of file {of}"),
        };
        let (action, now) = (Action::Hold(Hold::BytesMissing), self.clock.now());
        for held in self.queue.act(&[entry.id], action, Some(reason), Actor::Server, now).await {
            match held {
                Ok(_) | Err(QueueError::WrongState { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }
}

/// Returns whether it is a copy whose original is still there as it was: then that is taken, and this is one too many.
fn is_still_there(meta: &FileMeta) -> bool {
    let Some(origin) = &meta.origin else { return false };
    fs::symlink_metadata(Path::new(&origin.folder).join(&meta.name)).is_ok_and(|there| origin.is(&there))
}
