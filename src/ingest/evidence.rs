//! The evidence of a door that an upload is whole.

/// A door's proof, looked at after the file's fsync and right before the journal's record.
///
/// The later the look, the more of a sender's death it sees, so the door gives a thing to look at, not an answer.
pub trait Evidence: Send {
    /// The verdict at this moment. May block for as long as it takes to be sure, which is some milliseconds.
    fn look(&mut self) -> Verdict;
}

/// The verdict of the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it came.
    Whole,
    /// It may be whole; the partner's policy wants a person to look.
    Hold(String),
    /// All of it came. It is not claimable before a sign that the sender has read the reply
    /// ([`super::Ingest::confirm`]) or `confirm_after` has passed: [`super::Ingest::withdraw`] may take it back until then.
    Unconfirmed,
    /// It is cut.
    Cut(String),
}

/// Evidence of a door whose protocol has an end mark, which it has seen: SFTP's CLOSE, HTTP's last chunk.
#[derive(Clone, Copy, Debug)]
pub struct Proven;

impl Evidence for Proven {
    fn look(&mut self) -> Verdict {
        Verdict::Whole
    }
}
