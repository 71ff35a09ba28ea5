//! Files that are over make room before their time, so that what is kept refuses no upload.
//!
//! All of them together have a bound: `kept_quota`, or by default as much as there is free room on the disk. Beyond it the
//! oldest files of the partner that keeps the most go first, so nobody pushes out what others keep by sending more.
//!
//! This is a third threshold of the disk's room beside its reserve and the shares (`share`): files
//! that are over go when they are more than is free, and files that ended just now too when less
//! than 1/32 of the disk is.

use std::collections::HashMap;

use chrono::TimeDelta;
use forebay_queue::Entry;
use forebay_storage::{FileId, Space};
use parking_lot::Mutex;

use super::{Ingest, Refusal};

const PAGE: usize = 500;
/// Files that go at a time: others want to change the queue meanwhile.
const MOST: usize = 5_000;
/// For this long a file that has ended stays, for a sender that looks whether it came; unless the
/// disk is short.
const JUST_NOW: TimeDelta = TimeDelta::seconds(10);

/// Where each partner's files were looked through last, from the oldest on.
#[derive(Debug, Default)]
pub(super) struct Looked(Mutex<HashMap<String, FileId>>);

impl Ingest {
    /// Removes files that are over as long as they are more than may be kept; returns how many went. To be called every
    /// second.
    ///
    /// # Errors
    /// When storage or queue fail.
    pub async fn trim_kept(&self) -> Result<usize, Refusal> {
        let mut kept = self.queue.over_bytes().await?;
        let space = self.storage.space()?;
        let bound = self.options.kept_quota.unwrap_or_else(|| room(&space));
        let total: u64 = kept.iter().map(|(_, bytes)| bytes).sum();
        if total <= bound {
            return Ok(0);
        }
        // A little more than is needed, or each second would bring the same again.
        let mut excess = total - bound + bound / 16;
        let mut gone = 0;
        while excess > 0 && gone < MOST {
            kept.sort_unstable_by_key(|(_, bytes)| std::cmp::Reverse(*bytes));
            let second = kept.get(1).map_or(0, |(_, bytes)| *bytes);
            let Some((partner, bytes)) = kept.first_mut().filter(|(_, bytes)| *bytes > 0) else { break };
            // Until it keeps no more than the next, of which there may be as many.
            let least = excess.min((*bytes - second).max(excess / 8).max(1));
            let files = self.oldest_over(partner, least, is_pressing(&space)).await?;
            if files.is_empty() {
                // The rest of it has ended just now.
                *bytes = 0;
                continue;
            }
            let freed: u64 = files.iter().map(|entry| entry.extent().size_bytes).sum();
            let ids: Vec<_> = files.iter().map(|entry| entry.id).collect();
            let purged = self.queue.purge_these(&ids, self.clock.now()).await?;
            // The journal has said so first: bytes without an entry would be adopted again.
            self.storage.remove(&purged.kept).await?;
            gone += purged.files;
            *bytes = bytes.saturating_sub(freed);
            excess = excess.saturating_sub(freed);
        }
        Ok(gone)
    }

    /// Returns the partner's oldest files that are over, until they have this many bytes.
    async fn oldest_over(&self, partner: &str, bytes: u64, is_pressing: bool) -> Result<Vec<Entry>, Refusal> {
        let ended_before = self.clock.now() - if is_pressing { TimeDelta::zero() } else { JUST_NOW };
        let (mut found, mut sum) = (Vec::new(), 0);
        let mut after = self.looked.0.lock().get(partner).copied();
        loop {
            let page = self.queue.of_partner(partner, after, PAGE).await?;
            let is_last = page.len() < PAGE;
            let last = page.last().map(|entry| entry.id);
            for entry in page {
                if sum >= bytes || found.len() >= PAGE {
                    return Ok(found);
                }
                if entry.state.is_over() && entry.since <= ended_before && entry.extent().size_bytes > 0 {
                    sum += entry.extent().size_bytes;
                    found.push(entry);
                }
            }
            // What was passed over is looked at again in another round.
            after = if is_last { None } else { last };
            let mut looked = self.looked.0.lock();
            match after {
                Some(last) => drop(looked.insert(partner.to_owned(), last)),
                None => drop(looked.remove(partner)),
            }
            if is_last || sum >= bytes {
                return Ok(found);
            }
        }
    }
}

/// The free room of a disk, without its reserve.
fn room(space: &Space) -> u64 {
    space.free_bytes.saturating_sub(space.reserve_bytes)
}

/// Returns true if the next uploads may find no room.
fn is_pressing(space: &Space) -> bool {
    room(space) < space.total_bytes / 32
}
