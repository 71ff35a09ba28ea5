//! The inner session of a client's session: opened when a command needs it, lent to a download,
//! closed when it is idle.
//!
//! Most clients log in, upload and leave: those need none, for the guard takes uploads itself. An
//! idle one would cost a connection pair and libunftp's state for each session that only waits.

use std::{io, sync::Arc, time::Duration};

use tokio::{
    task::JoinHandle,
    time::{Instant, timeout},
};
use tracing::warn;

use crate::doors::core::{PartnerSession, words};

use super::{inner::Inner, reply::Reply};

/// An inner session that was not needed for this long is closed: the next command opens another.
const IDLE: Duration = Duration::from_secs(5);
/// The time for what a transfer that is over may still have to do before the next command.
const ENDING_TIME: Duration = Duration::from_secs(60);
/// Commands that are never asked twice: the first time may have done it.
const ONCE: [&str; 4] = ["MKD", "RMD", "DELE", "RNTO"];

/// The inner session as the guard has it.
#[derive(Default)]
pub(super) enum InnerSession {
    #[default]
    Closed,
    /// Not needed since then.
    Idle(Inner, Instant),
    /// A transfer that is over for the client gives it back when it is over altogether.
    Lent(JoinHandle<Option<Inner>>),
}

impl InnerSession {
    /// Takes it out, when the transfer before has given it back; none is open otherwise.
    pub(super) async fn take(&mut self) -> Option<Inner> {
        match std::mem::take(self) {
            Self::Closed => None,
            Self::Idle(inner, _) => Some(inner),
            // One that does not come back in time is given up; the next command gets another.
            Self::Lent(transfer) => timeout(ENDING_TIME, transfer).await.ok()?.ok()?,
        }
    }

    /// Keeps an inner session for the next command.
    pub(super) fn keep(&mut self, inner: Inner) {
        *self = Self::Idle(inner, Instant::now());
    }

    /// A transfer has it, and gives it back at its end.
    pub(super) fn lend(&mut self, transfer: JoinHandle<Option<Inner>>) {
        *self = Self::Lent(transfer);
    }

    /// The time at which it is closed, if it is open and idle.
    pub(super) fn closes_at(&self) -> Option<Instant> {
        match self {
            Self::Idle(_, since) => Some(*since + IDLE),
            Self::Closed | Self::Lent(_) => None,
        }
    }

    /// Closes it when no command has needed it for long enough.
    pub(super) fn close_if_idle(&mut self, now: Instant) {
        if self.closes_at().is_some_and(|at| now >= at) {
            *self = Self::Closed;
        }
    }

    async fn open(&mut self, partner: &Arc<PartnerSession>) -> io::Result<Inner> {
        match self.take().await {
            Some(inner) => Ok(inner),
            None => Inner::open(partner).await,
        }
    }

    /// Asks the inner server. When it fails, another is opened; what may have been done is not asked twice.
    pub(super) async fn ask(&mut self, line: &str, partner: &Arc<PartnerSession>) -> Reply {
        // A second MKD would be told that the folder exists, which the first has made.
        let times = if ONCE.iter().any(|verb| line.starts_with(verb)) { 1 } else { 2 };
        for _ in 0..times {
            match self.try_ask(line, partner).await {
                Ok(reply) => return reply,
                Err(error) => warn!(partner = %partner.info.partner, %error, "the inner server failed"),
            }
        }
        Reply::new(451, words::capitalised(words::INTERNAL))
    }

    async fn try_ask(&mut self, line: &str, partner: &Arc<PartnerSession>) -> io::Result<Reply> {
        let mut inner = self.open(partner).await?;
        // On an error it is dropped with its connection: what it would say next is unknown.
        let reply = inner.command(line).await?;
        self.keep(inner);
        Ok(reply)
    }
}
