//! Deleting, folders and times: what a partner may do to its names.

use chrono::{DateTime, Utc};
use forebay_queue::{Action, Actor, Filter, NameChange, Node, State};
use tracing::info;

use super::{Files, Place};
use crate::{
    ingest::{Name, Refusal},
    partners::Delete,
};

/// Files of one name that a deletion calls off at most.
const MOST_CANCELLED: usize = 1_000;

impl Files {
    /// Removes a file's name, or a receipt, the notice or (where allowed) a file of the outbox from `out/`. With
    /// `delete = "cancel"` every file of that name that no processor has claimed yet is called off; the others are
    /// processed all the same.
    ///
    /// # Errors
    /// Bad names; [`Refusal::NotFound`]; [`Refusal::Denied`] when it is a folder.
    pub async fn remove(&self, path: &str) -> Result<(), Refusal> {
        let (files, place) = (self.clone(), Place::of(path)?);
        self.ingest.through(async move { files.remove_through(place).await }).await
    }

    async fn remove_through(&self, place: Place) -> Result<(), Refusal> {
        let name = match place {
            Place::Root | Place::Out => return Err(is_a_folder()),
            Place::InOut(below) => return self.remove_in_out(&below).await,
            Place::Own(name) => name,
        };
        match self.ingest.catalogue.stat(self.partner(), name.as_str()).await? {
            Some(Node::File { .. }) => {}
            Some(Node::Folder { .. }) => return Err(is_a_folder()),
            None => return Err(Refusal::NotFound),
        }
        self.may_change()?;
        if self.ingest.partners.policy(self.partner()).delete == Delete::Cancel {
            // Called off before it is hidden: when that fails, the name is still there and the
            // partner can delete it again.
            self.cancel(&name).await?;
        }
        self.change(NameChange::Hide { path: name.as_str().to_owned() }).await?;
        info!(partner = self.partner(), %name, "removed from the listing");
        Ok(())
    }

    /// Calls off every file of this name that no processor has claimed.
    async fn cancel(&self, name: &Name) -> Result<(), Refusal> {
        let (ingest, partner) = (&self.ingest, self.partner());
        let filter = Filter {
            states: vec![State::Unfinished, State::Ready, State::Retrying, State::Held],
            partner: Some(partner.to_owned()),
            name: Some(name.as_str().to_owned()),
            ..Filter::default()
        };
        let (mut ids, mut after) = (Vec::new(), None);
        loop {
            ingest.may_go_on()?;
            let page = ingest.queue.list(&filter, after, MOST_CANCELLED).await?;
            ids.extend(page.entries.iter().map(|entry| entry.id));
            after = page.next;
            if after.is_none() || ids.len() >= MOST_CANCELLED {
                break;
            }
        }
        if ids.is_empty() {
            return Ok(());
        }
        let reason = Some("deleted by the partner".to_owned());
        let done = ingest.queue.act(&ids, Action::Cancel, reason, self.actor(), ingest.clock.now()).await;
        for (id, done) in ids.iter().zip(done) {
            match done {
                Ok(_) => info!(file.id = %id, %partner, %name, "called off by the partner"),
                // A claim was faster: it is processed.
                Err(error) => info!(file.id = %id, %partner, %name, %error, "not called off"),
            }
        }
        Ok(())
    }

    /// Makes a folder.
    ///
    /// # Errors
    /// Bad names; [`Refusal::Exists`]; [`Refusal::NotFound`] when the one above it is not there; the partner's limits.
    pub async fn make_folder(&self, path: &str) -> Result<(), Refusal> {
        let name = Name::parse(path)?;
        name.not_in_out()?;
        self.may_change()?;
        self.has_room_for_a_name().await?;
        self.change(NameChange::MakeFolder { path: name.as_str().to_owned() }).await
    }

    /// Removes an empty folder.
    ///
    /// # Errors
    /// Bad names; [`Refusal::NotFound`]; [`Refusal::Denied`] when it is not empty.
    pub async fn remove_folder(&self, path: &str) -> Result<(), Refusal> {
        let name = Name::parse(path)?;
        name.not_in_out()?;
        self.may_change()?;
        self.change(NameChange::RemoveFolder { path: name.as_str().to_owned() }).await
    }

    /// Shows a file with this time from now on. What is known of the accepted bytes stays as it is. Not waited for: a
    /// crash may lose it.
    ///
    /// # Errors
    /// Bad names; [`Refusal::NotFound`]; [`Refusal::Denied`] when it is a folder.
    pub async fn set_time(&self, path: &str, at: DateTime<Utc>) -> Result<(), Refusal> {
        let name = Name::parse(path)?;
        name.not_in_out()?;
        self.may_change()?;
        self.change(NameChange::SetTime { path: name.as_str().to_owned(), at }).await
    }

    pub(super) fn actor(&self) -> Actor {
        Actor::Partner(self.partner().to_owned())
    }

    pub(super) async fn change(&self, change: NameChange) -> Result<(), Refusal> {
        let ingest = &self.ingest;
        Ok(ingest.catalogue.change(self.partner(), change, self.actor(), ingest.clock.now()).await?)
    }
}

fn is_a_folder() -> Refusal {
    Refusal::Denied("is a directory".to_owned())
}
