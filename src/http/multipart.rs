//! `multipart/form-data` (RFC 7578) piece by piece, in bounded memory: whatever comes, no more is kept than the head of one
//! part and a boundary.

use bytes::{Bytes, BytesMut};
use memchr::memmem;

/// The most bytes of a part's head, and of what stands in front of the first.
const HEAD_BYTES: usize = 8 << 10;
/// RFC 2046, 5.1.1.
const BOUNDARY_BYTES: usize = 70;

/// A reader of parts: bytes are pushed in, and events come out.
#[derive(Debug)]
pub struct Multipart {
    /// A line end, two dashes and the boundary.
    delimiter: Vec<u8>,
    buffer: BytesMut,
    at: At,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum At {
    Preamble,
    /// Behind a delimiter.
    Delimiter,
    Head,
    Content,
    End,
}

/// What comes next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// More bytes are needed.
    Starved,
    /// A part begins.
    Part(PartHead),
    /// Bytes of the part.
    Content(Bytes),
    /// The part is over.
    PartOver,
    /// There are no more parts.
    Over,
}

/// The head of a part, as far as it counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct PartHead {
    /// The name of the file, if it is one, without the folders that some browsers put before it.
    pub file_name: Option<String>,
    /// Whether the content stands as it is, in no transfer encoding.
    pub is_plain: bool,
}

/// The reason why a body is no form.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadForm {
    /// The Content-Type has no boundary.
    #[error("Content-Type has no boundary")]
    NoBoundary,
    /// The head of a part is no head, or longer than it may be.
    #[error("the form has a part whose head cannot be read")]
    Head,
    /// The first boundary does not come.
    #[error("the form does not begin with its boundary")]
    Preamble,
}

impl Multipart {
    /// The reader for a Content-Type.
    ///
    /// # Errors
    /// [`BadForm::NoBoundary`].
    pub fn new(content_type: &str) -> Result<Self, BadForm> {
        let boundary = parameter(content_type, "boundary").ok_or(BadForm::NoBoundary)?;
        if !(1..=BOUNDARY_BYTES).contains(&boundary.len()) || !boundary.is_ascii() {
            return Err(BadForm::NoBoundary);
        }
        let delimiter = format!("\r\n--{boundary}").into_bytes();
        // The first boundary has no line end before it.
        Ok(Self { delimiter, buffer: BytesMut::from(&b"\r\n"[..]), at: At::Preamble })
    }

    /// Takes the next bytes of the body. Events are to be taken out first, until it starves.
    pub fn push(&mut self, bytes: &[u8]) {
        if self.at != At::End {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The next event.
    ///
    /// # Errors
    /// When the body is no form.
    pub fn next_event(&mut self) -> Result<Event, BadForm> {
        loop {
            match self.at {
                At::Preamble => match self.find() {
                    Some(at) => self.pass(at + self.delimiter.len(), At::Delimiter),
                    None if self.buffer.len() > HEAD_BYTES => return Err(BadForm::Preamble),
                    None => return Ok(Event::Starved),
                },
                At::Delimiter => match self.buffer.first() {
                    Some(b' ' | b'\t') => self.pass(1, At::Delimiter),
                    Some(b'-') if self.buffer.len() > 1 => {
                        self.at = At::End;
                        return if self.buffer[1] == b'-' { Ok(Event::Over) } else { Err(BadForm::Head) };
                    }
                    Some(b'\r') => self.at = At::Head,
                    Some(b'-') | None => return Ok(Event::Starved),
                    Some(_) => return Err(BadForm::Head),
                },
                At::Head => match memmem::find(&self.buffer, b"\r\n\r\n") {
                    Some(end) => {
                        let head = PartHead::parse(&self.buffer[..end])?;
                        self.pass(end + 4, At::Content);
                        return Ok(Event::Part(head));
                    }
                    None if self.buffer.len() > HEAD_BYTES => return Err(BadForm::Head),
                    None => return Ok(Event::Starved),
                },
                At::Content => return Ok(self.content()),
                At::End => return Ok(Event::Over),
            }
        }
    }

    fn content(&mut self) -> Event {
        match self.find() {
            Some(0) => {
                self.pass(self.delimiter.len(), At::Delimiter);
                Event::PartOver
            }
            Some(at) => Event::Content(self.buffer.split_to(at).freeze()),
            // What may be the begin of a delimiter stays.
            None => match self.buffer.len().checked_sub(self.delimiter.len() - 1) {
                None | Some(0) => Event::Starved,
                Some(sure) => Event::Content(self.buffer.split_to(sure).freeze()),
            },
        }
    }

    fn find(&self) -> Option<usize> {
        memmem::find(&self.buffer, &self.delimiter)
    }

    fn pass(&mut self, bytes: usize, to: At) {
        let _ = self.buffer.split_to(bytes);
        self.at = to;
    }
}

impl PartHead {
    fn parse(head: &[u8]) -> Result<Self, BadForm> {
        let head = std::str::from_utf8(head).map_err(|_| BadForm::Head)?;
        let mut part = Self { file_name: None, is_plain: true };
        for line in head.split("\r\n").filter(|line| !line.is_empty()) {
            let (name, value) = line.split_once(':').ok_or(BadForm::Head)?;
            match name.trim().to_ascii_lowercase().as_str() {
                "content-disposition" => part.file_name = file_name(value),
                "content-transfer-encoding" => {
                    let encoding = value.trim().to_ascii_lowercase();
                    part.is_plain = matches!(encoding.as_str(), "binary" | "8bit" | "7bit");
                }
                _ => {}
            }
        }
        Ok(part)
    }
}

fn file_name(disposition: &str) -> Option<String> {
    let name = parameter(disposition, "filename")?;
    // As browsers write what would end the quotes or the line.
    let name = name.replace("%22", "\"").replace("%0D", "\r").replace("%0A", "\n");
    Some(name.rsplit(['/', '\\']).next().unwrap_or_default().to_owned())
}

/// The value of a parameter, in quotes or not.
fn parameter(text: &str, wanted: &str) -> Option<String> {
    let mut rest = text.split_once(';')?.1;
    loop {
        let (name, value) = rest.split_once('=')?;
        let (value, behind) = value_of(value.trim_start());
        if name.trim().eq_ignore_ascii_case(wanted) {
            return Some(value);
        }
        rest = behind.split_once(';')?.1;
    }
}

fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let (value, _) = text.split_once(';').unwrap_or((text, ""));
        return (value.trim().to_owned(), &text[value.len()..]);
    };
    let (mut value, mut is_escaped) = (String::new(), false);
    for (at, c) in quoted.char_indices() {
        match c {
            // Before anything else a backslash is one: older browsers send paths of Windows.
            '"' | '\\' if is_escaped => {
                value.pop();
                value.push(c);
            }
            '"' => return (value, &quoted[at + 1..]),
            c => value.push(c),
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    (value, "")
}

#[cfg(test)]
mod tests {
    use super::*;

    const TYPE: &str = "multipart/form-data; charset=utf-8; boundary=\"xYz\"";

    /// The events of a body that comes in pieces of this length, with contents joined.
    fn events(body: &[u8], piece: usize) -> Result<Vec<Event>, BadForm> {
        let mut form = Multipart::new(TYPE).unwrap();
        let mut events: Vec<Event> = Vec::new();
        for bytes in body.chunks(piece) {
            form.push(bytes);
            loop {
                match form.next_event()? {
                    Event::Starved => break,
                    Event::Over => {
                        events.push(Event::Over);
                        return Ok(events);
                    }
                    Event::Content(more) => match events.last_mut() {
                        Some(Event::Content(all)) => *all = [&all[..], &more[..]].concat().into(),
                        _ => events.push(Event::Content(more)),
                    },
                    event => events.push(event),
                }
                assert!(form.buffer.len() < body.len() + 3);
            }
        }
        Ok(events)
    }

    fn file(name: &str) -> Event {
        Event::Part(PartHead { file_name: Some(name.to_owned()), is_plain: true })
    }

    #[test]
    fn parts_come_out_however_they_come_in() {
        let body = b"--xYz\r\nContent-Disposition: form-data; name=\"f\"; filename=\"a.hl7\"\r\nContent-Type: text/plain\r\n\r\n\
            one\r\n--xY\r\n--xYz \r\ncontent-disposition:form-data;name=g\r\n\r\n\r\n--xYz--\r\nepilogue";
        for piece in 1..body.len() {
            let expected = [
                file("a.hl7"),
                Event::Content(Bytes::from_static(b"one\r\n--xY")),
                Event::PartOver,
                Event::Part(PartHead { file_name: None, is_plain: true }),
                Event::PartOver,
                Event::Over,
            ];
            assert_eq!(events(body, piece).unwrap(), expected, "{piece}");
        }
    }

    #[test]
    fn names_are_those_of_files_and_no_paths() {
        for (disposition, name) in [
            ("form-data; filename=\"a \\\"b\\\".txt\"", "a \"b\".txt"),
            ("form-data; filename=\"a%22b\"; name=\"x\"", "a\"b"),
            ("form-data; name=\"a;filename=b\"; filename=c", "c"),
            ("form-data; filename=\"C:\\\\dir\\\\a.txt\"", "a.txt"),
            ("form-data; filename=\"C:\\dir\\a.txt\"", "a.txt"),
            ("form-data; filename=\"../../etc/passwd\"", "passwd"),
        ] {
            assert_eq!(file_name(disposition).as_deref(), Some(name), "{disposition}");
        }
        assert_eq!(file_name("form-data; name=\"a\""), None);
    }

    #[test]
    fn what_is_no_form_is_refused_within_bounds() {
        assert_eq!(Multipart::new("multipart/form-data").unwrap_err(), BadForm::NoBoundary);
        assert_eq!(Multipart::new("multipart/form-data; boundary=").unwrap_err(), BadForm::NoBoundary);
        assert_eq!(events(&vec![b'x'; 100_000], 1000), Err(BadForm::Preamble));
        assert_eq!(events(&[b"--xYz\r\nA: ", &[b'x'; 100_000][..]].concat(), 1000), Err(BadForm::Head));
        assert_eq!(events(b"--xYzz\r\n\r\n", 100), Err(BadForm::Head));
        assert_eq!(events(b"--xYz-x", 100), Err(BadForm::Head));
        assert_eq!(events(b"--xYz\r\nno head\r\n\r\n", 100), Err(BadForm::Head));
        let cut = events(b"--xYz\r\nContent-Disposition: form-data; filename=a\r\n\r\nsome\r\n--xYz", 5).unwrap();
        assert!(!cut.contains(&Event::Over), "a form without its last boundary is not over");
    }
}
