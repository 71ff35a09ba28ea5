//! The catalogue, for readers: they look names up in the index, with what is journalled and not in it yet laid over it.
//!
//! So a name is found as soon as its change was answered, without waiting until the index has
//! caught up.

use std::ops::ControlFlow;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use forebay_storage::FileId;

use super::{
    committer::Shared,
    index::Fault,
    keys,
    layered::{Changes, Layered},
    names::Leaf,
    queue::EmbeddedQueue,
    read,
};
use crate::{Actor, Catalogue, Fact, NameChange, NameFault, Named, Node, Record, Result};

impl EmbeddedQueue {
    /// Reads the catalogue or an idempotency key. Waits for no other reader or writer but while the
    /// index is rebuilt.
    pub(super) async fn look_at_names<T: Send + 'static>(
        &self,
        read: impl Fn(Layered<'_>) -> Result<T, Fault> + Send + Sync + Clone + 'static,
    ) -> Result<T> {
        let over = move |shared: &Shared, index: &super::index::Index| {
            // Held over the whole read, and taken after the lock on the index: `catch_up` clears
            // the names only after the index has them, so each is found in one of the two.
            let names = shared.names.read();
            read(Layered { changes: &names, index })
        };
        self.read_uncaught(over).await
    }
}

#[async_trait]
impl Catalogue for EmbeddedQueue {
    async fn stat(&self, partner: &str, path: &str) -> Result<Option<Node>> {
        let (partner, path) = (partner.to_owned(), path.to_owned());
        self.look_at_names(move |names| match path.is_empty() {
            true => Ok(Some(Node::Folder { at: DateTime::UNIX_EPOCH })),
            false => Ok(names.find(&partner, &path)?.map(|(_, leaf)| leaf.node())),
        })
        .await
    }

    async fn list(&self, partner: &str, folder: &str, after: Option<&str>, limit: usize) -> Result<Vec<Named>> {
        let (partner, folder, after) = (partner.to_owned(), folder.to_owned(), after.map(str::to_owned));
        self.look_at_names(move |names| {
            let number = names.folder(&partner, &folder)?;
            let mut page = Vec::new();
            names.names(number, after.as_deref(), |name, leaf| {
                if page.len() >= limit {
                    return Ok(ControlFlow::Break(()));
                }
                page.push(Named { name, node: leaf.node() });
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(page)
        })
        .await
    }

    async fn files_below(&self, partner: &str, path: &str, limit: usize) -> Result<Vec<(String, FileId)>> {
        let (partner, path) = (partner.to_owned(), path.to_owned());
        self.look_at_names(move |names| {
            let mut found = Vec::new();
            match names.find(&partner, &path)? {
                _ if path.is_empty() => names.files_below(names.folder(&partner, "")?, "", limit, &mut found)?,
                Some((_, Leaf::Folder { number, .. })) => names.files_below(number, &path, limit, &mut found)?,
                Some((_, Leaf::File { id, .. })) => found.push((path.clone(), id)),
                None => return Err(NameFault::NotFound.into()),
            }
            Ok(found)
        })
        .await
    }

    async fn path_of(&self, id: FileId) -> Result<Option<String>> {
        // Where a file is shown stands in its entry, which the index has when it has caught up.
        self.look(move |index| {
            let Some(place) = read::find(index, id)?.and_then(|stored| stored.place) else { return Ok(None) };
            let shown = Layered { changes: &Changes::new(), index }.shown_at(id, &place)?;
            Ok(shown.map(|(path, _)| path))
        })
        .await
    }

    async fn names(&self, partner: &str) -> Result<u64> {
        let partner = partner.to_owned();
        self.look_at_names(move |names| match names.get(&keys::root(&partner))? {
            Some(root) => Ok(super::names::decode_root(&root)?.names),
            None => Ok(0),
        })
        .await
    }

    async fn partners(&self) -> Result<Vec<String>> {
        self.look_at_names(move |names| {
            let mut partners = Vec::new();
            names.scan(b"r", &keys::behind(b'r'), |key, _| {
                let name = std::str::from_utf8(&key[1..]).map_err(|_| Fault::Index("a partner is not text".into()))?;
                partners.push(name.to_owned());
                Ok(ControlFlow::Continue(()))
            })?;
            Ok(partners)
        })
        .await
    }

    async fn change(&self, partner: &str, change: NameChange, actor: Actor, now: DateTime<Utc>) -> Result<()> {
        let partner = partner.to_owned();
        self.journal(move |batch| batch.change_names(&partner, &change, &actor, now)).await
    }

    async fn forget_partner(&self, partner: &str, now: DateTime<Utc>) -> Result<()> {
        let fact = Fact::NamesForgotten { partner: partner.to_owned() };
        let record = Record { at: now, actor: Actor::Server, id: None, fact };
        self.journal(move |batch| batch.write(&record).map(drop)).await
    }
}
