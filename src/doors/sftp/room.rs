//! The memory that bytes take which wait on a channel.
//!
//! It is the partner's, over all sessions ([`PartnerMemory`]), up to a bound for each channel. Where the partner's is
//! spent, a session has a little for its own: enough for the longest packet each way, so that it always goes on.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::partners::{MemoryPermit, PartnerMemory};

use super::packet::MAX_PACKET_BYTES;

/// Bytes of a channel that were taken from the client and not yet given to storage.
const WRITING_BYTES: usize = 8 << 20;
/// Bytes of a channel that came early, of all its files.
const EARLY_BYTES: usize = 8 << 20;
/// Bytes of a channel that were read from files and are not yet sent.
const READING_BYTES: usize = 4 << 20;
/// What a session has for its own, for each of these.
const OWN_BYTES: usize = 2 * MAX_PACKET_BYTES;
/// The time after which one that waits for its own looks again whether the partner has some.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// Memory for one direction or purpose.
///
/// Three bounds at once: the channel's, the partner's, and beneath both a little that is the
/// session's own, so that a partner that has spent its memory elsewhere still gets on.
#[derive(Clone, Debug)]
pub(super) struct Room {
    partner: PartnerMemory,
    channel: Arc<Semaphore>,
    own: Arc<Semaphore>,
}

/// Memory that is taken, until it is dropped.
#[derive(Debug)]
pub(super) struct Held {
    _channel: OwnedSemaphorePermit,
    _of: Of,
}

/// Whose memory it is.
#[derive(Debug)]
#[allow(dead_code, reason = "each is held, and given back when it is dropped")]
enum Of {
    Partner(MemoryPermit),
    Own(OwnedSemaphorePermit),
}

/// What a session has for its own, by purpose: none of them waits for another.
#[derive(Clone, Debug)]
pub(super) struct OwnRoom {
    partner: PartnerMemory,
    writing: Arc<Semaphore>,
    early: Arc<Semaphore>,
    reading: Arc<Semaphore>,
}

/// The memory of a channel by its purposes.
#[derive(Clone, Debug)]
pub(super) struct Rooms {
    /// Taken from the client, and not yet given to storage.
    pub(super) writing: Room,
    /// Came early.
    pub(super) early: Room,
    /// Read, and not yet sent.
    pub(super) reading: Room,
}

impl OwnRoom {
    /// That of a new session.
    pub(super) fn new(partner: PartnerMemory) -> Self {
        let own = || Arc::new(Semaphore::new(OWN_BYTES));
        Self { partner, writing: own(), early: own(), reading: own() }
    }

    /// The memory of a new channel of the session.
    pub(super) fn channel(&self) -> Rooms {
        let room = |most, own: &Arc<Semaphore>| Room {
            partner: self.partner.clone(),
            channel: Arc::new(Semaphore::new(most)),
            own: Arc::clone(own),
        };
        Rooms {
            writing: room(WRITING_BYTES, &self.writing),
            early: room(EARLY_BYTES, &self.early),
            reading: room(READING_BYTES, &self.reading),
        }
    }
}

impl Room {
    /// Waits for so many bytes, at most those of the longest packet. None only for more: no semaphore is ever closed.
    pub(super) async fn take(&self, bytes: usize) -> Option<Held> {
        let wanted = u32::try_from(bytes).ok().filter(|_| bytes <= OWN_BYTES)?;
        // The channel's share first: who waits for the partner's memory must not hold some of it.
        let channel = Arc::clone(&self.channel).acquire_many_owned(wanted).await.ok()?;
        loop {
            if let Some(permit) = self.partner.try_take(bytes) {
                return Some(Held { _channel: channel, _of: Of::Partner(permit) });
            }
            // Others of the partner hold its memory, perhaps for long.
            if let Ok(own) = timeout(LOOK_AGAIN, Arc::clone(&self.own).acquire_many_owned(wanted)).await {
                return Some(Held { _channel: channel, _of: Of::Own(own.ok()?) });
            }
        }
    }

    /// Takes so many bytes for a while, if there are as many.
    pub(super) fn try_take_for_long(&self, bytes: usize) -> Option<Held> {
        let wanted = u32::try_from(bytes).ok()?;
        let channel = Arc::clone(&self.channel).try_acquire_many_owned(wanted).ok()?;
        let of = match self.partner.try_take_for_long(bytes) {
            Some(permit) => Of::Partner(permit),
            None => Of::Own(Arc::clone(&self.own).try_acquire_many_owned(wanted).ok()?),
        };
        Some(Held { _channel: channel, _of: of })
    }
}
