//! The beginning of uploads, for all doors: [`PartnerSession::resume`], also for a fresh one (a
//! start of 0).
//!
//! A name may still be busy: another upload of it was cut just now, and ends. A client whose
//! connection broke comes back at once and goes on, often before the server has written the last
//! bytes of what it had sent before. It waits a little instead of being refused.

use std::time::Duration;

use tokio::time::sleep;

use crate::ingest::{Intake, Refusal, Start};

use super::partner_session::PartnerSession;

/// Times that a busy name is tried again: with the pause, two seconds.
const ROUNDS: u32 = 40;
/// The pause before each.
const PAUSE: Duration = Duration::from_millis(50);

impl PartnerSession {
    /// Begins an upload of a whole file.
    ///
    /// # Errors
    /// As [`crate::ingest::Ingest::begin`]: [`Refusal::Busy`] only when the name stays busy.
    pub(in crate::doors) async fn begin(&self, path: &str, declared_size: Option<u64>) -> Result<Intake, Refusal> {
        self.resume(path, Start::At(0), declared_size).await
    }

    /// Begins an upload at the byte that the client names, with what is there before it.
    /// Cancel safe: an upload that was begun and is dropped keeps nothing.
    ///
    /// # Errors
    /// As [`crate::ingest::Ingest::resume`]: [`Refusal::Busy`] only when the name stays busy.
    pub(in crate::doors) async fn resume(
        &self,
        path: &str,
        start: Start,
        declared_size: Option<u64>,
    ) -> Result<Intake, Refusal> {
        for _ in 0..ROUNDS {
            match self.ingest.resume(&self.info, path, start, declared_size).await {
                Err(Refusal::Busy) => sleep(PAUSE).await,
                other => return other,
            }
        }
        let last = self.ingest.resume(&self.info, path, start, declared_size).await;
        if matches!(last, Err(Refusal::Busy)) {
            self.ingest.gave_up(&self.info);
        }
        last
    }
}
