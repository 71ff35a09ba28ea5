//! The times that partners give to their files, for their clients to compare with their own.
//!
//! Accepted bytes never change, nor does the inode that has them. So a time that a client sets is kept beside: as the time of
//! an empty file that is named after the inode. It follows the file through renames in the view, and is gone with its name.
//! Nothing here is promised: where it is lost, a file shows when it came, as one that nobody gave a time.

use std::{
    fs, io,
    os::unix::fs::{MetadataExt, OpenOptionsExt},
    path::PathBuf,
    sync::Arc,
};

use chrono::{DateTime, Utc};

use super::{
    Ingest, Name, Refusal, SessionInfo,
    view::{View, create_private},
};

/// Where they are, in the directory of all views. No partner's name begins with a dot.
const TIMES: &str = ".times";

impl Ingest {
    /// Shows a file of the partner's with this time from now on. What is known of the accepted file stays as it is.
    ///
    /// # Errors
    /// Bad names, when there is no file of that name, or in `out/`.
    pub async fn set_time(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        at: DateTime<Utc>,
    ) -> Result<(), Refusal> {
        let name = Name::parse(path)?;
        name.not_in_out()?;
        let (ingest, partner) = (self.clone(), session.partner.clone());
        let set = tokio::task::spawn_blocking(move || ingest.view.set_time(partner.as_str(), &name, at));
        set.await.map_err(|error| Refusal::Internal(error.to_string()))?
    }

    /// The time that the partner has given to a file it sees, if it has.
    #[must_use]
    pub fn shown_time(&self, session: &SessionInfo, path: &str) -> Option<DateTime<Utc>> {
        let partner = session.partner.as_str();
        // Most partners never give any.
        fs::symlink_metadata(self.view.times(partner)).ok()?;
        let there = fs::symlink_metadata(self.view.within(partner, &Name::parse(path).ok()?).ok()?).ok()?;
        let kept = fs::symlink_metadata(self.view.time_of(partner, &there)?).ok()?;
        kept.modified().ok().map(DateTime::from)
    }
}

impl View {
    fn times(&self, partner: &str) -> PathBuf {
        self.root().join(TIMES).join(partner)
    }

    /// Where the time of this file is kept. Its own time is part of the name: another file may get the same inode.
    fn time_of(&self, partner: &str, there: &fs::Metadata) -> Option<PathBuf> {
        let name = format!("{}-{}.{:09}", there.ino(), there.mtime(), there.mtime_nsec());
        there.is_file().then(|| self.times(partner).join(name))
    }

    fn set_time(&self, partner: &str, name: &Name, at: DateTime<Utc>) -> Result<(), Refusal> {
        let there = fs::symlink_metadata(self.within(partner, name)?)?;
        let kept = self.time_of(partner, &there).ok_or_else(|| Refusal::Denied("is not a file".to_owned()))?;
        create_private(&self.times(partner))?;
        let kept = fs::OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(kept)?;
        Ok(kept.set_modified(at.into())?)
    }

    /// The file is no longer shown under a name: what was its time is forgotten.
    pub(super) fn forget_time(&self, partner: &str, shown: &fs::Metadata) {
        if let Some(kept) = self.time_of(partner, shown) {
            match fs::remove_file(kept) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    tracing::warn!(%partner, %error, "cannot forget the time of a file that is no longer shown");
                }
                _ => {}
            }
        }
    }
}
