//! The object that all doors share.

use std::{
    fmt,
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use forebay_queue::{QueueStore, State};
use forebay_storage::Storage;
use tokio::sync::watch;
use uuid::Uuid;

use crate::{
    clock::Clock,
    partners::{Complete, PartnerName, Partners, Policy},
    routes::Routes,
};

use super::{Name, Options, Refusal, quota::Quota, unfinished::Unfinished, view::View};

/// What ingest stands on.
pub struct Foundation {
    /// Where bytes go.
    pub storage: Arc<dyn Storage>,
    /// Where entries go.
    pub queue: Arc<dyn QueueStore>,
    /// Which route serves a name.
    pub routes: Arc<Routes>,
    /// Policies.
    pub partners: Arc<Partners>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The directory with one login directory for each partner. It exists.
    pub home: PathBuf,
}

/// Who is at the door.
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

/// Where files come from.
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

/// The one way in.
pub struct Ingest {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) routes: Arc<Routes>,
    pub(super) partners: Arc<Partners>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    pub(super) view: View,
    pub(super) quota: Arc<Quota>,
    pub(super) unfinished: Unfinished,
    under_way: Arc<watch::Sender<usize>>,
}

/// Where a file stands when it gets its name.
pub(super) struct Standing {
    pub(super) state: State,
    pub(super) route: Option<String>,
    pub(super) reason: Option<String>,
}

/// How a file got its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Named {
    ByUpload,
    ByRename,
}

impl Ingest {
    /// Stands ready. Call [`Ingest::recover`] before a door opens.
    #[must_use]
    pub fn new(on: Foundation, options: Options) -> Arc<Self> {
        Arc::new(Self {
            view: View::new(on.home, on.storage.clone()),
            quota: Arc::new(Quota::new(on.storage.clone(), on.queue.clone())),
            storage: on.storage,
            queue: on.queue,
            routes: on.routes,
            partners: on.partners,
            clock: on.clock,
            options,
            unfinished: Unfinished::default(),
            under_way: Arc::new(watch::Sender::new(0)),
        })
    }

    /// The partner's login directory. It and `out/` are created (mode 0700) when they are missing.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn home(&self, partner: &PartnerName) -> Result<PathBuf, Refusal> {
        Ok(self.view.home(partner.as_str())?)
    }

    /// Waits until no commit, rename or removal is under way. What was done then holds on to nothing of this any more.
    pub async fn idle(&self) {
        let mut under_way = self.under_way.subscribe();
        // The sender is ours, so this cannot fail while we exist.
        let _ = under_way.wait_for(|&count| count == 0).await;
    }

    /// Does work that must not stop half-way when the door's task is dropped.
    pub(super) async fn through<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, Refusal>> + Send + 'static,
    ) -> Result<T, Refusal> {
        let work = tokio::spawn(self.counted(work));
        work.await.unwrap_or_else(|error| Err(Refusal::Internal(error.to_string())))
    }

    /// The same work, which [`Ingest::idle`] waits for from now on, polled or not.
    pub(super) fn counted<T, F: Future<Output = T>>(&self, work: F) -> impl Future<Output = T> + use<T, F> {
        let under_way = UnderWay::begin(self.under_way.clone());
        async move {
            // Pinned in an inner scope: all that the work holds is gone before it counts as over.
            let done = { work.await };
            drop(under_way);
            done
        }
    }

    /// The state that follows from a name.
    pub(super) fn standing(&self, policy: &Policy, partner: &str, name: &Name, named: Named) -> Standing {
        let waits_for_rename = policy.complete == Complete::Rename && named == Named::ByUpload;
        if waits_for_rename || policy.is_temporary(name.as_str()) {
            return Standing { state: State::Unfinished, route: None, reason: None };
        }
        match self.routes.serve(partner, name.as_str()) {
            Some(route) => Standing { state: State::Ready, route: Some(route.name().to_owned()), reason: None },
            None => Standing { state: State::Held, route: None, reason: Some("no route serves this file".to_owned()) },
        }
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
