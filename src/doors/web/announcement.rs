//! What is told while the gate is closed, before it takes a form.

use std::time::Duration;

use chrono::{DateTime, Utc};
use chrono_tz::Tz;

use super::local_time::LocalTime;
use crate::gate::{Cause, Closure, MESSAGE};

/// The headline of every face.
pub(super) const HEADLINE: &str = "Service Unavailable";

/// What those who send files may do.
pub(super) const FILES: &str = "You may go on submitting files by FTP. They are accepted and kept, and \
    processing will resume automatically after the maintenance period ends. There is no need to resubmit data.";

/// What is told while the gate is closed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Announcement {
    /// The window's name and reason; nothing when an operator or a fault has closed the gate: those words are for
    /// operators.
    pub(super) occasion: Option<(String, String)>,
    /// What the refused are told.
    pub(super) message: String,
    /// The end, where it is known.
    pub(super) end: Option<LocalTime>,
    /// Seconds until it is worth to come back.
    pub(super) retry_after: u64,
}

impl Announcement {
    /// `unknown` is the time after which to come back when the end is not known.
    pub(super) fn new(closure: &Closure, zone: Tz, now: DateTime<Utc>, unknown: Duration) -> Self {
        let message = closure.message.trim();
        let occasion = matches!(closure.cause, Cause::Window).then(|| (closure.name.clone(), closure.reason.clone()));
        Self {
            occasion,
            message: if message.is_empty() { MESSAGE.to_owned() } else { message.to_owned() },
            end: closure.until.map(|until| LocalTime::new(until, zone)),
            retry_after: closure.until.map_or(unknown.as_secs(), |until| seconds_until(until, now)).max(1),
        }
    }

    /// Plain text.
    pub(super) fn text(&self) -> String {
        let mut text = format!("{HEADLINE}\n\n{}\n", visible(&self.message));
        if let Some((name, reason)) = &self.occasion {
            text.push_str(&format!("\n{}: {}\n", visible(name), visible(reason)));
        }
        match &self.end {
            Some(end) => text.push_str(&format!("\nExpected end: {} ({})\n", end.local, end.rfc3339)),
            None => text.push_str("\nThe end is not known yet.\n"),
        }
        text.push_str(&format!("\n{FILES}\n"));
        text
    }
}

/// Rounded up: who comes back as told finds the gate open. (RFC 9110 10.2.3)
fn seconds_until(until: DateTime<Utc>, now: DateTime<Utc>) -> u64 {
    let millis = u64::try_from((until - now).num_milliseconds()).unwrap_or(0);
    millis.div_ceil(1000)
}

/// Without what a terminal would act upon.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && !matches!(c, '\n' | '\t') { '\u{fffd}' } else { c }).collect()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    pub(in crate::doors::web) fn hostile() -> Announcement {
        let text = "</p></faultstring><script>alert(\"1\")</script>&\r\nSet-Cookie: a=b\u{1b}[2J]]>";
        Announcement {
            occasion: Some((text.to_owned(), text.to_owned())),
            message: text.to_owned(),
            end: Some(LocalTime::new("2026-04-25T03:00:00Z".parse().unwrap(), Tz::America__Chicago)),
            retry_after: 60,
        }
    }

    fn closure(until: Option<&str>, cause: Cause) -> Closure {
        Closure {
            until: until.map(|until| until.parse().unwrap()),
            since: None,
            name: "ImmTrac2 servers".to_owned(),
            reason: "System maintenance".to_owned(),
            message: String::new(),
            cause,
        }
    }

    fn announced(closure: &Closure, now: &str) -> Announcement {
        Announcement::new(closure, Tz::America__Chicago, now.parse().unwrap(), Duration::from_secs(900))
    }

    #[test]
    fn retry_after_is_the_time_until_the_end_rounded_up() {
        let closed = closure(Some("2026-04-25T03:00:00Z"), Cause::Window);
        for (now, seconds) in [
            ("2026-04-25T00:00:00Z", 10_800),
            ("2026-04-25T02:59:58.001Z", 2),
            ("2026-04-25T02:59:59.999Z", 1),
            ("2026-04-25T03:00:00Z", 1),
            ("2026-04-25T04:00:00Z", 1),
        ] {
            assert_eq!(announced(&closed, now).retry_after, seconds, "{now}");
        }
        assert_eq!(announced(&closure(None, Cause::Window), "2026-04-25T00:00:00Z").retry_after, 900);
    }

    #[test]
    fn the_end_is_told_in_the_schedule_s_zone() {
        let told = announced(&closure(Some("2026-04-25T03:00:00Z"), Cause::Window), "2026-04-25T00:00:00Z");
        let end = told.end.clone().unwrap();
        assert_eq!(end.local, "Friday, April 24, 2026 at 22:00 CDT");
        assert_eq!(end.rfc3339, "2026-04-24T22:00:00-05:00");
        assert!(told.text().contains("Expected end: Friday, April 24, 2026 at 22:00 CDT (2026-04-24T22:00:00-05:00)"));
        assert!(told.text().contains(MESSAGE), "an empty message has a stand-in");
    }

    #[test]
    fn words_for_operators_are_not_told() {
        for cause in [Cause::Override(7), Cause::BrokenSchedule, Cause::UntrustedClock] {
            let told = announced(&closure(None, cause), "2026-04-25T00:00:00Z");
            assert_eq!(told.occasion, None);
            assert!(!told.text().contains("System maintenance"));
        }
    }

    #[test]
    fn text_carries_nothing_for_a_terminal() {
        assert!(!hostile().text().contains(['\u{1b}', '\r']));
    }
}
