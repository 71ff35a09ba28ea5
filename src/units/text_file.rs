//! Text that people bring, from whatever editor or system it comes.

/// Why bytes are no text.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotText {
    /// They are in no encoding that tells what it is.
    #[error("it is not UTF-8: save it as UTF-8")]
    NotUtf8,
    /// They begin as UTF-16 does, and do not go on so.
    #[error("it begins as UTF-16 and is none: save it as UTF-8")]
    NotUtf16,
}

/// The text of a file: UTF-8 with or without a byte order mark, or UTF-16 with one, as editors on Windows write it.
///
/// # Errors
/// When it is neither.
pub fn decode(bytes: Vec<u8>) -> Result<String, NotText> {
    match bytes.as_slice() {
        [0xef, 0xbb, 0xbf, text @ ..] => String::from_utf8(text.to_vec()).map_err(|_| NotText::NotUtf8),
        [0xff, 0xfe, text @ ..] => decode_utf16(text, u16::from_le_bytes),
        [0xfe, 0xff, text @ ..] => decode_utf16(text, u16::from_be_bytes),
        _ => String::from_utf8(bytes).map_err(|_| NotText::NotUtf8),
    }
}

fn decode_utf16(bytes: &[u8], unit: fn([u8; 2]) -> u16) -> Result<String, NotText> {
    // An odd length is no UTF-16, whatever it begins with.
    let (pairs, rest) = bytes.as_chunks::<2>();
    if !rest.is_empty() {
        return Err(NotText::NotUtf16);
    }
    let units: Vec<_> = pairs.iter().map(|pair| unit(*pair)).collect();
    String::from_utf16(&units).map_err(|_| NotText::NotUtf16)
}

/// The same text with lines that end as they do here, wherever it was written.
#[must_use]
pub fn with_plain_line_ends(text: &str) -> String {
    text.replace("\r\n", "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_editors_write_is_read() {
        let utf16 = |mark: [u8; 2], unit: fn(u16) -> [u8; 2]| {
            mark.into_iter().chain("Zürich\r\n".encode_utf16().flat_map(unit)).collect::<Vec<u8>>()
        };
        for bytes in [
            "Zürich\r\n".as_bytes().to_vec(),
            "\u{feff}Zürich\r\n".as_bytes().to_vec(),
            utf16([0xff, 0xfe], u16::to_le_bytes),
            utf16([0xfe, 0xff], u16::to_be_bytes),
        ] {
            let text = decode(bytes).unwrap();
            assert_eq!(with_plain_line_ends(&text), "Zürich\n");
        }
        assert_eq!(decode(Vec::new()).unwrap(), "");
    }

    #[test]
    fn what_is_no_text_is_told() {
        assert_eq!(decode(vec![b'a', 0xfc]), Err(NotText::NotUtf8));
        assert_eq!(decode(vec![0xff, 0xfe, b'a']), Err(NotText::NotUtf16));
        assert_eq!(decode(vec![0xff, 0xfe, 0x00, 0xd8]), Err(NotText::NotUtf16));
    }
}
