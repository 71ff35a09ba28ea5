//! The doors of a server, bound to their addresses and not yet accepting.
//!
//! Binding comes before anything runs: an address in use ends the start with nothing begun. Each
//! door gets clones of the services that it may name, and no store. A client that connects between
//! binding and accepting waits in the kernel's queue.

use std::{net::SocketAddr, sync::Arc};

use forebay_queue::QueueStore;
use forebay_storage::Storage;

use super::{open_data_dir::blocking, scraped::Scraped, services::Services};
use crate::{
    config::{Config, WEB_TLS},
    doors::{drop, ftp, sftp, web},
    operate::{DoorView, Problem},
    tls::CertificateInfo,
};

/// All doors that are configured. Dropped, they are closed.
pub(super) struct BoundDoors {
    pub(super) ftp: Option<ftp::Door>,
    pub(super) sftp: Option<sftp::Door>,
    pub(super) web: Option<web::Door>,
    pub(super) health: Option<web::HealthDoor>,
    pub(super) metrics: Option<web::MetricsDoor>,
    pub(super) drop: drop::Door,
}

impl BoundDoors {
    /// Binds the listeners of all doors that are configured, and opens the drop folders. Nothing is
    /// accepted yet.
    ///
    /// # Errors
    /// For the first door that cannot be opened, in words for the operator.
    pub(super) async fn bind(config: &Config, services: &Services) -> Result<Self, Problem> {
        let ftp = bind_ftp(config, services)?;
        let sftp = bind_sftp(config, services).await?;
        let web = bind_web(config, services)?;
        let health = bind_health(config, services)?;
        let metrics = bind_metrics(config, services)?;
        let drop = open_drop(config, services).await?;
        Ok(Self { ftp, sftp, web, health, metrics, drop })
    }

    pub(super) fn ftp_addr(&self) -> Option<SocketAddr> {
        self.ftp.as_ref().map(ftp::Door::local_addr)
    }

    pub(super) fn sftp_addr(&self) -> Option<SocketAddr> {
        self.sftp.as_ref().map(sftp::Door::local_addr)
    }

    pub(super) fn web_addr(&self) -> Option<SocketAddr> {
        self.web.as_ref().map(web::Door::local_addr)
    }

    /// The certificates of the doors that speak TLS.
    pub(super) fn certificates(&self) -> impl Iterator<Item = &CertificateInfo> {
        let ftp = self.ftp.as_ref().and_then(ftp::Door::certificate);
        let web = self.web.as_ref().and_then(web::Door::certificate);
        ftp.into_iter().chain(web)
    }

    pub(super) fn views(&self, config: &Config) -> Vec<DoorView> {
        door_views(config, self)
    }
}

/// Binds the FTP door, with its certificate (made at the first start) and its listeners.
fn bind_ftp(config: &Config, services: &Services) -> Result<Option<ftp::Door>, Problem> {
    if !config.ftp.enabled {
        return Ok(None);
    }
    let door = ftp::Door::bind(
        config.ftp.clone(),
        Arc::clone(&services.ingest),
        Arc::clone(&services.partners),
        Arc::clone(&services.gate),
        Arc::clone(&services.clock),
        &config.data.join("tls"),
    );
    door.map(Some).map_err(|error| cannot_open("ftp", &error))
}

/// Binds the SFTP door. The first time it generates the host keys, which keeps a processor busy for a while.
async fn bind_sftp(config: &Config, services: &Services) -> Result<Option<sftp::Door>, Problem> {
    if !config.sftp.enabled {
        return Ok(None);
    }
    let (options, keys) = (config.sftp.clone(), config.data.join("ssh"));
    let (ingest, partners) = (Arc::clone(&services.ingest), Arc::clone(&services.partners));
    let (gate, clock) = (Arc::clone(&services.gate), Arc::clone(&services.clock));
    // RSA keys are made here at the first start.
    let door = blocking(move || {
        let door = sftp::Door::bind(options, ingest, partners, gate, clock, &keys);
        door.map_err(|error| cannot_open("sftp", &error))
    });
    door.await.map(Some)
}

/// Binds the web door: faces and services.
fn bind_web(config: &Config, services: &Services) -> Result<Option<web::Door>, Problem> {
    let Some(listen) = config.web.listen else { return Ok(None) };
    let door = web::Door::bind(
        listen,
        config.web.clone(),
        Arc::clone(&services.ingest),
        Arc::clone(&services.partners),
        Arc::clone(&services.gate),
        Arc::clone(&services.clock),
        Arc::new(readiness(&services.data_dir.storage, &services.data_dir.queue)),
        &config.data.join(WEB_TLS),
    );
    door.map(Some).map_err(|error| cannot_open("web", &error))
}

/// Binds the health face alone, at an address of its own.
fn bind_health(config: &Config, services: &Services) -> Result<Option<web::HealthDoor>, Problem> {
    let Some(listen) = config.health.listen else { return Ok(None) };
    let readiness = readiness(&services.data_dir.storage, &services.data_dir.queue);
    let door = web::HealthDoor::bind(listen, &services.partners, Arc::new(readiness));
    door.map(Some).map_err(|error| cannot_open("health", &error))
}

/// Binds the listener of the figures, at an address of its own.
fn bind_metrics(config: &Config, services: &Services) -> Result<Option<web::MetricsDoor>, Problem> {
    let Some(listen) = config.metrics.listen else { return Ok(None) };
    let door = web::MetricsDoor::bind(listen, &services.partners, Scraped::new(services));
    door.map(Some).map_err(|error| cannot_open("metrics", &error))
}

/// Opens the folders: learns from the journal what was taken, before any folder is looked at.
async fn open_drop(config: &Config, services: &Services) -> Result<drop::Door, Problem> {
    let door = drop::Door::open(
        config.drops.clone(),
        Arc::clone(&services.ingest),
        Arc::clone(&services.partners),
        Arc::clone(&services.clock),
        &config.data.join("drop"),
    )
    .await;
    door.map_err(|error| Problem::failed(format!("cannot read what was taken from folders: {error}")))
}

/// The doors as operators see them.
fn door_views(config: &Config, doors: &BoundDoors) -> Vec<DoorView> {
    let (ftp, sftp) = (doors.ftp.as_ref(), doors.sftp.as_ref());
    let tls = match config.ftp.tls() {
        ftp::Tls::Off => "tls off",
        ftp::Tls::Optional => "tls optional",
        ftp::Tls::Required => "tls required",
    };
    let explicit = ftp.map(|door| DoorView {
        door: "ftp".to_owned(),
        address: door.local_addr().to_string(),
        note: Some(tls.to_owned()),
    });
    let implicit = ftp.and_then(ftp::Door::implicit_addr).map(|address| DoorView {
        door: "ftps".to_owned(),
        address: address.to_string(),
        note: Some("implicit tls".to_owned()),
    });
    let web = doors.web.as_ref().map(|door| DoorView {
        door: "web".to_owned(),
        address: door.local_addr().to_string(),
        note: door.certificate().map(|_| "tls required".to_owned()),
    });
    let health = doors.health.as_ref().map(|door| DoorView {
        door: "health".to_owned(),
        address: door.local_addr().to_string(),
        note: None,
    });
    let metrics = doors.metrics.as_ref().map(|door| DoorView {
        door: "metrics".to_owned(),
        address: door.local_addr().to_string(),
        note: None,
    });
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
    explicit
        .into_iter()
        .chain(implicit)
        .chain(sftp)
        .chain(web)
        .chain(health)
        .chain(metrics)
        .chain(config.drops.iter().map(folder))
        .collect()
}

/// Lists what keeps the server from accepting files, for the readiness face.
pub(super) fn readiness(
    storage: &Arc<dyn Storage>,
    queue: &Arc<dyn QueueStore>,
) -> impl Fn() -> Vec<String> + Send + Sync + 'static {
    let (storage, queue) = (Arc::clone(storage), Arc::clone(queue));
    move || {
        // Asked each time: a face that is looked at every second must see the state of now.
        let mut faults: Vec<_> = storage.poisoned().into_iter().chain(queue.poisoned()).collect();
        match storage.space() {
            Ok(space) => faults.extend(space.shortage()),
            // A disk that cannot say how much room it has is no disk to accept on.
            Err(error) => faults.push(error.to_string()),
        }
        faults
    }
}

/// An error of a door that cannot be opened, with its causes and advice for an address that is in use.
fn cannot_open(door: &str, error: &dyn std::error::Error) -> Problem {
    let mut text = error.to_string();
    let mut in_use = false;
    let mut cause = error.source();
    while let Some(error) = cause {
        let io = error.downcast_ref::<std::io::Error>();
        in_use |= io.is_some_and(|error| error.kind() == std::io::ErrorKind::AddrInUse);
        // Some errors include the text of their cause already.
        let cause_text = error.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        cause = error.source();
    }
    // The one failure that nearly every operator meets: the advice is worth its line.
    if in_use {
        text =
            format!("{text}; another program listens there: stop it, or set another [{door}] listen in forebay.toml");
    }
    Problem::failed(text)
}
