//! One file that is written through a handle: its writes in the order in which they came, and its
//! end.
//!
//! CLOSE (draft-ietf-secsh-filexfer-02, 6.3) is the commit. The upload is owned by one task: CLOSE
//! and the end of the connection meet there, and whichever comes first has it. A write that was
//! refused spoils the upload: a CLOSE after it does not commit.
//!
//! # Guarantees
//! - CLOSE is answered OK only when the file is accepted: bytes, record and entry are on stable
//!   storage.
//! - A file with a gap, or one whose sender broke off, is not accepted; what came before the gap is
//!   a partial.
//! - A connection that ends without CLOSE leaves a partial, and no file.
//! - CLOSE is the sender's own end mark, so nothing has to confirm the file after the reply.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use bytes::Bytes;
use tokio::sync::mpsc;
use tracing::{info, warn};

use crate::{
    doors::core::{TransferTime, words},
    ingest::{Intake, Proven, Refusal, Start},
};

use super::{
    answer::Answer,
    attributes,
    handles::{Asked, Op},
    packet::{Attributes, Code},
    refused::{self, Status},
    room::Room,
    sftp_session::{Busy, SftpSession},
    upload_opening::{Offsets, Opened, SizeSet},
    upload_state::{Closed, Progress, UploadState},
    writing::{Fault, Writing},
};

/// An open file on its way in.
pub(super) struct Upload {
    pub(super) session: Arc<SftpSession>,
    pub(super) path: String,
    pub(super) opened: Opened,
    pub(super) state: UploadState,
    /// Memory for bytes that come early.
    pub(super) room: Room,
    /// Its length at any time.
    pub(super) size: Arc<AtomicU64>,
    /// The time that the file is to show, in seconds since 1970.
    pub(super) shows: Option<u32>,
    pub(super) time: TransferTime,
    pub(super) received_bytes: u64,
    pub(super) _busy: Busy,
}

impl Upload {
    /// Does what is asked of the handle until it is closed or the connection has gone.
    pub(super) async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Asked>) {
        while let Some(Asked { op, answer, held }) = self.next(&mut asked).await {
            match op {
                Op::Close(turn) => {
                    self.session.ticket.doing("");
                    let (code, text) = self.close().await;
                    // Whoever waits for this name may go on before the client knows.
                    drop(turn);
                    return answer.status(code, &text);
                }
                Op::Write { offset, data } => {
                    let written = self.write(offset, data).await;
                    drop(held);
                    answer.done(written);
                }
                op => self.answer(op, answer).await,
            }
        }
        self.session.ticket.doing("");
        self.state.abandon().await;
    }

    /// Waits for the next request. Meanwhile the upload may stall or take too long: then it is
    /// spoiled, and later requests are answered with that.
    async fn next(&mut self, asked: &mut mpsc::UnboundedReceiver<Asked>) -> Option<Asked> {
        if !self.state.is_spoiled() {
            let overdue = tokio::select! {
                next = asked.recv() => return next,
                overdue = self.session.transfers.overdue(&self.time, self.received_bytes) => overdue,
            };
            self.state.overdue(words::upload_overdue(overdue)).await;
        }
        asked.recv().await
    }

    /// Answers a request that neither writes nor closes.
    async fn answer(&mut self, op: Op, answer: Answer) {
        match op {
            Op::Fsync => answer.done(self.sync().await),
            Op::Fstat => answer.attributes(&attributes::of_unfinished(self.length(), self.session.clock.now())),
            Op::Fsetstat(attributes) => answer.done(self.set(&attributes).await),
            Op::Read { .. } => answer.status(Code::Failure, "a file cannot be read while it is being written"),
            Op::Readdir => answer.status(Code::Failure, "is not a directory"),
            // They are not for here; dropped, the answer says that something failed.
            Op::Write { .. } | Op::Close(_) => {}
        }
    }

    fn length(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    /// Serves WRITE (6.4). The offset may be ahead of what came: see `reorder`.
    async fn write(&mut self, offset: u64, data: Bytes) -> Result<(), Status> {
        if let Err(status) = self.state.progress() {
            return Err(status.clone());
        }
        let session = self.session.clone();
        if session.transfers.is_too_long(&self.time, self.received_bytes) {
            return Err(self.state.overdue(words::TOO_LONG).await);
        }
        // Before the bytes are placed: a sender that writes on has not broken off.
        self.state.goes_on();
        self.received_bytes += data.len() as u64;
        let moving = session.transfers.moving();
        let written = self.place(offset, data).await;
        drop(moving);
        match written {
            Ok(length) => self.size.store(length, Ordering::Relaxed),
            Err(fault) => return Err(self.refuse(fault).await),
        }
        Ok(())
    }

    /// Writes bytes where they belong, and returns the length of the file.
    async fn place(&mut self, offset: u64, data: Bytes) -> Result<u64, Fault> {
        if let Ok(Progress::Untouched { have }) = self.state.progress() {
            let have = *have;
            self.state = self.go_on(offset, have).await.map_err(Fault::Refused)?;
        }
        let Ok(Progress::Writing(writing)) = self.state.progress() else {
            return Err(Fault::Refused(Refusal::Cut("the upload is over".to_owned())));
        };
        writing.write(offset, data, &self.session).await?;
        Ok(writing.length())
    }

    /// Decides where the upload begins, when its first bytes come.
    async fn go_on(&mut self, offset: u64, have: u64) -> Result<UploadState, Refusal> {
        let (at, shift) = match self.opened.offsets {
            Offsets::FromEitherEnd if offset == 0 || offset == have => (have, have - offset),
            Offsets::FromStart if offset <= have => (offset, 0),
            _ => return Err(Refusal::CannotResume { at: offset, have }),
        };
        let intake = self.session.resume(&self.path, Start::At(at), None).await?;
        Ok(UploadState::writing(Writing::new(intake, shift, self.room.clone())))
    }

    /// A write was refused: spoils the upload, and returns the status for this and all later
    /// requests.
    async fn refuse(&mut self, fault: Fault) -> Status {
        let status = self.state.refuse(fault).await;
        info!(path = ?self.path, partner = %self.session.info.partner, why = status.1, "a write was refused");
        status
    }

    /// Serves fsync@openssh.com: what came is durable as a partial, and the upload goes on.
    async fn sync(&mut self) -> Result<(), Status> {
        let _moving = self.session.transfers.moving();
        match self.state.progress() {
            Ok(Progress::Writing(writing)) => writing.sync().await,
            Ok(Progress::Untouched { .. }) => Ok(()),
            Err(status) => Err(status.clone()),
        }
    }

    /// A time is shown when the file is; modes are the server's.
    async fn set(&mut self, attributes: &Attributes) -> Result<(), Status> {
        let length = self.length();
        self.shows = attributes.times.map(|(_, changed)| changed).or(self.shows);
        match attributes.size {
            None => Ok(()),
            Some(0) if matches!(self.state.progress(), Ok(Progress::Untouched { .. })) => self.anew().await,
            Some(size) if size == length => {
                match self.opened.size_set {
                    SizeSet::WhenBrokenOff if attributes.times.is_none() => self.state.breaks_off(),
                    _ => self.state.goes_on(),
                }
                Ok(())
            }
            Some(size) => {
                if size < length {
                    self.state.breaks_off();
                }
                Err((Code::OpUnsupported, "what was written cannot be cut or lengthened".to_owned()))
            }
        }
    }

    /// Begins anew: nothing of what is there is gone on with.
    async fn anew(&mut self) -> Result<(), Status> {
        let begun = self.session.ingest.begin(&self.session.info, &self.path, None).await;
        let intake = begun.map_err(|refusal| refused::status(&refusal))?;
        self.state = UploadState::writing(Writing::new(intake, 0, self.room.clone()));
        self.size.store(0, Ordering::Relaxed);
        Ok(())
    }

    /// Serves CLOSE: commits a whole file, keeps what came of any other.
    async fn close(self) -> Status {
        let (session, path) = (&self.session, &self.path);
        match self.state.close() {
            Closed::Whole(writing) => commit(session, path, writing.into_intake(), self.shows).await,
            Closed::Untouched => untouched(session, path, self.shows).await,
            Closed::Cut(writing, why) => Closed::cut(writing, why).await,
            Closed::Spoiled(status) => status,
        }
    }
}

/// Has a whole file accepted.
async fn commit(session: &SftpSession, path: &str, intake: Intake, shows: Option<u32>) -> Status {
    match intake.finish(Box::new(Proven)).await {
        Ok(accepted) => {
            // After the acceptance: a time belongs to a name, and before there is none.
            show_time(session, path, shows).await;
            (Code::Ok, session.told_of(&accepted))
        }
        Err(refusal) => {
            info!(?path, partner = %session.info.partner, %refusal, "upload refused");
            refused::status(&refusal)
        }
    }
}

/// Ends an upload that was opened and not written. An accepted file stays as it is; a partial is no file.
async fn untouched(session: &SftpSession, path: &str, shows: Option<u32>) -> Status {
    match session.ingest.resumable(&session.info, path).await {
        Ok(None) => {
            show_time(session, path, shows).await;
            (Code::Ok, String::new())
        }
        Ok(Some(bytes)) => {
            (Code::Failure, format!("nothing was written: {bytes} bytes of an upload that was cut can be resumed"))
        }
        Err(refusal) => refused::status(&refusal),
    }
}

/// Has a file show this time. It is kept whatever becomes of that.
async fn show_time(session: &SftpSession, path: &str, time: Option<u32>) {
    if let Some(time) = time
        && let Err(refusal) = session.set_time(path, time).await
    {
        warn!(?path, partner = %session.info.partner, %refusal, "cannot show a file's time");
    }
}
