//! A folder that is listed through a handle.
//!
//! READDIR (draft-ietf-secsh-filexfer-02, 6.7) is answered with as many names as one answer takes,
//! and EOF at the end.

use std::{sync::Arc, vec};

use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tracing::warn;

use crate::ingest::{self, Listed, Refusal, Stat};

use super::{
    answer::Answer,
    attributes,
    handles::{Asked, Op},
    packet::Code,
    room::Room,
    sftp_session::SftpSession,
};

/// Names in one answer: some 20 KiB.
const MOST_NAMES: usize = 128;
/// The memory that they take at most: each is told twice, the second time in a line as `ls` prints it.
const NAMES_BYTES: usize = 96 << 10;

/// An open folder. A page of the catalogue feeds several answers, and no page is read before it is asked for.
pub(super) struct Listing {
    pub(super) session: Arc<SftpSession>,
    pub(super) stat: Stat,
    pub(super) names: Names,
    /// Memory for what is read and not yet sent.
    pub(super) room: Room,
    /// The folder's place among those that the session may have open.
    pub(super) _place: OwnedSemaphorePermit,
}

impl Listing {
    /// Does what is asked of the handle until it is closed or the connection has gone.
    pub(super) async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Asked>) {
        while let Some(Asked { op, answer, .. }) = asked.recv().await {
            match op {
                Op::Readdir => self.read(answer).await,
                Op::Fstat => answer.attributes(&attributes::of(&self.stat)),
                Op::Close(_) => return answer.ok(),
                _ => answer.status(Code::Failure, "is a directory"),
            }
        }
    }

    /// Serves one READDIR.
    async fn read(&mut self, answer: Answer) {
        let Some(held) = self.room.take(NAMES_BYTES).await else { return };
        match self.names.take(MOST_NAMES).await {
            Ok(names) if names.is_empty() => answer.status(Code::Eof, "no more names"),
            Ok(names) => {
                let (owner, now) = (self.session.info.partner.as_str(), self.session.clock.now());
                let names: Vec<_> = names.into_iter().map(|one| attributes::named(one, owner, now)).collect();
                answer.names(&names, Some(held));
            }
            Err(refusal) => {
                warn!(partner = %self.session.info.partner, %refusal, "cannot list a folder");
                answer.refuse(&refusal);
            }
        }
    }
}

/// The names of a folder that are not told yet.
pub(super) struct Names {
    listing: ingest::Listing,
    page: vec::IntoIter<Listed>,
}

impl Names {
    /// All names of a listing.
    pub(super) fn new(listing: ingest::Listing) -> Self {
        Self { listing, page: Vec::new().into_iter() }
    }

    /// The next names, at most `most`; none at the end. Fewer come where a page ends.
    async fn take(&mut self, most: usize) -> Result<Vec<Listed>, Refusal> {
        if self.page.as_slice().is_empty() {
            self.page = self.listing.next().await?.unwrap_or_default().into_iter();
        }
        Ok(self.page.by_ref().take(most).collect())
    }
}
