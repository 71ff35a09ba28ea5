//! How far long work is, for people: a bar on a terminal, else a line now and then.
//!
//! On standard error, so that the output can be piped. With `--json` nothing is shown.

use std::{
    io::{self, IsTerminal as _, Read, Write as _},
    sync::Arc,
    time::Duration,
};

use indicatif::{ProgressBar, ProgressStyle};
use parking_lot::Mutex;

use crate::{clock::Clock, units};

/// The interval between two lines.
const INTERVAL: Duration = Duration::from_secs(5);

/// Tells how far work is. Nothing is told of work that is soon over.
pub(super) struct Progress {
    clock: Arc<dyn Clock>,
    shown: Shown,
    part: Mutex<Part>,
}

enum Shown {
    Bar(ProgressBar),
    Lines,
    Nothing,
}

/// The part of the work that is done now.
#[derive(Default)]
struct Part {
    what: String,
    began: Duration,
    told: Duration,
}

impl Progress {
    /// Tells on standard error, unless `quiet`.
    pub(super) fn new(clock: &Arc<dyn Clock>, quiet: bool) -> Self {
        let shown = match (quiet, std::io::stderr().is_terminal()) {
            (true, _) => Shown::Nothing,
            (false, true) => Shown::Bar(bar()),
            (false, false) => Shown::Lines,
        };
        Self { clock: Arc::clone(clock), shown, part: Mutex::default() }
    }

    /// So much of this part is done.
    pub(super) fn at(&self, what: &str, done: u64, total: u64) {
        match &self.shown {
            Shown::Bar(bar) => {
                if bar.message() != what {
                    bar.set_message(what.to_owned());
                    bar.reset();
                }
                bar.set_length(total);
                bar.set_position(done);
            }
            Shown::Lines => {
                if let Some(line) = self.part.lock().line(self.clock.elapsed(), what, done, total) {
                    // Whoever read it may be gone.
                    let _ = writeln!(std::io::stderr(), "{line}");
                }
            }
            Shown::Nothing => {}
        }
    }

    /// Tells how far the reading of this part is.
    pub(super) fn reading<R: Read>(&self, what: &'static str, total: u64, reader: R) -> impl Read {
        Counted { progress: self, what, done: 0, total, reader }
    }

    /// It is over: a bar goes.
    pub(super) fn end(&self) {
        if let Shown::Bar(bar) = &self.shown {
            bar.finish_and_clear();
        }
    }
}

/// A reader that tells how far it is.
struct Counted<'a, R> {
    progress: &'a Progress,
    what: &'static str,
    done: u64,
    total: u64,
    reader: R,
}

impl<R: Read> Read for Counted<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.reader.read(buffer)?;
        self.done += read as u64;
        // A file that grows meanwhile is longer than it was.
        self.progress.at(self.what, self.done, self.total.max(self.done));
        Ok(read)
    }
}

impl Part {
    /// The line to be told now, if it is time for one.
    fn line(&mut self, now: Duration, what: &str, done: u64, total: u64) -> Option<String> {
        if self.what != what {
            // Also sets back the time of the last line: each part is silent for the first interval.
            *self = Self { what: what.to_owned(), began: now, told: now };
        }
        if now.saturating_sub(self.told) < INTERVAL {
            return None;
        }
        self.told = now;
        Some(format!("{what}: {}", units::format_progress(now.saturating_sub(self.began), done, total)))
    }
}

fn bar() -> ProgressBar {
    let bar = ProgressBar::new(0);
    if let Ok(style) = ProgressStyle::with_template("{msg:>8} {bar:40} {percent:>3} % {eta} left") {
        bar.set_style(style);
    }
    bar
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_through_it_is_unchanged() {
        let clock: Arc<dyn Clock> = Arc::new(crate::clock::SystemClock::new());
        let mut read = Vec::new();
        Progress::new(&clock, true).reading("bytes", 3, &b"abcdef"[..]).read_to_end(&mut read).unwrap();
        assert_eq!(read, b"abcdef");
    }

    #[test]
    fn a_line_comes_now_and_then_and_tells_what_is_left_of_each_part() {
        let mut part = Part::default();
        let at = Duration::from_secs;
        assert_eq!(part.line(at(100), "journal", 0, 1_000), None);
        assert_eq!(part.line(at(104), "journal", 400, 1_000), None);
        assert_eq!(part.line(at(105), "journal", 250, 1_000).as_deref(), Some("journal: 25 %, about 15s left"));
        assert_eq!(part.line(at(106), "journal", 300, 1_000), None);
        assert_eq!(part.line(at(107), "files", 0, 10), None);
        assert_eq!(part.line(at(117), "files", 1, 10).as_deref(), Some("files: 10 %, about 1m 30s left"));
        assert_eq!(part.line(at(127), "files", 0, 0).as_deref(), Some("files: 0 %"));
    }
}
