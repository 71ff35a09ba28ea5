//! What became of the messages of a file that is handed over one by one.

use std::{fmt, str::FromStr};

use forebay_storage::Sha256;
use serde::{Deserialize, Serialize};

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum MessageResult {
    /// The sink has it.
    Accepted,
    /// A test message: checked, and not handed over.
    Tested,
    /// The same bytes were handed over shortly before.
    Duplicate,
    /// An operator left it out.
    Skipped,
    /// The sink refused it, or it failed where others got through.
    Refused,
    /// It was never handed over: it is too long, or lacks what a message must have.
    Rejected,
}

impl MessageResult {
    /// All results, in the order in which they are shown.
    pub const ALL: [Self; 6] =
        [Self::Accepted, Self::Tested, Self::Duplicate, Self::Skipped, Self::Refused, Self::Rejected];

    /// The word for it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Tested => "tested",
            Self::Duplicate => "duplicate",
            Self::Skipped => "skipped",
            Self::Refused => "refused",
            Self::Rejected => "rejected",
        }
    }
}

impl fmt::Display for MessageResult {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for MessageResult {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|result| result.as_str() == text).ok_or_else(|| {
            let all: Vec<_> = Self::ALL.iter().map(|result| result.as_str()).collect();
            format!("no result \"{text}\"; there are {}", all.join(", "))
        })
    }
}

/// How bad a fault of a message is (HL7 table 0516).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// The message was not taken.
    Error,
    /// It was taken all the same.
    Warning,
    /// Nothing is wrong.
    Information,
}

/// One fault of a message.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageError {
    /// Where it is, such as `PID-5.1`; empty: nowhere in particular.
    pub at: String,
    /// Its code (HL7 table 0357).
    pub code: u32,
    /// How bad it is.
    pub severity: Severity,
    /// The sentence.
    pub text: String,
    /// True if Forebay says so, and not the sink.
    pub is_ours: bool,
}

/// What is kept of a message beside its result.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageDetail {
    /// Why, as a sentence.
    pub text: String,
    /// Its faults.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<MessageError>,
}

/// Messages in a row of which the same became; one, where there is a detail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessageRun {
    /// The first of them, from 1.
    pub first: u64,
    /// How many.
    pub count: u64,
    /// What became of each.
    pub result: MessageResult,
    /// What else is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<MessageDetail>,
}

impl MessageRun {
    /// The message behind them.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.first.saturating_add(self.count)
    }

    /// Takes those right behind it in, if the same became of them and nothing else is known of either. Returns whether it did.
    pub fn join(&mut self, behind: &Self) -> bool {
        let are_alike = self.end() == behind.first
            && self.result == behind.result
            && self.detail.is_none()
            && behind.detail.is_none();
        if are_alike {
            self.count += behind.count;
        }
        are_alike
    }
}

/// How many messages had which result.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    /// Accepted.
    pub accepted: u64,
    /// Tested.
    pub tested: u64,
    /// Duplicates.
    pub duplicate: u64,
    /// Skipped.
    pub skipped: u64,
    /// Refused.
    pub refused: u64,
    /// Rejected.
    pub rejected: u64,
}

impl Tally {
    /// All that have a result.
    #[must_use]
    pub fn all(&self) -> u64 {
        let Self { accepted, tested, duplicate, skipped, refused, rejected } = *self;
        [accepted, tested, duplicate, skipped, refused, rejected].into_iter().fold(0, u64::saturating_add)
    }

    pub(crate) fn add(&mut self, run: &MessageRun) {
        let count = match run.result {
            MessageResult::Accepted => &mut self.accepted,
            MessageResult::Tested => &mut self.tested,
            MessageResult::Duplicate => &mut self.duplicate,
            MessageResult::Skipped => &mut self.skipped,
            MessageResult::Refused => &mut self.refused,
            MessageResult::Rejected => &mut self.rejected,
        };
        *count = count.saturating_add(run.count);
    }
}

/// How far a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Its messages.
    pub messages: u64,
    /// The first message without an outcome; the one behind the last when all have one.
    pub next: u64,
    /// Where that may begin in the file, in bytes.
    pub offset: u64,
    /// What became of those that have one.
    pub tally: Tally,
}

impl Progress {
    /// Returns whether all messages have an outcome.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.next > self.messages
    }
}

impl fmt::Display for Progress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Tally { accepted, tested, duplicate, skipped, refused, rejected } = self.tally;
        write!(f, "{} {}", self.messages, if self.messages == 1 { "message" } else { "messages" })?;
        let counts = [
            (accepted, "accepted"),
            (tested, "tested"),
            (duplicate, "duplicate"),
            (skipped, "skipped"),
            (refused, "refused"),
            (rejected, "rejected"),
            (self.messages.saturating_sub(self.tally.all()), "to come"),
        ];
        for (index, (count, what)) in counts.into_iter().filter(|(count, _)| *count > 0).enumerate() {
            write!(f, "{} {count} {what}", if index == 0 { ":" } else { "," })?;
        }
        Ok(())
    }
}

/// A file as its messages are counted in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MessageSource {
    /// How many it has.
    pub messages: u64,
    /// Digest of the bytes in which they were counted.
    pub sha256: Sha256,
}

/// Where a file stands that is handed over message by message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MessageState {
    /// How far it is.
    pub progress: Progress,
    /// Messages behind the first without an outcome that have one, ascending.
    pub ahead: Vec<u64>,
}

/// What an entry says of its messages.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Messages {
    /// How far it is.
    pub progress: Progress,
    /// What became of each, encoded, when the file is over and that is short; what is longer is kept elsewhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcomes: Option<Vec<u8>>,
}
