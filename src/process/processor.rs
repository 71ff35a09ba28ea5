//! Processors, the work they are given, and their outcomes.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use forebay_queue::{Entry, LeaseToken};
use tokio_util::sync::CancellationToken;

use crate::gate::{Closure, Gate, Permit};

/// A way to process files. A call works on one file; many calls run at once.
///
/// An implementation must be ready for the same file twice: a crash after its work and before the
/// outcome is journalled repeats it, with the same id.
#[async_trait]
pub trait Processor: Send + Sync + 'static {
    /// Works on a claimed file. It prepares what it needs, then begins through [`Work::hand_over`], and when
    /// [`Work::stop`] is requested it ends what it began and returns [`Outcome::Stopped`].
    async fn process(&self, work: &Arc<Work>) -> Report;
}

/// A claimed file, as it is given to a processor.
pub struct Work {
    /// The entry as it was claimed.
    pub entry: Entry,
    /// The token of the lease.
    pub token: LeaseToken,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// The request to stop.
    pub stop: Arc<Stop>,
    /// The gate.
    pub gate: Arc<Gate>,
    /// The gate's permit from the claim.
    pub permit: Permit,
}

impl Work {
    /// Begins the processing: asks the gate again and keeps it from closing until `begin` has returned. So `begin`
    /// starts the work and does not wait for it; it may block for as long as starting takes.
    ///
    /// # Errors
    /// When the gate has closed since the claim; `begin` was not called.
    pub fn hand_over<T>(&self, begin: impl FnOnce() -> T) -> Result<T, Closure> {
        // Held while `begin` runs: closing waits until the passage is dropped.
        let passage = self.gate.pass(&self.permit)?;
        let begun = begin();
        drop(passage);
        Ok(begun)
    }

    /// Returns true if the gate requires attempts that have begun to stop. Not while it only drains, or lets attempts
    /// finish.
    #[must_use]
    pub fn must_stop(&self) -> bool {
        self.gate.must_stop(self.permit.route()).is_some()
    }
}

/// A request to a processor to stop, made once, with a reason.
#[derive(Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    why: OnceLock<String>,
}

impl Stop {
    /// Requests the stop; the first reason stays.
    pub fn ask(&self, why: &str) {
        let _ = self.why.set(why.to_owned());
        self.token.cancel();
    }

    /// Returns true if a stop was requested.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until a stop is requested. Cancel safe.
    pub async fn asked(&self) {
        self.token.cancelled().await;
    }

    /// The reason.
    #[must_use]
    pub fn why(&self) -> &str {
        self.why.get().map_or("stopped", String::as_str)
    }
}

/// The result of a processor.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The outcome.
    pub outcome: Outcome,
    /// The end of its output.
    pub output: String,
}

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, output: String::new() }
    }
}

/// The outcome of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Processed.
    Done,
    /// The processor asks for another attempt.
    Retry {
        /// The reason.
        reason: String,
        /// The earliest time of the next attempt, from now.
        after: Option<Duration>,
    },
    /// It failed; another attempt follows.
    Failed {
        /// The failure, as a sentence.
        reason: String,
    },
    /// The content is bad: no further attempt would change that.
    Quarantine {
        /// The reason.
        reason: String,
    },
    /// Nothing is wrong with the file, but the system behind does not work. The attempt does not count.
    BackendDown {
        /// The fault of the backend.
        reason: String,
    },
    /// The spooled file or its name has a fault that needs an operator. The attempt does not count.
    Hold {
        /// The fault that needs an operator.
        reason: String,
    },
    /// The gate closed or the server stops. The attempt does not count.
    Stopped {
        /// The cause of the stop.
        reason: String,
    },
}

impl Outcome {
    /// The outcome when the gate refuses the hand-over.
    #[must_use]
    pub fn gate_closed() -> Self {
        Self::Stopped { reason: "the gate closed before the hand-over".to_owned() }
    }
}
