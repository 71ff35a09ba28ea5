//! The socket's address. A socket path holds 108 bytes, a data directory's path may be longer: so the socket is always
//! reached through a descriptor of its directory.

use std::{
    io,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
};

use rustix::fs::{Mode, OFlags};

/// The socket's name in the data directory.
pub(super) const NAME: &str = "admin.sock";

/// A short path to the socket, for as long as this lives.
#[derive(Debug)]
pub(super) struct Place {
    dir: OwnedFd,
}

/// The descriptor is opened with `O_PATH`: it needs no right to read the directory, only to pass
/// through.
impl Place {
    /// The place of the socket in `data`.
    pub(super) fn new(data: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self { dir: rustix::fs::open(data, flags, Mode::empty())? })
    }

    /// A path of some thirty bytes that leads there.
    pub(super) fn path(&self) -> PathBuf {
        format!("/proc/self/fd/{}/{NAME}", self.dir.as_raw_fd()).into()
    }
}
