//! One upload: begin, write, then finish or cut.
//!
//! The end of an upload is taken once: [`Intake::finish`], [`Intake::cut`] and [`Intake::discard`] consume it, so a
//! commit and a cancellation cannot both happen. What `finish` began goes on when its future is dropped.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use forebay_queue::{Continues, Entry, Hold, NewEntry, QueueError, State};
use forebay_storage::{Content, FileId, FileMeta, GoesOn, NewFile, Origin, Retract, Sealed, Upload};
use tokio::runtime::Handle;
use tracing::{info, warn};

use crate::{
    metrics::{Content as Counted, Refused},
    partners::Policy,
};

use super::{
    Accepted, Evidence, Ingest, Name, Refusal, SessionInfo, Verdict,
    core::{Named, Standing},
    idempotency::KeyClaim,
    quota::{From, Reservation},
    share::Brought,
};

/// An upload in progress. Dropping it is as good as [`Intake::cut`].
pub struct Intake {
    pub(super) file: Arc<Incoming>,
    open: Option<Open>,
    /// As what it is counted if it ends now; none: as one that was cut.
    pub(super) refused: Option<Refused>,
}

/// The facts of the file.
pub(super) struct Incoming {
    pub(super) ingest: Arc<Ingest>,
    pub(super) session: SessionInfo,
    pub(super) name: Name,
    pub(super) id: FileId,
    policy: Arc<Policy>,
    /// The file on this machine that it is a copy of, if it is one.
    pub(super) origin: Option<Origin>,
    /// The key that its sender has given it.
    key: Option<KeyClaim>,
    /// The accepted file whose bytes it begins with, without having them itself.
    pub(super) goes_on: Option<GoesOn>,
    /// The state of the accepted file that its sender went on from, where this is another file.
    copied_from: Option<State>,
}

/// Where the bytes come from.
pub(super) enum Source {
    /// A sender; not 0: it goes on with the partial of that name at this byte.
    Upload(u64),
    /// A sender that goes on where an accepted file ends; not 0: at this byte of the partial of what came behind it.
    Rest(GoesOn, u64),
    /// A sender that goes on where an accepted file ends, behind a copy of it: that file is in this state.
    Copied(State),
    /// A file on this machine.
    Copy(Origin),
    /// A sender that has given it a key.
    Keyed(KeyClaim),
}

pub(super) struct Open {
    pub(super) upload: Box<dyn Upload>,
    pub(super) reservation: Reservation,
    brought: Brought,
    /// Bytes of a partial that it went on with: they are counted as such already.
    pub(super) resumed: u64,
}

impl Ingest {
    /// Begins an upload. Everything that can be refused before the first byte is refused here.
    ///
    /// # Errors
    /// Bad names, no such directory, quota, size, disk, a stopped store.
    pub async fn begin(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        declared_size: Option<u64>,
    ) -> Result<Intake, Refusal> {
        let begun = self.begin_from(session, path, declared_size, Source::Upload(0)).await;
        self.begun(session, begun)
    }

    /// The same, from any source. It is not counted here.
    pub(super) async fn begin_from(
        self: &Arc<Self>,
        session: &SessionInfo,
        path: &str,
        declared_size: Option<u64>,
        source: Source,
    ) -> Result<Intake, Refusal> {
        let (mut at, mut goes_on, mut copied_from, mut origin, mut key) = (0, None, None, None, None);
        match source {
            Source::Upload(from) => at = from,
            Source::Rest(earlier, from) => (goes_on, at) = (Some(earlier), from),
            Source::Copied(state) => copied_from = Some(state),
            Source::Copy(of) => origin = Some(of),
            Source::Keyed(claim) => key = Some(claim),
        }
        let before = goes_on.map_or(0, |earlier| earlier.at);
        let name = Name::parse(path)?;
        name.not_in_out()?;
        let partner = session.partner.as_str();
        let policy = self.partners.policy(partner);
        if let Some(why) = self.queue.poisoned() {
            return Err(Refusal::Stopped(why));
        }
        if policy.max_file_bytes.zip(declared_size).is_some_and(|(most, size)| size > most) {
            return Err(Refusal::TooLarge);
        }
        // Folders above a copy are made with its acceptance.
        if origin.is_none() {
            self.has_folder_for(partner, &name).await?;
        }
        self.files(session).has_room_for_a_name().await?;
        self.leaves_room_for_others(partner, declared_size.unwrap_or(0).saturating_sub(before + at)).await?;
        let from = if at == 0 { From::Anew } else { From::Partial };
        let mut reservation = self.quota.open(partner, name.as_str(), from, policy.quota_bytes).await?;
        reservation.cover(declared_size.unwrap_or(0).saturating_sub(before + at)).await?;
        let now = self.clock.now();
        let id = FileId::new(now);
        let file = NewFile {
            id,
            partner: partner.to_owned(),
            name: name.as_str().to_owned(),
            door: session.door.to_owned(),
            began_at: now,
            origin: origin.clone(),
            goes_on,
        };
        let upload = if at == 0 { self.storage.begin(file).await? } else { self.storage.resume(file, at).await? };
        let open = Some(Open { upload, reservation, brought: Brought::new(self, partner), resumed: at });
        let (ingest, session) = (self.clone(), session.clone());
        let file = Incoming { ingest, session, name, id, policy, origin, key, goes_on, copied_from };
        Ok(Intake { file: Arc::new(file), open, refused: None })
    }
}

impl Intake {
    /// The id the file will have.
    #[must_use]
    pub fn id(&self) -> FileId {
        self.file.id
    }

    /// The name it will have.
    #[must_use]
    pub fn name(&self) -> &Name {
        &self.file.name
    }

    /// The partner's policy as it was when the upload began.
    #[must_use]
    pub fn policy(&self) -> &Policy {
        &self.file.policy
    }

    /// Bytes so far, with those that it goes on from.
    #[must_use]
    pub fn size_bytes(&self) -> u64 {
        self.open.as_ref().map_or(0, |open| self.file.before() + open.upload.len())
    }

    /// Takes the next bytes; large pieces are good. After an error nothing but [`Intake::discard`] makes sense.
    ///
    /// # Errors
    /// Quota, size, disk.
    pub async fn write(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        self.file.ingest.metrics.received(self.file.session.counted_door(), chunk.len() as u64);
        let written = self.copy(chunk).await;
        written.inspect_err(|refusal| self.mark_refused(refusal))
    }

    /// The same, of bytes that are no sender's.
    pub(super) async fn copy(&mut self, chunk: Bytes) -> Result<(), Refusal> {
        let open = self.open.as_mut().ok_or_else(over)?;
        let size = open.upload.len() + chunk.len() as u64;
        if self.file.policy.max_file_bytes.is_some_and(|most| self.file.before() + size > most) {
            return Err(Refusal::TooLarge);
        }
        open.reservation.cover(size - open.resumed.min(size)).await?;
        if open.brought.has_grown(size - open.resumed.min(size)) {
            self.file.ingest.leaves_room_for_others(self.file.session.partner.as_str(), 0).await?;
        }
        Ok(open.upload.write(chunk).await?)
    }

    /// Makes what came durable: after a crash it is a partial to resume. The upload goes on.
    ///
    /// # Errors
    /// [`Refusal::Busy`] when another upload has the partial of that name; disk.
    pub async fn sync(&mut self) -> Result<(), Refusal> {
        let open = self.open.as_mut().ok_or_else(over)?;
        let size = match open.upload.sync().await {
            Ok(size) => size,
            Err(error) => {
                let refusal = Refusal::from(error);
                self.mark_refused(&refusal);
                return Err(refusal);
            }
        };
        open.reservation.move_to_partial(size.saturating_sub(open.resumed));
        open.resumed = size;
        Ok(())
    }

    /// Makes the file durable, looks at the evidence, and queues it. Ok is what a positive reply may be sent for.
    ///
    /// # Errors
    /// [`Refusal::Cut`] when the evidence says so; anything of storage and queue. The file is not there then.
    pub async fn finish(mut self, evidence: Box<dyn Evidence>) -> Result<Accepted, Refusal> {
        let open = self.open.take().ok_or_else(over)?;
        let file = self.file.clone();
        let settled = async move {
            let settled = file.clone().settle(open, evidence).await;
            file.ingest.count_unless_accepted(file.session.counted_door(), &settled);
            settled
        };
        self.file.ingest.through(settled).await
    }

    /// The upload was cut: keeps what came as a partial to resume, and gives its length.
    pub async fn cut(mut self, why: &str) -> u64 {
        let Some(open) = self.open.take() else { return 0 };
        self.count_end();
        let file = self.file.clone();
        info!(name = ?file.name, partner = %file.session.partner, size_bytes = open.upload.len(), why, "upload was cut");
        self.file.ingest.through(async move { Ok(file.keep(open).await) }).await.unwrap_or(0)
    }

    /// The upload was refused, or nobody could go on with it: leaves nothing behind.
    pub async fn discard(self) {
        // One that has brought nothing was begun to remove what another has left.
        if self.refused.is_some() || self.open.as_ref().is_some_and(|open| open.upload.len() > open.resumed) {
            self.count_end();
        }
        self.remove().await;
    }

    /// The same, and it is not counted.
    pub(super) async fn remove(mut self) {
        let Some(open) = self.open.take() else { return };
        let name = self.file.name.clone();
        let done = self.file.ingest.through(async move { Ok(open.upload.abort().await?) }).await;
        if let Err(error) = done {
            warn!(%name, %error, "cannot remove a refused upload");
        }
    }
}

/// The fate of a file that had all its bytes.
enum Decided {
    /// It is in the queue.
    Queued(Box<Entry>),
    /// Its bytes are durable, and the evidence says that it is not whole.
    Cut(FileMeta, String),
    /// Its bytes are durable, and the queue did not take it.
    NotQueued(FileMeta, QueueError),
}

/// What the evidence leaves of a file that is to be queued.
struct Judged {
    standing: Standing,
    claimable_from: Option<DateTime<Utc>>,
}

impl Incoming {
    /// Bytes of the accepted file that it goes on from.
    pub(super) fn before(&self) -> u64 {
        self.goes_on.map_or(0, |earlier| earlier.at)
    }

    /// What its sender is told of it.
    async fn accepted(&self, entry: Entry) -> Accepted {
        let beside = match self.goes_on {
            // A processor has begun it meanwhile, or it got another name.
            Some(earlier) if entry.supersedes.is_none() => {
                self.ingest.queue.get(earlier.from).await.ok().map(|earlier| earlier.state)
            }
            _ => self.copied_from,
        };
        Accepted::new(entry, beside)
    }

    /// Decides and queues. The bytes of a small file become durable with its record; those of any other are committed
    /// first.
    /// By the size: small files go into the journal with their bytes, others into storage first.
    /// Both end with one record of the journal, before which nobody is answered.
    async fn settle(self: Arc<Self>, open: Open, evidence: Box<dyn Evidence>) -> Result<Accepted, Refusal> {
        let began = self.ingest.clock.elapsed();
        let Open { upload, reservation, .. } = open;
        let sealed = upload.seal().await?;
        let (settled, content) = match sealed.into_inline(self.ingest.clock.now()) {
            Ok((meta, bytes)) => (self.settle_inline(meta, bytes, reservation, evidence).await, Counted::Inline),
            Err(sealed) => (self.clone().settle_kept(sealed, reservation, evidence).await, Counted::Kept),
        };
        if settled.is_ok() {
            let took = self.ingest.clock.elapsed().saturating_sub(began);
            self.ingest.metrics.accepted(self.session.counted_door(), content, took);
        }
        settled
    }

    /// Nothing of it blocks, and nothing is on the disk before the one append.
    async fn settle_inline(
        &self,
        meta: FileMeta,
        bytes: Bytes,
        reservation: Reservation,
        mut evidence: Box<dyn Evidence>,
    ) -> Result<Accepted, Refusal> {
        let judged = match self.judge(&mut *evidence) {
            Ok(judged) => judged,
            Err(why) => return self.cut_inline(&meta, bytes, reservation, why).await,
        };
        let entry = self.queue_up(&meta, judged, Content::Inline(bytes)).await.inspect_err(|error| {
            warn!(file.id = %self.id, name = ?self.name, partner = %self.session.partner, %error, "cannot queue a file");
        })?;
        // In this order: accepted, then moved within the quota, then the old partial. Dropped
        // earlier, the reservation would let another upload in beside it; removed earlier, a crash
        // would take both the partial and the file.
        reservation.settle(meta.size_bytes);
        self.replace_partial().await;
        Ok(self.accepted(entry).await)
    }

    /// Removes what was kept of an earlier upload of that name: it is of no use any more. Few partners have any. It is not
    /// left to a task behind the reply, which could meet the partial of the next upload.
    async fn replace_partial(&self) {
        let partner = self.session.partner.as_str();
        if !self.ingest.storage.may_have_partials(partner) {
            return;
        }
        if let Err(error) = self.ingest.storage.drop_partial(partner, self.name.as_str()).await {
            warn!(name = %self.name, %error, "cannot remove the partial of a file that was accepted");
        }
    }

    /// All of it up to the journal is one piece of work on one thread, for every change of threads costs as much as much
    /// of the rest.
    async fn settle_kept(
        self: Arc<Self>,
        sealed: Box<dyn Sealed>,
        reservation: Reservation,
        evidence: Box<dyn Evidence>,
    ) -> Result<Accepted, Refusal> {
        self.ingest.has_room_for_an_inode(self.session.partner.as_str()).await?;
        let (file, runtime) = (self.clone(), Handle::current());
        let work = tokio::task::spawn_blocking(move || file.commit_and_queue(sealed, evidence, &runtime));
        let partner = &self.session.partner;
        match work.await.map_err(|error| Refusal::Internal(error.to_string()))?? {
            Decided::Queued(entry) => {
                // As in `settle_inline`: the record first, then the quota, then the old partial.
                reservation.settle(entry.extent().size_bytes);
                self.replace_partial().await;
                Ok(self.accepted(*entry).await)
            }
            Decided::Cut(meta, why) => self.take_back(&meta, reservation, why).await,
            // The record may be in the journal. Then the bytes are wanted after the restart, and if it is not they are
            // adopted as held: the sender is told to send again, as after a crash before the reply.
            Decided::NotQueued(meta, error @ QueueError::Unknown(_)) => {
                warn!(file.id = %self.id, name = %self.name, %partner, %error, "the journal failed under a file; its bytes are kept");
                reservation.settle(meta.size_bytes);
                Err(error.into())
            }
            Decided::NotQueued(_, error) => {
                warn!(file.id = %self.id, name = ?self.name, %partner, %error, "cannot queue a file; taking it back");
                // Only here, where the journal is known not to have the record: retracted under a
                // record, the queue would have a file without bytes.
                self.ingest.storage.retract(self.id, Retract::Drop).await?;
                Err(error.into())
            }
        }
    }

    /// Blocks. What is to be taken back is left to the caller: that must not wait here for other threads.
    fn commit_and_queue(
        &self,
        sealed: Box<dyn Sealed>,
        mut evidence: Box<dyn Evidence>,
        runtime: &Handle,
    ) -> Result<Decided, Refusal> {
        let meta = sealed.commit(self.ingest.clock.now())?;
        Ok(match self.judge(&mut *evidence) {
            Err(why) => Decided::Cut(meta, why),
            Ok(judged) => match runtime.block_on(self.queue_up(&meta, judged, Content::Kept)) {
                Ok(entry) => Decided::Queued(Box::new(entry)),
                Err(error) => Decided::NotQueued(meta, error),
            },
        })
    }

    /// Looks at the evidence, right before the append.
    ///
    /// # Errors
    /// The signs that it was cut.
    fn judge(&self, evidence: &mut dyn Evidence) -> Result<Judged, String> {
        let (ingest, partner) = (&self.ingest, self.session.partner.as_str());
        let verdict = evidence.look();
        // A copy, and a file of a door without renames, has its final name already.
        let is_final = self.origin.is_some() || verdict == Verdict::Final;
        let named = if is_final { Named::ByRename } else { Named::ByUpload };
        let mut standing = ingest.standing(&self.policy, partner, &self.name, named);
        let mut wait = Duration::ZERO;
        match verdict {
            Verdict::Final => {}
            Verdict::Whole => wait = ingest.options.rename_wait,
            Verdict::Hold(reason) => standing.hold(Hold::Evidence, reason),
            Verdict::Unconfirmed => wait = ingest.options.confirm_after,
            Verdict::Cut(why) => return Err(why),
        }
        // An unfinished one is confirmed by its rename, what is held stays so, and nobody renames a copy here.
        let waits = standing.state == State::Ready && self.origin.is_none() && !wait.is_zero();
        let claimable_from = waits.then(|| ingest.in_the_future(wait));
        Ok(Judged { standing, claimable_from })
    }

    async fn queue_up(&self, meta: &FileMeta, judged: Judged, content: Content) -> Result<Entry, QueueError> {
        let ingest = &self.ingest;
        let entry = ingest.queue.accept(self.entry(meta, judged), content, ingest.clock.now()).await?;
        ingest.name_changes.earn(self.session.partner.as_str());
        info!(file.id = %self.id, name = ?self.name, partner = %self.session.partner, size_bytes = entry.size_bytes,
            state = %entry.state, door = self.session.door, "accepted");
        Ok(entry)
    }

    fn entry(&self, meta: &FileMeta, judged: Judged) -> NewEntry {
        let Judged { standing, claimable_from } = judged;
        let (size_bytes, sha256) = meta.whole();
        NewEntry {
            id: meta.id,
            partner: meta.partner.clone(),
            name: meta.name.clone(),
            door: meta.door.clone(),
            size_bytes,
            sha256,
            received_at: meta.received_at,
            route: standing.route,
            state: standing.state,
            reason: standing.reason,
            hold: standing.hold,
            origin: self.origin.clone(),
            idempotency_key: self.key.as_ref().map(|claim| claim.key().clone()),
            // One that a crash cut and that is sent again is not needed any more.
            supersedes: self
                .goes_on
                .map(|earlier| earlier.from)
                .or_else(|| self.ingest.adopted.same_as(meta, || self.ingest.since(&meta.partner))),
            continues: continues(meta),
            claimable_from,
        }
    }
}

impl Drop for Intake {
    fn drop(&mut self) {
        let Some(open) = self.open.take() else { return };
        self.count_end();
        let file = self.file.clone();
        info!(name = ?file.name, partner = %file.session.partner, size_bytes = open.upload.len(), "upload was dropped");
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            let ingest = file.ingest.clone();
            runtime.spawn(ingest.counted(async move { file.keep(open).await }));
        }
    }
}

/// What the queue is told of bytes that are the rest of a longer whole.
pub(super) fn continues(meta: &FileMeta) -> Option<Continues> {
    let rest = meta.rest.as_ref()?;
    Some(Continues { of: rest.of, at: rest.at, own_sha256: meta.sha256, digest: rest.digest })
}

fn over() -> Refusal {
    Refusal::Internal("the upload is over".to_owned())
}
