//! How many unprocessed bytes a partner may have, reserved before they are written.
//!
//! What counts is what the queue says is unprocessed, the partials, and what uploads in progress have reserved. The
//! first two are read from time to time and bytes that move from an upload into the queue are added meanwhile, so the
//! sum is never too low: uploads in parallel cannot exceed the quota together. It may be too high for an instant.

use std::{collections::HashMap, sync::Arc};

use forebay_queue::QueueStore;
use forebay_storage::Storage;
use parking_lot::Mutex;
use tracing::info;

use super::Refusal;

/// The quotas of all partners that have one and have sent something.
pub(super) struct Quota {
    storage: Arc<dyn Storage>,
    queue: Arc<dyn QueueStore>,
    accounts: Mutex<HashMap<String, Arc<Mutex<Figures>>>>,
}

#[derive(Debug, Default)]
struct Figures {
    /// Unprocessed bytes and partials when last read, and what was moved there since.
    kept: u64,
    /// What uploads in progress have reserved.
    reserved: u64,
    /// All bytes that were ever moved to `kept`.
    moved: u64,
}

impl Quota {
    pub(super) fn new(storage: Arc<dyn Storage>, queue: Arc<dyn QueueStore>) -> Self {
        Self { storage, queue, accounts: Mutex::default() }
    }

    /// Opens a reservation for one upload. Without a limit it costs nothing. The partner's partials give way to it: what was
    /// cut and is not whole keeps nobody from sending what is.
    pub(super) async fn open(
        self: &Arc<Self>,
        partner: &str,
        name: &str,
        from: From,
        limit: Option<u64>,
    ) -> Result<Reservation, Refusal> {
        let Some(limit) = limit else {
            return Ok(Reservation { held: None, bytes: 0 });
        };
        let figures = self.accounts.lock().entry(partner.to_owned()).or_default().clone();
        let mut reservation = Reservation {
            held: Some(Held {
                quota: self.clone(),
                figures,
                partner: partner.to_owned(),
                name: name.to_owned(),
                from,
                limit,
            }),
            bytes: 0,
        };
        if let Some(held) = &reservation.held {
            held.refresh().await?;
        }
        // One byte, so that a partner with nothing left is told before it sends.
        reservation.cover(1).await?;
        Ok(reservation)
    }
}

/// Bytes that one upload may take. Dropping it gives them back.
pub(super) struct Reservation {
    held: Option<Held>,
    bytes: u64,
}

struct Held {
    quota: Arc<Quota>,
    figures: Arc<Mutex<Figures>>,
    partner: String,
    name: String,
    from: From,
    limit: u64,
}

/// Where an upload goes on from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum From {
    /// Nothing: it takes the place of a partial of its name.
    Anew,
    /// The partial of its name.
    Partial,
}

impl Reservation {
    /// Makes the reservation at least `total` bytes.
    pub(super) async fn cover(&mut self, total: u64) -> Result<(), Refusal> {
        let Some(held) = &self.held else { return Ok(()) };
        let more = total.saturating_sub(self.bytes);
        if more > 0 && !held.take(more) && !held.take_with_room_made(more).await? {
            return Err(Refusal::Quota);
        }
        self.bytes += more;
        Ok(())
    }

    /// The upload is over and `bytes` of it stay, in the queue or as a partial: they move from the
    /// reservation to what is kept. Called after the queue or storage has them, so the sum is never
    /// too low.
    pub(super) fn settle(mut self, bytes: u64) {
        self.give_back(bytes);
        self.held = None;
    }

    /// So many bytes of the upload count as a partial from now on, and the upload goes on behind them.
    pub(super) fn move_to_partial(&mut self, bytes: u64) {
        self.give_back(bytes);
    }

    fn give_back(&mut self, stay: u64) {
        if let Some(held) = &self.held {
            let mut figures = held.figures.lock();
            figures.reserved -= std::mem::take(&mut self.bytes);
            figures.kept += stay;
            figures.moved += stay;
        }
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.give_back(0);
    }
}

impl Held {
    /// Reserves `more` bytes if they fit.
    fn take(&self, more: u64) -> bool {
        let mut figures = self.figures.lock();
        let fits = figures.kept.saturating_add(figures.reserved).saturating_add(more) <= self.limit;
        if fits {
            figures.reserved += more;
        }
        fits
    }

    /// As [`Held::take`], by fresh figures. Where that is not enough, partials are removed: first
    /// the one that this upload replaces, then the partner's oldest.
    async fn take_with_room_made(&self, more: u64) -> Result<bool, Refusal> {
        self.refresh().await?;
        if self.take(more) {
            return Ok(true);
        }
        let storage = &self.quota.storage;
        if !storage.may_have_partials(&self.partner) {
            return Ok(false);
        }
        if self.from == From::Anew {
            storage.drop_partial(&self.partner, &self.name).await?;
            self.refresh().await?;
        }
        let lacks = self.lacks(more);
        if lacks > 0 {
            let freed = storage.give_up_partials(&self.partner, lacks, &self.name).await?;
            info!(partner = self.partner, bytes = freed, "partials were given up: the quota has no room beside them");
            self.refresh().await?;
        }
        Ok(self.take(more))
    }

    /// How many bytes are too many by `more` of them.
    fn lacks(&self, more: u64) -> u64 {
        let figures = self.figures.lock();
        figures.kept.saturating_add(figures.reserved).saturating_add(more).saturating_sub(self.limit)
    }

    async fn refresh(&self) -> Result<(), Refusal> {
        // Before the reading: what moves meanwhile may be in what is read, or not.
        let moved_before = self.figures.lock().moved;
        let unprocessed = self.quota.queue.unprocessed_bytes(&self.partner).await?;
        let partials = self.quota.storage.partial_bytes(&self.partner).await?;
        let mut figures = self.figures.lock();
        // What moved while we read may or may not be in what we read: it is counted again, to be safe.
        figures.kept = unprocessed + partials + (figures.moved - moved_before);
        Ok(())
    }
}
