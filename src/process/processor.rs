//! What does something with a file, and what it says afterwards.

use std::{
    sync::{Arc, OnceLock},
    time::Duration,
};

use async_trait::async_trait;
use forebay_queue::{Entry, LeaseToken};
use tokio_util::sync::CancellationToken;

use crate::gate::{Closure, Gate, Permit};

/// Does something with one file at a time; many calls run at once.
#[async_trait]
pub trait Processor: Send + Sync + 'static {
    /// Works on a claimed file. It prepares what it needs, then begins through [`Work::hand_over`], and when
    /// [`Work::stop`] is asked for it ends what it began and says [`Outcome::Stopped`].
    async fn process(&self, work: &Arc<Work>) -> Report;
}

/// A claimed file on its way to a processor.
pub struct Work {
    /// The entry as it was claimed.
    pub entry: Entry,
    /// Proves the lease.
    pub token: LeaseToken,
    /// The attempt's number, from 1.
    pub attempt: u32,
    /// Tells when the work is to stop.
    pub stop: Arc<Stop>,
    /// The gate.
    pub gate: Arc<Gate>,
    /// The gate's word at the claim.
    pub permit: Permit,
}

impl Work {
    /// Begins: asks the gate again and keeps it from closing until `begin` has returned. So `begin` starts the work
    /// and does not wait for it; it may block for as long as starting takes.
    ///
    /// # Errors
    /// When the gate has closed since the claim; `begin` was not called.
    pub fn hand_over<T>(&self, begin: impl FnOnce() -> T) -> Result<T, Closure> {
        let passage = self.gate.pass(&self.permit)?;
        let begun = begin();
        drop(passage);
        Ok(begun)
    }

    /// Whether the gate wants what has begun to stop. While it only drains, or lets attempts finish, it does not.
    #[must_use]
    pub fn must_stop(&self) -> bool {
        self.gate.must_stop(self.permit.route()).is_some()
    }
}

/// Asks a processor to stop, once, with a reason.
#[derive(Debug, Default)]
pub struct Stop {
    token: CancellationToken,
    why: OnceLock<String>,
}

impl Stop {
    /// Asks; the first reason stays.
    pub fn ask(&self, why: &str) {
        let _ = self.why.set(why.to_owned());
        self.token.cancel();
    }

    /// Whether it was asked for.
    #[must_use]
    pub fn is_asked(&self) -> bool {
        self.token.is_cancelled()
    }

    /// Waits until it is asked for. Cancel safe.
    pub async fn asked(&self) {
        self.token.cancelled().await;
    }

    /// Why.
    #[must_use]
    pub fn why(&self) -> &str {
        self.why.get().map_or("stopped", String::as_str)
    }
}

/// What a processor says at the end.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// How it went.
    pub outcome: Outcome,
    /// The end of its output.
    pub output: String,
}

impl From<Outcome> for Report {
    fn from(outcome: Outcome) -> Self {
        Self { outcome, output: String::new() }
    }
}

/// How an attempt went.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Processed.
    Done,
    /// The processor asks for another attempt.
    Retry {
        /// Why.
        reason: String,
        /// Not before this time has passed.
        after: Option<Duration>,
    },
    /// It failed; another attempt follows.
    Failed {
        /// How.
        reason: String,
    },
    /// The content is bad: no further attempt would change that.
    Quarantine {
        /// Why.
        reason: String,
    },
    /// Nothing is wrong with the file, but the system behind does not work. The attempt does not count.
    BackendDown {
        /// What does not work.
        reason: String,
    },
    /// Something is wrong with the spooled file or its name: an operator has to look. The attempt does not count.
    Hold {
        /// What.
        reason: String,
    },
    /// The gate closed or the server stops. The attempt does not count.
    Stopped {
        /// Which.
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
