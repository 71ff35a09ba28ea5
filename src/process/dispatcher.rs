//! Decides what is claimed next.
//!
//! It wakes when the queue or the gate changes, when a processor becomes free, when something falls due and when a
//! closure ends, with a poll every second behind all of them. For each route that has room, whose backend is up and
//! whose gate is open it asks the queue for files, and gives each to a worker of its own.
//!
//! Claiming is one task, so claims never overlap. Each worker is a task of its own, and
//! [`Dispatcher::run`] returns when all of them have ended, or after a bound.

use std::{
    collections::BTreeMap,
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use forebay_queue::{Claim, ClaimRequest, QueueError, QueueStore, RouteRequest};
use parking_lot::Mutex;
use tokio::{sync::Notify, time};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{
    Common, Deliver, Exec, Options, Paused, Processor, Running, Sink, WholeFiles, messages::MessageByMessage,
    pause::Pause, running::Table, worker::Worker,
};
use crate::{
    clock::Clock,
    contents::Contents,
    gate::{Gate, Permit},
    routes::{ProcessorKind, Route, Routes},
};

/// The poll behind all notifications: a missed one, or a clock that jumped, is noticed no later than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// The longest time between the closing of the gate by the clock and the stop of running attempts.
const CLOSE_LOOK_EVERY: Duration = Duration::from_millis(200);

/// A stopping server waits no longer than this for attempts that should have been killed by then, such as those in a
/// file system that hangs.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// The services and settings that a dispatcher works with.
pub struct Dependencies {
    /// The entries to be processed.
    pub queue: Arc<dyn QueueStore>,
    /// The bytes of the files.
    pub contents: Contents,
    /// Decides whether files may be processed now.
    pub gate: Arc<Gate>,
    /// The routes with their processors.
    pub routes: Arc<Routes>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The data directory, for `scratch/` and the default of `deliver`.
    pub data: PathBuf,
    /// Marks the programs that are started: see [`instance_of`](super::instance_of).
    pub instance: Uuid,
    /// The section `[process]`.
    pub options: Options,
}

/// Claims files and has them processed.
pub struct Dispatcher {
    shared: Arc<Shared>,
    runners: BTreeMap<String, Arc<RouteRunner>>,
    table: Arc<Table>,
}

/// The part of a dispatcher that its workers use too.
pub(super) struct Shared {
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    /// Notified when a processor has become free.
    pub(super) freed: Notify,
    /// Notified when an attempt has ended and its outcome is durable.
    pub(super) ended: Notify,
    /// Cancelled when the server stops and no longer waits for outcomes that cannot be journalled.
    pub(super) abandon: CancellationToken,
    claim_blocks: Arc<AtomicUsize>,
}

/// Keeps the dispatcher from claiming while an outcome is not durable.
pub(super) struct ClaimBlock(Arc<AtomicUsize>);

impl Drop for ClaimBlock {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    /// Keeps everything from being claimed until the block is dropped.
    pub(super) fn block_claims(&self) -> ClaimBlock {
        self.claim_blocks.fetch_add(1, Ordering::SeqCst);
        ClaimBlock(Arc::clone(&self.claim_blocks))
    }
}

/// A route with its processor, its pause and its running attempts.
pub(super) struct RouteRunner {
    pub(super) route: Route,
    pub(super) processor: Arc<dyn Processor>,
    pub(super) pause: Mutex<Pause>,
    attempts: AtomicUsize,
}

impl RouteRunner {
    fn free_slots(&self) -> usize {
        self.route.options.concurrency.saturating_sub(self.attempts.load(Ordering::SeqCst))
    }
}

/// The right to run one of the attempts that a route may run at once, given back however its worker ends.
pub(super) struct ConcurrencyPermit(Arc<RouteRunner>);

impl ConcurrencyPermit {
    fn acquire(runner: &Arc<RouteRunner>) -> Self {
        runner.attempts.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(runner))
    }
}

impl Drop for ConcurrencyPermit {
    fn drop(&mut self) {
        self.0.attempts.fetch_sub(1, Ordering::SeqCst);
    }
}

/// The routes that files can be claimed for at one instant.
#[derive(Default)]
struct Claimable {
    /// The requests to the queue, by duplicate window.
    asks: BTreeMap<u64, Vec<RouteRequest>>,
    permits: BTreeMap<String, Permit>,
    /// The gate's epoch before it was asked.
    epoch: u64,
    /// When a closed route opens.
    opens_at: Option<DateTime<Utc>>,
    /// The time until a paused route may be probed.
    probe_in: Option<Duration>,
}

/// The result of a claim.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Claimed {
    /// Files were claimed; there may be more.
    Some,
    /// The queue has nothing that may be claimed.
    Nothing,
    /// The gate may have changed since the routes were chosen: choose again.
    Stale,
}

impl Dispatcher {
    /// A dispatcher with the processors that the routes name.
    #[must_use]
    pub fn new(dependencies: Dependencies) -> Arc<Self> {
        let processors = dependencies
            .routes
            .iter()
            .map(|route| (route.name().to_owned(), processor(&dependencies, route)))
            .collect();
        Self::with_processors(dependencies, processors)
    }

    /// A dispatcher with other processors, by the route's name; a route without one is not served.
    #[must_use]
    pub fn with_processors(
        dependencies: Dependencies,
        mut processors: BTreeMap<String, Arc<dyn Processor>>,
    ) -> Arc<Self> {
        let mut runners = BTreeMap::new();
        for route in dependencies.routes.iter() {
            let Some(processor) = processors.remove(route.name()) else { continue };
            let pause = Mutex::new(Pause::new(&dependencies.options));
            let runner = RouteRunner { route: route.clone(), processor, pause, attempts: AtomicUsize::new(0) };
            runners.insert(route.name().to_owned(), Arc::new(runner));
        }
        let shared = Shared {
            queue: dependencies.queue,
            gate: dependencies.gate,
            clock: dependencies.clock,
            options: dependencies.options,
            freed: Notify::new(),
            ended: Notify::new(),
            abandon: CancellationToken::new(),
            claim_blocks: Arc::default(),
        };
        Arc::new(Self { shared: Arc::new(shared), runners, table: Arc::default() })
    }

    /// Claims until `shutdown`, then waits for running attempts: after a grace they are stopped and not counted.
    ///
    /// Returns when no attempt runs any more, or when those that were killed still hang after a
    /// bound.
    pub async fn run(&self, shutdown: CancellationToken) {
        tokio::join!(self.claim_files_until(&shutdown), self.stop_what_the_gate_closes(&shutdown));
        self.drain().await;
    }

    /// Routes that are paused because their backend is down.
    #[must_use]
    pub fn paused(&self) -> Vec<Paused> {
        let (now, elapsed) = (self.shared.clock.now(), self.shared.clock.elapsed());
        self.runners.iter().filter_map(|(name, runner)| runner.pause.lock().show(name, now, elapsed)).collect()
    }

    /// Attempts that run now, oldest first.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        self.table.list()
    }

    /// Waits until nothing of these routes runs any more (none given: of any). Cancel safe.
    pub async fn wait_idle(&self, routes: &[String]) {
        loop {
            // Made before the look: `notify_waiters` wakes only what exists already.
            let ended = self.shared.ended.notified();
            let concerns = |running: &Running| routes.is_empty() || routes.contains(&running.route);
            if !self.running().iter().any(concerns) {
                return;
            }
            ended.await;
        }
    }

    async fn claim_files_until(&self, shutdown: &CancellationToken) {
        let (mut queue_changed, mut gate_changed) = (self.shared.queue.changed(), self.shared.gate.changed());
        let mut complained = false;
        while !shutdown.is_cancelled() {
            // Interest is registered before the claim, so that no change is lost between the claim and the wait.
            queue_changed.mark_unchanged();
            gate_changed.mark_unchanged();
            let claimable = self.claimable();
            let wait = match self.claim(&claimable).await {
                Ok(Claimed::Nothing) => self.until_next(&claimable).await,
                Ok(Claimed::Some | Claimed::Stale) => {
                    complained = false;
                    continue;
                }
                Err(error) => {
                    if !complained {
                        error!(%error, "cannot claim");
                        complained = true;
                    }
                    time::sleep(LOOK_EVERY).await;
                    continue;
                }
            };
            tokio::select! {
                // With no free slot, a closed gate or a paused route new entries do not matter: uploads into a closed
                // gate are not slowed by claims.
                _ = queue_changed.changed(), if !claimable.asks.is_empty() => {}
                _ = gate_changed.changed() => {}
                () = self.shared.freed.notified() => {}
                () = time::sleep(wait) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Chooses the routes that files may be claimed for now, with the number of free slots of each.
    /// The gate gives a permit for each, which is asked again at the hand-over.
    fn claimable(&self) -> Claimable {
        // The epoch before the gate is asked: if it changes meanwhile, the claim is stale and is
        // not made.
        let mut claimable = Claimable { epoch: self.shared.gate.epoch(), ..Claimable::default() };
        if self.shared.claim_blocks.load(Ordering::SeqCst) > 0 {
            return claimable;
        }
        let elapsed = self.shared.clock.elapsed();
        for (name, runner) in &self.runners {
            let pause = runner.pause.lock();
            let slots = pause.slots(runner.free_slots(), elapsed);
            let probe_in = pause.probe_at().map(|at| at.saturating_sub(elapsed));
            drop(pause);
            if slots == 0 {
                claimable.probe_in = [claimable.probe_in, probe_in].into_iter().flatten().min();
                continue;
            }
            match self.shared.gate.admit(name) {
                Ok(permit) => {
                    let window_ms = millis(runner.route.options.duplicate_window);
                    let options = &runner.route.options;
                    let per_partner = options.per_partner.unwrap_or(0);
                    let ask = RouteRequest { name: name.clone(), slots, order: options.order, per_partner };
                    claimable.asks.entry(window_ms).or_default().push(ask);
                    claimable.permits.insert(name.clone(), permit);
                }
                Err(closure) => claimable.opens_at = [claimable.opens_at, closure.until].into_iter().flatten().min(),
            }
        }
        claimable
    }

    /// Claims files and starts a worker for each.
    async fn claim(&self, claimable: &Claimable) -> Result<Claimed, QueueError> {
        let mut claimed = Claimed::Nothing;
        for (window_ms, routes) in &claimable.asks {
            let ask = ClaimRequest {
                limit: routes.iter().map(|route| route.slots).sum(),
                routes: routes.clone(),
                lease_ms: millis(self.shared.options.lease),
                duplicate_window_ms: *window_ms,
                per_partner: self.shared.options.per_partner,
            };
            let now = self.shared.clock.now();
            // Another claim, or a machine that stood still, may have let time pass since the routes were chosen.
            let closing = claimable.permits.values().filter_map(Permit::closes_at).min();
            if closing.is_some_and(|closing| closing <= now) || self.shared.gate.epoch() != claimable.epoch {
                return Ok(Claimed::Stale);
            }
            let claims = self.shared.queue.claim(ask, now).await?;
            for claim in claims {
                claimed = Claimed::Some;
                self.start(claim, claimable);
            }
        }
        Ok(claimed)
    }

    /// Starts a worker for a claim.
    fn start(&self, claim: Claim, claimable: &Claimable) {
        let route = claim.entry.route.clone().unwrap_or_default();
        let (Some(runner), Some(permit)) = (self.runners.get(&route), claimable.permits.get(&route)) else {
            // The lease runs out by itself; nothing was handed over.
            error!(file.id = %claim.entry.id, route, "claimed for a route that was not asked for");
            return;
        };
        // Before the task is spawned: the next round must not count this slot as free.
        let concurrency = ConcurrencyPermit::acquire(runner);
        let probe = runner.pause.lock().claimed();
        let ticket = self.table.enter(&claim, &route, self.shared.clock.now());
        let worker = Worker {
            shared: Arc::clone(&self.shared),
            runner: Arc::clone(runner),
            concurrency,
            ticket,
            claim,
            permit: permit.clone(),
            probe,
        };
        tokio::spawn(worker.run());
    }

    /// The time until something can be claimed, if nothing else changes.
    async fn until_next(&self, claimable: &Claimable) -> Duration {
        let now = self.shared.clock.now();
        let due_at = match claimable.asks.is_empty() {
            true => None,
            false => self.shared.queue.next_due(now).await.ok().flatten(),
        };
        let instants = [due_at, claimable.opens_at].into_iter().flatten();
        let waits = instants.map(|at| (at - now).to_std().unwrap_or(Duration::ZERO)).chain(claimable.probe_in);
        // An entry that is due but was not claimed waits for something else, which is notified: poll as usual.
        waits.filter(|wait| !wait.is_zero()).fold(LOOK_EVERY, Duration::min)
    }

    /// Stops running attempts when the gate closes, unless it lets them finish. Looks often,
    /// because a window closes by the clock and notifies nobody.
    async fn stop_what_the_gate_closes(&self, shutdown: &CancellationToken) {
        let mut gate_changed = self.shared.gate.changed();
        while !shutdown.is_cancelled() {
            gate_changed.mark_unchanged();
            self.stop_closed();
            tokio::select! {
                _ = gate_changed.changed() => {}
                () = time::sleep(CLOSE_LOOK_EVERY) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    fn stop_closed(&self) {
        for route in self.table.routes() {
            let Some(closure) = self.shared.gate.must_stop(&route) else { continue };
            let stopped = self.table.stop_where(|name| name == route, &format!("the gate closed: {}", closure.name));
            if stopped > 0 {
                info!(route, attempts = stopped, "the gate closed: running attempts are stopped");
            }
        }
    }

    /// Waits for running attempts, stops those that outlast the grace, and waits for these too, up to a bound.
    async fn drain(&self) {
        let grace = time::sleep(self.shared.options.shutdown_grace);
        tokio::pin!(grace);
        loop {
            tokio::select! {
                () = self.wait_idle(&[]) => return,
                // The gate holds while the server drains, too.
                () = time::sleep(CLOSE_LOOK_EVERY) => self.stop_closed(),
                () = &mut grace => break,
            }
        }
        info!(attempts = self.table.len(), "the server stops: running attempts are stopped");
        self.table.stop_where(|_| true, "the server stopped");
        self.shared.abandon.cancel();
        let bound = self.shared.options.kill_after + STUCK_AFTER;
        if time::timeout(bound, self.wait_idle(&[])).await.is_err() {
            let files: Vec<_> = self.running().into_iter().map(|running| running.id.to_string()).collect();
            warn!(?files, "these attempts do not end and are recovered at the next start");
        }
    }
}

fn processor(dependencies: &Dependencies, route: &Route) -> Arc<dyn Processor> {
    let sink = sink(dependencies, route);
    match &route.options.messages {
        None => Arc::new(WholeFiles::new(sink)),
        Some(messages) => Arc::new(MessageByMessage {
            sink,
            contents: dependencies.contents.clone(),
            queue: Arc::clone(&dependencies.queue),
            clock: Arc::clone(&dependencies.clock),
            options: messages.clone(),
            retry: route.options.retry,
            pause_after: dependencies.options.pause_after,
        }),
    }
}

fn sink(dependencies: &Dependencies, route: &Route) -> Arc<dyn Sink> {
    let options = &route.options;
    match options.processor {
        ProcessorKind::Deliver => {
            let directory = options.directory.clone().unwrap_or_else(|| dependencies.data.join("delivered"));
            Arc::new(Deliver::new(directory, dependencies.contents.clone()))
        }
        ProcessorKind::Exec => {
            let hidden = std::iter::once(&dependencies.data).chain(&dependencies.options.secrets).cloned();
            let common = Common {
                scratch: dependencies.data.join("scratch"),
                instance: dependencies.instance,
                kill_after: dependencies.options.kill_after,
                hidden: hidden.collect(),
            };
            let (contents, queue) = (dependencies.contents.clone(), Arc::clone(&dependencies.queue));
            Arc::new(Exec::new(options, contents, queue, Arc::clone(&dependencies.clock), common))
        }
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
