//! Where Forebay keeps bytes.
//!
//! A file goes `begin → write → commit`, and from the commit on it is immutable, describes itself and is verified
//! whenever it is read. [`Storage`] is the contract; [`local`] keeps it in a directory. [`journal`] keeps records, and
//! the bytes of small files that ride along with them; it stands on [`log`], a segmented, preallocated log. All reach the
//! machine through [`disk::Disk`] alone, so that a simulated disk can take the power away at any instant.

// They panic where standard output or standard error cannot be written.
#![warn(clippy::print_stdout, clippy::print_stderr, clippy::dbg_macro)]

mod digest;
pub mod disk;
mod error;
mod id;
pub mod journal;
pub mod local;
pub mod log;
mod meta;
mod observer;
mod store;

pub use digest::{DigestState, NotADigestState};
pub use error::{Result, StorageError};
pub use id::FileId;
pub use meta::{FileMeta, GoesOn, NewFile, Origin, Rest, Sha256};
pub use observer::{Observer, Synced};
pub use store::{
    Content, Durability, PartialInfo, Retract, Sealed, Space, SpoolItem, SpoolMaintenance, Storage, Upload, Verified,
};
