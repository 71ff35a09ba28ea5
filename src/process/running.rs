//! What runs now.

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
    /// Whose it is.
    pub partner: String,
    /// Its path.
    pub name: String,
    /// The route.
    pub route: String,
    /// The attempt's number.
    pub attempt: u32,
    /// When it was claimed.
    pub since: DateTime<Utc>,
    /// Whether it was asked to stop.
    pub stopping: bool,
}

/// All attempts that run.
#[derive(Debug, Default)]
pub(super) struct Table {
    works: Mutex<HashMap<LeaseToken, (Running, Arc<Stop>)>>,
}

impl Table {
    /// Notes a claim; it is there until the ticket is dropped.
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
        self.works.lock().insert(claim.token, (running, Arc::clone(&stop)));
        Ticket { table: Arc::clone(self), token: claim.token, stop }
    }

    pub(super) fn list(&self) -> Vec<Running> {
        let works = self.works.lock();
        let mut all: Vec<_> =
            works.values().map(|(running, stop)| Running { stopping: stop.is_asked(), ..running.clone() }).collect();
        all.sort_by_key(|running| (running.since, running.id));
        all
    }

    pub(super) fn len(&self) -> usize {
        self.works.lock().len()
    }

    /// Asks the works of these routes to stop, and gives how many had not been asked before.
    pub(super) fn stop_where(&self, route: impl Fn(&str) -> bool, why: &str) -> usize {
        let works = self.works.lock();
        let to_stop = works.values().filter(|(running, stop)| !stop.is_asked() && route(&running.route));
        to_stop.map(|(_, stop)| stop.ask(why)).count()
    }

    /// The routes that have something running.
    pub(super) fn routes(&self) -> Vec<String> {
        let works = self.works.lock();
        let mut routes: Vec<_> = works.values().map(|(running, _)| running.route.clone()).collect();
        routes.sort_unstable();
        routes.dedup();
        routes
    }
}

/// An attempt's place in the table.
pub(super) struct Ticket {
    table: Arc<Table>,
    token: LeaseToken,
    pub(super) stop: Arc<Stop>,
}

impl Drop for Ticket {
    fn drop(&mut self) {
        self.table.works.lock().remove(&self.token);
    }
}
