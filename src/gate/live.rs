//! The live gate.
//!
//! Four parts, each with its own lock: the *ledger* (what operators and the schedule's file have
//! decided, and where it is stored), the *snapshot* (an unchanging copy of that, by which decisions
//! are made), the *anchor* (how far the wall clock is believed), and the *turnstile* (hand-overs
//! that are beginning). A change is made to the ledger and then published as a new snapshot.
//!
//! # Guarantees
//! - Every decision uses the clock, the schedule and the overrides as they are at that moment.
//! - [`Gate::pass`] decides under the lock that closing takes: when [`Gate::close`] has returned,
//!   no hand-over that it forbids can begin any more.
//! - An override is on stable storage when the call that makes it returns `Ok`.
//!
//! # After a crash
//! Overrides and the last good schedule are found again; the epoch goes on rising.

use std::{io, path::Path, path::PathBuf, sync::Arc, time::SystemTime};

use chrono::{DateTime, TimeDelta, Utc};
use chrono_tz::Tz;
use notify::RecommendedWatcher;
use parking_lot::{Mutex, RwLock};
use tokio::sync::watch;
use tracing::{debug, info, warn};

use super::{
    AtClose, Fault, Options,
    clock_trust::{Pulse, distrust},
    overrides::Override,
    schedule::Schedule,
    settled::{Anchor, Change},
    snapshot::Snapshot,
    source::Source,
    state::{Cause, Closure, Scope, State},
    store::{Memory, Store},
    turnstile::{Passage, Permit, Turnstile},
    watch as file_watch,
};
use crate::{clock::Clock, units};

/// A failure of an action on the gate.
#[derive(Debug, thiserror::Error)]
pub enum GateError {
    /// The file system refused.
    #[error("cannot {what} {path}: {source}")]
    Io {
        /// The action that failed, such as `write`.
        what: &'static str,
        /// The file or directory.
        path: PathBuf,
        /// The error of the system.
        source: io::Error,
    },
    /// The gate is closed, and that could not be stored.
    #[error("the gate is closed, but not beyond a restart of the server: {0}; remedy that, and close it once more")]
    NotKept(#[source] Box<GateError>),
    /// A file of stored overrides or schedules cannot be read. It may have held the override that keeps the gate
    /// closed.
    #[error(
        "the gate's memory {path} is damaged: {reason}; repair it, or remove it and close the gate anew if need be"
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// The damage that was found.
        reason: String,
    },
    /// A newer Forebay has written it.
    #[error("the gate's memory {path} has version {version}, which is newer than this program")]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its version.
        version: u64,
    },
    /// There is nothing to open or to extend.
    #[error("nothing is closed now")]
    NothingClosed,
    /// There is no override of this id.
    #[error("there is no override {0}")]
    NoSuchOverride(u64),
    /// The end is not after now, or not after the end that is to be extended.
    #[error("{until} is not after {than}")]
    TooEarly {
        /// The requested end.
        until: DateTime<Utc>,
        /// The instant that the end must be after.
        than: DateTime<Utc>,
    },
    /// The present closure has no end that could be moved.
    #[error("the gate is closed until an operator acts; there is no end to extend")]
    NoEnd,
    /// A reason is missing, or a text for people is empty or has control characters.
    #[error("{0}")]
    Words(&'static str),
}

/// Decides whether claims and hand-overs may begin. Shared in an [`Arc`].
///
/// Lock order: ledger, then anchor or snapshot; turnstile, then snapshot or anchor. Nobody waits at
/// the turnstile with the ledger locked: a hand-over may take its time, and `tick` and other
/// operators must go on meanwhile.
pub struct Gate {
    pub(super) options: Options,
    pub(super) clock: Arc<dyn Clock>,
    snapshot: RwLock<Arc<Snapshot>>,
    pub(super) turnstile: Turnstile,
    pub(super) ledger: Mutex<Ledger>,
    /// By which jumps of the wall clock are told, at every decision. Changed under the ledger's lock.
    anchor: RwLock<Option<Anchor>>,
    /// The epoch of the snapshot in force; sent after the snapshot was replaced.
    changed: watch::Sender<u64>,
    _watcher: Mutex<Option<RecommendedWatcher>>,
}

/// The state that changes are made to, one at a time.
/// Whoever holds its lock makes the only change. Decisions never need it.
pub(super) struct Ledger {
    pub(super) memory: Memory,
    pub(super) store: Store,
    pub(super) source: Source,
    /// The time of the journal's newest record, while the clock is behind it and nobody has
    /// confirmed that.
    pub(super) untrusted: Option<DateTime<Utc>>,
    /// The time of the journal's newest record at the start.
    pub(super) newest: Option<DateTime<Utc>>,
    pulse: Pulse,
    /// The anchor that the next start finds.
    kept_anchor: Option<Anchor>,
}

impl std::fmt::Debug for Gate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Gate").field("epoch", &self.epoch()).finish_non_exhaustive()
    }
}

impl Gate {
    /// Opens the gate's memory in `dir` (made if missing), reads the schedule and begins to watch its file.
    ///
    /// `newest_journal` is the time of the journal's newest record, by which the clock is judged.
    ///
    /// # Errors
    /// When the memory cannot be read or written. A broken schedule is no error: it is a state of the gate.
    pub fn open(
        dir: &Path,
        options: Options,
        clock: Arc<dyn Clock>,
        newest_journal: Option<DateTime<Utc>>,
    ) -> Result<Arc<Self>, GateError> {
        let store = Store::open(dir)?;
        let mut memory = store.read()?;
        // Each start has an epoch of its own, or a permit of the former run would look unchanged.
        memory.epoch += 1;
        // Stored before anything is decided by it. Its time also tells how the file system's clock
        // stands.
        let written = store.write(&memory).or_else(no_room)?;
        let pulse = Pulse::of(&*clock);
        let doubted = distrust(clock.now(), newest_journal);
        let untrusted = doubted.filter(|newest| memory.confirmed.is_none_or(|confirmed| *newest > confirmed));
        if let Some(newest) = untrusted {
            warn!(now = %clock.now(), %newest, "the clock is behind the journal: the gate stays closed until it catches up");
        }
        let source = Source::open(options.file.clone(), &store, &mut memory, &*clock, written)?;
        let kept_anchor = store.anchor();
        let anchor = Anchor::resume(kept_anchor.clone(), &*clock);
        let ledger = Ledger { memory, store, source, untrusted, newest: newest_journal, pulse, kept_anchor };
        let snapshot = RwLock::new(Arc::new(ledger.snapshot(&options)));
        let (changed, _) = watch::channel(ledger.memory.epoch);
        let gate = Arc::new(Self {
            options,
            clock,
            snapshot,
            turnstile: Turnstile::default(),
            ledger: Mutex::new(ledger),
            anchor: RwLock::new(anchor),
            changed,
            _watcher: Mutex::new(None),
        });
        *gate._watcher.lock() = file_watch::begin(&gate);
        // Changes between the first reading and the start of the watch are found now.
        gate.tick();
        Ok(gate)
    }

    /// The state of a scope now.
    pub fn state(&self, scope: &Scope) -> State {
        self.decide(&self.snapshot(), scope, self.clock.now())
    }

    /// Returns the state of a scope at this time of the wall clock, which must be now.
    ///
    /// If the clock has jumped, only what would be open without the jump as well is open. So a
    /// clock that is wrong can close too much, and never open too much.
    pub(super) fn decide(&self, snapshot: &Snapshot, scope: &Scope, now: DateTime<Utc>) -> State {
        let state = snapshot.state(scope, now);
        let believed = self.believed_at(now);
        let State::Open { closes_at } = state else { return state };
        if believed == now {
            return State::Open { closes_at };
        }
        let by = now - believed;
        match snapshot.state(scope, believed) {
            State::Open { closes_at: other } => {
                // The earlier of both closings, each in the time of the wall clock.
                let closes_at = closes_at.into_iter().chain(other.and_then(|at| at.checked_add_signed(by))).min();
                State::Open { closes_at }
            }
            State::Closed(closure) => State::Closed(self.unsettled(now, by, closure)),
        }
    }

    /// The closure of a scope that would be open if the clock's jump were believed.
    fn unsettled(&self, now: DateTime<Utc>, by: TimeDelta, closure: Closure) -> Closure {
        let settles_in = self.anchor.read().as_ref().map(|one| one.settles_in(&*self.clock, self.options.clock_settle));
        let settles_at = now + settles_in.and_then(|left| TimeDelta::from_std(left).ok()).unwrap_or_default();
        let ends_at = closure.until.and_then(|until| until.checked_add_signed(by));
        Closure {
            until: Some(ends_at.map_or(settles_at, |ends| ends.min(settles_at))),
            since: None,
            name: "The clock has jumped".to_owned(),
            reason: format!("the clock was set {}, which is not confirmed, and was within {}", words(by), closure.name),
            message: closure.message,
            cause: Cause::UnsettledClock,
        }
    }

    /// The time that is believed: the wall clock's, or, while that has jumped and nobody confirmed it, what it would be
    /// without the jump.
    pub fn believed(&self) -> DateTime<Utc> {
        self.believed_at(self.clock.now())
    }

    fn believed_at(&self, now: DateTime<Utc>) -> DateTime<Utc> {
        if self.options.clock_settle.is_zero() {
            return now;
        }
        self.anchor.read().as_ref().map_or(now, |anchor| anchor.believed(now, &*self.clock))
    }

    /// By how much the wall clock has jumped, while that is not believed, and when it will be.
    pub(super) fn doubted(&self) -> Option<(TimeDelta, DateTime<Utc>)> {
        let now = self.clock.now();
        let believed = self.believed_at(now);
        let anchor = self.anchor.read();
        let left = anchor.as_ref()?.settles_in(&*self.clock, self.options.clock_settle);
        (believed != now).then(|| (now - believed, now + TimeDelta::from_std(left).unwrap_or_default()))
    }

    /// Believes the wall clock as it is.
    pub(super) fn believe(&self, ledger: &mut Ledger) {
        let anchor = Anchor::of(&*self.clock);
        anchor.clone_into(&mut self.anchor.write());
        ledger.keep(anchor.as_ref());
    }

    /// Looks whether the wall clock has jumped against the time since boot, and returns true if that changes anything.
    fn watch_clock(&self, ledger: &mut Ledger) -> bool {
        let mut guard = self.anchor.write();
        let Some(anchor) = guard.as_mut() else { return false };
        let change = anchor.look(&*self.clock, self.options.clock_settle);
        let anchor = anchor.clone();
        drop(guard);
        ledger.keep(Some(&anchor));
        match change {
            Some(Change::Doubted(by)) => warn!(
                "the clock was set {}: it opens nothing until it has stood for {}, unless `forebay gate confirm-clock` \
                 confirms it; what it closes is closed",
                words(by),
                units::format_duration(self.options.clock_settle)
            ),
            Some(Change::Believed) => info!("the clock that was set is believed from now on"),
            Some(Change::Undone) => info!("the clock was set back to where it was before it jumped"),
            None => {}
        }
        change.is_some()
    }

    /// Asks to claim an entry of a route.
    ///
    /// This decides about the claim alone. Between claim and hand-over the gate may close;
    /// [`Gate::pass`] asks again.
    ///
    /// # Errors
    /// The closure, when the route is closed.
    pub fn admit(&self, route: &str) -> Result<Permit, Closure> {
        let snapshot = self.snapshot();
        let at = self.clock.now();
        match self.decide(&snapshot, &Scope::Route(route.to_owned()), at) {
            State::Closed(closure) => Err(closure),
            State::Open { closes_at } => Ok(Permit { route: route.to_owned(), epoch: snapshot.epoch, at, closes_at }),
        }
    }

    /// Asks to begin the hand-over of what was claimed. Drop the passage as soon as it has begun.
    ///
    /// Blocks only while another hand-over is being decided.
    ///
    /// # Errors
    /// The closure, when the route has been closed since.
    pub fn pass(&self, permit: &Permit) -> Result<Passage<'_>, Closure> {
        self.turnstile.pass(|| {
            let snapshot = self.snapshot();
            let now = self.clock.now();
            // The cheap case: nothing has changed, and the clock has not been set back. Then the
            // answer of the claim holds until the closing that was known then.
            let unchanged = snapshot.epoch == permit.epoch && permit.at <= now;
            if unchanged && permit.closes_at.is_some_and(|closes_at| now < closes_at) {
                return (snapshot.epoch, Ok(()));
            }
            match self.decide(&snapshot, &Scope::Route(permit.route.clone()), now) {
                State::Closed(closure) => (snapshot.epoch, Err(closure)),
                State::Open { .. } => (snapshot.epoch, Ok(())),
            }
        })
    }

    /// The fate of running attempts when the gate closes.
    pub fn at_close(&self) -> AtClose {
        self.options.at_close
    }

    /// Returns the closure for which running attempts of this route must be stopped now: the route is closed, not only
    /// drained, and `at_close` does not let them finish.
    pub fn must_stop(&self, route: &str) -> Option<Closure> {
        if self.options.at_close == AtClose::Finish {
            return None;
        }
        let now = self.clock.now();
        match self.decide(&self.snapshot(), &Scope::Route(route.to_owned()), now) {
            State::Open { .. } => None,
            State::Closed(closure) => {
                let draining = closure.cause == Cause::Window
                    && closure.since.is_some_and(|since| now < since + self.options.drain);
                (!draining).then_some(closure)
            }
        }
    }

    /// Rises with every change of the schedule, the overrides and the trust in the clock.
    pub fn epoch(&self) -> u64 {
        self.snapshot().epoch
    }

    /// Wakes on every change of the epoch; also when the clock has jumped.
    pub fn changed(&self) -> watch::Receiver<u64> {
        self.changed.subscribe()
    }

    /// The zone of the schedule; UTC when there is none.
    pub fn zone(&self) -> Tz {
        self.snapshot().schedule.zone
    }

    /// A time for people: `22:00 CDT`, with the date when it is not today.
    pub fn local(&self, at: DateTime<Utc>) -> String {
        super::notices::local(self.zone(), at, self.clock.now())
    }

    /// The operators' overrides that are not over.
    pub fn overrides(&self) -> Vec<Override> {
        let now = self.clock.now();
        self.snapshot().overrides.iter().filter(|one| one.lasts(now)).cloned().collect()
    }

    /// To be called every second: notices jumps of the clock, trust in it regained, and changes of the schedule's file.
    /// Takes the ledger, and reads one file's metadata.
    pub fn tick(&self) {
        let ledger = &mut *self.ledger.lock();
        let now = self.clock.now();
        let mut changed = false;
        if let Some(jump) = ledger.pulse.beat(&*self.clock) {
            warn!(seconds = jump.num_seconds(), %now, "the wall clock has jumped");
            changed = true;
        }
        if ledger.untrusted.is_some_and(|newest| newest <= now) {
            info!(%now, "the clock has caught up with the journal and is trusted");
            ledger.untrusted = None;
            changed = true;
        }
        changed |= self.watch_clock(ledger);
        changed |= ledger.look(&*self.clock, false);
        if changed {
            self.publish(ledger);
        }
    }

    /// Reads the schedule's file now. What it closes is closed at once; what it opens waits until the file has stood
    /// still for two seconds.
    ///
    /// # Errors
    /// The faults of the file; the last good schedule then stays in force.
    pub fn reload(&self) -> Result<(), Vec<Fault>> {
        let ledger = &mut *self.ledger.lock();
        if ledger.look(&*self.clock, true) {
            self.publish(ledger);
        }
        ledger.source.faults().map_or(Ok(()), |faults| Err(faults.to_vec()))
    }

    /// Puts changes in force and notifies the subscribers. The caller stores them.
    ///
    /// Returns the new epoch. A caller that closes waits with it at the turnstile, after it has
    /// given up the ledger.
    pub(super) fn publish(&self, ledger: &mut Ledger) -> u64 {
        ledger.memory.epoch += 1;
        let epoch = ledger.memory.epoch;
        // The snapshot before the news of it: a subscriber that wakes must find the new state.
        *self.snapshot.write() = Arc::new(ledger.snapshot(&self.options));
        self.changed.send_replace(epoch);
        epoch
    }

    pub(super) fn snapshot(&self) -> Arc<Snapshot> {
        Arc::clone(&self.snapshot.read())
    }
}

/// A full disk keeps nobody from starting: what is stored already stays in force.
fn no_room(error: GateError) -> Result<Option<SystemTime>, GateError> {
    match &error {
        GateError::Io { source, .. } if is_full(source) => {
            warn!(%error, "the gate's state is not stored at this start");
            Ok(None)
        }
        _ => Err(error),
    }
}

/// Returns true if a file system has no room, no inode or no quota left.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

impl Ledger {
    fn snapshot(&self, options: &Options) -> Snapshot {
        let mut schedule: Schedule = self.source.in_force();
        schedule.drain = options.drain;
        let broken = self.source.closed_since();
        let overrides = self.memory.overrides.clone();
        Snapshot::new(self.memory.epoch, Arc::new(schedule), broken, self.untrusted, overrides)
    }

    /// Keeps the anchor for the next start, if that would be misled by the one it finds.
    fn keep(&mut self, anchor: Option<&Anchor>) {
        let Some(anchor) = anchor.filter(|anchor| anchor.differs_from(self.kept_anchor.as_ref())) else { return };
        match self.store.keep_anchor(anchor) {
            Ok(()) => self.kept_anchor = Some(anchor.clone()),
            // The next start believes its clock, as on a machine that was started anew.
            Err(error) => debug!(%error, "cannot note how the clock stands"),
        }
    }

    /// Checks the schedule's file, and returns true if what is in force changed.
    fn look(&mut self, clock: &dyn Clock, anyway: bool) -> bool {
        self.source.look(&self.store, &mut self.memory, clock, anyway)
    }
}

/// By how much a clock was set, in words: `2h forward`.
pub(super) fn words(by: TimeDelta) -> String {
    let whole = std::time::Duration::from_secs(by.num_seconds().unsigned_abs());
    format!("{} {}", units::format_duration(whole), if by < TimeDelta::zero() { "back" } else { "forward" })
}
