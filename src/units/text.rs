//! Texts that others have written: compared whatever their letter case and form, and shown so that nothing in them
//! hides.

use std::fmt::Write as _;

use unicode_normalization::{IsNormalized, UnicodeNormalization, is_nfc_quick};

/// The form in which globs and what they are held against are compared: composed (NFC, Unicode Standard Annex 15), then
/// each character by its simple case folding (Unicode 3.13). One character stays one, so that `?` and `[…]` of a glob
/// mean what they say: `ß` is not `ss`.
#[must_use]
pub fn folded(text: &str) -> String {
    // Most names are: no table is looked at.
    if text.is_ascii() {
        return text.to_ascii_lowercase();
    }
    // "Maybe" is normalized too, to be sure.
    match is_nfc_quick(text.chars()) {
        IsNormalized::Yes => text.chars().map(fold).collect(),
        _ => text.nfc().map(fold).collect(),
    }
}

fn fold(c: char) -> char {
    // The dotless i is a letter of its own, though its capital is that of the other.
    if c == 'ı' {
        return c;
    }
    // By way of the capital, so that letters with several small forms (σ and ς) meet.
    let capital = only(c.to_uppercase()).unwrap_or(c);
    only(capital.to_lowercase()).unwrap_or(capital)
}

fn only(mut letters: impl Iterator<Item = char>) -> Option<char> {
    letters.next().filter(|_| letters.next().is_none())
}

/// Returns whether a character steers a terminal, or cannot be seen: control characters, those without a width, those
/// that turn the direction of writing, separators of lines and paragraphs, and tags.
#[must_use]
pub fn is_unseen(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}')
        || matches!(c, '\u{180b}'..='\u{180f}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}')
        || matches!(c, '\u{2060}'..='\u{206f}' | '\u{3164}' | '\u{feff}' | '\u{ffa0}' | '\u{fff9}'..='\u{fffb}')
        || matches!(c, '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e007f}')
}

/// The text with all that [`is_unseen`] escaped.
#[must_use]
pub fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        match is_unseen(c) {
            // Writing to a string cannot fail.
            true => _ = write!(shown, "\\u{{{:x}}}", u32::from(c)),
            false => shown.push(c),
        }
    }
    shown
}

/// JSON with all that [`is_unseen`] escaped as JSON has it: what a program reads is the same, and a person who reads it
/// is not misled. Structure is ASCII, so that such a character can only stand in a string.
#[must_use]
pub fn visible_json(json: &str) -> String {
    if json.is_ascii() {
        return json.to_owned();
    }
    let mut shown = String::with_capacity(json.len());
    for c in json.chars() {
        // ASCII control characters are escaped by JSON itself.
        match is_unseen(c) && !c.is_ascii() {
            // Writing to a string cannot fail.
            true => c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| _ = write!(shown, "\\u{unit:04x}")),
            false => shown.push(c),
        }
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_name_in_two_spellings_is_one() {
        for (one, other) in [
            ("GRÖSSE.HL7", "gro\u{308}sse.hl7"),
            ("Ångström", "A\u{30a}NGSTRO\u{308}M"),
            ("\u{212b}", "å"),
            ("\u{212a}", "K"),
            ("ΟΔΟΣ", "οδος"),
            ("οδος", "οδοσ"),
            ("ẞ", "ß"),
            ("ПАЦИЕНТ", "пациент"),
            ("ſ", "S"),
            ("µ", "Μ"),
            ("Ǆ", "ǅ"),
            ("Ꭰ", "ꭰ"),
        ] {
            assert_eq!(folded(one), folded(other), "{one} {other}");
        }
        for (one, other) in [("ß", "ss"), ("ı", "i"), ("İ", "i"), ("a", "á"), ("ﬁ", "fi"), ("1", "¹")] {
            assert_ne!(folded(one), folded(other), "{one} {other}");
        }
    }

    #[test]
    fn what_hides_is_shown() {
        assert_eq!(visible("a\x1b[2Jb\r\nc\u{202e}d\u{e0041}"), "a\\u{1b}[2Jb\\u{d}\\u{a}c\\u{202e}d\\u{e0041}");
        assert_eq!(visible("Grüße 文件.hl7"), "Grüße 文件.hl7");
        let hides = "a\u{202e}b\u{200b}\u{2028}\u{e0041}\u{7f}ü";
        let json = visible_json(&serde_json::to_string(hides).unwrap());
        assert_eq!(json, "\"a\\u202eb\\u200b\\u2028\\udb40\\udc41\u{7f}ü\"");
        assert_eq!(serde_json::from_str::<String>(&json).unwrap(), hides);
    }
}
