//! An upload from its first check to its acceptance: begun, received, judged, and finished with evidence.

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
    confirmation::{Claim, Stored},
    data_transfer::Outcome,
    evidence::ControlStillUp,
    receiving::{Ending, drain, pump},
    transfer::Transfer,
    wire::Wire,
};

/// A file that was announced and begun.
pub(super) struct Incoming {
    pub(super) intake: Intake,
    /// The size that the client has declared, and where in the file it begins to send.
    pub(super) declared: Option<u64>,
    pub(super) start: u64,
}

/// A file whose data has ended.
pub(super) struct Received {
    intake: Intake,
    declared: Option<u64>,
    start: u64,
    end: DataEnd,
}

/// A judged upload.
pub(super) struct Judged {
    pub(super) intake: Intake,
    /// The verdict if its client is still there.
    pub(super) verdict: Verdict,
    /// It is known to be whole.
    is_proven: bool,
}

/// Begins the upload: everything that can be refused before the first byte is refused here.
pub(super) async fn begin(
    partner: &PartnerSession,
    path: &str,
    start: Start,
    declared: Option<u64>,
) -> Result<Intake, Refusal> {
    let whole = if start == Start::At(0) { declared } else { None };
    let intake = partner.resume(path, start, whole).await?;
    if intake.policy().complete == Complete::Allo && declared.is_none() {
        intake.cut("no ALLO came before it").await;
        return Err(Refusal::Denied("declare the size of the file with ALLO first".to_owned()));
    }
    Ok(intake)
}

/// Writes all that comes, until the data ends.
pub(super) async fn receive<R>(
    partner: &PartnerSession,
    file: Incoming,
    input: &mut R,
    transfer: &Transfer,
) -> Result<Received, Refusal>
where
    R: AsyncRead + Send + Unpin,
{
    let Incoming { mut intake, declared, start } = file;
    let end = match pump(partner, &mut intake, input, transfer).await {
        Ok(Ending::Closed { close_notify_missing: true }) => DataEnd::MarkMissing,
        Ok(Ending::Closed { close_notify_missing: false }) => DataEnd::Unmarked,
        Ok(Ending::Cut(why)) => {
            match transfer.discarded() {
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
    pub(super) async fn judge(self) -> Result<Judged, Refusal> {
        let Self { intake, declared, start, end } = self;
        let came = Came { bytes: intake.size_bytes(), start, declared, end };
        match came.verdict(intake.policy().complete, intake.policy().close_notify) {
            Verdict::Cut(why) => {
                intake.cut(&why).await;
                Err(Refusal::Cut(why))
            }
            verdict => Ok(Judged { intake, verdict, is_proven: came.is_proven() }),
        }
    }
}

impl Incoming {
    /// Takes the file, and tells what came of it.
    pub(super) async fn take(
        self,
        partner: &PartnerSession,
        mut wire: Wire,
        link: &Arc<Link>,
        transfer: &Arc<Transfer>,
        tell: oneshot::Sender<Outcome>,
    ) {
        let name = self.intake.name().to_string();
        let taken = take(partner, self, &mut wire, link, transfer).await;
        partner.ticket.doing("");
        // The guard may have gone with the client, and then nobody is told.
        match taken {
            Ok(stored) => _ = tell.send(Outcome::Stored(Box::new(stored))),
            Err(refusal) => {
                info!(partner = %partner.info.partner, ?name, %refusal, "upload refused");
                let is_cut = matches!(refusal, Refusal::Cut(_));
                let _ = tell.send(Outcome::Refused(refusal));
                if !is_cut {
                    drain_unless_cancelled(&mut wire, transfer).await;
                }
            }
        }
    }
}

/// Drops what still comes, until the client has read the reply and goes on.
async fn drain_unless_cancelled(wire: &mut Wire, transfer: &Transfer) {
    tokio::select! {
        () = drain(wire) => {}
        _ = transfer.cancelled() => {}
    }
}

async fn take(
    partner: &PartnerSession,
    file: Incoming,
    wire: &mut Wire,
    link: &Arc<Link>,
    transfer: &Arc<Transfer>,
) -> Result<Stored, Refusal> {
    let received = receive(partner, file, wire, transfer).await?;
    let received = if wire.is_secure() { received.over_tls() } else { received };
    // Some clients wait for the end of TLS from our side before they read the reply.
    wire.finish().await;
    let Judged { intake, verdict, is_proven } = received.judge().await?;
    if let Some(why) = transfer.discarded() {
        intake.discard().await;
        return Err(Refusal::Cut(why));
    }
    let waits_for_reply = verdict == Verdict::Unconfirmed;
    let evidence = ControlStillUp { link: link.clone(), transfer: transfer.clone(), otherwise: verdict };
    let path = intake.name().to_string();
    let accepted = match intake.finish(Box::new(evidence)).await {
        Err(refusal) if transfer.discarded().is_some() => {
            discard_partial(partner, &path).await;
            return Err(refusal);
        }
        finished => finished?,
    };
    Ok(Stored { claim: claim(&accepted, waits_for_reply, is_proven), accepted })
}

/// Drops what was kept of an upload that was cancelled while it was made durable.
async fn discard_partial(partner: &PartnerSession, path: &str) {
    if let Ok(Some(_)) = partner.ingest.resumable(&partner.info, path).await
        && let Ok(partial) = partner.resume(path, Start::End, None).await
    {
        partial.discard().await;
    }
}

fn claim(accepted: &Accepted, waits_for_reply: bool, is_proven: bool) -> Claim {
    match accepted.kept() {
        Kept::Queued { .. } if waits_for_reply && accepted.unconfirmed => Claim::OnceConfirmed,
        Kept::Queued { .. } if !is_proven => Claim::AtOnce,
        _ => Claim::Settled,
    }
}
