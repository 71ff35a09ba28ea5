//! The opened data directory, which both a running server and an operator without one work on.

use std::{io::ErrorKind, os::unix::fs::MetadataExt as _, path::Path, sync::Arc, time::Duration};

use forebay_queue::{Catalogue, EmbeddedMaintenance, QueueStore, Recovered, Watch, embedded::EmbeddedQueue};
use forebay_storage::{Observer, SpoolMaintenance, Storage, Synced, disk::ObservedDisk, local::LocalStorage};

use super::lock::{DataLock, private_dir};
use crate::{
    clock::Clock,
    config::{Config, exposed},
    contents::Contents,
    gate::Gate,
    metrics::{Metrics, SyncedFile, Volume},
    operate::{Dependencies, Operator, Problem, system_users},
    partners::{Partners, Policies},
    routes::Routes,
};

/// The time that a start waits for a short-lived command that has the lock.
const PATIENCE: Duration = Duration::from_secs(5);

/// The opened data directory, locked while this lives.
pub(super) struct OpenDataDir {
    pub(super) storage: Arc<dyn Storage>,
    pub(super) spool: Arc<dyn SpoolMaintenance>,
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) catalogue: Arc<dyn Catalogue>,
    pub(super) maintenance: Arc<dyn EmbeddedMaintenance>,
    pub(super) routes: Arc<Routes>,
    pub(super) recovered: Recovered,
    pub(super) metrics: Arc<Metrics>,
    /// Last: fields are dropped in this order, and the lock must outlive what works on the data.
    lock: DataLock,
}

/// The operator of a server that does not run. The data directory is locked while this lives.
#[derive(Debug)]
pub struct Offline {
    /// The operator.
    pub operator: Operator,
    /// Last, as above: the lock outlives the operator's stores.
    _lock: DataLock,
}

impl OpenDataDir {
    /// Locks and opens. Blocks while the index catches up with the journal, unless `watch` stops that.
    pub(super) fn open(config: &Config, verb: &str, watch: &Watch) -> Result<Self, Problem> {
        let data = &config.data;
        private_dir(data).map_err(|error| cannot("create", data, &error))?;
        check_owner(data)?;
        if let Some(what) = exposed(data) {
            return Err(Problem::failed(what));
        }
        // Before anything below is opened or made: a second process must not touch what the first
        // one has open.
        let lock = DataLock::take(data, verb, PATIENCE).map_err(|error| Problem::failed(error.to_string()))?;
        for name in ["gate", "partners", "scratch", "tls"] {
            let dir = data.join(name);
            match private_dir(&dir) {
                // Whoever needs it says so, or makes it when there is room again: a server that does not start for it serves
                // nobody, operators included.
                Err(error) if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) => {
                    tracing::warn!(path = %dir.display(), %error, "a directory cannot be made yet");
                }
                made => made.map_err(|error| cannot("create", &dir, &error))?,
            }
        }
        let metrics = Arc::new(Metrics::default());
        let disk = |volume| Arc::new(ObservedDisk::new(Arc::new(CountedSyncs::new(&metrics, volume))));
        let storage = LocalStorage::open(disk(Volume::Files), data, config.storage())
            .map_err(|error| Problem::failed(format!("cannot open the spool in {}: {error}", data.display())))?;
        // A process that has given up its lock may still be closing the queue: this waits for it.
        let (journal, index) = (data.join("journal"), data.join("queue"));
        let (queue, recovered) =
            EmbeddedQueue::open_watched(disk(Volume::Journal), &journal, &index, config.queue(), watch)
                .map_err(|error| Problem::failed(format!("cannot open the queue in {}: {error}", data.display())))?;
        let routes = Routes::from_options(config.routes.clone()).map_err(|faults| {
            let faults: Vec<_> = faults.iter().map(ToString::to_string).collect();
            Problem::usage(faults.join("\n"))
        })?;
        let (storage, queue) = (Arc::new(storage), Arc::new(queue));
        Ok(Self {
            storage: storage.clone(),
            spool: storage,
            catalogue: queue.clone(),
            maintenance: queue.clone(),
            queue,
            routes: Arc::new(routes),
            recovered,
            metrics,
            lock,
        })
    }

    /// The bytes of accepted files, whoever holds them.
    pub(super) fn contents(&self) -> Contents {
        Contents::new(Arc::clone(&self.storage), Arc::clone(&self.queue))
    }

    pub(super) fn gate(&self, config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<Gate>, Problem> {
        let dir = config.data.join("gate");
        Ok(Gate::open(&dir, config.schedule.clone(), Arc::clone(clock), self.recovered.newest_at)?)
    }

    pub(super) fn partners(&self, config: &Config, clock: &Arc<dyn Clock>) -> Result<Arc<Partners>, Problem> {
        let policies = Policies::new(config.policy.clone(), &config.partners);
        let dir = config.data.join("partners");
        Ok(Partners::open(&dir, config.limits.clone(), policies, Arc::clone(clock))?)
    }

    pub(super) fn into_lock(self) -> DataLock {
        self.lock
    }
}

/// Counts the syncs of a part of the data.
#[derive(Debug)]
struct CountedSyncs {
    metrics: Arc<Metrics>,
    volume: Volume,
}

impl CountedSyncs {
    fn new(metrics: &Arc<Metrics>, volume: Volume) -> Self {
        Self { metrics: Arc::clone(metrics), volume }
    }
}

impl Observer for CountedSyncs {
    fn synced(&self, what: Synced, took: Duration) {
        let what = match what {
            Synced::Data => SyncedFile::Data,
            Synced::File => SyncedFile::File,
            Synced::Directory => SyncedFile::Directory,
        };
        self.metrics.synced(self.volume, what, took);
    }
}

/// Opens the data of a server that does not run, for what can be done without one.
///
/// # Errors
/// When it runs after all, or the data cannot be opened.
pub async fn open_offline(config: &Config, clock: Arc<dyn Clock>, watch: &Watch) -> Result<Offline, Problem> {
    let (task, watch) = (config.clone(), watch.clone());
    let data_dir = blocking(move || OpenDataDir::open(&task, "on data", &watch)).await?;
    let (gate, partners) = (data_dir.gate(config, &clock)?, data_dir.partners(config, &clock)?);
    let operator = Operator::new(Dependencies {
        data: config.data.clone(),
        storage: Arc::clone(&data_dir.storage),
        spool: Arc::clone(&data_dir.spool),
        contents: data_dir.contents(),
        queue: Arc::clone(&data_dir.queue),
        catalogue: Arc::clone(&data_dir.catalogue),
        maintenance: Arc::clone(&data_dir.maintenance),
        gate,
        partners,
        routes: Arc::clone(&data_dir.routes),
        clock,
        live: None,
    });
    Ok(Offline { operator, _lock: data_dir.into_lock() })
}

pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Problem> + Send + 'static,
) -> Result<T, Problem> {
    let done = tokio::task::spawn_blocking(work).await;
    done.map_err(|error| Problem::failed(format!("a background task did not end well: {error}")))?
}

/// Refuses a data directory of another user: files made in it would keep its owner's server from opening it.
fn check_owner(data: &Path) -> Result<(), Problem> {
    let owner = std::fs::metadata(data).map_err(|error| cannot("look at", data, &error))?.uid();
    if owner == rustix::process::geteuid().as_raw() {
        return Ok(());
    }
    let user = system_users::name_of(owner);
    Err(Problem::failed(format!(
        "{} belongs to {user}: run this as that user, for example with `sudo -u {user} forebay …`",
        data.display()
    )))
}

fn cannot(doing: &str, path: &Path, error: &std::io::Error) -> Problem {
    Problem::failed(format!("cannot {doing} {}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Place;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_queue_that_is_being_closed_is_waited_for() {
        let data = tempfile::tempdir().unwrap();
        let file = data.path().join("forebay.toml");
        std::fs::write(&file, "data = \"data\"\n[ftp]\n").unwrap();
        let config = Config::load(&Place { config: Some(file), ..Place::default() }).unwrap();
        let OpenDataDir { queue, lock, .. } = OpenDataDir::open(&config, "status", &Watch::default()).unwrap();
        drop(lock);
        let again = config.clone();
        let next = tokio::task::spawn_blocking(move || OpenDataDir::open(&again, "serve", &Watch::default()).map(drop));
        // It has the lock, and the queue is still open.
        while !std::fs::read_to_string(config.data.join("lock")).unwrap().contains("serve") {
            tokio::task::yield_now().await;
        }
        drop(queue);
        next.await.unwrap().unwrap();
    }
}
