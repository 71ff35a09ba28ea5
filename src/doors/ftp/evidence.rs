//! Evidence that the client was still there when all its data had come.
//!
//! FTP has no end mark: the end of the data connection is the end of the file (RFC 959, 3.4.1), and
//! a client that dies closes it too. But it closes the control connection with it. So that
//! connection is looked at on a descriptor of our own, as the last thing before the journal's
//! record is appended. A small file travels in that record and is on no disk yet; a larger one has
//! been synced before.
//!
//! Nothing is waited for: the two ends of a client that died may reach us far apart, and what the
//! look misses is for the time after the reply (`confirmation`). The transfer is committed first:
//! from then on nobody can cancel it, and if it was cancelled before, the upload is cut.
//!
//! This is one of three questions, asked in this order: does the end of the data say that the file
//! is whole (`completeness`), was the client still there (here), and has it read the reply
//! (`confirmation`)?

use std::{os::fd::AsFd, sync::Arc};

use crate::{
    doors::core::Link,
    ingest::{Evidence, Verdict},
};

use super::{tcp_state::tcp_state, transfer::Transfer};

/// The control connection, looked at right before the journal's record.
pub(super) struct ControlStillUp {
    pub(super) link: Arc<Link>,
    pub(super) transfer: Arc<Transfer>,
    /// The verdict if the client is still there.
    pub(super) otherwise: Verdict,
}

impl Evidence for ControlStillUp {
    fn look(&mut self) -> Verdict {
        // Before the look: a cancel that came in between would be answered as done, and the file
        // queued.
        if let Err(why) = self.transfer.commit() {
            return Verdict::Cut(why);
        }
        match tcp_state(self.link.control.as_fd()) {
            Ok(state) if state.established => self.otherwise.clone(),
            Ok(_) => Verdict::Cut("the control connection closed with the data connection".to_owned()),
            // No knowledge counts as no evidence: the bytes are kept as a partial, and the client
            // can resume.
            Err(error) => Verdict::Cut(format!("cannot tell whether the control connection is up: {error}")),
        }
    }
}
