//! The server: its dependencies, put together in the order in which they may trust each other, and taken down again.
//!
//! Locked, storage, queue, children of a former run stopped, gate, partners, what ingest finds put in order; only then
//! doors open and files are processed. Taken down the other way round: doors first, so that nothing new comes in.

mod bound_doors;
mod lock;
mod open_data_dir;
mod pulse;
mod runs;
mod scraped;
mod services;
mod serving;

use std::{net::SocketAddr, sync::Arc, time::Duration};

use forebay_queue::Watch;
use forebay_storage::Storage;
use tokio::task::JoinHandle;
use tracing::{info, warn};

use self::{bound_doors::BoundDoors, runs::Runs, services::Services};
pub use self::{
    lock::{DataLock, Holder, LockError, private_dir},
    open_data_dir::{Offline, open_offline},
    serving::serving,
};
use crate::{
    clock::Clock,
    config::Config,
    gate::Gate,
    ingest::Ingest,
    operate::{AdminSocket, Dependencies, DoorView, Live, Operator, Problem},
    partners::{Partners, Policies},
};

/// The partner that is there when a server starts for the first time with no configuration.
pub const DEMO_PARTNER: &str = "demo";

/// A server that is ready.
pub struct Running {
    /// Where the FTP door listens, if there is one.
    pub ftp: Option<SocketAddr>,
    /// Where the SFTP door listens, if there is one.
    pub sftp: Option<SocketAddr>,
    /// Where the web faces listen, if there are any.
    pub web: Option<SocketAddr>,
    /// The doors, as operators see them.
    pub doors: Vec<DoorView>,
    /// The password of the partner that was made at the first start with no configuration.
    pub demo_password: Option<String>,
    gate: Arc<Gate>,
    partners: Arc<Partners>,
    ingest: Arc<Ingest>,
    runs: Runs,
    storage: Arc<dyn Storage>,
    watch: Watch,
    /// Last: fields are dropped in this order, and the lock must outlive what works on the data.
    _lock: DataLock,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("ftp", &self.ftp).field("web", &self.web).finish_non_exhaustive()
    }
}

impl Running {
    /// Starts a server and returns it when it is ready. `watch` is told how far the index of the queue has caught up, and
    /// stops a start that nobody wants any more. Not cancel safe, but no worse than a crash: what it does on other threads
    /// goes on.
    ///
    /// # Errors
    /// When the server cannot start; the problem says what to do about it.
    pub async fn start(config: Config, clock: Arc<dyn Clock>, watch: &Watch) -> Result<Self, Problem> {
        if rustix::process::geteuid().is_root() {
            warn!("running as root: file modes do not protect the spool; run forebay as a user of its own");
        }
        let services = Services::open(&config, clock, watch).await?;
        // Before the doors: who sees one of them open can reach the server as an operator too. Requests wait until it
        // runs.
        let socket = AdminSocket::bind(&config.data)
            .map_err(|error| Problem::failed(format!("cannot make {}/admin.sock: {error}", config.data.display())))?;
        // Listeners are bound before anything runs: an address in use ends the start with nothing begun.
        let doors = BoundDoors::bind(&config, &services).await?;
        let (ftp, sftp, web) = (doors.ftp_addr(), doors.sftp_addr(), doors.web_addr());
        let views = doors.views(&config);
        let operator = operator(&config, &services, &doors, views.clone());
        // The start is in the audit trail before anything that the running server does.
        note_start(&services).await?;
        // With the doors bound nothing keeps the start from saying the password: a start that fails makes no account.
        let demo_password = services.first_partner(&config).await?;
        let runs = Runs::start(&services, doors, socket, operator);
        info!(doors = views.len(), data = %config.data.display(), "ready");
        let Services { gate, partners, ingest, data_dir, .. } = services;
        let storage = Arc::clone(&data_dir.storage);
        let lock = data_dir.into_lock();
        let watch = watch.clone();
        Ok(Self {
            ftp,
            sftp,
            web,
            doors: views,
            demo_password,
            gate,
            partners,
            ingest,
            runs,
            storage,
            watch,
            _lock: lock,
        })
    }

    /// The gate, for the greeting.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Applies what can be changed without a restart: the schedule, the policies and the limits.
    /// What cannot be applied keeps its former value, and is logged.
    pub async fn reload(&self, config: &Config) {
        let gate = Arc::clone(&self.gate);
        match tokio::task::spawn_blocking(move || gate.reload()).await {
            Ok(Ok(())) => info!("the schedule was read again"),
            Ok(Err(faults)) => {
                for fault in faults {
                    warn!(%fault, "the schedule is broken; the last good one stays in force");
                }
            }
            Err(error) => warn!(%error, "the schedule was not read again"),
        }
        self.partners.set_policies(Policies::new(config.policy.clone(), &config.partners));
        self.partners.set_limits(config.limits.clone());
        for session in self.partners.end_outdated() {
            info!(session = %session.id, partner = %session.partner, peer = %session.peer, "a session ended: what it came in by holds no more");
        }
        info!("policies and limits were read again; other keys of forebay.toml take effect at the next start");
    }

    /// Shuts down: nothing new is accepted or claimed, uploads and attempts get their time, and the data is left in
    /// order.
    pub async fn shutdown(mut self) {
        let patience = stop_after(self.watch.clone(), PATIENCE);
        // First: work that looks through many files would otherwise keep its session, and the door
        // waits for that.
        self.ingest.stop();
        self.runs.stop_doors_and_processing().await;
        // After the last upload.
        self.ingest.idle().await;
        self.runs.stop_rest().await;
        // Before the lock of the data directory is given up: the next server may open it then.
        if let Err(error) = self.storage.close().await {
            warn!(%error, "storage had stopped before");
        }
        patience.abort();
        info!("stopped");
    }
}

/// The time that making an index anew, which all outcomes wait for, has when a server stops.
const PATIENCE: Duration = Duration::from_secs(15);

/// Stops long work on the index when its time is over. It goes on at the next start.
fn stop_after(watch: Watch, patience: Duration) -> JoinHandle<()> {
    tokio::spawn(async move {
        tokio::time::sleep(patience).await;
        watch.stop();
    })
}

/// The operator of a server that runs.
fn operator(config: &Config, services: &Services, doors: &BoundDoors, views: Vec<DoorView>) -> Arc<Operator> {
    let live = Live {
        dispatcher: Arc::clone(&services.dispatcher),
        doors: views,
        folders: doors.drop.reports(),
        certificate_ends_at: doors.certificates().map(|certificate| certificate.not_after).min(),
        started_at: services.clock.now(),
    };
    Arc::new(Operator::new(Dependencies {
        data: config.data.clone(),
        storage: Arc::clone(&services.data_dir.storage),
        spool: Arc::clone(&services.data_dir.spool),
        contents: services.data_dir.contents(),
        queue: Arc::clone(&services.data_dir.queue),
        catalogue: Arc::clone(&services.data_dir.catalogue),
        maintenance: Arc::clone(&services.data_dir.maintenance),
        gate: Arc::clone(&services.gate),
        partners: Arc::clone(&services.partners),
        routes: Arc::clone(&services.data_dir.routes),
        clock: Arc::clone(&services.clock),
        live: Some(live),
    }))
}

async fn note_start(services: &Services) -> Result<(), Problem> {
    let text = format!("forebay {} started", env!("CARGO_PKG_VERSION"));
    services::note(&services.data_dir, "server.start", &text, &*services.clock).await
}
