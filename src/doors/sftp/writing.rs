//! Bytes of an upload on their way to storage, in order whatever order they came in.

use bytes::Bytes;

use crate::ingest::{Intake, Refusal};

use super::{
    packet::Code,
    refused::{self, Status},
    reorder::Reorder,
    room::{Held, Room},
    sftp_session::SftpSession,
};

/// An upload that storage takes bytes of.
pub(super) struct Writing {
    intake: Intake,
    /// The next byte that storage wants.
    next: u64,
    /// Added to the client's offsets, where those count from the end of what was there.
    shift: u64,
    early: Reorder<Held>,
    /// Memory for bytes that come early.
    room: Room,
}

/// The reason why a write is refused.
pub(super) enum Fault {
    Refused(Refusal),
    /// Bytes came again, or too early.
    Misplaced(String),
}

impl Fault {
    /// The status that tells the client.
    pub(super) fn status(&self) -> Status {
        match self {
            Self::Refused(refusal) => refused::status(refusal),
            Self::Misplaced(text) => (Code::OpUnsupported, text.clone()),
        }
    }
}

impl Writing {
    /// Takes bytes behind those that the intake has. The client's offsets lie `shift` before those of the file.
    pub(super) fn new(intake: Intake, shift: u64, room: Room) -> Self {
        Self { next: intake.size_bytes(), intake, shift, early: Reorder::default(), room }
    }

    /// The length of the file with what came so far.
    pub(super) fn length(&self) -> u64 {
        self.early.ends().unwrap_or(self.next)
    }

    /// Writes bytes, or keeps them until those before them come.
    ///
    /// # Errors
    /// [`Fault::Misplaced`] for bytes that came already or lie too far ahead: nothing of what came
    /// is changed by them.
    pub(super) async fn write(&mut self, offset: u64, data: Bytes, session: &SftpSession) -> Result<(), Fault> {
        let offset = offset.saturating_add(self.shift);
        if data.is_empty() {
            return Ok(());
        }
        if offset != self.next {
            let room = self.room.clone();
            let share = |bytes: usize| room.try_take_for_long(bytes);
            let kept = self.early.keep(self.next, offset, data, share);
            return kept.map_err(|misplaced| Fault::Misplaced(misplaced.to_string()));
        }
        self.put(data, session).await?;
        while let Some(data) = self.early.take(self.next) {
            self.put(data, session).await?;
        }
        Ok(())
    }

    /// Writes bytes that are next.
    async fn put(&mut self, data: Bytes, session: &SftpSession) -> Result<(), Fault> {
        let bytes = data.len() as u64;
        if let Some(begins) = self.early.begins().filter(|begins| self.next + bytes > *begins) {
            return Err(Fault::Misplaced(format!("byte {begins} came already, and what came cannot be written again")));
        }
        self.intake.write(data).await.map_err(Fault::Refused)?;
        self.next += bytes;
        session.moved(bytes).await;
        Ok(())
    }

    /// Makes what came durable, as a partial that stays this upload's.
    pub(super) async fn sync(&mut self) -> Result<(), Status> {
        if self.early.begins().is_some() {
            return Err((Code::Failure, "bytes in front of those that came are still missing".to_owned()));
        }
        self.intake.sync().await.map_err(|refusal| refused::status(&refusal))
    }

    /// The reason why what came is no whole file: bytes in it are missing.
    pub(super) fn gap(&self) -> Option<String> {
        let begins = self.early.begins()?;
        Some(format!("bytes {} to {begins} never came: what came before them can be resumed", self.next))
    }

    /// Stops writing, and returns what storage has of the upload.
    pub(super) fn into_intake(self) -> Intake {
        self.intake
    }
}
