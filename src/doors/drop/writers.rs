//! Detection of processes that have a file open for writing.
//!
//! The kernel grants a read lease on a file only while nobody has it open for writing, whoever that is and however: so
//! asking for one, and giving it back at once, is an exact answer. It is granted for files of our own user, and for all
//! with CAP_LEASE (capabilities(7), fcntl(2)); not on most network file systems.

use std::{fs::File, io, os::fd::AsRawFd};

/// fcntl(2); the libc crate has no name for it.
const F_SETSIG: libc::c_int = 10;

/// The answer about writers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Writers {
    /// There is none at this moment.
    None,
    /// There is at least one.
    Some,
    /// The system does not tell.
    Unknown,
}

/// Asks. The file must be open for reading alone.
#[allow(unsafe_code, reason = "rustix has no leases; both calls take numbers alone, and the descriptor is borrowed")]
pub(super) fn of(file: &File) -> Writers {
    let fd = file.as_raw_fd();
    // Should a writer come in the instant in which we have the lease, we are told by a signal: SIGIO, which would end
    // the process, unless it is one that is ignored by default.
    // SAFETY: the descriptor is open while `file` is borrowed.
    let told = unsafe { libc::fcntl(fd, F_SETSIG, libc::SIGURG) };
    if told != 0 {
        return Writers::Unknown;
    }
    // SAFETY: as above.
    if unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_RDLCK) } == 0 {
        // SAFETY: as above. It cannot fail for a lease that we have.
        let _ = unsafe { libc::fcntl(fd, libc::F_SETLEASE, libc::F_UNLCK) };
        return Writers::None;
    }
    match io::Error::last_os_error().raw_os_error() {
        Some(libc::EAGAIN) => Writers::Some,
        _ => Writers::Unknown,
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn a_writer_is_seen_while_it_has_the_file_open() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a");
        let writer = fs::File::create(&path).unwrap();
        let reader = fs::File::open(&path).unwrap();
        assert_eq!(of(&reader), Writers::Some);
        drop(writer);
        assert_eq!(of(&reader), Writers::None);
        // Nothing stays behind that would keep the next writer waiting.
        drop(fs::File::options().append(true).open(&path).unwrap());
    }
}
