//! What the server counts of itself, and the form in which a monitoring system reads it.
//!
//! Who does something counts it in [`Metrics`], which is shared by all: atomic additions and nothing else, so it costs an
//! upload no lock and no memory. What is there at an instant (files by state, room on the disk, the gate) is not counted
//! but [`Seen`], when somebody asks. [`exposition`] gives both, in OpenMetrics or in the text format of Prometheus.
//!
//! # Trust
//! Labels come from this file and from the operator's configuration alone: nothing that a partner or a stranger chooses
//! becomes a label, so nobody outside can make series, or put words into them.

mod counted;
mod exposition;
mod histogram;
mod labels;
mod seen;

pub use counted::{Connected, Metrics};
pub use exposition::{Format, exposition};
pub use labels::{Content, Door, LoginFailure, Refused, SyncedFile, Volume};
pub use seen::{Disk, GateScope, Queue, Seen, StateCount};
