//! A stock libunftp server over Forebay's backend, with nothing of Forebay's FTP door before it.
//!
//! What is accepted is on stable storage and in the queue before 226 goes out, and it is processed when the gate is open.
//! What only the door can give is missing: libunftp takes the end of the data for the end of the file.
//!
//! `stock_libunftp DIRECTORY ADDRESS [closed]` keeps everything in DIRECTORY, delivers files to `DIRECTORY/delivered`
//! and prints `ready` when it listens. With `closed` nothing is processed.

use std::{collections::HashMap, error::Error, fs, net::SocketAddr, path::Path, sync::Arc, time::Duration};

use async_trait::async_trait;
use forebay::{
    answers::Answers,
    clock::{Clock, SystemClock},
    contents::Contents,
    doors::ftp::{FtpBackend, FtpUser, TransferLimits},
    gate::{self, Gate},
    ingest::{self, Dependencies, Ingest},
    partners::{Denied, Limits, Partner, PartnerName, Partners, Policies, Policy},
    process::{self, Dispatcher},
    routes::{self, Routes},
};
use forebay_queue::{
    EmbeddedMaintenance, QueueStore,
    embedded::{self, EmbeddedQueue},
};
use forebay_storage::{
    disk::OsDisk,
    local::{self, LocalStorage},
};
use libunftp::ServerBuilder;
use parking_lot::Mutex;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use unftp_core::auth::{
    AuthenticationError, Authenticator, Credentials, Principal, UserDetailError, UserDetailProvider,
};

/// The partner that is there.
pub const PARTNER: &str = "Clinic";
/// Its password.
pub const PASSWORD: &str = "correct horse battery";

/// An error of any part.
pub type AnyError = Box<dyn Error + Send + Sync>;

#[tokio::main]
async fn main() -> Result<(), AnyError> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (directory, address, closed) = match arguments.as_slice() {
        [directory, address] => (directory, address, false),
        [directory, address, closed] if closed == "closed" => (directory, address, true),
        _ => return Err("stock_libunftp DIRECTORY ADDRESS [closed]".into()),
    };
    let mut stock = Stock::start(Path::new(directory), address.parse()?, closed).await?;
    println!("ready");
    while let Some(ended) = stock.tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// A server that runs until it is dropped.
#[allow(dead_code, reason = "the test that includes this file asks the gate and the queue")]
pub struct Stock {
    /// Its gate.
    pub gate: Arc<Gate>,
    /// Its queue.
    pub queue: Arc<dyn QueueStore>,
    login: Arc<PartnerLogin>,
    tasks: JoinSet<Result<(), AnyError>>,
}

impl Stock {
    /// Starts on a data directory, in the order of the real server: what a crash left is put right first.
    ///
    /// # Errors
    /// What keeps it from starting.
    pub async fn start(data: &Path, address: SocketAddr, closed: bool) -> Result<Self, AnyError> {
        fs::create_dir_all(data)?;
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        let disk = Arc::new(OsDisk);
        let storage = Arc::new(LocalStorage::open(disk.clone(), data, local::Options::default())?);
        let options = embedded::Options::default();
        let (queue, recovered) = EmbeddedQueue::open(disk, &data.join("journal"), &data.join("queue"), options)?;
        let queue = Arc::new(queue);
        // The route starts no programs that could run on.
        for entry in &recovered.interrupted {
            queue.settle_crashed(entry.id, clock.now()).await?;
        }
        let gate = Gate::open(&data.join("gate"), gate::Options::default(), clock.clone(), recovered.newest_at)?;
        if closed {
            gate.close(Vec::new(), None, "asked for".to_owned(), None, "stock_libunftp".to_owned())?;
        }
        let policies = Policies::new(Policy::default(), &[]);
        let partners = Partners::open(&data.join("partners"), Limits::default(), policies, clock.clone())?;
        if partners.get(PARTNER).is_none() {
            partners.add(&PARTNER.parse::<PartnerName>()?, PASSWORD, "")?;
        }
        let routes = Arc::new(deliver_to(&data.join("delivered"))?);
        let dependencies = Dependencies {
            storage: storage.clone(),
            queue: queue.clone(),
            catalogue: queue.clone(),
            answers: Arc::new(Answers::new(gate.clone(), routes.clone(), clock.clone(), true)),
            routes: routes.clone(),
            partners: partners.clone(),
            clock: clock.clone(),
            metrics: Arc::default(),
        };
        let ingest = Ingest::new(dependencies, ingest::Options::default());
        ingest.recover(&recovered, &*storage).await?;
        let dispatcher = Dispatcher::new(process::Dependencies {
            contents: Contents::new(storage, queue.clone()),
            queue: queue.clone(),
            gate: gate.clone(),
            routes,
            clock: clock.clone(),
            data: data.to_owned(),
            instance: process::instance_of(data)?,
            options: process::Options::default(),
        });
        let login = Arc::new(PartnerLogin { partners, ingest, clock, logins: Mutex::default() });
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            dispatcher.run(CancellationToken::new()).await;
            Ok(())
        });
        tasks.spawn(serve(login.clone(), address));
        listens(address).await?;
        Ok(Self { gate, queue, login, tasks })
    }

    /// A user as libunftp has it, without a client.
    ///
    /// # Errors
    /// When there are too many sessions.
    #[allow(dead_code, reason = "the test that includes this file asks the backend itself")]
    pub fn user(&self) -> Result<FtpUser, AnyError> {
        let partner = Partner { name: PARTNER.parse()?, policy: Arc::default(), credentials: Default::default() };
        Ok(self.login.open(&partner, SocketAddr::from(([127, 0, 0, 1], 0)))?)
    }
}

/// The one route: every file goes to this directory.
fn deliver_to(directory: &Path) -> Result<Routes, AnyError> {
    let text = format!("name = \"all\"\nprocessor = \"deliver\"\ndirectory = {:?}", directory.display().to_string());
    let route: routes::Options = toml::from_str(&text)?;
    Routes::from_options(vec![route]).map_err(|faults| format!("{faults:?}").into())
}

async fn serve(login: Arc<PartnerLogin>, address: SocketAddr) -> Result<(), AnyError> {
    let server =
        ServerBuilder::<FtpBackend, FtpUser>::with_user_detail_provider(Box::new(|| FtpBackend), login.clone())
            .authenticator(login)
            .greeting("Stock libunftp over Forebay")
            .build()?;
    Ok(server.listen(address.to_string()).await?)
}

/// Waits until somebody listens: libunftp does not say so.
async fn listens(address: SocketAddr) -> Result<(), AnyError> {
    for _ in 0..500 {
        if tokio::net::TcpStream::connect(address).await.is_ok() {
            return Ok(());
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    Err(format!("nobody listens on {address}").into())
}

/// Has `partners` verify passwords, and opens the sessions.
#[derive(Debug)]
struct PartnerLogin {
    partners: Arc<Partners>,
    ingest: Arc<Ingest>,
    clock: Arc<dyn Clock>,
    /// Each partner's last login, and where it came from: a provider is not told.
    logins: Mutex<HashMap<String, (Partner, SocketAddr)>>,
}

#[async_trait]
impl Authenticator for PartnerLogin {
    async fn authenticate(&self, username: &str, creds: &Credentials) -> Result<Principal, AuthenticationError> {
        let password = creds.password.as_deref().unwrap_or_default();
        let partner = self.partners.verify(username, password, creds.source_ip).await;
        let partner = partner.map_err(|denied| AuthenticationError::with_source("login refused", denied))?;
        let username = partner.name.to_string();
        // libunftp does not tell the port.
        self.logins.lock().insert(username.clone(), (partner, SocketAddr::new(creds.source_ip, 0)));
        Ok(Principal { username })
    }
}

#[async_trait]
impl UserDetailProvider for PartnerLogin {
    type User = FtpUser;

    async fn provide_user_detail(&self, principal: &Principal) -> Result<FtpUser, UserDetailError> {
        let login = self.logins.lock().get(&principal.username).cloned();
        let (partner, peer) =
            login.ok_or_else(|| UserDetailError::UserNotFound { username: principal.username.clone() })?;
        self.open(&partner, peer).map_err(|denied| UserDetailError::with_source("no session", denied))
    }
}

impl PartnerLogin {
    fn open(&self, partner: &Partner, peer: SocketAddr) -> Result<FtpUser, Denied> {
        let ticket = self.partners.open_session(partner, "ftp", peer)?;
        let limits = TransferLimits {
            stalled: self.partners.limits().stalled,
            longest_per_gib: Duration::from_secs(6 * 60 * 60),
        };
        Ok(FtpUser::new(&self.ingest, ticket, self.clock.clone(), limits))
    }
}
