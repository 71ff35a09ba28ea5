//! The schedule: windows as written in `maintenance.toml`, read with every fault and its line.
//!
//! The file is written by people, and perhaps by another program's mistake. So reading goes on
//! after a fault and lists up to a hundred; but a file with one fault has no windows at all. What
//! one file can cost is bounded: its size, the windows that repeat, and their occurrences in a
//! year. Pure: no file is opened here (`source` does), and no clock is asked.

use std::{sync::Arc, time::Duration};

use chrono::{NaiveDateTime, TimeDelta};
use chrono_tz::Tz;
use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    Fault,
    recurrence::Recurrence,
    timeline::{self, Timeline},
    wall,
    window::{Length, Window},
    zone,
};
use crate::units::{parse_duration, text_file::with_plain_line_ends};

/// The largest schedule file that is read.
pub const FILE_BYTES: u64 = 1 << 20;
/// The most windows that may repeat.
pub const REPEATING: usize = 1_000;
/// The most faults that are listed.
const FAULTS: usize = 100;
/// The message of a window or an override that has none of its own: what those are told who are refused.
pub const MESSAGE: &str = "Service Unavailable. The server is temporarily unable to service your request due to maintenance \
    downtime or capacity problems. Please try again later.";

/// All windows, in the order of the file.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The zone in which times are shown.
    pub zone: Tz,
    /// The windows.
    pub windows: Vec<Arc<Window>>,
    /// The time before a start at which claiming stops. Not in the file: it comes from [`super::Options`].
    pub drain: Duration,
}

impl Schedule {
    /// A schedule without any window.
    #[must_use]
    pub fn empty(zone: Tz) -> Self {
        Self { zone, windows: Vec::new(), drain: Duration::ZERO }
    }

    /// The same with the windows of another beside its own: closed when either is.
    ///
    /// Equal windows are one. Used while a changed file has not stood still: see `source`.
    #[must_use]
    pub(super) fn joined(&self, others: &[Arc<Window>]) -> Self {
        let mut joined = self.clone();
        for other in others {
            if !joined.windows.contains(other) {
                joined.windows.push(Arc::clone(other));
            }
        }
        joined
    }

    /// The names that windows close by name, sorted, each once.
    pub(super) fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self.windows.iter().flat_map(|window| window.routes.iter().cloned()).collect();
        names.sort_unstable();
        names.dedup();
        names
    }
}

/// Reads a schedule.
///
/// `drain` of the result is zero; the live gate sets it.
///
/// # Errors
/// Every fault with its line and key (the first hundred). Also when there is no time zone, or nothing at all.
pub fn parse_schedule(text: &str) -> Result<Schedule, Vec<Fault>> {
    let mut reader = Reader { starts: line_starts(text), faults: Vec::new() };
    let schedule = reader.schedule(text);
    match schedule {
        Some(schedule) if reader.faults.is_empty() => Ok(schedule),
        _ => Err(reader.sorted()),
    }
}

/// A fault of the file as a whole.
pub(super) fn whole(message: impl Into<String>) -> Vec<Fault> {
    vec![Fault { file: FILE.to_owned(), line: 1, column: None, key: String::new(), message: message.into() }]
}

const FILE: &str = "maintenance.toml";

type Table<'a> = DeTable<'a>;
type Value<'a> = Spanned<DeValue<'a>>;

/// Reads one text. Faults are collected, and each function returns `None` after it has noted one.
struct Reader {
    /// The byte at which each line begins.
    starts: Vec<usize>,
    faults: Vec<Fault>,
}

fn line_starts(text: &str) -> Vec<usize> {
    std::iter::once(0)
        .chain(text.bytes().enumerate().filter(|(_, byte)| *byte == b'\n').map(|(at, _)| at + 1))
        .collect()
}

impl Reader {
    fn schedule(&mut self, text: &str) -> Option<Schedule> {
        if text.len() as u64 > FILE_BYTES {
            self.fault(0, "", format!("the file is larger than {FILE_BYTES} bytes"));
            return None;
        }
        if text.trim().is_empty() {
            self.fault(0, "", "the file is empty");
            return None;
        }
        // Goes on after a fault of syntax, so that all of them are listed.
        let (document, errors) = DeTable::parse_recoverable(text);
        for error in &errors {
            let at = error.span().map_or(text.len(), |span| span.start);
            self.fault_at_column(at, error.message());
        }
        // No keys are looked at then: what the parser made up in place of a fault would only
        // confuse.
        if !errors.is_empty() {
            return None;
        }
        self.document(document.get_ref())
    }

    /// The document as a whole: its zone and its windows.
    fn document(&mut self, document: &Table<'_>) -> Option<Schedule> {
        self.unknown(document, "", &["timezone", "window"]);
        let zone = self.zone(document);
        let mut windows = Vec::new();
        let mut repeating = 0;
        if let Some(list) = document.get("window") {
            let at = list.span().start;
            let Some(items) = list.get_ref().as_array() else {
                self.fault(at, "window", "is not a list: write [[window]]");
                return None;
            };
            for (number, item) in items.iter().enumerate() {
                let key = format!("window[{number}]");
                let Some(table) = item.get_ref().as_table() else {
                    self.fault(item.span().start, &key, "is not a table: write [[window]]");
                    continue;
                };
                // The zone is wanted by the rest of the faults too, so an unknown one does not end the reading.
                let window = self.window(table, item.span().start, &key, zone.unwrap_or(Tz::UTC), &mut repeating);
                windows.extend(window.map(Arc::new));
            }
        }
        let schedule = Schedule { zone: zone?, windows, drain: Duration::ZERO };
        // Last, for it walks the occurrences: only of windows that are sound by themselves.
        self.density(&schedule);
        Some(schedule)
    }

    fn zone(&mut self, document: &Table<'_>) -> Option<Tz> {
        let Some(value) = document.get("timezone") else {
            self.fault(0, "timezone", "is missing");
            return None;
        };
        let name = self.text(value, "timezone")?;
        let zone = name.parse().ok();
        if zone.is_none() {
            let meant = zone::meant(&name).map_or(String::new(), |zone| format!("; \"{zone}\" is probably meant"));
            let what = format!("{name:?} is not a zone such as \"America/Chicago\"{meant}");
            self.fault(value.span().start, "timezone", what);
        }
        zone
    }

    /// A window: texts, routes, start, length and repetition. Reading goes on after most faults, so
    /// that one run lists them all.
    fn window(&mut self, table: &Table<'_>, at: usize, key: &str, zone: Tz, repeating: &mut usize) -> Option<Window> {
        self.unknown(table, key, &["name", "start", "end", "duration", "repeat", "reason", "message", "routes"]);
        let name = self.line(table, key, "name").unwrap_or_else(|| "Maintenance".to_owned());
        let reason = self.line(table, key, "reason").unwrap_or_default();
        let message = self.words(table, key, "message", true).unwrap_or_else(|| MESSAGE.to_owned());
        let routes = self.routes(table, key);
        let start = match table.get("start") {
            Some(value) => self.time(value, &format!("{key}.start")),
            None => {
                self.fault(at, &format!("{key}.start"), "is missing");
                None
            }
        };
        let length = self.length(table, at, key, start);
        // Only now: the faults of `length` are listed also for a window without a start.
        let start = start?;
        let repeat = match table.get("repeat") {
            None => None,
            Some(value) => {
                *repeating += 1;
                Some(self.repeat(value, &format!("{key}.repeat"), start, zone, *repeating)?)
            }
        };
        let window = Window { name, reason, message, routes: routes?, zone, start, length: length?, repeat };
        let longest = TimeDelta::days(366);
        let (Length::Wall(long) | Length::Elapsed(long)) = window.length;
        if window.repeat.is_some() && long > longest {
            self.fault(at, key, "repeats and is longer than a year");
        }
        Some(window)
    }

    fn repeat(
        &mut self,
        value: &Value<'_>,
        key: &str,
        start: NaiveDateTime,
        zone: Tz,
        nth: usize,
    ) -> Option<Recurrence> {
        let text = self.text(value, key)?;
        // Bounds the work that a hostile file can make: a rule that yields nothing takes longest to find out.
        if nth > REPEATING || self.faults.len() >= FAULTS {
            self.fault(value.span().start, key, format!("is one of more than {REPEATING} windows that repeat"));
            return None;
        }
        let rule = Recurrence::parse(&text, start, zone);
        rule.map_err(|message| self.fault(value.span().start, key, message)).ok()
    }

    /// The length, from `end` (times on the wall) or `duration` (time that passes); exactly one of
    /// both.
    fn length(&mut self, table: &Table<'_>, at: usize, key: &str, start: Option<NaiveDateTime>) -> Option<Length> {
        match (table.get("end"), table.get("duration")) {
            (None, None) => self.refuse(at, key, "has neither end nor duration"),
            (Some(_), Some(value)) => self.refuse(value.span().start, &format!("{key}.duration"), "stands beside end"),
            (Some(value), None) => {
                let key = format!("{key}.end");
                let end = self.time(value, &key)?;
                match end - start? {
                    long if long > TimeDelta::zero() => Some(Length::Wall(long)),
                    long if long < TimeDelta::zero() => self.refuse(value.span().start, &key, "is before its start"),
                    _ => self.refuse(value.span().start, &key, "is its start"),
                }
            }
            (None, Some(value)) => {
                let key = format!("{key}.duration");
                let text = self.text(value, &key)?;
                match parse_duration(&text) {
                    Err(error) => self.refuse(value.span().start, &key, &error.to_string()),
                    Ok(long) if long.subsec_nanos() > 0 => {
                        self.refuse(value.span().start, &key, "is not in whole seconds")
                    }
                    Ok(long) if long.is_zero() => self.refuse(value.span().start, &key, "is no time at all"),
                    Ok(long) if long.as_secs() > 366 * 86_400 => {
                        self.refuse(value.span().start, &key, "is longer than a year")
                    }
                    Ok(long) => TimeDelta::from_std(long).ok().map(Length::Elapsed),
                }
            }
        }
    }

    /// The names of routes; none for a window that closes everything.
    fn routes(&mut self, table: &Table<'_>, key: &str) -> Option<Vec<String>> {
        let Some(value) = table.get("routes") else { return Some(Vec::new()) };
        let key = format!("{key}.routes");
        let Some(items) = value.get_ref().as_array() else {
            return self.refuse(value.span().start, &key, "is not a list of names");
        };
        if items.is_empty() {
            return self.refuse(value.span().start, &key, "names no route (left out, everything is closed)");
        }
        let mut names = Vec::new();
        for (number, item) in items.iter().enumerate() {
            let key = format!("{key}[{number}]");
            let name = self.text(item, &key)?;
            if name.is_empty() || name.chars().count() > 200 || name.chars().any(char::is_control) {
                return self.refuse(item.span().start, &key, "is not a route's name");
            }
            if !names.contains(&name) {
                names.push(name);
            }
        }
        Some(names)
    }

    /// A time on the wall, without a zone: the window's zone says what it means.
    fn time(&mut self, value: &Value<'_>, key: &str) -> Option<NaiveDateTime> {
        let text = match value.get_ref() {
            // TOML's own local date-times mean the same and need no quotes.
            DeValue::Datetime(time) if time.offset.is_none() => time.to_string().replace('T', " "),
            _ => self.text(value, key)?,
        };
        wall::parse(&text).map_err(|message| self.fault(value.span().start, key, message)).ok()
    }

    fn line(&mut self, table: &Table<'_>, key: &str, name: &str) -> Option<String> {
        self.words(table, key, name, false)
    }

    /// A text for people; with `lines` it may have several. `None` also for an empty one.
    fn words(&mut self, table: &Table<'_>, key: &str, name: &str, lines: bool) -> Option<String> {
        let value = table.get(name)?;
        let key = format!("{key}.{name}");
        let text = self.text(value, &key)?;
        // TOML leaves a file's line ends as they are, and on Windows they are others.
        let text = with_plain_line_ends(text.trim());
        if text.chars().any(|c| c.is_control() && !(lines && c == '\n')) {
            return self.refuse(value.span().start, &key, "contains control characters");
        }
        if text.chars().count() > 2_000 {
            return self.refuse(value.span().start, &key, "is longer than 2000 characters");
        }
        Some(text).filter(|text| !text.is_empty())
    }

    fn text(&mut self, value: &Value<'_>, key: &str) -> Option<String> {
        match value.get_ref().as_str() {
            Some(text) => Some(text.to_owned()),
            None => self.refuse(value.span().start, key, "is not a text in quotes"),
        }
    }

    /// Notes each key that is not known here: a misspelt `routs` would otherwise close everything.
    fn unknown(&mut self, table: &Table<'_>, under: &str, known: &[&str]) {
        for key in table.keys() {
            if !known.contains(&key.get_ref().as_ref()) {
                let path =
                    if under.is_empty() { key.get_ref().to_string() } else { format!("{under}.{}", key.get_ref()) };
                self.fault(key.span().start, &path, format!("is not a key here ({})", known.join(", ")));
            }
        }
    }

    /// A year of all rules together must stay small enough to hold and to walk.
    fn density(&mut self, schedule: &Schedule) {
        let mut left = timeline::OCCURRENCES;
        for (number, window) in schedule.windows.iter().enumerate().filter(|(_, window)| window.repeat.is_some()) {
            left = left.saturating_sub(Timeline::density(window, left + 1));
            if left == 0 {
                let message = format!("the windows repeat more than {} times a year together", timeline::OCCURRENCES);
                return self.fault(0, &format!("window[{number}].repeat"), message);
            }
        }
    }

    fn refuse<T>(&mut self, at: usize, key: &str, message: &str) -> Option<T> {
        self.fault(at, key, message);
        None
    }

    /// Notes a fault at a byte of the text, as the line that has it.
    fn fault(&mut self, at: usize, key: &str, message: impl Into<String>) {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let (file, key, message) = (FILE.to_owned(), key.to_owned(), message.into());
        self.push(Fault { file, line, column: None, key, message });
    }

    fn fault_at_column(&mut self, at: usize, message: &str) {
        let line = self.starts.partition_point(|start| *start <= at).max(1);
        let column = Some(at - self.starts[line - 1] + 1);
        let message = message.replace('\n', " ");
        self.push(Fault { file: FILE.to_owned(), line, column, key: String::new(), message });
    }

    /// Notes a fault, unless there are a hundred: then nobody reads more.
    fn push(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS {
            self.faults.push(fault);
        }
    }

    fn sorted(mut self) -> Vec<Fault> {
        self.faults.sort_by_key(|fault| fault.line);
        self.faults
    }
}
