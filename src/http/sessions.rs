//! Sessions of browsers: who has signed in, by a secret in a cookie.
//!
//! They are in memory alone, so a restart signs everyone out. The table knows the digests of secrets only. A session ends
//! when it was not used for a while, and is none for new requests when it is old or its owner has too many; what is under
//! way in it goes on.
//!
//! # Trust
//! A secret is 256 random bits that are made here, anew for each sign-in: one that a client brought along is never taken.

use std::{collections::HashMap, sync::Arc, time::Duration};

use cookie::{Cookie, SameSite};
use data_encoding::BASE64URL_NOPAD;
use hyper::{
    HeaderMap,
    header::{COOKIE, HeaderValue},
};
use parking_lot::Mutex;
use sha2::{Digest, Sha256};

/// Most sessions in all, and of one owner: the one that was used longest ago goes first.
const MOST: usize = 10_000;
const MOST_OF_OWNER: usize = 50;
const MOST_COOKIES: usize = 4;

type Key = [u8; 32];

/// The table of sessions, each with a value.
pub struct Sessions<T> {
    cookie: CookieForm,
    bounds: SessionBounds,
    now: Box<dyn Fn() -> Duration + Send + Sync>,
    table: Mutex<HashMap<Key, Session<T>>>,
}

/// When sessions end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SessionBounds {
    /// When it was not used for so long.
    pub idle: Duration,
    /// When it is so old, used or not.
    pub age: Duration,
}

/// Whether clients must send the cookie over TLS alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CookieForm {
    /// They need not: the server speaks HTTP in the clear, to this machine.
    Clear,
    /// They must, and take it from this very host alone (RFC 6265bis, 4.1.3.2).
    Tls,
}

#[derive(Debug)]
struct Session<T> {
    owner: String,
    value: Arc<T>,
    began: Duration,
    used: Duration,
    in_use: usize,
}

/// A session that is in use until this is dropped, and not idle as long.
pub struct Held<T> {
    sessions: Arc<Sessions<T>>,
    key: Key,
    value: Arc<T>,
}

impl<T> Sessions<T> {
    /// A table without sessions, by a clock that only goes on.
    #[must_use]
    pub fn new(
        cookie: CookieForm,
        bounds: SessionBounds,
        now: impl Fn() -> Duration + Send + Sync + 'static,
    ) -> Arc<Self> {
        Arc::new(Self { cookie, bounds, now: Box::new(now), table: Mutex::default() })
    }

    /// Begins a session of this owner, and gives the cookie for its client.
    #[must_use]
    pub fn begin(&self, owner: &str, value: T) -> HeaderValue {
        let now = (self.now)();
        let secret = BASE64URL_NOPAD.encode(&rand::random::<[u8; 32]>());
        let session = Session { owner: owner.to_owned(), value: Arc::new(value), began: now, used: now, in_use: 0 };
        let mut table = self.table.lock();
        table.retain(|_, session| !self.is_over(session, now));
        let of_owner = table.values().filter(|other| other.owner == owner).count();
        if of_owner >= MOST_OF_OWNER {
            forget_oldest(&mut table, |other| other.owner == owner);
        } else if table.len() >= MOST {
            forget_oldest(&mut table, |_| true);
        }
        table.insert(key(&secret), session);
        self.set(secret)
    }

    /// The session of a request, if it has one that goes on.
    #[must_use]
    pub fn of(self: &Arc<Self>, headers: &HeaderMap) -> Option<Held<T>> {
        let now = (self.now)();
        let keys = self.keys(headers);
        let mut table = self.table.lock();
        let key = keys.into_iter().find(|key| table.contains_key(key))?;
        let session = table.get_mut(&key)?;
        if self.is_over(session, now) {
            table.remove(&key);
            return None;
        }
        session.in_use += 1;
        session.used = now;
        let value = Arc::clone(&session.value);
        Some(Held { sessions: Arc::clone(self), key, value })
    }

    /// Ends the sessions of a request, and gives the cookie that makes its client forget them.
    #[must_use]
    pub fn end(&self, headers: &HeaderMap) -> HeaderValue {
        let keys = self.keys(headers);
        let mut table = self.table.lock();
        for key in keys {
            table.remove(&key);
        }
        let mut cookie = self.cookie(String::new());
        cookie.make_removal();
        value(&cookie)
    }

    fn is_over(&self, session: &Session<T>, now: Duration) -> bool {
        let (unused, old) = (now.saturating_sub(session.used), now.saturating_sub(session.began));
        old >= self.bounds.age || (session.in_use == 0 && unused >= self.bounds.idle)
    }

    /// Of the first cookies of that name: a browser sends one, and who sends more pays for no more.
    fn keys(&self, headers: &HeaderMap) -> Vec<Key> {
        let name = self.name();
        let lines = headers.get_all(COOKIE).into_iter().filter_map(|line| line.to_str().ok());
        let cookies = lines.flat_map(Cookie::split_parse).filter_map(Result::ok);
        let ours = cookies.filter(|cookie| cookie.name() == name).take(MOST_COOKIES);
        ours.map(|cookie| key(cookie.value())).collect()
    }

    fn set(&self, secret: String) -> HeaderValue {
        value(&self.cookie(secret))
    }

    fn cookie(&self, secret: String) -> Cookie<'static> {
        let cookie = Cookie::build((self.name(), secret)).path("/").http_only(true).same_site(SameSite::Strict);
        cookie.secure(self.cookie == CookieForm::Tls).build()
    }

    fn name(&self) -> &'static str {
        match self.cookie {
            CookieForm::Clear => "session",
            CookieForm::Tls => "__Host-session",
        }
    }
}

impl<T> Held<T> {
    /// The value that the session began with.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Ends the session.
    pub fn end(self) {
        self.sessions.table.lock().remove(&self.key);
    }
}

impl<T> Drop for Held<T> {
    fn drop(&mut self) {
        if let Some(session) = self.sessions.table.lock().get_mut(&self.key) {
            session.in_use -= 1;
            // An upload of an hour was a use to its end.
            session.used = (self.sessions.now)();
        }
    }
}

fn forget_oldest<T>(table: &mut HashMap<Key, Session<T>>, which: impl Fn(&Session<T>) -> bool) {
    let idle = table.iter().filter(|(_, session)| session.in_use == 0 && which(session));
    if let Some(key) = idle.min_by_key(|(_, session)| session.used).map(|(key, _)| *key) {
        table.remove(&key);
    }
}

/// What is looked up is no secret itself, so how long a look takes tells nothing of one.
fn key(secret: &str) -> Key {
    Sha256::digest(secret.as_bytes()).into()
}

/// A cookie of letters, digits and attributes is always a header's.
fn value(cookie: &Cookie<'_>) -> HeaderValue {
    HeaderValue::from_str(&cookie.to_string()).unwrap_or(HeaderValue::from_static(""))
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

    use super::*;

    const BOUNDS: SessionBounds = SessionBounds { idle: Duration::from_secs(10), age: Duration::from_secs(100) };

    /// A table, and the clock of it in seconds.
    fn table<T>(form: CookieForm) -> (Arc<Sessions<T>>, Arc<AtomicU64>) {
        let clock = Arc::new(AtomicU64::new(0));
        let seconds = Arc::clone(&clock);
        (Sessions::new(form, BOUNDS, move || Duration::from_secs(seconds.load(Relaxed))), clock)
    }

    fn sent(set: &HeaderValue) -> HeaderMap {
        let cookie = set.to_str().unwrap().split(';').next().unwrap().to_owned();
        HeaderMap::from_iter([(COOKIE, HeaderValue::from_str(&format!("a=b; {cookie}")).unwrap())])
    }

    #[test]
    fn a_session_ends_when_it_is_idle_or_old_and_not_while_it_is_used() {
        let (sessions, clock) = table(CookieForm::Tls);
        let at = |second| {
            clock.store(second, Relaxed);
            Arc::clone(&sessions)
        };
        let cookie = sent(&at(0).begin("a", 1));
        assert_eq!(at(9).of(&cookie).map(|held| *held.value()), Some(1));
        let held = at(18).of(&cookie).unwrap();
        assert!(at(90).of(&cookie).is_some(), "an upload is under way");
        drop(held);
        assert!(at(99).of(&cookie).is_some(), "it was used until then");
        let held = at(99).of(&cookie).unwrap();
        assert!(at(100).of(&cookie).is_none(), "it is old, whatever is under way");
        drop(held);
        let cookie = sent(&at(0).begin("a", 1));
        assert!(at(10).of(&cookie).is_none(), "it was idle");
        let cookie = sent(&at(0).begin("a", 2));
        for second in (0..100).step_by(9) {
            assert!(at(second).of(&cookie).is_some());
        }
        assert!(at(100).of(&cookie).is_none(), "it was old");
    }

    #[test]
    fn secrets_are_made_here_and_differ() {
        let (sessions, _) = table(CookieForm::Clear);
        let brought = HeaderMap::from_iter([(COOKIE, HeaderValue::from_static("session=abc"))]);
        assert!(sessions.of(&brought).is_none());
        let (one, other) = (sessions.begin("a", 1), sessions.begin("a", 2));
        assert_ne!(one, other);
        let _ = sessions.end(&sent(&one));
        assert!(sessions.of(&sent(&one)).is_none());
        assert!(sessions.of(&sent(&other)).is_some());
    }

    #[test]
    fn the_cookie_is_for_this_host_and_no_script() {
        let set = |form| table(form).0.begin("a", ()).to_str().unwrap().to_owned();
        let tls = set(CookieForm::Tls);
        for word in ["__Host-session=", "HttpOnly", "SameSite=Strict", "Secure", "Path=/"] {
            assert!(tls.contains(word), "{tls}");
        }
        assert!(!tls.contains("Domain") && !tls.contains("Max-Age") && !tls.contains("Expires"), "{tls}");
        let clear = set(CookieForm::Clear);
        assert!(clear.starts_with("session=") && !clear.contains("Secure") && clear.contains("SameSite=Strict"));
    }

    #[test]
    fn an_owner_has_a_bounded_number_of_sessions() {
        let (sessions, clock) = table(CookieForm::Tls);
        let first = sent(&sessions.begin("a", 0));
        let other = sent(&sessions.begin("b", 0));
        clock.store(1, Relaxed);
        for n in 1..=MOST_OF_OWNER {
            let _ = sessions.begin("a", n);
        }
        assert!(sessions.of(&first).is_none());
        assert!(sessions.of(&other).is_some());
        assert_eq!(sessions.table.lock().len(), MOST_OF_OWNER + 1);
    }
}
