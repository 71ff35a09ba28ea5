//! Failed logins make the next ones wait: for the name, and for the address.
//!
//! A name waits whether it exists or not, so that waiting reveals nothing. An address that a name has logged in from
//! does not wait for that name's sake, so that strangers cannot lock a partner out; its own failures still count. All
//! of it is in memory, bounded, and decays.

use std::{
    collections::{HashMap, VecDeque},
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    time::Duration,
};

use parking_lot::{Mutex, RwLock};

use super::Limits;

/// Most names, and most addresses, that are remembered.
const MOST: usize = 8192;

/// Most addresses of a name that are remembered as its own.
const MOST_OWN: usize = 8;

/// The origin of logins: an IPv4 address, or an IPv6 /64, since one machine can use all addresses of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin(IpAddr);

impl Origin {
    pub(super) fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            address => address,
        })
    }
}

#[derive(Clone, Copy, Debug)]
struct Failures {
    count: u32,
    last: Duration,
    wait_until: Duration,
}

#[derive(Debug, Default)]
struct Known {
    names: HashMap<String, Failures>,
    origins: HashMap<Origin, Failures>,
    own: HashMap<String, VecDeque<Origin>>,
}

/// Remembers failed logins. Times are those of a clock that never goes back.
#[derive(Debug)]
pub(super) struct Lockout {
    rules: RwLock<Rules>,
    known: Mutex<Known>,
}

#[derive(Clone, Copy, Debug)]
struct Rules {
    free: u32,
    first: Duration,
    longest: Duration,
    half: Duration,
}

impl Rules {
    fn of(limits: &Limits) -> Self {
        Self {
            free: limits.free_failures,
            first: limits.first_wait,
            longest: limits.longest_wait,
            half: limits.forget_failures,
        }
    }

    /// Failures that still count: half of them are forgotten in every `half`.
    fn remaining(&self, failures: &Failures, now: Duration) -> u32 {
        let halves = now.saturating_sub(failures.last).as_nanos() / self.half.as_nanos().max(1);
        u32::try_from(halves).ok().and_then(|halves| failures.count.checked_shr(halves)).unwrap_or(0)
    }
}

impl Lockout {
    pub(super) fn new(limits: &Limits) -> Self {
        Self { rules: RwLock::new(Rules::of(limits)), known: Mutex::default() }
    }

    /// From now on these hold; what was counted stays, and who waits waits on.
    pub(super) fn set(&self, limits: &Limits) {
        *self.rules.write() = Rules::of(limits);
    }

    /// The time that `name` from `origin` must wait, if any.
    pub(super) fn wait(&self, name: &str, origin: Origin, now: Duration) -> Option<Duration> {
        let known = self.known.lock();
        let mut until = known.origins.get(&origin).map_or(Duration::ZERO, |failures| failures.wait_until);
        if !known.is_own(name, origin) {
            until = until.max(known.names.get(name).map_or(Duration::ZERO, |failures| failures.wait_until));
        }
        until.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    pub(super) fn failed(&self, name: &str, origin: Origin, now: Duration) {
        let rules = *self.rules.read();
        let mut known = self.known.lock();
        rules.count(&mut known.origins, origin, rules.free.saturating_mul(4), now);
        if !known.is_own(name, origin) {
            rules.count(&mut known.names, name.to_owned(), rules.free, now);
        }
    }

    /// `name` has logged in from `origin`.
    pub(super) fn succeeded(&self, name: &str, origin: Origin) {
        let mut known = self.known.lock();
        if known.is_own(name, origin) {
            return;
        }
        if known.own.len() >= MOST && !known.own.contains_key(name) {
            known.own.clear();
        }
        let own = known.own.entry(name.to_owned()).or_default();
        if own.len() >= MOST_OWN {
            own.pop_front();
        }
        own.push_back(origin);
    }

    /// Forgets the failures of `name`, and those of the addresses from which it has logged in.
    pub(super) fn forgive(&self, name: &str) {
        let mut known = self.known.lock();
        known.names.remove(name);
        for origin in known.own.remove(name).unwrap_or_default() {
            known.origins.remove(&origin);
        }
    }
}

impl Rules {
    fn count<K: Hash + Eq + Clone>(&self, all: &mut HashMap<K, Failures>, key: K, free: u32, now: Duration) {
        if all.len() >= MOST && !all.contains_key(&key) {
            self.make_room(all, now);
        }
        let failures = all.entry(key).or_insert(Failures { count: 0, last: now, wait_until: Duration::ZERO });
        failures.count = self.remaining(failures, now).saturating_add(1);
        failures.last = now;
        if let Some(beyond) = failures.count.checked_sub(free).filter(|beyond| *beyond > 0) {
            let wait = self.first.saturating_mul(1 << (beyond - 1).min(30)).min(self.longest);
            failures.wait_until = now + wait;
        }
    }

    /// Drops what has decayed, and if nothing has, the quarter that failed longest ago.
    fn make_room<K: Hash + Eq + Clone>(&self, all: &mut HashMap<K, Failures>, now: Duration) {
        all.retain(|_, failures| self.remaining(failures, now) > 0 || failures.wait_until > now);
        if all.len() < MOST {
            return;
        }
        let mut lasts: Vec<_> = all.values().map(|failures| failures.last).collect();
        let (_, cut, _) = lasts.select_nth_unstable(MOST / 4);
        let cut = *cut;
        let mut drop = MOST / 4 + 1;
        all.retain(|_, failures| {
            let keep = failures.last > cut || drop == 0;
            drop -= usize::from(!keep);
            keep
        });
    }
}

impl Known {
    fn is_own(&self, name: &str, origin: Origin) -> bool {
        self.own.get(name).is_some_and(|own| own.contains(&origin))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lockout() -> Lockout {
        Lockout::new(&Limits::default())
    }

    fn origin(text: &str) -> Origin {
        Origin::of(text.parse().unwrap())
    }

    const fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    #[test]
    fn the_wait_grows_and_has_an_end() {
        let (lockout, from) = (lockout(), origin("192.0.2.1"));
        let mut now = secs(1);
        for _ in 0..5 {
            lockout.failed("demo", from, now);
            assert_eq!(lockout.wait("demo", from, now), None);
        }
        for wait in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
            lockout.failed("demo", from, now);
            assert_eq!(lockout.wait("demo", from, now), Some(secs(wait)));
            now += secs(wait);
            assert_eq!(lockout.wait("demo", from, now), None, "the wait ends by itself");
        }
    }

    #[test]
    fn failures_are_forgotten() {
        let (lockout, from) = (lockout(), origin("192.0.2.1"));
        for _ in 0..8 {
            lockout.failed("demo", from, secs(0));
        }
        let later = secs(3 * 600);
        for _ in 0..4 {
            lockout.failed("demo", from, later);
            assert_eq!(lockout.wait("demo", from, later), None);
        }
        lockout.failed("demo", from, later);
        assert!(lockout.wait("demo", from, later).is_some(), "one of eight was left");
    }

    #[test]
    fn strangers_do_not_lock_a_partner_out() {
        let (lockout, own, stranger) = (lockout(), origin("192.0.2.1"), origin("203.0.113.1"));
        lockout.succeeded("demo", own);
        for _ in 0..10 {
            lockout.failed("demo", stranger, secs(0));
        }
        assert!(lockout.wait("demo", stranger, secs(0)).is_some());
        assert!(lockout.wait("demo", origin("198.51.100.1"), secs(0)).is_some(), "the name waits elsewhere");
        assert_eq!(lockout.wait("demo", own, secs(0)), None);
    }

    #[test]
    fn an_address_that_tries_many_names_waits_for_all_of_them() {
        let (lockout, from) = (lockout(), origin("2001:db8::1"));
        for at in 0..21 {
            lockout.failed(&format!("name-{at}"), from, secs(0));
        }
        assert!(lockout.wait("another", origin("2001:db8::2"), secs(0)).is_some(), "the same /64");
        assert_eq!(lockout.wait("another", origin("2001:db8:0:1::2"), secs(0)), None);
    }

    #[test]
    fn memory_is_bounded() {
        let lockout = lockout();
        for at in 0..3 * MOST as u32 {
            let from = Origin::of(std::net::Ipv4Addr::from(at).into());
            lockout.failed(&format!("name-{at}"), from, Duration::from_millis(u64::from(at) / 3));
            lockout.succeeded(&format!("name-{at}"), from);
        }
        let known = lockout.known.lock();
        assert!(known.names.len() <= MOST && known.origins.len() <= MOST && known.own.len() <= MOST);
        assert!(known.names.len() > MOST / 2, "the latest are kept: {}", known.names.len());
    }

    #[test]
    fn an_operator_can_forgive() {
        let (lockout, from) = (lockout(), origin("192.0.2.1"));
        lockout.succeeded("demo", from);
        for _ in 0..40 {
            lockout.failed("demo", from, secs(0));
        }
        assert!(lockout.wait("demo", from, secs(0)).is_some());
        lockout.forgive("demo");
        assert_eq!(lockout.wait("demo", from, secs(0)), None);
    }
}
