//! The one way in. Every door takes a file through [`Ingest`], so that what is promised is promised once.
//!
//! `begin → write → finish` of an [`Intake`]: the bytes of a large file are committed to storage, the door's [`Evidence`]
//! is looked at, the queue takes the entry, with the bytes of a small file, the catalogue shows the name, and only then the
//! door may reply.
//!
//! # Guarantees
//! [`Accepted`] means: bytes, metadata and queue entry are on stable storage. A [`Refusal`] means: it is not in the
//! queue, and nothing of it will appear there later. What was cut is kept as a partial, nothing else is left behind.
//! One case is not to be told apart from a crash before the reply, and is treated as one: when the journal itself fails
//! under a file, the answer is [`Refusal::Stopped`], and the restart finds the record or not; a large file's bytes stay, and are adopted
//! where it does not.
//! A door's task that ends early does not stop a commit that has begun: it is finished or taken back.
//!
//! # After a crash
//! [`Ingest::recover`] looks at what the spool holds and the journal does not know: it was never acknowledged. Sound
//! files are adopted as `held`, others set aside. The catalogue follows from the journal.

mod accepted;
mod adopted;
mod catalogue;
mod confirmation;
mod core;
mod counted;
mod cut;
mod evidence;
mod idempotency;
mod intake;
mod kept;
mod naming;
mod options;
mod origins;
mod quota;
mod recovery;
mod refusal;
mod resume;
mod retention;
mod sent;
mod session_thread;
mod share;
mod takeover;

pub use accepted::{Accepted, Kept, Renamed};
pub use catalogue::{Files, Kind, Listed, Listing, OpenFile, Stat};
pub use core::{Dependencies, Ingest, Peer, SessionInfo};
pub use evidence::{Evidence, Proven, ProvenFinal, Verdict};
pub use forebay_queue::{IdempotencyKey, KnownOrigin};
pub use forebay_storage::{FileId, Origin, Sha256, Space};
pub use idempotency::{KeyClaim, KeyReused, KeyState, Repeat};
pub use intake::Intake;
pub use naming::{MAX_COMPONENT_BYTES, MAX_DEPTH, MAX_PATH_BYTES, Name, OUT};
pub use options::Options;
pub use recovery::RecoveryReport;
pub use refusal::Refusal;
pub use resume::Start;
pub use retention::Swept;
pub use sent::{Sent, SentPage};
pub use session_thread::prepare_session_thread;
