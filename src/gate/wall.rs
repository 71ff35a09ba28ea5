//! Wall time: what a clock on the wall of a zone shows, and which instants that means.
//!
//! A reading can mean no instant (in the gap when clocks go forward) or two (in the fold when they go back).
//! The gate is then closed for longer rather than shorter:
//!
//! | | fold | gap |
//! |---|---|---|
//! | start | the first of the two | the instant at which the clocks go forward |
//! | end | the second of the two | as if the clocks had not gone forward yet (02:30 becomes 03:30) |

use chrono::{DateTime, Datelike, LocalResult, NaiveDate, NaiveDateTime, Offset, TimeDelta, TimeZone, Utc};
use chrono_tz::Tz;

/// Reads `YYYY-MM-DD HH:MM[:SS]`.
pub(super) fn parse(text: &str) -> Result<NaiveDateTime, String> {
    let wrong = || format!("{text:?} is not a time of the form \"YYYY-MM-DD HH:MM\"");
    let bytes = text.as_bytes();
    let shape: &[u8] = match bytes.len() {
        16 => b"0000-00-00 00:00",
        19 => b"0000-00-00 00:00:00",
        _ => return Err(wrong()),
    };
    // By its shape before any number: the parsers of libraries take signs and blanks.
    let fits = |(byte, form): (&u8, &u8)| if *form == b'0' { byte.is_ascii_digit() } else { byte == form };
    if !bytes.iter().zip(shape).all(fits) {
        return Err(wrong());
    }
    let number = |from: usize, to: usize| text[from..to].parse::<u32>().unwrap_or(u32::MAX);
    let second = if bytes.len() == 19 { number(17, 19) } else { 0 };
    let impossible = || format!("{text:?} is a time that does not exist in any calendar");
    let date = NaiveDate::from_ymd_opt(i32::try_from(number(0, 4)).unwrap_or(0), number(5, 7), number(8, 10));
    let wall = date.and_then(|date| date.and_hms_opt(number(11, 13), number(14, 16), second)).ok_or_else(impossible)?;
    // Zones are known for this time, and a typing mistake in the year is seen.
    if !(1970..3000).contains(&wall.year()) {
        return Err(format!("{text:?} is not between the years 1970 and 2999"));
    }
    Ok(wall)
}

/// The first instant that a start can mean.
pub(super) fn earliest(zone: Tz, wall: NaiveDateTime) -> DateTime<Utc> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(one) => one.to_utc(),
        LocalResult::Ambiguous(one, other) => one.to_utc().min(other.to_utc()),
        LocalResult::None => gap(zone, wall),
    }
}

/// The last instant that an end can mean.
pub(super) fn latest(zone: Tz, wall: NaiveDateTime) -> DateTime<Utc> {
    match zone.from_local_datetime(&wall) {
        LocalResult::Single(one) => one.to_utc(),
        LocalResult::Ambiguous(one, other) => one.to_utc().max(other.to_utc()),
        // By the offset that held before the gap, so the end comes as much later as the clocks
        // skipped.
        LocalResult::None => wall.and_utc() - offset(zone, gap(zone, wall) - TimeDelta::seconds(1)),
    }
}

/// The wall-clock reading in a zone at an instant.
pub(super) fn reading(zone: Tz, at: DateTime<Utc>) -> NaiveDateTime {
    at.with_timezone(&zone).naive_local()
}

/// The instant at which the clocks go forward over a reading.
fn gap(zone: Tz, wall: NaiveDateTime) -> DateTime<Utc> {
    // No zone is further than 14 hours from UTC, nor has a gap of more than 24.
    let mut before = wall.and_utc() - TimeDelta::hours(40);
    let mut after = wall.and_utc() + TimeDelta::hours(40);
    // Readings only grow over a gap, so halving finds the second at which they pass the one asked
    // for.
    while after - before > TimeDelta::seconds(1) {
        let middle = before + TimeDelta::seconds((after - before).num_seconds() / 2);
        if reading(zone, middle) < wall { before = middle } else { after = middle }
    }
    after
}

fn offset(zone: Tz, at: DateTime<Utc>) -> TimeDelta {
    let offset = zone.offset_from_utc_datetime(&at.naive_utc()).fix().local_minus_utc();
    TimeDelta::seconds(i64::from(offset))
}

#[cfg(test)]
mod tests {
    use chrono_tz::{America::Chicago, Australia::Lord_Howe, Pacific::Apia};

    use super::*;

    fn utc(text: &str) -> DateTime<Utc> {
        parse(text).unwrap().and_utc()
    }

    #[test]
    fn gaps_and_folds_of_chicago() {
        let wall = |text| parse(text).unwrap();
        assert_eq!(earliest(Chicago, wall("2026-03-08 02:30")), utc("2026-03-08 08:00"));
        assert_eq!(latest(Chicago, wall("2026-03-08 02:30")), utc("2026-03-08 08:30"));
        assert_eq!(earliest(Chicago, wall("2026-03-08 02:00")), utc("2026-03-08 08:00"));
        assert_eq!(earliest(Chicago, wall("2026-03-08 03:00")), utc("2026-03-08 08:00"));
        assert_eq!(earliest(Chicago, wall("2026-11-01 01:30")), utc("2026-11-01 06:30"));
        assert_eq!(latest(Chicago, wall("2026-11-01 01:30")), utc("2026-11-01 07:30"));
    }

    #[test]
    fn a_shift_of_half_an_hour_and_a_day_that_never_was() {
        let wall = |text| parse(text).unwrap();
        // 2026-10-04 02:00 +10:30 becomes 02:30 +11.
        assert_eq!(earliest(Lord_Howe, wall("2026-10-04 02:15")), utc("2026-10-03 15:30"));
        assert_eq!(latest(Lord_Howe, wall("2026-10-04 02:15")), utc("2026-10-03 15:45"));
        // 2026-04-05 02:00 +11 becomes 01:30 +10:30.
        assert_eq!(earliest(Lord_Howe, wall("2026-04-05 01:45")), utc("2026-04-04 14:45"));
        assert_eq!(latest(Lord_Howe, wall("2026-04-05 01:45")), utc("2026-04-04 15:15"));
        assert_eq!(earliest(Apia, wall("2011-12-30 12:00")), utc("2011-12-30 10:00"));
    }

    #[test]
    fn times_that_are_none() {
        for text in
            ["", "2026-02-30 10:00", "2026-04-24T19:00", "2026-04-24 25:00", "2026-4-24 19:00", "+026-04-24 19:00"]
        {
            assert!(parse(text).is_err(), "{text}");
        }
        assert!(
            parse("2026-04-24 19:00:61").is_err()
                && parse("1812-04-24 19:00").is_err()
                && parse("é026-04-24 19:0").is_err()
        );
    }
}
