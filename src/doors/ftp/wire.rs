//! A client's connection, in the clear or in TLS.
//!
//! Both control and data connections are one of these; what is done with them is no business of
//! this module. Cancel safe as the streams themselves: a read or write that is dropped has moved
//! nothing that it did not say.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use rustix::net::RecvFlags;
use rustls::HandshakeKind;
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt, Interest, ReadBuf},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{quiet::Quiet, resumption::ConnectionTls};
use crate::partners::ClientCertificate;

/// The time for the end of a connection.
const GOODBYE: Duration = Duration::from_secs(2);

/// A connection with a client.
pub(super) enum Wire {
    /// A control connection in the clear: urgent data may come on it.
    Urgent(TcpStream),
    Plain(TcpStream),
    Tls(Box<TlsStream<Quiet<TcpStream>>>, ConnectionTls),
}

impl Wire {
    /// The TLS handshake, as the server.
    ///
    /// # Errors
    /// When it fails or takes too long.
    pub(super) async fn secured(stream: Quiet<TcpStream>, tls: ConnectionTls, within: Duration) -> io::Result<Self> {
        match timeout(within, TlsAcceptor::from(tls.config.clone()).accept(stream)).await {
            Ok(stream) => Ok(Self::Tls(Box::new(stream?), tls)),
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Returns whether it is in TLS.
    pub(super) fn is_secure(&self) -> bool {
        matches!(self, Self::Tls(..))
    }

    /// The certificate that the client has shown, and has the key of.
    pub(super) fn client_certificate(&self) -> Option<ClientCertificate> {
        let Self::Tls(stream, _) = self else { return None };
        let shown = stream.get_ref().1.peer_certificates()?.first()?;
        ClientCertificate::of(shown)
    }

    /// The mark of the connection whose TLS session it goes on with, if it goes on with one.
    pub(super) fn resumed(&self) -> Option<Vec<u8>> {
        let Self::Tls(stream, tls) = self else { return None };
        // A ticket that was shown and refused resumes nothing.
        let is_resumed = stream.get_ref().1.handshake_kind() == Some(HandshakeKind::Resumed);
        tls.came_with().filter(|_| is_resumed)
    }

    /// Ends it as the protocol wants: in TLS with close_notify, without which some clients call a transfer failed.
    pub(super) async fn finish(&mut self) {
        // Whether the client still listens is its own affair.
        let _ = timeout(GOODBYE, self.shutdown()).await;
    }
}

impl AsyncRead for Wire {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Urgent(stream) => poll_read_urgent(stream, cx, buffer),
            Self::Plain(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Tls(stream, _) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

/// Reads until there is nothing more. A read ends before an urgent byte even when more is there, which tokio takes for
/// the sign that all was read: the rest would wait for the next segment, which may never come.
fn poll_read_urgent(stream: &TcpStream, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
    loop {
        // Again after each empty read: `try_io` has taken the readiness away.
        ready!(stream.poll_read_ready(cx))?;
        let read = stream.try_io(Interest::READABLE, || {
            let (count, _) = rustix::net::recv(stream, &mut *buffer.initialize_unfilled(), RecvFlags::empty())?;
            Ok(count)
        });
        match read {
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {}
            read => return Poll::Ready(read.map(|count| buffer.advance(count))),
        }
    }
}

impl AsyncWrite for Wire {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Urgent(stream) | Self::Plain(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Tls(stream, _) => {
                // Whatever the server writes itself ends the silence that tickets wait for.
                stream.get_mut().0.speak();
                Pin::new(stream).poll_write(cx, bytes)
            }
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Urgent(stream) | Self::Plain(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Urgent(stream) | Self::Plain(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream, _) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
