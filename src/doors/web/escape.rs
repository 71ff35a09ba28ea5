//! Text that others wrote, made harmless for HTML and XML.

use std::fmt::{self, Write};

use askama::filters::Escaper;

/// What templates of pages write text with.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Markup;

impl Escaper for Markup {
    fn write_escaped_str<W: Write>(&self, mut dest: W, text: &str) -> fmt::Result {
        write!(dest, "{}", Escaped(text))
    }
}

/// Writes text for HTML and XML, in elements and in quoted attributes. What XML 1.0 cannot hold becomes U+FFFD.
pub(super) struct Escaped<'a>(pub(super) &'a str);

impl fmt::Display for Escaped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for c in self.0.chars() {
            match c {
                '&' => f.write_str("&amp;")?,
                '<' => f.write_str("&lt;")?,
                '>' => f.write_str("&gt;")?,
                '"' => f.write_str("&quot;")?,
                '\'' => f.write_str("&#39;")?,
                '\t' | '\n' => f.write_char(c)?,
                // A bare one would be read as a line end.
                '\r' => f.write_str("&#13;")?,
                '\u{fffe}' | '\u{ffff}' => f.write_char('\u{fffd}')?,
                c if c.is_control() => f.write_char('\u{fffd}')?,
                // They turn the order of the letters around what follows.
                '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => f.write_char('\u{fffd}')?,
                c => f.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out() {
        for (text, written) in [
            ("a < b & c", "a &lt; b &amp; c"),
            ("</p><script>alert('x')</script>", "&lt;/p&gt;&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt;"),
            ("\" onload=\"x", "&quot; onload=&quot;x"),
            ("]]>", "]]&gt;"),
            ("a\0b\u{1b}[2J\u{ffff}\u{85}", "a\u{fffd}b\u{fffd}[2J\u{fffd}\u{fffd}"),
            ("one\r\ntwo", "one&#13;\ntwo"),
            ("\u{202e}gnp.exe", "\u{fffd}gnp.exe"),
            ("F\u{fc}r Sie \u{2713}", "F\u{fc}r Sie \u{2713}"),
        ] {
            assert_eq!(Escaped(text).to_string(), written);
        }
    }
}
