//! The server: its parts, put together in the order in which they may trust each other, and taken down again.
//!
//! Locked, storage, queue, children of a former run stopped, gate, partners, what ingest finds put in order; only then
//! doors open and files are processed. Taken down the other way round: doors first, so that nothing new comes in.

mod ground;
mod lock;
mod pulse;

use std::{net::SocketAddr, sync::Arc};

use chrono::{DateTime, Utc};
use forebay_queue::{Actor, QueueStore};
use forebay_storage::Storage;
use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    ground::{Ground, blocking},
    pulse::Pulse,
};
pub use self::{
    ground::{Offline, open_offline},
    lock::{DataLock, Holder, LockError, private_dir},
};
use crate::{
    clock::Clock,
    config::Config,
    doors::{drop, ftp, sftp, web},
    gate::Gate,
    ingest::{Foundation, Ingest},
    operate::{AdminSocket, DoorView, Live, Operator, Parts, Problem},
    partners::{PartnerName, Partners, Policies, generate_password},
    process::{self, Dispatcher, Receipts},
};

/// The partner that is there when a server starts for the first time with no configuration.
pub const DEMO_PARTNER: &str = "demo";

/// A server that is ready.
pub struct Running {
    /// Where the FTP door listens.
    pub ftp: SocketAddr,
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
    stop_doors: watch::Sender<bool>,
    doors_run: Vec<JoinHandle<()>>,
    stop_processing: CancellationToken,
    processing_runs: Vec<JoinHandle<()>>,
    stop_rest: CancellationToken,
    rest_runs: Vec<JoinHandle<()>>,
    storage: Arc<dyn Storage>,
    _lock: DataLock,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("ftp", &self.ftp).field("web", &self.web).finish_non_exhaustive()
    }
}

impl Running {
    /// Starts a server, and gives it when it is ready.
    ///
    /// # Errors
    /// What keeps it from starting, in a sentence that says what to do.
    pub async fn start(config: Config, clock: Arc<dyn Clock>) -> Result<Self, Problem> {
        if rustix::process::geteuid().is_root() {
            warn!("running as root: file modes do not protect the spool; run forebay as a user of its own");
        }
        let task = config.clone();
        let ground = blocking(move || Ground::open(&task, "serve")).await?;
        let (storage, queue) = (Arc::clone(&ground.storage), Arc::clone(&ground.queue));
        tell_recovered(&ground, &*clock).await?;

        let instance = process::instance_of(&config.data).map_err(|error| Problem::failed(error.to_string()))?;
        process::recover_children(
            &queue,
            &ground.recovered.interrupted,
            instance,
            &config.data,
            &clock,
            config.process.kill_after,
        )
        .await
        .map_err(|error| Problem::failed(format!("cannot stop what a former server left running: {error}")))?;

        let gate = ground.gate(&config, &clock)?;
        let partners = ground.partners(&config, &clock)?;
        let demo_password = first_partner(&config, &ground, &partners, &*clock).await?;
        let foundation = Foundation {
            storage: Arc::clone(&storage),
            queue: Arc::clone(&queue),
            routes: Arc::clone(&ground.routes),
            partners: Arc::clone(&partners),
            clock: Arc::clone(&clock),
            home: config.data.join("home"),
        };
        let ingest = Ingest::new(foundation, config.ingest.clone());
        let found = ingest
            .recover(&ground.recovered)
            .await
            .map_err(|error| Problem::failed(format!("cannot put spool, queue and views in order: {error}")))?;
        if found.needs_an_operator() {
            warn!(
                adopted = found.adopted.len(),
                set_aside = found.set_aside.len(),
                missing = found.missing.len(),
                "files need an operator after a crash; see `forebay status`"
            );
        }

        let dispatcher = Dispatcher::new(process::Parts {
            queue: Arc::clone(&queue),
            storage: Arc::clone(&storage),
            gate: Arc::clone(&gate),
            routes: Arc::clone(&ground.routes),
            clock: Arc::clone(&clock),
            data: config.data.clone(),
            instance,
            options: config.process.clone(),
        });

        // Listeners are taken before anything runs: an address in use ends the start with nothing half begun.
        let (stop_doors, doors_stop) = watch::channel(false);
        let tls_dir = config.data.join("tls");
        let ftp_door = ftp::Door::bind(
            config.ftp.clone(),
            Arc::clone(&ingest),
            Arc::clone(&partners),
            Arc::clone(&gate),
            Arc::clone(&clock),
            &tls_dir,
        )
        .map_err(|error| cannot_open("ftp", &error))?;
        let sftp_door = open_sftp(&config, &ingest, &partners, &gate, &clock).await?;
        let web_door = match config.web.listen {
            None => None,
            Some(listen) => {
                let readiness = readiness(&storage, &queue);
                let (gate, clock) = (Arc::clone(&gate), Arc::clone(&clock));
                let door = web::Door::bind(listen, config.web.clone(), gate, clock, Arc::new(readiness)).await;
                Some(door.map_err(|error| cannot_open("web", &error))?)
            }
        };
        let drop_door = drop::Door::open(
            config.drops.clone(),
            Arc::clone(&ingest),
            Arc::clone(&partners),
            Arc::clone(&clock),
            &config.data.join("drop"),
        )
        .await
        .map_err(|error| Problem::failed(format!("cannot read what was taken from folders: {error}")))?;
        let (ftp, web) = (ftp_door.local_addr(), web_door.as_ref().map(web::Door::local_addr));
        let sftp = sftp_door.as_ref().map(sftp::Door::local_addr);
        let doors = door_views(&config, &ftp_door, sftp_door.as_ref(), web);
        let certificate_ends_at: Option<DateTime<Utc>> =
            ftp_door.certificate().map(|certificate| certificate.not_after);

        let socket = AdminSocket::bind(&config.data)
            .map_err(|error| Problem::failed(format!("cannot make {}/admin.sock: {error}", config.data.display())))?;
        let operator = Arc::new(Operator::new(Parts {
            data: config.data.clone(),
            storage: Arc::clone(&storage),
            queue: Arc::clone(&queue),
            gate: Arc::clone(&gate),
            partners: Arc::clone(&partners),
            routes: Arc::clone(&ground.routes),
            clock: Arc::clone(&clock),
            live: Some(Live {
                dispatcher: Arc::clone(&dispatcher),
                doors: doors.clone(),
                folders: drop_door.reports(),
                certificate_ends_at,
                started_at: clock.now(),
            }),
        }));
        let text = format!("forebay {} started", env!("CARGO_PKG_VERSION"));
        queue.note(Actor::Server, "server.start", &text, clock.now()).await?;

        let (stop_processing, stop_rest) = (CancellationToken::new(), CancellationToken::new());
        let mut processing_runs = Vec::new();
        let stop = stop_processing.clone();
        processing_runs.push(tokio::spawn(async move { dispatcher.run(stop).await }));
        let mut rest_runs = vec![tokio::spawn(socket.run(operator, stop_rest.clone()))];
        if config.process.receipts {
            let receipts = Receipts::new(
                Arc::clone(&queue),
                Arc::clone(&gate),
                Arc::clone(&ground.routes),
                Arc::clone(&clock),
                &config.data,
            );
            let stop = stop_rest.clone();
            rest_runs.push(tokio::task::spawn_blocking(move || receipts.run_aside(stop)));
        }
        let beat = Pulse::new(Arc::clone(&gate), Arc::clone(&ingest), storage, queue, clock);
        rest_runs.push(tokio::spawn(beat.run(stop_rest.clone())));
        let mut doors_run = vec![tokio::spawn(ftp_door.run(doors_stop.clone()))];
        doors_run.extend(sftp_door.map(|door| tokio::spawn(door.run(doors_stop.clone()))));
        doors_run.push(tokio::spawn(drop_door.run(doors_stop.clone())));
        doors_run.extend(web_door.map(|door| tokio::spawn(door.run(doors_stop))));
        info!(%ftp, data = %config.data.display(), "ready");
        Ok(Self {
            ftp,
            sftp,
            web,
            doors,
            demo_password,
            gate,
            partners,
            ingest,
            stop_doors,
            doors_run,
            stop_processing,
            processing_runs,
            stop_rest,
            rest_runs,
            storage: Arc::clone(&ground.storage),
            _lock: ground.into_lock(),
        })
    }

    /// The gate in a word, for the greeting.
    #[must_use]
    pub fn gate(&self) -> &Gate {
        &self.gate
    }

    /// Takes over what can be changed without a restart: the schedule, the policies and the limits.
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
        info!("policies and limits were read again; other keys of forebay.toml take effect at the next start");
    }

    /// Stops: nothing new comes in, uploads and what runs get their time, and everything is left in order.
    pub async fn shutdown(self) {
        // Nobody may be listening any more.
        let _ = self.stop_doors.send(true);
        self.stop_processing.cancel();
        ended(self.doors_run, "a door").await;
        ended(self.processing_runs, "processing").await;
        if let Err(error) = self.ingest.close().await {
            warn!(%error, "the views are not durable; the next start puts them right");
        }
        self.stop_rest.cancel();
        ended(self.rest_runs, "a part").await;
        // Before the data's lock is given up: the next server may open it then.
        if let Err(error) = self.storage.close().await {
            warn!(%error, "the spool relies on the intake log yet; the next start puts it right");
        }
        info!("stopped");
    }
}

async fn ended(runs: Vec<JoinHandle<()>>, what: &str) {
    for run in runs {
        if let Err(error) = run.await {
            warn!(%error, "{what} did not end well");
        }
    }
}

fn cannot_open(door: &str, error: &dyn std::error::Error) -> Problem {
    let mut text = error.to_string();
    let mut in_use = false;
    let mut cause = error.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        in_use |= io.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
        // Some errors tell their cause in their own words already.
        let words = error.to_string();
        if !text.contains(&words) {
            text = format!("{text}: {words}");
        }
        cause = error.source();
    }
    if in_use {
        text =
            format!("{text}; another program listens there: stop it, or set another [{door}] listen in forebay.toml");
    }
    Problem::failed(text)
}

/// The first time it makes its keys, which takes a processor for a while.
async fn open_sftp(
    config: &Config,
    ingest: &Arc<Ingest>,
    partners: &Arc<Partners>,
    gate: &Arc<Gate>,
    clock: &Arc<dyn Clock>,
) -> Result<Option<sftp::Door>, Problem> {
    if !config.sftp.enabled {
        return Ok(None);
    }
    let (options, keys) = (config.sftp.clone(), config.data.join("ssh"));
    let (ingest, partners, gate, clock) = (ingest.clone(), partners.clone(), gate.clone(), clock.clone());
    let door = blocking(move || {
        let door = sftp::Door::bind(options, ingest, partners, gate, clock, &keys);
        door.map_err(|error| cannot_open("sftp", &error))
    });
    door.await.map(Some)
}

fn door_views(config: &Config, ftp: &ftp::Door, sftp: Option<&sftp::Door>, web: Option<SocketAddr>) -> Vec<DoorView> {
    let tls = match config.ftp.tls() {
        ftp::Tls::Off => "tls off",
        ftp::Tls::Optional => "tls optional",
        ftp::Tls::Required => "tls required",
    };
    let first = DoorView { door: "ftp".to_owned(), address: ftp.local_addr().to_string(), note: Some(tls.to_owned()) };
    let implicit = ftp.implicit_addr().map(|address| DoorView {
        door: "ftps".to_owned(),
        address: address.to_string(),
        note: Some("implicit tls".to_owned()),
    });
    let web = web.map(|address| DoorView { door: "web".to_owned(), address: address.to_string(), note: None });
    let sftp = sftp.map(|door| {
        let key = |key: &sftp::HostKeyInfo| format!("{} {}", key.algorithm, key.fingerprint);
        let keys: Vec<_> = door.host_keys().iter().map(key).collect();
        DoorView { door: "sftp".to_owned(), address: door.local_addr().to_string(), note: Some(keys.join(", ")) }
    });
    let folder = |one: &drop::Options| DoorView {
        door: "drop".to_owned(),
        address: one.directory.display().to_string(),
        note: Some(format!("partner {}", one.partner)),
    };
    [first].into_iter().chain(implicit).chain(sftp).chain(web).chain(config.drops.iter().map(folder)).collect()
}

fn readiness(
    storage: &Arc<dyn Storage>,
    queue: &Arc<dyn QueueStore>,
) -> impl Fn() -> Vec<String> + Send + Sync + 'static {
    let (storage, queue) = (Arc::clone(storage), Arc::clone(queue));
    move || {
        let mut faults: Vec<_> = storage.poisoned().into_iter().chain(queue.poisoned()).collect();
        match storage.space() {
            Ok(space) if space.is_short() => faults.push("the disk is full but for its reserve".to_owned()),
            Ok(_) => {}
            Err(error) => faults.push(error.to_string()),
        }
        faults
    }
}

/// At the very first start with no configuration, so that there is someone who can upload.
async fn first_partner(
    config: &Config,
    ground: &Ground,
    partners: &Arc<Partners>,
    clock: &dyn Clock,
) -> Result<Option<String>, Problem> {
    let fresh = config.file.is_none() && ground.recovered.newest_at.is_none();
    if !fresh || !partners.list()?.accounts.is_empty() {
        return Ok(None);
    }
    let name: PartnerName =
        DEMO_PARTNER.parse().map_err(|error| Problem::failed(format!("{DEMO_PARTNER}: {error}")))?;
    let password = generate_password();
    let (partners, given) = (Arc::clone(partners), password.clone());
    blocking(move || Ok(partners.add(&name, &given, "made at the first start")?)).await?;
    let text = format!("partner {DEMO_PARTNER} added at the first start");
    ground.queue.note(Actor::Server, "partner.add", &text, clock.now()).await?;
    Ok(Some(password))
}

/// What opening the journal found stands in the audit trail and in the log.
async fn tell_recovered(ground: &Ground, clock: &dyn Clock) -> Result<(), Problem> {
    let found = &ground.recovered;
    let mut texts = Vec::new();
    if found.torn_bytes > 0 {
        texts.push(format!("{} bytes of a record that was never acknowledged were cut", found.torn_bytes));
    }
    if found.lost_records > 0 {
        texts.push(format!("damage took {} records", found.lost_records));
    }
    for path in &found.set_aside {
        texts.push(format!("set aside: {}", path.display()));
    }
    if found.rebuilt && found.newest_at.is_some() {
        texts.push("the index was made anew".to_owned());
    }
    for text in texts {
        warn!("{text}");
        ground.queue.note(Actor::Server, "queue.recovered", &text, clock.now()).await?;
    }
    if !found.interrupted.is_empty() {
        info!(files = found.interrupted.len(), "a crash cut attempts; they begin anew");
    }
    Ok(())
}
