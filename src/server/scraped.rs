//! Puts together what a monitoring system is told: the counts, and what is there now.
//!
//! # Guarantees
//! An answer takes a second and a little at most, whatever disk, index and schedule's file do. What they are asked is asked
//! once a second at most, by one at a time, however many ask here; where they do not answer, what is known is told, and
//! how old it is. Nobody who sends a file waits for any of it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use forebay_queue::QueueStore;
use forebay_storage::{Space, Storage};
use parking_lot::Mutex;
use tokio::{sync::watch, task::spawn_blocking, time::timeout};
use tracing::error;

use super::services::Services;
use crate::{
    clock::Clock,
    doors::web::Scrape,
    gate::{Cause, Gate, Scope, State},
    metrics::{Disk, Format, GateScope, Metrics, Queue, Seen, StateCount, exposition},
    routes::Routes,
    telemetry,
};

/// What is younger is not asked for again.
const FRESH: Duration = Duration::from_secs(1);
/// So long it is waited for.
const PATIENCE: Duration = Duration::from_secs(1);
/// Who has not answered for so long does not respond.
const STALE: Duration = Duration::from_secs(10);

/// All that the figures are read from.
pub(super) struct Scraped {
    metrics: Arc<Metrics>,
    storage: Arc<dyn Storage>,
    queue: Arc<dyn QueueStore>,
    gate: Arc<Gate>,
    routes: Arc<Routes>,
    clock: Arc<dyn Clock>,
    started_at: DateTime<Utc>,
    waiting: Arc<Asked<Waiting>>,
    ground: Arc<Asked<Ground>>,
    /// Held while an answer is written: many who ask together take one processor at most.
    turn: Mutex<()>,
}

/// What the index says.
#[derive(Clone, Debug)]
enum Waiting {
    /// When the oldest file was received that waits, if one does.
    Oldest(Option<DateTime<Utc>>),
    /// It cannot be read.
    Failed,
}

/// What the file systems say.
#[derive(Clone, Debug)]
struct Ground {
    space: Option<Space>,
    schedule_is_broken: Option<bool>,
}

impl Scraped {
    pub(super) fn new(services: &Services) -> Arc<Self> {
        Arc::new(Self {
            metrics: Arc::clone(&services.data_dir.metrics),
            storage: Arc::clone(&services.data_dir.storage),
            queue: Arc::clone(&services.data_dir.queue),
            gate: Arc::clone(&services.gate),
            routes: Arc::clone(&services.data_dir.routes),
            clock: Arc::clone(&services.clock),
            started_at: services.clock.now(),
            waiting: Arc::new(Asked::new(&services.clock)),
            ground: Arc::new(Asked::new(&services.clock)),
            turn: Mutex::default(),
        })
    }

    async fn waiting(&self) -> Option<Answered<Waiting>> {
        let (queue, now) = (Arc::clone(&self.queue), self.clock.now());
        let ask = async move {
            let stats = queue.stats(now).await;
            stats.map_or(Waiting::Failed, |stats| Waiting::Oldest(stats.oldest_waiting))
        };
        self.waiting.answer(ask).await
    }

    async fn ground(&self) -> Option<Answered<Ground>> {
        let (storage, gate) = (Arc::clone(&self.storage), Arc::clone(&self.gate));
        let look = move || Ground {
            space: storage.space().ok(),
            schedule_is_broken: Some(gate.schedule_state().refused_since.is_some()),
        };
        let ask = async move {
            let unknown = |_| Ground { space: None, schedule_is_broken: None };
            spawn_blocking(look).await.unwrap_or_else(unknown)
        };
        self.ground.answer(ask).await
    }

    async fn seen(&self) -> Seen {
        let (waiting, ground) = tokio::join!(self.waiting(), self.ground());
        let ages = [waiting.as_ref().map(|one| one.age), ground.as_ref().map(|one| one.age)];
        let space = ground.as_ref().and_then(|one| one.of.space);
        let has_room = space.is_some_and(|space| !space.is_short());
        let answers = ground.as_ref().is_some_and(|one| one.age < STALE);
        let is_sound = self.storage.poisoned().is_none() && self.queue.poisoned().is_none();
        Seen {
            version: env!("CARGO_PKG_VERSION"),
            started_at: seconds(self.started_at),
            is_ready: is_sound && answers && has_room,
            lost_log_lines: telemetry::log_state().lost_lines,
            queue: self.queue(waiting.as_ref()),
            gate: self.scopes(),
            schedule_is_broken: ground.and_then(|one| one.of.schedule_is_broken),
            disk: space.map(|space| disk(&space)),
            look_age: ages.into_iter().flatten().max(),
        }
    }

    fn queue(&self, waiting: Option<&Answered<Waiting>>) -> Queue {
        let totals = self.queue.totals().into_iter();
        let states =
            totals.map(|one| StateCount { state: one.state.as_str(), files: one.files, bytes: one.size_bytes });
        let oldest_waiting = match waiting.map(|one| &one.of) {
            Some(Waiting::Oldest(oldest)) => {
                Some(oldest.map_or(Duration::ZERO, |oldest| between(oldest, self.clock.now())))
            }
            Some(Waiting::Failed) | None => None,
        };
        let responds = waiting.is_some_and(|one| one.age < STALE && matches!(one.of, Waiting::Oldest(_)));
        Queue { states: states.collect(), oldest_waiting, responds: Some(responds) }
    }

    /// Routes as they are configured, and the web: overrides may name what is nowhere else.
    fn scopes(&self) -> Vec<GateScope> {
        let routes = self.routes.iter().map(|route| Scope::Route(route.name().to_owned()));
        routes.chain([Scope::Web]).map(|scope| self.scope(&scope)).collect()
    }

    fn scope(&self, scope: &Scope) -> GateScope {
        let state = self.gate.state(scope);
        let (changes_at, cause) = match &state {
            State::Open { closes_at } => (*closes_at, None),
            State::Closed(closure) => (closure.until, Some(cause(closure.cause))),
        };
        let causes = CAUSES.into_iter().map(|one| (one, cause == Some(one)));
        GateScope {
            scope: scope.name().to_owned(),
            is_open: state.is_open(),
            causes: causes.collect(),
            next_change: changes_at.map(|at| between(self.clock.now(), at)),
        }
    }
}

#[async_trait]
impl Scrape for Scraped {
    async fn scrape(&self, format: Format) -> String {
        let seen = self.seen().await;
        let _turn = self.turn.lock();
        exposition(&self.metrics, seen, format).unwrap_or_else(|error| {
            error!(%error, "the figures cannot be written");
            String::new()
        })
    }
}

const CAUSES: [&str; 5] = ["window", "override", "broken_schedule", "untrusted_clock", "unsettled_clock"];

fn cause(cause: Cause) -> &'static str {
    match cause {
        Cause::Window => CAUSES[0],
        Cause::Override(_) => CAUSES[1],
        Cause::BrokenSchedule => CAUSES[2],
        Cause::UntrustedClock => CAUSES[3],
        Cause::UnsettledClock => CAUSES[4],
    }
}

fn disk(space: &Space) -> Disk {
    let has_inodes = space.total_inodes > 0;
    Disk {
        free_bytes: space.free_bytes,
        total_bytes: space.total_bytes,
        reserve_bytes: space.reserve_bytes,
        free_inodes: has_inodes.then_some(space.free_inodes),
        reserve_inodes: has_inodes.then_some(space.reserve_inodes),
    }
}

/// The time from one instant to another; none of it if that is before.
fn between(from: DateTime<Utc>, to: DateTime<Utc>) -> Duration {
    (to - from).to_std().unwrap_or_default()
}

#[allow(clippy::cast_precision_loss, reason = "milliseconds since 1970 fit into a float")]
fn seconds(at: DateTime<Utc>) -> f64 {
    at.timestamp_millis() as f64 / 1_000.0
}

/// A question that may take its time: its latest answer, and whether it is being asked.
struct Asked<T> {
    clock: Arc<dyn Clock>,
    latest: watch::Sender<Option<(Duration, T)>>,
    is_under_way: AtomicBool,
}

/// An answer, and how old it is.
struct Answered<T> {
    of: T,
    age: Duration,
}

impl<T: Clone + Send + Sync + 'static> Asked<T> {
    fn new(clock: &Arc<dyn Clock>) -> Self {
        let (latest, _) = watch::channel(None);
        Self { clock: Arc::clone(clock), latest, is_under_way: AtomicBool::new(false) }
    }

    /// The latest answer, for which a second is waited if there is none that is fresh.
    async fn answer(self: &Arc<Self>, ask: impl Future<Output = T> + Send + 'static) -> Option<Answered<T>> {
        // Before the look at the latest: an answer that comes in between is not missed.
        let mut latest = self.latest.subscribe();
        if self.known().is_none_or(|known| known.age >= FRESH) {
            self.ask_unless_asked(ask);
            // What is known has to do then.
            let _ = timeout(PATIENCE, latest.changed()).await;
        }
        self.known()
    }

    /// Asks on a task of its own, which nobody ends: a question is not asked twice at once.
    fn ask_unless_asked(self: &Arc<Self>, ask: impl Future<Output = T> + Send + 'static) {
        if self.is_under_way.swap(true, Ordering::AcqRel) {
            return;
        }
        let own = Arc::clone(self);
        tokio::spawn(async move {
            let asking = UnderWay(own);
            let answer = ask.await;
            // As old as the question's end: it was true then.
            asking.0.latest.send_replace(Some((asking.0.clock.elapsed(), answer)));
        });
    }

    fn known(&self) -> Option<Answered<T>> {
        let (at, of) = self.latest.borrow().clone()?;
        Some(Answered { of, age: self.clock.elapsed().saturating_sub(at) })
    }
}

/// A question that is being asked, until it is dropped.
struct UnderWay<T>(Arc<Asked<T>>);

impl<T> Drop for UnderWay<T> {
    fn drop(&mut self) {
        self.0.is_under_way.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicU32;

    use tokio::sync::Notify;

    use super::*;
    use crate::clock::SystemClock;

    fn asked() -> Arc<Asked<u32>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock::new());
        Arc::new(Asked::new(&clock))
    }

    #[tokio::test]
    async fn a_fresh_answer_is_not_asked_for_again() {
        let (asked, times) = (asked(), Arc::new(AtomicU32::new(0)));
        for _ in 0..3 {
            let times = Arc::clone(&times);
            let answer = asked.answer(async move { times.fetch_add(1, Ordering::SeqCst) }).await.unwrap();
            assert_eq!(answer.of, 0);
        }
        assert_eq!(times.load(Ordering::SeqCst), 1);
    }

    #[tokio::test]
    async fn who_does_not_answer_is_asked_once_and_holds_nobody_up() {
        let (asked, times, answers) = (asked(), Arc::new(AtomicU32::new(0)), Arc::new(Notify::new()));
        for _ in 0..2 {
            let (times, answers) = (Arc::clone(&times), Arc::clone(&answers));
            let ask = async move {
                let asked = times.fetch_add(1, Ordering::SeqCst);
                answers.notified().await;
                asked
            };
            assert!(asked.answer(ask).await.is_none());
        }
        assert_eq!(times.load(Ordering::SeqCst), 1, "it is still being asked");
        answers.notify_one();
        assert_eq!(asked.answer(async { 7 }).await.unwrap().of, 0);
    }
}
