//! `Range` (RFC 9110, 14.2): the part of a content that is asked for.

/// The part that is to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// All of it: no range was asked for, or none that is served.
    Whole,
    /// These bytes, the last included.
    Bytes {
        /// The first.
        first: u64,
        /// The last.
        last: u64,
    },
    /// None of it is there.
    Unsatisfiable,
}

impl Part {
    /// The part of a content of `size` bytes by the value of the header. Several ranges are served as the whole, which is
    /// allowed; what is no range is ignored.
    #[must_use]
    pub fn of(range: Option<&str>, size: u64) -> Self {
        let Some((unit, spec)) = range.and_then(|range| range.split_once('=')) else { return Self::Whole };
        let Some((first, last)) = spec.trim().split_once('-').filter(|_| unit.trim().eq_ignore_ascii_case("bytes"))
        else {
            return Self::Whole;
        };
        match (number(first), number(last)) {
            (Some(first), Some(last)) if last < first => Self::Whole,
            (Some(first), last) if last.is_some() || spec.trim().ends_with('-') => match size.checked_sub(1) {
                Some(end) if first <= end => Self::Bytes { first, last: last.unwrap_or(end).min(end) },
                _ => Self::Unsatisfiable,
            },
            (None, Some(suffix)) if spec.trim().starts_with('-') => match (suffix, size) {
                (0, _) | (_, 0) => Self::Unsatisfiable,
                _ => Self::Bytes { first: size.saturating_sub(suffix), last: size - 1 },
            },
            _ => Self::Whole,
        }
    }
}

/// Digits alone; more than there are numbers is the largest.
fn number(text: &str) -> Option<u64> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_served_as_the_rfc_has_them() {
        let bytes = |first, last| Part::Bytes { first, last };
        for (range, part) in [
            ("bytes=0-499", bytes(0, 499)),
            ("bytes=500-", bytes(500, 999)),
            ("bytes=-1", bytes(999, 999)),
            ("bytes=-5000", bytes(0, 999)),
            ("bytes=990-99999999999999999999999", bytes(990, 999)),
            ("Bytes= 7-7 ", bytes(7, 7)),
            ("bytes=1000-", Part::Unsatisfiable),
            ("bytes=99999999999999999999999-", Part::Unsatisfiable),
            ("bytes=-0", Part::Unsatisfiable),
            ("bytes=5-4", Part::Whole),
            ("bytes=0-1,3-4", Part::Whole),
            ("bytes=-", Part::Whole),
            ("bytes=a-b", Part::Whole),
            ("bytes=1-x", Part::Whole),
            ("bytes=+1-2", Part::Whole),
            ("lines=1-2", Part::Whole),
            ("bytes", Part::Whole),
        ] {
            assert_eq!(Part::of(Some(range), 1000), part, "{range}");
        }
        assert_eq!(Part::of(None, 1000), Part::Whole);
        assert_eq!([Part::of(Some("bytes=0-"), 0), Part::of(Some("bytes=-1"), 0)], [Part::Unsatisfiable; 2]);
    }
}
