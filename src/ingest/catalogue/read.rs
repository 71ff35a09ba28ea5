//! Reading a file, from any byte on.
//!
//! A file that is open stays readable after its name was deleted; reading one that is purged
//! meanwhile may fail.

use std::{os::unix::fs::FileExt, sync::Arc};

use bytes::Bytes;
use forebay_queue::Node;

use super::{Files, Place, Stat};
use crate::{
    answers::NOTICE,
    contents::{OpenContent, slice},
    ingest::Refusal,
};

/// The most that one read gives, in bytes.
const MOST_BYTES: usize = 1 << 20;

/// Where the bytes of a file are.
#[derive(Clone, Debug)]
pub(super) enum Source {
    /// An accepted file.
    Accepted(OpenContent),
    /// Something that was rendered.
    Rendered(Bytes),
    /// A file of the outbox, held open.
    Outbox(Arc<std::fs::File>),
}

/// A file that is open for reading. It may be read in any order and by several tasks at once.
#[derive(Clone)]
pub struct OpenFile {
    stat: Stat,
    source: Source,
}

impl Files {
    /// Opens a file.
    ///
    /// # Errors
    /// Bad names; [`Refusal::NotFound`]; [`Refusal::Denied`] when it is a folder, or the partner reads nothing.
    pub async fn open(&self, path: &str) -> Result<OpenFile, Refusal> {
        let (stat, source) = self.source(path).await?;
        if !self.may_read(path)? {
            return Err(Refusal::Denied("downloads are not allowed for this account".to_owned()));
        }
        Ok(OpenFile { stat, source })
    }

    /// The notice may always be read: it tells what the greeting and the web faces tell everyone.
    fn may_read(&self, path: &str) -> Result<bool, Refusal> {
        let is_notice = matches!(Place::of(path)?, Place::InOut(below) if below == NOTICE);
        Ok(is_notice || self.ingest.partners.policy(self.partner()).download)
    }

    /// Returns where the bytes of a path are, whether the partner may read them or not.
    pub(super) async fn source(&self, path: &str) -> Result<(Stat, Source), Refusal> {
        match Place::of(path)? {
            Place::Root | Place::Out => Err(not_a_file()),
            Place::InOut(below) => self.source_in_out(&below).await,
            Place::Own(name) => match self.ingest.catalogue.stat(self.partner(), name.as_str()).await? {
                Some(node @ Node::File { id, .. }) => {
                    Ok((Stat::from(&node), Source::Accepted(self.ingest.contents.open(id).await?)))
                }
                Some(Node::Folder { .. }) => Err(not_a_file()),
                None => Err(Refusal::NotFound),
            },
        }
    }
}

pub(super) fn not_a_file() -> Refusal {
    Refusal::Denied("is not a file".to_owned())
}

impl OpenFile {
    /// What was known of it when it was opened.
    #[must_use]
    pub fn stat(&self) -> Stat {
        self.stat
    }

    /// Bytes from `offset` on, at most `length` and 1 MiB; none at the end. Cancel safe.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read(&self, offset: u64, length: usize) -> Result<Bytes, Refusal> {
        let end = offset.saturating_add(length.min(MOST_BYTES) as u64).min(self.stat.size_bytes);
        if offset >= end {
            return Ok(Bytes::new());
        }
        match &self.source {
            Source::Accepted(content) => Ok(content.read(offset..end).await?),
            Source::Rendered(text) => Ok(slice(text, offset..end)),
            Source::Outbox(file) => read_at(Arc::clone(file), offset, end).await,
        }
    }
}

async fn read_at(file: Arc<std::fs::File>, offset: u64, end: u64) -> Result<Bytes, Refusal> {
    let read = tokio::task::spawn_blocking(move || {
        let mut buffer = vec![0; usize::try_from(end - offset).unwrap_or(MOST_BYTES)];
        let count = file.read_at(&mut buffer, offset)?;
        buffer.truncate(count);
        Ok::<_, std::io::Error>(Bytes::from(buffer))
    });
    Ok(read.await.map_err(|error| Refusal::Internal(error.to_string()))??)
}

impl std::fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OpenFile").field("stat", &self.stat).finish_non_exhaustive()
    }
}
