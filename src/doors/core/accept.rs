//! The accept loop of a door with sessions: connections go to session threads, and the end of the server to all of
//! them.
//!
//! The loop itself never waits for a client: what a connection needs is done on its session thread.

use std::{future, io, sync::Arc, time::Duration};

use tokio::{sync::watch, time::interval};

use crate::partners::Denied;

use super::{
    admission::{Accepted, admit},
    context::DoorContext,
    listening::{Listeners, NewConnection},
    session_threads::SessionThreads,
};

/// The time between two looks at accounts and certificates.
const ROUND: Duration = Duration::from_secs(2);

/// A door with sessions, as its accept loop knows it.
///
/// A door that implements it gets admission, limits, session threads and the drain of a stopping
/// server; what it adds is its protocol.
pub(in crate::doors) trait SessionDoor: Send + Sync + 'static {
    /// The kind of listener that a connection comes through.
    type Entrance: Copy + Send + Sync + 'static;

    /// The context that all doors have.
    fn common(&self) -> &DoorContext;

    /// The bytes for a client that is turned away before its session. None where the protocol has no room for them.
    fn turn_away(entrance: Self::Entrance, denied: &Denied) -> Option<String>;

    /// Serves a connection until its session is over.
    fn serve(self: Arc<Self>, accepted: Accepted<Self::Entrance>) -> impl Future<Output = ()> + Send;

    /// Looks every two seconds at what may have changed.
    fn look_around(&self) {}

    /// Does what is left to do when all sessions are over.
    fn sessions_over(&self) -> impl Future<Output = ()> + Send {
        future::ready(())
    }
}

/// The accept loop of a door, which listens and does not accept yet.
pub(in crate::doors) struct AcceptLoop<D: SessionDoor> {
    pub(in crate::doors) door: Arc<D>,
    listeners: Listeners<D::Entrance>,
    threads: SessionThreads,
}

impl<D: SessionDoor> AcceptLoop<D> {
    /// Starts the threads of the sessions.
    ///
    /// # Errors
    /// When the system has no thread left.
    pub(in crate::doors) fn new(door: D, listeners: Listeners<D::Entrance>) -> io::Result<Self> {
        let threads = SessionThreads::start(door.common().door)?;
        Ok(Self { door: Arc::new(door), listeners, threads })
    }

    /// Accepts until `shutdown` is true or its sender is gone, then lets transfers end for the door's grace, and cuts
    /// the rest.
    pub(in crate::doors) async fn run(self, mut shutdown: watch::Receiver<bool>) {
        let common = self.door.common();
        let mut round = interval(ROUND);
        loop {
            tokio::select! {
                incoming = self.listeners.accept() => self.serve(incoming),
                _ = round.tick() => {
                    common.links.dismiss_disabled(&common.partners);
                    self.door.look_around();
                }
                // The value seen is a lock's guard, which must not live on beside the other branches.
                () = async { let _ = shutdown.wait_for(|&stop| stop).await; } => break,
            }
        }
        drop(self.listeners);
        // The listeners are closed before: nothing new comes in while the rest ends.
        common.links.drain(common.settings.grace).await;
        self.door.sessions_over().await;
        // What sessions began goes on when they are over, on their threads.
        common.ingest.idle().await;
        drop(self.threads);
    }

    /// Puts a connection on a session thread.
    fn serve(&self, NewConnection { stream, peer, entrance }: NewConnection<D::Entrance>) {
        let door = self.door.clone();
        self.threads.serve(stream, peer, move |stream| admit(door, stream, peer, entrance));
    }
}
