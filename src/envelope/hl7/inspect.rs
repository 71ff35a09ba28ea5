//! The envelope pass: a file as a whole, before any of its messages is handed to anybody.

use std::{
    collections::HashSet,
    fmt,
    hash::{BuildHasher, RandomState},
    io::Read,
    mem::{self, Discriminant},
    ops::ControlFlow,
};

use serde::Serialize;

use super::{
    header::Header,
    split::{Count, Kind, SplitError, Unit, split},
};

/// No more faults are told one by one, but for the first of each kind; they are counted all the same.
const MOST_FAULTS: usize = 1_000;
/// No more control ids are remembered. A repetition of one that came later is not seen.
/// About 16 MB of hashes; more would let one file take the memory of a server.
const MOST_IDS: usize = 1_800_000;
/// No more bytes of something that a file says are shown.
const SHOWN_BYTES: usize = 64;

/// What a file has to keep to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// The longest message, in bytes.
    pub max_message: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_message: 16 << 20 }
    }
}

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fault", rename_all = "snake_case")]
pub enum Fault {
    /// Nothing in it begins a message or an envelope.
    NoHeader,
    /// It is encoded in UTF-16.
    Utf16,
    /// Bytes that belong to nothing: a message whose `MSH` was lost looks so.
    Outside {
        /// Where they begin.
        at: u64,
        /// How many there are.
        bytes: u64,
    },
    /// A batch or file header whose trailer is missing.
    NoTrailer {
        /// `FHS` or `BHS`.
        header: &'static str,
        /// Where the header is.
        at: u64,
    },
    /// A trailer without its header.
    NoHeaderFor {
        /// `BTS` or `FTS`.
        trailer: &'static str,
        /// Where the trailer is.
        at: u64,
    },
    /// A trailer that counts otherwise.
    Count {
        /// `BTS` or `FTS`.
        trailer: &'static str,
        /// Where the trailer is.
        at: u64,
        /// The number that it has, as it stands there.
        said: String,
        /// The messages of the batch, or the batches of the file.
        found: u64,
    },
    /// A message whose control id (MSH-10) an earlier one of the file has.
    Repeated {
        /// The message, from 1.
        message: u64,
        /// The id.
        control_id: String,
    },
    /// A field that every message must have.
    Missing {
        /// The message, from 1.
        message: u64,
        /// The field of `MSH`: 9, 10, 11 or 12.
        field: usize,
    },
    /// A message that is longer than is taken.
    TooLong {
        /// The message, from 1.
        message: u64,
        /// Its length.
        bytes: u64,
    },
    /// Lines that begin with no segment id and belong to the field before them.
    Continued {
        /// The message, from 1.
        message: u64,
        /// How many lines.
        lines: u64,
    },
}

/// What an envelope pass found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Report {
    /// `hl7v2`, if anything in the file begins a message or an envelope.
    pub format: Option<&'static str>,
    /// Bytes of the file.
    pub bytes: u64,
    /// Messages.
    pub messages: u64,
    /// File headers (`FHS`).
    pub files: u64,
    /// Batch headers (`BHS`).
    pub batches: u64,
    /// File trailers (`FTS`).
    pub file_trailers: u64,
    /// Batch trailers (`BTS`).
    pub batch_trailers: u64,
    /// Segments of all messages, `MSH` among them.
    pub segments: u64,
    /// Messages whose control id an earlier one has.
    pub repeated_control_ids: u64,
    /// Faults, those that are not listed among them.
    pub fault_count: u64,
    /// The first thousand faults, and the first of each kind, in the order in which they are found.
    pub faults: Vec<Fault>,
}

/// Judges a whole file. A file that is not HL7 v2 is no error: its report says so.
///
/// # Errors
/// When the file cannot be read.
pub fn inspect<R: Read>(input: R, limits: Limits) -> std::io::Result<Report> {
    let mut inspector = Inspector::new(limits);
    // Lines are looked at too, since a fault within a message shows only there.
    let done = split(input, Count::Lines, &mut |unit| {
        inspector.take(unit);
        ControlFlow::Continue(())
    });
    match done {
        Ok(()) => Ok(inspector.finish()),
        // Found before any unit, so there is nothing else to report.
        Err(SplitError::Utf16) => Ok(Report { fault_count: 1, faults: vec![Fault::Utf16], ..Report::default() }),
        Err(SplitError::Io(error)) => Err(error),
    }
}

/// Takes the units of a file and judges them together. Memory is bounded.
#[derive(Debug)]
pub struct Inspector {
    limits: Limits,
    report: Report,
    file: Option<Open>,
    batch: Option<Open>,
    ids: ControlIds,
    /// The kinds of faults that are listed.
    listed: Vec<Discriminant<Fault>>,
}

/// An envelope that is open.
#[derive(Clone, Copy, Debug)]
struct Open {
    at: u64,
    /// What it holds so far.
    count: u64,
}

impl Inspector {
    /// Before the first unit.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self {
            limits,
            report: Report::default(),
            file: None,
            batch: None,
            ids: ControlIds::default(),
            listed: Vec::new(),
        }
    }

    /// Takes the next unit.
    pub fn take(&mut self, unit: &Unit<'_>) {
        let at = unit.range.start;
        // Units leave no gap: the end of the last one is the length of the file.
        self.report.bytes = unit.range.end;
        match (unit.kind, unit.header()) {
            (Kind::Outside, _) => self.fault(Fault::Outside { at, bytes: unit.range.end - at }),
            (Kind::FileHeader, _) => self.open_file(at),
            (Kind::BatchHeader, _) => self.open_batch(at),
            (Kind::Message, Some(header)) => self.message(unit, &header),
            (Kind::BatchTrailer, Some(trailer)) => self.close_batch(at, &trailer),
            (Kind::FileTrailer, Some(trailer)) => self.close_file(at, &trailer),
            _ => {}
        }
    }

    /// Behind the last unit.
    #[must_use]
    pub fn finish(mut self) -> Report {
        // The batch first: its header stands behind that of the file, and faults come in the order
        // in which they are found out.
        self.drop_batch();
        self.drop_file();
        let report = &mut self.report;
        if report.messages + report.files + report.batches == 0 {
            // That all of it is outside says nothing more.
            (report.fault_count, report.faults) = (1, vec![Fault::NoHeader]);
            return self.report;
        }
        self.report.format = Some("hl7v2");
        self.report
    }

    fn open_file(&mut self, at: u64) {
        self.drop_batch();
        self.drop_file();
        self.report.files += 1;
        self.file = Some(Open { at, count: 0 });
    }

    fn open_batch(&mut self, at: u64) {
        self.drop_batch();
        self.report.batches += 1;
        // A batch without a file around it is allowed.
        if let Some(file) = &mut self.file {
            file.count += 1;
        }
        self.batch = Some(Open { at, count: 0 });
    }

    fn close_batch(&mut self, at: u64, trailer: &Header<'_>) {
        self.report.batch_trailers += 1;
        match self.batch.take() {
            Some(batch) => self.compare("BTS", at, trailer, batch.count),
            None => self.fault(Fault::NoHeaderFor { trailer: "BTS", at }),
        }
    }

    fn close_file(&mut self, at: u64, trailer: &Header<'_>) {
        self.report.file_trailers += 1;
        self.drop_batch();
        match self.file.take() {
            // Messages without a batch around them are counted as one by some, and as none by others.
            Some(Open { count: 0, .. }) if trailer.field(1) == b"1" => {}
            Some(file) => self.compare("FTS", at, trailer, file.count),
            None => self.fault(Fault::NoHeaderFor { trailer: "FTS", at }),
        }
    }

    /// A trailer need not count at all.
    fn compare(&mut self, trailer: &'static str, at: u64, line: &Header<'_>, found: u64) {
        let said = line.field(1).trim_ascii();
        let number = std::str::from_utf8(said).ok().and_then(|text| text.parse::<u64>().ok());
        if !said.is_empty() && number != Some(found) {
            self.fault(Fault::Count { trailer, at, said: shown(said), found });
        }
    }

    fn drop_batch(&mut self) {
        if let Some(Open { at, .. }) = self.batch.take() {
            self.fault(Fault::NoTrailer { header: "BHS", at });
        }
    }

    fn drop_file(&mut self) {
        if let Some(Open { at, .. }) = self.file.take() {
            self.fault(Fault::NoTrailer { header: "FHS", at });
        }
    }

    fn message(&mut self, unit: &Unit<'_>, header: &Header<'_>) {
        self.report.messages += 1;
        let message = self.report.messages;
        if let Some(batch) = &mut self.batch {
            batch.count += 1;
        }
        for field in header.missing() {
            self.fault(Fault::Missing { message, field });
        }
        // The whole field, as it stands: ids that differ in case or blanks are different ones.
        let control_id = header.field(10);
        if !control_id.is_empty() && self.ids.repeats(control_id) {
            self.report.repeated_control_ids += 1;
            self.fault(Fault::Repeated { message, control_id: shown(control_id) });
        }
        let bytes = unit.range.end - unit.range.start;
        if bytes > self.limits.max_message {
            self.fault(Fault::TooLong { message, bytes });
        }
        if let Some(lines) = unit.lines {
            self.report.segments += lines.segments;
            if lines.continued > 0 {
                self.fault(Fault::Continued { message, lines: lines.continued });
            }
        }
    }

    fn fault(&mut self, fault: Fault) {
        // Counted before the bound: the sum says how much is not listed.
        self.report.fault_count += 1;
        let kind = mem::discriminant(&fault);
        let is_first = !self.listed.contains(&kind);
        if is_first {
            self.listed.push(kind);
        }
        // The first of a kind also behind a thousand others: what follows from a fault depends on its kind.
        if is_first || self.report.faults.len() < MOST_FAULTS {
            self.report.faults.push(fault);
        }
    }
}

/// The control ids so far, eight bytes each. The hash has a key that no file knows.
#[derive(Debug, Default)]
struct ControlIds {
    key: RandomState,
    seen: HashSet<u64>,
}

impl ControlIds {
    fn repeats(&mut self, id: &[u8]) -> bool {
        // Eight bytes of a keyed hash instead of the id: two ids that clash by chance are not to be
        // expected below some thousand million, and none can be made to clash on purpose.
        let hash = self.key.hash_one(id);
        if self.seen.len() < MOST_IDS { !self.seen.insert(hash) } else { self.seen.contains(&hash) }
    }
}

/// Bytes of a file as text, shortened.
fn shown(bytes: &[u8]) -> String {
    String::from_utf8_lossy(&bytes[..bytes.len().min(SHOWN_BYTES)]).into_owned()
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoHeader => {
                f.write_str("no line begins with MSH, FHS or BHS and its separator: this is no HL7 v2 file")
            }
            Self::Utf16 => write!(f, "the file {}", SplitError::Utf16),
            Self::Outside { at, bytes } => write!(f, "{bytes} bytes at {at} belong to no message: an MSH may be lost"),
            Self::NoTrailer { header, at } => {
                let trailer = if *header == "FHS" { "FTS" } else { "BTS" };
                write!(f, "the {header} at {at} has no {trailer}: the file may be cut")
            }
            Self::NoHeaderFor { trailer, at } => write!(f, "the {trailer} at {at} ends nothing that was begun"),
            Self::Count { trailer, at, said, found } => {
                let what = if *trailer == "BTS" { "messages" } else { "batches" };
                write!(f, "the {trailer} at {at} says {said:?}, and there are {found} {what}")
            }
            Self::Repeated { message, control_id } => {
                write!(f, "message {message} has the control id {control_id:?} of an earlier one")
            }
            Self::Missing { message, field } => write!(f, "message {message} has no MSH-{field}"),
            Self::TooLong { message, bytes } => write!(f, "message {message} has {bytes} bytes, which is too long"),
            Self::Continued { message, lines } => {
                write!(
                    f,
                    "message {message} has {lines} lines that begin with no segment id and belong to the field before"
                )
            }
        }
    }
}
