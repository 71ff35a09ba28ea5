//! Durations and sizes as people write them: "30s", "1h 30m", "10 MiB".
//!
//! One reader and one writer for configuration, the command line and what is shown. With serde:
//! `#[serde(with = "units::duration")]`, `#[serde(with = "units::size")]`, and `::option` of each; rates are in [`rate`],
//! globs in [`glob`], how names are compared and shown in [`text`].

use std::time::Duration;

pub mod glob;
pub mod rate;
pub mod text;
pub mod text_file;

/// Why a duration or a size was not understood.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum UnitError {
    /// Nothing is there.
    #[error("is empty; write {0}")]
    Empty(&'static str),
    /// A number was expected.
    #[error("has no number at {0:?}; write {1}")]
    Number(String, &'static str),
    /// The unit is not known.
    #[error("has an unknown unit {0:?}; write {1}")]
    Unit(String, &'static str),
    /// The number does not fit.
    #[error("is too large")]
    TooLarge,
}

const DURATIONS: &str = "for example \"500ms\", \"30s\", \"5m\", \"24h\", \"7d\" or \"1h 30m\"";
const SIZES: &str = "for example \"512\", \"64 KiB\", \"10 MiB\" or \"1 GiB\"";

/// Reads a duration: one or more numbers with a unit each (`ms`, `s`, `m`, `h`, `d`, `w`), or a bare `0`.
///
/// # Errors
/// When it is empty, has no number, no known unit, or is beyond what 64 bits of milliseconds hold.
pub fn parse_duration(text: &str) -> Result<Duration, UnitError> {
    let mut rest = text.trim();
    if rest.is_empty() {
        return Err(UnitError::Empty(DURATIONS));
    }
    // Nothing is nothing in every unit; any other number needs one.
    if rest == "0" {
        return Ok(Duration::ZERO);
    }
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let (whole, fraction, unit, after) = split_number(rest, DURATIONS)?;
        let each: u64 = match unit {
            "ms" => 1,
            "s" | "sec" | "second" | "seconds" => 1_000,
            "m" | "min" | "minute" | "minutes" => 60_000,
            "h" | "hour" | "hours" => 3_600_000,
            "d" | "day" | "days" => 86_400_000,
            "w" | "week" | "weeks" => 604_800_000,
            other => return Err(UnitError::Unit(other.to_owned(), DURATIONS)),
        };
        let part = scaled(whole, fraction, each).ok_or(UnitError::TooLarge)?;
        // "1h 30m" is the sum; the order of units does not matter, nor whether one comes twice.
        millis = millis.checked_add(part).ok_or(UnitError::TooLarge)?;
        rest = after;
    }
    Ok(Duration::from_millis(millis))
}

/// Reads a size in bytes: a number with an optional unit. `KiB`, `MiB`, `GiB`, `TiB` are powers of 1,024, and so are
/// the bare letters `K`, `M`, `G`, `T`; `kB`, `MB`, `GB`, `TB` are powers of 1,000. Letter case does not matter.
///
/// # Errors
/// When it is empty, has no number, an unknown unit, or is beyond 64 bits.
pub fn parse_size(text: &str) -> Result<u64, UnitError> {
    let text = text.trim();
    if text.is_empty() {
        return Err(UnitError::Empty(SIZES));
    }
    let (whole, fraction, unit, after) = split_number(text, SIZES)?;
    // Sizes without regard to case, durations not: there `m` and `M` would be taken for minutes and
    // months.
    let each: u64 = match unit.to_ascii_lowercase().as_str() {
        "" | "b" | "byte" | "bytes" => 1,
        "k" | "kib" => 1 << 10,
        "m" | "mib" => 1 << 20,
        "g" | "gib" => 1 << 30,
        "t" | "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return Err(UnitError::Unit(unit.to_owned(), SIZES)),
    };
    if !after.is_empty() {
        return Err(UnitError::Unit(after.to_owned(), SIZES));
    }
    scaled(whole, fraction, each).ok_or(UnitError::TooLarge)
}

/// `whole.fraction` (the fraction as digits, at most nine count) times `each`.
fn scaled(whole: u64, fraction: &str, each: u64) -> Option<u64> {
    let mut parts: u128 = 0;
    let mut of: u128 = 1;
    // In integers: a tenth has no exact binary form, and "0.1 GiB" must always be the same number
    // of bytes.
    for digit in fraction.bytes().take(9) {
        parts = parts * 10 + u128::from(digit - b'0');
        of *= 10;
    }
    whole.checked_mul(each)?.checked_add(u64::try_from(u128::from(each) * parts / of).ok()?)
}

/// The number, its fraction, its unit, and what stands after them. All letters that follow are the
/// unit, so that an unknown one is named whole.
fn split_number<'a>(text: &'a str, expected: &'static str) -> Result<(u64, &'a str, &'a str, &'a str), UnitError> {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    if digits == 0 {
        return Err(UnitError::Number(text.to_owned(), expected));
    }
    let whole = text[..digits].parse().map_err(|_| UnitError::TooLarge)?;
    let mut rest = &text[digits..];
    let mut fraction = "";
    if let Some(after) = rest.strip_prefix('.') {
        let digits = after.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return Err(UnitError::Number(text.to_owned(), expected));
        }
        (fraction, rest) = after.split_at(digits);
    }
    let rest = rest.trim_start();
    let letters = rest.find(|c: char| !c.is_alphabetic()).unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(letters);
    Ok((whole, fraction, unit, rest.trim_start()))
}

/// A duration for people and for configuration: `0s`, `1.5s`, `250ms`, `1h 30m`, `7d`. Whole milliseconds are kept, so
/// [`parse_duration`] gives the same back.
#[must_use]
pub fn format_duration(duration: Duration) -> String {
    let mut millis = duration.as_millis();
    if millis == 0 {
        return "0s".to_owned();
    }
    let mut parts = Vec::new();
    for (unit, each) in [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)] {
        let count = millis / each;
        millis %= each;
        if count > 0 {
            parts.push(format!("{count}{unit}"));
        }
    }
    parts.join(" ")
}

/// How far work is after this time, and about how long the rest takes: `25 %, about 1m 30s left`.
#[must_use]
pub fn format_progress(spent: Duration, done: u64, total: u64) -> String {
    let percent = (u128::from(done) * 100).checked_div(u128::from(total)).unwrap_or(0);
    let rest = u128::from(total.saturating_sub(done));
    match (spent.as_secs() as u128 * rest).checked_div(u128::from(done)) {
        Some(seconds) => {
            let left = Duration::from_secs(u64::try_from(seconds).unwrap_or(u64::MAX / 1_000));
            format!("{percent} %, about {} left", format_duration(left))
        }
        // Nobody knows.
        None => format!("{percent} %"),
    }
}

/// A size for people, in powers of 1,024 with at most one digit after the point: `512 B`, `1.5 KiB`, `10 MiB`.
#[must_use]
pub fn format_bytes(bytes: u64) -> String {
    const UNITS: [&str; 6] = ["KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    if bytes < 1024 {
        return format!("{bytes} B");
    }
    let mut tenths = u128::from(bytes) * 10;
    let mut unit = 0;
    // Rounded, in tenths of the first unit.
    tenths = (tenths + 512) / 1024;
    // 1024 KiB are shown as 1 MiB, also when the rounding made them so.
    while tenths >= 10_240 && unit + 1 < UNITS.len() {
        tenths = (tenths + 512) / 1024;
        unit += 1;
    }
    if tenths.is_multiple_of(10) {
        format!("{} {}", tenths / 10, UNITS[unit])
    } else {
        format!("{}.{} {}", tenths / 10, tenths % 10, UNITS[unit])
    }
}

/// A size in the largest unit that holds it exactly, so that [`parse_size`] gives the same back.
fn exact_size(bytes: u64) -> String {
    for (unit, each) in [("TiB", 1u64 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)] {
        // Zero is a multiple of everything, and "0 TiB" reads odd.
        if bytes != 0 && bytes.is_multiple_of(each) {
            return format!("{} {unit}", bytes / each);
        }
    }
    format!("{bytes} B")
}

/// Durations in serde: text such as `"30s"`, or a whole number of seconds.
pub mod duration {
    use std::{fmt, time::Duration};

    use serde::{Deserializer, Serializer, de};

    /// Writes it as text.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::format_duration(*value))
    }

    /// Reads text, or seconds.
    ///
    /// # Errors
    /// When it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        deserializer.deserialize_any(Visitor)
    }

    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = Duration;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a duration such as \"30s\", \"5m\" or \"24h\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<Duration, E> {
            super::parse_duration(text).map_err(|error| E::custom(format!("duration {text:?} {error}")))
        }

        fn visit_u64<E: de::Error>(self, seconds: u64) -> Result<Duration, E> {
            // Kept in milliseconds elsewhere.
            if seconds > u64::MAX / 1_000 {
                return Err(E::custom("duration is too large"));
            }
            Ok(Duration::from_secs(seconds))
        }

        fn visit_i64<E: de::Error>(self, seconds: i64) -> Result<Duration, E> {
            u64::try_from(seconds).map_err(|_| E::custom("duration is negative")).and_then(|s| self.visit_u64(s))
        }
    }

    /// The same for `Option<Duration>`; add `default`.
    pub mod option {
        use std::time::Duration;

        use serde::{Deserialize, Deserializer, Serializer};

        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Wrapped(#[serde(with = "super")] Duration);

        /// Writes it as text, or as nothing.
        ///
        /// # Errors
        /// As the serializer.
        pub fn serialize<S: Serializer>(value: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.serialize_some(&super::super::format_duration(*value)),
                None => serializer.serialize_none(),
            }
        }

        /// Reads text, seconds, or nothing.
        ///
        /// # Errors
        /// When it is none of them.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
        }
    }
}

/// Sizes in serde: text such as `"10 MiB"`, or a whole number of bytes.
pub mod size {
    use std::fmt;

    use serde::{Deserializer, Serializer, de};

    /// Writes it as text.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(value: &u64, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&super::exact_size(*value))
    }

    /// Reads text, or bytes.
    ///
    /// # Errors
    /// When it is neither.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
        deserializer.deserialize_any(Visitor)
    }

    struct Visitor;

    impl de::Visitor<'_> for Visitor {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a size such as \"64 KiB\", \"10 MiB\" or \"1 GiB\"")
        }

        fn visit_str<E: de::Error>(self, text: &str) -> Result<u64, E> {
            super::parse_size(text).map_err(|error| E::custom(format!("size {text:?} {error}")))
        }

        fn visit_u64<E: de::Error>(self, bytes: u64) -> Result<u64, E> {
            Ok(bytes)
        }

        fn visit_i64<E: de::Error>(self, bytes: i64) -> Result<u64, E> {
            u64::try_from(bytes).map_err(|_| E::custom("size is negative"))
        }
    }

    /// The same for `Option<u64>`; add `default`.
    pub mod option {
        use serde::{Deserialize, Deserializer, Serializer};

        #[derive(Deserialize)]
        #[serde(transparent)]
        struct Wrapped(#[serde(with = "super")] u64);

        /// Writes it as text, or as nothing.
        ///
        /// # Errors
        /// As the serializer.
        pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
            match value {
                Some(value) => serializer.serialize_some(&super::super::exact_size(*value)),
                None => serializer.serialize_none(),
            }
        }

        /// Reads text, bytes, or nothing.
        ///
        /// # Errors
        /// When it is none of them.
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
            Ok(Option::<Wrapped>::deserialize(deserializer)?.map(|wrapped| wrapped.0))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[test]
    fn durations_read_as_people_write_them() {
        for (text, millis) in [
            ("0", 0),
            ("0s", 0),
            ("500ms", 500),
            ("1.5s", 1_500),
            ("30s", 30_000),
            (" 5 m ", 300_000),
            ("24h", 86_400_000),
            ("1h 30m", 5_400_000),
            ("1h30m", 5_400_000),
            ("2 days", 172_800_000),
            ("1w", 604_800_000),
        ] {
            assert_eq!(parse_duration(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in
            ["", " ", "s", "5", "-5s", "5x", "1.s", "30 s s", "99999999999999999999s", "999999999999999w", "5µs"]
        {
            assert!(parse_duration(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn sizes_read_as_people_write_them() {
        for (text, bytes) in [
            ("0", 0),
            ("512", 512),
            ("512 B", 512),
            ("64 KiB", 65_536),
            ("10MiB", 10_485_760),
            ("10 MB", 10_000_000),
            ("1.5 GiB", 1_610_612_736),
            ("2g", 2_147_483_648),
        ] {
            assert_eq!(parse_size(text), Ok(bytes), "{text}");
        }
        for text in ["", "MiB", "-1", "10 mb x", "1 QiB", "99999999999 TiB"] {
            assert!(parse_size(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn what_is_written_reads_back() {
        for millis in [0, 1, 999, 1_000, 61_001, 5_400_000, 694_861_001] {
            let duration = Duration::from_millis(millis);
            assert_eq!(parse_duration(&format_duration(duration)), Ok(duration));
        }
        for bytes in [0, 1, 1_023, 1_024, 1_536, 10 << 20, 1 << 40, u64::MAX] {
            assert_eq!(parse_size(&exact_size(bytes)), Ok(bytes));
        }
    }

    #[test]
    fn bytes_are_shown_with_one_digit_at_most() {
        for (bytes, shown) in [
            (0, "0 B"),
            (1_023, "1023 B"),
            (1_024, "1 KiB"),
            (1_536, "1.5 KiB"),
            (1_048_575, "1 MiB"),
            (10 << 20, "10 MiB"),
            (u64::MAX, "16 EiB"),
        ] {
            assert_eq!(format_bytes(bytes), shown);
        }
    }

    #[test]
    fn serde_takes_text_numbers_and_nothing() {
        #[derive(Debug, PartialEq, Serialize, Deserialize)]
        struct Both {
            #[serde(with = "duration")]
            wait: Duration,
            #[serde(with = "size")]
            most: u64,
            #[serde(default, with = "duration::option", skip_serializing_if = "Option::is_none")]
            perhaps: Option<Duration>,
            #[serde(default, with = "size::option", skip_serializing_if = "Option::is_none")]
            quota: Option<u64>,
        }
        let both: Both = toml::from_str("wait = \"5m\"\nmost = \"10 MiB\"\nquota = 7\n").unwrap();
        assert_eq!(both, Both { wait: Duration::from_secs(300), most: 10 << 20, perhaps: None, quota: Some(7) });
        assert_eq!(toml::from_str::<Both>(&toml::to_string(&both).unwrap()).unwrap(), both);
        let fault = toml::from_str::<Both>("wait = \"5 parsecs\"\nmost = 1").unwrap_err().to_string();
        assert!(fault.contains("unknown unit \"parsecs\""), "{fault}");
        assert!(toml::from_str::<Both>("wait = -5\nmost = 1").is_err());
    }
}
