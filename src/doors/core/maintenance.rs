//! What partners are told of maintenance: that it is on, or that it is planned within a day.
//!
//! Windows are expanded once in half a minute at most, and again when the gate's epoch changes:
//! every greeting asks.

use std::{fmt, sync::Arc, time::Duration};

use chrono::TimeDelta;
use parking_lot::Mutex;

use crate::{
    clock::Clock,
    gate::{Gate, Scope, deferral},
};

/// Maintenance that begins within this long is told of.
const NEAR: TimeDelta = TimeDelta::hours(24);
/// For this long what was found out about the next window counts.
const AHEAD_KNOWN: Duration = Duration::from_secs(30);

/// Knows what to tell. Windows are not expanded for every connection.
pub(in crate::doors) struct Maintenance {
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    ahead: Mutex<Option<Ahead>>,
}

/// What is told of maintenance ahead, and when and under which epoch of the gate that was found out.
struct Ahead {
    at: Duration,
    epoch: u64,
    text: Option<String>,
}

impl Maintenance {
    /// Knows nothing yet: windows are looked up when somebody asks.
    pub(in crate::doors) fn new(gate: Arc<Gate>, clock: Arc<dyn Clock>) -> Self {
        Self { gate, clock, ahead: Mutex::default() }
    }

    /// What a partner should know, if anything.
    pub(in crate::doors) fn notice(&self) -> Option<String> {
        deferral(self.gate.zone(), self.clock.now(), &self.gate.state(&Scope::Web)).or_else(|| self.ahead())
    }

    /// Returns what is to be told of the next window that closes everything.
    fn ahead(&self) -> Option<String> {
        let (at, epoch) = (self.clock.elapsed(), self.gate.epoch());
        let mut ahead = self.ahead.lock();
        match &*ahead {
            Some(known) if known.epoch == epoch && at.saturating_sub(known.at) < AHEAD_KNOWN => known.text.clone(),
            _ => {
                let now = self.clock.now();
                let windows = self.gate.upcoming(now, now + NEAR);
                let next = windows.iter().find(|window| window.start > now && window.routes.is_empty());
                let local = |at| self.gate.local(at);
                let text = next.map(|window| {
                    format!("maintenance is planned from {} to {}", local(window.start), local(window.end))
                });
                *ahead = Some(Ahead { at, epoch, text: text.clone() });
                text
            }
        }
    }
}

impl fmt::Debug for Maintenance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Maintenance").finish_non_exhaustive()
    }
}
