//! What is told of a file in the partner's view: as it is there, but with the time that the partner has given it.

use std::{path::Path, time::SystemTime};

use unftp_core::storage::{Metadata, Permissions, Result};
use unftp_sbe_fs::Meta;

use super::login::Login;

/// A file or directory as it is shown.
#[derive(Debug)]
pub(super) struct Shown {
    there: Meta,
    given: Option<SystemTime>,
}

impl Shown {
    pub(super) fn new(there: Meta, path: &Path, login: &Login) -> Self {
        let given = || login.ingest.shown_time(&login.session, path.to_str()?).map(SystemTime::from);
        Self { given: there.is_file().then(given).flatten(), there }
    }
}

impl Metadata for Shown {
    fn len(&self) -> u64 {
        self.there.len()
    }

    fn is_dir(&self) -> bool {
        self.there.is_dir()
    }

    fn is_file(&self) -> bool {
        self.there.is_file()
    }

    fn is_symlink(&self) -> bool {
        self.there.is_symlink()
    }

    fn modified(&self) -> Result<SystemTime> {
        self.given.map_or_else(|| self.there.modified(), Ok)
    }

    fn gid(&self) -> u32 {
        self.there.gid()
    }

    fn uid(&self) -> u32 {
        self.there.uid()
    }

    fn links(&self) -> u64 {
        self.there.links()
    }

    fn permissions(&self) -> Permissions {
        self.there.permissions()
    }

    fn readlink(&self) -> Option<&Path> {
        self.there.readlink()
    }
}
