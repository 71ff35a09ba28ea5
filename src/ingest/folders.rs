//! Deletions and directories: what a partner may do to its view.

use std::{ffi::OsString, fs, io, os::unix::fs::DirBuilderExt, sync::Arc};

use forebay_queue::{Action, Actor, Filter, State};
use tracing::info;

use crate::partners::Delete;

use super::{Ingest, Name, Refusal, SessionInfo};

impl Ingest {
    /// Removes a file from the view, or a receipt or notice from `out/`. With `delete = "cancel"` every file of that
    /// name that no processor has claimed yet is called off; the others are processed all the same.
    ///
    /// # Errors
    /// When it is not there or is a directory.
    pub async fn delete(self: &Arc<Self>, session: &SessionInfo, path: &str) -> Result<(), Refusal> {
        let name = Name::parse(path)?;
        let (ingest, session) = (self.clone(), session.clone());
        self.through(async move { ingest.delete_through(&session, &name).await }).await
    }

    async fn delete_through(&self, session: &SessionInfo, name: &Name) -> Result<(), Refusal> {
        let partner = session.partner.as_str();
        let path = self.view.within(partner, name)?;
        if fs::symlink_metadata(&path)?.is_dir() {
            return Err(Refusal::Denied("is a directory".to_owned()));
        }
        if !name.is_in_out() {
            if self.partners.policy(partner).delete == Delete::Cancel {
                self.cancel(partner, name).await?;
            }
            if let Some(id) = self.unfinished.get(partner, name) {
                self.unfinished.forget(partner, name, id);
            }
        }
        self.view.hide(partner, name)?;
        info!(%partner, %name, "removed from the view");
        Ok(())
    }

    async fn cancel(&self, partner: &str, name: &Name) -> Result<(), Refusal> {
        let filter = Filter {
            states: vec![State::Unfinished, State::Ready, State::Retrying, State::Held],
            partner: Some(partner.to_owned()),
            name: Some(name.as_str().to_owned()),
            ..Filter::default()
        };
        let page = self.queue.list(&filter, None, 1000).await?;
        let ids: Vec<_> = page.entries.iter().map(|entry| entry.id).collect();
        if ids.is_empty() {
            return Ok(());
        }
        let reason = Some("deleted by the partner".to_owned());
        let actor = Actor::Partner(partner.to_owned());
        for (id, done) in ids.iter().zip(self.queue.act(&ids, Action::Cancel, reason, actor, self.clock.now()).await) {
            match done {
                Ok(_) => info!(file.id = %id, %partner, %name, "called off by the partner"),
                // A claim was faster: it is processed.
                Err(error) => info!(file.id = %id, %partner, %name, %error, "not called off"),
            }
        }
        Ok(())
    }

    /// Creates a directory in the view.
    ///
    /// # Errors
    /// Bad names, when it is there already, or the one above it is not.
    pub async fn make_dir(&self, session: &SessionInfo, path: &str) -> Result<(), Refusal> {
        let name = Name::parse(path)?;
        name.not_in_out()?;
        let path = self.view.within(session.partner.as_str(), &name)?;
        let made = tokio::task::spawn_blocking(move || {
            fs::DirBuilder::new().mode(0o700).create(&path)?;
            path.parent().map_or(Ok(()), |parent| fs::File::open(parent)?.sync_all())
        });
        Ok(made.await.map_err(|error| Refusal::Internal(error.to_string()))??)
    }

    /// The names in a directory of the view, in no order; what goes away meanwhile is left out. An empty path is the view
    /// itself.
    ///
    /// # Errors
    /// Bad names, when it is not there or not a directory, or an entry cannot be looked at.
    pub async fn names(&self, session: &SessionInfo, path: &str) -> Result<Vec<OsString>, Refusal> {
        let partner = session.partner.as_str();
        let path = match path {
            "" => self.view.home(partner)?,
            path => self.view.within(partner, &Name::parse(path)?)?,
        };
        let read = tokio::task::spawn_blocking(move || -> io::Result<Vec<OsString>> {
            // What `read_dir` alone would follow.
            if fs::symlink_metadata(&path)?.is_symlink() {
                return Err(io::ErrorKind::NotADirectory.into());
            }
            let mut names = Vec::new();
            for entry in fs::read_dir(path)? {
                let entry = entry?;
                match entry.metadata() {
                    Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                    there => names.push(there.map(|_| entry.file_name())?),
                }
            }
            Ok(names)
        });
        Ok(read.await.map_err(|error| Refusal::Internal(error.to_string()))??)
    }

    /// Removes an empty directory from the view.
    ///
    /// # Errors
    /// Bad names, when it is not there, not empty, or not a directory.
    pub async fn remove_dir(&self, session: &SessionInfo, path: &str) -> Result<(), Refusal> {
        let name = Name::parse(path)?;
        name.not_in_out()?;
        let path = self.view.within(session.partner.as_str(), &name)?;
        Ok(fs::remove_dir(path)?)
    }
}
