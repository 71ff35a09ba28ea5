//! The SFTP service on one channel: requests come in, and are done at the same time where the protocol allows.
//!
//! What is asked of a handle goes to the handle's own task, in order. What is asked of names is done each by a task,
//! in turn where names touch. Memory is bounded three times: bytes that are being written hold back the reading of
//! more, bytes that were read from files wait for room, and a client that leaves too many answers unread is dropped.

use std::sync::Arc;

use bytes::Bytes;
use parking_lot::Mutex;
use russh::{Channel, ChannelMsg, ChannelReadHalf, server::Msg};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use crate::{
    doors::paths::{changed, looked_at},
    ingest::{MAX_PATH_BYTES, Refusal},
};

use super::{
    answer::{Answer, Answers},
    guest::Guest,
    handles::{Asked, Handles, MOST_HANDLES, Op},
    packet::{
        Assembler, Attributes, Broken, Code, MAX_DATA_BYTES, MAX_PACKET_BYTES, Named, Reply, Request, What, open,
    },
    reading::{Download, Listing},
    turns::{Turn, Turns},
    upload, view,
};

/// Bytes that were taken from the client and not yet given to storage.
const WRITING_BYTES: usize = 8 << 20;
/// Less is copied out of the packet that it came in, which may be so much longer that what waits would hold on to far more
/// memory than it is counted for. What clients write is mostly this long.
const COPIED_BELOW: usize = 32 << 10;
/// Bytes that came early, of all files of the channel.
const EARLY_BYTES: usize = 8 << 20;
/// Bytes that were read from files and are not yet sent.
const READING_BYTES: usize = 4 << 20;
/// Requests for names that are done at once.
const NAMES_AT_ONCE: usize = 64;

/// The longest path that is looked at: with steps up and down it may be longer than a name.
const LONGEST_PATH_BYTES: usize = 4 * MAX_PATH_BYTES;

/// How a channel ends.
enum End {
    Closed,
    Broken(Broken),
    Flooded,
    /// The client takes no answers.
    Unread,
}

/// What all requests of a channel share.
#[derive(Clone)]
struct Service {
    guest: Arc<Guest>,
    answers: Answers,
    handles: Handles,
    turns: Arc<Mutex<Turns>>,
    writing: Arc<Semaphore>,
    early: Arc<Semaphore>,
    reading: Arc<Semaphore>,
    names: Arc<Semaphore>,
}

/// Serves the channel until the client ends it or the connection has gone. Files that are open then are cut, and what
/// was asked before is done.
pub(super) async fn serve(guest: Arc<Guest>, channel: Channel<Msg>) {
    let (mut from, to) = channel.split();
    let (answers, way) = Answers::new(guest.clone());
    let service = Service {
        guest,
        answers,
        handles: Handles::default(),
        turns: Arc::default(),
        writing: Arc::new(Semaphore::new(WRITING_BYTES)),
        early: Arc::new(Semaphore::new(EARLY_BYTES)),
        reading: Arc::new(Semaphore::new(READING_BYTES)),
        names: Arc::new(Semaphore::new(NAMES_AT_ONCE)),
    };
    let (partner, gone) = (service.guest.session.partner.clone(), service.guest.gone.clone());
    let (stalled, unread) = (service.guest.motion.patience().stalled, CancellationToken::new());
    let (end, ()) = tokio::join!(service.run(&mut from, &unread), way.run(&to, &gone, stalled, &unread));
    let status = match end {
        End::Closed => 0,
        End::Broken(broken) => {
            warn!(%partner, %broken, "an SFTP channel is ended");
            1
        }
        End::Flooded => {
            warn!(%partner, "an SFTP channel is ended: too many answers wait to be taken, and more is asked for");
            1
        }
        End::Unread => {
            warn!(%partner, "an SFTP channel is ended: its answers were not taken for too long");
            1
        }
    };
    // The client may have gone; then these fail, and nobody misses them.
    let _ = to.exit_status(status).await;
    let _ = to.eof().await;
    let _ = to.close().await;
}

impl Service {
    async fn run(self, from: &mut ChannelReadHalf, unread: &CancellationToken) -> End {
        let end = tokio::select! {
            end = self.read(from) => end,
            () = unread.cancelled() => End::Unread,
        };
        self.handles.end();
        if let End::Flooded = end {
            // What waits for a client that takes nothing is not waited for.
            unread.cancel();
        }
        if let End::Broken(Broken::Short { id: Some(id), .. }) = &end
            && let Some(answer) = self.answers.to(*id)
        {
            answer.status(Code::BadMessage, "the packet ends too early");
        }
        end
    }

    async fn read(&self, from: &mut ChannelReadHalf) -> End {
        let mut assembler = Assembler::default();
        let mut greeted = false;
        loop {
            match from.wait().await {
                Some(ChannelMsg::Data { data }) => assembler.push(data),
                Some(ChannelMsg::Eof | ChannelMsg::Close) | None => break,
                Some(_) => continue,
            }
            self.guest.ticket.touch();
            loop {
                let request = match assembler.next_packet().and_then(|packet| packet.map(Request::parse).transpose()) {
                    Ok(Some(request)) => request,
                    Ok(None) => break,
                    Err(broken) => return End::Broken(broken),
                };
                match request {
                    Request::Init { .. } if !greeted => {
                        greeted = true;
                        self.answers.send(Reply::version());
                    }
                    Request::Asked { id, what } if greeted => {
                        let Some(answer) = self.answers.to(id) else { return End::Flooded };
                        self.heed(what, answer).await;
                    }
                    _ => return End::Broken(Broken::Version),
                }
            }
        }
        if assembler.held_bytes() > 0 {
            debug!(bytes = assembler.held_bytes(), "an SFTP channel ended within a packet");
        }
        End::Closed
    }

    /// Has a request done. Waits only for what goes on without the connection: its loop waits for us.
    async fn heed(&self, what: What, answer: Answer) {
        match what {
            What::Write { handle, offset, data } => {
                let held = self.writing.clone().acquire_many_owned(data.len() as u32).await.ok();
                let data = if data.len() < COPIED_BELOW { Bytes::copy_from_slice(&data) } else { data };
                self.handles.ask(handle, Asked { op: Op::Write { offset, data }, answer, held });
            }
            What::Read { handle, offset, length } => self.ask(handle, Op::Read { offset, length }, answer),
            What::Readdir { handle } => self.ask(handle, Op::Readdir, answer),
            What::Fstat { handle } => self.ask(handle, Op::Fstat, answer),
            What::Fsetstat { handle, attributes } => self.ask(handle, Op::Fsetstat(attributes), answer),
            What::Fsync { handle } => self.ask(handle, Op::Fsync, answer),
            What::Close { handle } => {
                self.handles.close(handle, answer, |path| self.turns.lock().take(vec![path.to_owned()]));
            }
            What::Realpath { path } => match text(&path) {
                Ok(path) => {
                    let name = looked_at("/", path);
                    let attributes = Attributes::default();
                    answer.names(&[Named { line: name.clone(), name, attributes }], None);
                }
                Err(refusal) => answer.refuse(&refusal),
            },
            What::Limits => answer.numbers(&[
                MAX_PACKET_BYTES as u64,
                u64::from(MAX_DATA_BYTES),
                u64::from(MAX_DATA_BYTES),
                MOST_HANDLES as u64,
            ]),
            What::Fstatvfs { .. } => self.space(answer),
            What::Symlink => answer.status(Code::OpUnsupported, "links are not served"),
            What::Hardlink => answer.status(Code::OpUnsupported, "links are not served"),
            What::Unknown => answer.status(Code::OpUnsupported, "this request is not served"),
            What::Open { path, flags, attributes } => {
                let writes = flags & open::WRITE != 0;
                let named = if writes { to_change(&path) } else { to_look(&path) };
                self.named(named, answer, move |service, path, answer| async move {
                    match writes {
                        true => service.open_to_write(path, flags, &attributes, answer).await,
                        false => service.open_to_read(&path, answer),
                    }
                })
                .await;
            }
            What::Stat { path } | What::Lstat { path } => {
                self.named(to_look(&path), answer, |service, path, answer| async move {
                    match service.stat(&path).await {
                        Ok(there) => answer.attributes(&there),
                        Err(refusal) => answer.refuse(&refusal),
                    }
                })
                .await;
            }
            What::Setstat { path, attributes } => {
                self.named(to_change(&path), answer, move |service, path, answer| async move {
                    service.set(path, &attributes, answer).await;
                })
                .await;
            }
            What::Opendir { path } => {
                self.named(to_look(&path), answer, |service, path, answer| async move {
                    service.open_directory(&path, answer);
                })
                .await;
            }
            What::Readlink { path } => {
                self.named(to_look(&path), answer, |service, path, answer| async move {
                    match service.stat(&path).await {
                        Ok(_) => answer.status(Code::Failure, "is no link"),
                        Err(refusal) => answer.refuse(&refusal),
                    }
                })
                .await;
            }
            What::Statvfs { path } => {
                self.named(to_look(&path), answer, |service, path, answer| async move {
                    match service.guest.view.stat(&path) {
                        Ok(_) => service.space(answer),
                        Err(refusal) => answer.refuse(&refusal),
                    }
                })
                .await;
            }
            What::Remove { path } => {
                self.changing(
                    &path,
                    answer,
                    |guest, path| async move { guest.ingest.delete(&guest.session, &path).await },
                )
                .await;
            }
            What::Mkdir { path } => {
                self.changing(&path, answer, |guest, path| async move {
                    guest.ingest.make_dir(&guest.session, &path).await
                })
                .await;
            }
            What::Rmdir { path } => {
                self.changing(&path, answer, |guest, path| async move {
                    guest.ingest.remove_dir(&guest.session, &path).await
                })
                .await;
            }
            What::Rename { from, to } => self.rename(&from, &to, answer).await,
        }
    }

    fn ask(&self, handle: u32, op: Op, answer: Answer) {
        self.handles.ask(handle, Asked { op, answer, held: None });
    }

    /// Does something with a name in a task of its own, in its turn.
    async fn named<W>(
        &self,
        path: Result<String, Refusal>,
        answer: Answer,
        work: impl FnOnce(Self, String, Answer) -> W + Send + 'static,
    ) where
        W: Future<Output = ()> + Send + 'static,
    {
        match path {
            Ok(path) => self.in_turn(vec![path.clone()], |service| work(service, path, answer)).await,
            Err(refusal) => answer.refuse(&refusal),
        }
    }

    /// Changes something in the partner's view.
    async fn changing<W>(
        &self,
        path: &Bytes,
        answer: Answer,
        work: impl FnOnce(Arc<Guest>, String) -> W + Send + 'static,
    ) where
        W: Future<Output = Result<(), Refusal>> + Send + 'static,
    {
        self.named(to_change(path), answer, |service, path, answer| async move {
            match work(service.guest, path).await {
                Ok(()) => answer.ok(),
                Err(refusal) => answer.refuse(&refusal),
            }
        })
        .await;
    }

    async fn in_turn<W>(&self, names: Vec<String>, work: impl FnOnce(Self) -> W)
    where
        W: Future<Output = ()> + Send + 'static,
    {
        // Those before go on by themselves, so that one of them is over some time.
        let Ok(place) = self.names.clone().acquire_owned().await else { return };
        let mut turn: Turn = self.turns.lock().take(names);
        let work = work(self.clone());
        tokio::spawn(async move {
            turn.come().await;
            work.await;
            drop((turn, place));
        });
    }

    async fn rename(&self, from: &Bytes, to: &Bytes, answer: Answer) {
        let (from, to) = match (to_change(from), to_change(to)) {
            (Ok(from), Ok(to)) => (from, to),
            (Err(refusal), _) | (_, Err(refusal)) => return answer.refuse(&refusal),
        };
        self.in_turn(vec![from.clone(), to.clone()], |service| async move {
            let guest = &service.guest;
            match guest.ingest.rename(&guest.session, &from, &to).await {
                Ok(_) => answer.ok(),
                Err(refusal) => answer.refuse(&refusal),
            }
        })
        .await;
    }

    async fn open_to_write(&self, path: String, flags: u32, attributes: &Attributes, answer: Answer) {
        let emptied = self.handles.is_emptied(&path);
        let upload = match upload::begin(&self.guest, path, flags, attributes, emptied, self.early.clone()).await {
            Ok(upload) => upload,
            Err(refusal) => return answer.refuse(&refusal),
        };
        match self.handles.add(Some((upload.path().to_owned(), upload.size()))) {
            Ok((handle, asked)) => {
                tokio::spawn(upload.run(asked));
                answer.handle(handle);
            }
            Err(why) => answer.status(Code::Failure, why),
        }
    }

    fn open_to_read(&self, path: &str, answer: Answer) {
        let (file, there) = match self.guest.view.file(path) {
            Ok((file, there)) => (file, self.guest.timed(path, there)),
            Err(refusal) => return answer.refuse(&refusal),
        };
        match self.handles.add(None) {
            Ok((handle, asked)) => {
                self.guest.ticket.doing(format!("get {}", path.trim_start_matches('/')));
                let (guest, room) = (self.guest.clone(), self.reading.clone());
                let (span, file) = (guest.motion.begin(), Arc::new(file));
                let download = Download { _busy: guest.busy(), guest, file, there, span, sent: 0, room };
                tokio::spawn(download.run(asked));
                answer.handle(handle);
            }
            Err(why) => answer.status(Code::Failure, why),
        }
    }

    fn open_directory(&self, path: &str, answer: Answer) {
        let view = &self.guest.view;
        let (there, entries) = match view.stat(path).and_then(|there| Ok((there, view.directory(path)?))) {
            Ok(opened) => opened,
            Err(refusal) => return answer.refuse(&refusal),
        };
        match self.handles.add(None) {
            Ok((handle, asked)) => {
                let (guest, room) = (self.guest.clone(), self.reading.clone());
                tokio::spawn(Listing { guest, path: path.to_owned(), entries, there, room }.run(asked));
                answer.handle(handle);
            }
            Err(why) => answer.status(Code::Failure, why),
        }
    }

    /// A file that is being written has the length that came; one that was cut, what can be gone on with.
    async fn stat(&self, path: &str) -> Result<Attributes, Refusal> {
        let guest = &self.guest;
        if let Some(size) = self.handles.size_of(path) {
            return Ok(view::under_way(size, guest.clock.now()));
        }
        let shown = guest.view.stat(path).map(|there| guest.timed(path, there));
        if self.handles.is_emptied(path) {
            return Ok(Attributes { size: Some(0), ..shown? });
        }
        match &shown {
            Ok(there) if there.mode != Some(view::FILE) => return shown,
            Ok(_) | Err(Refusal::NotFound) => {}
            Err(_) => return shown,
        }
        match guest.ingest.resumable(&guest.session, path).await? {
            Some(bytes) => Ok(view::under_way(bytes, guest.clock.now())),
            None => shown,
        }
    }

    /// Times are kept beside what is shown, modes are taken and not kept: the accepted bytes never change. A file that is
    /// truncated to nothing, as some clients do before they write it anew, is one that is written anew.
    async fn set(&self, path: String, attributes: &Attributes, answer: Answer) {
        let there = match self.stat(&path).await {
            Ok(there) => there,
            Err(refusal) => return answer.refuse(&refusal),
        };
        match attributes.size {
            Some(size) if Some(size) != there.size && (size > 0 || !self.handles.empty(path.clone())) => {
                answer.status(Code::OpUnsupported, "what was accepted does not change");
            }
            _ => match attributes.times.filter(|_| there.mode == Some(view::FILE)) {
                Some((_, changed)) => match self.guest.set_time(&path, changed).await {
                    // What is still written, or was cut, shows no time of its own.
                    Ok(()) | Err(Refusal::NotFound) => answer.ok(),
                    Err(refusal) => answer.refuse(&refusal),
                },
                None => answer.ok(),
            },
        }
    }

    fn space(&self, answer: Answer) {
        match self.guest.view.space() {
            Ok(space) => answer.numbers(&[
                space.f_bsize,
                space.f_frsize,
                space.f_blocks,
                space.f_bfree,
                space.f_bavail,
                space.f_files,
                space.f_ffree,
                space.f_favail,
                // Nobody needs to know which file system it is.
                0,
                0,
                space.f_namemax,
            ]),
            Err(error) => {
                warn!(%error, "cannot tell how much room there is");
                answer.status(Code::Failure, "internal error, try again later");
            }
        }
    }
}

fn text(path: &Bytes) -> Result<&str, Refusal> {
    // Before anything is kept for it or said of it. What is no name at all is refused with its reason further on.
    if path.len() > LONGEST_PATH_BYTES {
        return Err(Refusal::BadName(format!("name is longer than {MAX_PATH_BYTES} bytes")));
    }
    std::str::from_utf8(path).map_err(|_| Refusal::BadName("name is not valid UTF-8".to_owned()))
}

fn to_look(path: &Bytes) -> Result<String, Refusal> {
    Ok(looked_at("/", text(path)?))
}

fn to_change(path: &Bytes) -> Result<String, Refusal> {
    changed("/", text(path)?).ok_or_else(|| Refusal::BadName("name has \"..\"".to_owned()))
}
