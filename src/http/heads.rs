//! Heads of requests whose lines end as RFC 9112, 2.2 has it: in CR LF.
//!
//! The parser beneath also takes a bare LF, and a length beside a transfer coding (RFC 9112, 6.3), which others before or
//! behind us may read otherwise. So a bare LF in a head, and the LF at the end of a head with both, reach it as a NUL, which
//! no head may have: the answer is 400, and the connection ends.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll, ready},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// A header line that is longer than this has no length for us; heads are bounded by the parser.
const LINE_BYTES: usize = 64;

/// A connection, of which the heads of requests are looked at as they are read.
pub(super) struct Heads<S> {
    inner: S,
    part: Part,
    /// The begin of the present line, in lower case.
    line: Vec<u8>,
    last: u8,
    /// A line of this head was not empty.
    has_begun: bool,
    /// The length that the head tells, if it does.
    body_bytes: Option<u64>,
    is_chunked: bool,
}

/// Where in a request the next byte is.
enum Part {
    Head,
    /// In a body of which so much is to come.
    Body(u64),
    /// Behind a head whose body has no length: nothing is looked at any more, and there is no other request.
    Rest,
}

impl<S> Heads<S> {
    pub(super) fn new(inner: S) -> Self {
        let line = Vec::with_capacity(LINE_BYTES);
        Self { inner, part: Part::Head, line, last: 0, has_begun: false, body_bytes: None, is_chunked: false }
    }

    fn look(&mut self, mut bytes: &mut [u8]) {
        while !bytes.is_empty() {
            let passed = match &mut self.part {
                Part::Rest => return,
                Part::Body(left) => {
                    let passed = bytes.len().min(usize::try_from(*left).unwrap_or(usize::MAX));
                    *left -= passed as u64;
                    if *left == 0 {
                        self.part = Part::Head;
                    }
                    passed
                }
                Part::Head => {
                    self.look_at(&mut bytes[0]);
                    1
                }
            };
            bytes = &mut bytes[passed..];
        }
    }

    fn look_at(&mut self, byte: &mut u8) {
        match (*byte, self.last) {
            (b'\n', b'\r') if self.line_is_over() => {}
            (b'\n', _) => *byte = 0,
            (b'\r', _) => {}
            (byte, _) if self.line.len() < LINE_BYTES => self.line.push(byte.to_ascii_lowercase()),
            _ => {}
        }
        self.last = *byte;
    }

    /// Returns false if it ends a head that could be read in two ways.
    fn line_is_over(&mut self) -> bool {
        let line = String::from_utf8_lossy(&self.line);
        if let Some((name, value)) = line.split_once(':') {
            match name {
                // What is no number is refused by the parser.
                "content-length" => self.body_bytes = Some(value.trim().parse().unwrap_or(0)),
                "transfer-encoding" => self.is_chunked = true,
                _ => {}
            }
        }
        let is_empty = line.is_empty();
        self.line.clear();
        match is_empty {
            true if std::mem::take(&mut self.has_begun) => self.head_is_over(),
            true => true,
            false => {
                self.has_begun = true;
                true
            }
        }
    }

    fn head_is_over(&mut self) -> bool {
        let (is_chunked, bytes) = (std::mem::take(&mut self.is_chunked), self.body_bytes.take());
        self.part = match (is_chunked, bytes) {
            (true, _) => Part::Rest,
            (false, None | Some(0)) => Part::Head,
            (false, Some(bytes)) => Part::Body(bytes),
        };
        !(is_chunked && bytes.is_some())
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Heads<S> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buffer.filled().len();
        ready!(Pin::new(&mut this.inner).poll_read(cx, buffer))?;
        this.look(&mut buffer.filled_mut()[before..]);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Heads<S> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        pieces: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().inner).poll_write_vectored(cx, pieces)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn looked(pieces: &[&str]) -> String {
        let mut ends = Heads::new(());
        let mut all = Vec::new();
        for piece in pieces {
            let mut bytes = piece.as_bytes().to_vec();
            ends.look(&mut bytes);
            all.extend(bytes);
        }
        String::from_utf8(all).unwrap()
    }

    #[test]
    fn only_heads_are_looked_at() {
        let good = "\r\nPOST / HTTP/1.1\r\nHost: x\r\nContent-LENGTH: 4\r\n\r\n\na\nbGET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert_eq!(looked(&[good]), good);
        assert_eq!(looked(&good.split_inclusive('\r').collect::<Vec<_>>()), good);
        assert_eq!(
            looked(&["POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n\n\r\n"]).matches('\0').count(),
            0
        );
    }

    #[test]
    fn a_head_with_a_length_and_a_coding_never_ends() {
        for both in [
            "POST / HTTP/1.1\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
            "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nContent-Length: 0\r\n\r\n",
            "POST / HTTP/1.1\r\ntransfer-encoding:identity\r\ncontent-length:x\r\n\r\n",
        ] {
            let seen = looked(&[both]);
            assert!(seen.ends_with("\r\0") && seen.matches('\0').count() == 1, "{seen:?}");
        }
        // The next head has its own.
        let after = "GET / HTTP/1.1\r\nContent-Length: 1\r\n\r\nxPOST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(looked(&[after]), after);
    }

    #[test]
    fn a_bare_line_feed_never_arrives() {
        for (bad, count) in [
            ("GET / HTTP/1.1\nHost: x\r\n\r\n", 1),
            ("GET / HTTP/1.1\r\nHost: x\r\n\n", 1),
            ("GET / HTTP/1.1\r\nHost: x\n\n", 2),
            ("POST / HTTP/1.1\r\nContent-Length: 1\r\n\r\n\nGET / HTTP/1.1\nHost: x\r\n\r\n", 1),
        ] {
            assert_eq!(looked(&[bad]).matches('\0').count(), count, "{bad:?}");
        }
    }
}
