//! The door: all folders, and what they share.
//!
//! Each folder is a task of its own. They share what the journal knows of originals, so a file is
//! never taken twice, through whichever folder it is found.

use std::{path::Path, sync::Arc, time::Duration};

use tokio::{sync::watch, task::JoinSet};
use tracing::warn;

use super::{
    folder::{Folder, Standing, stopped},
    job::FolderContext,
    known::Known,
    names::Tracked,
    options::Options,
    report::Reports,
    suspects::Suspects,
};
use crate::{
    clock::Clock,
    ingest::{Ingest, Refusal},
    partners::Partners,
};

/// The interval at which files that have left their folder are forgotten.
const FORGET: Duration = Duration::from_secs(1);

/// Folders whose files are taken.
pub struct Door {
    folders: Vec<Folder>,
    ingest: Arc<Ingest>,
    known: Arc<Known>,
    reports: Reports,
    stop: watch::Sender<bool>,
}

impl Door {
    /// Reads what was taken before, and begins to watch. `directory` is where the door keeps what it has to know; it is
    /// made.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn open(
        folders: Vec<Options>,
        ingest: Arc<Ingest>,
        partners: Arc<Partners>,
        clock: Arc<dyn Clock>,
        directory: &Path,
    ) -> Result<Self, Refusal> {
        // Before any folder is looked at: what is still there of what was taken before a crash must
        // be known.
        let known = Arc::new(Known::load(&ingest).await?);
        let suspects = Arc::new(Suspects::open(directory)?);
        let reports = Reports::new(&folders);
        let stop = watch::Sender::new(false);
        let mut door = Self { folders: Vec::new(), ingest, known, reports, stop };
        for (index, options) in folders.into_iter().enumerate() {
            let context = FolderContext {
                options: Arc::new(options),
                ingest: Arc::clone(&door.ingest),
                known: Arc::clone(&door.known),
                clock: Arc::clone(&clock),
                stop: door.stop.subscribe(),
            };
            let folder = Folder {
                index,
                context: Arc::new(context),
                partners: Arc::clone(&partners),
                suspects: Arc::clone(&suspects),
                reports: door.reports.clone(),
                names: Tracked::default(),
                standing: Standing::default(),
            };
            door.folders.push(folder.prepare().await);
        }
        Ok(door)
    }

    /// The state of the folders, now and later.
    #[must_use]
    pub fn reports(&self) -> Reports {
        self.reports.clone()
    }

    /// Takes files until `stop`.
    pub async fn run(self, mut stop: watch::Receiver<bool>) {
        let mut runs = JoinSet::new();
        for folder in self.folders {
            runs.spawn(folder.run());
        }
        let mut forget = tokio::time::interval(FORGET);
        let mut stopping = false;
        loop {
            tokio::select! {
                () = stopped(&mut stop), if !stopping => {
                    stopping = true;
                    self.stop.send_replace(true);
                }
                ended = runs.join_next() => match ended {
                    Some(Ok(())) => {}
                    Some(Err(error)) => warn!(%error, "a folder's task did not end well"),
                    None => break,
                },
                _ = forget.tick() => self.known.forget(&self.ingest).await,
            }
        }
        self.known.forget(&self.ingest).await;
    }
}
