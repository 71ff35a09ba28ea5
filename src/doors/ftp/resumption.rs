//! TLS sessions that belong to one FTP session: a data connection that resumes one was opened by whoever logged in.
//!
//! Each FTP session has keys of its own for tickets, so that whatever can be resumed at all is its own, in TLS 1.2 as
//! in 1.3. What it has given on the control connection is taken on data connections, and there nothing new is given:
//! who is turned away cannot come again with what it got.

use std::sync::Arc;

use rustls::{
    crypto::ring,
    server::{ProducesTickets, ServerSessionMemoryCache, StoresServerSessions},
};

use super::certificate::TlsSetup;

/// A control connection makes one session, and remembers a few where the client comes to resume.
const SESSIONS: usize = 4;

impl TlsSetup {
    /// The same for one FTP session.
    ///
    /// # Errors
    /// When the system has no randomness.
    pub(super) fn of_one_session(&self) -> Result<Self, rustls::Error> {
        let tickets = ring::Ticketer::new()?;
        let (mut control, mut data) = ((*self.control).clone(), (*self.data).clone());
        // Some clients know no tickets, and in TLS 1.2 resume by a number that is looked up.
        let sessions = ServerSessionMemoryCache::new(SESSIONS);
        data.session_storage = Arc::new(TakenSessions(sessions.clone()));
        data.ticketer = Arc::new(TakenTickets(tickets.clone()));
        control.session_storage = sessions;
        control.ticketer = tickets;
        Ok(Self { control: Arc::new(control), data: Arc::new(data) })
    }
}

/// Knows sessions and remembers no new ones.
#[derive(Debug)]
struct TakenSessions(Arc<dyn StoresServerSessions>);

impl StoresServerSessions for TakenSessions {
    fn put(&self, _key: Vec<u8>, _value: Vec<u8>) -> bool {
        false
    }

    fn get(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.get(key)
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.0.take(key)
    }

    fn can_cache(&self) -> bool {
        false
    }
}

/// Takes tickets and gives none.
#[derive(Debug)]
struct TakenTickets(Arc<dyn ProducesTickets>);

impl ProducesTickets for TakenTickets {
    fn enabled(&self) -> bool {
        self.0.enabled()
    }

    fn lifetime(&self) -> u32 {
        self.0.lifetime()
    }

    fn encrypt(&self, _plain: &[u8]) -> Option<Vec<u8>> {
        None
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.0.decrypt(cipher)
    }
}
