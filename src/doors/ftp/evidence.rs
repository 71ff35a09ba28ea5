//! Evidence that the client was still there when all its data had come.
//!
//! FTP has no end mark: the end of the data connection is the end of the file, and a client that dies closes it too.
//! But it closes the control connection with it. So that is looked at on a descriptor of our own, after the file's
//! fsync, when the journal's record is next. Nothing is waited for: the two ends of a client that died may reach us far
//! apart, and what the look misses is for the time after the reply (`confirmation`). The transfer is told first that it
//! commits: from then on nobody can cancel it, and whoever cancelled it before has won.

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
        if let Err(why) = self.transfer.commit() {
            return Verdict::Cut(why);
        }
        match tcp_state(self.link.control.as_fd()) {
            Ok(state) if state.established => self.otherwise.clone(),
            Ok(_) => Verdict::Cut("the control connection closed with the data connection".to_owned()),
            Err(error) => Verdict::Cut(format!("cannot tell whether the control connection is up: {error}")),
        }
    }
}
