//! What a door knows about whether an upload is whole.

use async_trait::async_trait;

/// A door's proof, looked at after the file's fsync and right before the journal's record.
///
/// The later the look, the more of a sender's death it sees, so the door gives a thing to look at, not an answer.
#[async_trait]
pub trait Evidence: Send {
    /// The verdict at this moment.
    async fn look(&mut self) -> Verdict;
}

/// What the evidence says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it came.
    Whole,
    /// It may be whole; the partner's policy wants a person to look.
    Hold(String),
    /// All of it came, and it waits for a sign that the sender has read the reply: [`super::Ingest::confirm`].
    Unconfirmed,
    /// It is cut.
    Cut(String),
}

/// Evidence of a door whose protocol has an end mark, which it has seen: SFTP's CLOSE, HTTP's last chunk.
#[derive(Clone, Copy, Debug)]
pub struct Proven;

#[async_trait]
impl Evidence for Proven {
    async fn look(&mut self) -> Verdict {
        Verdict::Whole
    }
}
