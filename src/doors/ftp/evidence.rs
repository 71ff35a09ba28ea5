//! Whether the client was still there when all its data had come.
//!
//! FTP has no end mark: the end of the data connection is the end of the file, and a client that dies closes it too.
//! But it closes the control connection with it. So that is looked at on a descriptor of our own, after the file's
//! fsync, when the journal's record is next, and not before a settle time since the end of the data has passed. The
//! fsync mostly takes longer than that, so it mostly costs nothing.

use std::{os::fd::AsFd, sync::Arc, time::Duration};

use async_trait::async_trait;
use tokio::time::Instant;

use crate::ingest::{Evidence, Verdict};

use super::{line::Line, tcp_state::tcp_state};

pub(super) struct ControlStillUp {
    pub(super) line: Arc<Line>,
    /// When the end of the data was seen.
    pub(super) data_ended: Instant,
    pub(super) settle: Duration,
    /// What holds if the client is still there.
    pub(super) otherwise: Verdict,
}

#[async_trait]
impl Evidence for ControlStillUp {
    async fn look(&mut self) -> Verdict {
        let settled = self.data_ended + self.settle;
        if Instant::now() < settled {
            tokio::time::sleep_until(settled).await;
        }
        match tcp_state(self.line.control.as_fd()) {
            Ok(state) if state.established => self.otherwise.clone(),
            Ok(_) => Verdict::Cut("the control connection closed with the data connection".to_owned()),
            Err(error) => Verdict::Cut(format!("cannot tell whether the control connection is up: {error}")),
        }
    }
}
