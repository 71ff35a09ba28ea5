//! A client's command lines, within bounds.
//!
//! Telnet's sequences are taken out (RFC 959 lets a client put IAC IP and IAC DM before ABOR). A line that is too long
//! or is no text is told as such, so that it is answered and the session goes on. Whatever a client sends, no more
//! than [`MOST_BYTES`] of it are kept.

use std::io;

use tokio::io::{AsyncRead, AsyncReadExt};

/// The longest command line: room for the longest path that `ingest` takes, in a command with a second one.
pub(super) const MOST_BYTES: usize = 4096;
/// Bytes of one line that are read and dropped before the client is given up.
const FLOOD_BYTES: usize = 1 << 20;
const PIECE_BYTES: usize = 512;
const IAC: u8 = 0xff;
/// Telnet's commands are from here on.
const TELNET: u8 = 0xf0;

/// The bytes of a client up to a line end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Line {
    /// A command.
    Command(String),
    /// More than a line may have.
    TooLong,
    /// Not UTF-8, or with a NUL or a carriage return within.
    NotText,
    /// So much without a line end that it is no use to go on.
    Flood,
}

impl Line {
    /// Returns whether it is ABOR, which is obeyed before the lines that came earlier (RFC 959, 4.1.3).
    pub(super) fn is_abort(&self) -> bool {
        matches!(self, Self::Command(command) if command.trim_end().eq_ignore_ascii_case("ABOR"))
    }
}

/// Bytes that have come and are no line yet.
#[derive(Debug, Default)]
pub(super) struct Lines {
    buffer: Vec<u8>,
    scanned: usize,
    dropped: usize,
}

impl Lines {
    /// The next line; None at the end of the connection. Cancel safe.
    pub(super) async fn next<R: AsyncRead + Unpin>(&mut self, from: &mut R) -> io::Result<Option<Line>> {
        loop {
            if let Some(line) = self.take() {
                return Ok(Some(line));
            }
            let mut piece = [0; PIECE_BYTES];
            let count = from.read(&mut piece).await?;
            if count == 0 {
                return Ok(None);
            }
            self.buffer.extend_from_slice(&piece[..count]);
        }
    }

    /// A line that is here already.
    pub(super) fn take(&mut self) -> Option<Line> {
        let Some(end) = self.buffer[self.scanned..].iter().position(|&byte| byte == b'\n') else {
            return self.drop_excess();
        };
        let rest = self.buffer.split_off(self.scanned + end + 1);
        let line = std::mem::replace(&mut self.buffer, rest);
        self.scanned = 0;
        let too_long = std::mem::take(&mut self.dropped) > 0 || line.len() > MOST_BYTES;
        if self.buffer.is_empty() {
            // An idle session keeps no room for commands.
            self.buffer = Vec::new();
        }
        Some(if too_long { Line::TooLong } else { parsed(line) })
    }

    fn drop_excess(&mut self) -> Option<Line> {
        self.scanned = self.buffer.len();
        if self.buffer.len() > MOST_BYTES {
            self.dropped += self.buffer.len();
            self.buffer.clear();
            self.scanned = 0;
        }
        (self.dropped > FLOOD_BYTES).then_some(Line::Flood)
    }

    /// Lines of which at least the first byte is here and was not taken.
    pub(super) fn begun(&self) -> usize {
        self.buffer.split_inclusive(|&byte| byte == b'\n').count()
    }

    /// Forgets what came; whether there was anything.
    pub(super) fn clear(&mut self) -> bool {
        let any = !self.buffer.is_empty();
        *self = Self::default();
        any
    }
}

fn parsed(line: Vec<u8>) -> Line {
    let mut line = without_telnet(line);
    // Urgent data may come out of its place, so that halves of telnet's sequences stand before the verb, which is ASCII.
    let leftovers = line.iter().take_while(|byte| **byte >= TELNET).count();
    line.drain(..leftovers);
    line.pop();
    if line.last() == Some(&b'\r') {
        line.pop();
    }
    if line.iter().any(|byte| matches!(byte, b'\0' | b'\r')) {
        return Line::NotText;
    }
    String::from_utf8(line).map_or(Line::NotText, Line::Command)
}

fn without_telnet(line: Vec<u8>) -> Vec<u8> {
    if !line.contains(&IAC) {
        return line;
    }
    let mut kept = Vec::with_capacity(line.len());
    let mut at = 0;
    while at < line.len() {
        match (line[at], line.get(at + 1)) {
            // WILL, WONT, DO and DONT have an option behind them.
            (IAC, Some(0xfb..=0xfe)) => at += 3,
            (IAC, Some(0xf0..=0xfa)) => at += 2,
            (byte, _) => {
                kept.push(byte);
                at += 1;
            }
        }
    }
    if kept.last() != Some(&b'\n') {
        kept.push(b'\n');
    }
    kept
}

#[cfg(test)]
mod tests {
    use std::{
        pin::Pin,
        task::{Context, Poll},
    };

    use rand::{RngExt, SeedableRng, rngs::StdRng};
    use tokio::io::ReadBuf;

    use super::*;

    async fn all(bytes: &[u8]) -> Vec<Line> {
        let (mut lines, mut from, mut found) = (Lines::default(), bytes, Vec::new());
        while let Some(line) = lines.next(&mut from).await.unwrap() {
            found.push(line);
            if found.last() == Some(&Line::Flood) {
                break;
            }
            assert!(lines.buffer.capacity() < 4 * MOST_BYTES);
        }
        found
    }

    fn command(text: &str) -> Line {
        Line::Command(text.to_owned())
    }

    #[tokio::test]
    async fn lines_end_in_either_way() {
        assert_eq!(all(b"NOOP\r\nSTOR a b\nx").await, [command("NOOP"), command("STOR a b")]);
    }

    #[tokio::test]
    async fn what_is_no_text_is_told_and_the_next_line_is_read() {
        let found = all(b"STOR a\0b\r\nSTOR a\rb\r\nSTOR \xe4\r\nNOOP\r\n").await;
        assert_eq!(found, [Line::NotText, Line::NotText, Line::NotText, command("NOOP")]);
    }

    #[tokio::test]
    async fn telnet_is_taken_out() {
        assert_eq!(all(b"\xff\xf4\xff\xf2ABOR\r\n\xff\xfb\x01NOOP\r\n").await, [command("ABOR"), command("NOOP")]);
    }

    #[tokio::test]
    async fn leftovers_of_telnet_before_a_verb_are_dropped_in_whatever_order() {
        for before in [&b"\xf4\xff"[..], b"\xf4\xff\xf2", b"\xf2", b"\xff\xff\xf4", b"\xf2\xf4\xff\xff", b"\xff"] {
            let line = [before, b"ABOR\r\n"].concat();
            assert_eq!(all(&line).await, [command("ABOR")], "{before:x?}");
        }
        // In a name the same bytes are letters.
        assert_eq!(all("STOR \u{1f600}\r\n".as_bytes()).await, [command("STOR \u{1f600}")]);
        assert_eq!(all(b"STOR \xf4\r\n").await, [Line::NotText]);
    }

    /// A reader that gives its bytes in pieces of any size.
    struct Pieces<'a>(&'a [u8], StdRng);

    impl AsyncRead for Pieces<'_> {
        fn poll_read(mut self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            let most = self.0.len().min(buffer.remaining());
            let count = if most > 1 { self.1.random_range(1..=most) } else { most };
            let (piece, rest) = self.0.split_at(count);
            buffer.put_slice(piece);
            self.0 = rest;
            Poll::Ready(Ok(()))
        }
    }

    /// Whatever comes, in whatever pieces: no panic, bounded memory, the lines are those of a plain parser that sees
    /// all at once, and the last line is heard. `FOREBAY_FUZZ_INPUTS` says how many inputs, `FOREBAY_FUZZ_SEED` which.
    #[tokio::test]
    async fn fuzz_any_bytes_are_read() {
        let number = |name: &str| std::env::var(name).ok().and_then(|text| text.parse::<u64>().ok());
        let seed = number("FOREBAY_FUZZ_SEED").unwrap_or_else(rand::random);
        let inputs = number("FOREBAY_FUZZ_INPUTS").unwrap_or(20_000);
        println!("seed {seed}, {inputs} inputs");
        let mut random = StdRng::seed_from_u64(seed);
        const ODD: [&[u8]; 14] = [
            b"\xff",
            b"\xff\xf4",
            b"\xff\xfb",
            b"\xff\xff",
            b"\r",
            b"\n",
            b"\0",
            b"STOR ",
            b"\xc3",
            b"\xf0\x9f",
            b"ABOR\r\n",
            b"PASS \r\0\n",
            b" ",
            b"\r\r\n",
        ];
        for _ in 0..inputs {
            let mut bytes = Vec::new();
            for _ in 0..random.random_range(0..30) {
                match random.random_range(0..40) {
                    0..3 => bytes.push(random.random()),
                    3 => bytes.resize(bytes.len() + random.random_range(0..6000), b'x'),
                    _ => bytes.extend_from_slice(ODD[random.random_range(0..ODD.len())]),
                }
            }
            // A NUL before it: telnet's commands at the end would take a line end along.
            bytes.extend_from_slice(b"\0\0\nlast\n");
            let (mut lines, mut found) = (Lines::default(), Vec::new());
            let mut from = Pieces(&bytes, StdRng::seed_from_u64(random.random()));
            while let Some(line) = lines.next(&mut from).await.unwrap() {
                assert!(lines.buffer.capacity() < 4 * MOST_BYTES, "seed {seed}: {bytes:?}");
                found.push(line);
            }
            assert_eq!(found, plainly(&bytes), "seed {seed}: {bytes:?}");
            assert_eq!(found.last(), Some(&command("last")), "seed {seed}: {bytes:?}");
        }
    }

    /// What the lines of these bytes are.
    fn plainly(bytes: &[u8]) -> Vec<Line> {
        let line = |line: &[u8]| match line.len() > MOST_BYTES {
            true => Line::TooLong,
            false => parsed(line.to_vec()),
        };
        bytes.split_inclusive(|&byte| byte == b'\n').map(line).collect()
    }

    #[tokio::test]
    async fn a_long_line_is_dropped_and_a_flood_ends_it() {
        let long = [vec![b'x'; 100_000], b"\r\nNOOP\r\n".to_vec()].concat();
        assert_eq!(all(&long).await, [Line::TooLong, command("NOOP")]);
        assert_eq!(all(&vec![b'x'; 4 << 20]).await, [Line::Flood]);
    }
}
