//! Uploads that go on: with what was kept of one that was cut, or with a copy of a file that was accepted.
//!
//! An accepted file never changes. Going on with one makes a new file that begins with the same bytes.

use std::sync::Arc;

use forebay_queue::Node;
use forebay_storage::FileId;
use tracing::info;

use super::{Ingest, Intake, Name, Refusal, SessionInfo, intake::Source};

const PIECE_BYTES: u64 = 256 << 10;

/// Where an upload begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this byte of what is there.
    At(u64),
    /// Behind what is there, if anything is.
    End,
}

/// The bytes that are there under a name.
enum There {
    /// Bytes of an upload that was cut.
    Partial(u64),
    /// An accepted file.
    Accepted(FileId, u64),
    Nothing,
}

impl Ingest {
    /// Goes on with the upload of that name which was cut last, or with a copy of the accepted file of that name when
    /// it is newer. The digest covers the whole.
    ///
    /// # Errors
    /// As [`Ingest::begin`]; [`Refusal::CannotResume`] when less is there; [`Refusal::Busy`] while another session
    /// goes on with it.
    pub async fn resume(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        start: Start,
        declared_size: Option<u64>,
    ) -> Result<Intake, Refusal> {
        if start == Start::At(0) {
            return self.begin(session, path, declared_size).await;
        }
        let name = Name::parse(path)?;
        name.not_in_out()?;
        let there = self.there(session, &name).await?;
        let have = match there {
            There::Partial(bytes) | There::Accepted(_, bytes) => bytes,
            There::Nothing => 0,
        };
        let at = match start {
            Start::End => have,
            Start::At(at) if at > have => return Err(Refusal::CannotResume { at, have }),
            Start::At(at) => at,
        };
        info!(%name, partner = %session.partner, at, have, "an upload goes on");
        match there {
            There::Partial(_) => self.begin_from(session, path, declared_size, Source::Upload(at)).await,
            There::Accepted(id, _) => self.begin_with_copy(session, path, declared_size, id, at, at == have).await,
            There::Nothing => self.begin(session, path, declared_size).await,
        }
    }

    /// How much of an upload that was cut is kept, unless a file of that name was accepted since: what a client is told
    /// when it asks where to go on.
    ///
    /// # Errors
    /// Bad names, or when storage cannot tell.
    pub async fn resumable(&self, session: &SessionInfo, path: &str) -> Result<Option<u64>, Refusal> {
        let name = Name::parse(path)?;
        Ok(match self.there(session, &name).await? {
            There::Partial(bytes) => Some(bytes),
            There::Accepted(..) | There::Nothing => None,
        })
    }

    /// How many of the partner's files are in which state, in words.
    ///
    /// # Errors
    /// When the queue cannot tell.
    pub async fn standing_of(&self, session: &SessionInfo) -> Result<Vec<(String, u64)>, Refusal> {
        let stats = self.queue.stats(self.clock.now()).await?;
        let own = stats.counts.iter().filter(|count| count.partner == session.partner.as_str());
        Ok(own.map(|count| (count.state.to_string(), count.files)).collect())
    }

    async fn there(&self, session: &SessionInfo, name: &Name) -> Result<There, Refusal> {
        let partner = session.partner.as_str();
        let partial = self.storage.partial(partner, name.as_str()).await?;
        let shown = match self.catalogue.stat(partner, name.as_str()).await? {
            Some(Node::File { id, size_bytes, .. }) => Some((id, size_bytes)),
            _ => None,
        };
        Ok(match (partial, shown) {
            (Some(partial), Some((id, size_bytes))) => {
                let is_newer = self.queue.get(id).await?.received_at > partial.written_at;
                if is_newer { There::Accepted(id, size_bytes) } else { There::Partial(partial.size_bytes) }
            }
            (Some(partial), None) => There::Partial(partial.size_bytes),
            (None, Some((id, size_bytes))) => There::Accepted(id, size_bytes),
            (None, None) => There::Nothing,
        })
    }

    /// Begins with the first `bytes` of an accepted file. One that goes on where that file ends continues it: if no
    /// processor has begun the earlier one by the time of the acceptance, it is processed in its place.
    async fn begin_with_copy(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        declared_size: Option<u64>,
        id: FileId,
        bytes: u64,
        is_at_end: bool,
    ) -> Result<Intake, Refusal> {
        let source = if is_at_end { Source::Continuation(id) } else { Source::Upload(0) };
        // It is not to begin just now, if it has not yet.
        self.queue.put_off(id, self.in_the_future(self.options.confirm_after));
        let mut intake = self.begin_from(session, path, declared_size, source).await?;
        match self.copy_into(&mut intake, id, bytes).await {
            Ok(()) => Ok(intake),
            Err(refusal) => {
                intake.discard().await;
                Err(refusal)
            }
        }
    }

    async fn copy_into(&self, intake: &mut Intake, id: FileId, bytes: u64) -> Result<(), Refusal> {
        let content = self.contents.open(id).await?;
        let mut at = 0;
        while at < bytes {
            let piece = content.read(at..bytes.min(at + PIECE_BYTES)).await?;
            if piece.is_empty() {
                return Err(Refusal::CannotResume { at: bytes, have: at });
            }
            at += piece.len() as u64;
            intake.write(piece).await?;
        }
        Ok(())
    }
}
