//! Wall and monotonic time behind a trait. Nothing else asks the system for the time.

use std::{
    fmt::Debug,
    sync::Arc,
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
}

/// The machine's clocks.
#[derive(Debug)]
pub struct SystemClock {
    began: Instant,
}

impl SystemClock {
    /// The machine's clocks, from now on.
    #[must_use]
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the clocks")]
    pub fn new() -> Self {
        Self { began: Instant::now() }
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
}

/// A clock that stands where it is put: for `gate simulate` and for tests of everything that depends on time.
#[derive(Clone, Debug)]
pub struct SetClock {
    at: Arc<Mutex<(DateTime<Utc>, Duration)>>,
}

impl SetClock {
    /// A clock that stands at `at`.
    #[must_use]
    pub fn new(at: DateTime<Utc>) -> Self {
        Self { at: Arc::new(Mutex::new((at, Duration::ZERO))) }
    }

    /// Lets time pass on both clocks.
    pub fn advance(&self, by: Duration) {
        let mut at = self.at.lock();
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
}
