//! A listener for monitoring systems alone: `/metrics`, without sign-in.

use std::{net::SocketAddr, sync::Arc};

use async_trait::async_trait;
use hyper::{HeaderMap, header::ACCEPT, http::request::Parts};
use tokio::sync::watch;

use super::{
    answer::{self, Answer},
    apart::{Answers, ApartDoor},
    dialect::Dialect,
    door::BindError,
};
use crate::{metrics::Format, partners::Partners};

/// Asked at every request for `/metrics`.
#[async_trait]
pub trait Scrape: Send + Sync + 'static {
    /// All figures of the server. Answers within some seconds, also where the disk or the queue does not.
    async fn scrape(&self, format: Format) -> String;
}

/// The listener for monitoring systems.
#[derive(Debug)]
pub struct MetricsDoor(ApartDoor<Figures>);

struct Figures {
    scrape: Arc<dyn Scrape>,
}

impl MetricsDoor {
    /// Takes the listener.
    ///
    /// # Errors
    /// When the address cannot be had.
    pub fn bind(listen: SocketAddr, partners: &Partners, scrape: Arc<dyn Scrape>) -> Result<Self, BindError> {
        ApartDoor::bind(listen, partners, Figures { scrape }).map(Self)
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

impl Answers for Figures {
    const NAME: &'static str = "metrics";

    async fn answer(&self, head: &Parts, dialect: Dialect) -> Answer {
        match head.uri.path() {
            "/metrics" if !answer::looks(&head.method) => answer::not_allowed(dialect),
            "/metrics" => {
                let format = Format::wanted(&accepted(&head.headers));
                answer::figures(format.media_type(), self.scrape.scrape(format).await)
            }
            _ => answer::not_found(dialect),
        }
    }
}

/// All that is accepted: lines of one header are one list.
fn accepted(headers: &HeaderMap) -> String {
    let lines: Vec<_> = headers.get_all(ACCEPT).iter().filter_map(|line| line.to_str().ok()).collect();
    lines.join(",")
}
