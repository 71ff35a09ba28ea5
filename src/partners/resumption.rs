//! Partners whose clients have always resumed TLS sessions on data connections: they must go on so.
//!
//! A stranger at a partner's address can take a data port, but cannot resume the TLS session of a control connection
//! that is not its own. Not every client does; so what a partner's clients do is watched, and kept with its account.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use tracing::{info, warn};

use super::{DataResumption, PartnerName, Partners, login::chain};

/// Data connections that have to resume, one after the other and none the first of its session, before all others must.
const ALWAYS_AFTER: u32 = 10;

/// What a partner's clients do with TLS sessions on data connections, as it is kept with its account.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Habit {
    /// They have always resumed the session of their control connection.
    Resumes,
    /// Some have not.
    Varies,
}

/// What a data connection does with the TLS session of its control connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resumes {
    /// It is the first of its session that resumes it. That says nothing of the next one: some clients use a ticket once,
    /// and read no other when they send.
    First,
    /// It resumes it, as an earlier one of its session did.
    Again,
    /// It does not.
    No,
}

/// The habits of partners, as far as they were seen since the start.
#[derive(Debug, Default)]
pub(super) struct Habits(Mutex<HashMap<String, Seen>>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    /// So many have resumed, and no other came.
    Resumed(u32),
    Known(Habit),
}

impl Seen {
    /// Notes a data connection: what is known then, and whether the connection may be used.
    fn with(self, resumes: bool) -> (Self, bool) {
        match (self, resumes) {
            (Self::Known(Habit::Resumes), false) => (self, false),
            (Self::Known(_), _) => (self, true),
            (Self::Resumed(_), false) => (Self::Known(Habit::Varies), true),
            (Self::Resumed(count), true) if count + 1 >= ALWAYS_AFTER => (Self::Known(Habit::Resumes), true),
            (Self::Resumed(count), true) => (Self::Resumed(count + 1), true),
        }
    }
}

impl Partners {
    /// Returns whether a TLS data connection of the partner may be used that resumes the session of its control
    /// connection, or does not. `otherwise` holds where the partner's policy says nothing.
    #[must_use]
    pub fn may_connect(self: &Arc<Self>, partner: &PartnerName, otherwise: DataResumption, resumes: Resumes) -> bool {
        match (self.data_resumption(partner, otherwise), resumes) {
            (DataResumption::Off, _) | (_, Resumes::First) => true,
            (DataResumption::Required, resumes) => resumes == Resumes::Again,
            (DataResumption::Auto, resumes) => self.goes_on_so(partner, resumes == Resumes::Again),
        }
    }

    /// What holds for the partner; `otherwise` where its policy says nothing.
    fn data_resumption(&self, partner: &PartnerName, otherwise: DataResumption) -> DataResumption {
        self.policy(partner.as_str()).data_resumption.unwrap_or(otherwise)
    }

    fn goes_on_so(self: &Arc<Self>, partner: &PartnerName, resumes: bool) -> bool {
        let mut habits = self.habits.0.lock();
        let seen = match habits.entry(partner.folded()) {
            Entry::Occupied(seen) => seen.into_mut(),
            Entry::Vacant(place) => {
                let kept = self.get(partner.as_str()).and_then(|account| account.data_habit);
                place.insert(kept.map_or(Seen::Resumed(0), Seen::Known))
            }
        };
        let (now, may) = seen.with(resumes);
        if let (Seen::Known(habit), true) = (now, now != *seen) {
            self.keep_habit(partner, habit);
        }
        *seen = now;
        may
    }

    /// Keeps it with the account, on a thread that may wait: what is known holds from now on.
    fn keep_habit(self: &Arc<Self>, partner: &PartnerName, habit: Habit) {
        let (partners, partner) = (Arc::clone(self), partner.clone());
        tokio::task::spawn_blocking(move || {
            let kept = partners.accounts.change(&partner, |account| {
                account.data_habit = Some(habit);
                Ok(())
            });
            match (kept, habit) {
                (Err(error), _) => {
                    warn!(%partner, error = %chain(&error), "cannot keep what TLS clients of a partner do")
                }
                (Ok(_), Habit::Resumes) => info!(%partner, "all its TLS clients resume: from now on they must"),
                (Ok(_), Habit::Varies) => info!(%partner, "not all its TLS clients resume: none must"),
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_has_always_resumed_must_go_on_so() {
        let mut seen = Seen::Resumed(0);
        for _ in 0..ALWAYS_AFTER {
            assert_ne!(seen, Seen::Known(Habit::Resumes));
            seen = seen.with(true).0;
        }
        assert_eq!(seen, Seen::Known(Habit::Resumes));
        assert_eq!(seen.with(false), (seen, false));
        assert_eq!(seen.with(true), (seen, true));
    }

    #[test]
    fn who_has_not_is_let_be() {
        for count in [0, ALWAYS_AFTER - 1] {
            let (seen, may) = Seen::Resumed(count).with(false);
            assert_eq!((seen, may), (Seen::Known(Habit::Varies), true));
            assert_eq!(seen.with(false), (seen, true));
        }
    }
}
