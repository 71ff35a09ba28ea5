//! An upload from its first check to its acceptance: begun, received, judged, and finished with evidence.

use std::{sync::Arc, time::Duration};

use tokio::{io::AsyncRead, sync::oneshot, time::sleep};
use tracing::info;

use crate::{
    ingest::{Intake, Kept, Refusal, Start, Verdict},
    partners::{CloseNotify, Complete},
};

use super::{
    access::Access,
    confirmation::{Claim, Stored},
    data_transfer::Outcome,
    evidence::ControlStillUp,
    login::Login,
    receiving::{Ending, drain, pump},
    transfer::Transfer,
    wire::Wire,
};

/// Looks at a name that is busy with the end of an upload that was cut just now.
const BUSY_ROUNDS: u32 = 40;
const BUSY_STEP: Duration = Duration::from_millis(50);

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

/// The end of the data, as far as it tells by itself that nothing is missing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum DataEnd {
    /// TLS ended with close_notify: the client has ended it, and its death does not.
    Marked,
    /// A connection in the clear ended, or one of which nothing is known.
    Unmarked,
    /// TLS ended without close_notify.
    MarkMissing,
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
pub(super) async fn begin(access: &Access, path: &str, start: Start, declared: Option<u64>) -> Result<Intake, Refusal> {
    let whole = if start == Start::At(0) { declared } else { None };
    let mut rounds = BUSY_ROUNDS;
    let intake = loop {
        match access.ingest.resume(&access.session, path, start, whole).await {
            Err(Refusal::Busy) if rounds > 0 => {
                rounds -= 1;
                sleep(BUSY_STEP).await;
            }
            other => break other?,
        }
    };
    if intake.policy().complete == Complete::Allo && declared.is_none() {
        intake.cut("no ALLO came before it").await;
        return Err(Refusal::Denied("declare the size of the file with ALLO first".to_owned()));
    }
    Ok(intake)
}

/// Writes all that comes, until the data ends.
pub(super) async fn receive<R>(
    access: &Access,
    file: Incoming,
    input: &mut R,
    transfer: &Transfer,
) -> Result<Received, Refusal>
where
    R: AsyncRead + Send + Unpin,
{
    let Incoming { mut intake, declared, start } = file;
    match pump(access, &mut intake, input, transfer).await {
        Ok(Ending::Closed { close_notify_missing }) => {
            let end = if close_notify_missing { DataEnd::MarkMissing } else { DataEnd::Unmarked };
            Ok(Received { intake, declared, start, end })
        }
        Ok(Ending::Cut(why)) => {
            intake.cut(&why).await;
            Err(Refusal::Cut(why))
        }
        Err(refusal) => {
            intake.discard().await;
            Err(refusal)
        }
    }
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
        login: &Arc<Login>,
        mut wire: Wire,
        transfer: &Arc<Transfer>,
        tell: oneshot::Sender<Outcome>,
    ) {
        let name = self.intake.name().to_string();
        let taken = take(login, self, &mut wire, transfer).await;
        login.ticket.doing("");
        let refusal = taken.as_ref().err().cloned();
        // The guard may have gone with the client.
        let _ = tell.send(match taken {
            Ok(stored) => Outcome::Stored(Box::new(stored)),
            Err(refusal) => Outcome::Refused(refusal),
        });
        if let Some(refusal) = refusal {
            info!(partner = %login.session.partner, ?name, %refusal, "upload refused");
            if !matches!(refusal, Refusal::Cut(_)) {
                tokio::select! {
                    () = drain(&mut wire) => {}
                    // The client has read the reply, and goes on.
                    _ = transfer.cancelled() => {}
                }
            }
        }
    }
}

async fn take(
    login: &Arc<Login>,
    file: Incoming,
    wire: &mut Wire,
    transfer: &Arc<Transfer>,
) -> Result<Stored, Refusal> {
    let received = receive(login, file, wire, transfer).await?;
    let received = if wire.is_secure() { received.over_tls() } else { received };
    // Some clients wait for the end of TLS from our side before they read the reply.
    wire.finish().await;
    let Judged { intake, verdict, is_proven } = received.judge().await?;
    let waits_for_reply = verdict == Verdict::Unconfirmed;
    let evidence = ControlStillUp { link: login.link.clone(), transfer: transfer.clone(), otherwise: verdict };
    let accepted = intake.finish(Box::new(evidence)).await?;
    let claim = match accepted.kept() {
        Kept::Queued { .. } if waits_for_reply && accepted.unconfirmed => Claim::OnceConfirmed,
        Kept::Queued { .. } if !is_proven => Claim::AtOnce,
        _ => Claim::Settled,
    };
    Ok(Stored { accepted, claim })
}

/// The facts of an upload whose data has ended.
#[derive(Clone, Copy, Debug)]
struct Came {
    /// Its length, with what it went on from.
    bytes: u64,
    /// Where in the file the client began to send.
    start: u64,
    declared: Option<u64>,
    end: DataEnd,
}

impl Came {
    /// The verdict if the client is still there.
    fn verdict(self, complete: Complete, close_notify: CloseNotify) -> Verdict {
        if let Some(declared) = self.declared {
            let why = format!("{} bytes came, and ALLO declared {declared}", self.bytes);
            match complete {
                Complete::Allo if !self.agrees(declared) => return Verdict::Cut(why),
                _ if self.bytes < declared && !self.agrees(declared) => return Verdict::Hold(why),
                _ => {}
            }
        }
        let why = "the data connection ended without TLS close_notify";
        match (self.end, close_notify) {
            (DataEnd::MarkMissing, CloseNotify::Refuse) => Verdict::Cut(why.to_owned()),
            (DataEnd::MarkMissing, CloseNotify::Hold) => Verdict::Hold(why.to_owned()),
            _ if complete == Complete::Confirmed && !self.is_proven() => Verdict::Unconfirmed,
            _ => Verdict::Whole,
        }
    }

    /// The end was marked, or the size is the declared one. A declared 0 proves nothing: some clients always send it.
    fn is_proven(self) -> bool {
        self.end == DataEnd::Marked || self.declared.is_some_and(|declared| declared > 0 && self.agrees(declared))
    }

    /// Of an upload that goes on, either the whole or the rest may have been declared.
    fn agrees(self, declared: u64) -> bool {
        self.bytes == declared || self.bytes - self.start.min(self.bytes) == declared
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_end_of_the_data_has_its_verdict() {
        use DataEnd::{MarkMissing, Marked, Unmarked};
        let whole = || Verdict::Whole;
        let cut = |_| Verdict::Cut(String::new());
        let hold = |_| Verdict::Hold(String::new());
        let rows = [
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, None, Verdict::Unconfirmed),
            (Complete::Confirmed, CloseNotify::Accept, MarkMissing, None, Verdict::Unconfirmed),
            (Complete::Confirmed, CloseNotify::Hold, MarkMissing, None, hold(())),
            (Complete::Confirmed, CloseNotify::Refuse, MarkMissing, None, cut(())),
            (Complete::Confirmed, CloseNotify::Refuse, Marked, None, whole()),
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, Some(10), whole()),
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, Some(6), whole()),
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, Some(0), Verdict::Unconfirmed),
            (Complete::Confirmed, CloseNotify::Accept, Unmarked, Some(9), Verdict::Unconfirmed),
            (Complete::Confirmed, CloseNotify::Accept, Marked, Some(11), hold(())),
            (Complete::Eof, CloseNotify::Accept, Unmarked, None, whole()),
            (Complete::Eof, CloseNotify::Accept, MarkMissing, None, whole()),
            (Complete::Rename, CloseNotify::Accept, Unmarked, None, whole()),
            (Complete::Allo, CloseNotify::Accept, Unmarked, Some(10), whole()),
            (Complete::Allo, CloseNotify::Accept, Unmarked, Some(9), cut(())),
            (Complete::Allo, CloseNotify::Accept, Unmarked, Some(11), cut(())),
        ];
        for (complete, close_notify, end, declared, expected) in rows {
            let came = Came { bytes: 10, start: 4, declared, end };
            let verdict = came.verdict(complete, close_notify);
            let same = std::mem::discriminant(&verdict) == std::mem::discriminant(&expected);
            assert!(same, "{complete:?} {close_notify:?} {came:?}: {verdict:?}");
        }
    }
}
