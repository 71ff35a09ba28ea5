//! Uploads that were cut: what came becomes a partial, from which the sender can go on.

use bytes::Bytes;
use forebay_storage::{FileMeta, NewFile, Retract};
use tracing::{info, warn};

use super::{
    Accepted, Refusal,
    intake::{Incoming, Open},
    quota::Reservation,
};

impl Incoming {
    /// A small file was cut: what came is a partial, where that can be.
    pub(super) async fn cut_inline(
        &self,
        meta: &FileMeta,
        bytes: Bytes,
        reservation: Reservation,
        why: String,
    ) -> Result<Accepted, Refusal> {
        info!(file.id = %self.id, name = ?self.name, partner = %self.session.partner, size_bytes = meta.size_bytes,
            why, "upload was cut");
        // Of a copy the original is there.
        if self.origin.is_none() {
            match self.ingest.keep_as_partial(self.new_file(), bytes).await {
                Ok(()) => reservation.settle(meta.size_bytes),
                Err(error) => warn!(name = %self.name, %error, "cannot keep the partial of an upload that was cut"),
            }
        }
        Err(Refusal::Cut(why))
    }

    fn new_file(&self) -> NewFile {
        NewFile {
            id: self.id,
            partner: self.session.partner.as_str().to_owned(),
            name: self.name.as_str().to_owned(),
            door: self.session.door.to_owned(),
            began_at: self.ingest.clock.now(),
            origin: self.origin.clone(),
            goes_on: self.goes_on,
        }
    }

    pub(super) async fn take_back(
        &self,
        meta: &FileMeta,
        reservation: Reservation,
        why: String,
    ) -> Result<Accepted, Refusal> {
        info!(file.id = %self.id, name = ?self.name, partner = %self.session.partner, size_bytes = meta.size_bytes,
            why, "upload was cut");
        if self.origin.is_some() {
            self.ingest.storage.retract(self.id, Retract::Drop).await?;
            return Err(Refusal::Cut(why));
        }
        self.ingest.storage.retract(self.id, Retract::ToPartial).await?;
        reservation.settle(meta.size_bytes);
        Err(Refusal::Cut(why))
    }

    /// Keeps what came as a partial to resume, and gives its length. Of a copy the original is there.
    pub(super) async fn keep(&self, open: Open) -> u64 {
        let Open { upload, reservation, resumed, .. } = open;
        let mut is_dropped = upload.is_empty() || self.origin.is_some();
        // What it went on with is there already.
        if !is_dropped && resumed == 0 {
            is_dropped = self.ingest.has_room_for_an_inode(self.session.partner.as_str()).await.is_err();
        }
        let kept = match is_dropped {
            true => upload.abort().await.map(|()| 0),
            false => upload.keep_partial().await,
        };
        match kept {
            Ok(0) => 0,
            Ok(bytes) => {
                reservation.settle(bytes);
                self.before() + bytes
            }
            Err(error) => {
                warn!(name = %self.name, %error, "cannot keep the partial of an upload that was cut");
                0
            }
        }
    }
}
