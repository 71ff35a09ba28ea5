//! A file's bytes on their way to the client.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf, Bytes};
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf},
    time::{Instant, timeout},
};
use tokio_util::sync::ReusableBoxFuture;

use crate::{
    doors::time_limit::time_limit_for,
    ingest::{OpenFile, Refusal},
};

use super::access::{Access, TransferLimits};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes that a client must take before it counts as stalled.
const STEP_BYTES: usize = 64 << 10;

/// Opens a file that is to be sent from this byte on.
pub(super) async fn open(access: &Access, path: &str, start: u64) -> Result<OpenFile, Refusal> {
    let file = access.files.open(path).await?;
    let have = file.stat().size_bytes;
    if start > have {
        return Err(Refusal::CannotResume { at: start, have });
    }
    Ok(file)
}

/// Sends a file from this byte on, as fast as the partner may fetch.
pub(super) async fn send<W>(access: &Access, file: &OpenFile, start: u64, output: &mut W) -> Result<u64, Refusal>
where
    W: AsyncWrite + Unpin + Send + ?Sized,
{
    let mut sending = Sending::new(access);
    loop {
        let piece = file.read(start + sending.sent, PIECE_BYTES).await?;
        if piece.is_empty() {
            break;
        }
        sending.send(&piece, output).await?;
    }
    within(access.limits.stalled, output.flush()).await?;
    Ok(sending.sent)
}

/// Bytes on their way to a client, within the bounds of its session.
pub(super) struct Sending<'a> {
    access: &'a Access,
    began: Instant,
    /// The time that was waited for the partner's bandwidth, which is not the client's.
    paced: Duration,
    pub(super) sent: u64,
}

impl<'a> Sending<'a> {
    pub(super) fn new(access: &'a Access) -> Self {
        Self { access, began: Instant::now(), paced: Duration::ZERO, sent: 0 }
    }

    pub(super) async fn send<W>(&mut self, piece: &[u8], output: &mut W) -> Result<(), Refusal>
    where
        W: AsyncWrite + Unpin + Send + ?Sized,
    {
        let TransferLimits { stalled, longest_per_gib } = self.access.limits;
        let ticket = &self.access.ticket;
        // In small steps: a client that takes some bytes now and then does not stall.
        for step in piece.chunks(STEP_BYTES) {
            within(stalled, output.write_all(step)).await?;
            self.sent += step.len() as u64;
            ticket.add_bytes(step.len() as u64);
        }
        let before = Instant::now();
        ticket.throttle(piece.len() as u64).await;
        self.paced += before.elapsed();
        match self.began.elapsed().saturating_sub(self.paced) > time_limit_for(longest_per_gib, self.sent) {
            true => Err(Refusal::Cut("the transfer took too long".to_owned())),
            false => Ok(()),
        }
    }
}

/// Waits for the client to take data.
pub(super) async fn within(patience: Duration, work: impl Future<Output = io::Result<()>>) -> Result<(), Refusal> {
    match timeout(patience, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(Refusal::Cut(format!("the data connection failed: {error}"))),
        Err(_) => Err(Refusal::Cut("the client takes no data".to_owned())),
    }
}

/// A file as a stream of bytes.
pub(super) struct FileReader {
    file: OpenFile,
    at: u64,
    /// Bytes that were read and not taken yet.
    rest: Bytes,
    reading: Option<ReusableBoxFuture<'static, Result<Bytes, Refusal>>>,
}

impl FileReader {
    pub(super) fn new(file: OpenFile, start: u64) -> Self {
        Self { file, at: start, rest: Bytes::new(), reading: None }
    }
}

impl AsyncRead for FileReader {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        if this.rest.is_empty() {
            let (file, at) = (&this.file, this.at);
            let reading = this.reading.get_or_insert_with(|| {
                let file = file.clone();
                ReusableBoxFuture::new(async move { file.read(at, PIECE_BYTES).await })
            });
            let read = ready!(reading.poll(cx));
            this.reading = None;
            this.rest = read.map_err(io::Error::other)?;
            this.at += this.rest.len() as u64;
        }
        let count = this.rest.len().min(buffer.remaining());
        buffer.put_slice(&this.rest[..count]);
        this.rest.advance(count);
        Poll::Ready(Ok(()))
    }
}
