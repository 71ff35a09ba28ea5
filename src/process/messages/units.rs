//! The messages of a file, one by one, with their bytes: found on a thread of its own that keeps ahead of the hand-over by a
//! bounded number of bytes.

use std::{
    collections::VecDeque,
    io::{self, Read},
    ops::{ControlFlow, Range},
    sync::Arc,
};

use bytes::Bytes;
use tokio::{
    runtime::Handle,
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
    task,
};

use super::pass::unreadable;
use crate::{
    contents::OpenContent,
    envelope::hl7::{self, Count, Header, Kind, SplitError, Unit},
    process::{Outcome, sink::Mode},
    routes::{LineEnds, MessageOptions},
};

/// Messages that wait to be handed over.
const AHEAD: usize = 64;
/// Bytes of messages that are in memory, of one file. A longer message has all of it to itself.
const AHEAD_BYTES: u32 = 16 << 20;
/// No more is told of a control id or a type, in bytes: they may be as long as the message.
const SHOWN_BYTES: usize = 256;

/// A message as it stands in the file.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) ordinal: u64,
    /// Where it begins, and where the next may, in bytes from the start of the file.
    pub(super) range: Range<u64>,
    pub(super) control_id: String,
    pub(super) message_type: String,
    pub(super) mode: Mode,
    pub(super) body: Result<Body, String>,
}

/// Its bytes, which count as long as this is there.
#[derive(Debug)]
pub(super) struct Body {
    pub(super) bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl Body {
    pub(super) fn new(bytes: Bytes, room: OwnedSemaphorePermit) -> Self {
        Self { bytes, _room: room }
    }
}

/// The messages of one file, in order.
pub(super) struct Messages {
    found: mpsc::Receiver<Found>,
    end: Option<task::JoinHandle<Result<(), Outcome>>>,
}

impl Messages {
    /// Those from ordinal `from` on. What is before them is read and passed over: where a message begins depends on the
    /// envelopes that are open.
    ///
    /// Of those that are `known` the place is told alone.
    pub(super) fn read(content: &OpenContent, from: u64, known: Vec<u64>, options: &MessageOptions) -> Self {
        let (send, found) = mpsc::channel(AHEAD);
        let (content, options) = (content.clone(), options.clone());
        let work = move || {
            let mut finder = Finder {
                ordinal: 0,
                from,
                known,
                options,
                room: Arc::new(Semaphore::new(AHEAD_BYTES as usize)),
                runtime: Handle::current(),
                send,
            };
            finder.run(content.reader())
        };
        Self { found, end: Some(task::spawn_blocking(work)) }
    }

    /// The next one; none when there are no more. Cancel safe.
    ///
    /// # Errors
    /// The outcome of the attempt when the file cannot be read.
    pub(super) async fn next(&mut self) -> Result<Option<Found>, Outcome> {
        if let Some(found) = self.found.recv().await {
            return Ok(Some(found));
        }
        let Some(end) = &mut self.end else { return Ok(None) };
        let ended = end.await;
        self.end = None;
        match ended {
            Ok(Ok(())) => Ok(None),
            Ok(Err(outcome)) => Err(outcome),
            Err(error) => Err(Outcome::Failed { reason: format!("reading the messages: {error}") }),
        }
    }
}

struct Finder {
    ordinal: u64,
    from: u64,
    known: Vec<u64>,
    options: MessageOptions,
    room: Arc<Semaphore>,
    runtime: Handle,
    send: mpsc::Sender<Found>,
}

impl Finder {
    /// Finds all of them. Blocks. Ends early when nobody takes them any more.
    fn run(&mut self, content: impl Read) -> Result<(), Outcome> {
        let kept = Kept::new(content, self.options.max_message);
        let seen = kept.seen.clone();
        let done = hl7::split(kept, Count::Units, &mut |unit| {
            let flow = match unit.kind {
                Kind::Message => self.found(unit, &seen),
                _ => ControlFlow::Continue(()),
            };
            seen.lock().drop_before(unit.range.end);
            flow
        });
        match done {
            Ok(()) => Ok(()),
            Err(SplitError::Io(error)) => Err(unreadable(&error)),
            Err(error @ SplitError::Utf16) => Err(Outcome::Quarantine { reason: format!("the file {error}") }),
        }
    }

    fn found(&mut self, unit: &Unit<'_>, seen: &parking_lot::Mutex<Seen>) -> ControlFlow<()> {
        self.ordinal += 1;
        if self.ordinal < self.from {
            return if self.send.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) };
        }
        let Some(header) = unit.header() else { return ControlFlow::Continue(()) };
        let found = Found {
            ordinal: self.ordinal,
            range: unit.range.clone(),
            control_id: shown(header.field(10)),
            message_type: shown(header.field(9)),
            mode: Mode::of(header.component(11)),
            body: self.body(unit, &header, seen),
        };
        match self.send.blocking_send(found) {
            Ok(()) => ControlFlow::Continue(()),
            Err(_) => ControlFlow::Break(()),
        }
    }

    /// Its bytes, or why it cannot be handed over.
    fn body(&self, unit: &Unit<'_>, header: &Header<'_>, seen: &parking_lot::Mutex<Seen>) -> Result<Body, String> {
        if self.known.contains(&self.ordinal) {
            return Err(String::new());
        }
        let length = unit.range.end - unit.range.start;
        if length > self.options.max_message {
            return Err(format!("it has {length} bytes, which is more than is taken ({})", self.options.max_message));
        }
        if let Some(field) = header.missing().next() {
            return Err(format!("MSH-{field} is missing"));
        }
        let wanted = u32::try_from(length).unwrap_or(u32::MAX).min(AHEAD_BYTES);
        let room = self.runtime.block_on(Arc::clone(&self.room).acquire_many_owned(wanted));
        let room = room.map_err(|_| "it was not read".to_owned())?;
        let bytes = seen.lock().bytes(&unit.range).ok_or("it was not read")?;
        Ok(Body::new(self.with_line_ends(bytes), room))
    }

    fn with_line_ends(&self, bytes: Vec<u8>) -> Bytes {
        match self.options.line_ends {
            LineEnds::Keep => bytes.into(),
            LineEnds::Cr => with_cr(&bytes).into(),
        }
    }
}

/// Each line end as CR. Where the header ends in a bare CR, a bare LF is data.
fn with_cr(bytes: &[u8]) -> Vec<u8> {
    let first = memchr::memchr2(b'\r', b'\n', bytes);
    let only_cr = first.is_some_and(|at| bytes[at] == b'\r' && bytes.get(at + 1) != Some(&b'\n'));
    let mut out = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some(at) = if only_cr { None } else { memchr::memchr2(b'\r', b'\n', rest) } {
        out.extend_from_slice(&rest[..at]);
        out.push(b'\r');
        rest = &rest[at + if rest[at..].starts_with(b"\r\n") { 2 } else { 1 }..];
    }
    out.extend_from_slice(rest);
    out
}

fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]).into_owned()
}

/// Reads on, and keeps what was read and may belong to the message that is being found.
struct Kept<R> {
    inner: R,
    seen: Arc<parking_lot::Mutex<Seen>>,
}

impl<R> Kept<R> {
    fn new(inner: R, max_message: u64) -> Self {
        let most = usize::try_from(max_message).unwrap_or(usize::MAX).saturating_add(2 << 20);
        Self { inner, seen: Arc::new(parking_lot::Mutex::new(Seen { at: 0, bytes: VecDeque::new(), most })) }
    }
}

impl<R: Read> Read for Kept<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = self.inner.read(buffer)?;
        self.seen.lock().push(&buffer[..count]);
        Ok(count)
    }
}

/// The last bytes that were read.
struct Seen {
    /// Where the first of them stands in the file.
    at: u64,
    bytes: VecDeque<u8>,
    /// No more than these are kept: of a message that is longer, nothing is handed over.
    most: usize,
}

impl Seen {
    fn push(&mut self, bytes: &[u8]) {
        self.bytes.extend(bytes);
        let over = self.bytes.len().saturating_sub(self.most);
        self.bytes.drain(..over);
        self.at += over as u64;
    }

    fn drop_before(&mut self, at: u64) {
        let count = usize::try_from(at.saturating_sub(self.at)).unwrap_or(usize::MAX).min(self.bytes.len());
        self.bytes.drain(..count);
        self.at += count as u64;
    }

    fn bytes(&self, range: &Range<u64>) -> Option<Vec<u8>> {
        let from = usize::try_from(range.start.checked_sub(self.at)?).ok()?;
        let to = usize::try_from(range.end.checked_sub(self.at)?).ok()?;
        if to > self.bytes.len() {
            return None;
        }
        let (front, back) = self.bytes.as_slices();
        let split = front.len();
        let mut bytes = Vec::with_capacity(to - from);
        bytes.extend_from_slice(&front[from.min(split)..to.min(split)]);
        bytes.extend_from_slice(&back[from.max(split) - split..to.max(split) - split]);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn line_ends_become_cr_where_lf_is_one() {
        assert_eq!(with_cr(b"MSH|a\r\nPID|1\r\n"), b"MSH|a\rPID|1\r");
        assert_eq!(with_cr(b"MSH|a\nPID|1"), b"MSH|a\rPID|1");
        assert_eq!(with_cr(b"MSH|a\rNTE|1|two\nlines\r"), b"MSH|a\rNTE|1|two\nlines\r");
        assert_eq!(with_cr(b"MSH|a"), b"MSH|a");
    }

    #[test]
    fn what_was_read_is_given_back_wherever_the_ring_is_cut() {
        let mut seen = Seen { at: 0, bytes: VecDeque::with_capacity(8), most: 8 };
        seen.push(b"abcdef");
        seen.drop_before(4);
        seen.push(b"ghij");
        assert_eq!(seen.bytes(&(4..10)).unwrap(), b"efghij");
        assert_eq!(seen.bytes(&(6..9)).unwrap(), b"ghi");
        assert_eq!((seen.bytes(&(3..5)), seen.bytes(&(9..11))), (None, None));
        seen.push(b"0123456789");
        assert_eq!(seen.bytes(&(12..20)).unwrap(), b"23456789", "no more than the most is kept");
        assert_eq!(seen.bytes(&(11..20)), None);
    }
}
