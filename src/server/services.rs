//! Builds the services of a server in the only order that is safe.
//!
//! 1. The data directory is locked and opened: storage, then the queue with its journal.
//! 2. What was repaired is noted in the audit trail, before anything else is journalled.
//! 3. Programs of the former run are stopped, and their entries given back.
//! 4. The gate and the partners are opened.
//! 5. Ingest puts spool, queue and catalogue in order.
//! 6. The dispatcher is made.
//!
//! Nothing is accepted or claimed when [`Services::open`] returns. A failure at any step ends the
//! start, and leaves what a crash would leave.

use std::sync::Arc;

use forebay_queue::{Actor, QueueError, Watch};
use tracing::{info, warn};
use uuid::Uuid;

use super::{
    DEMO_PARTNER,
    open_data_dir::{OpenDataDir, blocking},
};
use crate::{
    answers::Answers,
    clock::Clock,
    config::Config,
    gate::Gate,
    ingest::{self, Ingest},
    operate::Problem,
    partners::{PartnerName, Partners, generate_password},
    process::{self, Dispatcher},
};

/// The services that doors and operators work with. The data directory is the last field, so that its lock is given up
/// when nothing else uses the data any more.
pub(super) struct Services {
    pub(super) gate: Arc<Gate>,
    pub(super) partners: Arc<Partners>,
    pub(super) ingest: Arc<Ingest>,
    pub(super) dispatcher: Arc<Dispatcher>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) data_dir: OpenDataDir,
}

impl Services {
    /// Locks and opens the data directory and recovers from the former run. Nothing is claimed or accepted yet.
    pub(super) async fn open(config: &Config, clock: Arc<dyn Clock>, watch: &Watch) -> Result<Self, Problem> {
        let (task, watch) = (config.clone(), watch.clone());
        let data_dir = blocking(move || OpenDataDir::open(&task, "serve", &watch)).await?;
        // First of all records of this run: the audit trail shows the repair before what was built
        // on it.
        note_recovery(&data_dir, &*clock).await?;
        // Before the dispatcher exists: a file whose former processor still runs must not be claimed again.
        let instance = stop_former_children(config, &data_dir, &clock).await?;
        let gate = data_dir.gate(config, &clock)?;
        let partners = data_dir.partners(config, &clock)?;
        // Before doors are bound: spool, queue and catalogue have to agree when the first upload comes.
        let ingest = recover_ingest(config, &data_dir, &gate, &partners, &clock).await?;
        let dispatcher = Dispatcher::new(process::Dependencies {
            queue: Arc::clone(&data_dir.queue),
            contents: data_dir.contents(),
            gate: Arc::clone(&gate),
            routes: Arc::clone(&data_dir.routes),
            clock: Arc::clone(&clock),
            data: config.data.clone(),
            instance,
            options: config.process.clone(),
        });
        Ok(Self { gate, partners, ingest, dispatcher, clock, data_dir })
    }

    /// Adds the demo partner at the very first start with no configuration, so that somebody can upload, and returns its
    /// password. To be called when nothing can keep the start from telling it.
    pub(super) async fn first_partner(&self, config: &Config) -> Result<Option<String>, Problem> {
        // Never beside a configuration: an operator who has written one makes accounts too.
        let fresh = config.file.is_none() && self.data_dir.recovered.newest_at.is_none();
        if !fresh || !self.partners.list()?.accounts.is_empty() {
            return Ok(None);
        }
        let name: PartnerName =
            DEMO_PARTNER.parse().map_err(|error| Problem::failed(format!("{DEMO_PARTNER}: {error}")))?;
        let password = generate_password();
        let (partners, given) = (Arc::clone(&self.partners), password.clone());
        blocking(move || Ok(partners.add(&name, &given, "made at the first start")?)).await?;
        let text = format!("partner {DEMO_PARTNER} added at the first start");
        note(&self.data_dir, "partner.add", &text, &*self.clock).await?;
        Ok(Some(password))
    }
}

/// Stops the processors that a former server left running, and returns the mark of those of this data directory.
async fn stop_former_children(
    config: &Config,
    data_dir: &OpenDataDir,
    clock: &Arc<dyn Clock>,
) -> Result<Uuid, Problem> {
    let instance = process::instance_of(&config.data).map_err(|error| Problem::failed(error.to_string()))?;
    let interrupted = &data_dir.recovered.interrupted;
    let kill_after = config.process.kill_after;
    process::recover_children(&data_dir.maintenance, interrupted, instance, &config.data, clock, kill_after)
        .await
        .map_err(|error| Problem::failed(format!("cannot stop what a former server left running: {error}")))?;
    Ok(instance)
}

/// Brings spool, queue and catalogue into agreement, and takes over what older versions have left.
async fn recover_ingest(
    config: &Config,
    data_dir: &OpenDataDir,
    gate: &Arc<Gate>,
    partners: &Arc<Partners>,
    clock: &Arc<dyn Clock>,
) -> Result<Arc<Ingest>, Problem> {
    let (gate, routes) = (Arc::clone(gate), Arc::clone(&data_dir.routes));
    let answers = Answers::new(gate, routes, Arc::clone(clock), config.process.receipts);
    let dependencies = ingest::Dependencies {
        storage: Arc::clone(&data_dir.storage),
        queue: Arc::clone(&data_dir.queue),
        catalogue: Arc::clone(&data_dir.catalogue),
        answers: Arc::new(answers),
        routes: Arc::clone(&data_dir.routes),
        partners: Arc::clone(partners),
        clock: Arc::clone(clock),
        metrics: Arc::clone(&data_dir.metrics),
    };
    let ingest = Ingest::new(dependencies, config.ingest.clone());
    // Before the takeover: what older versions have left is queued like an upload, and needs an
    // index that is right.
    let found = ingest
        .recover(&data_dir.recovered, &*data_dir.spool)
        .await
        .map_err(|error| Problem::failed(format!("cannot put spool and queue in order: {error}")))?;
    ingest
        .take_over(&config.data.join("home"))
        .await
        .map_err(|error| Problem::failed(format!("cannot take over what the version before kept in home: {error}")))?;
    if found.needs_an_operator() {
        warn!(
            adopted = found.adopted.len(),
            set_aside = found.set_aside.len(),
            missing = found.missing.len(),
            "files need an operator after a crash; see `forebay status`"
        );
    }
    Ok(ingest)
}

/// Notes in the audit trail what the server does by itself. A journal without room keeps no server from starting: then
/// operators could do nothing about it.
pub(super) async fn note(data_dir: &OpenDataDir, topic: &str, text: &str, clock: &dyn Clock) -> Result<(), Problem> {
    match data_dir.queue.note(Actor::Server, topic, text, clock.now()).await {
        // Everything else that a journal can say ends the start.
        Err(QueueError::Full) => {
            warn!(topic, text, "the journal has no room, and the audit trail lacks this");
            Ok(())
        }
        noted => Ok(noted?),
    }
}

/// Notes in the audit trail and in the log what was repaired when the journal was opened.
async fn note_recovery(data_dir: &OpenDataDir, clock: &dyn Clock) -> Result<(), Problem> {
    let found = &data_dir.recovered;
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
        note(data_dir, "queue.recovered", &text, clock).await?;
    }
    if !found.interrupted.is_empty() {
        info!(files = found.interrupted.len(), "attempts were interrupted by a crash and will be started again");
    }
    Ok(())
}
