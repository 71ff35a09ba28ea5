//! Trust in the wall clock, and detection of its jumps.
//!
//! Two checks that need no anchor: at the start against the journal, and from second to second of
//! wall time against monotonic time.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use crate::clock::Clock;

/// The most that the clock may be behind the journal's newest record at start.
const BEHIND: TimeDelta = TimeDelta::seconds(60);
/// The most that wall and monotonic time may drift apart between two checks.
const JUMP: TimeDelta = TimeDelta::seconds(2);

/// The newest record, if the clock is too far behind it to be trusted.
pub(super) fn distrust(now: DateTime<Utc>, newest: Option<DateTime<Utc>>) -> Option<DateTime<Utc>> {
    newest.filter(|newest| *newest - now > BEHIND)
}

/// The readings of both clocks at the last check.
#[derive(Clone, Copy, Debug)]
pub(super) struct Pulse {
    wall: DateTime<Utc>,
    elapsed: Duration,
}

impl Pulse {
    pub(super) fn of(clock: &dyn Clock) -> Self {
        Self { wall: clock.now(), elapsed: clock.elapsed() }
    }

    /// By how much the wall clock has jumped since then, if it has.
    pub(super) fn beat(&mut self, clock: &dyn Clock) -> Option<TimeDelta> {
        let before = std::mem::replace(self, Self::of(clock));
        let passed = TimeDelta::from_std(self.elapsed.saturating_sub(before.elapsed)).ok()?;
        let jump = (self.wall - before.wall) - passed;
        (jump.abs() > JUMP).then_some(jump)
    }
}
