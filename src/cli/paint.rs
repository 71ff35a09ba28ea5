//! Colours on a terminal, and names that cannot play tricks on it.

use std::{fmt::Write as _, io::IsTerminal};

use anstyle::{AnsiColor, Style};

/// The colouring of standard output, if any.
#[derive(Clone, Copy, Debug)]
pub(super) struct Paint {
    colour: bool,
}

/// The meaning of a piece of text; its colour follows from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tone {
    /// As it is.
    Plain,
    /// All is well.
    Good,
    /// Waits or deserves a look.
    Warm,
    /// Needs someone.
    Bad,
    /// Less important.
    Faint,
    /// More important.
    Strong,
}

impl Paint {
    /// Coloured when standard output is a terminal and `NO_COLOR` is not set (no-color.org).
    #[must_use]
    pub(super) fn detect() -> Self {
        let refused = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
        Self { colour: std::io::stdout().is_terminal() && !refused }
    }

    /// Never coloured.
    #[must_use]
    pub(super) fn none() -> Self {
        Self { colour: false }
    }

    /// The text in its tone.
    #[must_use]
    pub(super) fn tone(self, tone: Tone, text: &str) -> String {
        if !self.colour || tone == Tone::Plain {
            return text.to_owned();
        }
        let style = match tone {
            Tone::Plain => Style::new(),
            Tone::Good => Style::new().fg_color(Some(AnsiColor::Green.into())),
            Tone::Warm => Style::new().fg_color(Some(AnsiColor::Yellow.into())),
            Tone::Bad => Style::new().fg_color(Some(AnsiColor::Red.into())),
            Tone::Faint => Style::new().dimmed(),
            Tone::Strong => Style::new().bold(),
        };
        format!("{style}{text}{style:#}")
    }
}

/// The text with everything escaped that would steer a terminal or hide itself: control characters, and those that
/// turn the direction of writing.
#[must_use]
pub(super) fn visible(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        let hidden =
            matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}');
        if c.is_control() || hidden {
            // Writing to a string cannot fail.
            let _ = write!(shown, "\\u{{{:x}}}", u32::from(c));
        } else {
            shown.push(c);
        }
    }
    shown
}

/// As [`visible`], for text of several lines: line ends and tabs stay.
#[must_use]
pub(super) fn visible_lines(text: &str) -> String {
    text.lines().map(|line| visible(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_cannot_steer_the_terminal() {
        assert_eq!(visible("a\x1b[2Jb\r\nc\u{202e}d"), "a\\u{1b}[2Jb\\u{d}\\u{a}c\\u{202e}d");
        assert_eq!(visible("Grüße 文件.hl7"), "Grüße 文件.hl7");
    }

    #[test]
    fn nothing_is_coloured_when_it_is_off() {
        assert_eq!(Paint::none().tone(Tone::Bad, "x"), "x");
        assert_ne!(Paint { colour: true }.tone(Tone::Bad, "x"), "x");
    }
}
