//! The lines of a message: how many are segments, and how many go on with the field before them.

use super::{finder::ID_BYTES, tail::first_solid};

/// How the line of a message's `MSH` ends, and so what ends its other lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LineEnds {
    /// CR alone, as the standard says: LF is data then.
    Cr,
    /// LF, or CR and LF.
    Any,
}

/// Lines of a message behind its `MSH`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    /// Segments, `MSH` among them.
    pub segments: u64,
    /// Lines that begin with no segment id and belong to the field before them: line ends within a field.
    pub continued: u64,
}

/// Counts lines as their bytes come.
#[derive(Debug)]
pub(super) struct Counter {
    lines: Lines,
    ends: LineEnds,
    separator: u8,
    /// The first bytes of the present line.
    start: [u8; ID_BYTES + 1],
    length: usize,
    is_blank: bool,
}

impl Counter {
    /// Behind the line of an `MSH`.
    pub(super) fn new(ends: LineEnds, separator: u8) -> Self {
        let lines = Lines { segments: 1, continued: 0 };
        // The line of the MSH itself counts as one segment from the beginning.
        Self { lines, ends, separator, start: [0; ID_BYTES + 1], length: 0, is_blank: true }
    }

    pub(super) fn take(&mut self, mut bytes: &[u8]) {
        loop {
            let end = match self.ends {
                LineEnds::Cr => memchr::memchr(b'\r', bytes),
                LineEnds::Any => memchr::memchr2(b'\r', b'\n', bytes),
            };
            // A line may come in several pieces: what is known of it stays for the next.
            let Some(end) = end else { return self.go_on(bytes) };
            self.go_on(&bytes[..end]);
            self.end_line();
            bytes = &bytes[end + 1..];
        }
    }

    /// The lines until here; the last one need not have an end.
    pub(super) fn finish(mut self) -> Lines {
        self.end_line();
        self.lines
    }

    fn go_on(&mut self, bytes: &[u8]) {
        // Four bytes tell a segment; the rest of the line is not kept.
        let wanted = bytes.len().min(self.start.len() - self.length);
        self.start[self.length..self.length + wanted].copy_from_slice(&bytes[..wanted]);
        self.length += wanted;
        self.is_blank = self.is_blank && first_solid(bytes).is_none();
    }

    fn end_line(&mut self) {
        if !self.is_blank {
            // Where CR alone ends lines, a line cannot be a stray line end of a text field.
            match self.ends == LineEnds::Cr || self.is_segment() {
                true => self.lines.segments += 1,
                false => self.lines.continued += 1,
            }
        }
        (self.length, self.is_blank) = (0, true);
    }

    /// A segment begins with its id, three letters or digits of which the first is a letter, and the separator.
    fn is_segment(&self) -> bool {
        let [first, second, third, next] = self.start;
        let is_other = |byte: u8| byte.is_ascii_uppercase() || byte.is_ascii_digit();
        self.length == self.start.len()
            && first.is_ascii_uppercase()
            && is_other(second)
            && is_other(third)
            && next == self.separator
    }
}
