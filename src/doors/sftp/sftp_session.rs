//! A partner's session over SFTP, from the login on.
//!
//! Bounds that are the session's, over all its channels, are here: opening more channels gains
//! nothing.

use std::{
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use chrono::DateTime;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use crate::{
    doors::core::PartnerSession,
    ingest::{Accepted, Refusal},
};

use super::{context::SftpContext, room::OwnRoom};

/// Folders that are listed at once: each holds at most one page of the catalogue, 300 KiB with the longest names.
const MOST_FOLDERS: usize = 32;
/// The most requests that have no answer yet.
const MOST_OUTSTANDING: usize = 32 << 10;

/// A partner that has logged in, and what goes on over its connection.
pub(super) struct SftpSession {
    pub(super) partner: Arc<PartnerSession>,
    context: Arc<SftpContext>,
    /// Memory for bytes that wait, of all channels.
    pub(super) room: OwnRoom,
    /// Places for folders that are listed, of all channels.
    pub(super) folders: Arc<Semaphore>,
    /// Places for requests without an answer, of all channels.
    pub(super) outstanding: Arc<Semaphore>,
    /// Bytes of answers that wait to be sent, of all channels.
    pub(super) waiting_bytes: Arc<AtomicUsize>,
    /// Open files and requests without an answer.
    under_way: AtomicUsize,
    /// The connection is over.
    pub(super) gone: CancellationToken,
}

/// Something that is under way: a file that is open, a request without an answer.
pub(super) struct Busy(Arc<SftpSession>);

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::AcqRel);
    }
}

/// It is the partner's session; the rest is for what happens on the connection itself.
impl Deref for SftpSession {
    type Target = PartnerSession;

    fn deref(&self) -> &PartnerSession {
        &self.partner
    }
}

impl SftpSession {
    /// The session of a partner that has just logged in.
    pub(super) fn new(partner: Arc<PartnerSession>, context: Arc<SftpContext>, gone: CancellationToken) -> Self {
        Self {
            room: OwnRoom::new(partner.ticket.memory().clone()),
            folders: Arc::new(Semaphore::new(MOST_FOLDERS)),
            outstanding: Arc::new(Semaphore::new(MOST_OUTSTANDING)),
            waiting_bytes: Arc::default(),
            partner,
            context,
            under_way: AtomicUsize::new(0),
            gone,
        }
    }

    /// Something is under way from now on.
    pub(super) fn busy(self: &Arc<Self>) -> Busy {
        self.under_way.fetch_add(1, Ordering::AcqRel);
        Busy(self.clone())
    }

    /// Returns whether anything is under way: a server that stops waits for it.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.load(Ordering::Acquire) > 0
    }

    /// Counts bytes that were moved, and waits until they are within the partner's bandwidth. What came of a connection
    /// that has gone need not wait.
    pub(super) async fn moved(&self, bytes: u64) {
        self.ticket.add_bytes(bytes);
        tokio::select! {
            () = self.throttle(bytes) => {}
            () = self.gone.cancelled() => {}
        }
    }

    /// Gives a file a time, in seconds since 1970.
    pub(super) async fn set_time(&self, path: &str, changed: u32) -> Result<(), Refusal> {
        let at = DateTime::from_timestamp(i64::from(changed), 0).unwrap_or_default();
        self.files.set_time(path, at).await
    }

    /// The sentence about a file that was accepted. Most clients do not show it; their logs may.
    pub(super) fn told_of(&self, accepted: &Accepted) -> String {
        self.context.common.told_of(accepted)
    }
}
