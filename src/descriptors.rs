//! Open descriptors: how many this process may have, and the last of them, which are kept for operators.
//!
//! The system gives each new descriptor the lowest number that is free. So one whose number is among the last says that all
//! below it are taken. Whatever opens one for a partner asks here: the connection, and what its session takes later.

use std::{
    io,
    os::fd::{AsFd, AsRawFd},
    sync::atomic::{AtomicU64, Ordering},
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::telemetry::Repeated;

/// The last descriptors, which no partner's connection gets; a quarter of all at most.
const KEPT: u64 = 24;
/// What a server without sessions needs, with its listeners, threads, journal and processors.
const WITHOUT_SESSIONS: u64 = 256;
/// What a session may need: its connection, a data port, a data connection, the inner server's pair, and a file.
const OF_A_SESSION: u64 = 6;

/// The limit as it was when the server began; 0: not known yet.
static LIMIT: AtomicU64 = AtomicU64::new(0);

/// Connections that were closed at once, for only the last descriptors were left.
pub static TURNED_AWAY: Repeated = Repeated::new();

/// What a server may have and what it may need.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Descriptors {
    /// The most that it may have open.
    pub limit: u64,
    /// What as many connections as may be need at most.
    pub needed: u64,
}

impl Descriptors {
    /// The limit of this process, and what so many connections need.
    #[must_use]
    pub fn for_connections(connections: u32) -> Self {
        Self { limit: limit(), needed: WITHOUT_SESSIONS + u64::from(connections) * OF_A_SESSION }
    }

    /// Says what is too little and what to do, if it is.
    #[must_use]
    pub fn shortage(&self) -> Option<String> {
        (self.limit < self.needed).then(|| {
            let most = self.limit.saturating_sub(WITHOUT_SESSIONS) / OF_A_SESSION;
            let lower = if most == 0 { String::new() } else { format!(", or set max_connections to {most}") };
            format!(
                "the server may open {} files and connections, and as many connections as [limits] allows may need {}: raise \
                 LimitNOFILE (ulimit -n){lower}",
                self.limit, self.needed
            )
        })
    }
}

/// Raises the limit to what so many connections need, as far as the system lets this process. More than that is not asked
/// for: programs that it starts have the same limit, and some of them close every descriptor that could be.
pub fn raise(connections: u32) -> Descriptors {
    // None stands for "without limit".
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    let needed = Descriptors::for_connections(connections).needed;
    let wanted = maximum.map_or(needed, |maximum| needed.min(maximum));
    if current.is_some_and(|current| current < wanted) {
        // Where it cannot be raised, what there is has to do.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum });
    }
    // What the system says now, and not what was asked for.
    LIMIT.store(getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX), Ordering::Relaxed);
    Descriptors::for_connections(connections)
}

/// Returns true if a new descriptor is among those that are kept for operators: it is to be closed again.
pub fn is_kept(new: &impl AsFd) -> bool {
    let limit = limit();
    // A small limit keeps fewer: a server of forty descriptors must take connections too.
    let first_kept = limit - KEPT.min(limit / 4);
    u64::try_from(new.as_fd().as_raw_fd()).is_ok_and(|number| number >= first_kept)
}

/// Passes on a new descriptor of a partner's session, unless it is among those that are kept for operators.
///
/// # Errors
/// As of a process that may open no more; the descriptor is closed.
pub fn spared<F: AsFd>(new: F) -> io::Result<F> {
    if is_kept(&new) { Err(io::Error::from_raw_os_error(libc::EMFILE)) } else { Ok(new) }
}

/// Returns true if this is for want of descriptors, of the process or the machine.
pub fn are_spent(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE))
}

fn limit() -> u64 {
    match LIMIT.load(Ordering::Relaxed) {
        0 => getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX),
        limit => limit,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_little_is_told_with_what_fits() {
        assert_eq!(Descriptors { limit: 6_400, needed: 6_400 }.shortage(), None);
        let text = Descriptors { limit: 1_024, needed: 6_400 }.shortage().unwrap();
        assert!(text.contains("max_connections to 128"), "{text}");
        assert!(!Descriptors { limit: 100, needed: 6_400 }.shortage().unwrap().contains("max_connections to"));
    }

    #[test]
    fn a_low_number_is_nobodys_but_who_has_it() {
        assert!(!is_kept(&io::stderr()));
    }
}
