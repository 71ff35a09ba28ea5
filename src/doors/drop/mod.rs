//! The drop door: folders that another server (OpenSSH, vsftpd, a script) writes to, each bound to a partner.
//!
//! A folder is watched, swept at start and every minute (`sweep`), and looked at again when it vanishes and comes back
//! (`watch`, `folder`, `names`). What is found there is looked at without following links (`place`), judged (`proof`,
//! `writers`), copied into `ingest` (`taking`), and then deleted or moved (`removal`).
//!
//! # Guarantees
//! A file leaves its folder only after its copy is accepted: bytes, entry and the identity of the original are one
//! record on stable storage. Before it leaves it is looked at once more under a name of our own, so that what was
//! written or put in its place meanwhile is given back and taken as a file of its own. What cannot be taken stays, is
//! reported, and is tried again with growing waits.
//!
//! # After a crash
//! The journal says which originals were taken and not yet seen to be gone (`known`). One that is still there, the same
//! in inode, size, time of writing and, unless nothing at all has changed since, digest, is removed and not taken
//! again. An original is forgotten when its directory was synced without it.
//!
//! # Trust
//! Everyone who can write to the folder is trusted with what `accept` says, and with nothing else. Regular files alone
//! are read, through descriptors that were opened without following links; a file with a second hard link is not taken,
//! for it may be someone else's. Names go through `ingest`'s rules.

mod door;
mod folder;
mod job;
mod known;
mod names;
mod options;
mod place;
mod proof;
mod removal;
mod report;
mod survey;
mod suspects;
mod taking;
mod watch;
mod writers;

pub use door::Door;
pub use options::{Accept, After, Options};
pub use report::{Failing, FolderStatus, Reports};
