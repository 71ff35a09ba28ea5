//! Bytes a second as people write them: "10 MB/s". A rate is always written with its `/s`, so that it is not taken for
//! a size. With serde: `#[serde(with = "units::rate::option")]`.

use super::{UnitError, exact_size, parse_size};

/// Reads a rate in bytes a second: a size with `/s` behind it.
///
/// # Errors
/// When the `/s` is missing, or what is before it is no size.
pub fn parse_rate(text: &str) -> Result<u64, UnitError> {
    const RATES: &str = "for example \"500 KiB/s\" or \"10 MB/s\"";
    match text.trim_end().strip_suffix("/s") {
        Some(size) => parse_size(size),
        None => Err(UnitError::Unit(text.to_owned(), RATES)),
    }
}

/// `Option<u64>` as a rate; add `default`.
pub mod option {
    use serde::{Deserialize, Deserializer, Serializer, de::Error as _};

    /// Writes it as text, or as nothing.
    ///
    /// # Errors
    /// As the serializer.
    pub fn serialize<S: Serializer>(value: &Option<u64>, serializer: S) -> Result<S::Ok, S::Error> {
        match value {
            Some(value) => serializer.serialize_some(&format!("{}/s", super::exact_size(*value))),
            None => serializer.serialize_none(),
        }
    }

    /// Reads text, or nothing.
    ///
    /// # Errors
    /// When it is no rate.
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
        let Some(text) = Option::<String>::deserialize(deserializer)? else { return Ok(None) };
        super::parse_rate(&text).map(Some).map_err(|error| D::Error::custom(format!("rate {text:?} {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_sizes_a_second() {
        for (text, bytes) in [("10MB/s", 10_000_000), ("500 KiB/s", 512_000), (" 1 MiB /s ", 1 << 20)] {
            assert_eq!(parse_rate(text), Ok(bytes), "{text}");
            assert_eq!(parse_rate(&format!("{}/s", exact_size(bytes))), Ok(bytes));
        }
        for text in ["10 MB", "/s", "", "fast/s", "10 Mbit/s", "10 MB/m"] {
            assert!(parse_rate(text).is_err(), "{text:?}");
        }
    }
}
