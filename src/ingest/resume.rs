//! Uploads that go on: with what was kept of one that was cut, or with a file that was accepted.
//!
//! An accepted file never changes. Going on with one makes a new file that begins with the same bytes. Where that one ends,
//! and while no processor has begun it, the new file takes its place and has only its new bytes; anywhere else, and later,
//! it begins with a copy.

use std::sync::Arc;

use forebay_queue::{Entry, Node, QueueError, State};
use forebay_storage::{DigestState, FileId, GoesOn};
use sha2::Digest;
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

/// The bytes that are there under a name, as the next upload finds them.
enum There {
    /// Bytes of an upload that was cut, with those of the accepted file that it went on from, if it did.
    Partial(u64, Option<Box<Entry>>),
    /// An accepted file.
    Accepted(Box<Entry>),
    Nothing,
}

impl There {
    fn size_bytes(&self) -> u64 {
        match self {
            Self::Partial(bytes, _) => *bytes,
            Self::Accepted(entry) => entry.size_bytes,
            Self::Nothing => 0,
        }
    }
}

impl Ingest {
    /// Goes on with the upload of that name which was cut last, or with the accepted file of that name when it is newer. The
    /// digest covers the whole.
    /// With a start of 0 this begins a fresh upload: doors have one call for all.
    ///
    /// # Errors
    /// As [`Ingest::begin`]; [`Refusal::CannotResume`] when less is there; [`Refusal::Busy`] while another session
    /// goes on with it, which is counted by [`Ingest::gave_up`] alone: who finds the name busy tries again.
    pub async fn resume(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        start: Start,
        declared_size: Option<u64>,
    ) -> Result<Intake, Refusal> {
        match self.begin_at(session, path, start, declared_size).await {
            Err(Refusal::Busy) => Err(Refusal::Busy),
            begun => self.begun(session, begun),
        }
    }

    async fn begin_at(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        start: Start,
        declared_size: Option<u64>,
    ) -> Result<Intake, Refusal> {
        // A new file of this name. What is there stays until the new one is accepted.
        if start == Start::At(0) {
            return self.begin_from(session, path, declared_size, Source::Upload(0)).await;
        }
        let name = Name::parse(path)?;
        name.not_in_out()?;
        let there = self.there(session, &name).await?;
        let have = there.size_bytes();
        let at = match start {
            Start::End => have,
            Start::At(at) if at > have => return Err(Refusal::CannotResume { at, have }),
            Start::At(at) => at,
        };
        info!(%name, partner = %session.partner, at, have, "an upload goes on");
        match there {
            There::Partial(_, None) => self.begin_from(session, path, declared_size, Source::Upload(at)).await,
            There::Partial(_, Some(earlier)) if at >= earlier.size_bytes => {
                self.go_on(session, path, declared_size, &earlier, at).await
            }
            // No processor has begun the earlier file, and the new bytes begin at its end: only
            // they are stored.
            There::Accepted(earlier) if at == have && earlier.may_be_renamed() => {
                self.go_on(session, path, declared_size, &earlier, at).await
            }
            // Somewhere within an accepted file, or after a processor has begun it: its bytes are
            // copied.
            There::Partial(_, Some(earlier)) | There::Accepted(earlier) => {
                self.begin_with_copy(session, path, declared_size, &earlier, at).await
            }
            There::Nothing => self.begin_from(session, path, declared_size, Source::Upload(0)).await,
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
            There::Partial(bytes, _) => Some(bytes),
            There::Accepted(_) | There::Nothing => None,
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

    /// Looks which bytes are there: the newer one of the partial and the accepted file of this
    /// name.
    async fn there(&self, session: &SessionInfo, name: &Name) -> Result<There, Refusal> {
        let partner = session.partner.as_str();
        let shown = match self.catalogue.stat(partner, name.as_str()).await? {
            Some(Node::File { id, .. }) => Some(self.queue.get(id).await?),
            _ => None,
        };
        let Some(partial) = self.storage.partial(partner, name.as_str()).await? else {
            return Ok(shown.map_or(There::Nothing, |entry| There::Accepted(Box::new(entry))));
        };
        // What goes on from a file came after it, whatever the clocks say: those of file systems are some milliseconds late.
        let goes_on_from = |entry: &Entry| partial.goes_on.is_some_and(|(id, _)| id == entry.id);
        let is_newer = |entry: &Entry| entry.received_at > partial.written_at && !goes_on_from(entry);
        if let Some(entry) = shown.as_ref().filter(|entry| is_newer(entry)) {
            return Ok(There::Accepted(Box::new(entry.clone())));
        }
        let Some((id, size_bytes)) = partial.goes_on else { return Ok(There::Partial(partial.size_bytes, None)) };
        Ok(match self.beginning(partner, id, size_bytes).await? {
            Some(earlier) => There::Partial(partial.size_bytes, Some(Box::new(earlier))),
            // Without its beginning it is worth nothing.
            None => shown.map_or(There::Nothing, |entry| There::Accepted(Box::new(entry))),
        })
    }

    /// The accepted file that a partial goes on from, if it is still there with its bytes.
    async fn beginning(&self, partner: &str, id: FileId, size_bytes: u64) -> Result<Option<Entry>, Refusal> {
        let is_it = |entry: &Entry| {
            entry.partner == partner && entry.size_bytes == size_bytes && entry.state != State::Withdrawn
        };
        match self.queue.get(id).await {
            Ok(entry) => Ok(Some(entry).filter(is_it)),
            Err(QueueError::NotFound(_)) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    /// Goes on at byte `at`, which lies where an accepted file ends or behind it, in a partial of what followed. If no
    /// processor has begun the earlier one by the time of the acceptance, the new one is processed in its place.
    async fn go_on(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        declared_size: Option<u64>,
        earlier: &Entry,
        at: u64,
    ) -> Result<Intake, Refusal> {
        // It is not to begin just now, if it has not yet.
        self.queue.put_off(earlier.id, self.in_the_future(self.options.confirm_after));
        let digest = self.digest_at_end(earlier).await?;
        let goes_on = GoesOn { from: earlier.id, at: earlier.size_bytes, digest };
        self.begin_from(session, path, declared_size, Source::Rest(goes_on, at - earlier.size_bytes)).await
    }

    /// Returns the state of the digest at a file's end. A file that continues another has it
    /// stored; any other is read for it, once in a row of continuations.
    ///
    /// # Errors
    /// When the file is not what was accepted: nothing must be built on it.
    async fn digest_at_end(&self, entry: &Entry) -> Result<DigestState, Refusal> {
        let known = entry.continues.as_ref().map(|continues| continues.digest);
        if let Some(state) = known.filter(|state| state.hasher().is_some()) {
            return Ok(state);
        }
        let (content, mut hasher, mut at) = (self.contents.open(entry.id).await?, sha2::Sha256::new(), 0);
        loop {
            let piece = content.read(at..at + PIECE_BYTES).await?;
            if piece.is_empty() {
                break;
            }
            at += piece.len() as u64;
            // Not on a thread that serves sessions: it takes its time, and the file may be large.
            let hashed = tokio::task::spawn_blocking(move || hasher.chain_update(&piece));
            hasher = hashed.await.map_err(|error| Refusal::Internal(error.to_string()))?;
        }
        let state = DigestState::of(&hasher);
        match at == entry.size_bytes && hasher.finalize()[..] == entry.sha256.0 {
            true => Ok(state),
            false => Err(Refusal::Internal(format!("file {} is not what was accepted", entry.id))),
        }
    }

    /// Begins with a copy of the first `bytes` of an accepted file.
    async fn begin_with_copy(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        declared_size: Option<u64>,
        earlier: &Entry,
        bytes: u64,
    ) -> Result<Intake, Refusal> {
        let id = earlier.id;
        let source = if bytes == earlier.size_bytes { Source::Copied(earlier.state) } else { Source::Upload(0) };
        // Before the copy is begun: it may take its time.
        // It is not to begin just now, if it has not yet.
        self.queue.put_off(id, self.in_the_future(self.options.confirm_after));
        let mut intake = self.begin_from(session, path, declared_size, source).await?;
        match self.copy_into(&mut intake, id, bytes).await {
            Ok(()) => Ok(intake),
            Err(refusal) => {
                // It is counted by whoever began it, who is told.
                intake.remove().await;
                Err(refusal)
            }
        }
    }

    /// Copies the first bytes of an accepted file into an upload, as if its sender had sent them
    /// again.
    async fn copy_into(&self, intake: &mut Intake, id: FileId, bytes: u64) -> Result<(), Refusal> {
        let content = self.contents.open(id).await?;
        let mut at = 0;
        while at < bytes {
            let piece = content.read(at..bytes.min(at + PIECE_BYTES)).await?;
            if piece.is_empty() {
                return Err(Refusal::CannotResume { at: bytes, have: at });
            }
            at += piece.len() as u64;
            intake.copy(piece).await?;
        }
        Ok(())
    }
}
