//! The door's watch over files that wait for the sign that their sender has the reply.
//!
//! It looks each half second after those that no command comes for: sessions that fall silent, and the connections of
//! sessions that are over, on descriptors of its own. It holds no place of a session or connection.

use std::{
    sync::{Arc, Weak},
    time::Duration,
};

use futures_util::{StreamExt, stream};
use parking_lot::Mutex;
use tokio::{
    sync::Notify,
    time::{Instant, sleep},
};
use tokio_util::sync::CancellationToken;

use crate::{doors::core::Link, ingest::Ingest};

use super::unconfirmed::{Left, Unconfirmed, tick};

/// Connections whose files are acted on at the same time, so that they share the syncs of what is withdrawn and held.
const ACTED_ON_AT_ONCE: usize = 64;
/// Sessions that are over and watched at most.
const MOST_ENDED: usize = 1024;
/// The time for what is undecided when the door closes.
const LAST_LOOKS: Duration = Duration::from_secs(2);
const LAST_STEP: Duration = Duration::from_millis(20);

/// The watch of a door over all files that wait.
#[derive(Debug, Default)]
pub(super) struct Watch {
    known: Mutex<Known>,
    came: Notify,
    stopping: CancellationToken,
}

#[derive(Debug, Default)]
struct Known {
    sessions: Vec<Weak<Unconfirmed>>,
    /// Those of sessions that are over.
    ended: Vec<Arc<Unconfirmed>>,
}

impl Watch {
    /// Makes the place for the first file of a session that waits.
    pub(super) fn first_of_session(&self, ingest: &Arc<Ingest>, link: &Arc<Link>) -> Arc<Unconfirmed> {
        let unconfirmed = Arc::new(Unconfirmed::new(ingest, link));
        // Weak: the session itself has it, and this only looks.
        self.known.lock().sessions.push(Arc::downgrade(&unconfirmed));
        self.came.notify_one();
        unconfirmed
    }

    /// The session is over: decides what can be decided now, and watches over the rest. Gives whether the client has
    /// ended the connection and a reset may follow; what is said to it now would only provoke one.
    pub(super) async fn take_over(&self, unconfirmed: Arc<Unconfirmed>) -> bool {
        // First what can be decided while the connection is still the session's.
        unconfirmed.act_on_decided().await;
        if unconfirmed.is_empty() {
            return false;
        }
        let Left { files, has_descriptor, client_has_ended } = unconfirmed.leave();
        // Without a descriptor nothing can be looked at any more, and beyond the bound nothing is
        // kept: then what is known now decides.
        match has_descriptor && self.has_room() {
            true => {
                self.known.lock().ended.push(files);
                self.came.notify_one();
            }
            false => files.act_on_all().await,
        }
        client_has_ended
    }

    fn has_room(&self) -> bool {
        self.known.lock().ended.len() < MOST_ENDED && !self.stopping.is_cancelled()
    }

    /// Watches until [`Watch::close`].
    pub(super) async fn run(self: Arc<Self>, confirm_after: Duration) {
        let tick = tick(confirm_after);
        loop {
            let next = async {
                // Costs nothing while no file waits.
                if self.is_idle() {
                    self.came.notified().await;
                }
                sleep(tick).await;
            };
            tokio::select! {
                () = next => self.round().await,
                () = self.stopping.cancelled() => return,
            }
        }
    }

    /// The door is closed and its sessions are over: what is undecided gets a last while.
    pub(super) async fn close(&self) {
        // No round beside these: each file is decided once.
        self.stopping.cancel();
        let end = Instant::now() + LAST_LOOKS;
        while !self.known.lock().ended.is_empty() && Instant::now() < end {
            self.round().await;
            sleep(LAST_STEP).await;
        }
        let left = std::mem::take(&mut self.known.lock().ended);
        for unconfirmed in left {
            unconfirmed.act_on_all().await;
        }
    }

    fn is_idle(&self) -> bool {
        let mut known = self.known.lock();
        known.sessions.retain(|session| session.strong_count() > 0);
        known.sessions.is_empty() && known.ended.is_empty()
    }

    async fn round(&self) {
        let now = Instant::now();
        // The lock is let go of before anything is decided: deciding waits for the disk.
        let due: Vec<_> = {
            let known = self.known.lock();
            let sessions = known.sessions.iter().filter_map(Weak::upgrade).filter(|session| session.is_due(now));
            sessions.chain(known.ended.iter().cloned()).collect()
        };
        let act = |unconfirmed: Arc<Unconfirmed>| async move { unconfirmed.act_on_decided().await };
        stream::iter(due).for_each_concurrent(ACTED_ON_AT_ONCE, act).await;
        self.known.lock().ended.retain(|unconfirmed| !unconfirmed.is_empty());
    }
}
