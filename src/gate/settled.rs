//! Jumps of the wall clock that are not believed yet.
//!
//! A clock that is set by more than a minute against the time since boot, which counts sleep too, may be wrong: it closes
//! what the new time closes at once, and opens nothing that the time before the jump would keep closed, until an operator
//! confirms it, the kernel says that the clock is synchronized, or it has stood for a while.
//!
//! Pure but for the clock that it is given: no file, no lock. Times since boot are those of
//! `CLOCK_BOOTTIME`, which nobody can set.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};

use crate::clock::{Boot, Clock};

/// The most by which a clock is set and believed at once.
const BELIEVED: TimeDelta = TimeDelta::seconds(60);
/// A clock that moves by more than this while it is doubted has been set once more.
const STANDS: TimeDelta = TimeDelta::seconds(2);

/// Both clocks at one instant at which the wall clock was believed. Kept over restarts; of use until the next boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Anchor {
    boot: String,
    elapsed_ms: u64,
    wall: DateTime<Utc>,
    /// The jump since then that is not believed.
    pub(super) doubt: Option<Doubt>,
}

/// A jump that is not believed yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Doubt {
    /// By how much the wall clock is ahead of what it would be.
    by_ms: i64,
    /// When that was seen first, since boot.
    since_ms: u64,
}

impl Doubt {
    pub(super) fn by(&self) -> TimeDelta {
        TimeDelta::milliseconds(self.by_ms)
    }
}

/// What became of the trust in the wall clock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Change {
    /// It has jumped by so much, and that is not believed.
    Doubted(TimeDelta),
    /// The jump is believed from now on.
    Believed,
    /// The clock was set back to where it would be.
    Undone,
}

impl Anchor {
    /// Both clocks now. `None` where there is no time since boot: then nothing can be doubted.
    pub(super) fn of(clock: &dyn Clock) -> Option<Self> {
        let Boot { id, elapsed } = clock.boot()?;
        Some(Self { boot: id.to_string(), elapsed_ms: millis(elapsed), wall: clock.now(), doubt: None })
    }

    /// Returns the one that was kept if it is of this boot, else a new one of now.
    pub(super) fn resume(kept: Option<Self>, clock: &dyn Clock) -> Option<Self> {
        let now = Self::of(clock)?;
        Some(kept.filter(|kept| kept.boot == now.boot && kept.elapsed_ms <= now.elapsed_ms).unwrap_or(now))
    }

    /// The time at which the wall clock would be if nobody had set it.
    fn expected(&self, boot: &Boot) -> DateTime<Utc> {
        let passed = i64::try_from(millis(boot.elapsed).saturating_sub(self.elapsed_ms)).unwrap_or(i64::MAX);
        TimeDelta::try_milliseconds(passed).and_then(|passed| self.wall.checked_add_signed(passed)).unwrap_or(self.wall)
    }

    /// The time that is believed, by both clocks as they are now: the wall clock's unless that has jumped.
    pub(super) fn believed(&self, wall: DateTime<Utc>, clock: &dyn Clock) -> DateTime<Utc> {
        let Some(boot) = clock.boot() else { return wall };
        let expected = self.expected(&boot);
        if (wall - expected).abs() <= BELIEVED { wall } else { expected }
    }

    /// Looks at both clocks, and says what changed.
    ///
    /// `settle` is the time for which a jump has to stand to be believed.
    pub(super) fn look(&mut self, clock: &dyn Clock, settle: Duration) -> Option<Change> {
        let (wall, boot) = (clock.now(), clock.boot()?);
        let by = wall - self.expected(&boot);
        let since_boot = millis(boot.elapsed);
        if by.abs() <= BELIEVED {
            let doubted = self.doubt.is_some();
            // The anchor moves along with the clock: small corrections (NTP slewing) must not add
            // up to a jump.
            (self.elapsed_ms, self.wall, self.doubt) = (since_boot, wall, None);
            return doubted.then_some(Change::Undone);
        }
        // A clock that was set once more begins its time again.
        let stands = self.doubt.as_ref().filter(|doubt| (doubt.by() - by).abs() <= STANDS);
        let since = stands.map_or(since_boot, |doubt| doubt.since_ms);
        if since_boot.saturating_sub(since) >= millis(settle) || clock.is_synchronized() {
            (self.elapsed_ms, self.wall, self.doubt) = (since_boot, wall, None);
            return Some(Change::Believed);
        }
        if stands.is_some() {
            return None;
        }
        self.doubt = Some(Doubt { by_ms: by.num_milliseconds(), since_ms: since_boot });
        Some(Change::Doubted(by))
    }

    /// For how much longer the jump has to stand.
    pub(super) fn settles_in(&self, clock: &dyn Clock, settle: Duration) -> Duration {
        let stood = clock.boot().zip(self.doubt.as_ref());
        let stood = stood.map_or(0, |(boot, doubt)| millis(boot.elapsed).saturating_sub(doubt.since_ms));
        settle.saturating_sub(Duration::from_millis(stood))
    }

    /// Whether what is kept of it would mislead the next start: the wall clock was set a little since.
    pub(super) fn differs_from(&self, kept: Option<&Self>) -> bool {
        let Some(kept) = kept.filter(|kept| kept.boot == self.boot && kept.doubt == self.doubt) else { return true };
        let passed = self.elapsed_ms.cast_signed().wrapping_sub(kept.elapsed_ms.cast_signed());
        ((self.wall - kept.wall).num_milliseconds() - passed).abs() > 1_000
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
