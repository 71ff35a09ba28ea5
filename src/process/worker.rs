//! Sees one claim through: the processor, the lease, the outcome.

use std::{sync::Arc, time::Duration};

use forebay_queue::{Claim, Entry, QueueError, Settlement};
use tokio::time;
use tracing::{debug, error, info, warn};

use super::{
    Outcome, Report, Work,
    dispatcher::{Line, Seat, Shared},
    pause::{Change, later},
    running::Ticket,
    settle::settlement,
};
use crate::gate::Permit;

/// How long an outcome that could not be journalled waits before the next try.
const SETTLE_AGAIN: Duration = Duration::from_secs(1);

pub(super) struct Worker {
    pub(super) shared: Arc<Shared>,
    pub(super) line: Arc<Line>,
    pub(super) seat: Seat,
    pub(super) ticket: Ticket,
    pub(super) claim: Claim,
    pub(super) permit: Permit,
    pub(super) probe: bool,
}

impl Worker {
    pub(super) async fn run(self) {
        let Self { shared, line, seat, ticket, claim, permit, probe } = self;
        let work = Arc::new(Work {
            entry: claim.entry,
            token: claim.token,
            attempt: claim.attempt,
            stop: Arc::clone(&ticket.stop),
            gate: Arc::clone(&shared.gate),
            permit,
        });
        let report = process(&shared, &line, &work).await;
        let (now, elapsed) = (shared.clock.now(), shared.clock.elapsed());
        let (paused, change) = {
            let mut pause = line.pause.lock();
            (pause.is_paused(), pause.ended(&report.outcome, probe, now, elapsed))
        };
        tell_change(&line, change, &report);
        let retry = &line.route.options.retry;
        let end = settlement(report, &work.entry, work.attempt, retry, paused, now);
        // The processor is through: the next claim need not wait for this outcome's sync.
        drop(seat);
        shared.freed.notify_one();
        settle(&shared, &work, end).await;
        drop(ticket);
        shared.ended.notify_waiters();
    }
}

/// Runs the processor, with the lease renewed as long as it works.
async fn process(shared: &Shared, line: &Line, work: &Arc<Work>) -> Report {
    let mut processing = line.processor.process(work);
    let every = shared.options.lease / 3;
    loop {
        tokio::select! {
            report = &mut processing => return report,
            () = time::sleep(every) => renew(shared, work).await,
        }
    }
}

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

fn tell_change(line: &Line, change: Change, report: &Report) {
    match (change, &report.outcome) {
        (Change::Nothing, _) => {}
        (Change::Resumed, _) => info!(route = line.route.name(), "the route goes on"),
        (
            Change::Paused,
            Outcome::BackendDown { reason } | Outcome::Failed { reason } | Outcome::Retry { reason, .. },
        ) => warn!(route = line.route.name(), reason, "the route is paused and will be probed"),
        (Change::Paused, _) => {}
    }
}

/// Makes the outcome durable. Until it is, nothing more is claimed.
async fn settle(shared: &Shared, work: &Work, end: Settlement) {
    let id = work.entry.id;
    let mut blocked = None;
    loop {
        match shared.queue.settle(work.token, id, end.clone(), shared.clock.now()).await {
            Ok(entry) => {
                tell(&entry);
                return;
            }
            Err(error @ (QueueError::LeaseLost(_) | QueueError::NotFound(_) | QueueError::WrongState { .. })) => {
                warn!(file.id = %id, state = %end.state, %error, "the outcome came too late and does not count");
                return;
            }
            Err(error @ (QueueError::Poisoned(_) | QueueError::Unknown(_))) => {
                error!(file.id = %id, state = %end.state, %error, "the outcome cannot be kept: nothing more is claimed");
                std::mem::forget(shared.block());
                return;
            }
            Err(error) => {
                if blocked.is_none() {
                    error!(file.id = %id, state = %end.state, %error, "the outcome cannot be kept yet: nothing more is claimed until it is");
                    blocked = Some(shared.block());
                }
                tokio::select! {
                    () = time::sleep(SETTLE_AGAIN) => {}
                    () = shared.abandon.cancelled() => return,
                }
            }
        }
    }
}

fn tell(entry: &Entry) {
    let reason = entry.reason.as_deref().unwrap_or_default();
    debug!(file.id = %entry.id, partner = entry.partner, name = entry.name, state = %entry.state, reason, "attempt ended");
}
