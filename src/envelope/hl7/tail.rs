//! The end of a unit: what is part of it, and what is blank behind it.

use std::ops::Range;

use super::{segments::LineEnds, split::VT};

/// A byte order mark in UTF-8.
pub(super) const BOM: &[u8] = b"\xef\xbb\xbf";
/// What some programs write behind the end of a text.
const SUB: u8 = 0x1a;

/// Whether a byte may stand between units, and before a header on its line.
pub(super) fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n' | VT | 0x0c | 0)
}

/// The place of the first byte that is not blank.
pub(super) fn first_solid(bytes: &[u8]) -> Option<usize> {
    let mut at = 0;
    while let Some(byte) = bytes.get(at) {
        match () {
            () if is_blank(*byte) => at += 1,
            () if bytes[at..].starts_with(BOM) => at += BOM.len(),
            () => return Some(at),
        }
    }
    None
}

/// The place behind the last byte that is not blank.
fn behind_solid(bytes: &[u8], sub_is_blank: bool) -> Option<usize> {
    let mut rest = bytes;
    while let Some((last, before)) = rest.split_last() {
        rest = match () {
            () if is_blank(*last) || (sub_is_blank && *last == SUB) => before,
            () if rest.ends_with(BOM) => &rest[..rest.len() - BOM.len()],
            () => return Some(rest.len()),
        };
    }
    None
}

/// The place behind the last byte that is not blank, as bytes come. No byte order mark may come in pieces.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tail {
    /// Behind the last byte that is neither blank nor 0x1A.
    solid: Option<u64>,
    /// The same where 0x1A counts: at the end of the file it is padding, and data elsewhere.
    with_sub: Option<u64>,
}

impl Tail {
    /// Takes bytes that stand at `at`.
    pub(super) fn take(&mut self, bytes: &[u8], at: u64) {
        // A piece of blanks changes no end.
        let Some(behind) = behind_solid(bytes, false) else { return };
        self.with_sub = Some(at + behind as u64);
        // Within what is solid with 0x1A, so one pass from the back does for both.
        if let Some(behind) = behind_solid(&bytes[..behind], true) {
            self.solid = Some(at + behind as u64);
        }
    }

    /// Behind the last byte that is not blank, if there was one; 0x1A is blank at the end of the file.
    pub(super) fn end(self, at_end_of_file: bool) -> Option<u64> {
        if at_end_of_file { self.solid } else { self.with_sub }
    }
}

/// What 0x1A is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sub {
    IsData,
    /// Padding, as at the end of a file.
    IsBlank,
}

/// The end of a message, as bytes come: that of the line which has its last byte that is not blank.
#[derive(Clone, Copy, Debug)]
pub(super) struct MessageEnd {
    /// Behind the last byte that is not blank.
    solid: u64,
    /// Behind the end of that byte's line; none while that has no end.
    line: Option<u64>,
    sub: Sub,
}

impl MessageEnd {
    /// Behind a first line, whose last byte and whose end are at these places.
    pub(super) fn new(solid: u64, line: u64, sub: Sub) -> Self {
        Self { solid, line: Some(line), sub }
    }

    /// Takes the part `range` of `buffer`, which stands at `base` in the file.
    pub(super) fn take(&mut self, buffer: &[u8], range: Range<usize>, base: u64, ends: LineEnds) {
        let bytes = &buffer[range.clone()];
        let from = match behind_solid(bytes, self.sub == Sub::IsBlank) {
            Some(behind) => {
                self.solid = base + (range.start + behind) as u64;
                self.line = None;
                behind
            }
            // The line is still open: its end may be in this piece.
            None if self.line.is_none() => 0,
            // Blank lines behind a line that has ended.
            None => return,
        };
        let Some(end) = memchr::memchr2(b'\r', b'\n', &bytes[from..]) else { return };
        let at = range.start + from + end;
        let length = match (ends, buffer[at]) {
            // Where CR alone ends lines, LF is what somebody joined messages with.
            (LineEnds::Cr, b'\n') => 0,
            (LineEnds::Any, b'\r') if buffer[at..].starts_with(b"\r\n") => 2,
            _ => 1,
        };
        self.line = Some(base + (at + length) as u64);
    }

    pub(super) fn get(self) -> u64 {
        self.line.unwrap_or(self.solid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blanks_are_told_from_bytes() {
        assert_eq!(first_solid(b" \r\n\xef\xbb\xbf\0x"), Some(7));
        assert_eq!(first_solid(b" \xef\xbb"), Some(1));
        assert_eq!(first_solid(b"\x0b\x0c"), None);
        let mut tail = Tail::default();
        tail.take(b"  ", 0);
        assert_eq!((tail.end(false), tail.end(true)), (None, None));
        tail.take(b"ab\r", 2);
        tail.take(b"\x1a\xef\xbb\xbf \0", 5);
        assert_eq!((tail.end(false), tail.end(true)), (Some(6), Some(4)));
    }
}
