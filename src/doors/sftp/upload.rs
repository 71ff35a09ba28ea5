//! One file that is written through a handle: its writes in the order in which they came, and its end.
//!
//! CLOSE is the commit. The upload is owned by one task: CLOSE and the end of the connection meet there, and whichever
//! comes first has it. A write that was refused spoils the upload: a CLOSE behind it does not commit.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    sync::{Semaphore, mpsc},
    time::sleep,
};
use tracing::{info, warn};

use crate::ingest::{Intake, Proven, Refusal, Start};

use super::{
    answer::Answer,
    attributes,
    handles::{Asked, Op},
    packet::{Attributes, Code, open},
    partner_session::{Busy, PartnerSession},
    refused::{self, Status},
    reorder::Reorder,
    transfer_clock::{TOO_LONG, Transfer},
};

/// A name may be busy so long with the end of an upload that was cut just now.
const BUSY_ROUNDS: u32 = 40;
const BUSY_STEP: Duration = Duration::from_millis(50);

/// An open file on its way in.
pub(super) struct Upload {
    session: Arc<PartnerSession>,
    path: String,
    stage: Stage,
    sender: Sender,
    offsets: Offsets,
    size_set: SizeSet,
    /// The next byte that storage wants.
    next: u64,
    early: Reorder,
    /// Memory for bytes that come early, shared by the channel.
    room: Arc<Semaphore>,
    size: Arc<AtomicU64>,
    /// The time that the file is to show, in seconds since 1970.
    shows: Option<u32>,
    transfer: Transfer,
    received_bytes: u64,
    _busy: Busy,
}

/// The stage of an upload.
enum Stage {
    /// Nothing was written yet, and so many bytes are there to go on with.
    Untouched { have: u64 },
    /// Storage takes its bytes.
    Writing(Intake),
    /// A write was refused, or it took too long: this answers all that is asked from now on, CLOSE too.
    Spoiled(Status),
}

/// The sender, as far as it tells.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sender {
    Sends,
    /// It has set the size as one does that breaks off. Writing on takes it back.
    BrokeOff,
}

/// The byte that a client's offsets count from.
#[derive(Clone, Copy)]
enum Offsets {
    FromStart,
    /// The file was opened for appending: some clients count from its end. `shift` is added to their offsets.
    Appending {
        shift: u64,
    },
}

/// The occasion on which a client sets the size of a file to what was written.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SizeSet {
    /// At the end of every file, as clients do that write it in its place (scp) or give it no mode when they open it
    /// (lftp).
    AtEveryEnd,
    /// When it breaks off, as OpenSSH's client does before it closes: a sign that the file is not whole.
    WhenBrokenOff,
}

/// Opens a file for writing. What can be refused before the first byte is refused here.
pub(super) async fn begin(
    session: &Arc<PartnerSession>,
    path: String,
    flags: u32,
    opened_with: &Attributes,
    emptied: bool,
    room: Arc<Semaphore>,
) -> Result<Upload, Refusal> {
    let has = |flag| flags & flag != 0;
    let shown = match session.files.stat(&path).await {
        Ok(stat) => Some(stat.size_bytes),
        Err(Refusal::NotFound) => None,
        Err(refusal) => return Err(refusal),
    };
    if has(open::CREATE) && has(open::EXCLUSIVE) && shown.is_some() {
        return Err(Refusal::Exists);
    }
    let mut have = 0;
    if !has(open::TRUNCATE) && !emptied {
        let partial = session.ingest.resumable(&session.info, &path).await?;
        have = partial.or(shown).unwrap_or(0);
        if !has(open::CREATE) && partial.is_none() && shown.is_none() {
            return Err(Refusal::NotFound);
        }
    } else if !has(open::CREATE) && shown.is_none() {
        return Err(Refusal::NotFound);
    }
    let stage = match have {
        0 => Stage::Writing(session.ingest.begin(&session.info, &path, None).await?),
        have => Stage::Untouched { have },
    };
    let ends_with_size = (!has(open::TRUNCATE) && !has(open::APPEND)) || opened_with.mode.is_none();
    session.ticket.doing(format!("put {}", path.trim_start_matches('/')));
    Ok(Upload {
        session: session.clone(),
        path,
        stage,
        sender: Sender::Sends,
        offsets: if has(open::APPEND) { Offsets::Appending { shift: 0 } } else { Offsets::FromStart },
        size_set: if ends_with_size { SizeSet::AtEveryEnd } else { SizeSet::WhenBrokenOff },
        next: 0,
        early: Reorder::default(),
        room,
        size: Arc::new(AtomicU64::new(have)),
        shows: None,
        transfer: session.transfer_clock.begin(),
        received_bytes: 0,
        _busy: session.busy(),
    })
}

/// Goes on at this byte. A name that was cut just now may be busy for a moment.
async fn resume(session: &PartnerSession, path: &str, at: u64) -> Result<Intake, Refusal> {
    let mut rounds = BUSY_ROUNDS;
    loop {
        match session.ingest.resume(&session.info, path, Start::At(at), None).await {
            Err(Refusal::Busy) if rounds > 0 => {
                rounds -= 1;
                sleep(BUSY_STEP).await;
            }
            other => return other,
        }
    }
}

impl Upload {
    pub(super) fn path(&self) -> &str {
        &self.path
    }

    /// Its length at any time.
    pub(super) fn size(&self) -> Arc<AtomicU64> {
        self.size.clone()
    }

    /// Does what is asked of the handle until it is closed or the connection has gone.
    pub(super) async fn run(mut self, mut asked: mpsc::UnboundedReceiver<Asked>) {
        loop {
            let goes_on = !matches!(self.stage, Stage::Spoiled(_));
            let next = tokio::select! {
                next = asked.recv() => next,
                why = self.session.transfer_clock.overdue(&self.transfer, self.received_bytes), if goes_on => {
                    self.spoil(why).await;
                    continue;
                }
            };
            let Some(Asked { op, answer, held }) = next else { break };
            match op {
                Op::Write { offset, data } => {
                    let written = self.write(offset, data).await;
                    drop(held);
                    match written {
                        Ok(()) => answer.ok(),
                        Err((code, text)) => answer.status(code, &text),
                    }
                }
                Op::Close(turn) => {
                    self.session.ticket.doing("");
                    let (code, text) = self.close().await;
                    // Whoever waits for this name may go on before the client knows.
                    drop(turn);
                    answer.status(code, &text);
                    return;
                }
                Op::Fsync => self.sync(answer).await,
                Op::Fstat => answer.attributes(&attributes::of_unfinished(self.length(), self.session.clock.now())),
                Op::Fsetstat(attributes) => self.set(&attributes, answer).await,
                Op::Read { .. } => answer.status(Code::Failure, "a file cannot be read while it is being written"),
                Op::Readdir => answer.status(Code::Failure, "is not a directory"),
            }
        }
        self.session.ticket.doing("");
        if let Stage::Writing(intake) = self.stage {
            intake.cut("the connection ended before the file was closed").await;
        }
    }

    fn length(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    async fn write(&mut self, offset: u64, data: Bytes) -> Result<(), Status> {
        if let Stage::Spoiled(status) = &self.stage {
            return Err(status.clone());
        }
        if self.session.transfer_clock.is_too_long(&self.transfer, self.received_bytes) {
            return Err(self.spoil(TOO_LONG).await);
        }
        self.sender = Sender::Sends;
        self.received_bytes += data.len() as u64;
        let session = self.session.clone();
        let moving = session.transfer_clock.moving();
        let written = match self.go_on(offset).await {
            Ok(()) => self.place(offset, data).await,
            Err(refusal) => Err(Fault::Refused(refusal)),
        };
        drop(moving);
        match written {
            Ok(()) => Ok(()),
            Err(fault) => Err(self.refuse(fault).await),
        }
    }

    /// Spoils the upload by a write that was refused.
    async fn refuse(&mut self, fault: Fault) -> Status {
        let status = match &fault {
            Fault::Refused(refusal) => refused::status(refusal),
            Fault::Misplaced(text) => (Code::OpUnsupported, text.clone()),
        };
        info!(path = ?self.path, partner = %self.session.info.partner, why = status.1, "a write was refused");
        match (fault, std::mem::replace(&mut self.stage, Stage::Spoiled(status.clone()))) {
            (Fault::Refused(_), Stage::Writing(intake)) => intake.discard().await,
            // All in front of it came, and can be gone on with.
            (Fault::Misplaced(text), Stage::Writing(intake)) => drop(intake.cut(&text).await),
            _ => {}
        }
        status
    }

    /// Spoils the upload because it takes too long: what came can be gone on with, through another handle.
    async fn spoil(&mut self, why: &str) -> Status {
        let status = (Code::Failure, why.to_owned());
        if let Stage::Writing(intake) = std::mem::replace(&mut self.stage, Stage::Spoiled(status.clone())) {
            intake.cut(why).await;
        }
        status
    }

    /// Decides where the upload begins, when its first bytes come.
    async fn go_on(&mut self, offset: u64) -> Result<(), Refusal> {
        let have = match self.stage {
            Stage::Writing(_) => return Ok(()),
            Stage::Spoiled(_) => return Err(is_over()),
            Stage::Untouched { have } => have,
        };
        let at = match &mut self.offsets {
            Offsets::Appending { shift } if offset == 0 || offset == have => {
                *shift = have - offset;
                have
            }
            Offsets::FromStart if offset <= have => offset,
            _ => return Err(Refusal::CannotResume { at: offset, have }),
        };
        let intake = resume(&self.session, &self.path, at).await?;
        self.next = intake.size_bytes();
        self.stage = Stage::Writing(intake);
        Ok(())
    }

    async fn place(&mut self, offset: u64, data: Bytes) -> Result<(), Fault> {
        let offset = match self.offsets {
            Offsets::Appending { shift } => offset.saturating_add(shift),
            Offsets::FromStart => offset,
        };
        if data.is_empty() {
            return Ok(());
        }
        if offset == self.next {
            self.put(data).await?;
            while let Some(data) = self.early.take(self.next) {
                self.put(data).await?;
            }
        } else {
            let room = self.room.clone();
            let share = |bytes: usize| room.try_acquire_many_owned(u32::try_from(bytes).ok()?).ok();
            let kept = self.early.keep(self.next, offset, data, share);
            kept.map_err(|misplaced| Fault::Misplaced(misplaced.to_string()))?;
        }
        self.size.store(self.early.ends().unwrap_or(self.next), Ordering::Relaxed);
        Ok(())
    }

    async fn put(&mut self, data: Bytes) -> Result<(), Fault> {
        let Stage::Writing(intake) = &mut self.stage else { return Err(Fault::Refused(is_over())) };
        let bytes = data.len() as u64;
        if let Some(begins) = self.early.begins().filter(|begins| self.next + bytes > *begins) {
            return Err(Fault::Misplaced(format!("byte {begins} came already, and what came cannot be written again")));
        }
        intake.write(data).await.map_err(Fault::Refused)?;
        self.next += bytes;
        self.session.moved(bytes).await;
        Ok(())
    }

    /// Makes what came durable, as a partial that stays this upload's.
    async fn sync(&mut self, answer: Answer) {
        let has_gap = self.early.begins().is_some();
        match &mut self.stage {
            Stage::Spoiled((code, text)) => answer.status(*code, text),
            Stage::Writing(_) if has_gap => {
                answer.status(Code::Failure, "bytes in front of those that came are still missing");
            }
            Stage::Writing(intake) => {
                let _moving = self.session.transfer_clock.moving();
                match intake.sync().await {
                    Ok(()) => answer.ok(),
                    Err(refusal) => answer.refuse(&refusal),
                }
            }
            Stage::Untouched { .. } => answer.ok(),
        }
    }

    /// A time is shown when the file is; modes are the server's.
    async fn set(&mut self, attributes: &Attributes, answer: Answer) {
        let length = self.length();
        self.shows = attributes.times.map(|(_, changed)| changed).or(self.shows);
        match attributes.size {
            None => answer.ok(),
            Some(0) if matches!(self.stage, Stage::Untouched { .. }) => match self.anew().await {
                Ok(()) => answer.ok(),
                Err(refusal) => answer.refuse(&refusal),
            },
            Some(size) if size == length => {
                let breaks_off = self.size_set == SizeSet::WhenBrokenOff && attributes.times.is_none();
                self.sender = if breaks_off { Sender::BrokeOff } else { Sender::Sends };
                answer.ok();
            }
            Some(size) => {
                if size < length {
                    self.sender = Sender::BrokeOff;
                }
                answer.status(Code::OpUnsupported, "what was written cannot be cut or lengthened");
            }
        }
    }

    /// Begins anew: nothing of what is there is gone on with.
    async fn anew(&mut self) -> Result<(), Refusal> {
        self.stage = Stage::Writing(self.session.ingest.begin(&self.session.info, &self.path, None).await?);
        self.size.store(0, Ordering::Relaxed);
        Ok(())
    }

    async fn close(self) -> Status {
        let doubt = self.doubt();
        let intake = match self.stage {
            Stage::Spoiled(status) => return status,
            Stage::Untouched { .. } => None,
            Stage::Writing(intake) => Some(intake),
        };
        let (session, path) = (&self.session, &self.path);
        match (doubt, intake) {
            (Some(why), intake) => {
                if let Some(intake) = intake {
                    intake.cut(&why).await;
                }
                (Code::Failure, why)
            }
            (None, Some(intake)) => commit(session, path, intake, self.shows).await,
            (None, None) => untouched(session, path, self.shows).await,
        }
    }

    /// The reason why what came is not the whole file, if there is one.
    fn doubt(&self) -> Option<String> {
        match (self.early.begins(), self.sender) {
            (Some(begins), _) => {
                Some(format!("bytes {} to {begins} never came: what came before them can be resumed", self.next))
            }
            (None, Sender::BrokeOff) => Some("the sender broke off: what came can be resumed".to_owned()),
            (None, Sender::Sends) => None,
        }
    }
}

/// Has a whole file accepted.
async fn commit(session: &PartnerSession, path: &str, intake: Intake, shows: Option<u32>) -> Status {
    match intake.finish(Box::new(Proven)).await {
        Ok(accepted) => {
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
async fn untouched(session: &PartnerSession, path: &str, shows: Option<u32>) -> Status {
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
async fn show_time(session: &PartnerSession, path: &str, time: Option<u32>) {
    if let Some(time) = time
        && let Err(refusal) = session.set_time(path, time).await
    {
        warn!(?path, partner = %session.info.partner, %refusal, "cannot show a file's time");
    }
}

fn is_over() -> Refusal {
    Refusal::Cut("the upload is over".to_owned())
}

/// The reason why a write is refused.
enum Fault {
    Refused(Refusal),
    Misplaced(String),
}
