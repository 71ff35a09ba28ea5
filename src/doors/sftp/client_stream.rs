//! The bytes of a client on their way to russh, which are held back before a key exchange until it has its turn.
//!
//! Before there are keys packets are in the clear (RFC 4253, 6), so what a client asks for is seen: the packet behind
//! which russh computes is given to it when the connection has a [`Turn`], and the turn is over with the answer.

use std::{
    future::Future,
    io::{self, IoSlice},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use bytes::{Buf, BytesMut};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};

use crate::partners::Origin;

use super::{
    connection::Shared,
    handshake_threads::{Turn, Turns},
};

/// What is read at once of a client that has no keys yet.
const PIECE_BYTES: usize = 4 << 10;
/// The longest packet before there are keys: the longest of a server's implementations need a tenth of it.
const MOST_CLEAR_BYTES: usize = 64 << 10;
/// The most bytes of a client with keys before its login: ten certificates of the longest keys take less, and an exchange of
/// keys anew, of which there is no need by then, costs it some hundred each.
const MOST_BEFORE_LOGIN_BYTES: usize = 64 << 10;
/// A line in front of the packets that begins so is the last (RFC 4253, 4.2).
const VERSION: &[u8] = b"SSH-";
/// SSH_MSG_NEWKEYS.
const NEWKEYS: u8 = 21;
/// Those that a client's part of an exchange may have (RFC 4250, 4.1.2).
const EXCHANGE: std::ops::RangeInclusive<u8> = 30..=49;

/// A client's connection, as russh gets it.
pub(super) struct ClientStream {
    stream: TcpStream,
    shared: Arc<Shared>,
    phase: Phase,
    /// Was read, and is not given to russh yet.
    pending: BytesMut,
    /// So much of it may be given.
    free: usize,
    /// None: the exchanges that are offered cost little.
    exchange: Option<InTurn>,
    before_login_bytes: usize,
}

/// How far the client has come.
enum Phase {
    /// It sends lines. So much of the present one is as in [`VERSION`]; None: it is another line.
    Lines(Option<usize>),
    /// It sends packets in the clear.
    Packets,
    /// It has keys.
    Keys,
}

/// An exchange that waits for its turn.
struct InTurn {
    turns: Arc<Turns>,
    origin: Origin,
    is_known: bool,
    waits: Option<Waits>,
    /// It is computed.
    now: Option<Turn>,
}

type Waits = Pin<Box<dyn Future<Output = Option<Turn>> + Send>>;

/// What of the pending bytes may be given.
enum Next {
    Bytes(usize),
    /// A packet behind which an exchange is computed.
    Exchange(usize),
    /// More must come first.
    More,
}

impl ClientStream {
    /// A connection whose exchange is computed when it comes.
    pub(super) fn new(stream: TcpStream, shared: Arc<Shared>) -> Self {
        // Nothing has come yet, so the present line agrees so far.
        let (phase, pending) = (Phase::Lines(Some(0)), BytesMut::new());
        Self { stream, shared, phase, pending, free: 0, exchange: None, before_login_bytes: 0 }
    }

    /// A connection whose exchange waits for its turn.
    pub(super) fn in_turn(
        stream: TcpStream,
        shared: Arc<Shared>,
        turns: Arc<Turns>,
        origin: Origin,
        is_known: bool,
    ) -> Self {
        let exchange = InTurn { turns, origin, is_known, waits: None, now: None };
        Self { exchange: Some(exchange), ..Self::new(stream, shared) }
    }

    /// Reads for a client that has no keys yet: gives russh what was read, up to where an exchange
    /// begins.
    fn poll_pending(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        // What was given before has been computed when more is asked for.
        self.computed();
        while self.free == 0 {
            match self.phase.next(&self.pending)? {
                Next::Bytes(bytes) => self.free = bytes,
                Next::Exchange(bytes) => {
                    if let Some(exchange) = &mut self.exchange {
                        ready!(exchange.poll_turn(cx));
                    }
                    self.free = bytes;
                }
                Next::More => {
                    if ready!(self.poll_more(cx))? == 0 {
                        return Poll::Ready(Ok(()));
                    }
                }
            }
        }
        // russh may take less than may be given: the rest stays free for the next read.
        let bytes = self.free.min(buffer.remaining());
        buffer.put_slice(&self.pending[..bytes]);
        self.pending.advance(bytes);
        self.free -= bytes;
        Poll::Ready(Ok(()))
    }

    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let mut piece = [0; PIECE_BYTES];
        let mut piece = ReadBuf::new(&mut piece);
        ready!(Pin::new(&mut self.stream).poll_read(cx, &mut piece))?;
        self.pending.extend_from_slice(piece.filled());
        Poll::Ready(Ok(piece.filled().len()))
    }

    /// The exchange is over: its turn is another's.
    fn computed(&mut self) {
        if let Some(exchange) = self.exchange.as_mut().filter(|_| self.free == 0) {
            exchange.now = None;
        }
    }

    /// Reads for a client that has keys. Before the login it has little to say.
    fn poll_direct(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        if self.before_login_bytes <= MOST_BEFORE_LOGIN_BYTES && self.shared.login().is_none() {
            self.before_login_bytes += buffer.filled().len() - before;
            if self.before_login_bytes > MOST_BEFORE_LOGIN_BYTES {
                return Poll::Ready(Err(io::Error::other("the client sends on and on and does not log in")));
            }
        }
        Poll::Ready(Ok(()))
    }
}

impl Phase {
    /// Decides what of the pending bytes may be given to russh.
    fn next(&mut self, pending: &[u8]) -> io::Result<Next> {
        match self {
            _ if pending.is_empty() => Ok(Next::More),
            Self::Lines(_) => Ok(Next::Bytes(self.lines(pending))),
            Self::Packets => self.packet(pending),
            Self::Keys => Ok(Next::Bytes(pending.len())),
        }
    }

    /// The bytes that belong to lines.
    fn lines(&mut self, pending: &[u8]) -> usize {
        for (at, byte) in pending.iter().enumerate() {
            let Self::Lines(same) = self else { return at };
            *same = match (*same, byte) {
                // The line that began so is over: from the next byte on there are packets.
                (Some(same), b'\n') if same == VERSION.len() => {
                    *self = Self::Packets;
                    return at + 1;
                }
                // Another line is over (RFC 4253, 4.2 allows some before it): the next one is
                // compared anew.
                (_, b'\n') => Some(0),
                (Some(same), byte) if VERSION.get(same).is_none_or(|wanted| wanted == byte) => {
                    Some((same + 1).min(VERSION.len()))
                }
                _ => None,
            };
        }
        pending.len()
    }

    /// The next packet, when all of it is there (RFC 4253, 6: its length, the length of its padding, its kind).
    fn packet(&mut self, pending: &[u8]) -> io::Result<Next> {
        let Some((length, [_, kind, ..])) = pending.split_first_chunk::<4>() else { return Ok(Next::More) };
        let bytes = u32::from_be_bytes(*length) as usize + length.len();
        // Before more of it is read: the length is the client's word.
        if bytes > MOST_CLEAR_BYTES {
            return Err(io::Error::new(io::ErrorKind::InvalidData, "a packet before the keys is too long"));
        }
        if pending.len() < bytes {
            return Ok(Next::More);
        }
        if *kind == NEWKEYS {
            *self = Self::Keys;
        }
        Ok(if EXCHANGE.contains(kind) { Next::Exchange(bytes) } else { Next::Bytes(bytes) })
    }
}

impl InTurn {
    fn poll_turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if self.now.is_some() {
            return Poll::Ready(());
        }
        let (turns, origin, is_known) = (&self.turns, self.origin, self.is_known);
        let waits = self.waits.get_or_insert_with(|| Box::pin(Arc::clone(turns).take(origin, is_known)));
        self.now = ready!(waits.as_mut().poll(cx));
        self.waits = None;
        // This thread computes now, and would look at no connection meanwhile. Two tasks, of which another thread has to
        // take one, wake such a thread, and it looks at them.
        for _ in 0..2 {
            tokio::spawn(std::future::ready(()));
        }
        Poll::Ready(())
    }
}

impl AsyncRead for ClientStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.pending.is_empty() && matches!(self.phase, Phase::Keys) {
            true => {
                self.computed();
                self.poll_direct(cx, buffer)
            }
            false => self.poll_pending(cx, buffer),
        }
    }
}

impl AsyncWrite for ClientStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.computed();
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.computed();
        Pin::new(&mut self.stream).poll_write_vectored(cx, bytes)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The units that are given of a client's bytes, however they are cut.
    fn units(bytes: &[u8], cut: usize) -> Vec<(usize, bool)> {
        let (mut phase, mut pending, mut given) = (Phase::Lines(Some(0)), Vec::new(), Vec::new());
        for piece in bytes.chunks(cut) {
            pending.extend_from_slice(piece);
            loop {
                let (bytes, is_exchange) = match phase.next(&pending).unwrap() {
                    Next::Bytes(bytes) => (bytes, false),
                    Next::Exchange(bytes) => (bytes, true),
                    Next::More => break,
                };
                pending.drain(..bytes);
                given.push((bytes, is_exchange));
            }
        }
        assert!(pending.is_empty());
        given
    }

    fn packet(kind: u8, bytes: usize) -> Vec<u8> {
        let mut packet = u32::try_from(bytes + 2).unwrap().to_be_bytes().to_vec();
        packet.extend([0, kind]);
        packet.resize(bytes + 6, 7);
        packet
    }

    #[test]
    fn the_packet_of_an_exchange_is_found_however_bytes_are_cut() {
        let packets = [packet(20, 900), packet(30, 40), packet(NEWKEYS, 10), packet(30, 500)];
        let bytes = [&b"hello\r\nSSL-\r\nSSH-2.0-test\r\n"[..], &packets.concat()].concat();
        for cut in [1, 2, 7, 1000, 5000] {
            let units = units(&bytes, cut);
            let exchanges: Vec<_> = units.iter().filter(|(_, is_exchange)| *is_exchange).collect();
            assert_eq!(exchanges, [&(46, true)], "what is encrypted is not looked at: {cut}");
            let before: usize = units.iter().take_while(|(_, is_exchange)| !is_exchange).map(|(bytes, _)| bytes).sum();
            assert_eq!(before, bytes.len() - 46 - 16 - 506, "{cut}");
        }
    }

    #[test]
    fn a_packet_without_an_end_is_not_waited_for() {
        let mut phase = Phase::Packets;
        assert!(phase.next(&[0, 1, 0, 0, 0, 30]).is_err());
        assert!(matches!(phase.next(&[0, 0, 0, 9, 0]), Ok(Next::More)));
    }
}
