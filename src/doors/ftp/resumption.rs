//! TLS sessions that belong to one FTP session: a data connection that resumes one was opened by whoever logged in.
//!
//! Each ticket carries a mark, sealed with it: of which FTP session it is, and on which of its connections it was given.
//! A data connection is the client's own when it resumes with a ticket of this session's control connection, or of a
//! data connection that was the client's own itself. TLS 1.3 clients use a ticket once, so data connections give new
//! ones; but only to those who come with one. Who was turned away may have got a ticket, and its mark is good for
//! nothing. What a client leaves unread would turn the end of its upload into a reset, so tickets wait for its end
//! (`quiet.rs`).

use std::{collections::VecDeque, sync::Arc};

use parking_lot::Mutex;
use rustls::{
    ServerConfig,
    server::{ProducesTickets, StoresServerSessions},
};

/// Connections of a session whose tickets are good, beside the control connection: clients keep the latest.
const MOST_OWN: usize = 256;
/// The length of a mark.
const MARK_BYTES: usize = 20;
/// The number of the control connection in marks.
const CONTROL: u32 = 0;

/// The FTP session and the connection that a ticket was given on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Mark([u8; MARK_BYTES]);

impl Mark {
    fn new(session: [u8; 16], connection: u32) -> Self {
        let mut mark = [0; MARK_BYTES];
        mark[..16].copy_from_slice(&session);
        mark[16..].copy_from_slice(&connection.to_be_bytes());
        Self(mark)
    }

    /// As it stands in a ticket.
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    fn connection(self) -> u32 {
        let [.., a, b, c, d] = self.0;
        u32::from_be_bytes([a, b, c, d])
    }
}

/// The marks of one FTP session.
#[derive(Debug)]
pub(super) struct SessionMarks {
    session: [u8; 16],
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    last: u32,
    /// Data connections that were the client's own.
    own: VecDeque<u32>,
    /// What the control connection itself resumed: in TLS 1.2 a client without tickets comes again with that.
    before: Option<Vec<u8>>,
}

impl Default for SessionMarks {
    fn default() -> Self {
        Self { session: rand::random(), known: Mutex::default() }
    }
}

impl SessionMarks {
    /// The mark of the control connection.
    pub(super) fn control(&self) -> Mark {
        Mark::new(self.session, CONTROL)
    }

    /// The mark that the control connection has resumed with.
    pub(super) fn resumed_from(&self, before: Option<Vec<u8>>) {
        self.known.lock().before = before;
    }

    /// The mark of the next data connection.
    pub(super) fn next(&self) -> Mark {
        let mut known = self.known.lock();
        known.last += 1;
        Mark::new(self.session, known.last)
    }

    /// Returns whether a data connection that has resumed with this mark is the client's own.
    pub(super) fn is_own(&self, resumed: &[u8]) -> bool {
        let known = self.known.lock();
        // Before the form of the mark: this one is of an earlier FTP session.
        if known.before.as_deref() == Some(resumed) {
            return true;
        }
        let Ok(mark) = <[u8; MARK_BYTES]>::try_from(resumed).map(Mark) else { return false };
        let connection = mark.connection();
        // The session's part is random: marks of other sessions do not pass.
        mark == Mark::new(self.session, connection) && (connection == CONTROL || known.own.contains(&connection))
    }

    /// Returns whether a data connection of this session was the client's own by what it resumed.
    pub(super) fn has_own(&self) -> bool {
        !self.known.lock().own.is_empty()
    }

    /// The data connection of this mark was the client's own: so is who comes with its tickets.
    pub(super) fn trust(&self, mark: Mark) {
        let mut known = self.known.lock();
        known.own.push_back(mark.connection());
        if known.own.len() > MOST_OWN {
            // The oldest: clients resume with the latest ticket that they have.
            known.own.pop_front();
        }
    }
}

/// TLS for one connection: what it seals carries its mark, and it tells which mark its client has come with.
#[derive(Clone, Debug)]
pub(super) struct ConnectionTls {
    pub(super) config: Arc<ServerConfig>,
    came_with: CameWith,
}

/// To whom tickets are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tickets {
    /// On a control connection.
    ForAll,
    /// On a data connection: to a client that comes with one. Sessions are not remembered otherwise.
    ForTickets,
}

/// The mark that a client has come with, as far as it is known by now.
type CameWith = Arc<Mutex<Option<Vec<u8>>>>;

impl ConnectionTls {
    /// TLS as all such connections have it, made that of one connection.
    pub(super) fn new(common: &ServerConfig, mark: Mark, tickets: Tickets) -> Self {
        let came_with = CameWith::default();
        let marked = |came_with: &CameWith| Marked { mark, came_with: came_with.clone(), tickets };
        // A configuration of its own for each connection, since rustls has no other place to tell
        // connections apart; the clone shares what is behind it.
        let mut config = common.clone();
        config.ticketer = Arc::new(MarkedTickets { all: common.ticketer.clone(), own: marked(&came_with) });
        config.session_storage =
            Arc::new(MarkedSessions { all: common.session_storage.clone(), own: marked(&came_with) });
        Self { config: Arc::new(config), came_with }
    }

    /// The mark of the connection that gave what the client has come with. Whether it was resumed by that the handshake tells.
    pub(super) fn came_with(&self) -> Option<Vec<u8>> {
        self.came_with.lock().clone()
    }
}

/// Puts the mark in front of what is sealed. rustls has a place for such data, and gives it back in TLS 1.3 alone.
#[derive(Debug)]
struct Marked {
    mark: Mark,
    came_with: CameWith,
    tickets: Tickets,
}

impl Marked {
    /// Puts the mark in front of the session state, inside what the ticketer encrypts (RFC 5077,
    /// 4).
    fn seal(&self, plain: &[u8]) -> Vec<u8> {
        [self.mark.as_bytes(), plain].concat()
    }

    fn open(&self, marked: &[u8]) -> Option<Vec<u8>> {
        let (mark, plain) = marked.split_at_checked(MARK_BYTES)?;
        // Noted, not believed: only the end of the handshake says that it was resumed.
        *self.came_with.lock() = Some(mark.to_vec());
        Some(plain.to_vec())
    }

    /// Returns true if this connection may give tickets.
    fn gives(&self) -> bool {
        self.tickets == Tickets::ForAll || self.came_with.lock().is_some()
    }
}

#[derive(Debug)]
struct MarkedTickets {
    all: Arc<dyn ProducesTickets>,
    own: Marked,
}

impl ProducesTickets for MarkedTickets {
    fn enabled(&self) -> bool {
        self.all.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.all.lifetime()
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        // No ticket at all for who came without one.
        self.own.gives().then(|| self.all.encrypt(&self.own.seal(plain))).flatten()
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.own.open(&self.all.decrypt(cipher)?)
    }
}

/// Sessions of TLS 1.2 that a client without tickets names.
#[derive(Debug)]
struct MarkedSessions {
    all: Arc<dyn StoresServerSessions>,
    own: Marked,
}

impl StoresServerSessions for MarkedSessions {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        self.own.tickets == Tickets::ForAll && self.all.put(key, self.own.seal(&value))
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.own.open(&self.all.get(key)?)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.own.open(&self.all.take(key)?)
    }

    fn can_cache(&self) -> bool {
        self.own.tickets == Tickets::ForAll && self.all.can_cache()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_tickets_of_connections_that_were_the_clients_own_are_good() {
        let (marks, others) = (SessionMarks::default(), SessionMarks::default());
        let (first, second) = (marks.next(), marks.next());
        assert!(marks.is_own(marks.control().as_bytes()));
        marks.trust(first);
        assert!(marks.is_own(first.as_bytes()) && !marks.is_own(second.as_bytes()));
        assert!(!marks.is_own(others.control().as_bytes()) && !marks.is_own(b"") && !marks.is_own(&[0; 20]));
        others.resumed_from(Some(first.as_bytes().to_vec()));
        assert!(others.is_own(first.as_bytes()) && !others.is_own(marks.control().as_bytes()));
        (0..2 * MOST_OWN).for_each(|_| marks.trust(marks.next()));
        assert!(!marks.is_own(first.as_bytes()), "only the latest are remembered");
        assert_eq!(marks.known.lock().own.len(), MOST_OWN);
    }
}
