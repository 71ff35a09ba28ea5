//! After the reply: whether the sender lived to read it.
//!
//! A file that came over plain FTP is accepted and waits: no claim gives it before its sender was seen to go on, or
//! `confirm_after` has passed with the connection up. Until then it can be taken back, as if the reply had been negative.
//!
//! Doors decide when (`doors/ftp/confirmation.rs`); here is what follows. The wait itself is in the
//! queue's memory.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use forebay_queue::{Action, Actor, Entry, Hold, QueueError, State};
use forebay_storage::{FileId, NewFile, Retract};
use tracing::{info, warn};

use super::{Accepted, Ingest, Refusal};

/// The reason of a hold whose sender was cut off from the reply: it may be half a file, and it will come again.
const REPLY_NOT_READ: &str = "its sender was gone before it could read the reply";

impl Ingest {
    /// How long a file waits for the sign that its sender has read the reply.
    #[must_use]
    pub fn confirm_after(&self) -> Duration {
        self.options.confirm_after
    }

    /// The sender of a file was seen to go on after the reply: it is claimable now.
    pub fn confirm(&self, accepted: &Accepted) {
        self.queue.confirm(accepted.id);
    }

    /// The sender of a file has not been seen to read the reply yet: it is not claimable for another while.
    ///
    /// Does not block and journals nothing: after a restart the time in the record counts.
    pub fn put_off(&self, accepted: &Accepted, wait: Duration) {
        self.queue.put_off(accepted.id, self.in_the_future(wait));
    }

    /// Takes back a file whose sender never read the reply: it becomes a partial, to be gone on with, and what had its
    /// name before has it again. Goes on when its future is dropped. When it cannot be journalled, the file is not
    /// claimable until a restart.
    ///
    /// # Errors
    /// When a processor has begun it, or queue or storage fail.
    pub async fn withdraw(self: &Arc<Self>, accepted: &Accepted, why: &str) -> Result<(), Refusal> {
        let (ingest, id, why) = (Arc::clone(self), accepted.id, why.to_owned());
        self.through(async move {
            let entry = match ingest.queue.withdraw(id, &why, ingest.clock.now()).await {
                // Should what goes on from it be taken back too, it must not be processed by itself.
                Err(error @ QueueError::WrongState { state: State::Superseded, .. }) => {
                    ingest.hold_unread(id).await;
                    return Err(error.into());
                }
                withdrawn => withdrawn?,
            };
            info!(file.id = %id, name = ?entry.name, partner = %entry.partner, why, "accepted file withdrawn");
            // The record is durable first: bytes that are a partial again must not be claimed after a crash.
            match entry.content {
                // They are few: the sender goes on where the file before ends, which is shown again.
                Some(_) if entry.continues.is_some() => {}
                Some(_) => ingest.inline_to_partial(&entry).await,
                None => ingest.storage.retract(id, Retract::ToPartial).await?,
            }
            Ok(())
        })
        .await
    }

    /// Keeps the bytes of a small file that was withdrawn as a partial, where that can be: only
    /// convenience depends on it.
    async fn inline_to_partial(&self, entry: &Entry) {
        let kept = match self.queue.content(&entry.extent()).await {
            Ok(Some(bytes)) => {
                let file = NewFile {
                    id: entry.id,
                    partner: entry.partner.clone(),
                    name: entry.name.clone(),
                    door: entry.door.clone(),
                    began_at: entry.received_at,
                    origin: None,
                    goes_on: None,
                };
                self.keep_as_partial(file, bytes).await
            }
            Ok(None) => Ok(()),
            Err(error) => Err(error.into()),
        };
        if let Err(error) = kept {
            warn!(file.id = %entry.id, %error, "a file that was withdrawn could not be kept as a partial");
        }
    }

    /// Keeps the bytes of a small file as a partial, if the partner may have one more.
    pub(super) async fn keep_as_partial(&self, file: NewFile, bytes: Bytes) -> Result<(), Refusal> {
        if bytes.is_empty() {
            return Ok(());
        }
        self.has_room_for_an_inode(&file.partner).await?;
        let mut upload = self.storage.begin(file).await?;
        upload.write(bytes).await?;
        upload.keep_partial().await?;
        Ok(())
    }

    /// The sender of an accepted file was gone, and may not have read the reply. It is held unless it is processed already.
    pub async fn doubt(&self, accepted: &Accepted) {
        let id = accepted.id;
        warn!(file.id = %id, name = %accepted.name(), "{REPLY_NOT_READ}");
        self.hold_unread(id).await;
    }

    async fn hold_unread(&self, id: FileId) {
        let (action, reason) = (Action::Hold(Hold::ReplyNotRead), Some(REPLY_NOT_READ.to_owned()));
        for done in self.queue.act(&[id], action, reason, Actor::Server, self.clock.now()).await {
            if let Err(error) = done {
                warn!(file.id = %id, %error, "cannot hold a file whose sender may have been cut off");
            }
        }
    }
}
