//! A data connection on which the server keeps silent until it has something to say.
//!
//! A TLS 1.3 server gives its tickets right behind the handshake (RFC 8446, section 4.6.1). A client that sends a file and
//! closes has not read them, and a socket that is closed with something unread in it is reset: what was on its way is lost.
//! So tickets wait here until the server writes for another reason, and at the latest go out with its close_notify. Who
//! reads until that comes gets them; who is gone by then has sent all.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// The type of a TLS record that says nothing but that it is encrypted (RFC 8446, section 5.2).
const ENCRYPTED: u8 = 23;

/// A stream beneath TLS.
#[derive(Debug)]
pub(super) struct Quiet<S> {
    stream: S,
    speech: Speech,
    /// Written, and not sent yet.
    kept: Vec<u8>,
}

/// How far the conversation has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Speech {
    /// Nothing of it is held back.
    Free,
    /// In the handshake: the client has not spoken since the server has.
    Waiting,
    /// In the handshake: the client has spoken. What is encrypted from its first byte on comes behind the handshake.
    Answered,
    /// The handshake is over, and the server has nothing to say yet.
    Silent,
}

impl<S> Quiet<S> {
    /// Holds back what comes behind the handshake.
    pub(super) fn behind_handshake(stream: S) -> Self {
        Self { stream, speech: Speech::Waiting, kept: Vec::new() }
    }

    /// Holds nothing back.
    pub(super) fn never(stream: S) -> Self {
        Self { stream, speech: Speech::Free, kept: Vec::new() }
    }

    /// The server has something to say: with the next write goes what was kept.
    pub(super) fn speak(&mut self) {
        self.speech = Speech::Free;
    }

    fn keeps(&mut self, bytes: &[u8]) -> bool {
        self.speech = match self.speech {
            // The client has finished its part of the handshake, and what the server encrypts now
            // is a ticket.
            Speech::Answered if bytes.first() == Some(&ENCRYPTED) => Speech::Silent,
            // The server's own part of the handshake begins in the clear.
            Speech::Answered => Speech::Waiting,
            other => other,
        };
        self.speech == Speech::Silent
    }
}

impl<S: AsyncWrite + Unpin> Quiet<S> {
    fn poll_kept(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while !self.kept.is_empty() {
            match ready!(Pin::new(&mut self.stream).poll_write(cx, &self.kept))? {
                0 => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                sent => drop(self.kept.drain(..sent)),
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Quiet<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.stream).poll_read(cx, buffer))?;
        // Only bytes count as an answer; the end of the stream is none.
        if this.speech == Speech::Waiting && buffer.filled().len() > before {
            this.speech = Speech::Answered;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Quiet<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        if this.keeps(bytes) {
            this.kept.extend_from_slice(bytes);
            return Poll::Ready(Ok(bytes.len()));
        }
        ready!(this.poll_kept(cx))?;
        Pin::new(&mut this.stream).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // rustls flushes after its tickets: while the server has nothing to say, they stay.
        if this.speech != Speech::Silent {
            ready!(this.poll_kept(cx))?;
        }
        Pin::new(&mut this.stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        // What was kept goes before the end, since it was written before it.
        this.speak();
        ready!(this.poll_kept(cx))?;
        Pin::new(&mut this.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        // The type of the record stands in the first byte that there is.
        let first = slices.iter().find(|slice| !slice.is_empty()).map_or(&[][..], |slice| slice);
        if this.keeps(first) {
            slices.iter().for_each(|slice| this.kept.extend_from_slice(slice));
            return Poll::Ready(Ok(slices.iter().map(|slice| slice.len()).sum()));
        }
        ready!(this.poll_kept(cx))?;
        Pin::new(&mut this.stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::*;

    async fn handshake() -> (Quiet<tokio::io::DuplexStream>, tokio::io::DuplexStream) {
        let (server, mut client) = duplex(1 << 10);
        let mut server = Quiet::behind_handshake(server);
        let mut heard = [0; 16];
        client.write_all(b"\x16hello").await.unwrap();
        assert_eq!(server.read(&mut heard).await.unwrap(), 6);
        server.write_all(b"\x16hello, in pieces").await.unwrap();
        server.write_all(b"\x17of any kind").await.unwrap();
        server.flush().await.unwrap();
        assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 29);
        client.write_all(b"\x17finished").await.unwrap();
        assert_eq!(server.read(&mut heard).await.unwrap(), 9);
        server.write_all(b"\x17ticket;").await.unwrap();
        server.flush().await.unwrap();
        (server, client)
    }

    #[tokio::test]
    async fn tickets_wait_for_something_to_say() {
        let (mut server, mut client) = handshake().await;
        client.write_all(b"a file").await.unwrap();
        assert_eq!(server.read(&mut [0; 16]).await.unwrap(), 6);
        server.speak();
        server.write_all(b"\x17data").await.unwrap();
        let mut heard = [0; 13];
        client.read_exact(&mut heard).await.unwrap();
        assert_eq!(&heard, b"\x17ticket;\x17data");
    }

    #[tokio::test]
    async fn they_go_out_at_the_end_and_not_before() {
        let (mut server, mut client) = handshake().await;
        server.write_all(b"\x17close").await.unwrap();
        server.shutdown().await.unwrap();
        let mut heard = Vec::new();
        client.read_to_end(&mut heard).await.unwrap();
        assert_eq!(heard, b"\x17ticket;\x17close");
    }

    #[tokio::test]
    async fn nothing_is_kept_where_nothing_is_to_be() {
        let (server, mut client) = duplex(64);
        let mut server = Quiet::never(server);
        server.write_all(b"\x17any").await.unwrap();
        assert_eq!(client.read(&mut [0; 64]).await.unwrap(), 4);
    }
}
