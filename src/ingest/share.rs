//! The share of the disk that no partner can take from the others.
//!
//! A partner may have no quota, or a large one. As long as the disk has room that is its operator's wish. When little is
//! left, what is left is for those who have less than their share of the disk: everyone's is the same part of it. So a
//! partner that fills the disk with files that wait is refused before the others are.

use std::{collections::HashMap, sync::Arc};

use parking_lot::Mutex;

use super::{Ingest, Refusal};

/// The disk is looked at whenever an upload has grown by this many bytes. Shorter ones are looked
/// at when they begin.
const STEP_BYTES: u64 = 4 << 20;
/// Little is left when it is less than this part of the disk.
const LAST_PART: u64 = 10;

/// Bytes of uploads that are under way, by partner, of those that have grown long.
#[derive(Debug, Default)]
pub(super) struct UnderWay(Mutex<HashMap<String, u64>>);

impl UnderWay {
    fn of(&self, partner: &str) -> u64 {
        self.0.lock().get(partner).copied().unwrap_or(0)
    }
}

/// What one upload has brought so far. Dropping it takes it off again.
pub(super) struct Brought {
    under_way: Arc<UnderWay>,
    partner: String,
    bytes: u64,
}

impl Brought {
    pub(super) fn new(ingest: &Ingest, partner: &str) -> Self {
        Self { under_way: Arc::clone(&ingest.under_way_bytes), partner: partner.to_owned(), bytes: 0 }
    }

    /// Returns true if it is time to look at the disk again, and counts the bytes that have come
    /// since.
    pub(super) fn has_grown(&mut self, bytes: u64) -> bool {
        if bytes < self.bytes + STEP_BYTES {
            return false;
        }
        *self.under_way.0.lock().entry(self.partner.clone()).or_default() += bytes - self.bytes;
        self.bytes = bytes;
        true
    }
}

impl Drop for Brought {
    fn drop(&mut self) {
        if self.bytes == 0 {
            return;
        }
        let mut under_way = self.under_way.0.lock();
        let left = under_way.get(&self.partner).copied().unwrap_or(0).saturating_sub(self.bytes);
        match left {
            0 => drop(under_way.remove(&self.partner)),
            left => drop(under_way.insert(self.partner.clone(), left)),
        }
    }
}

impl Ingest {
    /// Refuses a partner what the others may need: when little is left of the disk and it has its share already.
    ///
    /// A share is the size of the disk, divided by the number of partners. It counts what waits to
    /// be processed, what is under way and what lies as partials; what is over counts for nobody.
    ///
    /// # Errors
    /// [`Refusal::Quota`]; or that of storage or queue.
    pub(super) async fn leaves_room_for_others(&self, partner: &str, more: u64) -> Result<(), Refusal> {
        let space = self.storage.space()?;
        if space.free_bytes.saturating_sub(space.reserve_bytes) >= space.total_bytes / LAST_PART {
            return Ok(());
        }
        let partners = self.partners.count().max(1);
        // Nobody else needs the room.
        if partners == 1 {
            return Ok(());
        }
        let mut own = self.queue.unprocessed_bytes(partner).await? + self.under_way_bytes.of(partner) + more;
        if self.storage.may_have_partials(partner) {
            own += self.storage.partial_bytes(partner).await?;
        }
        if own > space.total_bytes / partners { Err(Refusal::Quota) } else { Ok(()) }
    }
}
