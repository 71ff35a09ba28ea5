//! What is to be done: entries in lanes, with leases, outcomes and history.
//!
//! [`QueueStore`] is the contract; [`embedded`] keeps it in a journal, which is the truth, and in sled, an index of it.

pub mod embedded;
mod entry;
mod error;
mod origin;
mod record;
mod retry;
mod store;
mod transition;

pub use entry::{Child, Entry, Lane, Lease, LeaseToken, NewEntry, State};
pub use error::{QueueError, Result};
pub use origin::KnownOrigin;
pub use record::{Actor, Fact, Record};
pub use retry::Backoff;
pub use store::{
    Action, Claim, ClaimAsk, Cursor, Filter, LaneInfo, NewName, Order, Page, QueueStore, Recovered, RouteAsk,
    Settlement, StateCount, Stats, Verified,
};
