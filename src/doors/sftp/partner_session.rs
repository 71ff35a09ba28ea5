//! A partner's session, from the login on.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use chrono::DateTime;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::{
    clock::Clock,
    doors::{link::Link, maintenance::Maintenance},
    ingest::{Accepted, Files, Ingest, Kept, Refusal, SessionInfo},
    partners::SessionTicket,
};

use super::transfer_clock::TransferClock;

/// A partner that has logged in. Its connection counts as present as long as anything of it is under way.
pub(super) struct PartnerSession {
    pub(super) info: SessionInfo,
    pub(super) ticket: SessionTicket,
    pub(super) ingest: Arc<Ingest>,
    pub(super) files: Files,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) maintenance: Arc<Maintenance>,
    /// Open files and requests without an answer.
    pub(super) under_way: AtomicUsize,
    pub(super) transfer_clock: TransferClock,
    /// The connection is over.
    pub(super) gone: CancellationToken,
    pub(super) _link: Arc<Link>,
}

/// Something that is under way: a file that is open, a request without an answer.
pub(super) struct Busy(Arc<PartnerSession>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

impl PartnerSession {
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    /// Counts bytes that were moved, and waits until they are within the partner's bandwidth. What came of a connection
    /// that has gone need not wait.
    pub(super) async fn moved(&self, bytes: u64) {
        self.ticket.add_bytes(bytes);
        let began = Instant::now();
        tokio::select! {
            () = self.ticket.throttle(bytes) => {}
            () = self.gone.cancelled() => {}
        }
        self.transfer_clock.add_throttled(began.elapsed());
    }

    /// Gives a file a time, in seconds since 1970.
    pub(super) async fn set_time(&self, path: &str, changed: u32) -> Result<(), Refusal> {
        let at = DateTime::from_timestamp(i64::from(changed), 0).unwrap_or_default();
        self.files.set_time(path, at).await
    }

    pub(super) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// The text that a client is told of a file that is kept. Most clients do not show it; their logs may.
    pub(super) fn told_of(&self, accepted: &Accepted) -> String {
        let kept = match accepted.kept() {
            Kept::Queued { .. } => match self.maintenance.notice() {
                Some(notice) => format!(", {notice}"),
                None => String::new(),
            },
            Kept::Unfinished => ", waiting for its final name".to_owned(),
            Kept::Held { reason } => format!(", held: {reason}"),
        };
        format!("kept as {}, {} bytes{kept}", accepted.id, accepted.size_bytes)
    }
}
