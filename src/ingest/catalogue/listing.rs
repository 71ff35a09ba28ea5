//! Listing a folder, page by page: a million names take no more memory than a thousand.
//!
//! Nothing is locked between two pages. A name that comes or goes meanwhile is in the listing or
//! not; one that stays is in it once, because pages go on after the last name.

use std::collections::VecDeque;

use forebay_queue::Node;
use forebay_storage::FileId;

use super::{Files, Listed, Place, Stat, outbox};
use crate::ingest::{OUT, Refusal};

/// Names that are read at a time. Reading them holds up what else is on the session's thread, so they are few.
const PAGE: usize = 256;

/// A listing under way. Names of a partner's own come in byte order.
pub struct Listing {
    files: Files,
    next: Next,
}

/// What comes next in a listing.
enum Next {
    /// Names of a folder behind this one.
    Own {
        folder: String,
        after: Option<String>,
        out_is_told: bool,
    },
    /// The notice, and then receipts.
    Notice,
    /// Receipts of files behind this one.
    Receipts {
        after: Option<FileId>,
    },
    /// Names that were read already.
    Rest(VecDeque<Listed>),
    Over,
}

impl Files {
    /// Lists a folder; a file is listed by itself.
    ///
    /// # Errors
    /// Bad names; [`Refusal::NotFound`].
    pub async fn list(&self, path: &str) -> Result<Listing, Refusal> {
        let own = |folder: String, out_is_told| Next::Own { folder, after: None, out_is_told };
        let next = match Place::of(path)? {
            // A tool that makes this folder like another one would take `out/` for something to remove.
            Place::Root => own(String::new(), !self.ingest.partners.policy(self.partner()).list_out),
            Place::Out => Next::Notice,
            Place::InOut(below) => match self.stat_in_out(&below).await? {
                stat if stat.is_file() => by_itself(&below, stat),
                _ => Next::Rest(self.outbox_names(&below).await?.into()),
            },
            Place::Own(name) => match self.ingest.catalogue.stat(self.partner(), name.as_str()).await? {
                Some(Node::Folder { .. }) => own(name.as_str().to_owned(), true),
                Some(node) => by_itself(name.as_str(), Stat::from(&node)),
                None => return Err(Refusal::NotFound),
            },
        };
        Ok(Listing { files: self.clone(), next })
    }
}

impl Files {
    /// What `out/` has besides receipts: the notice, and what other programs have put there.
    pub async fn list_out_without_receipts(&self) -> Listing {
        let mut names = VecDeque::from_iter(self.notice_listed());
        names.extend(self.outbox_names(outbox::TOP).await.unwrap_or_default());
        Listing { files: self.clone(), next: Next::Rest(names) }
    }
}

fn by_itself(path: &str, stat: Stat) -> Next {
    let name = path.rsplit('/').next().unwrap_or_default().to_owned();
    Next::Rest([Listed { name, stat }].into())
}

impl Listing {
    /// The next names, some 256; none at the end.
    /// Not cancel safe: a dropped call may have taken a page.
    ///
    /// # Errors
    /// When the catalogue cannot be read.
    pub async fn next(&mut self) -> Result<Option<Vec<Listed>>, Refusal> {
        loop {
            // A page is read without a wait, and a client that is quick takes it without one: others get their turn here.
            tokio::task::yield_now().await;
            let page = match std::mem::replace(&mut self.next, Next::Over) {
                Next::Own { folder, after, out_is_told } => self.own(folder, after, out_is_told).await?,
                Next::Notice => self.notice(),
                Next::Receipts { after } => self.receipts(after).await?,
                Next::Rest(names) => names.into(),
                Next::Over => return Ok(None),
            };
            if !page.is_empty() {
                return Ok(Some(page));
            }
        }
    }

    /// A page of the partner's own names, with `out/` before the first.
    async fn own(&mut self, folder: String, after: Option<String>, out_is_told: bool) -> Result<Vec<Listed>, Refusal> {
        let (ingest, partner) = (&self.files.ingest, self.files.partner());
        let named = ingest.catalogue.list(partner, &folder, after.as_deref(), PAGE).await?;
        let mut page = Vec::with_capacity(named.len() + 1);
        if !out_is_told {
            page.push(Listed { name: OUT.to_owned(), stat: Stat::folder(ingest.started_at) });
        }
        page.extend(named.iter().map(|one| Listed { name: one.name.clone(), stat: Stat::from(&one.node) }));
        if named.len() >= PAGE {
            let after = named.into_iter().next_back().map(|last| last.name);
            self.next = Next::Own { folder, after, out_is_told: true };
        }
        Ok(page)
    }

    fn notice(&mut self) -> Vec<Listed> {
        self.next = Next::Receipts { after: None };
        self.files.notice_listed().into_iter().collect()
    }

    /// A page of receipts, in the order of ids, and the outbox after the last.
    async fn receipts(&mut self, after: Option<FileId>) -> Result<Vec<Listed>, Refusal> {
        let (ingest, partner) = (&self.files.ingest, self.files.partner());
        let entries = ingest.queue.of_partner(partner, after, PAGE).await?;
        self.next = match entries.last() {
            Some(last) => Next::Receipts { after: Some(last.id) },
            None => Next::Rest(self.files.outbox_names(outbox::TOP).await.unwrap_or_default().into()),
        };
        let since = self.files.since();
        let own = entries.iter().filter(|entry| entry.received_at > since);
        let receipts = own.filter_map(|entry| ingest.answers.listed(entry));
        Ok(receipts.map(|one| Listed { name: one.name, stat: Stat::file(one.size_bytes, one.at) }).collect())
    }
}
