//! A file's bytes on their way to the client.
//!
//! Read from `ingest` in pieces of 256 KiB and written in steps of 64 KiB, each with the time of
//! `TransferTime`: a client that takes nothing is cut off, one that is slow is not.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::{Buf, Bytes};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, ReadBuf};
use tokio_util::sync::ReusableBoxFuture;

use crate::{
    doors::core::{PartnerSession, TransferTime, words},
    ingest::{OpenFile, Refusal},
};

/// Bytes that are read at a time.
const PIECE_BYTES: usize = 256 << 10;
/// Bytes that a client must take before it counts as stalled.
const STEP_BYTES: usize = 64 << 10;

/// Opens a file that is to be sent from this byte on.
///
/// # Errors
/// The catalogue's refusal, or that `start` (REST, RFC 3659, 5) is beyond the end of the file.
pub(super) async fn open(partner: &PartnerSession, path: &str, start: u64) -> Result<OpenFile, Refusal> {
    let file = partner.files.open(path).await?;
    let have = file.stat().size_bytes;
    if start > have {
        return Err(Refusal::CannotResume { at: start, have });
    }
    Ok(file)
}

/// Sends a file from this byte on, as fast as the partner may fetch.
pub(super) async fn send<W>(
    partner: &PartnerSession,
    file: &OpenFile,
    start: u64,
    output: &mut W,
) -> Result<u64, Refusal>
where
    W: AsyncWrite + Unpin + Send + ?Sized,
{
    let mut sending = Sending::new(partner);
    loop {
        let piece = file.read(start + sending.sent, PIECE_BYTES).await?;
        if piece.is_empty() {
            break;
        }
        sending.send(&piece, output).await?;
    }
    sending.step(output.flush()).await?;
    Ok(sending.sent)
}

/// Bytes on their way to a client, within the bounds of its session.
pub(super) struct Sending<'a> {
    partner: &'a PartnerSession,
    time: TransferTime,
    pub(super) sent: u64,
}

impl<'a> Sending<'a> {
    /// Nothing was sent yet, and its time runs.
    pub(super) fn new(partner: &'a PartnerSession) -> Self {
        Self { partner, time: partner.transfers.begin(), sent: 0 }
    }

    /// Sends a piece, as fast as the client takes it and the partner may fetch.
    pub(super) async fn send<W>(&mut self, piece: &[u8], output: &mut W) -> Result<(), Refusal>
    where
        W: AsyncWrite + Unpin + Send + ?Sized,
    {
        // In small steps: a client that takes some bytes now and then does not stall.
        for bytes in piece.chunks(STEP_BYTES) {
            self.step(output.write_all(bytes)).await?;
            self.sent += bytes.len() as u64;
            self.partner.ticket.add_bytes(bytes.len() as u64);
        }
        // After the piece, not before: the first bytes of a small file need no wait.
        self.partner.throttle(piece.len() as u64).await;
        Ok(())
    }

    /// Waits for the client to take data.
    pub(super) async fn step(&self, work: impl Future<Output = io::Result<()>>) -> Result<(), Refusal> {
        match self.partner.transfers.step(&self.time, self.sent, work).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(Refusal::Cut(format!("the data connection failed: {error}"))),
            Err(overdue) => Err(Refusal::Cut(words::download_overdue(overdue).to_owned())),
        }
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
    /// The bytes of a file from this one on.
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
