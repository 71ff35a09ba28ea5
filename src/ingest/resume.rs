//! Uploads that go on: with what was kept of one that was cut, or with a copy of a file that was accepted.
//!
//! An accepted file never changes. Going on with one makes a new file that begins with the same bytes.

use std::{fs, sync::Arc};

use bytes::{Bytes, BytesMut};
use chrono::{DateTime, Utc};
use forebay_queue::{Action, Actor};
use tokio::io::AsyncReadExt;
use tracing::{info, warn};

use super::{Accepted, Ingest, Intake, Name, Refusal, SessionInfo, intake::Source};

const BUFFER_BYTES: usize = 256 << 10;

/// Where an upload begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Start {
    /// At this byte of what is there.
    At(u64),
    /// Behind what is there, if anything is.
    End,
}

/// What is there under a name.
enum There {
    /// Bytes of an upload that was cut.
    Partial(u64),
    /// An accepted file, as the view shows it.
    Shown(u64),
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
            There::Partial(bytes) | There::Shown(bytes) => bytes,
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
            There::Shown(_) => self.begin_with_copy(session, path, &name, declared_size, at).await,
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
            There::Shown(_) | There::Nothing => None,
        })
    }

    /// The sender of a file that waits for it was seen to go on after the reply.
    pub async fn confirm(&self, accepted: &Accepted) {
        let entry = &accepted.entry;
        let route = self.routes.serve(&entry.partner, &entry.name).map(|route| route.name().to_owned());
        let (action, actor) = (Action::Release(vec![route]), Actor::Partner(entry.partner.clone()));
        let reason = Some("its sender went on after the reply".to_owned());
        for done in self.queue.act(&[accepted.id], action, reason, actor, self.clock.now()).await {
            if let Err(error) = done {
                // An operator was faster, or it stays held, which is where an operator looks.
                warn!(file.id = %accepted.id, %error, "cannot release a confirmed file");
            }
        }
    }

    /// The sender of an accepted file was gone before it could read the reply. It is held unless it is processed already.
    pub async fn doubt(&self, accepted: &Accepted) {
        let (actor, reason) = (Actor::Server, Some(super::accepted::UNREAD.to_owned()));
        warn!(file.id = %accepted.id, name = %accepted.entry.name, partner = %accepted.entry.partner, "{}", super::accepted::UNREAD);
        for done in self.queue.act(&[accepted.id], Action::Hold, reason, actor, self.clock.now()).await {
            if let Err(error) = done {
                warn!(file.id = %accepted.id, %error, "cannot hold a file whose sender may have been cut off");
            }
        }
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
        let shown = fs::symlink_metadata(self.view.within(partner, name)?).ok().filter(fs::Metadata::is_file);
        Ok(match (partial, shown) {
            (Some(partial), Some(shown)) if !is_newer(&shown, partial.written_at) => There::Partial(partial.size_bytes),
            (Some(partial), None) => There::Partial(partial.size_bytes),
            (_, Some(shown)) => There::Shown(shown.len()),
            (None, None) => There::Nothing,
        })
    }

    async fn begin_with_copy(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        name: &Name,
        declared_size: Option<u64>,
        bytes: u64,
    ) -> Result<Intake, Refusal> {
        let mut shown = tokio::fs::File::open(self.view.within(session.partner.as_str(), name)?).await?.take(bytes);
        let mut intake = self.begin(session, path, declared_size).await?;
        loop {
            let mut buffer = BytesMut::with_capacity(BUFFER_BYTES);
            while buffer.len() < BUFFER_BYTES && shown.read_buf(&mut buffer).await? > 0 {}
            if buffer.is_empty() {
                break;
            }
            let chunk: Bytes = buffer.freeze();
            if let Err(refusal) = intake.write(chunk).await {
                intake.discard().await;
                return Err(refusal);
            }
        }
        let have = intake.size_bytes();
        if have != bytes {
            intake.discard().await;
            return Err(Refusal::CannotResume { at: bytes, have });
        }
        Ok(intake)
    }
}

fn is_newer(shown: &fs::Metadata, than: DateTime<Utc>) -> bool {
    shown.modified().is_ok_and(|at| DateTime::<Utc>::from(at) > than)
}
