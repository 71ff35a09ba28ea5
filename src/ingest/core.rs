//! [`Ingest`]: the services that every door's uploads go through, and work that must not stop
//! half-way.
//!
//! What runs [`Ingest::through`] it goes on when the door's task is dropped, and [`Ingest::idle`]
//! waits for it, counted from the moment at which it is made. This part may name queue, storage,
//! and the services beneath (answers, contents, partners, routes, clock); never `process`, and
//! never a door.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use forebay_queue::{Catalogue, Hold, QueueStore, State};
use forebay_storage::{Space, Storage};
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    answers::Answers,
    clock::Clock,
    contents::Contents,
    metrics::Metrics,
    partners::{Complete, PartnerName, Partners, Policy},
    routes::Routes,
};

use super::{
    Name, Options, Refusal,
    adopted::Adopted,
    catalogue::{HiddenNotices, KeptFiles, NameChanges},
    idempotency::ClaimedKeys,
    kept::Looked,
    quota::Quota,
    share,
};

/// The parts that ingest works with.
pub struct Dependencies {
    /// Where bytes go.
    pub storage: Arc<dyn Storage>,
    /// Where entries go.
    pub queue: Arc<dyn QueueStore>,
    /// The names that partners see.
    pub catalogue: Arc<dyn Catalogue>,
    /// What partners are told of their files.
    pub answers: Arc<Answers>,
    /// Which route serves a name.
    pub routes: Arc<Routes>,
    /// Policies.
    pub partners: Arc<Partners>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// What is counted of uploads.
    pub metrics: Arc<Metrics>,
}

/// The partner at a door, and how it came there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionInfo {
    /// The partner.
    pub partner: PartnerName,
    /// The door: `ftp`, `sftp`, `web` or `drop`.
    pub door: &'static str,
    /// Where it comes from.
    pub peer: Peer,
    /// The session.
    pub id: Uuid,
}

/// The origin of files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Peer {
    /// A client at this address.
    Address(SocketAddr),
    /// A folder on this machine: who wrote there is for its system to know.
    Folder(Arc<Path>),
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self::Address(address)
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::Folder(folder) => folder.display().fmt(f),
        }
    }
}

/// The one way in for files. Shared in an [`Arc`] by all doors and by the server's periodic work.
pub struct Ingest {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) contents: Contents,
    pub(super) catalogue: Arc<dyn Catalogue>,
    pub(super) answers: Arc<Answers>,
    pub(super) routes: Arc<Routes>,
    pub(super) partners: Arc<Partners>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) metrics: Arc<Metrics>,
    pub(super) options: Options,
    pub(super) quota: Arc<Quota>,
    pub(super) name_changes: NameChanges,
    pub(super) kept_files: KeptFiles,
    pub(super) adopted: Adopted,
    pub(super) looked: Looked,
    pub(super) claimed_keys: Arc<ClaimedKeys>,
    pub(super) under_way_bytes: Arc<share::UnderWay>,
    stops: AtomicBool,
    pub(super) hidden_notices: HiddenNotices,
    /// The time that folders show that nobody made.
    pub(super) started_at: DateTime<Utc>,
    under_way: Arc<watch::Sender<usize>>,
}

/// The state of a file when it gets its name.
/// It follows from the name, the partner's policy and the routes; the evidence may still hold the
/// file.
pub(super) struct Standing {
    pub(super) state: State,
    pub(super) route: Option<String>,
    pub(super) reason: Option<String>,
    pub(super) hold: Option<Hold>,
}

impl Standing {
    /// Holds it for this reason.
    pub(super) fn hold(&mut self, hold: Hold, reason: String) {
        (self.state, self.hold, self.reason) = (State::Held, Some(hold), Some(reason));
    }
}

/// The way in which a file got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    ByUpload,
    ByRename,
}

impl Ingest {
    /// Stands ready. Call [`Ingest::recover`] before a door opens.
    #[must_use]
    pub fn new(on: Dependencies, options: Options) -> Arc<Self> {
        Arc::new(Self {
            quota: Arc::new(Quota::new(on.storage.clone(), on.queue.clone())),
            contents: Contents::new(on.storage.clone(), on.queue.clone()),
            storage: on.storage,
            queue: on.queue,
            catalogue: on.catalogue,
            answers: on.answers,
            started_at: on.clock.now(),
            routes: on.routes,
            partners: on.partners,
            clock: on.clock,
            metrics: on.metrics,
            options,
            name_changes: NameChanges::default(),
            kept_files: KeptFiles::default(),
            adopted: Adopted::default(),
            looked: Looked::default(),
            claimed_keys: Arc::default(),
            under_way_bytes: Arc::default(),
            stops: AtomicBool::new(false),
            hidden_notices: HiddenNotices::default(),
            under_way: Arc::new(watch::Sender::new(0)),
        })
    }

    /// The server stops: what looks through many files and has changed nothing yet ends.
    /// What is being committed goes on: see [`Ingest::idle`].
    pub fn stop(&self) {
        self.stops.store(true, Ordering::Release);
    }

    /// For those who look through many files, a page at a time.
    ///
    /// # Errors
    /// When the server stops.
    pub(super) fn may_go_on(&self) -> Result<(), Refusal> {
        match self.stops.load(Ordering::Acquire) {
            true => Err(Refusal::Stopped("it is being stopped; try again later".to_owned())),
            false => Ok(()),
        }
    }

    /// Waits until no commit, rename or removal is under way. What was done then holds on to nothing of this any more.
    pub async fn idle(&self) {
        let mut under_way = self.under_way.subscribe();
        // The sender is ours, so this cannot fail while we exist.
        let _ = under_way.wait_for(|&count| count == 0).await;
    }

    /// Does work that must not stop half-way when the door's task is dropped. A task of its own
    /// does it; when the caller is dropped, its outcome is lost and its effect is not.
    pub(super) async fn through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let work = tokio::spawn(self.counted(work));
        work.await.unwrap_or_else(|error| Err(Refusal::Internal(error.to_string())))
    }

    /// The same work, which [`Ingest::idle`] waits for from now on, polled or not.
    pub(super) fn counted<T, F: Future<Output = T>>(&self, work: F) -> impl Future<Output = T> + use<T, F> {
        // Counted here and not in the future: `idle` must see work that was made and not polled
        // yet.
        let under_way = UnderWay::begin(self.under_way.clone());
        async move {
            // Pinned in an inner scope: all that the work holds is gone before it counts as over.
            let done = { work.await };
            drop(under_way);
            done
        }
    }

    /// What is counted of uploads, and what doors count of theirs.
    #[must_use]
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Since when the partner of this name has it. What came under it before was sent by another one.
    pub(super) fn since(&self, partner: &str) -> DateTime<Utc> {
        let name = partner.parse::<PartnerName>().ok();
        name.and_then(|name| self.partners.former_until(&name)).unwrap_or(DateTime::<Utc>::MIN_UTC)
    }

    /// The room that the disk has left, for all partners together.
    ///
    /// # Errors
    /// When storage cannot tell.
    pub fn space(&self) -> Result<Space, Refusal> {
        Ok(self.storage.space()?)
    }

    /// Returns the state that follows from a name: unfinished under a temporary name, ready on the
    /// route that serves it, or held when no route does.
    pub(super) fn standing(&self, policy: &Policy, partner: &str, name: &Name, named: Named) -> Standing {
        let waits_for_rename = policy.complete == Complete::Rename && named == Named::ByUpload;
        let mut standing = Standing { state: State::Unfinished, route: None, reason: None, hold: None };
        if waits_for_rename || policy.is_temporary(name.as_str()) {
            return standing;
        }
        match self.routes.serve(partner, name.as_str()) {
            Some(route) => (standing.state, standing.route) = (State::Ready, Some(route.name().to_owned())),
            None => standing.hold(Hold::NoRoute, "no route serves this file".to_owned()),
        }
        standing
    }

    /// Checks that a file can get this name: the folder above it is there, and it is no folder itself.
    pub(super) async fn has_folder_for(&self, partner: &str, name: &Name) -> Result<(), Refusal> {
        if let Some((folder, _)) = name.as_str().rsplit_once('/') {
            let above = self.catalogue.stat(partner, folder).await?;
            above.filter(forebay_queue::Node::is_folder).ok_or(Refusal::NotFound)?;
        }
        match self.catalogue.stat(partner, name.as_str()).await? {
            Some(node) if node.is_folder() => Err(Refusal::BadName("a directory has that name".to_owned())),
            _ => Ok(()),
        }
    }

    /// Returns the time that lies this far ahead; now, if that would be no time any more.
    pub(super) fn in_the_future(&self, wait: Duration) -> DateTime<Utc> {
        let now = self.clock.now();
        TimeDelta::from_std(wait).ok().and_then(|wait| now.checked_add_signed(wait)).unwrap_or(now)
    }
}

impl fmt::Debug for Ingest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Ingest").field("options", &self.options).finish_non_exhaustive()
    }
}

struct UnderWay(Arc<watch::Sender<usize>>);

impl UnderWay {
    fn begin(under_way: Arc<watch::Sender<usize>>) -> Self {
        under_way.send_modify(|count| *count += 1);
        Self(under_way)
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}
