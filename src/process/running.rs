//! The attempts that are running.
//!
//! An attempt is in the table from its claim until its outcome is durable.

use std::{collections::HashMap, sync::Arc};

use chrono::{DateTime, Utc};
use forebay_queue::{Claim, LeaseToken};
use forebay_storage::FileId;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::Stop;

/// An attempt that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// The file.
    pub id: FileId,
    /// The partner.
    pub partner: String,
    /// Its path.
    pub name: String,
    /// The route.
    pub route: String,
    /// The attempt's number.
    pub attempt: u32,
    /// When it was claimed.
    pub since: DateTime<Utc>,
    /// True if it was asked to stop.
    pub stopping: bool,
}

/// What an attempt is known by: the leases of one claim have the same token.
type Lease = (LeaseToken, FileId);

/// All attempts that run.
#[derive(Debug, Default)]
pub(super) struct Table {
    attempts: Mutex<HashMap<Lease, (Running, Arc<Stop>)>>,
}

impl Table {
    /// Registers a claim until the ticket is dropped.
    pub(super) fn enter(self: &Arc<Self>, claim: &Claim, route: &str, since: DateTime<Utc>) -> Ticket {
        let stop = Arc::new(Stop::default());
        let running = Running {
            id: claim.entry.id,
            partner: claim.entry.partner.clone(),
            name: claim.entry.name.clone(),
            route: route.to_owned(),
            attempt: claim.attempt,
            since,
            stopping: false,
        };
        let key = (claim.token, claim.entry.id);
        self.attempts.lock().insert(key, (running, Arc::clone(&stop)));
        Ticket { table: Arc::clone(self), key, stop }
    }

    pub(super) fn list(&self) -> Vec<Running> {
        let attempts = self.attempts.lock();
        let mut all: Vec<_> =
            attempts.values().map(|(running, stop)| Running { stopping: stop.is_asked(), ..running.clone() }).collect();
        all.sort_by_key(|running| (running.since, running.id));
        all
    }

    pub(super) fn len(&self) -> usize {
        self.attempts.lock().len()
    }

    /// Asks the attempts of these routes to stop, and returns the number of those that had not been asked before.
    pub(super) fn stop_where(&self, route: impl Fn(&str) -> bool, why: &str) -> usize {
        let attempts = self.attempts.lock();
        let to_stop = attempts.values().filter(|(running, stop)| !stop.is_asked() && route(&running.route));
        to_stop.map(|(_, stop)| stop.ask(why)).count()
    }

    /// The routes that have something running.
    pub(super) fn routes(&self) -> Vec<String> {
        let attempts = self.attempts.lock();
        let mut routes: Vec<_> = attempts.values().map(|(running, _)| running.route.clone()).collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }
}

/// An attempt's place in the table.
pub(super) struct Ticket {
    table: Arc<Table>,
    key: Lease,
    pub(super) stop: Arc<Stop>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.table.attempts.lock().remove(&self.key);
    }
}
