//! Texts that are kept are cut to a length.

/// The end of a text, at most `most` bytes of it.
pub(super) fn end_of(text: String, most: usize) -> String {
    if text.len() <= most {
        return text;
    }
    let start = (text.len() - most..).find(|at| text.is_char_boundary(*at)).unwrap_or(text.len());
    text[start..].to_owned()
}

/// The beginning of a text, at most `most` bytes of it.
pub(super) fn start_of(mut text: String, most: usize) -> String {
    if text.len() > most {
        let end = (0..=most).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
    text
}
