//! An upload from its first check to its acceptance: begun, received, judged, and finished with
//! evidence.
//!
//! The guard (`data_transfer`) and the libunftp backend (`backend::put`) both go this way, in the
//! same order: [`begin`], [`receive`], [`Received::judge`], and then `Intake::finish`.
//!
//! # Guarantees
//! - All that can be refused before the first byte is refused in [`begin`]. Then no byte is
//!   received that nobody wants.
//! - Each `Intake` that is begun ends in `finish`, `cut` or `discard`, on every path here.
//! - When a second connection comes to the data port, nothing is kept: neither what came in, nor
//!   what was kept as a partial meanwhile.
//! - The outcome is sent to the control connection before the rest of a refused upload is drained.
//!
//! It names `ingest` for files, and of this door the transfer, its wire and its evidence.

use std::sync::Arc;

use tokio::{io::AsyncRead, sync::oneshot};
use tracing::info;

use crate::{
    doors::core::{Link, PartnerSession},
    ingest::{Accepted, Intake, Kept, Refusal, Start, Verdict},
    partners::Complete,
};

use super::{
    completeness::{Came, DataEnd},
    confirmation::{AcceptedFile, ClaimableWhen},
    data_transfer::Outcome,
    evidence::ControlStillUp,
    receiving::{Ending, drain, pump},
    transfer::Transfer,
    wire::Wire,
};

/// An upload that `ingest` has begun, and whose first byte has not come yet.
pub(super) struct PendingUpload {
    pub(super) intake: Intake,
    /// The size that the client has declared, and where in the file it begins to send.
    pub(super) declared: Option<u64>,
    pub(super) start: u64,
}

/// An upload whose data has ended, and of which nobody has decided yet whether it is whole.
pub(super) struct Received {
    intake: Intake,
    declared: Option<u64>,
    start: u64,
    end: DataEnd,
}

/// An upload that may be accepted: the verdict is not [`Verdict::Cut`].
pub(super) struct JudgedUpload {
    pub(super) intake: Intake,
    /// The verdict if its client is still there.
    pub(super) verdict: Verdict,
    /// Known to be whole by the end of the data or its declared size, whatever comes after the
    /// reply.
    is_proven: bool,
}

/// Begins the upload: everything that can be refused before the first byte is refused here.
///
/// A declared size (ALLO, RFC 959, 4.1.3) is taken for the quota only when it is that of a whole
/// file. For an upload that continues, it may be the size of the rest or of the whole: `Came`
/// accepts both.
///
/// # Errors
/// The refusal of `ingest`, or that the partner's policy wants a declared size and none came.
pub(super) async fn begin(
    partner: &PartnerSession,
    path: &str,
    start: Start,
    declared: Option<u64>,
) -> Result<Intake, Refusal> {
    let whole = if start == Start::At(0) { declared } else { None };
    let mut intake = partner.resume(path, start, whole).await?;
    if intake.policy().complete == Complete::Allo && declared.is_none() {
        let refusal = Refusal::Denied("declare the size of the file with ALLO first".to_owned());
        intake.mark_refused(&refusal);
        intake.cut("no ALLO came before it").await;
        return Err(refusal);
    }
    Ok(intake)
}

/// Writes all that comes, until the data ends.
///
/// # Errors
/// When the data was cut: the bytes are kept as a partial, or dropped when a second connection has
/// contested the port. When `ingest` refuses a byte (quota, room, a failing disk): they are
/// dropped.
pub(super) async fn receive<R>(
    partner: &PartnerSession,
    file: PendingUpload,
    input: &mut R,
    transfer: &Transfer,
) -> Result<Received, Refusal>
where
    R: AsyncRead + Send + Unpin,
{
    let PendingUpload { mut intake, declared, start } = file;
    let end = match pump(partner, &mut intake, input, transfer).await {
        Ok(Ending::Closed { close_notify_missing: true }) => DataEnd::MarkMissing,
        Ok(Ending::Closed { close_notify_missing: false }) => DataEnd::Unmarked,
        Ok(Ending::Cut(why)) => {
            match transfer.discarded() {
                // A second connection came: nobody knows whose these bytes are, so not even a
                // partial is kept.
                Some(_) => intake.discard().await,
                None => _ = intake.cut(&why).await,
            }
            return Err(Refusal::Cut(why));
        }
        Err(refusal) => {
            intake.discard().await;
            return Err(refusal);
        }
    };
    Ok(Received { intake, declared, start, end })
}

impl Received {
    /// The data came over TLS, whose end is marked unless that is known to be missing.
    fn over_tls(mut self) -> Self {
        if self.end == DataEnd::Unmarked {
            self.end = DataEnd::Marked;
        }
        self
    }

    /// Looks at what came.
    ///
    /// # Errors
    /// [`Refusal::Cut`] when it is known not to be whole; its bytes are a partial then.
    pub(super) async fn judge(self) -> Result<JudgedUpload, Refusal> {
        let Self { intake, declared, start, end } = self;
        let came = Came { bytes: intake.size_bytes(), start, declared, end };
        match came.verdict(intake.policy().complete, intake.policy().close_notify) {
            Verdict::Cut(why) => {
                intake.cut(&why).await;
                Err(Refusal::Cut(why))
            }
            verdict => Ok(JudgedUpload { intake, verdict, is_proven: came.is_proven() }),
        }
    }
}

impl PendingUpload {
    /// Receives the file on `wire` and sends the outcome to the control connection, exactly once.
    ///
    /// Runs in a task of its own that nothing drops: what has begun to be kept is kept or taken
    /// back also when the session is gone.
    pub(super) async fn run(
        self,
        partner: &PartnerSession,
        mut wire: Wire,
        link: &Arc<Link>,
        transfer: &Arc<Transfer>,
        tell: oneshot::Sender<Outcome>,
    ) {
        let name = self.intake.name().to_string();
        let taken = receive_and_finish(partner, self, &mut wire, link, transfer).await;
        partner.ticket.doing("");
        // The guard may have gone with the client, and then nobody is told.
        match taken {
            Ok(stored) => _ = tell.send(Outcome::Stored(Box::new(stored))),
            Err(refusal) => {
                info!(partner = %partner.info.partner, ?name, %refusal, "upload refused");
                let is_cut = matches!(refusal, Refusal::Cut(_));
                // First the outcome, then the draining: the reply goes out while the rest of the
                // upload is still being dropped. The other way round the client would wait for its
                // reply up to `DRAIN_TIME`.
                let _ = tell.send(Outcome::Refused(refusal));
                // After a cut nothing more comes, or nobody waits for what does.
                if !is_cut {
                    drain_unless_cancelled(&mut wire, transfer).await;
                }
            }
        }
    }
}

/// Reads and drops what still comes. Closing a socket with unread bytes would send a reset, and a
/// client may see the reset before it reads the reply (RFC 9293, 3.6.1).
async fn drain_unless_cancelled(wire: &mut Wire, transfer: &Transfer) {
    tokio::select! {
        () = drain(wire) => {}
        _ = transfer.cancelled() => {}
    }
}

/// The whole way of one file: received, TLS ended, judged, and finished with the evidence.
async fn receive_and_finish(
    partner: &PartnerSession,
    file: PendingUpload,
    wire: &mut Wire,
    link: &Arc<Link>,
    transfer: &Arc<Transfer>,
) -> Result<AcceptedFile, Refusal> {
    let received = receive(partner, file, wire, transfer).await?;
    let received = if wire.is_secure() { received.over_tls() } else { received };
    // Some clients wait for the end of TLS from our side before they read the reply.
    wire.finish().await;
    let JudgedUpload { intake, verdict, is_proven } = received.judge().await?;
    // Asked again after the last byte: the second connection may have come while TLS was being
    // ended.
    if let Some(why) = transfer.discarded() {
        intake.discard().await;
        return Err(Refusal::Cut(why));
    }
    let waits_for_reply = verdict == Verdict::Unconfirmed;
    let evidence = ControlStillUp { link: link.clone(), transfer: transfer.clone(), otherwise: verdict };
    let path = intake.name().to_string();
    let accepted = match intake.finish(Box::new(evidence)).await {
        // The evidence has found the transfer cancelled, so `ingest` has kept the bytes as a
        // partial.
        Err(refusal) if transfer.discarded().is_some() => {
            discard_partial(partner, &path).await;
            return Err(refusal);
        }
        finished => finished?,
    };
    Ok(AcceptedFile { claim: claim(&accepted, waits_for_reply, is_proven), accepted })
}

/// Drops what was kept of an upload that was cancelled while it was made durable.
async fn discard_partial(partner: &PartnerSession, path: &str) {
    if let Ok(Some(_)) = partner.ingest.resumable(&partner.info, path).await
        && let Ok(partial) = partner.resume(path, Start::End, None).await
    {
        partial.discard().await;
    }
}

/// When a processor may claim the file, by what is known before the reply is written.
fn claim(accepted: &Accepted, waits_for_reply: bool, is_proven: bool) -> ClaimableWhen {
    match accepted.kept() {
        Kept::Queued { .. } if waits_for_reply && accepted.unconfirmed => ClaimableWhen::OnceConfirmed,
        Kept::Queued { .. } if !is_proven => ClaimableWhen::AtOnce,
        _ => ClaimableWhen::Settled,
    }
}
