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
    guest::{Busy, Guest},
    handles::{Asked, Op},
    motion::{Span, TOO_LONG},
    packet::{Attributes, Code, open},
    refused,
    reorder::Reorder,
    view,
};

/// How long a name may be busy with the end of an upload that was cut just now.
const BUSY_ROUNDS: u32 = 40;
const BUSY_STEP: Duration = Duration::from_millis(50);

/// A file under way.
pub(super) struct Upload {
    guest: Arc<Guest>,
    path: String,
    stage: Stage,
    append: bool,
    /// The next byte that storage wants.
    next: u64,
    /// What is added to a client's offsets: some count from where they append.
    shift: u64,
    early: Reorder,
    /// Memory for bytes that come early, shared by the channel.
    room: Arc<Semaphore>,
    size: Arc<AtomicU64>,
    spoiled: Option<(Code, String)>,
    /// The time that the file is to show, in seconds since 1970.
    shows: Option<u32>,
    span: Span,
    /// Bytes that came since.
    came: u64,
    /// OpenSSH's client sets the size to what was written, and nothing else, when it breaks off, and then closes: a sign
    /// that the file is not whole. Writing on takes it back.
    broken_off: bool,
    /// Others set the size at the end of every file: those that write it in its place, as scp does, and those that give
    /// it no mode when they open it, as lftp does.
    sizes_always: bool,
    _busy: Busy,
}

enum Stage {
    /// Nothing was written yet, and so many bytes are there to go on with.
    There(u64),
    Begun(Intake),
    Over,
}

/// Opens a file for writing. What can be refused before the first byte is refused here.
pub(super) async fn begin(
    guest: &Arc<Guest>,
    path: String,
    flags: u32,
    attributes: &Attributes,
    emptied: bool,
    room: Arc<Semaphore>,
) -> Result<Upload, Refusal> {
    let has = |flag| flags & flag != 0;
    let shown = match guest.view.stat(&path) {
        Ok(there) => there.size,
        Err(Refusal::NotFound) => None,
        Err(refusal) => return Err(refusal),
    };
    if has(open::CREATE) && has(open::EXCLUSIVE) && shown.is_some() {
        return Err(Refusal::Exists);
    }
    let mut have = 0;
    if !has(open::TRUNCATE) && !emptied {
        let partial = guest.ingest.resumable(&guest.session, &path).await?;
        have = partial.or(shown).unwrap_or(0);
        if !has(open::CREATE) && partial.is_none() && shown.is_none() {
            return Err(Refusal::NotFound);
        }
    } else if !has(open::CREATE) && shown.is_none() {
        return Err(Refusal::NotFound);
    }
    let stage = match have {
        0 => Stage::Begun(guest.ingest.begin(&guest.session, &path, None).await?),
        have => Stage::There(have),
    };
    guest.ticket.doing(format!("put {}", path.trim_start_matches('/')));
    Ok(Upload {
        guest: guest.clone(),
        path,
        stage,
        append: has(open::APPEND),
        next: 0,
        shift: 0,
        early: Reorder::default(),
        room,
        size: Arc::new(AtomicU64::new(have)),
        spoiled: None,
        shows: None,
        span: guest.motion.begin(),
        came: 0,
        broken_off: false,
        sizes_always: (!has(open::TRUNCATE) && !has(open::APPEND)) || attributes.mode.is_none(),
        _busy: guest.busy(),
    })
}

/// Goes on at this byte. A name that was cut just now may be busy for a moment.
async fn resume(guest: &Guest, path: &str, at: u64) -> Result<Intake, Refusal> {
    let mut rounds = BUSY_ROUNDS;
    loop {
        match guest.ingest.resume(&guest.session, path, Start::At(at), None).await {
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
            let overdue = self.spoiled.is_none() && !matches!(self.stage, Stage::Over);
            let next = tokio::select! {
                next = asked.recv() => next,
                why = self.guest.motion.overdue(&self.span, self.came), if overdue => {
                    self.end(why).await;
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
                    self.guest.ticket.doing("");
                    let (code, text) = self.close().await;
                    // Whoever waits for this name may go on before the client knows.
                    drop(turn);
                    answer.status(code, &text);
                    return;
                }
                Op::Fsync => self.sync(answer).await,
                Op::Fstat => answer.attributes(&view::under_way(self.length(), self.guest.clock.now())),
                Op::Fsetstat(attributes) => self.set(&attributes, answer).await,
                Op::Read { .. } => answer.status(Code::Failure, "a file cannot be read while it is being written"),
                Op::Readdir => answer.status(Code::Failure, "is not a directory"),
            }
        }
        self.guest.ticket.doing("");
        self.cut("the connection ended before the file was closed").await;
    }

    fn length(&self) -> u64 {
        self.size.load(Ordering::Relaxed)
    }

    async fn write(&mut self, offset: u64, data: Bytes) -> Result<(), (Code, String)> {
        if let Some(spoiled) = &self.spoiled {
            return Err(spoiled.clone());
        }
        if self.guest.motion.is_over(&self.span, self.came) {
            self.end(TOO_LONG).await;
            return Err((Code::Failure, TOO_LONG.to_owned()));
        }
        self.broken_off = false;
        self.came += data.len() as u64;
        let guest = self.guest.clone();
        let moving = guest.motion.moving();
        let written = match self.go_on(offset).await {
            Ok(()) => self.place(offset, data).await,
            Err(refusal) => Err(Fault::Refused(refusal)),
        };
        drop(moving);
        let Err(fault) = written else { return Ok(()) };
        let (code, text) = match &fault {
            Fault::Refused(refusal) => refused::status(refusal),
            Fault::Misplaced(text) => (Code::OpUnsupported, text.clone()),
        };
        info!(path = ?self.path, partner = %self.guest.session.partner, why = text, "a write was refused");
        self.spoiled = Some((code, text.clone()));
        match (fault, std::mem::replace(&mut self.stage, Stage::Over)) {
            (Fault::Refused(_), Stage::Begun(intake)) => intake.discard().await,
            // All in front of it came, and can be gone on with.
            (Fault::Misplaced(_), Stage::Begun(intake)) => drop(intake.cut(&text).await),
            _ => {}
        }
        Err((code, text))
    }

    /// Decides where the upload begins, when its first bytes come.
    async fn go_on(&mut self, offset: u64) -> Result<(), Refusal> {
        let at = match self.stage {
            Stage::Begun(_) => return Ok(()),
            Stage::Over => return Err(Refusal::Cut("the upload is over".to_owned())),
            Stage::There(have) if self.append && (offset == 0 || offset == have) => {
                self.shift = have - offset;
                have
            }
            Stage::There(have) if self.append || offset > have => {
                return Err(Refusal::CannotResume { at: offset, have });
            }
            Stage::There(_) => offset,
        };
        let intake = resume(&self.guest, &self.path, at).await?;
        self.next = intake.size_bytes();
        self.stage = Stage::Begun(intake);
        Ok(())
    }

    async fn place(&mut self, offset: u64, data: Bytes) -> Result<(), Fault> {
        let offset = offset.saturating_add(self.shift);
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
        let Stage::Begun(intake) = &mut self.stage else {
            return Err(Fault::Refused(Refusal::Cut("the upload is over".to_owned())));
        };
        let bytes = data.len() as u64;
        if let Some(begins) = self.early.begins().filter(|begins| self.next + bytes > *begins) {
            return Err(Fault::Misplaced(format!("byte {begins} came already, and what came cannot be written again")));
        }
        intake.write(data).await.map_err(Fault::Refused)?;
        self.next += bytes;
        self.guest.moved(bytes).await;
        Ok(())
    }

    /// Makes what came durable, as a partial that stays this upload's.
    async fn sync(&mut self, answer: Answer) {
        if let Some((code, text)) = &self.spoiled {
            return answer.status(*code, text);
        }
        if self.early.begins().is_some() {
            return answer.status(Code::Failure, "bytes in front of those that came are missing still");
        }
        let _moving = self.guest.motion.moving();
        match &mut self.stage {
            Stage::Begun(intake) => match intake.sync().await {
                Ok(()) => answer.ok(),
                Err(refusal) => answer.refuse(&refusal),
            },
            Stage::There(_) | Stage::Over => answer.ok(),
        }
    }

    /// A time is shown when the file is; modes are the server's.
    async fn set(&mut self, attributes: &Attributes, answer: Answer) {
        let length = self.length();
        self.shows = attributes.times.map(|(_, changed)| changed).or(self.shows);
        match attributes.size {
            None => answer.ok(),
            Some(0) if matches!(self.stage, Stage::There(_)) => match self.anew().await {
                Ok(()) => answer.ok(),
                Err(refusal) => answer.refuse(&refusal),
            },
            Some(size) if size == length => {
                self.broken_off = !self.sizes_always && attributes.times.is_none();
                answer.ok();
            }
            Some(size) => {
                self.broken_off |= size < length;
                answer.status(Code::OpUnsupported, "what was written cannot be cut or lengthened");
            }
        }
    }

    /// Nothing of what is there is gone on with.
    async fn anew(&mut self) -> Result<(), Refusal> {
        self.stage = Stage::Begun(self.guest.ingest.begin(&self.guest.session, &self.path, None).await?);
        self.size.store(0, Ordering::Relaxed);
        Ok(())
    }

    async fn close(mut self) -> (Code, String) {
        if let Some(spoiled) = self.spoiled.take() {
            return spoiled;
        }
        if let Some(begins) = self.early.begins() {
            let why = format!("bytes {} to {begins} never came: what came before them can be resumed", self.next);
            self.cut(&why).await;
            return (Code::Failure, why);
        }
        if self.broken_off {
            let why = "the sender broke off: what came can be resumed".to_owned();
            self.cut(&why).await;
            return (Code::Failure, why);
        }
        let intake = match std::mem::replace(&mut self.stage, Stage::Over) {
            Stage::Begun(intake) => intake,
            _ => {
                let untouched = untouched(&self.guest, &self.path).await;
                if untouched.0 == Code::Ok {
                    show_time(&self.guest, &self.path, self.shows).await;
                }
                return untouched;
            }
        };
        match intake.finish(Box::new(Proven)).await {
            Ok(accepted) => {
                show_time(&self.guest, &self.path, self.shows).await;
                (Code::Ok, self.guest.told_of(&accepted))
            }
            Err(refusal) => {
                let (code, text) = refused::status(&refusal);
                info!(path = ?self.path, partner = %self.guest.session.partner, %refusal, "upload refused");
                (code, text)
            }
        }
    }

    /// It takes too long: what came can be gone on with, through another handle.
    async fn end(&mut self, why: &str) {
        self.spoiled = Some((Code::Failure, why.to_owned()));
        self.cut(why).await;
    }

    async fn cut(&mut self, why: &str) {
        if let Stage::Begun(intake) = std::mem::replace(&mut self.stage, Stage::Over) {
            intake.cut(why).await;
        }
    }
}

/// The file is kept whatever becomes of its time.
async fn show_time(guest: &Guest, path: &str, time: Option<u32>) {
    if let Some(time) = time
        && let Err(refusal) = guest.set_time(path, time).await
    {
        warn!(?path, partner = %guest.session.partner, %refusal, "cannot show a file's time");
    }
}

/// It was opened and nothing was written. An accepted file stays as it is; a partial is no file.
async fn untouched(guest: &Guest, path: &str) -> (Code, String) {
    match guest.ingest.resumable(&guest.session, path).await {
        Ok(None) => (Code::Ok, String::new()),
        Ok(Some(bytes)) => {
            (Code::Failure, format!("nothing was written: {bytes} bytes of an upload that was cut can be resumed"))
        }
        Err(refusal) => refused::status(&refusal),
    }
}

enum Fault {
    Refused(Refusal),
    Misplaced(String),
}
