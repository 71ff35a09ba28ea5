//! The embedded queue: a journal, which is the truth, and sled, an index of it.
//!
//! # Guarantees
//! Ok of a change means: its record is in the journal, on stable storage, and whoever reads finds it. Changes that wait at
//! the same time are journalled as one group, with one `fdatasync`. Once the journal has a record the answer is
//! positive, whatever becomes of the index. Renewed leases are in memory alone. When a write or sync of the journal
//! fails, the queue takes nothing more until a restart; reading goes on. A journal without room ([`QueueError::Full`])
//! leaves everything as it was.
//!
//! # After a crash
//! Entries, listings, counters and the applied sequence are written to the index as one batch, so whatever prefix of
//! its writes sled kept, the journal's records behind it are applied when the queue is opened. An index that does not
//! open, panics, disagrees with itself or with the journal, or is ahead of it, is set aside as
//! `<index>.corrupt-<time>` and made anew. Leases are void; entries that were active stay so until
//! [`crate::EmbeddedMaintenance::settle_crashed`]. Where damage took records from the journal that the index had applied, the entries
//! they were about are written to the journal again; where it had not, every file that waited at the time is `held`,
//! for its outcome may be what was lost.

mod batch;
mod binary;
mod catalogue;
mod claim;
mod command;
mod committer;
mod contents;
mod counts;
mod damage;
mod entry_codec;
mod fault;
mod figures;
mod idempotency;
mod index;
mod index_dir;
mod keys;
mod lanes;
mod layered;
mod mailbox;
mod mending;
mod messages;
mod meta;
mod names;
mod newest;
mod options;
mod pace;
mod queue;
mod read;
mod record_codec;
mod recover;
mod retire;
mod staged;
mod stall;
mod state;
#[cfg(test)]
mod tests;
mod text;
mod upkeep;
mod verify;
mod waiting;

pub use mailbox::gather_answers;
pub use options::Options;
pub use queue::EmbeddedQueue;

#[cfg(doc)]
use crate::{QueueError, QueueStore};
