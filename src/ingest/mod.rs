//! The one way in. Every door takes a file through [`Ingest`], so that what is promised is promised once.
//!
//! `begin → write → finish` of an [`Intake`]: the bytes are committed to storage, the door's [`Evidence`] is looked
//! at, the queue takes the entry, the partner's view shows it, and only then the door may reply.
//!
//! # Guarantees
//! [`Accepted`] means: bytes, metadata and queue entry are on stable storage. A [`Refusal`] means: it is not in the
//! queue, and nothing of it will appear there later. What was cut is kept as a partial, nothing else is left behind.
//! One case is not to be told apart from a crash before the reply, and is treated as one: when the journal itself fails
//! under a file, the answer is [`Refusal::Stopped`], the bytes stay, and the restart finds the record or adopts the file.
//! A door's task that ends early does not stop a commit that has begun: it is finished or taken back.
//!
//! # After a crash
//! [`Ingest::recover`] looks at what the spool holds and the journal does not know: it was never acknowledged. Sound
//! files are adopted as `held`, others set aside. The view is put right from the queue.

mod accepted;
mod core;
mod evidence;
mod folders;
mod intake;
mod naming;
mod options;
mod origins;
mod quota;
mod recovery;
mod refusal;
mod rename;
mod resume;
mod retention;
mod times;
mod unfinished;
mod view;

pub use accepted::{Accepted, Kept, Renamed};
pub use core::{Foundation, Ingest, Peer, SessionInfo};
pub use evidence::{Evidence, Proven, Verdict};
pub use forebay_queue::KnownOrigin;
pub use forebay_storage::{FileId, Origin};
pub use intake::Intake;
pub use naming::{MAX_COMPONENT_BYTES, MAX_DEPTH, MAX_PATH_BYTES, Name, OUT};
pub use options::Options;
pub use recovery::RecoveryReport;
pub use refusal::Refusal;
pub use resume::Start;
pub use retention::Swept;
