//! The periodic work of a server: each second the gate and the disk, each minute the sweep.
//!
//! What fails here is logged and tried again: none of it ends the server.

use std::{sync::Arc, time::Duration};

use forebay_queue::QueueStore;
use forebay_storage::Storage;
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;
use tracing::{debug, error, info, warn};

use crate::{clock::Clock, gate::Gate, ingest::Ingest};

/// The interval between two sweeps.
const SWEEP: Duration = Duration::from_secs(60);

/// The periodic work of a server.
pub(super) struct Pulse {
    gate: Arc<Gate>,
    ingest: Arc<Ingest>,
    storage: Arc<dyn Storage>,
    queue: Arc<dyn QueueStore>,
    clock: Arc<dyn Clock>,
    short: bool,
    trims: bool,
    reported: Vec<String>,
}

impl Pulse {
    pub(super) fn new(
        gate: Arc<Gate>,
        ingest: Arc<Ingest>,
        storage: Arc<dyn Storage>,
        queue: Arc<dyn QueueStore>,
        clock: Arc<dyn Clock>,
    ) -> Self {
        Self { gate, ingest, storage, queue, clock, short: false, trims: false, reported: Vec::new() }
    }

    /// Runs until `shutdown`.
    pub(super) async fn run(mut self, shutdown: CancellationToken) {
        let mut second = tokio::time::interval(Duration::from_secs(1));
        second.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut swept_at = self.clock.elapsed();
        while shutdown.run_until_cancelled(second.tick()).await.is_some() {
            let gate = Arc::clone(&self.gate);
            // It may block: it may read the schedule's file.
            if let Err(error) = tokio::task::spawn_blocking(move || gate.tick()).await {
                error!(%error, "the gate's tick did not end well");
            }
            self.check_disk();
            self.check_poisoned();
            // What is cut by the end of the server is finished at the next start, as after a crash.
            if shutdown.run_until_cancelled(self.trim_kept()).await.is_none() {
                break;
            }
            if self.clock.elapsed().saturating_sub(swept_at) >= SWEEP {
                swept_at = self.clock.elapsed();
                let sweep = self.ingest.sweep_at(self.gate.believed());
                let Some(swept) = shutdown.run_until_cancelled(sweep).await else { break };
                if swept.held + swept.partials + swept.purged > 0 {
                    info!(held = swept.held, partials = swept.partials, purged = swept.purged, "swept");
                }
            }
        }
    }

    /// Makes room where more is kept of files that are over than may be, and says so when that begins.
    async fn trim_kept(&mut self) {
        match self.ingest.trim_kept().await {
            Ok(gone) => {
                if gone > 0 && !self.trims {
                    info!(
                        files = gone,
                        "files that are over go before their time: they are more than kept_quota or the disk's free room"
                    );
                }
                self.trims = gone > 0;
            }
            Err(error) => debug!(%error, "cannot make room of files that are over"),
        }
    }

    fn check_disk(&mut self) {
        let Ok(space) = self.storage.space() else { return };
        if space.is_short() == self.short {
            return;
        }
        self.short = space.is_short();
        if self.short {
            let what = space.shortage().unwrap_or_default();
            warn!(free_bytes = space.free_bytes, free_inodes = space.free_inodes, "{what}: uploads are refused");
        } else {
            info!(free_bytes = space.free_bytes, "there is room on the disk again");
        }
    }

    fn check_poisoned(&mut self) {
        for why in self.storage.poisoned().into_iter().chain(self.queue.poisoned()) {
            if !self.reported.contains(&why) {
                error!(%why, "nothing more is accepted until a restart");
                self.reported.push(why);
            }
        }
    }
}
