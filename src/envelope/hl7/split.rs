//! One pass over a file, which gives its units in order.

use std::{
    io::{self, Read},
    ops::{ControlFlow, Range},
};

use super::{
    finder::{Finder, ID_BYTES},
    header::{Header, SHAPE_BYTES, Surroundings, kind},
    segments::{Counter, LineEnds, Lines},
    tail::{BOM, MessageEnd, Sub, Tail, first_solid, is_blank},
};

/// Begins an MLLP frame (HL7 v2.5.1, appendix C.4.3).
pub(super) const VT: u8 = 0x0b;
/// Ends it.
pub(super) const FS: u8 = 0x1c;

/// What is read at a time, in bytes.
const BUFFER_BYTES: usize = 1 << 20;
/// No more of a unit's first line is kept, in bytes: fields behind it are missing.
pub(super) const LINE_BYTES: usize = 64 << 10;
/// The least that fits a buffer: what is looked ahead, and something to look at.
pub(super) const LEAST_BUFFER: usize = 2 * SHAPE_BYTES;

/// The kind of a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// `FHS`: a file of batches begins.
    FileHeader,
    /// `BHS`: a batch of messages begins.
    BatchHeader,
    /// `MSH` and all that belongs to it.
    Message,
    /// `BTS`.
    BatchTrailer,
    /// `FTS`.
    FileTrailer,
    /// Nothing that anybody misses.
    Blank,
    /// Bytes that belong to nothing.
    Outside,
}

/// A part of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unit<'a> {
    /// What it is.
    pub kind: Kind,
    /// Its bytes, counted from the start of the file.
    pub range: Range<u64>,
    /// Its first line, from the id on, without its end and cut after 64 KiB; empty for what lies between units.
    pub line: &'a [u8],
    /// A message's lines, if they were to be counted.
    pub lines: Option<Lines>,
}

impl<'a> Unit<'a> {
    /// The first line as a header or trailer, of units that have one.
    #[must_use]
    pub fn header(&self) -> Option<Header<'a>> {
        match self.kind {
            Kind::Blank | Kind::Outside => None,
            kind => Some(Header::new(kind, self.line)),
        }
    }
}

/// Whether the lines of messages are counted. That looks at each line; without it most bytes are never looked at one by
/// one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Count {
    /// Units alone.
    #[default]
    Units,
    /// Units, and the lines of messages.
    Lines,
}

/// Why a file was not split to its end.
#[derive(Debug, thiserror::Error)]
pub enum SplitError {
    /// It is in UTF-16, where no byte means what it says.
    #[error(
        "is encoded in UTF-16, which HL7 v2 readers do not take; it has to be sent as UTF-8 or in the character set of MSH-18"
    )]
    Utf16,
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] io::Error),
}

/// Gives the units of a file to `visit`, one by one, until it says `Break`. Memory does not grow with the file.
///
/// # Errors
/// [`SplitError::Utf16`] before anything was given; [`SplitError::Io`] when `input` fails, behind what was given.
pub fn split<R: Read>(
    input: R,
    count: Count,
    visit: &mut dyn FnMut(&Unit<'_>) -> ControlFlow<()>,
) -> Result<(), SplitError> {
    split_in(input, count, BUFFER_BYTES, visit)
}

/// As [`split`], with a buffer of another size.
pub(super) fn split_in<R: Read>(
    input: R,
    count: Count,
    buffer_bytes: usize,
    visit: &mut dyn FnMut(&Unit<'_>) -> ControlFlow<()>,
) -> Result<(), SplitError> {
    let window = Window { input, buffer: vec![0; buffer_bytes.max(LEAST_BUFFER)], filled: 0, base: 0, is_last: false };
    let splitter = Splitter {
        window,
        finder: Finder::new(),
        count,
        visit,
        done: 0,
        line_start: 0,
        carried: None,
        around: Surroundings::default(),
        current: Current::Gap(Gap::at(0)),
        line: Vec::new(),
    };
    match splitter.run()? {
        ControlFlow::Continue(()) | ControlFlow::Break(()) => Ok(()),
    }
}

/// The part of the file that is in memory.
struct Window<R> {
    input: R,
    buffer: Vec<u8>,
    filled: usize,
    /// Where in the file the buffer begins.
    base: u64,
    /// The file ends with it.
    is_last: bool,
}

impl<R: Read> Window<R> {
    /// Drops what lies before `done`, and reads until the buffer is full or the file is at its end.
    fn slide(&mut self, done: usize) -> io::Result<()> {
        // Moved to the front and not wrapped round: the search wants the bytes in one piece.
        self.buffer.copy_within(done..self.filled, 0);
        self.filled -= done;
        self.base += done as u64;
        while self.filled < self.buffer.len() {
            match self.input.read(&mut self.buffer[self.filled..]) {
                // Only an empty read says that nothing more comes; a short one says nothing.
                Ok(0) => {
                    self.is_last = true;
                    break;
                }
                Ok(more) => self.filled += more,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn bytes(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// The end of what may be looked at now: behind it lies enough to tell a header, and it parts no byte order mark.
    fn limit(&self) -> usize {
        if self.is_last {
            return self.filled;
        }
        // The buffer is full here, or it would be the last, so this does not go below zero.
        let limit = self.filled - SHAPE_BYTES;
        // A mark that is cut by the limit would be taken for solid bytes; its beginning waits for
        // the rest.
        let parted = (1..BOM.len()).find(|back| self.buffer[limit - back..].starts_with(BOM));
        limit - parted.unwrap_or(0)
    }
}

/// What may stand before a header on its line.
#[derive(Clone, Copy, Debug)]
struct Prefix {
    /// Where the line begins in the file.
    start: u64,
    /// VT is in it: a frame begins.
    has_vt: bool,
}

/// The unit that is being read.
enum Current {
    Gap(Gap),
    /// The first line of a unit, up to its end.
    Line(FirstLine),
    Body(Body),
}

/// Bytes between units.
struct Gap {
    start: u64,
    first_solid: Option<u64>,
    tail: Tail,
}

/// The line of a header or trailer; its bytes are kept beside it.
struct FirstLine {
    kind: Kind,
    start: u64,
    tail: Tail,
}

/// A message behind its first line.
struct Body {
    start: u64,
    ends: LineEnds,
    /// Its end where the file goes on, and where the file ends with it.
    end: MessageEnd,
    last_end: MessageEnd,
    counter: Option<Counter>,
}

impl Gap {
    fn at(start: u64) -> Self {
        Self { start, first_solid: None, tail: Tail::default() }
    }

    fn take(&mut self, bytes: &[u8], at: u64) {
        if self.first_solid.is_none() {
            self.first_solid = first_solid(bytes).map(|index| at + index as u64);
        }
        self.tail.take(bytes, at);
    }

    /// The bytes that belong to nothing, in a gap that ends at `to`.
    fn solid(&self, to: u64, at_end_of_file: bool) -> Range<u64> {
        match (self.first_solid, self.tail.end(at_end_of_file)) {
            (Some(first), Some(behind)) => first..behind,
            _ => to..to,
        }
    }
}

impl Body {
    /// Takes the part `range` of `buffer`, which stands at `base` in the file.
    fn take(&mut self, buffer: &[u8], range: Range<usize>, base: u64) {
        if let Some(counter) = &mut self.counter {
            counter.take(&buffer[range.clone()]);
        }
        self.end.take(buffer, range.clone(), base, self.ends);
        self.last_end.take(buffer, range, base, self.ends);
    }
}

struct Splitter<'a, R> {
    window: Window<R>,
    finder: Finder,
    count: Count,
    visit: &'a mut dyn FnMut(&Unit<'_>) -> ControlFlow<()>,
    /// Bytes of the buffer before this one are dealt with.
    done: usize,
    /// A line starts here though no CR or LF stands before it: at the start of the file and behind a frame.
    line_start: u64,
    /// What stands before the buffer, if all of that line so far may stand before a header.
    carried: Option<Prefix>,
    around: Surroundings,
    current: Current,
    /// The first line of the current unit.
    line: Vec<u8>,
}

impl<R: Read> Splitter<'_, R> {
    fn run(mut self) -> Result<ControlFlow<()>, SplitError> {
        loop {
            // Before the slide: what it looks at is dropped by it.
            self.carried = self.prefix(self.done);
            self.window.slide(self.done)?;
            self.done = 0;
            // At the start alone, when the buffer has it whole.
            if self.window.base == 0 && is_utf16(self.window.bytes()) {
                return Err(SplitError::Utf16);
            }
            if self.scan(self.window.limit()).is_break() {
                return Ok(ControlFlow::Break(()));
            }
            if self.window.is_last {
                return Ok(self.finish());
            }
        }
    }

    /// Deals with everything before `limit`.
    fn scan(&mut self, limit: usize) -> ControlFlow<()> {
        let mut from = self.done;
        loop {
            // An id may begin before the limit and end behind it; one that begins behind it belongs
            // to the next round.
            let seen = (limit + ID_BYTES - 1).min(self.window.filled);
            let candidate = self.finder.find(&self.window.buffer[..seen], from);
            // First what lies before the candidate: the frame may end there, and then another line
            // starts.
            self.end_frame_before(candidate.unwrap_or(limit))?;
            let Some(at) = candidate else { return self.consume(limit) };
            // By one and not by three: ids can overlap with what looked like one.
            from = at + 1;
            // Within a line three letters are data.
            let Some(prefix) = self.prefix(at) else { continue };
            // A frame begins with its VT, which may stand right before this header.
            let around = Surroundings { in_frame: self.around.in_frame || prefix.has_vt, ..self.around };
            if let Some(kind) = kind(&self.window.bytes()[at..], around) {
                self.around = around;
                self.begin(kind, at, prefix)?;
            }
        }
    }

    /// What stands before `index` on its line, if a header may stand there.
    fn prefix(&self, index: usize) -> Option<Prefix> {
        let bytes = &self.window.buffer[..index];
        let (mut rest, mut has_vt) = (bytes, false);
        loop {
            let start = self.window.base + rest.len() as u64;
            // Asked before any byte: at the start of the file there is none.
            if start == self.line_start {
                return Some(Prefix { start, has_vt });
            }
            let Some((last, before)) = rest.split_last() else {
                // The line began before the buffer: what stood there was looked at when it was
                // dropped.
                return self.carried.map(|carried| Prefix { has_vt: has_vt || carried.has_vt, ..carried });
            };
            rest = match *last {
                b'\r' | b'\n' => return Some(Prefix { start, has_vt }),
                VT => {
                    has_vt = true;
                    before
                }
                blank if is_blank(blank) => before,
                // Anything solid before the id makes it data; a mark does not.
                _ => rest.strip_suffix(BOM)?,
            };
        }
    }

    /// In a frame, FS ends what is there.
    fn end_frame_before(&mut self, until: usize) -> ControlFlow<()> {
        if !self.around.in_frame || until <= self.done {
            return ControlFlow::Continue(());
        }
        // One FS ends the frame; a second one before the candidate is outside of any frame.
        let Some(index) = memchr::memchr(FS, &self.window.buffer[self.done..until]) else {
            return ControlFlow::Continue(());
        };
        let at = self.done + index;
        self.consume(at)?;
        self.close(false)?;
        // It is no byte that belongs to nothing.
        self.done = at + 1;
        self.line_start = self.window.base + self.done as u64;
        self.around.in_frame = false;
        ControlFlow::Continue(())
    }

    /// A unit begins at `at`, and ends what was there before its line.
    fn begin(&mut self, kind: Kind, at: usize, prefix: Prefix) -> ControlFlow<()> {
        // What is before the buffer has been dealt with: blanks, which change no end.
        let line = prefix.start.saturating_sub(self.window.base);
        // Up to the start of the line: the blanks before the header belong to no message.
        self.consume(usize::try_from(line).unwrap_or(at).min(at))?;
        self.close(false)?;
        let start = self.window.base + at as u64;
        self.end_gap(start, false)?;
        // None at the end of the file, for a trailer that is the id alone.
        let separator = self.window.bytes().get(at + ID_BYTES).copied();
        match kind {
            // A new file closes a batch that was left open.
            Kind::FileHeader => self.around.open = [separator, None],
            Kind::BatchHeader => self.around.open[1] = separator,
            Kind::BatchTrailer => self.around.open[1] = None,
            Kind::FileTrailer => self.around.open = [None; 2],
            Kind::Message | Kind::Blank | Kind::Outside => {}
        }
        self.line.clear();
        // The id is part of its own line, so `done` stays at it.
        self.current = Current::Line(FirstLine { kind, start, tail: Tail::default() });
        self.done = at;
        ControlFlow::Continue(())
    }

    /// Gives the bytes up to `to` to the current unit, which none of them ends but the end of a first line.
    fn consume(&mut self, to: usize) -> ControlFlow<()> {
        while self.done < to {
            let (buffer, base, range) = (&self.window.buffer[..self.window.filled], self.window.base, self.done..to);
            match &mut self.current {
                Current::Gap(gap) => gap.take(&buffer[range.clone()], base + range.start as u64),
                Current::Body(body) => body.take(buffer, range, base),
                Current::Line(first) => {
                    // A first line ends at either, whatever ends the others.
                    let end = memchr::memchr2(b'\r', b'\n', &buffer[range.clone()]).map_or(to, |end| self.done + end);
                    let bytes = &buffer[range.start..end];
                    first.tail.take(bytes, base + range.start as u64);
                    // What is beyond is not kept, and belongs to the unit all the same.
                    self.line.extend_from_slice(&bytes[..bytes.len().min(LINE_BYTES - self.line.len())]);
                    self.done = end;
                    if end < to {
                        self.end_line()?;
                    }
                    continue;
                }
            }
            self.done = to;
        }
        ControlFlow::Continue(())
    }

    /// The first line of the current unit ends where CR or LF stands.
    fn end_line(&mut self) -> ControlFlow<()> {
        let Current::Line(FirstLine { kind, start, .. }) = self.current else { return ControlFlow::Continue(()) };
        let rest = &self.window.bytes()[self.done..];
        // Both bytes are in the buffer: the limit keeps enough behind it, or the file ends.
        let length = if rest.starts_with(b"\r\n") { 2 } else { 1 };
        // The MSH decides for its whole message: senders do not mix within one.
        let ends = if length == 1 && rest[0] == b'\r' { LineEnds::Cr } else { LineEnds::Any };
        let behind = self.window.base + self.done as u64;
        let end = behind + length as u64;
        self.done += length;
        // Other units are one line long.
        if kind != Kind::Message {
            self.current = Current::Gap(Gap::at(end));
            return self.give(kind, start..end, None);
        }
        let separator = Header::new(kind, &self.line).separator();
        self.current = Current::Body(Body {
            start,
            ends,
            // Both are kept up, since only at the end is it known which holds.
            end: MessageEnd::new(behind, end, Sub::IsData),
            last_end: MessageEnd::new(behind, end, Sub::IsBlank),
            counter: (self.count == Count::Lines).then(|| Counter::new(ends, separator)),
        });
        ControlFlow::Continue(())
    }

    /// The current unit ends with what it has got; what follows is a gap, and blank so far.
    fn close(&mut self, at_end_of_file: bool) -> ControlFlow<()> {
        let (kind, start, end, lines) = match std::mem::replace(&mut self.current, Current::Gap(Gap::at(0))) {
            // Nothing to close; put back as it was.
            gap @ Current::Gap(_) => {
                self.current = gap;
                return ControlFlow::Continue(());
            }
            Current::Line(FirstLine { kind, start, tail }) => {
                let end = tail.end(at_end_of_file).unwrap_or(start);
                // Blanks behind the last field belong to the gap and not to the line.
                self.line.truncate(usize::try_from(end - start).unwrap_or(usize::MAX));
                let lines = (kind == Kind::Message && self.count == Count::Lines)
                    .then_some(Lines { segments: 1, continued: 0 });
                (kind, start, end, lines)
            }
            Current::Body(body) => {
                let end = if at_end_of_file { body.last_end.get() } else { body.end.get() };
                (Kind::Message, body.start, end, body.counter.map(Counter::finish))
            }
        };
        // The gap begins behind the unit's end, which may lie before `done`: bytes in between are
        // blank by the rule that found that end.
        self.current = Current::Gap(Gap::at(end));
        self.give(kind, start..end, lines)
    }

    /// The current gap ends at `to`.
    fn end_gap(&mut self, to: u64, at_end_of_file: bool) -> ControlFlow<()> {
        let Current::Gap(gap) = &self.current else { return ControlFlow::Continue(()) };
        // Blank, outside, blank: any of them may be empty and is then not given.
        let (start, solid) = (gap.start, gap.solid(to, at_end_of_file));
        self.line.clear();
        self.give(Kind::Blank, start..solid.start, None)?;
        self.give(Kind::Outside, solid.clone(), None)?;
        self.give(Kind::Blank, solid.end..to, None)
    }

    fn finish(mut self) -> ControlFlow<()> {
        // A unit that goes to the end of the file ends there, and a final 0x1A is no part of it.
        self.close(true)?;
        let end = self.window.base + self.window.filled as u64;
        self.end_gap(end, true)
    }

    fn give(&mut self, kind: Kind, range: Range<u64>, lines: Option<Lines>) -> ControlFlow<()> {
        match range.is_empty() {
            true => ControlFlow::Continue(()),
            false => (self.visit)(&Unit { kind, range, line: &self.line, lines }),
        }
    }
}

/// Whether a file begins as one in UTF-16 does: with its byte order mark, or with an id whose letters are two bytes each.
fn is_utf16(bytes: &[u8]) -> bool {
    let wide = |order: fn(u8) -> [u8; 2]| {
        ["MSH", "FHS", "BHS"].iter().any(|id| bytes.starts_with(&id.bytes().flat_map(order).collect::<Vec<_>>()))
    };
    bytes.starts_with(b"\xff\xfe") || bytes.starts_with(b"\xfe\xff") || wide(|byte| [byte, 0]) || wide(|byte| [0, byte])
}
