//! The time that a session may wait: for its login, and for its next command.
//!
//! It only says when: what is said and done then is the session's own.

use tokio::time::Instant;

use crate::partners::Limits;

use super::words;

/// The times of a session so far.
#[derive(Clone, Copy, Debug)]
pub(in crate::doors) struct SessionTime {
    /// When its connection was accepted.
    began: Instant,
    /// When its partner did something last; none before the login.
    active: Option<Instant>,
}

impl SessionTime {
    /// A connection was accepted now.
    pub(in crate::doors) fn begin() -> Self {
        Self { began: Instant::now(), active: None }
    }

    /// The partner, who has logged in, did something at this time.
    pub(in crate::doors) fn active_at(&mut self, at: Instant) {
        self.active = Some(at);
    }

    /// The end of the session, unless something happens before.
    pub(in crate::doors) fn ends(&self, limits: &Limits) -> Instant {
        match self.active {
            Some(active) => active + limits.idle,
            None => self.began + limits.login_grace,
        }
    }

    /// The reason why it is over at this time, if it is.
    pub(in crate::doors) fn over(&self, limits: &Limits, now: Instant) -> Option<&'static str> {
        let why = if self.active.is_some() { words::IDLE } else { words::NO_LOGIN };
        (now >= self.ends(limits)).then_some(why)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_session_waits_for_its_login_and_then_for_commands() {
        let limits =
            Limits { login_grace: Duration::from_secs(30), idle: Duration::from_secs(300), ..Limits::default() };
        let mut time = SessionTime::begin();
        let at = |seconds| time.began + Duration::from_secs(seconds);
        let (almost, grace, later, idle) = (at(29), at(30), at(299), at(400));
        assert_eq!(time.over(&limits, almost), None);
        assert_eq!(time.over(&limits, grace), Some(words::NO_LOGIN));
        time.active_at(at(100));
        assert_eq!(time.over(&limits, later), None);
        assert_eq!(time.over(&limits, idle), Some(words::IDLE));
    }
}
