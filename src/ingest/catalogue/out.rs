//! `out/`: the notice, receipts, and after them the outbox.
//!
//! Nothing of it is in the catalogue, and nothing but the outbox is on a disk: receipts and the
//! notice are rendered when they are listed or read (`answers`). So a listing, a size and a
//! download agree only because all three ask here.

use std::{collections::HashMap, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay_queue::{Actor, Entry};
use parking_lot::Mutex;

use super::{Files, Listed, Stat, read::Source};
use crate::{
    answers::{Answers, NOTICE},
    ingest::Refusal,
};

/// Notices that partners have deleted, as they stood. In memory: after a restart they are shown again.
#[derive(Debug, Default)]
pub(in crate::ingest) struct HiddenNotices(Mutex<HashMap<String, String>>);

impl Files {
    /// The notice as a listing shows it, if there is one.
    pub(super) fn notice_listed(&self) -> Option<Listed> {
        let text = self.notice()?;
        Some(Listed { name: NOTICE.to_owned(), stat: Stat::file(text.len() as u64, self.ingest.started_at) })
    }

    /// Returns the text of the notice, unless the partner has deleted this very text.
    fn notice(&self) -> Option<String> {
        let text = self.ingest.answers.notice(self.partner())?;
        let hidden = self.ingest.hidden_notices.0.lock();
        (hidden.get(self.partner()) != Some(&text)).then_some(text)
    }

    pub(super) async fn stat_in_out(&self, below: &str) -> Result<Stat, Refusal> {
        if below == NOTICE {
            return self.notice_listed().map(|notice| notice.stat).ok_or(Refusal::NotFound);
        }
        match self.entry_of_receipt(below).await? {
            Some((_, stat)) => Ok(stat),
            None => self.outbox_stat(below).await,
        }
    }

    pub(super) async fn source_in_out(&self, below: &str) -> Result<(Stat, Source), Refusal> {
        if below == NOTICE {
            let text = self.notice().ok_or(Refusal::NotFound)?;
            let stat = Stat::file(text.len() as u64, self.ingest.started_at);
            return Ok((stat, Source::Rendered(Bytes::from(text))));
        }
        match self.entry_of_receipt(below).await? {
            Some((entry, stat)) => Ok((stat, Source::Rendered(self.ingest.answers.receipt(&entry)))),
            None => {
                let (stat, file) = self.outbox_open(below).await?;
                Ok((stat, Source::Outbox(Arc::new(file))))
            }
        }
    }

    /// Removes a file from `out/`: a receipt is gone until its entry changes, the notice until it says something else.
    pub(super) async fn remove_in_out(&self, below: &str) -> Result<(), Refusal> {
        let ingest = &self.ingest;
        if below == NOTICE {
            let text = self.notice().ok_or(Refusal::NotFound)?;
            ingest.hidden_notices.0.lock().insert(self.partner().to_owned(), text);
            return Ok(());
        }
        match self.entry_of_receipt(below).await? {
            Some((entry, _)) => {
                let actor = Actor::Partner(self.partner().to_owned());
                Ok(ingest.queue.hide_receipt(entry.id, actor, ingest.clock.now()).await?)
            }
            None => self.outbox_remove(below).await,
        }
    }

    /// Since when this partner has its name. What came under it before was sent by another one.
    pub(in crate::ingest) fn since(&self) -> DateTime<Utc> {
        self.ingest.since(self.partner())
    }

    /// Returns the entry whose receipt has this very name and is shown.
    async fn entry_of_receipt(&self, name: &str) -> Result<Option<(Entry, Stat)>, Refusal> {
        let Some(id) = Answers::file_of(name) else { return Ok(None) };
        let entry = match self.ingest.queue.get(id).await {
            // Of its own only: ids are in receipts and may be known to others.
            Ok(entry) if entry.partner == self.partner() && entry.received_at > self.since() => entry,
            Ok(_) | Err(forebay_queue::QueueError::NotFound(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let listed = self.ingest.answers.listed(&entry).filter(|listed| listed.name == name);
        Ok(listed.map(|listed| (entry, Stat::file(listed.size_bytes, listed.at))))
    }
}
