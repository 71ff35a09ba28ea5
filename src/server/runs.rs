//! The tasks of a running server, in three groups that are stopped one after the other.

use std::sync::Arc;

use tokio::{sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::{bound_doors::BoundDoors, pulse::Pulse, services::Services};
use crate::operate::{AdminSocket, Operator};

/// The tasks of doors, of processing, and of the rest (admin socket, pulse).
pub(super) struct Runs {
    stop_doors: watch::Sender<bool>,
    doors: Vec<JoinHandle<()>>,
    stop_processing: CancellationToken,
    processing: Vec<JoinHandle<()>>,
    stop_rest: CancellationToken,
    rest: Vec<JoinHandle<()>>,
}

impl Runs {
    /// Starts all tasks.
    pub(super) fn start(services: &Services, doors: BoundDoors, socket: AdminSocket, operator: Arc<Operator>) -> Self {
        let (stop_processing, stop_rest) = (CancellationToken::new(), CancellationToken::new());
        let processing = vec![start_dispatcher(services, stop_processing.clone())];
        let mut rest = vec![tokio::spawn(socket.run(operator, stop_rest.clone()))];
        rest.push(start_pulse(services, stop_rest.clone()));
        // Last, when all that an upload or a login needs is running.
        let (stop_doors, doors_stop) = watch::channel(false);
        let doors = start_doors(doors, &doors_stop);
        Self { stop_doors, doors, stop_processing, processing, stop_rest, rest }
    }

    /// Stops doors and processing, and waits for uploads and attempts to end.
    pub(super) async fn stop_doors_and_processing(&mut self) {
        // A door that has ended already does not receive this.
        let _ = self.stop_doors.send(true);
        // Both are told first, and then waited for: uploads and attempts use the same time.
        self.stop_processing.cancel();
        wait_for(&mut self.doors, "a door").await;
        wait_for(&mut self.processing, "processing").await;
    }

    /// Stops the rest and waits for it.
    pub(super) async fn stop_rest(&mut self) {
        self.stop_rest.cancel();
        wait_for(&mut self.rest, "a task").await;
    }
}

fn start_dispatcher(services: &Services, stop: CancellationToken) -> JoinHandle<()> {
    let dispatcher = Arc::clone(&services.dispatcher);
    tokio::spawn(async move { dispatcher.run(stop).await })
}

fn start_pulse(services: &Services, stop: CancellationToken) -> JoinHandle<()> {
    let pulse = Pulse::new(
        Arc::clone(&services.gate),
        Arc::clone(&services.ingest),
        Arc::clone(&services.data_dir.storage),
        Arc::clone(&services.data_dir.queue),
        Arc::clone(&services.clock),
    );
    tokio::spawn(pulse.run(stop))
}

fn start_doors(doors: BoundDoors, stop: &watch::Receiver<bool>) -> Vec<JoinHandle<()>> {
    let BoundDoors { ftp, sftp, web, health, metrics, drop } = doors;
    let mut runs = Vec::new();
    runs.extend(ftp.map(|door| tokio::spawn(door.run(stop.clone()))));
    runs.extend(sftp.map(|door| tokio::spawn(door.run(stop.clone()))));
    runs.push(tokio::spawn(drop.run(stop.clone())));
    runs.extend(web.map(|door| tokio::spawn(door.run(stop.clone()))));
    runs.extend(health.map(|door| tokio::spawn(door.run(stop.clone()))));
    runs.extend(metrics.map(|door| tokio::spawn(door.run(stop.clone()))));
    runs
}

async fn wait_for(runs: &mut Vec<JoinHandle<()>>, what: &str) {
    for run in runs.drain(..) {
        if let Err(error) = run.await {
            warn!(%error, "{what} did not end well");
        }
    }
}
