//! Connections that are there now, and who may have one more.
//!
//! Places are few, and strangers must not take them all. So those who have not logged in are counted by address, by
//! network and in all; from some number on a new one is turned away at random ([`MaxStartups`]), and one address gets so
//! many in a second. Some places are only for addresses that a partner has logged in from: those need no luck.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use tracing::warn;

use super::{Denied, Limits, MaxStartups};
use crate::{
    clock::Clock,
    credentials::KnownOrigins,
    origin::{Around, Origin},
};

/// Most addresses whose rate is remembered.
const MOST_RATES: usize = 16_384;
/// The time between two warnings that connections are turned away.
const WARN_EVERY: Duration = Duration::from_secs(60);
/// The part of all places that is only for addresses that a partner has logged in from.
const KEPT_PART: u32 = 8;
/// An IPv6 /48 may have so many times the connections of a /56.
const WIDE: u32 = 4;

/// The registry of open connections.
#[derive(Debug)]
pub(super) struct Connections {
    clock: Arc<dyn Clock>,
    known: Arc<KnownOrigins>,
    counts: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    all: u32,
    /// Those that have not logged in.
    startups: u32,
    by_origin: HashMap<Origin, OfOrigin>,
    by_network: HashMap<Around, u32>,
    rates: HashMap<Origin, Rate>,
    turned_away: u64,
    warned_at: Option<Duration>,
}

#[derive(Clone, Copy, Debug, Default)]
struct OfOrigin {
    all: u32,
    startups: u32,
}

/// The connections without a login of one address as a leaky bucket: the time at which it is empty.
#[derive(Clone, Copy, Debug)]
struct Rate {
    empty_at: Duration,
}

impl Connections {
    pub(super) fn new(clock: Arc<dyn Clock>, known: Arc<KnownOrigins>) -> Arc<Self> {
        Arc::new(Self { clock, known, counts: Mutex::default() })
    }

    /// Admits a connection of a client; the ticket says when it has its turn.
    pub(super) fn connect(self: &Arc<Self>, peer: IpAddr, limits: &Limits) -> Result<ConnectionTicket, Denied> {
        let origin = Origin::of(peer);
        // Before the lock of the counts: two locks are never held together.
        let is_known = self.known.is_known(origin);
        let now = self.clock.elapsed();
        let mut counts = self.counts.lock();
        if let Err(denied) = counts.may_come(origin, is_known, limits) {
            counts.turn_away(now);
            return Err(denied);
        }
        counts.add(origin);
        let turn_at = match is_known {
            true => Duration::ZERO,
            false => counts.turn_at(origin, now, limits),
        };
        Ok(ConnectionTicket { registry: Arc::clone(self), origin, is_startup: AtomicBool::new(true), turn_at })
    }

    /// Admits a connection of a proxy, until it has named its client.
    pub(super) fn connect_proxy(self: &Arc<Self>, proxy: IpAddr, most: u32) -> Result<ConnectionTicket, Denied> {
        let origin = Origin::of(proxy);
        let mut counts = self.counts.lock();
        if counts.all >= most {
            return Err(Denied::TooManyConnections);
        }
        counts.add(origin);
        let ticket = ConnectionTicket {
            registry: Arc::clone(self),
            origin,
            is_startup: AtomicBool::new(true),
            turn_at: Duration::ZERO,
        };
        Ok(ticket)
    }

    pub(super) fn count(&self) -> u32 {
        self.counts.lock().all
    }
}

/// Connections of one listener, which no flood of another takes. Those who come log in nowhere, so they are counted by
/// address and in all, and no luck is needed.
#[derive(Debug)]
pub struct PlacesApart {
    connections: Arc<Connections>,
    limits: Limits,
}

impl PlacesApart {
    pub(super) fn new(connections: Arc<Connections>, most: u32, most_of_address: u32) -> Self {
        let limits = Limits {
            max_connections: most,
            max_connections_per_address: most_of_address,
            max_connections_per_network: most,
            max_startups: MaxStartups::never(),
            ..Limits::default()
        };
        Self { connections, limits }
    }

    /// A place for a connection from there.
    ///
    /// # Errors
    /// [`Denied::TooManyConnections`] or [`Denied::TooManyFromAddress`].
    pub fn take(&self, peer: IpAddr) -> Result<ConnectionTicket, Denied> {
        self.connections.connect(peer, &self.limits)
    }
}

impl Counts {
    fn may_come(&self, origin: Origin, is_known: bool, limits: &Limits) -> Result<(), Denied> {
        let most = limits.max_connections;
        let of_origin = self.by_origin.get(&origin).copied().unwrap_or_default();
        // First what holds for everybody, known or not.
        if self.all >= most {
            return Err(Denied::TooManyConnections);
        }
        if of_origin.all >= limits.max_connections_per_address {
            return Err(Denied::TooManyFromAddress);
        }
        // As many as a partner may have sessions: they may all come at once.
        if is_known && of_origin.startups < limits.max_sessions_per_partner {
            return Ok(());
        }
        let of_network = limits.max_connections_per_network.max(limits.max_connections_per_address);
        let is_full = |around: Around| {
            let most = if around.is_wide { of_network.saturating_mul(WIDE) } else { of_network };
            self.by_network.get(&around).is_some_and(|count| *count >= most)
        };
        if origin.around().any(is_full) {
            return Err(Denied::TooManyFromAddress);
        }
        // Chance and not the order of arrival: a flood that is faster than everybody would
        // otherwise have every place.
        let is_unlucky = limits.max_startups.turns_away(self.startups, rand::random_range(0..100));
        // The last eighth is for addresses that a partner has come from.
        match is_unlucky || self.all >= most - most / KEPT_PART {
            true => Err(Denied::TooManyConnections),
            false => Ok(()),
        }
    }

    fn add(&mut self, origin: Origin) {
        self.all += 1;
        self.startups += 1;
        let of_origin = self.by_origin.entry(origin).or_default();
        (of_origin.all, of_origin.startups) = (of_origin.all + 1, of_origin.startups + 1);
        for around in origin.around() {
            *self.by_network.entry(around).or_default() += 1;
        }
    }

    fn remove(&mut self, origin: Origin, is_startup: bool) {
        self.all -= 1;
        if is_startup {
            self.no_startup(origin);
        }
        if let Some(of_origin) = self.by_origin.get_mut(&origin) {
            of_origin.all -= 1;
            if of_origin.all == 0 {
                self.by_origin.remove(&origin);
            }
        }
        for around in origin.around() {
            if let Some(count) = self.by_network.get_mut(&around) {
                *count -= 1;
                if *count == 0 {
                    self.by_network.remove(&around);
                }
            }
        }
    }

    fn no_startup(&mut self, origin: Origin) {
        self.startups -= 1;
        if let Some(of_origin) = self.by_origin.get_mut(&origin) {
            of_origin.startups -= 1;
        }
    }

    /// The time at which one more connection of this address has its turn.
    fn turn_at(&mut self, origin: Origin, now: Duration, limits: &Limits) -> Duration {
        if self.rates.len() >= MOST_RATES {
            self.rates.retain(|_, rate| rate.empty_at > now);
        }
        // Beyond that there are more addresses than any rate of one of them matters for.
        if self.rates.len() >= MOST_RATES && !self.rates.contains_key(&origin) {
            return now;
        }
        let each = Duration::from_secs(1) / limits.startups_per_second.max(1);
        let rate = self.rates.entry(origin).or_insert(Rate { empty_at: now });
        rate.empty_at = rate.empty_at.max(now) + each;
        // A bucket that is not full has its turn at once: the result lies in the past then.
        rate.empty_at.saturating_sub(each.saturating_mul(limits.startup_burst))
    }

    /// One that was counted has logged in: what it took is given back.
    fn give_back(&mut self, origin: Origin, limits: &Limits) {
        let each = Duration::from_secs(1) / limits.startups_per_second.max(1);
        if let Some(rate) = self.rates.get_mut(&origin) {
            rate.empty_at = rate.empty_at.saturating_sub(each);
        }
    }

    fn turn_away(&mut self, now: Duration) {
        self.turned_away += 1;
        if self.warned_at.is_none_or(|at| now.saturating_sub(at) >= WARN_EVERY) {
            let (turned_away, connections, startups) = (self.turned_away, self.all, self.startups);
            warn!(
                turned_away,
                connections,
                not_logged_in = startups,
                "connections are turned away; see [limits] max_connections, max_connections_per_address, \
                 max_connections_per_network and max_startups"
            );
            (self.warned_at, self.turned_away) = (Some(now), 0);
        }
    }
}

/// The place of one connection.
#[derive(Debug)]
pub struct ConnectionTicket {
    registry: Arc<Connections>,
    origin: Origin,
    /// No partner has logged in on it.
    is_startup: AtomicBool,
    turn_at: Duration,
}

impl ConnectionTicket {
    /// The time that the connection has to wait until it is served: its address has opened many without a login. Less
    /// when a partner logs in from there meanwhile. None: it has its turn.
    #[must_use]
    pub fn wait(&self) -> Option<Duration> {
        let wait = self.turn_at.checked_sub(self.registry.clock.elapsed()).filter(|wait| !wait.is_zero())?;
        (!self.registry.known.is_known(self.origin)).then_some(wait)
    }

    /// Returns true if a partner has logged in from this address before.
    #[must_use]
    pub fn is_of_known(&self) -> bool {
        self.registry.known.is_known(self.origin)
    }

    /// A partner has logged in on it: it is no longer among those that may be a flood.
    pub(crate) fn logged_in(&self, limits: &Limits) {
        if self.is_startup.swap(false, Ordering::AcqRel) {
            let mut counts = self.registry.counts.lock();
            counts.no_startup(self.origin);
            counts.give_back(self.origin, limits);
        }
    }
}

impl Drop for ConnectionTicket {
    fn drop(&mut self) {
        // Whether it had logged in is read at the end: `logged_in` may have come last.
        self.registry.counts.lock().remove(self.origin, self.is_startup.load(Ordering::Acquire));
    }
}

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::clock::SetClock;

    fn registry() -> (Arc<Connections>, Arc<KnownOrigins>, SetClock) {
        let clock = SetClock::new(DateTime::UNIX_EPOCH);
        let known = Arc::new(KnownOrigins::in_memory(Arc::new(clock.clone())));
        (Connections::new(Arc::new(clock.clone()), known.clone()), known, clock)
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    fn calm() -> Limits {
        Limits { max_startups: "10000:1:10000".parse().unwrap(), startup_burst: 10_000, ..Limits::default() }
    }

    #[test]
    fn a_connection_gives_its_place_back() {
        let (registry, ..) = registry();
        let limits = Limits { max_connections: 3, max_connections_per_address: 2, ..calm() };
        let (one, other) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = registry.connect(one, &limits).unwrap();
        let _second = registry.connect(one, &limits).unwrap();
        assert_eq!(registry.connect(one, &limits).unwrap_err(), Denied::TooManyFromAddress);
        let third = registry.connect(other, &limits).unwrap();
        third.logged_in(&limits);
        assert_eq!(registry.connect(other, &limits).unwrap_err(), Denied::TooManyConnections);
        assert_eq!(registry.count(), 3);
        drop(first);
        drop(registry.connect(one, &limits).unwrap());
        drop(third);
        assert_eq!(registry.count(), 1);
        let counts = registry.counts.lock();
        assert_eq!((counts.by_origin.len(), counts.by_network.len(), counts.startups), (1, 1, 1));
    }

    #[test]
    fn strangers_at_many_addresses_leave_places_for_those_who_have_logged_in() {
        let (registry, known, _) = registry();
        let own = address("198.51.100.7");
        known.came("demo", Origin::of(own));
        let limits = Limits::default();
        // Each in a network of its own.
        let floods = (0..10_000u32).map(|n| IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0001 + ((n % 200) << 8))));
        let held: Vec<_> = floods.filter_map(|from| registry.connect(from, &limits).ok()).collect();
        assert_eq!(held.len(), 512, "no more than full");
        let sessions: Vec<_> = (0..32).map(|_| registry.connect(own, &limits).unwrap()).collect();
        assert!(sessions.iter().all(|ticket| ticket.wait().is_none()));
        // Also when strangers would have all: the last eighth is not theirs.
        let many = Limits { max_startups: "10000:1:10000".parse().unwrap(), ..Limits::default() };
        let more: Vec<_> = (0..10_000u32)
            .map(|n| IpAddr::from(std::net::Ipv4Addr::from(0x0b00_0001 + ((n % 200) << 8))))
            .filter_map(|from| registry.connect(from, &many).ok())
            .collect();
        assert_eq!(held.len() + sessions.len() + more.len(), 1024 - 128);
        assert!(registry.connect(address("198.51.100.8"), &many).is_err());
        assert!(registry.connect(own, &many).is_err(), "of more than a partner's sessions it needs a stranger's luck");
        sessions.iter().for_each(|ticket| ticket.logged_in(&limits));
        assert!(registry.connect(own, &many).is_ok());
    }

    #[test]
    fn a_network_has_so_many_and_no_more() {
        let (registry, ..) = registry();
        let limits = Limits { max_connections_per_address: 10, max_connections_per_network: 20, ..calm() };
        let taken = |addresses: &mut dyn Iterator<Item = String>| {
            addresses.filter_map(|from| registry.connect(address(&from), &limits).ok()).collect::<Vec<_>>()
        };
        let v4 = taken(&mut (0..200).map(|n| format!("192.0.2.{n}")));
        assert_eq!(v4.len(), 20, "a /24");
        let near = taken(&mut (0..200).map(|n| format!("2001:db8:1:2{n:02x}::1").replace("2c8", "2c7")));
        assert_eq!(near.len(), 20, "a /56");
        let far = taken(&mut (0..200).map(|n| format!("2001:db8:1:{n:x}00::1")));
        assert_eq!(near.len() + far.len(), 80, "a /48");
        assert!(registry.connect(address("192.0.3.1"), &limits).is_ok());
    }

    #[test]
    fn an_address_without_a_login_waits_for_its_turn() {
        let (registry, known, clock) = registry();
        let limits = Limits { startup_burst: 4, startups_per_second: 2, ..calm() };
        let from = address("192.0.2.1");
        let held: Vec<_> = (0..7).map(|_| registry.connect(from, &limits).unwrap()).collect();
        let waits = || held.iter().map(|ticket| ticket.wait().map_or(0, |wait| wait.as_millis())).collect::<Vec<_>>();
        assert_eq!(waits(), [0, 0, 0, 0, 500, 1000, 1500]);
        clock.advance(Duration::from_secs(1));
        assert_eq!(waits(), [0, 0, 0, 0, 0, 0, 500]);
        let other = registry.connect(address("192.0.2.2"), &limits).unwrap();
        assert_eq!(other.wait(), None, "another address has its own");
        // Who logs in has cost nothing.
        held[0].logged_in(&limits);
        assert_eq!(registry.connect(from, &limits).unwrap().wait(), Some(Duration::from_millis(500)));
        known.came("demo", Origin::of(from));
        assert_eq!(waits(), [0; 7], "a partner comes from there");
        clock.advance(Duration::from_secs(10));
        assert_eq!(registry.connect(from, &limits).unwrap().wait(), None);
    }

    #[test]
    fn rates_of_many_addresses_take_bounded_memory() {
        let (registry, ..) = registry();
        let limits = Limits { max_connections_per_network: 100_000, ..calm() };
        for n in 0..40_000u32 {
            drop(registry.connect(IpAddr::from(std::net::Ipv4Addr::from(0x0a00_0000 + n)), &limits).unwrap());
        }
        assert!(registry.counts.lock().rates.len() <= MOST_RATES);
    }
}
