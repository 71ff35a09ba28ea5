//! The outbox: a directory of this machine in which other programs put files for a partner. The partner sees them in
//! `out/`, behind its receipts, and may read them; delete them only where its policy says so.
//!
//! # Trust
//! The directory is the operator's. What lies in it is read through unftp-sbe-fs, which keeps every path within it, and
//! no link is followed.

use std::{
    fs::File,
    io::ErrorKind,
    path::{Path, PathBuf},
};

use chrono::DateTime;
use unftp_core::{
    auth::DefaultUser,
    storage::{Metadata as _, StorageBackend as _},
};
use unftp_sbe_fs::{Filesystem, Meta};

use super::{Files, Listed, Stat};
use crate::ingest::{Name, Refusal};

/// The outbox itself.
pub(super) const TOP: &str = "";

impl Files {
    /// Returns the partner's outbox. A directory that is not there is none, and no error of the
    /// server.
    fn outbox(&self) -> Result<(Filesystem, PathBuf), Refusal> {
        let policy = self.ingest.partners.policy(self.partner());
        let directory = policy.outbox.clone().ok_or(Refusal::NotFound)?;
        match Filesystem::new(&directory) {
            Ok(files) => Ok((files, directory)),
            Err(error) if error.kind() == ErrorKind::NotFound => Err(Refusal::NotFound),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) async fn outbox_stat(&self, below: &str) -> Result<Stat, Refusal> {
        stat(&self.outbox()?.0, below).await
    }

    /// The names in a folder of the outbox; what goes away meanwhile is left out. None when there is no outbox.
    pub(super) async fn outbox_names(&self, below: &str) -> Result<Vec<Listed>, Refusal> {
        let (files, directory) = match self.outbox() {
            Ok(outbox) => outbox,
            Err(Refusal::NotFound) => return Ok(Vec::new()),
            Err(refusal) => return Err(refusal),
        };
        let mut names = names(directory.join(below)).await?;
        names.sort_unstable();
        let mut listed = Vec::with_capacity(names.len());
        for name in names {
            let path = if below.is_empty() { name.clone() } else { format!("{below}/{name}") };
            // Receipts and the notice have their names for themselves.
            let is_taken = below.is_empty() && self.is_an_answer(&name);
            if let (Ok(stat), false) = (stat(&files, &path).await, is_taken) {
                listed.push(Listed { name, stat });
            }
        }
        Ok(listed)
    }

    fn is_an_answer(&self, name: &str) -> bool {
        name == crate::answers::NOTICE || crate::answers::Answers::file_of(name).is_some()
    }

    pub(super) async fn outbox_open(&self, below: &str) -> Result<(Stat, File), Refusal> {
        let (files, directory) = self.outbox()?;
        let stat = stat(&files, below).await?;
        if !stat.is_file() {
            return Err(super::read::not_a_file());
        }
        let path = directory.join(below);
        let opened = tokio::task::spawn_blocking(move || open_no_link(&path));
        Ok((stat, opened.await.map_err(|error| Refusal::Internal(error.to_string()))??))
    }

    pub(super) async fn outbox_remove(&self, below: &str) -> Result<(), Refusal> {
        let (files, _) = self.outbox()?;
        if !stat(&files, below).await?.is_file() {
            return Err(super::read::not_a_file());
        }
        if !self.ingest.partners.policy(self.partner()).outbox_delete {
            return Err(Refusal::Denied("this file is not yours to delete".to_owned()));
        }
        files.del(&DefaultUser, absolute(below)).await.map_err(|_| Refusal::NotFound)
    }
}

fn absolute(below: &str) -> PathBuf {
    Path::new("/").join(below)
}

async fn stat(files: &Filesystem, below: &str) -> Result<Stat, Refusal> {
    let there: Meta = files.metadata(&DefaultUser, absolute(below)).await.map_err(|_| Refusal::NotFound)?;
    let modified = there.modified().map(DateTime::from).unwrap_or_default();
    match (there.is_dir(), there.is_file()) {
        (true, _) => Ok(Stat::folder(modified)),
        (_, true) => Ok(Stat::file(there.len(), modified)),
        // A link or a device: nothing for partners.
        _ => Err(Refusal::NotFound),
    }
}

/// The names of a directory that partners could ask for: text, and nothing in it that hides.
async fn names(directory: PathBuf) -> Result<Vec<String>, Refusal> {
    let read = tokio::task::spawn_blocking(move || {
        let entries = std::fs::read_dir(directory)?;
        let names = entries.filter_map(|one| one.ok()?.file_name().into_string().ok());
        Ok::<_, std::io::Error>(names.filter(|name| Name::parse(name).is_ok()).collect())
    });
    Ok(read.await.map_err(|error| Refusal::Internal(error.to_string()))??)
}

/// Opens a file for reading, never by a link, and never waiting for the other end of a pipe.
fn open_no_link(path: &Path) -> std::io::Result<File> {
    use std::os::unix::fs::OpenOptionsExt as _;
    let nofollow = rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK;
    File::options().read(true).custom_flags(nofollow.bits() as i32).open(path)
}
