//! The first line of a unit, and its fields.

use super::{
    finder::ID_BYTES,
    split::{FS, Kind},
};

/// The sign that separates fields unless a header says otherwise.
const PIPE: u8 = b'|';
/// More encoding characters than HL7 has had in any version.
const MOST_SIGNS: usize = 8;
/// So many bytes from the id on tell whether a header stands there.
pub(super) const SHAPE_BYTES: usize = ID_BYTES + 1 + MOST_SIGNS + 1;

/// What a line start depends on besides its bytes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Surroundings {
    /// The separators of the file and the batch that are open.
    pub(super) open: [Option<u8>; 2],
    /// FS ends the line.
    pub(super) in_frame: bool,
}

/// The kind of unit that begins with these bytes, at the start of a line, if one does. Behind `bytes` the file ends, or at
/// least [`SHAPE_BYTES`] are there.
pub(super) fn kind(bytes: &[u8], around: Surroundings) -> Option<Kind> {
    // By the three letters first: few places in a file have them.
    let kind = match bytes.get(..ID_BYTES)? {
        b"MSH" => Kind::Message,
        b"FHS" => Kind::FileHeader,
        b"BHS" => Kind::BatchHeader,
        b"BTS" => Kind::BatchTrailer,
        b"FTS" => Kind::FileTrailer,
        _ => return None,
    };
    let rest = &bytes[ID_BYTES..];
    let stands = match kind {
        Kind::BatchTrailer | Kind::FileTrailer => ends_trailer_id(rest, around),
        _ => is_header(rest, around),
    };
    stands.then_some(kind)
}

fn ends_trailer_id(rest: &[u8], around: Surroundings) -> bool {
    rest.first().is_none_or(|next| *next == PIPE || around.ends_line(*next) || around.open.contains(&Some(*next)))
}

/// A separator other than `|` needs encoding characters behind it: prose such as "MSH:9" is no header.
fn is_header(rest: &[u8], around: Surroundings) -> bool {
    let Some((separator, rest)) = rest.split_first() else { return false };
    // By far the usual one, and no prose has "MSH|" at the start of a line.
    if *separator == PIPE {
        return true;
    }
    // A word such as "MSHA" begins with the letters too.
    if !separator.is_ascii_punctuation() {
        return false;
    }
    let is_sign = |byte: &&u8| byte.is_ascii_punctuation() && *byte != separator;
    // One more than there may be, to tell eight from nine.
    let signs = rest.iter().take(MOST_SIGNS + 1).take_while(is_sign).count();
    let ends = rest.get(signs).is_none_or(|next| next == separator || around.ends_line(*next));
    (1..=MOST_SIGNS).contains(&signs) && ends
}

impl Surroundings {
    fn ends_line(self, byte: u8) -> bool {
        matches!(byte, b'\r' | b'\n') || (self.in_frame && byte == FS)
    }
}

/// The first line of a header or trailer: `MSH|^~\&|…`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header<'a> {
    line: &'a [u8],
    separator: u8,
    is_trailer: bool,
}

impl<'a> Header<'a> {
    /// The line of a unit, from its id on and without its end.
    pub(super) fn new(kind: Kind, line: &'a [u8]) -> Self {
        // A trailer may be the id alone, and then has no fields.
        let separator = line.get(ID_BYTES).copied().unwrap_or(PIPE);
        Self { line, separator, is_trailer: matches!(kind, Kind::BatchTrailer | Kind::FileTrailer) }
    }

    /// The sign that separates fields.
    #[must_use]
    pub fn separator(&self) -> u8 {
        self.separator
    }

    /// The encoding characters of a header: field 2, as `^~\&`.
    #[must_use]
    pub fn encoding(&self) -> &'a [u8] {
        if self.is_trailer { &[] } else { self.raw(0) }
    }

    /// Field `number`, counted as HL7 does: the separator itself is a header's field 1. Empty when it is not there.
    #[must_use]
    pub fn field(&self, number: usize) -> &'a [u8] {
        match (self.is_trailer, number) {
            // A trailer has no encoding characters: its field 1 stands right behind the separator.
            (true, 1..) => self.raw(number - 1),
            (false, 1) => self.line.get(ID_BYTES..=ID_BYTES).unwrap_or_default(),
            // In a header the separator is field 1 and the encoding characters are field 2.
            (false, 2..) => self.raw(number - 2),
            _ => &[],
        }
    }

    /// The first component of a field.
    #[must_use]
    pub fn component(&self, number: usize) -> &'a [u8] {
        let field = self.field(number);
        // The first encoding character separates components (HL7 v2.5.1, 2.5.4).
        let Some(sign) = self.encoding().first() else { return field };
        field.split(|byte| byte == sign).next().unwrap_or_default()
    }

    /// The fields that a message must have and this header of one lacks: message type, control id, processing id and version
    /// (HL7 v2.5.1, 2.15.9).
    pub fn missing(&self) -> impl Iterator<Item = usize> {
        [9, 10, 11, 12].into_iter().filter(|field| self.component(*field).trim_ascii().is_empty())
    }

    /// What stands between separators, behind the first one.
    fn raw(&self, index: usize) -> &'a [u8] {
        let Some(fields) = self.line.get(ID_BYTES + 1..) else { return &[] };
        fields.split(|byte| *byte == self.separator).nth(index).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_is_told_from_prose() {
        let none = Surroundings::default();
        for (text, is) in [
            ("MSH|", true),
            ("MSH|^~\\&|A", true),
            ("MSH^~\\&#^A", true),
            ("MSH#~", true),
            ("MSH#~\r", true),
            ("MSH#~\\&@!$%*#", true),
            ("MSH#~\\&@!$%*+#", false),
            ("MSH:9", false),
            ("MSH", false),
            ("MSH##", false),
            ("MSH#a#", false),
            ("MSHA|", false),
            ("MSH ", false),
            ("MSH\u{e4}|", false),
        ] {
            assert_eq!(kind(text.as_bytes(), none), is.then_some(Kind::Message), "{text:?}");
        }
    }

    #[test]
    fn a_trailer_has_the_separator_of_an_open_envelope() {
        for (text, open, is) in [
            ("BTS|1", [None; 2], true),
            ("BTS", [None; 2], true),
            ("BTS\r", [None; 2], true),
            ("BTS#1", [None; 2], false),
            ("BTS#1", [Some(b'#'), None], true),
            ("BTS#1", [None, Some(b'#')], true),
            ("BTSX", [Some(b'#'), None], false),
        ] {
            let around = Surroundings { open, in_frame: false };
            assert_eq!(kind(text.as_bytes(), around), is.then_some(Kind::BatchTrailer), "{text:?}");
        }
    }

    #[test]
    fn fields_have_the_numbers_of_the_standard() {
        let header = Header::new(Kind::Message, b"MSH|^~\\&|APP|FAC^1|||2026||VXU^V04|M1|P|2.5.1");
        assert_eq!((header.separator(), header.encoding()), (b'|', b"^~\\&".as_slice()));
        assert_eq!((header.field(1), header.field(3)), (b"|".as_slice(), b"APP".as_slice()));
        assert_eq!((header.field(9), header.component(9)), (b"VXU^V04".as_slice(), b"VXU".as_slice()));
        assert_eq!(
            (header.field(10), header.field(12), header.field(13)),
            (b"M1".as_slice(), b"2.5.1".as_slice(), b"".as_slice())
        );
        let trailer = Header::new(Kind::BatchTrailer, b"BTS|12|done");
        assert_eq!(
            (trailer.field(1), trailer.field(2), trailer.field(0)),
            (b"12".as_slice(), b"done".as_slice(), b"".as_slice())
        );
        assert_eq!(Header::new(Kind::FileTrailer, b"FTS").field(1), b"");
    }
}
