//! The sweep of each minute: unfinished files that nobody renamed are held, old partials are
//! removed, finished files are purged.
//!
//! It goes by the time that is believed, so that a clock that jumps ahead makes nothing old. Each
//! part may fail alone; it is logged and tried again with the next sweep.

use std::{sync::Arc, time::Duration};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_queue::{Action, Actor, Filter, Hold, IdempotencyKey, State};
use tracing::{info, warn};

use super::{Ingest, Refusal};

/// Files that are purged with one call: others want to change the queue meanwhile.
const BATCH: usize = 500;

/// The effects of a sweep.
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
        self.sweep_at(self.clock.now()).await
    }

    /// As [`Ingest::sweep`], by the time that is believed: a clock that jumps ahead makes nothing old.
    pub async fn sweep_at(self: &Arc<Self>, believed: DateTime<Utc>) -> Swept {
        let mut swept = Swept::default();
        match self.hold_unfinished(believed).await {
            Ok(held) => swept.held = held,
            Err(error) => warn!(%error, "cannot hold unfinished files"),
        }
        match self.storage.sweep_partials(before(believed, self.partners.longest_partial_keep())).await {
            Ok(partials) => swept.partials = partials,
            Err(error) => warn!(%error, "cannot remove old partials"),
        }
        match self.purge(believed).await {
            Ok(purged) => swept.purged = purged,
            Err(error) => warn!(%error, "cannot purge files whose retention has ended"),
        }
        if let Err(error) = self.queue.forget_keys(believed - IdempotencyKey::KEPT).await {
            warn!(%error, "cannot forget old idempotency keys");
        }
        swept
    }

    /// Holds files under temporary names whose time is over. Returns how many.
    async fn hold_unfinished(&self, believed: DateTime<Utc>) -> Result<usize, Refusal> {
        let filter = Filter { states: vec![State::Unfinished], ..Filter::default() };
        let now = self.clock.now();
        let (mut held, mut after) = (0, None);
        loop {
            let page = self.queue.list(&filter, after, BATCH).await?;
            for entry in page.entries {
                let patience = self.partners.policy(&entry.partner).unfinished_hold_after;
                if entry.since > before(believed, patience) {
                    continue;
                }
                let reason = Some("its temporary name was never renamed to a final one".to_owned());
                for done in
                    self.queue.act(&[entry.id], Action::Hold(Hold::NotRenamed), reason, Actor::Server, now).await
                {
                    match done {
                        Ok(_) => held += 1,
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

    /// Purges files whose retention has ended, oldest first. Returns how many.
    async fn purge(&self, believed: DateTime<Utc>) -> Result<usize, Refusal> {
        let mut purged = 0;
        loop {
            let now = self.clock.now();
            let gone = self.queue.purge(before(believed, self.options.retention), BATCH, now).await?;
            // The journal has said so first: bytes without an entry would be adopted again.
            self.storage.remove(&gone.kept).await?;
            purged += gone.files;
            if gone.files < BATCH {
                if purged > 0 {
                    info!(purged, "purged files whose retention has ended");
                }
                return Ok(purged);
            }
        }
    }
}

/// Returns the time that lies this far back; the earliest of all if there is none.
fn before(now: DateTime<Utc>, age: Duration) -> DateTime<Utc> {
    TimeDelta::from_std(age).ok().and_then(|age| now.checked_sub_signed(age)).unwrap_or(DateTime::<Utc>::MIN_UTC)
}
