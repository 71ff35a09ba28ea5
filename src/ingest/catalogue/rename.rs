//! Renames (RNFR and RNTO, SFTP's RENAME): how a file under a temporary name is accepted, and how
//! one that no processor has begun gets another name.
//!
//! # Guarantees
//! - A file that no processor has begun is processed under its new name, at its old position in the
//!   queue.
//! - If a claim is faster, only the listing shows the new name, and the caller learns that.
//! - A folder takes the files below it along in one record, so no crash leaves some of them behind.
//! - Work goes on when the session ends ([`Ingest::through`]).

use forebay_queue::{Entry, Filter, Hold, NameChange, NewName, Node, QueueError, State};
use forebay_storage::FileId;
use tracing::{info, warn};

use super::Files;
use crate::{
    ingest::{Accepted, Name, Refusal, Renamed, core::Named},
    partners::Complete,
};

/// Files that wait to be processed below a folder that is renamed, at most: they are renamed in one record.
const MOST_BELOW: usize = 1_000;
/// Entries that are read at a time.
const PAGE: usize = 500;

impl Files {
    /// Renames a file or folder. A file that no processor has begun is processed under its new name, by the route that
    /// serves that, at its old turn; one under a temporary name is accepted by it unless the new name is temporary too.
    /// A folder takes its files along. The name of any other file changes in listings alone.
    ///
    /// # Errors
    /// Bad names; [`Refusal::NotFound`] (an interrupted upload is not there); a folder in the way; a file that is held
    /// because it was not renamed in time; a folder with more than 1,000 files that wait to be processed.
    pub async fn rename(&self, from: &str, to: &str) -> Result<Renamed, Refusal> {
        let (from, to) = (Name::parse(from)?, Name::parse(to)?);
        from.not_in_out()?;
        to.not_in_out()?;
        let files = self.clone();
        self.ingest.through(async move { files.rename_through(&from, &to).await }).await
    }

    async fn rename_through(&self, from: &Name, to: &Name) -> Result<Renamed, Refusal> {
        let there = self.ingest.catalogue.stat(self.partner(), from.as_str()).await?.ok_or(Refusal::NotFound)?;
        if from == to {
            return Ok(Renamed::ListingOnly);
        }
        self.may_change()?;
        match there {
            Node::Folder { .. } => self.rename_folder(from, to).await,
            Node::File { id, .. } => self.rename_file(id, from, to).await,
        }
    }

    async fn rename_file(&self, id: FileId, from: &Name, to: &Name) -> Result<Renamed, Refusal> {
        self.ingest.has_folder_for(self.partner(), to).await?;
        let entry = self.ingest.queue.get(id).await?;
        self.refuse_too_late(&entry, from, to)?;
        if entry.state != State::Unfinished {
            self.ingest.partners.renamed(self.partner(), from.as_str(), to.as_str());
        }
        if is_named_anew(&entry) {
            match self.name_file(&entry, from, to).await {
                Ok(accepted) => return Ok(Renamed::Files(vec![accepted])),
                // A claim was faster: only the listing changes.
                Err(QueueError::WrongState { .. }) if entry.state != State::Unfinished => {}
                Err(error) => return Err(error.into()),
            }
        }
        self.change(NameChange::Move { from: from.as_str().into(), to: to.as_str().into(), files: Vec::new() }).await?;
        info!(partner = self.partner(), %from, %to, "renamed in the listing only: a processor had begun the file");
        Ok(Renamed::ListingOnly)
    }

    /// Gives a file its new name in the queue. Fails with `WrongState` when a claim was faster.
    async fn name_file(&self, entry: &Entry, from: &Name, to: &Name) -> Result<Accepted, QueueError> {
        let (ingest, id) = (&self.ingest, entry.id);
        let renamed = ingest.queue.rename(id, self.new_name(to), self.actor(), ingest.clock.now()).await;
        if let Err(error) = &renamed {
            warn!(file.id = %id, partner = self.partner(), %from, %to, %error, "cannot rename a file");
        }
        let entry = renamed?;
        info!(file.id = %id, partner = self.partner(), %from, %to, state = %entry.state, "renamed");
        Ok(Accepted::new(entry, None))
    }

    /// Works out route and state that follow from the new name.
    fn new_name(&self, to: &Name) -> NewName {
        let policy = self.ingest.partners.policy(self.partner());
        let standing = self.ingest.standing(&policy, self.partner(), to, Named::ByRename);
        NewName {
            name: to.as_str().to_owned(),
            route: standing.route,
            state: standing.state,
            reason: standing.reason,
            hold: standing.hold,
        }
    }

    async fn rename_folder(&self, from: &Name, to: &Name) -> Result<Renamed, Refusal> {
        let mut files = Vec::new();
        for entry in self.waiting_below(from).await? {
            let Ok(name) = Name::parse(&entry.name) else { continue };
            if let Some(to) = name.moved(from, to)? {
                files.push((entry.id, self.new_name(&to)));
            }
        }
        let ids: Vec<FileId> = files.iter().map(|(id, _)| *id).collect();
        self.change(NameChange::Move { from: from.as_str().into(), to: to.as_str().into(), files }).await?;
        let mut renamed = Vec::with_capacity(ids.len());
        for id in ids {
            renamed.push(Accepted::new(self.ingest.queue.get(id).await?, None));
        }
        info!(partner = self.partner(), %from, %to, files = renamed.len(), "folder renamed");
        Ok(if renamed.is_empty() { Renamed::ListingOnly } else { Renamed::Files(renamed) })
    }

    /// Returns the files shown below a folder that no processor has begun.
    ///
    /// # Errors
    /// When there are more than [`MOST_BELOW`]: one record would have to name them all.
    async fn waiting_below(&self, folder: &Name) -> Result<Vec<Entry>, Refusal> {
        let states = vec![State::Unfinished, State::Ready, State::Held];
        let filter = Filter { states, partner: Some(self.partner().to_owned()), ..Filter::default() };
        let below = format!("{folder}/");
        let (mut found, mut after) = (Vec::new(), None);
        loop {
            self.ingest.may_go_on()?;
            let page = self.ingest.queue.list(&filter, after, PAGE).await?;
            for entry in page.entries {
                let is_below = entry.name.starts_with(&below) && is_named_anew(&entry);
                if is_below && self.ingest.catalogue.path_of(entry.id).await?.as_ref() == Some(&entry.name) {
                    found.push(entry);
                }
            }
            if found.len() > MOST_BELOW {
                return Err(Refusal::Denied(format!("more than {MOST_BELOW} files below it wait to be processed")));
            }
            after = page.next;
            if after.is_none() {
                return Ok(found);
            }
        }
    }

    /// A file that was held since nobody renamed it in time is no longer accepted by a rename, and must not seem so.
    fn refuse_too_late(&self, entry: &Entry, from: &Name, to: &Name) -> Result<(), Refusal> {
        let policy = self.ingest.partners.policy(self.partner());
        let waited = policy.complete == Complete::Rename || policy.is_temporary(from.as_str());
        let is_held = entry.state == State::Held && !is_named_anew(entry);
        if !waited || !is_held || policy.is_temporary(to.as_str()) {
            return Ok(());
        }
        warn!(file.id = %entry.id, partner = self.partner(), %from, %to, state = %entry.state, "renamed too late");
        Err(Refusal::Denied("it waits for an operator under this name: send it again".to_owned()))
    }
}

/// Returns whether a rename changes the name that the file is processed under: no processor has begun it, and if it is
/// held then for want of a route alone.
fn is_named_anew(entry: &Entry) -> bool {
    let waits = match entry.state {
        State::Unfinished | State::Ready => true,
        State::Held => entry.hold == Some(Hold::NoRoute),
        _ => false,
    };
    waits && !entry.begun
}
