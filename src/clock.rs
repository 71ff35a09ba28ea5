//! Wall and monotonic time behind a trait. Nothing else asks the system for the time.

use std::{
    fmt::Debug,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

/// Where time comes from.
pub trait Clock: Send + Sync + Debug + 'static {
    /// The wall clock. It may jump either way.
    fn now(&self) -> DateTime<Utc>;

    /// Time since the clock was made. It never goes back, and stands still for no one.
    fn elapsed(&self) -> Duration;

    /// The time since this machine was started, sleep included, which nobody can set; none where that is not known.
    fn boot(&self) -> Option<Boot> {
        None
    }

    /// Whether the kernel says that the wall clock is synchronized with others.
    fn is_synchronized(&self) -> bool {
        false
    }
}

/// The time since a machine was started.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// Which start that was.
    pub id: Arc<str>,
    /// How long it is ago.
    pub elapsed: Duration,
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
    boot: Option<Arc<str>>,
}

impl SystemClock {
    /// The machine's clocks, from now on.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
    pub fn new() -> Self {
        let boot = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").ok();
        Self { began: Instant::now(), boot: boot.map(|id| id.trim().into()) }
    }
}

impl Default for SystemClock {
    fn default() -> Self {
        Self::new()
    }
}

impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }

    fn elapsed(&self) -> Duration {
        self.began.elapsed()
    }

    fn boot(&self) -> Option<Boot> {
        let id = Arc::clone(self.boot.as_ref()?);
        // BOOTTIME and not MONOTONIC: a machine that slept for an hour has an hour less of the
        // window before it.
        let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
        let (seconds, nanos) = (u64::try_from(now.tv_sec).ok()?, u32::try_from(now.tv_nsec).ok()?);
        Some(Boot { id, elapsed: Duration::new(seconds, nanos) })
    }

    fn is_synchronized(&self) -> bool {
        // What the kernel says is of its own clock, which is not always the one that is asked for the time here.
        kernel_time().is_some_and(|at| (at - self.now()).num_seconds().abs() <= 1)
    }
}

/// The time of the kernel's clock, if that is synchronized.
fn kernel_time() -> Option<DateTime<Utc>> {
    let mut state = std::mem::MaybeUninit::<libc::timex>::zeroed();
    // SAFETY: all zeros are a request that changes nothing, and the kernel fills the structure in.
    #[allow(unsafe_code, reason = "no safe wrapper offers adjtimex")]
    let (code, state) = unsafe {
        let code = libc::adjtimex(state.as_mut_ptr());
        (code, state.assume_init())
    };
    let is_synchronized = code >= 0 && code != libc::TIME_ERROR && state.status & libc::STA_UNSYNC == 0;
    is_synchronized.then(|| DateTime::from_timestamp(state.time.tv_sec, 0)).flatten()
}

/// A clock that stands where it is put: for `gate simulate` and for tests of everything that depends on time.
#[derive(Clone, Debug)]
pub struct SetClock {
    at: Arc<Mutex<(DateTime<Utc>, Duration)>>,
    boot: Option<Arc<str>>,
    synchronized: Arc<AtomicBool>,
}

impl SetClock {
    /// A clock that stands at `at`.
    #[must_use]
    pub fn new(at: DateTime<Utc>) -> Self {
        Self { at: Arc::new(Mutex::new((at, Duration::ZERO))), boot: None, synchronized: Arc::default() }
    }

    /// The same clock on a machine that was started when the clock was made, or once more since if the id is another.
    #[must_use]
    pub fn booted(&self, id: &str) -> Self {
        Self { boot: Some(id.into()), ..self.clone() }
    }

    /// Lets the kernel say that the wall clock is synchronized.
    pub fn synchronize(&self) {
        self.synchronized.store(true, Ordering::Relaxed);
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut at = self.at.lock();
        // Both at once, so that no reader sees one moved and the other not.
        at.0 += by;
        at.1 += by;
    }

    /// Sets the wall clock alone, as an administrator or NTP does.
    pub fn jump_to(&self, wall: DateTime<Utc>) {
        self.at.lock().0 = wall;
    }
}

impl Clock for SetClock {
    fn now(&self) -> DateTime<Utc> {
        self.at.lock().0
    }

    fn elapsed(&self) -> Duration {
        self.at.lock().1
    }

    fn boot(&self) -> Option<Boot> {
        Some(Boot { id: Arc::clone(self.boot.as_ref()?), elapsed: self.elapsed() })
    }

    fn is_synchronized(&self) -> bool {
        self.synchronized.load(Ordering::Relaxed)
    }
}
