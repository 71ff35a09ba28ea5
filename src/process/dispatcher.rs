//! Decides what is claimed next.
//!
//! It wakes when the queue or the gate changes, when a processor becomes free, when something falls due and when a
//! closure ends, with a look every second behind all of them. For each route that has room, whose backend is up and
//! whose gate is open it asks the queue for files, and gives each to a worker of its own.

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
use forebay_queue::{Claim, ClaimAsk, QueueError, QueueStore, RouteAsk};
use forebay_storage::Storage;
use parking_lot::Mutex;
use tokio::{sync::Notify, time};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};
use uuid::Uuid;

use super::{Deliver, Exec, Options, Paused, Processor, Running, pause::Pause, running::Table, worker::Worker};
use crate::{
    clock::Clock,
    gate::{Gate, Permit},
    routes::{ProcessorKind, Route, Routes},
};

/// Behind all wakes: no missed one, nor a clock that jumped, is noticed later than this.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How soon attempts that run are stopped after the gate has closed by the clock.
const CLOSE_LOOK_EVERY: Duration = Duration::from_millis(200);

/// A stopping server waits no longer than this for attempts that should have been killed by then, such as those in a
/// file system that hangs.
const STUCK_AFTER: Duration = Duration::from_secs(5);

/// What a dispatcher is made of.
pub struct Parts {
    /// What is to be done.
    pub queue: Arc<dyn QueueStore>,
    /// Where the bytes are.
    pub storage: Arc<dyn Storage>,
    /// Whether it may be done now.
    pub gate: Arc<Gate>,
    /// By whom.
    pub routes: Arc<Routes>,
    /// The time.
    pub clock: Arc<dyn Clock>,
    /// The data directory, for `scratch/` and the default of `deliver`.
    pub data: PathBuf,
    /// Marks the programs that are started: see [`instance_of`](super::instance_of).
    pub instance: Uuid,
    /// As configured.
    pub options: Options,
}

/// Claims files and has them processed.
pub struct Dispatcher {
    shared: Arc<Shared>,
    lines: BTreeMap<String, Arc<Line>>,
    table: Arc<Table>,
}

/// What workers need too.
pub(super) struct Shared {
    pub(super) queue: Arc<dyn QueueStore>,
    pub(super) gate: Arc<Gate>,
    pub(super) clock: Arc<dyn Clock>,
    pub(super) options: Options,
    /// A processor has become free.
    pub(super) freed: Notify,
    /// An attempt is over, with its outcome.
    pub(super) ended: Notify,
    /// The server stops and waits no longer for outcomes that cannot be kept.
    pub(super) abandon: CancellationToken,
    blocks: Arc<AtomicUsize>,
}

/// An outcome that is not durable. While there is one, nothing is claimed.
pub(super) struct Block(Arc<AtomicUsize>);

impl Drop for Block {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    pub(super) fn block(&self) -> Block {
        self.blocks.fetch_add(1, Ordering::SeqCst);
        Block(Arc::clone(&self.blocks))
    }
}

/// A route with its processor and what it does now.
pub(super) struct Line {
    pub(super) route: Route,
    pub(super) processor: Arc<dyn Processor>,
    pub(super) pause: Mutex<Pause>,
    busy: AtomicUsize,
}

impl Line {
    fn free(&self) -> usize {
        self.route.options.concurrency.saturating_sub(self.busy.load(Ordering::SeqCst))
    }
}

/// One of the attempts that a route may have at once, free again however its worker ends.
pub(super) struct Seat(Arc<Line>);

impl Seat {
    fn take(line: &Arc<Line>) -> Self {
        line.busy.fetch_add(1, Ordering::SeqCst);
        Self(Arc::clone(line))
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        self.0.busy.fetch_sub(1, Ordering::SeqCst);
    }
}

/// What one look at the routes found.
#[derive(Default)]
struct Look {
    /// What to ask for, by duplicate window.
    asks: BTreeMap<u64, Vec<RouteAsk>>,
    permits: BTreeMap<String, Permit>,
    /// The gate's epoch before it was asked.
    epoch: u64,
    /// When a closed route opens.
    opens_at: Option<DateTime<Utc>>,
    /// How long until a paused route may be probed.
    probe_in: Option<Duration>,
}

/// What came of a look.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Took {
    /// Files; there may be more.
    Some,
    /// Nothing that may be claimed is there.
    Nothing,
    /// The gate may have turned since the look: look again.
    Stale,
}

impl Dispatcher {
    /// A dispatcher with the processors that the routes name.
    #[must_use]
    pub fn new(parts: Parts) -> Arc<Self> {
        let processors = parts.routes.iter().map(|route| (route.name().to_owned(), processor(&parts, route))).collect();
        Self::with_processors(parts, processors)
    }

    /// A dispatcher with other processors, by the route's name; a route without one is not served.
    #[must_use]
    pub fn with_processors(parts: Parts, mut processors: BTreeMap<String, Arc<dyn Processor>>) -> Arc<Self> {
        let mut lines = BTreeMap::new();
        for route in parts.routes.iter() {
            let Some(processor) = processors.remove(route.name()) else { continue };
            let pause = Mutex::new(Pause::new(&parts.options));
            let line = Line { route: route.clone(), processor, pause, busy: AtomicUsize::new(0) };
            lines.insert(route.name().to_owned(), Arc::new(line));
        }
        let shared = Shared {
            queue: parts.queue,
            gate: parts.gate,
            clock: parts.clock,
            options: parts.options,
            freed: Notify::new(),
            ended: Notify::new(),
            abandon: CancellationToken::new(),
            blocks: Arc::default(),
        };
        Arc::new(Self { shared: Arc::new(shared), lines, table: Arc::default() })
    }

    /// Works until `shutdown`, then lets what runs end: after a grace it is stopped, and not counted.
    pub async fn run(&self, shutdown: CancellationToken) {
        tokio::join!(self.claim_until(&shutdown), self.stop_what_the_gate_closes(&shutdown));
        self.drain().await;
    }

    /// Routes that are paused since their backend is down.
    #[must_use]
    pub fn paused(&self) -> Vec<Paused> {
        let (now, elapsed) = (self.shared.clock.now(), self.shared.clock.elapsed());
        self.lines.iter().filter_map(|(name, line)| line.pause.lock().show(name, now, elapsed)).collect()
    }

    /// Attempts that run now, oldest first.
    #[must_use]
    pub fn running(&self) -> Vec<Running> {
        self.table.list()
    }

    /// Waits until nothing of these routes runs any more (none given: of any). Cancel safe.
    pub async fn wait_idle(&self, routes: &[String]) {
        loop {
            let ended = self.shared.ended.notified();
            let concerns = |running: &Running| routes.is_empty() || routes.contains(&running.route);
            if !self.running().iter().any(concerns) {
                return;
            }
            ended.await;
        }
    }

    async fn claim_until(&self, shutdown: &CancellationToken) {
        let (mut queue_changed, mut gate_changed) = (self.shared.queue.changed(), self.shared.gate.changed());
        let mut complained = false;
        while !shutdown.is_cancelled() {
            // Interest is registered before the look, so that no change falls between the look and the wait.
            queue_changed.mark_unchanged();
            gate_changed.mark_unchanged();
            let look = self.look();
            let wait = match self.claim(&look).await {
                Ok(Took::Nothing) => self.until_next(&look).await,
                Ok(Took::Some | Took::Stale) => {
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
                // With no room, a closed gate or a paused route it does not matter what comes in: whoever uploads into
                // a closed gate is not slowed by our looking.
                _ = queue_changed.changed(), if !look.asks.is_empty() => {}
                _ = gate_changed.changed() => {}
                () = self.shared.freed.notified() => {}
                () = time::sleep(wait) => {}
                () = shutdown.cancelled() => {}
            }
        }
    }

    /// Which routes may be claimed for, and how many files each.
    fn look(&self) -> Look {
        let mut look = Look { epoch: self.shared.gate.epoch(), ..Look::default() };
        if self.shared.blocks.load(Ordering::SeqCst) > 0 {
            return look;
        }
        let elapsed = self.shared.clock.elapsed();
        for (name, line) in &self.lines {
            let pause = line.pause.lock();
            let slots = pause.slots(line.free(), elapsed);
            let probe_in = pause.probe_at().map(|at| at.saturating_sub(elapsed));
            drop(pause);
            if slots == 0 {
                look.probe_in = [look.probe_in, probe_in].into_iter().flatten().min();
                continue;
            }
            match self.shared.gate.admit(name) {
                Ok(permit) => {
                    let window_ms = millis(line.route.options.duplicate_window);
                    let options = &line.route.options;
                    let per_partner = options.per_partner.unwrap_or(0);
                    let ask = RouteAsk { name: name.clone(), slots, order: options.order, per_partner };
                    look.asks.entry(window_ms).or_default().push(ask);
                    look.permits.insert(name.clone(), permit);
                }
                Err(closure) => look.opens_at = [look.opens_at, closure.until].into_iter().flatten().min(),
            }
        }
        look
    }

    /// Claims, and starts the workers.
    async fn claim(&self, look: &Look) -> Result<Took, QueueError> {
        let mut took = Took::Nothing;
        for (window_ms, routes) in &look.asks {
            let ask = ClaimAsk {
                limit: routes.iter().map(|route| route.slots).sum(),
                routes: routes.clone(),
                lease_ms: millis(self.shared.options.lease),
                duplicate_window_ms: *window_ms,
                per_partner: self.shared.options.per_partner,
            };
            let now = self.shared.clock.now();
            // Another claim, or a machine that stood still, may have let time pass since the look.
            let closing = look.permits.values().filter_map(Permit::closes_at).min();
            if closing.is_some_and(|closing| closing <= now) || self.shared.gate.epoch() != look.epoch {
                return Ok(Took::Stale);
            }
            let claims = self.shared.queue.claim(ask, now).await?;
            for claim in claims {
                took = Took::Some;
                self.start(claim, look);
            }
        }
        Ok(took)
    }

    fn start(&self, claim: Claim, look: &Look) {
        let route = claim.entry.route.clone().unwrap_or_default();
        let (Some(line), Some(permit)) = (self.lines.get(&route), look.permits.get(&route)) else {
            // The lease runs out by itself; nothing was handed over.
            error!(file.id = %claim.entry.id, route, "claimed for a route that was not asked for");
            return;
        };
        let seat = Seat::take(line);
        let probe = line.pause.lock().claimed();
        let ticket = self.table.enter(&claim, &route, self.shared.clock.now());
        let worker = Worker {
            shared: Arc::clone(&self.shared),
            line: Arc::clone(line),
            seat,
            ticket,
            claim,
            permit: permit.clone(),
            probe,
        };
        tokio::spawn(worker.run());
    }

    /// How long nothing can be claimed unless something changes.
    async fn until_next(&self, look: &Look) -> Duration {
        let now = self.shared.clock.now();
        let due_at = match look.asks.is_empty() {
            true => None,
            false => self.shared.queue.next_due(now).await.ok().flatten(),
        };
        let instants = [due_at, look.opens_at].into_iter().flatten();
        let waits = instants.map(|at| (at - now).to_std().unwrap_or(Duration::ZERO)).chain(look.probe_in);
        // What is due already and was not claimed waits for something else: no haste.
        waits.filter(|wait| !wait.is_zero()).fold(LOOK_EVERY, Duration::min)
    }

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

    /// Nothing is claimed any more. What runs may end in its own time for a while, and is stopped then.
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
            warn!(?files, "these attempts do not end: the next start puts them in order");
        }
    }
}

fn processor(parts: &Parts, route: &Route) -> Arc<dyn Processor> {
    let options = &route.options;
    match options.processor {
        ProcessorKind::Deliver => {
            let directory = options.directory.clone().unwrap_or_else(|| parts.data.join("delivered"));
            Arc::new(Deliver::new(directory, options.link, Arc::clone(&parts.storage)))
        }
        ProcessorKind::Exec => Arc::new(Exec::new(
            options,
            Arc::clone(&parts.storage),
            Arc::clone(&parts.queue),
            Arc::clone(&parts.clock),
            parts.data.join("scratch"),
            parts.instance,
            parts.options.kill_after,
        )),
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
