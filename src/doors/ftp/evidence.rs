//! Whether the client was still there when all its data had come.
//!
//! FTP has no end mark: the end of the data connection is the end of the file, and a client that dies closes it too.
//! But it closes the control connection with it. So that is looked at on a descriptor of our own, after the file's
//! fsync, when the journal's record is next, and not before a settle time since the end of the data has passed. The
//! fsync mostly takes longer than that, so it mostly costs nothing. Last of all the transfer is told that it commits:
//! from then on nobody can cancel it, and whoever cancelled it before has won.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use tokio::time::Instant;

use crate::ingest::{Evidence, Verdict};

use super::{link::Link, tcp_state::tcp_state, transfer::Transfer};

pub(super) struct ControlStillUp {
    pub(super) link: Arc<Link>,
    pub(super) transfer: Arc<Transfer>,
    /// When the end of the data was seen.
    pub(super) data_ended: Instant,
    pub(super) settle: Duration,
    /// What holds if the client is still there.
    pub(super) otherwise: Verdict,
}

impl Evidence for ControlStillUp {
    fn look(&mut self) -> Verdict {
        let settled = self.data_ended + self.settle;
        std::thread::sleep(settled.saturating_duration_since(Instant::now()));
        match tcp_state(self.link.control.as_fd()) {
            Ok(state) if state.established => {}
            Ok(_) => return Verdict::Cut("the control connection closed with the data connection".to_owned()),
            Err(error) => return Verdict::Cut(format!("cannot tell whether the control connection is up: {error}")),
        }
        match self.transfer.commit() {
            Ok(()) => self.otherwise.clone(),
            Err(why) => Verdict::Cut(why),
        }
    }
}
