//! What is to be done: entries in lanes, with leases, outcomes and history.
//!
//! [`QueueStore`] is the contract; [`embedded`] keeps it in a journal, which is the truth, with an index of it.

// They panic where standard output or standard error cannot be written.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod catalogue;
mod cursor;
pub mod embedded;
mod entry;
mod error;
mod hold;
mod idempotency;
mod messages;
mod node;
mod origin;
mod record;
mod retry;
mod store;
mod transition;
mod watch;

pub use catalogue::{Catalogue, NameChange, NameFault, Named, Node};
pub use cursor::Cursor;
pub use embedded::gather_answers;
pub use entry::{Child, Continues, Entry, Extent, Lane, Lease, LeaseToken, NewEntry, State, Superseded};
pub use error::{QueueError, Result};
pub use hold::Hold;
pub use idempotency::{BadIdempotencyKey, IdempotencyKey, KeyedFile};
pub use messages::{
    MessageDetail, MessageError, MessageResult, MessageRun, MessageSource, MessageState, Messages, Progress, Severity,
    Tally,
};
pub use node::NodeId;
pub use origin::KnownOrigin;
pub use record::{Actor, Begun, Fact, Inline, MovedFile, Record, Shown};
pub use retry::Backoff;
pub use store::{
    Action, Claim, ClaimRequest, EmbeddedMaintenance, Filter, LaneInfo, NewName, Order, Page, Purged, QueueStore,
    Recovered, RouteRequest, Settlement, StateCount, StateTotal, Stats, Verified,
};
pub use watch::Watch;
