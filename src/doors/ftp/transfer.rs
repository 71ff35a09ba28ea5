//! An upload's bytes on their way from the data connection to `ingest`.
//!
//! Reading and writing overlap: while one buffer is hashed and written, the next is filled from the socket. Storage
//! bounds how many pieces it holds, so memory is bounded however large the file is.

use std::{io, path::Path, time::Duration};

use bytes::{BufMut, Bytes, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncReadExt},
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tracing::info;

use crate::{
    ingest::{Intake, Refusal, Verdict},
    partners::CloseNotify,
};

use super::{evidence::ControlStillUp, login::Login, options::can_honour};

const BUFFER_BYTES: usize = 256 << 10;
/// As many as storage gathers in two of its batches, and those on their way.
const BUFFERS: usize = 12;
/// Most files are small: what a file that fits in here costs is not 256 KiB.
const FIRST_BUFFER_BYTES: usize = 32 << 10;
/// What is read and dropped after a refusal, so that the client gets to read the reply instead of a reset.
const DRAIN_BYTES: u64 = 4 << 20;
const DRAIN_TIME: Duration = Duration::from_secs(2);

/// How the data ended.
enum Ending {
    /// At its end, as far as this connection tells.
    Closed { at: Instant, close_notify_missing: bool },
    /// It cannot be whole.
    Cut(String),
}

/// Takes an upload. Ok, with its size, is answered with 226.
pub(super) async fn receive<R>(login: &Login, mut input: R, path: &Path, start: u64) -> Result<u64, Refusal>
where
    R: AsyncRead + Send + Unpin,
{
    let _under_way = login.line.transfer();
    login.ticket.doing(format!("STOR {}", path.display()));
    let taken = take(login, &mut input, path, start).await;
    login.ticket.doing("");
    if let Err(refusal) = &taken {
        info!(partner = %login.session.partner, path = ?path, %refusal, "upload refused");
        if !matches!(refusal, Refusal::Cut(_)) {
            drain(&mut input).await;
        }
    }
    taken
}

async fn take<R>(login: &Login, input: &mut R, path: &Path, start: u64) -> Result<u64, Refusal>
where
    R: AsyncRead + Send + Unpin,
{
    if start != 0 {
        return Err(Refusal::Denied("uploads begin at byte 0".to_owned()));
    }
    let mut intake = login.ingest.begin(&login.session, &login.resolve(path)?, None).await?;
    if let Err(why) = can_honour(intake.policy().complete) {
        intake.discard().await;
        return Err(Refusal::Denied(why.to_owned()));
    }
    let began = Instant::now();
    let (at, close_notify_missing) = match pump(login, &mut intake, input).await {
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
    let otherwise = match (close_notify_missing, intake.policy().close_notify) {
        (false, _) | (true, CloseNotify::Accept) => Verdict::Whole,
        (true, CloseNotify::Hold) => Verdict::Hold("the data connection ended without TLS close_notify".to_owned()),
        (true, CloseNotify::Refuse) => {
            let why = "the data connection ended without TLS close_notify";
            intake.cut(why).await;
            return Err(Refusal::Cut(why.to_owned()));
        }
    };
    let evidence = ControlStillUp {
        line: login.line.clone(),
        data_ended: at,
        settle: settle_time(login.settle, at - began),
        otherwise,
    };
    let accepted = intake.finish(Box::new(evidence)).await?;
    Ok(accepted.size_bytes)
}

/// How long the control connection must outlive the data. A killed client closes one after the other, and on a busy
/// machine it may have to wait for its turn in between. What can be waited for grows with what the transfer took, for
/// so does the chance that it was killed in the middle: a small file left its client in one piece.
fn settle_time(least: Duration, transfer: Duration) -> Duration {
    (transfer * 2).clamp(least, least * 10)
}

/// Moves bytes until the data ends. Everything that was read has been written when this returns an ending.
async fn pump<R>(login: &Login, intake: &mut Intake, input: &mut R) -> Result<Ending, Refusal>
where
    R: AsyncRead + Send + Unpin,
{
    let (give, mut take) = mpsc::channel::<Bytes>(1);
    let reading = read_all(input, give, login.stalled, login.line.stop.clone());
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

async fn read_all<R>(
    input: &mut R,
    give: mpsc::Sender<Bytes>,
    stalled: Duration,
    mut stop: watch::Receiver<bool>,
) -> Ending
where
    R: AsyncRead + Send + Unpin,
{
    let mut buffers = Buffers::default();
    loop {
        let (mut buffer, room) = buffers.next();
        let ending = tokio::select! {
            biased;
            ending = fill(input, &mut buffer, room, stalled) => ending,
            _ = stop.wait_for(|&stop| stop) => Some(Ending::Cut("the server is stopping".to_owned())),
        };
        if !buffer.is_empty() && give.send(buffers.filled(buffer)).await.is_err() {
            return Ending::Cut("the upload was refused".to_owned());
        }
        if let Some(ending) = ending {
            return ending;
        }
    }
}

/// Fills the buffer; how the data ended, if it did.
async fn fill<R>(input: &mut R, buffer: &mut BytesMut, room: usize, stalled: Duration) -> Option<Ending>
where
    R: AsyncRead + Send + Unpin,
{
    while buffer.len() < room {
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
            assert_eq!(settle_time(ms(5), ms(transfer)), ms(settle));
        }
        assert_eq!(settle_time(Duration::ZERO, ms(1000)), Duration::ZERO);
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
