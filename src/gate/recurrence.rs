//! The repetition of a window: an RFC 5545 recurrence rule on the wall clock.
//!
//! The rule is expanded in floating time (labelled UTC, which has neither gaps nor folds) and only then read in the
//! window's zone. The start says from when on the rule holds; a start that does not fit the rule is no occurrence.
//!
//! Rules are bounded, so that no file can keep the gate busy: at most [`STARTS_A_DAY`] starts a day, nothing more
//! frequent than hourly, and [`COUNT`] occurrences when they are counted.

use chrono::{DateTime, NaiveDateTime, TimeDelta};
use chrono_tz::Tz;
use rrule::{RRule, RRuleSet, Unvalidated};

use super::wall;

/// The most starts that BYHOUR, BYMINUTE and BYSECOND may make of one day (or of one hour, under HOURLY: four).
pub(super) const STARTS_A_DAY: usize = 24;
/// The highest COUNT.
pub(super) const COUNT: u32 = 100_000;

const KEYS: [&str; 14] = [
    "FREQ",
    "UNTIL",
    "COUNT",
    "INTERVAL",
    "BYSECOND",
    "BYMINUTE",
    "BYHOUR",
    "BYDAY",
    "BYMONTHDAY",
    "BYYEARDAY",
    "BYWEEKNO",
    "BYMONTH",
    "BYSETPOS",
    "WKST",
];

/// A rule that is known to yield at least one occurrence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Recurrence {
    rule: RRule<Unvalidated>,
    start: NaiveDateTime,
    /// The period by which the start can be moved without changing the occurrences after it.
    step: Option<TimeDelta>,
}

impl Recurrence {
    /// Reads the value of an RRULE property, with or without its name.
    ///
    /// `UNTIL` may be an instant (`…Z`), a wall time, or a date, of which the whole day counts.
    pub(super) fn parse(text: &str, start: NaiveDateTime, zone: Tz) -> Result<Self, String> {
        // Checked by hand before the crate sees it: the crate takes some nonsense, and expands
        // without bounds.
        let parts = parts(text)?;
        let value = |key: &str| parts.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str());
        check_bounds(&value)?;
        // UNTIL is given to the crate in its own form; every other part goes as it was written.
        let mut canonical = Vec::new();
        for (name, value) in &parts {
            canonical.push(match name.as_str() {
                "UNTIL" => format!("UNTIL={}", until(value, zone)?.format("%Y%m%dT%H%M%SZ")),
                _ => format!("{name}={value}"),
            });
        }
        let rule: RRule<Unvalidated> = canonical.join(";").parse().map_err(|error| format!("{error}"))?;
        // Occurrences are counted from the start, so the start must stay where it is.
        let step = if parts.iter().any(|(name, _)| name == "COUNT") { None } else { step(&value) };
        let rule = Self { rule, start, step };
        // Built once now, so that a fault shows when the file is read and not when the window
        // comes.
        rule.build(start)?;
        // Such as the 31st of February: surely not what was meant.
        if rule.starts(start).next().is_none() {
            return Err("yields no occurrence at all".to_owned());
        }
        Ok(rule)
    }

    /// The occurrences' starts on the wall, in order, from some time not after `from`. Does not end by itself.
    pub(super) fn starts(&self, from: NaiveDateTime) -> impl Iterator<Item = NaiveDateTime> + use<> {
        // It was built once when it was read; a rule that does not build from a later start has ended (UNTIL).
        let set = self.build(self.near(from)).ok().map(RRuleSet::limit);
        set.map(|set| (&set).into_iter()).into_iter().flatten().map(|at| at.naive_utc())
    }

    fn build(&self, start: NaiveDateTime) -> Result<RRuleSet, String> {
        let start: DateTime<rrule::Tz> = start.and_utc().with_timezone(&rrule::Tz::UTC);
        self.rule.clone().build(start).map_err(|error| format!("{error}"))
    }

    /// A start from which the rule yields the same from `from` on, so that an old rule costs no more than a new one.
    fn near(&self, from: NaiveDateTime) -> NaiveDateTime {
        let Some(step) = self.step else { return self.start };
        // One step less: the occurrence before `from` may reach into it.
        let ahead = (from - self.start).num_seconds() / step.num_seconds() - 1;
        if ahead <= 0 { self.start } else { self.start + TimeDelta::seconds(step.num_seconds() * ahead) }
    }
}

/// The parts of a rule, keys in capitals, each known and there once.
/// Graphic ASCII alone: blanks and other signs are typing mistakes, and what is not ASCII is no
/// rule.
fn parts(text: &str) -> Result<Vec<(String, String)>, String> {
    if text.len() > 512 || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("is not a recurrence rule such as \"FREQ=MONTHLY;BYDAY=1SU\"".to_owned());
    }
    let mut parts: Vec<(String, String)> = Vec::new();
    for part in text.strip_prefix("RRULE:").unwrap_or(text).split(';') {
        let (name, value) = part.split_once('=').ok_or_else(|| format!("{part:?} is not KEY=VALUE"))?;
        // RFC 5545, 2: names and values are without regard to case.
        let (name, value) = (name.to_ascii_uppercase(), value.to_ascii_uppercase());
        if !KEYS.contains(&name.as_str()) {
            return Err(format!("{name} is not a part of a recurrence rule"));
        }
        if value.is_empty() || parts.iter().any(|(other, _)| *other == name) {
            return Err(format!("{name} is empty or there twice"));
        }
        parts.push((name, value));
    }
    Ok(parts)
}

/// Refuses rules that RFC 5545 allows but that have too many starts.
fn check_bounds<'a>(value: &impl Fn(&str) -> Option<&'a str>) -> Result<(), String> {
    let freq = value("FREQ").ok_or("FREQ is missing")?;
    // A part that is missing takes one value from the start.
    let listed = |key| value(key).map_or(1, |list| list.split(',').count());
    let starts = listed("BYHOUR") * listed("BYMINUTE") * listed("BYSECOND");
    match freq {
        "SECONDLY" | "MINUTELY" => return Err(format!("FREQ={freq} is more frequent than hourly")),
        "HOURLY" if listed("BYMINUTE") * listed("BYSECOND") > 4 => {
            return Err("starts more than 4 times an hour".to_owned());
        }
        _ if starts > STARTS_A_DAY => return Err(format!("starts more than {STARTS_A_DAY} times a day")),
        _ => {}
    }
    // Zero would repeat the same instant.
    if value("INTERVAL").is_some_and(|interval| interval.parse::<u16>().is_ok_and(|interval| interval == 0)) {
        return Err("INTERVAL is 0".to_owned());
    }
    if let Some(count) = value("COUNT") {
        // RFC 5545, 3.3.10: they must not occur in the same rule.
        if value("UNTIL").is_some() {
            return Err("has both COUNT and UNTIL".to_owned());
        }
        if !count.parse::<u32>().is_ok_and(|count| (1..=COUNT).contains(&count)) {
            return Err(format!("COUNT is not between 1 and {COUNT}"));
        }
    }
    for day in value("BYDAY").into_iter().flat_map(|days| days.split(',')) {
        check_day(day, freq)?;
    }
    Ok(())
}

/// The rrule crate takes what it cannot read before a day's name for "every".
fn check_day(day: &str, freq: &str) -> Result<(), String> {
    let wrong = || format!("BYDAY={day} is not a day such as SU, 1SU or -1SU");
    let split = day.len().checked_sub(2).ok_or_else(wrong)?;
    let (nth, name) = day.split_at(split);
    if !["MO", "TU", "WE", "TH", "FR", "SA", "SU"].contains(&name) {
        return Err(wrong());
    }
    if !nth.is_empty() {
        if !nth.parse::<i16>().is_ok_and(|nth| nth != 0) {
            return Err(wrong());
        }
        // RFC 5545, 3.3.10: a number before a weekday has no meaning elsewhere.
        if !["MONTHLY", "YEARLY"].contains(&freq) {
            return Err(format!("BYDAY={day} counts days, which only MONTHLY and YEARLY rules can"));
        }
    }
    Ok(())
}

/// The last start that may be, on the wall.
fn until(value: &str, zone: Tz) -> Result<NaiveDateTime, String> {
    let wrong = || format!("UNTIL={value} is not a time such as 20261231T235959 or a date");
    // A date: the whole day counts, whatever the time of the start is.
    if value.len() == 8 {
        let midnight = NaiveDateTime::parse_from_str(&format!("{value}T235959"), "%Y%m%dT%H%M%S");
        return midnight.map_err(|_| wrong());
    }
    // With `Z` an instant, which is turned into what the wall shows then; without, a reading of the
    // wall.
    let (digits, instant) = value.strip_suffix('Z').map_or((value, false), |digits| (digits, true));
    if digits.len() != 15 {
        return Err(wrong());
    }
    let at = NaiveDateTime::parse_from_str(digits, "%Y%m%dT%H%M%S").map_err(|_| wrong())?;
    Ok(if instant { wall::reading(zone, at.and_utc()) } else { at })
}

/// Rules by the hour, day and week repeat after a fixed time; those by the month and year do not.
fn step<'a>(value: &impl Fn(&str) -> Option<&'a str>) -> Option<TimeDelta> {
    let unit = match value("FREQ")? {
        "HOURLY" => TimeDelta::hours(1),
        "DAILY" => TimeDelta::days(1),
        "WEEKLY" => TimeDelta::weeks(1),
        _ => return None,
    };
    let interval: u16 = value("INTERVAL").map_or(Some(1), |interval| interval.parse().ok())?;
    Some(unit * i32::from(interval))
}

#[cfg(test)]
mod tests {
    use chrono_tz::America::Chicago;

    use super::*;

    fn starts(rule: &str, start: &str, from: &str, count: usize) -> Vec<String> {
        let rule = Recurrence::parse(rule, wall::parse(start).unwrap(), Chicago).unwrap();
        let from = wall::parse(from).unwrap();
        let text = |at: NaiveDateTime| at.format("%Y-%m-%d %H:%M").to_string();
        rule.starts(from).filter(|at| *at >= from).take(count).map(text).collect()
    }

    #[test]
    fn the_first_sunday_of_each_month() {
        assert_eq!(
            starts("FREQ=MONTHLY;BYDAY=1SU", "2026-05-03 02:00", "2026-05-01 00:00", 4),
            ["2026-05-03 02:00", "2026-06-07 02:00", "2026-07-05 02:00", "2026-08-02 02:00"]
        );
    }

    #[test]
    fn an_old_rule_yields_the_same_as_from_its_start() {
        for rule in [
            "FREQ=DAILY;INTERVAL=3",
            "FREQ=WEEKLY;INTERVAL=2;BYDAY=MO,FR",
            "FREQ=HOURLY;INTERVAL=7",
            "FREQ=DAILY;BYMONTH=2",
        ] {
            let start = wall::parse("2001-01-02 02:30").unwrap();
            let from = wall::parse("2026-03-01 00:00").unwrap();
            let rule = Recurrence::parse(rule, start, Chicago).unwrap();
            let slow: Vec<_> = rule.starts(start).skip_while(|at| *at < from).take(50).collect();
            let fast: Vec<_> = rule.starts(from).skip_while(|at| *at < from).take(50).collect();
            assert_eq!(slow, fast);
            assert!(rule.starts(from).take_while(|at| *at < from).count() < 100);
        }
    }

    #[test]
    fn until_is_floating_an_instant_or_a_whole_day() {
        let days =
            |until: &str| starts(&format!("FREQ=DAILY;UNTIL={until}"), "2026-05-01 20:00", "2026-05-01 00:00", 9).len();
        assert_eq!(days("20260503"), 3);
        assert_eq!(days("20260503T195959"), 2);
        assert_eq!(days("20260503T200000"), 3);
        // 20:00 in Chicago is 01:00 UTC of the next day.
        assert_eq!(days("20260503T200000Z"), 2);
        assert_eq!(days("20260504T010000Z"), 3);
    }

    #[test]
    fn rules_that_are_refused() {
        for rule in [
            "",
            "FREQ",
            "FREQ=NEVER",
            "FREQ=DAILY;FREQ=DAILY",
            "FREQ=DAILY;X=1",
            "FREQ=SECONDLY",
            "FREQ=MINUTELY",
            "FREQ=DAILY;COUNT=0",
            "FREQ=DAILY;COUNT=4294967295",
            "FREQ=DAILY;INTERVAL=0",
            "FREQ=DAILY;INTERVAL=99999",
            "FREQ=YEARLY;BYMONTH=2;BYMONTHDAY=30",
            "FREQ=DAILY;UNTIL=20200101",
            "FREQ=WEEKLY;BYDAY=1SU",
            "FREQ=MONTHLY;BYDAY=XSU",
            "FREQ=MONTHLY;BYDAY=0SU",
            "FREQ=DAILY;BYDAY=é",
            "FREQ=DAILY;COUNT=1;UNTIL=20270101",
            "FREQ=HOURLY;BYMINUTE=0,1,2,3,4",
            "FREQ=DAILY;BYHOUR=1,2,3,4,5,6;BYMINUTE=1,2,3,4,5",
            "FREQ=DAILY\nDTSTART:20200101T000000Z",
            "DTSTART:20200101T000000Z",
            "FREQ=MONTHLY;BYDAY=",
            "FREQ=HOURLY;BYMONTH=2;BYMONTHDAY=30",
        ] {
            let start = wall::parse("2026-05-03 02:00").unwrap();
            assert!(Recurrence::parse(rule, start, Chicago).is_err(), "{rule}");
        }
    }
}
