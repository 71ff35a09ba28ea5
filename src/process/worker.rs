//! One claim, from the hand-over to the outcome.
//!
//! # Guarantees
//! - The lease is renewed as long as the processor works. A lost lease asks it to stop, because
//!   another may have the file.
//! - The outcome is tried until it is journalled, and nothing more is claimed until then; for good,
//!   when the queue is poisoned.
//! - The slot is free before the outcome is synced. The attempt leaves the table afterwards, so
//!   that `wait_idle` means "and its outcome is durable".

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use forebay_queue::{Claim, Entry, QueueError, Settlement};
use tokio::time;
use tracing::{debug, error, info, warn};

use super::{
    Outcome, Report, Work,
    dispatcher::{ConcurrencyPermit, RouteRunner, Shared},
    pause::{Change, later},
    running::Ticket,
    settle::settlement,
};
use crate::gate::Permit;

/// The time between two tries to journal an outcome.
const SETTLE_RETRY_AFTER: Duration = Duration::from_secs(1);

/// One claim with all that is needed to process it.
pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) runner: Arc<RouteRunner>,
    pub(super) concurrency: ConcurrencyPermit,
    pub(super) ticket: Ticket,
    pub(super) claim: Claim,
    pub(super) permit: Permit,
    pub(super) probe: bool,
}

impl Worker {
    /// Processes the claim. Runs in a task of its own; nothing drops it.
    pub(super) async fn run(self) {
        let Self { shared, runner, concurrency, ticket, claim, permit, probe } = self;
        let work = Arc::new(Work {
            entry: claim.entry,
            token: claim.token,
            attempt: claim.attempt,
            stop: Arc::clone(&ticket.stop),
            gate: Arc::clone(&shared.gate),
            permit,
        });
        let report = process(&shared, &runner, &work).await;
        let (now, elapsed) = (shared.clock.now(), shared.clock.elapsed());
        let (paused, change) = {
            let mut pause = runner.pause.lock();
            // `is_paused` first: `ended` may pause or resume the route, and the state during the
            // attempt decides whether the failure counts.
            (pause.is_paused(), pause.ended(&report.outcome, probe, now, elapsed))
        };
        log_pause_change(&runner, change, &report);
        let retry = &runner.route.options.retry;
        // A clock that has jumped, and is not believed, makes no file old.
        let ahead = (now - shared.gate.believed()).max(TimeDelta::zero());
        let end = settlement(report, &work.entry, work.attempt, retry, paused, (now, ahead));
        // The processor has ended: the next claim need not wait for the sync of this outcome.
        drop(concurrency);
        shared.freed.notify_one();
        // The slot was given back above, before `freed`: whoever is woken by it counts slots. The
        // outcome comes before the ticket and before `ended`: `wait_idle` promises that it is
        // durable.
        settle(&shared, &work, end).await;
        drop(ticket);
        shared.ended.notify_waiters();
    }
}

/// Runs the processor, with the lease renewed as long as it works.
async fn process(shared: &Shared, runner: &RouteRunner, work: &Arc<Work>) -> Report {
    let mut processing = runner.processor.process(work);
    let every = shared.options.lease / 3;
    loop {
        tokio::select! {
            report = &mut processing => return report,
            () = time::sleep(every) => renew(shared, work).await,
        }
    }
}

/// Renews the lease for another full time.
async fn renew(shared: &Shared, work: &Work) {
    let now = shared.clock.now();
    let until = later(now, shared.options.lease);
    match shared.queue.renew(work.token, work.entry.id, until, now).await {
        Ok(()) => {}
        // Someone else may have it: what this attempt does no longer counts.
        Err(QueueError::LeaseLost(_) | QueueError::NotFound(_)) => work.stop.ask("the lease was lost"),
        Err(error) => warn!(file.id = %work.entry.id, %error, "cannot renew the lease"),
    }
}

fn log_pause_change(runner: &RouteRunner, change: Change, report: &Report) {
    match (change, &report.outcome) {
        (Change::Nothing, _) => {}
        (Change::Resumed, _) => info!(route = runner.route.name(), "the route is resumed"),
        (
            Change::Paused,
            Outcome::BackendDown { reason } | Outcome::Failed { reason } | Outcome::Retry { reason, .. },
        ) => warn!(route = runner.route.name(), reason, "the route is paused and will be probed"),
        (Change::Paused, _) => {}
    }
}

/// Makes the outcome durable, and blocks claims until it is.
async fn settle(shared: &Shared, work: &Work, end: Settlement) {
    let id = work.entry.id;
    let mut blocked = None;
    loop {
        match shared.queue.settle(work.token, id, end.clone(), shared.clock.now()).await {
            Ok(entry) => {
                log_end(&entry);
                return;
            }
            Err(error @ (QueueError::LeaseLost(_) | QueueError::NotFound(_) | QueueError::WrongState { .. })) => {
                warn!(file.id = %id, state = %end.state, %error, "the outcome came after the lease was lost and does not count");
                return;
            }
            Err(error @ (QueueError::Poisoned(_) | QueueError::Unknown(_))) => {
                error!(file.id = %id, state = %end.state, %error, "cannot journal the outcome: nothing more is claimed");
                // For good: whether the outcome is in the journal nobody knows before the restart.
                std::mem::forget(shared.block_claims());
                return;
            }
            Err(error) => {
                if blocked.is_none() {
                    error!(file.id = %id, state = %end.state, %error, "cannot journal the outcome yet: nothing more is claimed until it is journalled");
                    blocked = Some(shared.block_claims());
                }
                tokio::select! {
                    () = time::sleep(SETTLE_RETRY_AFTER) => {}
                    () = shared.abandon.cancelled() => return,
                }
            }
        }
    }
}

fn log_end(entry: &Entry) {
    let reason = entry.reason.as_deref().unwrap_or_default();
    debug!(file.id = %entry.id, partner = entry.partner, name = entry.name, state = %entry.state, reason, "attempt ended");
}
