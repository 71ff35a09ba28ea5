//! Instants as operators write and read them, in the schedule's zone.
//!
//! Nothing here reads the machine's zone or clock: both are passed in, so that the command line
//! shows a server's times the way the server's schedule means them, from wherever it runs.

use chrono::{DateTime, MappedLocalTime, NaiveDate, NaiveDateTime, NaiveTime, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

use crate::units;

/// Which way a duration counts from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// "2h" is two hours ago.
    Ago,
    /// "2h" is in two hours.
    Ahead,
}

/// Reads RFC 3339, `YYYY-MM-DD[ HH:MM[:SS]]` or `HH:MM` (today) local to `zone`, `now`, or a duration.
///
/// A local time that comes twice (the end of summer time) is the earlier one looking back, the later one looking
/// ahead; one that is skipped is moved on by the gap.
/// Nothing is guessed: what fits no form is refused, with all forms in the sentence.
///
/// # Errors
/// A sentence that says what can be written.
pub fn parse(text: &str, zone: Tz, now: DateTime<Utc>, direction: Direction) -> Result<DateTime<Utc>, String> {
    let text = text.trim();
    if text == "now" {
        return Ok(now);
    }
    if let Ok(at) = DateTime::parse_from_rfc3339(text) {
        return Ok(at.to_utc());
    }
    if let Some(local) = parse_local(text, zone, now) {
        return Ok(resolve(local, zone, direction));
    }
    if let Ok(duration) = units::parse_duration(text) {
        let by = TimeDelta::from_std(duration).map_err(|_| format!("\"{text}\" is too long"))?;
        let at = match direction {
            Direction::Ago => now.checked_sub_signed(by),
            Direction::Ahead => now.checked_add_signed(by),
        };
        return at.ok_or_else(|| format!("\"{text}\" is too long"));
    }
    Err(format!(
        "\"{text}\" is no time; write 2026-04-24T19:00:00-05:00, \"2026-04-24 19:00\" (local to {zone}), 2026-04-24, 19:00, or a duration such as 2h"
    ))
}

/// With a space or a `T` between day and time; a day alone is its midnight, a time alone is
/// today's, "today" by `zone`.
fn parse_local(text: &str, zone: Tz, now: DateTime<Utc>) -> Option<NaiveDateTime> {
    let spaced = text.replacen('T', " ", 1);
    for format in ["%Y-%m-%d %H:%M:%S", "%Y-%m-%d %H:%M"] {
        if let Ok(local) = NaiveDateTime::parse_from_str(&spaced, format) {
            return Some(local);
        }
    }
    if let Ok(day) = NaiveDate::parse_from_str(text, "%Y-%m-%d") {
        return Some(day.and_time(NaiveTime::MIN));
    }
    ["%H:%M:%S", "%H:%M"]
        .iter()
        .find_map(|format| NaiveTime::parse_from_str(text, format).ok())
        .map(|time| now.with_timezone(&zone).date_naive().and_time(time))
}

/// By the direction: looking back the list shows rather too much than too little, and looking ahead
/// a closing lasts rather too long than too short.
fn resolve(local: NaiveDateTime, zone: Tz, direction: Direction) -> DateTime<Utc> {
    match zone.from_local_datetime(&local) {
        MappedLocalTime::Single(at) => at.to_utc(),
        MappedLocalTime::Ambiguous(early, late) => match direction {
            Direction::Ago => early.to_utc(),
            Direction::Ahead => late.to_utc(),
        },
        // In a gap: read with the offset that held before it, which lands after the gap by as much.
        MappedLocalTime::None => {
            // A day earlier is before the gap, so it has the offset that held until then.
            let before = zone.from_utc_datetime(&(local - TimeDelta::days(1)));
            let offset = before.naive_local() - before.naive_utc();
            (local - offset).and_utc()
        }
    }
}

/// `2026-04-24 22:00:05 CDT`.
#[must_use]
pub fn long(at: DateTime<Utc>, zone: Tz) -> String {
    at.with_timezone(&zone).format("%Y-%m-%d %H:%M:%S %Z").to_string()
}

/// `22:00 CDT` on the day of `now`, else `2026-04-24 22:00 CDT`; with seconds when they are not zero.
#[must_use]
pub fn short(at: DateTime<Utc>, zone: Tz, now: DateTime<Utc>) -> String {
    let local = at.with_timezone(&zone);
    let seconds = if at.timestamp() % 60 == 0 { "" } else { ":%S" };
    let day = if local.date_naive() == now.with_timezone(&zone).date_naive() { "" } else { "%Y-%m-%d " };
    local.format(&format!("{day}%H:%M{seconds} %Z")).to_string()
}

/// A length of time in at most two units: `2h 05m`, `45s`, `3d 4h`.
#[must_use]
pub fn span(delta: TimeDelta) -> String {
    let seconds = delta.num_seconds().max(0);
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds}s"),
        (0, 0, minutes) => format!("{minutes}m {:02}s", seconds % 60),
        (0, hours, minutes) => format!("{hours}h {minutes:02}m"),
        (days, hours, _) => format!("{days}d {hours}h"),
    }
}

#[cfg(test)]
mod tests {
    use chrono_tz::America::Chicago;

    use super::*;

    fn at(text: &str) -> DateTime<Utc> {
        text.parse().unwrap()
    }

    #[test]
    fn times_are_read_in_the_zone() {
        let now = at("2026-04-24T18:00:00Z");
        let read = |text| parse(text, Chicago, now, Direction::Ago);
        assert_eq!(read("2026-04-24 19:00"), Ok(at("2026-04-25T00:00:00Z")));
        assert_eq!(read("2026-04-24"), Ok(at("2026-04-24T05:00:00Z")));
        assert_eq!(read("19:00"), Ok(at("2026-04-25T00:00:00Z")));
        assert_eq!(read("2026-04-24T19:00:00-05:00"), Ok(at("2026-04-25T00:00:00Z")));
        assert_eq!(read("2h"), Ok(at("2026-04-24T16:00:00Z")));
        assert_eq!(parse("2h", Chicago, now, Direction::Ahead), Ok(at("2026-04-24T20:00:00Z")));
        assert!(read("yesterday").unwrap_err().contains("no time"));
    }

    #[test]
    fn the_gap_and_the_fold_are_resolved() {
        let now = at("2026-01-01T00:00:00Z");
        assert_eq!(parse("2026-03-08 02:30", Chicago, now, Direction::Ago), Ok(at("2026-03-08T08:30:00Z")));
        assert_eq!(parse("2026-11-01 01:30", Chicago, now, Direction::Ago), Ok(at("2026-11-01T06:30:00Z")));
        assert_eq!(parse("2026-11-01 01:30", Chicago, now, Direction::Ahead), Ok(at("2026-11-01T07:30:00Z")));
    }

    #[test]
    fn shown_times_carry_the_zone() {
        let now = at("2026-04-24T18:00:00Z");
        assert_eq!(short(at("2026-04-25T03:00:00Z"), Chicago, now), "22:00 CDT");
        assert_eq!(short(at("2026-04-26T03:00:07Z"), Chicago, now), "2026-04-25 22:00:07 CDT");
        assert_eq!(long(at("2026-12-25T03:00:00Z"), Chicago), "2026-12-24 21:00:00 CST");
        assert_eq!(span(TimeDelta::seconds(7_500)), "2h 05m");
    }
}
