//! What takes files, or the messages of a file one by one: a directory, a program.
//!
//! A sink works on one item and answers with an [`Outcome`](super::Outcome): done is *accepted*, quarantine is *refused*,
//! retry and failed are *again*, backend down is *down*. It begins through [`Work::hand_over`](super::Work::hand_over), so
//! nothing reaches it while the gate is closed. What follows from its answers (retries, blame, pauses) is decided above it.

mod deliver;
mod directory;
mod exec;
mod given;

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use forebay_storage::FileId;

pub(super) use self::given::cannot_place;
pub use self::{
    deliver::Deliver,
    exec::{Common, Exec},
};
use super::{Processor, Report, Work};

/// Something that takes files or messages. A call works on one of them; many calls run at once.
///
/// It must be ready for the same item twice: a crash after its work and before the outcome is durable repeats it, with the
/// same id.
#[async_trait]
pub trait Sink: Send + Sync + 'static {
    /// Works on one item of a claimed file.
    async fn take(&self, work: &Arc<Work>, item: Item) -> Report;
}

/// What a sink is given.
#[derive(Clone, Debug)]
pub enum Item {
    /// The claimed file as a whole.
    File,
    /// One message of it.
    Message(Message),
}

/// One message of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its place in the file, from 1.
    pub ordinal: u64,
    /// How many messages the file has.
    pub of: u64,
    /// Which attempt at it this is, from 1, since the file was claimed.
    pub attempt: u32,
    /// What its sender calls it (MSH-10).
    pub control_id: String,
    /// What it is (MSH-9).
    pub message_type: String,
    /// Whether it is meant: production, training or debugging (MSH-11).
    pub mode: Mode,
    /// Its bytes, as they are handed over.
    pub bytes: Bytes,
}

/// The processing mode of a message (HL7 table 0103).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// `P`, and whatever is neither of the others.
    Production,
    /// `T`.
    Training,
    /// `D`.
    Debugging,
}

impl Mode {
    /// The mode of this first component of MSH-11.
    pub(super) fn of(processing_id: &[u8]) -> Self {
        match processing_id {
            b"T" => Self::Training,
            b"D" => Self::Debugging,
            _ => Self::Production,
        }
    }

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Production => "production",
            Self::Training => "training",
            Self::Debugging => "debugging",
        }
    }
}

impl Message {
    /// The id under which it is handed over, at each repetition the same: `<file id>-<ordinal>`.
    #[must_use]
    pub fn id(&self, file: FileId) -> String {
        format!("{file}-{}", self.ordinal)
    }
}

/// The processor of a route that hands whole files over.
pub struct WholeFiles(Arc<dyn Sink>);

impl WholeFiles {
    /// One that hands them to this sink.
    #[must_use]
    pub fn new(sink: Arc<dyn Sink>) -> Self {
        Self(sink)
    }
}

#[async_trait]
impl Processor for WholeFiles {
    async fn process(&self, work: &Arc<Work>) -> Report {
        self.0.take(work, Item::File).await
    }
}
