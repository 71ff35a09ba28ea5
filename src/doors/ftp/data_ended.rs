//! The evidence of a backend that sees nothing but the end of the data.
//!
//! Used behind a stock libunftp server alone (`backend::put`). The guard has better evidence
//! (`evidence`), because it holds the control connection.

use std::sync::Arc;

use crate::ingest::{Evidence, Verdict};

use super::transfer::Transfer;

/// The data connection has ended, and nobody has cancelled the transfer.
pub(super) struct DataEnded {
    pub(super) transfer: Arc<Transfer>,
    /// The verdict then.
    pub(super) otherwise: Verdict,
}

impl Evidence for DataEnded {
    fn look(&mut self) -> Verdict {
        match self.transfer.commit() {
            Ok(()) => self.otherwise.clone(),
            Err(why) => Verdict::Cut(why),
        }
    }
}
