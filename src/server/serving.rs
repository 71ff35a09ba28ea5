//! The server that has a data directory, as it is found by those who want to ask it.
//!
//! It only looks: it takes no lock that a starting server could find taken, but for an instant.

use std::{fs::File, path::Path};

use rustix::{fs::FlockOperation, io::Errno};

use super::lock::{Holder, holder};

/// The server that has `data`, whether it answers already or still starts or stops; none when there is none.
#[must_use]
pub fn serving(data: &Path) -> Option<Holder> {
    let mut file = File::open(data.join("lock")).ok()?;
    let found = holder(&mut file);
    // Only where the lock may be a server's is it tried: who starts one meanwhile must not find it taken.
    if found.verb != "serve" || !found.pid.is_some_and(|pid| Path::new(&format!("/proc/{pid}")).exists()) {
        return None;
    }
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
        Err(Errno::WOULDBLOCK) => Some(found),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::server::DataLock;

    #[test]
    fn only_a_server_that_holds_the_lock_is_found() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(serving(dir.path()), None);
        let lock = DataLock::take(dir.path(), "serve", Duration::ZERO).unwrap();
        assert_eq!(serving(dir.path()).and_then(|holder| holder.pid), Some(std::process::id()));
        drop(lock);
        assert_eq!(serving(dir.path()), None);
        let _lock = DataLock::take(dir.path(), "on data", Duration::ZERO).unwrap();
        assert_eq!(serving(dir.path()), None);
    }
}
