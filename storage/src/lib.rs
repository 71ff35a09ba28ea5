//! Where Forebay keeps bytes.
//!
//! A file goes `begin → write → commit`, and from the commit on it is immutable, describes itself and is verified
//! whenever it is read. [`Storage`] is the contract; [`local`] keeps it in a directory. [`log`] is the segmented,
//! preallocated log that the queue's journal and the spool's intake log stand on. All reach the machine through
//! [`disk::Disk`] alone, so that a simulated disk can take the power away at any instant.

pub mod disk;
mod error;
mod id;
pub mod local;
pub mod log;
mod meta;
mod store;

pub use error::{Result, StorageError};
pub use id::FileId;
pub use meta::{FileMeta, NewFile, Origin, Sha256};
pub use store::{Durability, PartialInfo, Placement, Retract, Sealed, Space, SpoolItem, Storage, Upload, Verified};
