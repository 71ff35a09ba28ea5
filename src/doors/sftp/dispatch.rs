//! Requests on their way: each goes to its handle's task, or gets a task of its own in its turn.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    doors::paths::{changed, looked_at},
    ingest::{MAX_PATH_BYTES, Refusal},
};

use super::{
    answer::Answer,
    attributes,
    handles::{Asked, MOST_HANDLES, Op},
    names,
    packet::{Attributes, Code, MAX_DATA_BYTES, MAX_PACKET_BYTES, Named, What, open},
    partner_session::PartnerSession,
    refused::Status,
    service::Service,
    turns::Turn,
};

/// Shorter pieces are copied out of the packet that they came in, which may be so much longer that what waits would
/// hold on to far more memory than it is counted for. Most clients write longer ones.
const COPIED_BELOW_BYTES: usize = 32 << 10;
/// The longest path that is looked at: with steps up and down it may be longer than a name.
const LONGEST_PATH_BYTES: usize = 4 * MAX_PATH_BYTES;

impl Service {
    /// Has a request done. Waits only for what goes on without the connection: its loop waits for us.
    pub(super) async fn dispatch(&self, what: What, answer: Answer) {
        match what {
            What::Write { handle, offset, data } => {
                let held = self.writing.clone().acquire_many_owned(data.len() as u32).await.ok();
                let data = if data.len() < COPIED_BELOW_BYTES { Bytes::copy_from_slice(&data) } else { data };
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
                        false => service.open_to_read(&path, answer).await,
                    }
                })
                .await;
            }
            What::Stat { path } | What::Lstat { path } => {
                self.named(to_look(&path), answer, |service, path, answer| async move {
                    match service.stat(&path).await {
                        Ok(stat) => answer.attributes(&attributes::of(&stat)),
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
                    service.open_folder(&path, answer).await;
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
                    match service.session.files.stat(&path).await {
                        Ok(_) => service.space(answer),
                        Err(refusal) => answer.refuse(&refusal),
                    }
                })
                .await;
            }
            What::Remove { path } => {
                self.changing(&path, answer, |session, path| async move { names::remove(&session, &path).await }).await;
            }
            What::Mkdir { path } => {
                self.changing(&path, answer, |session, path| async move { names::make_folder(&session, &path).await })
                    .await;
            }
            What::Rmdir { path } => {
                self.changing(
                    &path,
                    answer,
                    |session, path| async move { names::remove_folder(&session, &path).await },
                )
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

    /// Changes something about a name in a task of its own, in its turn.
    async fn changing<W>(
        &self,
        path: &Bytes,
        answer: Answer,
        work: impl FnOnce(Arc<PartnerSession>, String) -> W + Send + 'static,
    ) where
        W: Future<Output = Result<(), Status>> + Send + 'static,
    {
        self.named(to_change(path), answer, |service, path, answer| async move {
            match work(service.session, path).await {
                Ok(()) => answer.ok(),
                Err((code, text)) => answer.status(code, &text),
            }
        })
        .await;
    }

    /// Does something in a task of its own, behind all earlier requests that touch one of these names.
    pub(super) async fn in_turn<W>(&self, names: Vec<String>, work: impl FnOnce(Self) -> W)
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
}

fn text(path: &Bytes) -> Result<&str, Refusal> {
    // Before anything is kept for it or said of it. What is no name at all is refused with its reason further on.
    if path.len() > LONGEST_PATH_BYTES {
        return Err(Refusal::BadName(format!("name is longer than {MAX_PATH_BYTES} bytes")));
    }
    std::str::from_utf8(path).map_err(|_| Refusal::BadName("name is not valid UTF-8".to_owned()))
}

/// The path of a request that only looks.
fn to_look(path: &Bytes) -> Result<String, Refusal> {
    Ok(looked_at("/", text(path)?))
}

/// The path of a request that changes something.
pub(super) fn to_change(path: &Bytes) -> Result<String, Refusal> {
    changed("/", text(path)?).ok_or_else(|| Refusal::BadName("name has \"..\"".to_owned()))
}
