//! A listener for watchdogs alone: whatever happens to the web faces, the server's health is told.

use std::{net::SocketAddr, sync::Arc};

use hyper::http::request::Parts;
use tokio::sync::watch;

use super::{
    Readiness,
    answer::{self, Answer, Asked},
    apart::{Answers, ApartDoor},
    dialect::Dialect,
    door::BindError,
};
use crate::partners::Partners;

/// The listener for watchdogs.
#[derive(Debug)]
pub struct HealthDoor(ApartDoor<Health>);

struct Health {
    readiness: Arc<dyn Readiness>,
}

impl HealthDoor {
    /// Takes the listener.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(listen: SocketAddr, partners: &Partners, readiness: Arc<dyn Readiness>) -> Result<Self, BindError> {
        ApartDoor::bind(listen, partners, Health { readiness }).map(Self)
    }

    /// Where it listens.
    #[must_use]
    pub fn local_addr(&self) -> SocketAddr {
        self.0.local_addr()
    }

    /// Answers until `shutdown` is true or its sender is gone; then answers in progress are finished, within some seconds.
    pub async fn run(self, shutdown: watch::Receiver<bool>) {
        self.0.run(shutdown).await;
    }
}

impl Answers for Health {
    const NAME: &'static str = "health";

    async fn answer(&self, head: &Parts, dialect: Dialect) -> Answer {
        match Asked::of(head.uri.path()) {
            Asked::Health | Asked::Readiness if !answer::looks(&head.method) => answer::not_allowed(dialect),
            Asked::Health => answer::health(dialect),
            Asked::Readiness => answer::readiness(&self.readiness.faults(), dialect),
            _ => answer::not_found(dialect),
        }
    }
}
