//! The files that a partner has sent, and what became of them, as web services tell it.

use chrono::{DateTime, Utc};
use forebay_queue::{Cursor, Entry, Filter, QueueError, State};
use forebay_storage::{FileId, Sha256};

use super::{Refusal, catalogue::Files};

/// A file that its partner has sent, over any door.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sent {
    /// Its id.
    pub id: FileId,
    /// The path that it has, relative to the login directory.
    pub name: String,
    /// The door that it came through.
    pub door: String,
    /// Length in bytes.
    pub size_bytes: u64,
    /// Digest of all bytes.
    pub sha256: Sha256,
    /// When it was taken.
    pub received_at: DateTime<Utc>,
    /// The word for its state.
    pub state: &'static str,
    /// Whether it waits for the gate of its route.
    pub is_deferred: bool,
    /// When that gate opens, if it is closed and that is known.
    pub resumes_at: Option<DateTime<Utc>>,
    /// What became of it and what is to be done, in a sentence.
    pub text: String,
    /// When its state last changed.
    pub updated_at: DateTime<Utc>,
}

/// A piece of a listing.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SentPage {
    /// The files, newest first.
    pub files: Vec<Sent>,
    /// Where the next piece begins, if there may be more: for [`Files::sent`], and opaque.
    pub next: Option<String>,
}

impl Files {
    /// The files that the partner has sent, newest first, at most `limit`, from a cursor on. A piece may have fewer although
    /// more come. None when the cursor is none of ours.
    ///
    /// # Errors
    /// When the queue cannot be read.
    pub async fn sent(&self, after: Option<&str>, limit: usize) -> Result<Option<SentPage>, Refusal> {
        let before = match after.map(str::parse::<Cursor>).transpose() {
            Ok(cursor) => cursor,
            Err(_) => return Ok(None),
        };
        let filter = Filter { partner: Some(self.session.partner.as_str().to_owned()), ..Filter::default() };
        let page = match self.ingest.queue.newest(&filter, before, limit).await {
            Ok(page) => page,
            Err(QueueError::BadCursor(_)) => return Ok(None),
            Err(error) => return Err(error.into()),
        };
        let files = page.entries.iter().filter(|entry| self.is_told_of(entry)).map(|entry| self.told(entry)).collect();
        Ok(Some(SentPage { files, next: page.next.map(|cursor| cursor.to_string()) }))
    }

    /// One of those files.
    ///
    /// # Errors
    /// [`Refusal::NotFound`], also of a file of another partner.
    pub async fn sent_file(&self, id: FileId) -> Result<Sent, Refusal> {
        let entry = self.ingest.queue.get(id).await?;
        match entry.partner == self.session.partner.as_str() && self.is_told_of(&entry) {
            true => Ok(self.told(&entry)),
            false => Err(Refusal::NotFound),
        }
    }

    /// What came under its name before was sent by another partner, and of one that was withdrawn its sender was never told.
    fn is_told_of(&self, entry: &Entry) -> bool {
        entry.received_at > self.since() && entry.state != State::Withdrawn
    }

    fn told(&self, entry: &Entry) -> Sent {
        let standing = self.ingest.answers.standing(entry);
        Sent {
            id: entry.id,
            name: entry.name.clone(),
            door: entry.door.clone(),
            size_bytes: entry.size_bytes,
            sha256: entry.sha256,
            received_at: entry.received_at,
            state: entry.state.as_str(),
            is_deferred: standing.is_deferred,
            resumes_at: standing.resumes_at,
            text: standing.text,
            updated_at: entry.since,
        }
    }
}
