//! Threads for handshakes, and for those who are not known yet.
//!
//! russh computes a key exchange in the task of its connection, and a task stays on the runtime that it began on. So
//! connections from addresses that no partner has logged in from run on a runtime of their own, whose threads take tasks
//! from each other: a session goes on while a thread computes. Where exchanges are offered that cost much (finite-field
//! groups), all connections do.
//!
//! A few exchanges are computed at once. An address has one of them at a time, so that the others have their turn behind
//! one exchange of each address, and those from known addresses do not wait for those of strangers.

use std::{
    collections::HashMap,
    future::Future,
    io,
    num::NonZero,
    sync::{Arc, Weak},
    thread,
};

use parking_lot::Mutex;
use tokio::{
    runtime::{Builder, Runtime},
    sync::{OwnedSemaphorePermit, Semaphore},
    task::JoinError,
};

use crate::partners::Origin;

/// Threads besides those that may be computing an exchange.
const FREE_THREADS: usize = 2;

/// The threads, and the turns of the exchanges on them. Dropping it drops what runs there.
#[derive(Debug)]
pub(super) struct HandshakeThreads {
    runtime: Option<Runtime>,
    pub(super) turns: Arc<Turns>,
}

/// Who may compute an exchange.
#[derive(Debug)]
pub(super) struct Turns {
    known: Arc<Semaphore>,
    strangers: Arc<Semaphore>,
    by_origin: Mutex<HashMap<Origin, Weak<Semaphore>>>,
}

/// A turn, until it is dropped.
#[derive(Debug)]
pub(super) struct Turn {
    _origin: OwnedSemaphorePermit,
    _computing: OwnedSemaphorePermit,
}

impl HandshakeThreads {
    /// Starts them.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(super) fn start() -> io::Result<Self> {
        let processors = thread::available_parallelism().map_or(1, NonZero::get);
        // Half of the processors for strangers, and one more for those who are known.
        let at_once = (processors / 2).max(1);
        let runtime = Builder::new_multi_thread()
            .worker_threads(at_once + 1 + processors.max(FREE_THREADS))
            .thread_name("sftp-handshake")
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime), turns: Arc::new(Turns::new(at_once)) })
    }

    /// Runs a connection there until it is over.
    pub(super) async fn run(&self, connection: impl Future<Output = ()> + Send + 'static) -> Result<(), JoinError> {
        match &self.runtime {
            Some(runtime) => runtime.spawn(connection).await,
            // It is there until it is dropped.
            None => Ok(()),
        }
    }
}

/// The last one to hold it may be a task, which must not wait for threads.
impl Drop for HandshakeThreads {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

impl Turns {
    fn new(at_once: usize) -> Self {
        Self {
            known: Arc::new(Semaphore::new(1)),
            strangers: Arc::new(Semaphore::new(at_once)),
            by_origin: Mutex::default(),
        }
    }

    /// Waits for a turn. Cancel safe. None is never the answer: no semaphore is closed.
    pub(super) async fn take(self: Arc<Self>, origin: Origin, is_known: bool) -> Option<Turn> {
        // One exchange of an address waits at most, and all others of it behind that.
        // The address first: waiting for it must not hold one of the few places for all.
        let of_origin = self.of(origin).acquire_owned().await.ok()?;
        let all = if is_known { &self.known } else { &self.strangers };
        let computing = Arc::clone(all).acquire_owned().await.ok()?;
        Some(Turn { _origin: of_origin, _computing: computing })
    }

    fn of(&self, origin: Origin) -> Arc<Semaphore> {
        let mut by_origin = self.by_origin.lock();
        if let Some(known) = by_origin.get(&origin).and_then(Weak::upgrade) {
            return known;
        }
        by_origin.retain(|_, of| of.strong_count() > 0);
        let of_origin = Arc::new(Semaphore::new(1));
        by_origin.insert(origin, Arc::downgrade(&of_origin));
        of_origin
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    #[tokio::test]
    async fn an_address_with_many_exchanges_is_one_among_those_that_wait() {
        let turns = Arc::new(Turns::new(1));
        let (flood, honest, known) = (origin("203.0.113.1"), origin("192.0.2.1"), origin("192.0.2.2"));
        let first = turns.clone().take(flood, false).await.unwrap();
        let mut others: Vec<_> = (0..50).map(|_| Box::pin(turns.clone().take(flood, false))).collect();
        assert!(others.iter_mut().all(|other| other.now_or_never().is_none()));
        let mut turn = Box::pin(turns.clone().take(honest, false));
        assert!((&mut turn).now_or_never().is_none(), "one is computed");
        assert!(turns.clone().take(known, true).now_or_never().is_some(), "known ones do not wait for it");
        drop(first);
        assert!(turn.now_or_never().is_some(), "it is behind one of the flood at most, and those have not asked yet");
        assert!((&mut others[0]).now_or_never().is_some());
        drop(others);
        turns.of(origin("192.0.2.3"));
        assert_eq!(turns.by_origin.lock().len(), 1);
    }
}
