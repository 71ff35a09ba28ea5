//! What can fail inside the embedded queue, and whose fault it is.
//!
//! # Guarantees
//! sled's errors and its panics (damage makes it panic) become [`Fault::Index`], and those that are the machine's
//! [`Fault::Disk`]: a disk without room is no damage, and an index is never set aside for it.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
};

use crate::QueueError;

/// A failure inside the embedded queue, by what has to be done about it.
#[derive(Debug)]
pub(super) enum Fault {
    /// The index cannot be trusted: it is set aside and made anew from the journal.
    Index(String),
    /// The machine failed it: no room, no quota, no descriptor, an I/O error. The index is as good as it was.
    Disk(io::Error),
    /// For the caller.
    Queue(QueueError),
}

impl From<QueueError> for Fault {
    fn from(error: QueueError) -> Self {
        Self::Queue(error)
    }
}

impl From<Fault> for QueueError {
    fn from(fault: Fault) -> Self {
        let doing = || "index of the queue".into();
        match fault {
            Fault::Queue(error) => error,
            Fault::Disk(error) if is_full(&error) => Self::Full,
            Fault::Disk(source) => Self::Io { doing: doing(), source },
            Fault::Index(what) => Self::Io { doing: doing(), source: io::Error::other(what) },
        }
    }
}

/// Whether it is for want of room, by blocks, inodes or quota.
pub(super) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

pub(super) fn wall<T>(work: impl FnOnce() -> sled::Result<T>) -> Result<T, Fault> {
    match catch_unwind(AssertUnwindSafe(work)) {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) => Err(judged(error.to_string(), &format!("{error:?}"))),
        Err(panic) => {
            let said = panic.downcast_ref::<String>().map(String::as_str);
            let said = said.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
            Err(judged(format!("sled panicked: {said}"), said))
        }
    }
}

/// Errors that say nothing of what is on the disk.
const OF_THE_MACHINE: [i32; 8] =
    [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EROFS, libc::EFBIG, libc::EMFILE, libc::ENFILE, libc::ENOMEM];

/// What sled says may be the machine's error, of which it hands on the text: `Os { code: 28, … }`. That a file is missing,
/// short or no file is damage.
fn judged(what: String, debug: &str) -> Fault {
    let code = debug.split_once("Os { code: ").and_then(|(_, rest)| rest.split(',').next()?.parse().ok());
    match code {
        Some(code) if OF_THE_MACHINE.contains(&code) => Fault::Disk(io::Error::from_raw_os_error(code)),
        _ => Fault::Index(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_machine_are_no_damage() {
        let os = |code| io::Error::from_raw_os_error(code);
        // sled keeps the first error, and gives copies of it.
        let copy = |error: io::Error| io::Error::new(error.kind(), format!("{error:?}"));
        for code in [libc::ENOSPC, libc::EDQUOT, libc::EIO, libc::EMFILE, libc::EROFS] {
            for error in [os(code), copy(os(code)), copy(copy(os(code)))] {
                let fault = wall::<()>(|| Err(sled::Error::Io(error))).expect_err("it failed");
                assert!(matches!(&fault, Fault::Disk(error) if error.raw_os_error() == Some(code)), "{fault:?}");
            }
            let fault = wall::<()>(|| panic!("failed to write: {:?}", os(code))).expect_err("it failed");
            assert!(matches!(&fault, Fault::Disk(_)), "{fault:?}");
        }
        for error in [
            os(libc::ENOENT),
            os(libc::EISDIR),
            io::ErrorKind::UnexpectedEof.into(),
            io::Error::other("could not acquire lock"),
        ] {
            let fault = wall::<()>(|| Err(sled::Error::Io(error))).expect_err("it failed");
            assert!(matches!(&fault, Fault::Index(_)), "{fault:?}");
        }
    }
}
