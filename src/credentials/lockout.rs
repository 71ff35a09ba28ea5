//! Failed logins make the next ones wait.
//!
//! A guess costs the address that it comes from more than the name that it is at: an address waits after a few, a name
//! after four times as many, and only for addresses that it has not logged in from. A name waits whether it exists or not,
//! so that waiting reveals nothing. From an address of its own an account waits for nobody's failures but those under its
//! own name from there: neither strangers nor neighbours behind the same router can lock it out. All of it is in memory,
//! bounded, and decays; the addresses of accounts last over restarts ([`KnownOrigins`]).

use std::{collections::HashMap, hash::Hash, sync::Arc, time::Duration};

use parking_lot::{Mutex, RwLock};

use super::KnownOrigins;
use crate::origin::Origin;

/// Most names, addresses, and names at addresses of their own that are remembered.
const MOST: usize = 8192;
/// A name has so many times the free failures of an address.
const FREE_OF_NAME: u32 = 4;

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
    /// Of names at addresses that they have logged in from.
    own: HashMap<(String, Origin), Failures>,
}

/// Remembers failed logins. Times are those of a clock that never goes back.
#[derive(Debug)]
pub(super) struct Lockout {
    rules: RwLock<Rules>,
    own_origins: Arc<KnownOrigins>,
    known: Mutex<Known>,
}

/// How long failures make the next tries wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rules {
    /// Failures of an address that make nobody wait; a name has four times as many.
    pub free: u32,
    /// The first wait. It doubles with each further failure.
    pub first: Duration,
    /// The longest.
    pub longest: Duration,
    /// The time in which half of the failures are forgotten.
    pub half: Duration,
}

impl Rules {
    /// Failures that still count: half of them are forgotten in every `half`.
    fn remaining(&self, failures: &Failures, now: Duration) -> u32 {
        let halves = now.saturating_sub(failures.last).as_nanos() / self.half.as_nanos().max(1);
        u32::try_from(halves).ok().and_then(|halves| failures.count.checked_shr(halves)).unwrap_or(0)
    }
}

impl Lockout {
    /// `own_origins` says which addresses are whose own.
    pub(super) fn new(rules: Rules, own_origins: Arc<KnownOrigins>) -> Self {
        Self { rules: RwLock::new(rules), own_origins, known: Mutex::default() }
    }

    /// From now on these hold; what was counted stays, and who waits waits on.
    pub(super) fn set(&self, rules: Rules) {
        *self.rules.write() = rules;
    }

    /// The time that `name` from `origin` must wait, if any.
    pub(super) fn wait(&self, name: &str, origin: Origin, now: Duration) -> Option<Duration> {
        let is_own = self.own_origins.is_of(name, origin);
        let known = self.known.lock();
        let until = |failures: Option<&Failures>| failures.map_or(Duration::ZERO, |failures| failures.wait_until);
        // From an address of its own a partner waits for its own failures alone.
        let until = match is_own {
            true => until(known.own.get(&(name.to_owned(), origin))),
            false => until(known.origins.get(&origin)).max(until(known.names.get(name))),
        };
        until.checked_sub(now).filter(|wait| !wait.is_zero())
    }

    /// What was shown was wrong.
    pub(super) fn failed(&self, name: &str, origin: Origin, now: Duration) {
        let rules = *self.rules.read();
        let is_own = self.own_origins.is_of(name, origin);
        let mut known = self.known.lock();
        if is_own {
            return rules.count(&mut known.own, (name.to_owned(), origin), rules.free, now);
        }
        rules.count(&mut known.origins, origin, rules.free, now);
        // Also for names that nobody has: waiting tells nothing.
        rules.count(&mut known.names, name.to_owned(), rules.free.saturating_mul(FREE_OF_NAME), now);
    }

    /// Forgets the failures of `name`, those of the addresses from which it has logged in, and which these are.
    pub(super) fn forgive(&self, name: &str) {
        let origins = self.own_origins.forget(name);
        let mut known = self.known.lock();
        known.names.remove(name);
        known.own.retain(|(of, _), _| of != name);
        for origin in origins {
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
        // First what was forgotten meanwhile, then this one.
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
        // Without sorting all: this runs in the middle of a flood.
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

#[cfg(test)]
mod tests {
    use chrono::DateTime;

    use super::*;
    use crate::clock::SetClock;

    fn lockout() -> Lockout {
        let clock = Arc::new(SetClock::new(DateTime::UNIX_EPOCH));
        let rules = Rules { free: 5, first: secs(1), longest: secs(300), half: secs(600) };
        Lockout::new(rules, Arc::new(KnownOrigins::in_memory(clock)))
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
    fn a_guess_costs_the_address_more_than_the_name() {
        let lockout = lockout();
        let strangers = ["203.0.113.1", "203.0.113.2", "198.51.100.3"].map(origin);
        for guess in 0..14 {
            lockout.failed("demo", strangers[guess % 2], secs(0));
        }
        assert!(lockout.wait("demo", strangers[0], secs(0)).is_some(), "it has guessed seven times");
        assert!(lockout.wait("another", strangers[1], secs(0)).is_some(), "at whatever name");
        assert_eq!(lockout.wait("demo", origin("192.0.2.1"), secs(0)), None, "the name is not locked");
        for guess in 0..7 {
            lockout.failed("demo", origin(&format!("198.51.100.{guess}")), secs(0));
        }
        assert!(lockout.wait("demo", origin("192.0.2.1"), secs(0)).is_some(), "many addresses guess at one name");
    }

    #[test]
    fn neither_strangers_nor_neighbours_lock_a_partner_out() {
        let (lockout, own, stranger) = (lockout(), origin("192.0.2.1"), origin("203.0.113.1"));
        lockout.own_origins.came("demo", own);
        for _ in 0..40 {
            lockout.failed("demo", stranger, secs(0));
            lockout.failed("neighbour", own, secs(0));
        }
        assert!(lockout.wait("demo", stranger, secs(0)).is_some());
        assert!(lockout.wait("demo", origin("198.51.100.1"), secs(0)).is_some(), "the name waits elsewhere");
        assert!(lockout.wait("neighbour", own, secs(0)).is_some());
        assert_eq!(lockout.wait("demo", own, secs(0)), None);
        for _ in 0..6 {
            lockout.failed("demo", own, secs(0));
        }
        assert!(lockout.wait("demo", own, secs(0)).is_some(), "guesses at its name from there cost all the same");
    }

    #[test]
    fn an_address_that_tries_many_names_waits_for_all_of_them() {
        let (lockout, from) = (lockout(), origin("2001:db8::1"));
        for at in 0..6 {
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
            lockout.own_origins.came(&format!("name-{at}"), from);
            lockout.failed(&format!("name-{at}"), from, Duration::from_millis(u64::from(at) / 3));
        }
        let known = lockout.known.lock();
        assert!(known.names.len() <= MOST && known.origins.len() <= MOST && known.own.len() <= MOST);
        assert!(known.names.len() > MOST / 2, "the latest are kept: {}", known.names.len());
    }

    #[test]
    fn an_operator_can_forgive() {
        let (lockout, from) = (lockout(), origin("192.0.2.1"));
        lockout.own_origins.came("demo", from);
        for _ in 0..40 {
            lockout.failed("demo", from, secs(0));
        }
        assert!(lockout.wait("demo", from, secs(0)).is_some());
        lockout.forgive("demo");
        assert_eq!(lockout.wait("demo", from, secs(0)), None);
    }
}
