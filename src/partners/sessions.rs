//! Sessions that are there now. Each holds a ticket, and its place is free when the ticket is
//! dropped.
//!
//! The registry ends no session itself: a kick is a wish, which the session's door sees
//! ([`SessionTicket::kicked`]) and carries out in the words of its protocol. Locks: `sessions` and
//! a session's `doing` are short and never held over an await; `doing` may be taken under
//! `sessions`, never the other way round.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{
    Credentials, Denied, Partner, PartnerMemory, PartnerName, bandwidth::BandwidthLimit, memory_budget::MemoryBudget,
};
use crate::clock::Clock;

/// The registry of open sessions.
#[derive(Debug)]
pub(super) struct SessionRegistry {
    clock: Arc<dyn Clock>,
    sessions: Mutex<Sessions>,
    memory: MemoryBudget,
    /// Kept without sessions too: a partner that logs in for every file must not get a full bucket each time.
    bandwidth_limits: Mutex<HashMap<PartnerName, Arc<BandwidthLimit>>>,
}

#[derive(Debug, Default)]
struct Sessions {
    by_id: HashMap<Uuid, Arc<Session>>,
    by_partner: HashMap<PartnerName, u32>,
}

#[derive(Debug)]
struct Session {
    id: Uuid,
    partner: PartnerName,
    door: &'static str,
    peer: SocketAddr,
    since: DateTime<Utc>,
    bytes: AtomicU64,
    active_ms: AtomicU64,
    doing: Mutex<Doing>,
    kicked: CancellationToken,
    credentials: Credentials,
    bandwidth: Arc<BandwidthLimit>,
    memory: PartnerMemory,
}

/// The present command of a session, its start, and the bytes that were moved before it.
#[derive(Debug, Default)]
struct Doing {
    what: String,
    since: Duration,
    bytes_before: u64,
}

/// The status of one session.
#[derive(Clone, Debug, Serialize)]
pub struct SessionStatus {
    /// Which one.
    pub id: Uuid,
    /// Whose.
    pub partner: PartnerName,
    /// Through which door.
    pub door: &'static str,
    /// From where.
    pub peer: SocketAddr,
    /// When it logged in.
    pub since: DateTime<Utc>,
    /// The present command; empty when the session waits for one.
    pub doing: String,
    /// Bytes it has sent and fetched.
    pub bytes: u64,
    /// Bytes a second of what it does now.
    pub bytes_per_second: u64,
    /// The idle time, in seconds.
    pub idle_seconds: u64,
}

impl SessionRegistry {
    pub(super) fn new(clock: Arc<dyn Clock>, memory: MemoryBudget) -> Arc<Self> {
        Arc::new(Self { clock, sessions: Mutex::default(), memory, bandwidth_limits: Mutex::default() })
    }

    pub(super) fn begin(
        self: &Arc<Self>,
        partner: &Partner,
        door: &'static str,
        peer: SocketAddr,
        most: u32,
        bytes_per_second: Option<u64>,
    ) -> Result<SessionTicket, Denied> {
        let (partner, credentials) = (&partner.name, partner.credentials.clone());
        // Made before the lock, counted under it: two logins at once cannot both take the last
        // place.
        let session = Arc::new(Session {
            id: Uuid::new_v4(),
            partner: partner.clone(),
            door,
            peer,
            since: self.clock.now(),
            bytes: AtomicU64::new(0),
            active_ms: AtomicU64::new(millis(self.clock.elapsed())),
            doing: Mutex::default(),
            kicked: CancellationToken::new(),
            credentials,
            bandwidth: self.bandwidth(partner, bytes_per_second),
            memory: self.memory.of(partner),
        });
        let mut sessions = self.sessions.lock();
        // Looking and counting under one lock.
        let of_one = sessions.by_partner.entry(partner.clone()).or_default();
        if *of_one >= most {
            return Err(Denied::TooManySessions);
        }
        *of_one += 1;
        sessions.by_id.insert(session.id, Arc::clone(&session));
        Ok(SessionTicket { registry: Arc::clone(self), session })
    }

    /// Every session, the oldest first.
    pub(super) fn sessions(&self) -> Vec<SessionStatus> {
        let now = self.clock.elapsed();
        let mut all: Vec<_> = self.sessions.lock().by_id.values().map(|session| session.status(now)).collect();
        all.sort_by_key(|session| (session.since, session.id));
        all
    }

    fn bandwidth(&self, partner: &PartnerName, bytes_per_second: Option<u64>) -> Arc<BandwidthLimit> {
        let mut bandwidth_limits = self.bandwidth_limits.lock();
        let limit = bandwidth_limits
            .entry(partner.clone())
            .or_insert_with(|| Arc::new(BandwidthLimit::new(Arc::clone(&self.clock))));
        limit.set(bytes_per_second);
        Arc::clone(limit)
    }

    /// Sets the limit of every known partner to the result of `of`.
    pub(super) fn set_bandwidth_limits(&self, of: impl Fn(&PartnerName) -> Option<u64>) {
        self.bandwidth_limits.lock().iter().for_each(|(partner, limit)| limit.set(of(partner)));
    }

    /// Wants the session to end; as it was, if it was there.
    pub(super) fn kick(&self, id: Uuid) -> Option<SessionStatus> {
        let session = self.sessions.lock().by_id.get(&id).cloned()?;
        session.kicked.cancel();
        Some(session.status(self.clock.elapsed()))
    }

    /// Wants those sessions to end that `outdated` names, by partner, credentials and address; as they were.
    pub(super) fn kick_if(&self, outdated: impl Fn(&PartnerName, &Credentials, IpAddr) -> bool) -> Vec<SessionStatus> {
        // The lock is let go of first: `outdated` reads accounts from the disk.
        let all: Vec<_> = self.sessions.lock().by_id.values().cloned().collect();
        let now = self.clock.elapsed();
        let concerned = all.into_iter().filter(|session| !session.kicked.is_cancelled());
        let ended = concerned.filter(|session| outdated(&session.partner, &session.credentials, session.peer.ip()));
        ended
            .map(|session| {
                // Kicked once: one that is ending already is not reported again.
                session.kicked.cancel();
                session.status(now)
            })
            .collect()
    }
}

impl Session {
    fn status(&self, now: Duration) -> SessionStatus {
        let bytes = self.bytes.load(Ordering::Relaxed);
        let doing = self.doing.lock();
        let ms = millis(now.saturating_sub(doing.since)).max(1);
        // Of the present command alone, so that the rate is that of now.
        let moved = if doing.what.is_empty() { 0 } else { bytes.saturating_sub(doing.bytes_before) };
        SessionStatus {
            id: self.id,
            partner: self.partner.clone(),
            door: self.door,
            peer: self.peer,
            since: self.since,
            doing: doing.what.clone(),
            bytes,
            bytes_per_second: moved.saturating_mul(1000) / ms,
            idle_seconds: self.idle(now).as_secs(),
        }
    }

    fn idle(&self, now: Duration) -> Duration {
        now.saturating_sub(Duration::from_millis(self.active_ms.load(Ordering::Relaxed)))
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The place of one session in the registry, with its activity.
#[derive(Debug)]
pub struct SessionTicket {
    registry: Arc<SessionRegistry>,
    session: Arc<Session>,
}

impl SessionTicket {
    /// The session's own id.
    #[must_use]
    pub fn id(&self) -> Uuid {
        self.session.id
    }

    /// Whose it is.
    #[must_use]
    pub fn partner(&self) -> &PartnerName {
        &self.session.partner
    }

    /// The door it came through.
    #[must_use]
    pub fn door(&self) -> &'static str {
        self.session.door
    }

    /// Where it comes from.
    #[must_use]
    pub fn peer(&self) -> SocketAddr {
        self.session.peer
    }

    /// The client has done something.
    pub fn touch(&self) {
        self.session.active_ms.store(millis(self.registry.clock.elapsed()), Ordering::Relaxed);
    }

    /// Sets the present command, such as `STOR a.hl7`; empty when the session waits. Counts as activity.
    pub fn doing(&self, what: impl Into<String>) {
        // Before the new command is set: what was moved until now is not its own.
        let bytes_before = self.session.bytes.load(Ordering::Relaxed);
        *self.session.doing.lock() = Doing { what: what.into(), since: self.registry.clock.elapsed(), bytes_before };
        self.touch();
    }

    /// Bytes that were moved by what the session does now.
    #[must_use]
    pub fn moved(&self) -> u64 {
        self.session.bytes.load(Ordering::Relaxed).saturating_sub(self.session.doing.lock().bytes_before)
    }

    /// Bytes that were sent or fetched. Counts as a touch.
    pub fn add_bytes(&self, bytes: u64) {
        self.session.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.touch();
    }

    /// The time since the last activity.
    #[must_use]
    pub fn idle(&self) -> Duration {
        self.session.idle(self.registry.clock.elapsed())
    }

    /// The memory that bytes of the partner may take while they wait.
    #[must_use]
    pub fn memory(&self) -> &PartnerMemory {
        &self.session.memory
    }

    /// Waits until bytes that were moved are within the partner's bandwidth; at once when it has no limit. Cancel safe:
    /// the bytes count all the same.
    pub async fn throttle(&self, bytes: u64) {
        self.session.bandwidth.throttle(bytes).await;
    }

    /// Waits until an operator wants the session to end: its door says goodbye, cuts what is being moved and keeps what
    /// came of it. Cancel safe, and comes back at once when it was so before.
    pub async fn kicked(&self) {
        self.session.kicked.cancelled().await;
    }

    /// Returns true if an operator wants the session to end.
    #[must_use]
    pub fn is_kicked(&self) -> bool {
        self.session.kicked.is_cancelled()
    }
}

impl Drop for SessionTicket {
    fn drop(&mut self) {
        let mut sessions = self.registry.sessions.lock();
        // Both under one lock: no look sees a session that takes no place.
        sessions.by_id.remove(&self.session.id);
        give_back(&mut sessions.by_partner, &self.session.partner);
    }
}

fn give_back<K: std::hash::Hash + Eq>(counts: &mut HashMap<K, u32>, key: &K) {
    if let Some(count) = counts.get_mut(key) {
        *count -= 1;
        if *count == 0 {
            counts.remove(key);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::SetClock;

    fn partner(name: &str) -> Partner {
        Partner { name: name.parse().unwrap(), policy: Arc::default(), credentials: Credentials::default() }
    }

    fn registry() -> (Arc<SessionRegistry>, SetClock) {
        let clock = SetClock::new(DateTime::UNIX_EPOCH);
        (SessionRegistry::new(Arc::new(clock.clone()), MemoryBudget::new(1 << 20, 1 << 20)), clock)
    }

    #[test]
    fn a_session_is_counted_and_listed_while_its_ticket_is_held() {
        let (registry, clock) = registry();
        let (name, peer) = (partner("Demo"), "192.0.2.1:5000".parse().unwrap());
        let ticket = registry.begin(&name, "ftp", peer, 1, None).unwrap();
        let again = partner("demo");
        assert_eq!(registry.begin(&again, "sftp", peer, 1, None).unwrap_err(), Denied::TooManySessions);
        ticket.add_bytes(7);
        ticket.doing("STOR a.hl7");
        clock.advance(Duration::from_secs(9));
        let listed = registry.sessions();
        assert_eq!(listed.len(), 1);
        assert_eq!((listed[0].id, listed[0].bytes, listed[0].idle_seconds), (ticket.id(), 7, 9));
        assert_eq!((listed[0].partner.as_str(), listed[0].doing.as_str()), ("Demo", "STOR a.hl7"));
        ticket.touch();
        assert_eq!(ticket.idle(), Duration::ZERO);
        drop(ticket);
        assert!(registry.sessions().is_empty());
        assert!(registry.begin(&again, "ftp", peer, 1, None).is_ok());
    }

    #[tokio::test]
    async fn a_session_that_is_kicked_knows_it_and_no_other_does() {
        let (registry, _) = registry();
        let (name, peer) = (partner("Demo"), "192.0.2.1:5000".parse().unwrap());
        let one = registry.begin(&name, "ftp", peer, 2, None).unwrap();
        let other = registry.begin(&name, "ftp", peer, 2, None).unwrap();
        assert_eq!(registry.kick(one.id()).map(|session| session.id), Some(one.id()));
        one.kicked().await;
        one.kicked().await;
        assert!(one.is_kicked() && !other.is_kicked());
        let id = one.id();
        drop(one);
        assert!(registry.kick(id).is_none());
    }
}
