//! What time brings: temporary names that nobody renamed, partials that nobody resumed, files that are long done.

use std::{collections::HashMap, sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_queue::{Action, Actor, Filter, State};
use forebay_storage::FileId;
use tracing::{info, warn};

use super::{Ingest, Name, Refusal};

const BATCH: usize = 500;

/// What a sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Swept {
    /// Unfinished files that are `held` now.
    pub held: usize,
    /// Partials that were removed.
    pub partials: usize,
    /// Files that were purged.
    pub purged: usize,
}

impl Ingest {
    /// One sweep; the server calls it about once a minute. A part that fails is logged and tried again next time.
    pub async fn sweep(self: &Arc<Self>) -> Swept {
        let mut swept = Swept::default();
        match self.hold_unfinished().await {
            Ok(held) => swept.held = held,
            Err(error) => warn!(%error, "cannot hold unfinished files"),
        }
        match self.storage.sweep_partials(before(self.clock.now(), self.partners.longest_partial_keep())).await {
            Ok(partials) => swept.partials = partials,
            Err(error) => warn!(%error, "cannot remove old partials"),
        }
        match self.purge().await {
            Ok(purged) => swept.purged = purged,
            Err(error) => warn!(%error, "cannot purge files whose retention has ended"),
        }
        if let Err(error) = self.checkpoint_view(End::Later).await {
            warn!(%error, "cannot make the views durable");
        }
        swept
    }

    /// Makes the views durable before the server ends, so that the next start has nothing to put right.
    ///
    /// # Errors
    /// When storage or queue fail.
    pub async fn close(self: &Arc<Self>) -> Result<(), Refusal> {
        self.idle().await;
        self.checkpoint_view(End::Now).await
    }

    async fn hold_unfinished(&self) -> Result<usize, Refusal> {
        let filter = Filter { states: vec![State::Unfinished], ..Filter::default() };
        let now = self.clock.now();
        let (mut held, mut after) = (0, None);
        loop {
            let page = self.queue.list(&filter, after, BATCH).await?;
            for entry in page.entries {
                let patience = self.partners.policy(&entry.partner).unfinished_hold_after;
                if entry.since > before(now, patience) {
                    continue;
                }
                let reason = Some("its temporary name was never renamed to a final one".to_owned());
                for done in self.queue.act(&[entry.id], Action::Hold, reason, Actor::Server, now).await {
                    match done {
                        Ok(_) => {
                            held += 1;
                            if let Ok(name) = Name::parse(&entry.name) {
                                self.unfinished.forget(&entry.partner, &name, entry.id);
                            }
                        }
                        // Renamed just now, or to be tried again: until it is held it may be renamed.
                        Err(error) => warn!(file.id = %entry.id, %error, "cannot hold an unfinished file"),
                    }
                }
            }
            after = page.next;
            if after.is_none() {
                return Ok(held);
            }
        }
    }

    async fn purge(&self) -> Result<usize, Refusal> {
        let mut purged = 0;
        loop {
            let now = self.clock.now();
            let ended_before = before(now, self.options.retention);
            let names = self.names_to_purge(ended_before).await?;
            let ids = self.queue.purge(ended_before, BATCH, now).await?;
            for id in &ids {
                self.hide_purged(*id, names.get(id)).await;
            }
            // The journal has said so first: bytes without an entry would be adopted again.
            self.storage.remove(&ids).await?;
            purged += ids.len();
            if ids.len() < BATCH {
                if purged > 0 {
                    info!(purged, "purged files whose retention has ended");
                }
                return Ok(purged);
            }
        }
    }

    /// Who and what the oldest entries are that a purge may take: afterwards the queue cannot tell.
    async fn names_to_purge(&self, ended_before: DateTime<Utc>) -> Result<HashMap<FileId, (String, String)>, Refusal> {
        let states = vec![State::Done, State::Cancelled, State::Duplicate];
        let page = self.queue.list(&Filter { states, ..Filter::default() }, None, 2 * BATCH).await?;
        let old = page.entries.into_iter().filter(|entry| entry.since < ended_before);
        Ok(old.map(|entry| (entry.id, (entry.partner, entry.name))).collect())
    }

    /// Takes a purged file out of the view, unless a newer one has its name.
    async fn hide_purged(&self, id: FileId, known: Option<&(String, String)>) {
        let (partner, name) = match known {
            Some(known) => known.clone(),
            None => match self.storage.meta(id).await {
                Ok(meta) => (meta.partner, meta.name),
                Err(_) => return,
            },
        };
        let Ok(parsed) = Name::parse(&name) else { return };
        match self.storage.is_link(id, &self.view.path(&partner, &parsed)).await {
            Ok(true) => {
                // The partner may have been faster.
                let _ = self.view.hide(&partner, &parsed);
                return;
            }
            // Deleted, renamed, or a newer file's. Only a copy tells nothing of whose it is.
            Ok(false) if !self.view.may_be_a_copy(&partner, &parsed) => return,
            Ok(false) => {}
            Err(error) => warn!(file.id = %id, %error, "cannot tell whether a purged file is still shown"),
        }
        let filter = Filter { partner: Some(partner.clone()), name: Some(name), ..Filter::default() };
        match self.queue.list(&filter, None, 1).await {
            Ok(page) if page.entries.is_empty() => {
                // It may have been deleted or renamed by the partner.
                let _ = self.view.hide(&partner, &parsed);
            }
            Ok(_) => {}
            Err(error) => warn!(file.id = %id, %error, "cannot tell whether a purged file is still shown"),
        }
    }

    async fn checkpoint_view(self: &Arc<Self>, end: End) -> Result<(), Refusal> {
        let seq = self.queue.stats(self.clock.now()).await?.last_seq;
        let durable = match end {
            End::Now => Some(seq),
            // A file may be journalled and not shown yet, so what is noted now counts one interval later.
            End::Later => self.view.due_checkpoint(seq, self.clock.elapsed(), self.options.view_checkpoint),
        };
        let Some(durable) = durable else { return Ok(()) };
        let ingest = self.clone();
        let done = tokio::task::spawn_blocking(move || ingest.view.set_checkpoint(durable));
        Ok(done.await.map_err(|error| Refusal::Internal(error.to_string()))??)
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum End {
    Now,
    Later,
}

fn before(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}
