//! Colours on a terminal, and names that cannot play tricks on it.
//!
//! Whatever did not come from this program's own text goes through [`visible`]: control characters,
//! escapes and marks that turn the direction of writing are shown as escapes.

use std::io::IsTerminal;

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

pub(super) use crate::units::text::visible;

/// As [`visible`], for text of several lines: line ends and tabs stay.
/// For the output of processors and for problems that list several faults.
#[must_use]
pub(super) fn visible_lines(text: &str) -> String {
    text.lines().map(|line| visible(&line.replace('\t', "    "))).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_coloured_when_it_is_off() {
        assert_eq!(Paint::none().tone(Tone::Bad, "x"), "x");
        assert_ne!(Paint { colour: true }.tone(Tone::Bad, "x"), "x");
    }
}
