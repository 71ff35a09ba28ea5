//! The state of the folders as operators see it.
//!
//! Folders write it once a second; operators read a copy.

use std::{path::PathBuf, sync::Arc};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::Serialize;

use super::options::Options;
use crate::partners::PartnerName;

/// The state of one folder.
#[derive(Clone, Debug, Serialize)]
pub struct FolderStatus {
    /// The folder.
    pub directory: PathBuf,
    /// The partner whose files come there.
    pub partner: PartnerName,
    /// The reason why nothing is taken there now, if there is one.
    pub problem: Option<String>,
    /// Names that wait, whatever for.
    pub waiting: u64,
    /// Files that were taken since the server started.
    pub taken: u64,
    /// The number of files that cannot be taken, or not removed after they were.
    pub failing_count: u64,
    /// The first of them.
    pub failing: Vec<Failing>,
}

/// A file that cannot be taken, or not removed.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Failing {
    /// Since when.
    pub since: DateTime<Utc>,
    /// Its name in the folder.
    pub name: String,
    /// The reason.
    pub reason: String,
}

/// All folders, for those who look.
#[derive(Clone, Debug, Default)]
pub struct Reports(Arc<Mutex<Vec<FolderStatus>>>);

impl Reports {
    pub(super) fn new(folders: &[Options]) -> Self {
        let each = |options: &Options| FolderStatus {
            directory: options.directory.clone(),
            partner: options.partner.clone(),
            problem: None,
            waiting: 0,
            taken: 0,
            failing_count: 0,
            failing: Vec::new(),
        };
        Self(Arc::new(Mutex::new(folders.iter().map(each).collect())))
    }

    pub(super) fn set(&self, folder: usize, change: impl FnOnce(&mut FolderStatus)) {
        if let Some(status) = self.0.lock().get_mut(folder) {
            change(status);
        }
    }

    /// The state of every folder, in the order of the configuration.
    #[must_use]
    pub fn all(&self) -> Vec<FolderStatus> {
        self.0.lock().clone()
    }
}
