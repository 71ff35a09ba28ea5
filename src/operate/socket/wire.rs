//! The form of an answer on the socket: JSON lines, and after a `bytes` line so many raw bytes.
//!
//! The same functions serve both ends. It is no public interface: client and server are of one
//! version, and a request that does not read is answered with a question about versions.

use std::io;

use bytes::Bytes;
use tokio::io::{AsyncBufRead, AsyncBufReadExt as _, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

use crate::operate::reply::{Piece, Reply};

/// The longest line: a request may carry some hundred thousand ids.
/// A line without an end would otherwise fill the memory.
const LINE_BYTES: u64 = 32 << 20;

/// Writes one piece.
/// Does not flush: pieces that follow at once share a packet.
pub(super) async fn write<W: AsyncWrite + Unpin>(to: &mut W, piece: Piece) -> io::Result<()> {
    match piece {
        Piece::Reply(reply) => line(to, &reply).await,
        Piece::Bytes(bytes) => {
            line(to, &Reply::Bytes(bytes.len() as u64)).await?;
            to.write_all(&bytes).await
        }
    }
}

/// Writes an object as a line.
pub(super) async fn line<W: AsyncWrite + Unpin>(to: &mut W, object: &impl serde::Serialize) -> io::Result<()> {
    let mut text = serde_json::to_vec(object)?;
    text.push(b'\n');
    to.write_all(&text).await
}

/// Reads a line, or nothing at the end.
/// # Errors
/// A line that is cut by the end, or longer than [`LINE_BYTES`].
pub(super) async fn read_line<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<Option<Vec<u8>>> {
    let mut text = Vec::new();
    let read = from.take(LINE_BYTES).read_until(b'\n', &mut text).await?;
    if read == 0 {
        return Ok(None);
    }
    if text.pop() != Some(b'\n') {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is cut or too long"));
    }
    Ok(Some(text))
}

/// Reads one piece, or nothing at the end.
/// # Errors
/// A line that is no [`Reply`], or bytes that are cut.
pub(super) async fn read<R: AsyncBufRead + Unpin>(from: &mut R) -> io::Result<Option<Piece>> {
    let Some(text) = read_line(from).await? else { return Ok(None) };
    let reply: Reply = serde_json::from_slice(&text)?;
    let Reply::Bytes(len) = reply else { return Ok(Some(Piece::Reply(reply))) };
    let len = usize::try_from(len).map_err(io::Error::other)?;
    let mut bytes = vec![0; len];
    from.read_exact(&mut bytes).await?;
    Ok(Some(Piece::Bytes(Bytes::from(bytes))))
}
