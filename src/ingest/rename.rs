//! Renames: how a file under a temporary name is accepted.

use std::{fs, io, os::unix::fs::MetadataExt, sync::Arc};

use forebay_queue::{Actor, Filter, NewName, State};
use forebay_storage::FileId;
use tracing::{info, warn};

use crate::partners::Complete;

use super::{Accepted, Ingest, Name, Refusal, Renamed, SessionInfo, core::Named};

impl Ingest {
    /// Renames what the partner sees. An unfinished file gets the new name durably before this returns, and is accepted
    /// with it unless the new name is temporary too. A directory takes its unfinished files along. Files that had been
    /// accepted before keep the name they are processed under: only the view shows the new one.
    ///
    /// # Errors
    /// Bad names, nothing of that name (an interrupted upload is not there), a directory in the way, a file that is held
    /// since it was not renamed in time.
    pub async fn rename(self: &Arc<Self>, session: &SessionInfo, from: &str, to: &str) -> Result<Renamed, Refusal> {
        let (from, to) = (Name::parse(from)?, Name::parse(to)?);
        from.not_in_out()?;
        to.not_in_out()?;
        let (ingest, session) = (self.clone(), session.clone());
        self.through(async move { ingest.rename_through(&session, &from, &to).await }).await
    }

    async fn rename_through(&self, session: &SessionInfo, from: &Name, to: &Name) -> Result<Renamed, Refusal> {
        let partner = session.partner.as_str();
        let there = fs::symlink_metadata(self.view.within(partner, from)?)?;
        if from == to {
            return Ok(Renamed::ViewOnly);
        }
        if there.is_dir() {
            return self.rename_directory(partner, from, to).await;
        }
        self.view.has_room_for(partner, to)?;
        let Some(id) = self.unfinished.get(partner, from) else {
            self.refuse_too_late(partner, from, to).await?;
            info!(%partner, %from, %to, "renamed in the view only: the file had been accepted before");
            let replaced = fs::symlink_metadata(self.view.path(partner, to));
            fs::rename(self.view.path(partner, from), self.view.path(partner, to))?;
            if let Some(replaced) = replaced.ok().filter(|replaced| replaced.ino() != there.ino()) {
                self.view.forget_time(partner, &replaced);
            }
            return Ok(Renamed::ViewOnly);
        };
        let accepted = self.name_file(partner, id, from, to).await?;
        // The journal has it; a view that cannot follow is rebuilt.
        if let Err(error) = fs::rename(self.view.path(partner, from), self.view.path(partner, to)) {
            warn!(file.id = %id, %partner, %from, %to, %error, "cannot rename in the view");
        }
        Ok(Renamed::Files(vec![accepted]))
    }

    async fn rename_directory(&self, partner: &str, from: &Name, to: &Name) -> Result<Renamed, Refusal> {
        self.view.has_room_for(partner, to)?;
        let (old, new) = (self.view.path(partner, from), self.view.path(partner, to));
        if fs::symlink_metadata(&new).is_ok() {
            return Err(Refusal::Exists);
        }
        let mut files = Vec::new();
        for (name, id) in self.unfinished.within(partner, from) {
            if let Some(named) = name.moved(from, to)? {
                files.push((name, id, named));
            }
        }
        // The directory first: it can be refused (into itself), and a file's acceptance cannot be taken back.
        fs::rename(old, new).map_err(|error| match error.kind() {
            io::ErrorKind::InvalidInput => Refusal::BadName("a directory cannot be moved into itself".to_owned()),
            _ => error.into(),
        })?;
        let (mut accepted, mut refused) = (Vec::new(), None);
        for (name, id, named) in files {
            match self.name_file(partner, id, &name, &named).await {
                Ok(file) => accepted.push(file),
                Err(refusal) => {
                    // The view has moved already: where it is shown now it can still be renamed, and so be accepted.
                    self.unfinished.forget(partner, &name, id);
                    self.unfinished.put(partner, named, id);
                    refused.get_or_insert(refusal);
                }
            }
        }
        match (refused, accepted.is_empty()) {
            (Some(refusal), _) => Err(refusal),
            (None, true) => Ok(Renamed::ViewOnly),
            (None, false) => Ok(Renamed::Files(accepted)),
        }
    }

    /// A file that was held since nobody renamed it in time is no longer accepted by a rename, and must not seem so.
    async fn refuse_too_late(&self, partner: &str, from: &Name, to: &Name) -> Result<(), Refusal> {
        let policy = self.partners.policy(partner);
        let waited = policy.complete == Complete::Rename || policy.is_temporary(from.as_str());
        if !waited || policy.is_temporary(to.as_str()) {
            return Ok(());
        }
        let filter = Filter {
            states: vec![State::Unfinished, State::Held],
            partner: Some(partner.to_owned()),
            name: Some(from.as_str().to_owned()),
            ..Filter::default()
        };
        match self.queue.list(&filter, None, 1).await?.entries.first() {
            None => Ok(()),
            Some(entry) => {
                warn!(file.id = %entry.id, %partner, %from, %to, state = %entry.state, "renamed too late");
                Err(Refusal::Denied("it waits for an operator under this name: send it again".to_owned()))
            }
        }
    }

    async fn name_file(&self, partner: &str, id: FileId, from: &Name, to: &Name) -> Result<Accepted, Refusal> {
        let standing = self.standing(&self.partners.policy(partner), partner, to, Named::ByRename);
        let name = NewName {
            name: to.as_str().to_owned(),
            route: standing.route,
            state: standing.state,
            reason: standing.reason,
        };
        let renamed = self.queue.rename(id, name, Actor::Partner(partner.to_owned()), self.clock.now()).await;
        if let Err(error) = &renamed {
            // Held or called off meanwhile by an operator, or by its age: no longer the partner's to name.
            warn!(file.id = %id, %partner, %from, %to, %error, "cannot rename an unfinished file");
        }
        let entry = renamed?;
        self.unfinished.forget(partner, from, id);
        if entry.state == State::Unfinished {
            self.unfinished.put(partner, to.clone(), id);
        }
        info!(file.id = %id, %partner, %from, %to, state = %entry.state, "renamed");
        Ok(Accepted::new(entry))
    }
}
