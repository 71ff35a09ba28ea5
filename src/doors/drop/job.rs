//! One visit to one file: find it, judge it, take it, remove it.
//!
//! A visit owns nothing that outlasts it: what it learns is in its [`Outcome`] and in what the
//! journal and `known` have. Blocking calls are on blocking threads.

use std::{path::Path, sync::Arc, sync::atomic::Ordering, time::Duration};

use tokio::sync::watch;
use tracing::{debug, info, warn};
use uuid::Uuid;

use super::{
    known::Known,
    options::Options,
    place::{self, Absent, Found},
    proof::{self, Age, Judgement, Seen},
    removal::{self, Removed},
    taking,
};
use crate::{
    clock::Clock,
    ingest::{FileId, Ingest, KnownOrigin, Origin, Peer, Refusal, SessionInfo},
};

/// The parts that every visit to a folder needs.
pub(super) struct FolderContext {
    pub(super) options: Arc<Options>,
    pub(super) ingest: Arc<Ingest>,
    pub(super) known: Arc<Known>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) stop: watch::Receiver<bool>,
}

/// One file, as it was left by the visit before.
#[derive(Clone)]
pub(super) struct Visit {
    pub(super) name: String,
    pub(super) seen: Arc<Seen>,
    /// Its identity when it was first seen so, and the time of that.
    pub(super) before: Option<(Origin, Duration)>,
    /// It was taken, and could not be removed.
    pub(super) taken: Option<FileId>,
}

/// The outcome of a visit.
#[derive(Debug)]
pub(super) enum Outcome {
    /// There is nothing of that name any more; it was taken now if so said.
    Gone { taken: bool },
    /// It is to be looked at again after this time.
    Again { origin: Option<Origin>, after: Duration, why: Option<String> },
    /// Something must happen first, and the folder will tell.
    Unproven { origin: Origin },
    /// It cannot be taken now.
    Failed(String),
    /// It was taken, now if so said, and cannot be removed.
    Remains { id: FileId, taken: bool, reason: String },
}

impl FolderContext {
    /// Visits one file.
    pub(super) async fn visit(self: Arc<Self>, visit: Visit) -> Outcome {
        if let Some(one) = visit.taken.and_then(|id| self.known.get(id)) {
            return self.remove(&one, false).await;
        }
        let (context, name) = (Arc::clone(&self), visit.name.clone());
        let found = tokio::task::spawn_blocking(move || context.find(&name)).await;
        let found = match found {
            Ok(Ok((found, None))) => found,
            Ok(Ok((_, Some(one)))) => {
                info!(file.id = %one.id, name = visit.name, folder = self.folder(), "was taken before a restart");
                return self.remove(&one, false).await;
            }
            Ok(Err(Absent::Gone)) => return Outcome::Gone { taken: false },
            Ok(Err(Absent::Refused(why))) => return Outcome::Failed(why),
            Err(error) => return Outcome::Failed(error.to_string()),
        };
        match self.judge(&visit, &found) {
            Judgement::Whole => self.take(visit, found).await,
            Judgement::Wait(after) => Outcome::Again { origin: Some(found.origin), after, why: None },
            Judgement::Busy(after) => {
                let why = Some("a program has it open for writing".to_owned());
                Outcome::Again { origin: Some(found.origin), after, why }
            }
            Judgement::Unproven => Outcome::Unproven { origin: found.origin },
            Judgement::Never(why) => Outcome::Failed(why.to_owned()),
        }
    }

    fn folder(&self) -> String {
        self.options.directory.display().to_string()
    }

    /// Opens the file, and asks whether it was taken before. Blocks.
    fn find(&self, name: &str) -> Result<(Found, Option<Arc<KnownOrigin>>), Absent> {
        let found = place::find(&self.options.directory, name)?;
        let known = self.known.recognize(name, &found.file, &found.origin);
        Ok((found, known))
    }

    /// Judges whether the file is whole, by what was seen of it.
    fn judge(&self, visit: &Visit, found: &Found) -> Judgement {
        let (seen, origin) = (&visit.seen, &found.origin);
        // What was said of another file of this name does not count.
        if seen.is_in_place() {
            let of = seen.inode.swap(origin.inode, Ordering::AcqRel);
            if of != 0 && of != origin.inode {
                seen.in_place.store(false, Ordering::Release);
            }
        }
        let mut watched = Duration::ZERO;
        if let Some((before, since)) = &visit.before {
            if before == origin {
                watched = self.clock.elapsed().saturating_sub(*since);
            } else if before.inode == origin.inode
                && (before.size_bytes, before.modified_ns) != (origin.size_bytes, origin.modified_ns)
            {
                seen.inode.store(origin.inode, Ordering::Release);
                seen.in_place.store(true, Ordering::Release);
            }
        }
        let now_ns = self.clock.now().timestamp_nanos_opt().unwrap_or(i64::MAX);
        proof::judge(&self.options, found, seen, &Age { watched, now_ns })
    }

    /// Has the file copied and accepted, and then removes it.
    async fn take(&self, visit: Visit, found: Found) -> Outcome {
        let session = SessionInfo {
            partner: self.options.partner.clone(),
            door: "drop",
            peer: Peer::Folder(Arc::from(self.options.directory.as_path())),
            id: Uuid::new_v4(),
        };
        let found = Arc::new(found);
        let Visit { name, seen, .. } = &visit;
        let taken = taking::take(&self.ingest, &session, name, &self.options, &found, seen, &self.stop).await;
        match taken {
            Ok(accepted) => {
                let one = KnownOrigin {
                    id: accepted.id,
                    name: accepted.name().to_owned(),
                    sha256: accepted.sha256,
                    origin: found.origin.clone(),
                };
                // Before the removal: if that fails, the next visit knows that it was taken.
                self.known.put(one.clone());
                self.remove(&one, true).await
            }
            Err(Refusal::Cut(why)) => {
                debug!(name, why, "is looked at again");
                Outcome::Again { origin: Some(found.origin.clone()), after: AGAIN, why: Some(why) }
            }
            Err(refusal) => Outcome::Failed(refusal.to_string()),
        }
    }

    /// Removes a file that was taken, or says why it stays.
    async fn remove(&self, one: &KnownOrigin, taken: bool) -> Outcome {
        let (options, id, origin, name) = (Arc::clone(&self.options), one.id, one.origin.clone(), one.name.clone());
        let done = tokio::task::spawn_blocking(move || removal::remove(&options, &name, id, &origin)).await;
        let reason = match done {
            Ok(Ok(removed)) => {
                let path = self.options.directory.join(&one.name);
                // After the removal: an original that is forgotten and still there would be taken
                // again.
                self.known.gone(id, path.parent().unwrap_or(Path::new("/")));
                return match removed {
                    Removed::Gone => Outcome::Gone { taken },
                    Removed::Changed => {
                        let (options, name) = (Arc::clone(&self.options), one.name.clone());
                        // There is nothing to give back but after a crash in the very moment of removal.
                        let give = move || removal::give_back(&options.directory, &name, id);
                        let _ = tokio::task::spawn_blocking(give).await;
                        warn!(file.id = %id, name = one.name, folder = self.folder(),
                            "it was written or replaced after it was taken; what is there now is another file");
                        Outcome::Again { origin: None, after: AGAIN, why: None }
                    }
                };
            }
            Ok(Err(error)) => error.to_string(),
            Err(error) => error.to_string(),
        };
        let doing = match self.options.move_to {
            Some(_) => "moved away",
            None => "deleted",
        };
        Outcome::Remains { id, taken, reason: format!("was taken as {id}, and cannot be {doing}: {reason}") }
    }
}

/// The time after which a file that changed is looked at again.
const AGAIN: Duration = Duration::from_millis(500);
