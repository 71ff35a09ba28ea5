//! The evidence of a door that an upload is whole.
//!
//! [`Evidence::look`] is called once, right before the record is appended. A small file is on no
//! disk then: its bytes travel in the record. A larger one was made durable before. The verdict
//! decides:
//!
//! - `Whole` queues the file, ready to be claimed;
//! - `Unconfirmed` queues it, not claimable for `confirm_after` or until it is confirmed;
//! - `Hold` queues it held, for an operator;
//! - `Cut` queues nothing, and keeps the bytes as a partial.
//!
//! From `look` on a door must make its own cancellation lose, because the file may be queued
//! already (FTP: `Transfer::commit`).

/// A door's proof, looked at right before the journal's record.
///
/// The later the look, the more of a sender's death it sees. So the door gives a thing to look at,
/// not an answer.
pub trait Evidence: Send {
    /// The verdict at this moment. May block for as long as it takes to be sure, which is some milliseconds.
    fn look(&mut self) -> Verdict;
}

/// The verdict of the evidence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// All of it came.
    Whole,
    /// All of it came, under its final name: its door has no renames.
    Final,
    /// It may be whole; the partner's policy wants a person to look.
    Hold(String),
    /// All of it came. It is not claimable before a sign that the sender has read the reply
    /// ([`super::Ingest::confirm`]) or `confirm_after` has passed: [`super::Ingest::withdraw`] may take it back until then.
    Unconfirmed,
    /// It is cut.
    Cut(String),
}

/// Evidence of a door whose protocol has an end mark, which it has seen: SFTP's CLOSE.
#[derive(Clone, Copy, Debug)]
pub struct Proven;

impl Evidence for Proven {
    fn look(&mut self) -> Verdict {
        Verdict::Whole
    }
}

/// The same of a door that has no renames, so that nothing is waited for: HTTP's length or last chunk.
#[derive(Clone, Copy, Debug)]
pub struct ProvenFinal;

impl Evidence for ProvenFinal {
    fn look(&mut self) -> Verdict {
        Verdict::Final
    }
}
