//! Instants as they are told: in the zone of the schedule.

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

/// An instant in a zone, for machines and for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct LocalTime {
    /// RFC 3339, with the zone's offset.
    pub(super) rfc3339: String,
    /// For people: `Friday, April 24, 2026 at 22:00 CDT`.
    pub(super) local: String,
}

impl LocalTime {
    pub(super) fn new(at: DateTime<Utc>, zone: Tz) -> Self {
        let at = at.with_timezone(&zone);
        let rfc3339 = at.to_rfc3339_opts(chrono::SecondsFormat::Secs, true);
        Self { rfc3339, local: at.format("%A, %B %-d, %Y at %H:%M %Z").to_string() }
    }
}
