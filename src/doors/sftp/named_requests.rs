//! Requests for names: each gets a task of its own, in its turn behind those before it that touch the same name.
//!
//! Sections in brackets are those of draft-ietf-secsh-filexfer-02.

use std::sync::Arc;

use bytes::Bytes;

use crate::{
    doors::core::paths::{changed, looked_at},
    ingest::{MAX_PATH_BYTES, Refusal},
};

use super::{
    answer::Answer,
    attributes, names,
    packet::{Attributes, Code, Named, open},
    refused::Status,
    service::Service,
    sftp_session::SftpSession,
    turns::Turn,
};

/// The longest path that is looked at: with steps up and down it may be longer than a name.
const LONGEST_PATH_BYTES: usize = 4 * MAX_PATH_BYTES;

impl Service {
    /// OPEN (draft-ietf-secsh-filexfer-02, 6.3). What is opened for writing is a change of its name.
    pub(super) async fn open(&self, path: &Bytes, flags: u32, attributes: Attributes, answer: Answer) {
        // Some clients that append say no more than that (PHP).
        let to_write = flags & open::WRITE != 0 || flags & (open::APPEND | open::READ) == open::APPEND;
        match to_write {
            true => {
                self.named(to_change(path), answer, move |service, path, answer| async move {
                    service.open_to_write(path, flags, &attributes, answer).await;
                })
                .await;
            }
            false => {
                self.named(to_look(path), answer, |service, path, answer| async move {
                    service.open_to_read(&path, answer).await;
                })
                .await;
            }
        }
    }

    /// OPENDIR (6.7).
    pub(super) async fn open_directory(&self, path: &Bytes, answer: Answer) {
        self.named(to_look(path), answer, |service, path, answer| async move {
            service.open_folder(&path, answer).await;
        })
        .await;
    }

    /// STAT and LSTAT (6.8): there are no links to tell apart.
    pub(super) async fn tell_attributes(&self, path: &Bytes, answer: Answer) {
        self.named(to_look(path), answer, |service, path, answer| async move {
            match service.stat(&path).await {
                Ok(stat) => answer.attributes(&attributes::of(&stat)),
                Err(refusal) => answer.refuse(&refusal),
            }
        })
        .await;
    }

    /// SETSTAT (6.9).
    pub(super) async fn set_attributes(&self, path: &Bytes, attributes: Attributes, answer: Answer) {
        self.named(to_change(path), answer, move |service, path, answer| async move {
            service.set(path, &attributes, answer).await;
        })
        .await;
    }

    /// There are no links.
    pub(super) async fn read_link(&self, path: &Bytes, answer: Answer) {
        self.named(to_look(path), answer, |service, path, answer| async move {
            match service.stat(&path).await {
                Ok(_) => answer.status(Code::Failure, "is no link"),
                Err(refusal) => answer.refuse(&refusal),
            }
        })
        .await;
    }

    /// statvfs@openssh.com of a name that must be there.
    pub(super) async fn space_at(&self, path: &Bytes, answer: Answer) {
        self.named(to_look(path), answer, |service, path, answer| async move {
            match service.session.files.stat(&path).await {
                Ok(_) => service.space(answer),
                Err(refusal) => answer.refuse(&refusal),
            }
        })
        .await;
    }

    /// REALPATH (6.11): the name need not be there.
    pub(super) fn real_path(&self, path: &Bytes, answer: Answer) {
        match to_look(path) {
            Ok(name) => answer.names(&[Named { line: name.clone(), name, attributes: Attributes::default() }], None),
            Err(refusal) => answer.refuse(&refusal),
        }
    }

    /// REMOVE (6.5).
    pub(super) async fn remove(&self, path: &Bytes, answer: Answer) {
        self.changing(path, answer, |session, path| async move { names::remove(&session, &path).await }).await;
    }

    /// MKDIR (6.6).
    pub(super) async fn make_folder(&self, path: &Bytes, answer: Answer) {
        self.changing(path, answer, |session, path| async move { names::make_folder(&session, &path).await }).await;
    }

    /// RMDIR (6.6).
    pub(super) async fn remove_folder(&self, path: &Bytes, answer: Answer) {
        self.changing(path, answer, |session, path| async move { names::remove_folder(&session, &path).await }).await;
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
        work: impl FnOnce(Arc<SftpSession>, String) -> W + Send + 'static,
    ) where
        W: Future<Output = Result<(), Status>> + Send + 'static,
    {
        self.named(to_change(path), answer, |service, path, answer| async move {
            answer.done(work(service.session, path).await);
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
        // Here, in the loop that reads requests, and not in the task: turns are taken in the order
        // of the requests.
        let mut turn: Turn = self.turns.lock().take(names);
        let work = work(self.clone());
        tokio::spawn(async move {
            turn.come().await;
            work.await;
            drop((turn, place));
        });
    }
}

/// Reads a path as text. Paths are UTF-8 here; version 3 does not say.
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
