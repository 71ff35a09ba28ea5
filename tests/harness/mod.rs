//! The house from storage to its doors in one process, on temporary data, and clients that do what a test says.
#![allow(dead_code, unused_imports, missing_docs, unreachable_pub, reason = "each test file uses a part of it")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail, and reads the machine's clock"
)]

pub mod binary;
pub mod client;
mod ftp_client;
mod ftp_session;
pub mod http;
pub mod killed;
pub mod lag;
pub mod lossy;
pub mod mortal;
pub mod paths;
pub mod ports;
pub mod sftp_client;
mod sftp_session;
pub mod site;
pub mod small_disk;
pub mod stream;
pub mod tun;

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use forebay::{
    answers::Answers,
    clock::{Clock, SystemClock},
    contents::Contents,
    doors::{ftp, sftp, web},
    gate::{self, Gate},
    ingest::{self, Ingest, RecoveryReport},
    partners::{self, Partners, Policies, Policy},
    routes::{self, Routes},
};
use forebay_queue::{
    Catalogue, Entry, Filter, QueueStore, State,
    embedded::{self, EmbeddedQueue},
};
use forebay_storage::{SpoolMaintenance, Storage, disk::OsDisk, local};
use tokio::{runtime::Runtime, sync::watch, task::JoinHandle, time::Instant};

pub use client::{Addresses, Answer, Client, Door, Why};
pub use ftp_client::{Ftp, Reply};
pub use stream::{Stream, speaking, trusting};

pub const PARTNER: &str = "Clinic";
pub const PASSWORD: &str = "correct horse battery";

/// What a house is built with.
pub struct Plan {
    pub policy: Policy,
    pub limits: partners::Limits,
    pub ftp: ftp::Options,
    pub sftp: sftp::Options,
    /// The web door, if the house has one.
    pub web: Option<web::Options>,
    pub gate: gate::Options,
    pub reserve_bytes: u64,
    /// Files of up to so many bytes have no spool file.
    pub inline_bytes: u64,
    /// Whether partners get receipts and notices.
    pub receipts: bool,
    /// Whether the partner has an outbox that it may delete from.
    pub outbox: bool,
    pub routes: Vec<routes::Options>,
    pub overrides: Vec<partners::Override>,
    pub clock: Arc<dyn Clock>,
}

impl Default for Plan {
    fn default() -> Self {
        let limits = partners::Limits {
            max_connections_per_address: 1000,
            max_sessions_per_partner: 1000,
            // All clients of a test come from one address.
            max_startups: "10000:1:10000".parse().expect("three numbers"),
            startup_burst: 10_000,
            ..partners::Limits::default()
        };
        let (first, last) = ports::free_ports();
        let ftp = ftp::Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            passive_ports: ftp::PortRange { first, last },
            ..ftp::Options::default()
        };
        let sftp = sftp::Options {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            host_key_algorithms: vec!["ssh-ed25519".to_owned()],
            ..sftp::Options::default()
        };
        let route = "name = \"all\"\nprocessor = \"deliver\"\ndirectory = \"/nowhere\"";
        Self {
            policy: Policy::default(),
            limits,
            ftp,
            sftp,
            web: None,
            gate: gate::Options::default(),
            reserve_bytes: 0,
            inline_bytes: local::Options::default().inline_bytes,
            receipts: false,
            outbox: false,
            routes: vec![toml::from_str(route).expect("a route")],
            overrides: Vec::new(),
            clock: Arc::new(SystemClock::new()),
        }
    }
}

/// What stands behind the doors.
pub struct Parts {
    pub storage: Arc<dyn Storage>,
    pub spool: Arc<dyn SpoolMaintenance>,
    pub queue: Arc<dyn QueueStore>,
    pub catalogue: Arc<dyn Catalogue>,
    pub gate: Arc<Gate>,
    pub partners: Arc<Partners>,
    pub ingest: Arc<Ingest>,
    pub recovered: RecoveryReport,
}

impl Parts {
    /// Opens them in a directory.
    pub async fn open(plan: &Plan, data: &Path) -> Self {
        let at = |name: &str| data.join(name);
        let clock = plan.clock.clone();
        let options =
            local::Options { reserve_bytes: plan.reserve_bytes, reserve_inodes: 0, inline_bytes: plan.inline_bytes };
        let spool = Arc::new(local::LocalStorage::open(Arc::new(OsDisk), data, options).unwrap());
        let storage: Arc<dyn Storage> = spool.clone();
        let small = embedded::Options { segment_bytes: 1 << 20, ..embedded::Options::default() };
        let (queue, recovered) = EmbeddedQueue::open(Arc::new(OsDisk), &at("journal"), &at("queue"), small).unwrap();
        let queue = Arc::new(queue);
        let (catalogue, queue): (Arc<dyn Catalogue>, Arc<dyn QueueStore>) = (queue.clone(), queue);
        let gate = Gate::open(&at("gate"), plan.gate.clone(), clock.clone(), None).unwrap();
        let mut overrides = plan.overrides.clone();
        if plan.outbox {
            std::fs::create_dir_all(at("outbox")).unwrap();
            let outbox = format!("name = {PARTNER:?}\noutbox = {:?}\noutbox_delete = true", at("outbox"));
            overrides.push(toml::from_str(&outbox).unwrap());
        }
        let policies = Policies::new(plan.policy.clone(), &overrides);
        let partners = Partners::open(&at("partners"), plan.limits.clone(), policies, clock.clone()).unwrap();
        let name = PARTNER.parse().unwrap();
        if partners.get(PARTNER).is_none() {
            partners.add(&name, PASSWORD, "").unwrap();
        }
        let routes = Arc::new(Routes::from_options(plan.routes.clone()).unwrap());
        let dependencies = ingest::Dependencies {
            storage: storage.clone(),
            queue: queue.clone(),
            catalogue: catalogue.clone(),
            answers: Arc::new(Answers::new(gate.clone(), routes.clone(), clock.clone(), plan.receipts)),
            routes,
            partners: partners.clone(),
            clock: clock.clone(),
            metrics: Arc::default(),
        };
        let ingest = Ingest::new(dependencies, ingest::Options::default());
        let recovered = ingest.recover(&recovered, &*spool).await.unwrap();
        ingest.take_over(&at("home")).await.unwrap();
        Self { storage, spool, queue, catalogue, gate, partners, ingest, recovered }
    }
}

pub struct House {
    pub ingest: Arc<Ingest>,
    pub partners: Arc<Partners>,
    pub queue: Arc<dyn QueueStore>,
    pub catalogue: Arc<dyn Catalogue>,
    pub storage: Arc<dyn Storage>,
    pub spool: Arc<dyn SpoolMaintenance>,
    pub contents: Contents,
    pub gate: Arc<Gate>,
    pub address: SocketAddr,
    pub implicit: Option<SocketAddr>,
    pub sftp: SocketAddr,
    pub web: Option<SocketAddr>,
    pub recovered: RecoveryReport,
    stop: watch::Sender<bool>,
    doors: Vec<JoinHandle<()>>,
    runtime: Option<Runtime>,
    data: Arc<tempfile::TempDir>,
}

impl House {
    pub fn new(plan: Plan) -> Self {
        let data = Arc::new(tempfile::tempdir().expect("a directory"));
        Self::on(plan, data)
    }

    pub fn on(plan: Plan, data: Arc<tempfile::TempDir>) -> Self {
        let _ = tracing_subscriber::fmt()
            .with_env_filter(tracing_subscriber::EnvFilter::from_default_env())
            .with_test_writer()
            .try_init();
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(4).enable_all().build().unwrap();
        let entered = runtime.enter();
        let at = |name: &str| data.path().join(name);
        let clock = plan.clock.clone();
        let Parts { storage, spool, queue, catalogue, gate, partners, ingest, recovered } =
            runtime.block_on(Parts::open(&plan, data.path()));
        let (ingested, known, gated) = (ingest.clone(), partners.clone(), gate.clone());
        let ftp = ftp::Door::bind(plan.ftp, ingested, known, gated, clock.clone(), &at("tls")).unwrap();
        let (ingested, known, gated) = (ingest.clone(), partners.clone(), gate.clone());
        let sftp = sftp::Door::bind(plan.sftp, ingested, known, gated, clock.clone(), &at("ssh")).unwrap();
        let any = SocketAddr::from(([127, 0, 0, 1], 0));
        let web = plan.web.map(|options| {
            let (ingested, known, gated) = (ingest.clone(), partners.clone(), gate.clone());
            let tls = at("tls/web");
            web::Door::bind(any, options, ingested, known, gated, clock, Arc::new(Vec::new), &tls).unwrap()
        });
        let web_address = web.as_ref().map(web::Door::local_addr);
        let (address, implicit, sftp_address) = (ftp.local_addr(), ftp.implicit_addr(), sftp.local_addr());
        let (stop, stopped) = watch::channel(false);
        let mut doors = vec![runtime.spawn(ftp.run(stopped.clone())), runtime.spawn(sftp.run(stopped.clone()))];
        doors.extend(web.map(|web| runtime.spawn(web.run(stopped))));
        drop(entered);
        Self {
            contents: Contents::new(storage.clone(), queue.clone()),
            ingest,
            partners,
            queue,
            catalogue,
            storage,
            spool,
            gate,
            address,
            implicit,
            sftp: sftp_address,
            web: web_address,
            recovered,
            stop,
            doors,
            runtime: Some(runtime),
            data,
        }
    }

    pub fn block_on<T>(&self, work: impl Future<Output = T>) -> T {
        self.runtime.as_ref().expect("runs").block_on(work)
    }

    pub fn data(&self) -> Arc<tempfile::TempDir> {
        self.data.clone()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.data.path().join(name)
    }

    /// A directory in which other programs put files for the partner, if the plan has it.
    pub fn outbox(&self) -> PathBuf {
        self.path("outbox")
    }

    /// Where its doors are.
    pub fn addresses(&self) -> Addresses {
        Addresses { ftp: self.address, sftp: self.sftp }
    }

    /// A session at this door that is logged in.
    pub fn enter(&self, door: Door) -> Box<dyn Client> {
        door.try_enter(self.addresses(), PARTNER, PASSWORD).unwrap()
    }

    /// Waits until nobody is logged in and nothing of what they did is under way.
    pub fn wait_alone(&self) {
        wait_until("the sessions end", || self.partners.sessions().is_empty());
        self.block_on(self.ingest.idle());
    }

    /// A session that is logged in.
    pub fn session(&self) -> Ftp {
        let mut ftp = Ftp::connect(self.address);
        ftp.login(PARTNER, PASSWORD);
        ftp
    }

    pub fn entries(&self) -> Vec<Entry> {
        self.block_on(self.queue.list(&Filter::default(), None, 10_000)).unwrap().entries
    }

    /// The states of all entries of that name, oldest first.
    pub fn states(&self, name: &str) -> Vec<State> {
        self.entries().into_iter().filter(|entry| entry.name == name).map(|entry| entry.state).collect()
    }

    /// The accepted bytes.
    pub fn bytes(&self, entry: &Entry) -> Vec<u8> {
        self.block_on(async {
            let content = self.contents.open(entry.id).await.unwrap();
            content.read(0..entry.size_bytes + 1).await.unwrap().to_vec()
        })
    }

    pub fn wait_until(&self, what: &str, met: impl Fn() -> bool) {
        wait_until(what, met);
    }

    /// Stops the doors as the server does; gives how long it took.
    pub fn close_doors(&mut self) -> Duration {
        let began = Instant::now();
        self.stop.send_replace(true);
        for door in std::mem::take(&mut self.doors) {
            self.block_on(async { tokio::time::timeout(Duration::from_secs(30), door).await }).unwrap().unwrap();
        }
        began.elapsed()
    }
}

impl Drop for House {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_secs(2));
        }
    }
}

/// Waits for a state, for at most 20 s.
pub fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < Duration::from_secs(20), "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Every file below a directory, without directories.
pub fn files_below(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut files = Vec::new();
    for path in entries.map(|entry| entry.unwrap().path()) {
        match path.is_dir() {
            true => files.extend(files_below(&path)),
            false => files.push(path),
        }
    }
    files
}
