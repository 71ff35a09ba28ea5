//! An upload's bytes on their way from the data connection to `ingest`.
//!
//! Reading and writing overlap: while one buffer is hashed and written, the next is filled from the socket. Storage
//! bounds how many pieces it holds, so memory is bounded however large the file is.

use std::{io, sync::Arc, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, oneshot},
    time::{Instant, timeout, timeout_at},
};
use tracing::info;

use crate::{
    doors::lasting::most_time,
    ingest::{Accepted, Intake, Refusal, Verdict},
    partners::{CloseNotify, Complete},
};

use super::{
    evidence::ControlStillUp,
    login::Login,
    transfer::{Rest, Transfer},
    wire::Wire,
    work::Outcome,
};

const BUFFER_BYTES: usize = 256 << 10;
/// As many as storage gathers in two of its batches, and those on their way.
const BUFFERS: usize = 12;
/// Most files are small: what a file that fits in here costs is not 256 KiB.
const FIRST_BUFFER_BYTES: usize = 32 << 10;
/// What is read and dropped after a refusal, so that the client gets to read the reply instead of a reset.
const DRAIN_BYTES: u64 = 4 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// What a client that has gone had sent is here already, or will not come.
const LAST_BYTES: Duration = Duration::from_millis(200);

/// A file that was announced and begun.
pub(super) struct Incoming {
    pub(super) intake: Intake,
    /// The size that the client has declared, and where in the file it begins to send.
    pub(super) declared: Option<u64>,
    pub(super) start: u64,
}

/// How the data ended.
enum Ending {
    /// At its end, as far as this connection tells.
    Closed { at: Instant, close_notify_missing: bool },
    /// It cannot be whole.
    Cut(String),
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
            Ok(accepted) => Outcome::Stored(Box::new(accepted)),
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
) -> Result<Accepted, Refusal> {
    let Incoming { mut intake, declared, start } = file;
    let began = Instant::now();
    let (at, close_notify_missing) = match pump(login, &mut intake, wire, transfer).await {
        Ok(Ending::Closed { at, close_notify_missing }) => (at, close_notify_missing),
        Ok(Ending::Cut(why)) => {
            intake.cut(&why).await;
            return Err(Refusal::Cut(why));
        }
        Err(refusal) => {
            intake.discard().await;
            return Err(refusal);
        }
    };
    // Some clients wait for the end of TLS from our side before they read the reply.
    wire.finish().await;
    let otherwise = match judge(&intake, declared, start, close_notify_missing) {
        Verdict::Cut(why) => {
            intake.cut(&why).await;
            return Err(Refusal::Cut(why));
        }
        verdict => verdict,
    };
    let evidence = ControlStillUp {
        link: login.link.clone(),
        transfer: transfer.clone(),
        data_ended: at,
        settle: settle_time(login.settle, at - began, intake.size_bytes().saturating_sub(start)),
        otherwise,
    };
    intake.finish(Box::new(evidence)).await
}

/// What holds if the client is still there.
fn judge(intake: &Intake, declared: Option<u64>, start: u64, close_notify_missing: bool) -> Verdict {
    let policy = intake.policy();
    let came = intake.size_bytes();
    if let Some(declared) = declared {
        // Of an upload that goes on, either the whole or the rest may have been declared.
        let agrees = came == declared || came - start.min(came) == declared;
        let why = format!("{came} bytes came, and ALLO declared {declared}");
        match policy.complete {
            Complete::Allo if !agrees => return Verdict::Cut(why),
            _ if came < declared && !agrees => return Verdict::Hold(why),
            _ => {}
        }
    }
    let why = "the data connection ended without TLS close_notify";
    match (close_notify_missing, policy.close_notify) {
        (true, CloseNotify::Refuse) => Verdict::Cut(why.to_owned()),
        (true, CloseNotify::Hold) => Verdict::Hold(why.to_owned()),
        _ if policy.complete == Complete::Confirmed => Verdict::Unconfirmed,
        _ => Verdict::Whole,
    }
}

/// How long the control connection must outlive the data. A killed client closes one after the other, and on a busy
/// machine it may have to wait for its turn in between. What can be waited for grows with what the transfer took, for
/// so does the chance that it was killed in the middle. What filled no more than one buffer, and soon, left its client in
/// one piece: how long it took says more of how busy this machine is.
fn settle_time(least: Duration, transfer: Duration, came: u64) -> Duration {
    let in_one_piece = came <= FIRST_BUFFER_BYTES as u64 && transfer <= least * 10;
    if in_one_piece { least } else { (transfer * 2).clamp(least, least * 10) }
}

/// Moves bytes until the data ends. Everything that was read has been written when this returns an ending.
async fn pump(login: &Login, intake: &mut Intake, wire: &mut Wire, transfer: &Transfer) -> Result<Ending, Refusal> {
    let (give, mut take) = mpsc::channel::<Bytes>(1);
    let reading = read_all(wire, give, login, transfer);
    let writing = async {
        while let Some(chunk) = take.recv().await {
            let bytes = chunk.len() as u64;
            intake.write(chunk).await?;
            login.ticket.add_bytes(bytes);
        }
        Ok::<(), Refusal>(())
    };
    tokio::pin!(reading, writing);
    tokio::select! {
        ending = &mut reading => {
            writing.await?;
            Ok(ending)
        }
        // The reader holds the other end until it is done, so this is a refusal.
        stopped = &mut writing => {
            stopped?;
            Ok(Ending::Cut("the upload stopped".to_owned()))
        }
    }
}

async fn read_all<R>(input: &mut R, give: mpsc::Sender<Bytes>, login: &Login, transfer: &Transfer) -> Ending
where
    R: AsyncRead + Send + Unpin,
{
    let mut buffers = Buffers::default();
    let (began, mut came, mut paced) = (Instant::now(), 0, Duration::ZERO);
    loop {
        let (mut buffer, room) = buffers.next();
        let end = (began + paced).checked_add(most_time(login.longest_per_gib, came));
        let mut ending = tokio::select! {
            biased;
            ending = fill(input, &mut buffer, room, login.stalled, end) => ending,
            (why, rest) = transfer.cancelled() => {
                if rest == Rest::Kept {
                    keep_last(input, &mut buffer, &give).await;
                }
                Some(Ending::Cut(why))
            }
        };
        came += buffer.len() as u64;
        if !matches!(ending, Some(Ending::Cut(_))) {
            let before = Instant::now();
            // What has come stands, and ends the transfer like any other moment when it is cancelled meanwhile.
            tokio::select! {
                biased;
                () = login.ticket.pace(buffer.len() as u64) => {}
                (why, _) = transfer.cancelled() => ending = Some(Ending::Cut(why)),
            }
            paced += before.elapsed();
        }
        if !buffer.is_empty() && give.send(buffers.filled(buffer)).await.is_err() {
            return Ending::Cut("the upload was refused".to_owned());
        }
        if let Some(ending) = ending {
            return ending;
        }
    }
}

/// Takes what a sender that has gone had sent, in pieces that are written while the next comes.
async fn keep_last<R>(input: &mut R, buffer: &mut BytesMut, give: &mpsc::Sender<Bytes>)
where
    R: AsyncRead + Send + Unpin,
{
    let end = Instant::now() + DRAIN_TIME;
    while let Ok(Ok(Ok(1..))) = timeout_at(end, timeout(LAST_BYTES, input.read_buf(buffer))).await {
        if buffer.len() >= BUFFER_BYTES && give.send(buffer.split().freeze()).await.is_err() {
            return;
        }
    }
}

/// Fills the buffer; how the data ended, if it did. A client that sends a byte now and then never stalls: the whole
/// transfer has its `end` too.
async fn fill<R>(
    input: &mut R,
    buffer: &mut BytesMut,
    room: usize,
    stalled: Duration,
    end: Option<Instant>,
) -> Option<Ending>
where
    R: AsyncRead + Send + Unpin,
{
    while buffer.len() < room {
        let now = Instant::now();
        if end.is_some_and(|end| now >= end) {
            return Some(Ending::Cut("the transfer took too long".to_owned()));
        }
        let stalled = end.map_or(stalled, |end| stalled.min(end - now));
        let left = room - buffer.len();
        let mut rest = (&mut *buffer).limit(left);
        match timeout(stalled, input.read_buf(&mut rest)).await {
            Ok(Ok(0)) => return Some(Ending::Closed { at: Instant::now(), close_notify_missing: false }),
            Ok(Ok(_)) => {}
            // rustls says so when the connection ends without close_notify; a plain one has no such error.
            Ok(Err(error)) if error.kind() == io::ErrorKind::UnexpectedEof => {
                return Some(Ending::Closed { at: Instant::now(), close_notify_missing: true });
            }
            Ok(Err(error)) => return Some(Ending::Cut(format!("the data connection failed: {error}"))),
            // At its end the next turn says so.
            Err(_) if end.is_some_and(|end| Instant::now() >= end) => {}
            Err(_) => return Some(Ending::Cut("no data came for too long".to_owned())),
        }
    }
    None
}

/// Buffers whose memory is used again when what was sent of them has been written.
#[derive(Default)]
struct Buffers {
    spare: [BytesMut; BUFFERS],
    turn: usize,
}

impl Buffers {
    fn next(&mut self) -> (BytesMut, usize) {
        let room = if self.turn == 0 { FIRST_BUFFER_BYTES } else { BUFFER_BYTES };
        let mut buffer = std::mem::take(&mut self.spare[self.turn % BUFFERS]);
        buffer.reserve(room);
        (buffer, room)
    }

    fn filled(&mut self, mut buffer: BytesMut) -> Bytes {
        let bytes = buffer.split().freeze();
        self.spare[self.turn % BUFFERS] = buffer;
        self.turn += 1;
        bytes
    }
}

async fn drain<R: AsyncRead + Send + Unpin>(input: &mut R) {
    let mut input = input.take(DRAIN_BYTES);
    // Whatever comes of it, the reply is the same.
    let _ = timeout(DRAIN_TIME, tokio::io::copy(&mut input, &mut tokio::io::sink())).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_settle_time_grows_with_the_transfer_and_is_bounded() {
        let ms = Duration::from_millis;
        for (transfer, settle) in [(0, 5), (2, 5), (10, 20), (60_000, 50)] {
            assert_eq!(settle_time(ms(5), ms(transfer), 1 << 20), ms(settle));
        }
        for (transfer, settle) in [(0, 5), (10, 5), (50, 5), (51, 50)] {
            assert_eq!(settle_time(ms(5), ms(transfer), 10_240), ms(settle), "a small file that took {transfer} ms");
        }
        assert_eq!(settle_time(Duration::ZERO, ms(1000), 1 << 20), Duration::ZERO);
    }

    #[test]
    fn buffers_are_used_again() {
        let mut buffers = Buffers::default();
        let mut seen = std::collections::HashSet::new();
        for turn in 0..5 * BUFFERS {
            let (mut buffer, room) = buffers.next();
            buffer.put_bytes(7, room);
            let bytes = buffers.filled(buffer);
            if turn > BUFFERS {
                seen.insert(bytes.as_ptr());
            }
            drop(bytes);
        }
        assert!(seen.len() <= BUFFERS, "{} buffers were made", seen.len());
    }
}
