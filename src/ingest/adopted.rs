//! Files that a crash cut between their bytes and their record, and that their senders may send again.
//!
//! Nobody was told that they are kept, so a client sends such a file again. When the same partner sends the same bytes under
//! the same name, the one that was found is superseded by it, in the record of the acceptance itself: otherwise each crash
//! would leave files for an operator that nobody needs.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use forebay_queue::{Entry, Filter, Hold, QueueError, State};
use forebay_storage::{FileId, FileMeta, Sha256};
use parking_lot::Mutex;
use tracing::info;

use super::Ingest;

/// Held files that are looked through at a start. Beyond that an operator has more to do than these.
const MOST_LOOKED: usize = 10_000;
const PAGE: usize = 500;

/// The adopted files that are still held, as far as is known.
#[derive(Debug, Default)]
pub(super) struct Adopted(Mutex<HashMap<Same, Found>>);

/// What two files have in common that are the same for their sender.
#[derive(Debug, PartialEq, Eq, Hash)]
struct Same {
    partner: String,
    name: String,
    size_bytes: u64,
    sha256: Sha256,
}

/// One that was adopted.
#[derive(Clone, Copy, Debug)]
struct Found {
    id: FileId,
    received_at: DateTime<Utc>,
}

impl Adopted {
    /// Returns the file that this one is the second copy of. The queue checks whether that still
    /// waits for an operator. `since` says since when the partner has its name: what is older is another one's.
    pub(super) fn same_as(&self, meta: &FileMeta, since: impl FnOnce() -> DateTime<Utc>) -> Option<FileId> {
        let adopted = self.0.lock();
        if adopted.is_empty() {
            return None;
        }
        let (size_bytes, sha256) = meta.whole();
        let same = Same { partner: meta.partner.clone(), name: meta.name.clone(), size_bytes, sha256 };
        let found = adopted.get(&same).copied().filter(|found| found.id != meta.id);
        drop(adopted);
        let found = found?;
        let since = since();
        ((found.received_at > since) == (meta.received_at > since)).then_some(found.id)
    }

    /// Remembers a file that was adopted.
    pub(super) fn add(&self, entry: &Entry) {
        let (partner, name) = (entry.partner.clone(), entry.name.clone());
        let same = Same { partner, name, size_bytes: entry.size_bytes, sha256: entry.sha256 };
        self.0.lock().insert(same, Found { id: entry.id, received_at: entry.received_at });
    }
}

impl Ingest {
    /// Finds again what starts before this one have adopted, from the newest back.
    pub(super) async fn find_adopted(&self) -> Result<(), QueueError> {
        let filter = Filter { states: vec![State::Held], ..Filter::default() };
        let (mut looked, mut found, mut before) = (0, Vec::new(), None);
        loop {
            let page = self.queue.newest(&filter, before, PAGE).await?;
            looked += page.entries.len();
            found.extend(page.entries.into_iter().filter(|entry| entry.hold == Some(Hold::Adopted)));
            before = page.next;
            if before.is_none() || looked >= MOST_LOOKED {
                break;
            }
        }
        // Of two that are the same the newer one counts.
        found.iter().rev().for_each(|entry| self.adopted.add(entry));
        if !found.is_empty() {
            info!(files = found.len(), "files that a crash cut are held until they are sent again or an operator acts");
        }
        Ok(())
    }
}
