//! The windows as an iCalendar feed (RFC 5545) that partners can subscribe to.
//!
//! Every occurrence is an event of its own in UTC, so that no reader has to repeat our reading of the rules.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use sha2::{Digest, Sha256};

use super::status::Occurrence;

/// The feed; `now` is the time at which it was made. Where the schedule's file was changed since and refused, it says so in
/// the description of the calendar: readers that know none pass over it.
#[must_use]
pub fn calendar(occurrences: &[Occurrence], refused_since: Option<DateTime<Utc>>, now: DateTime<Utc>) -> String {
    let mut text = String::new();
    // VERSION and PRODID are required (RFC 5545, 3.6); METHOD tells readers that this is nobody's
    // invitation.
    for line in ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//Forebay//Maintenance//EN", "METHOD:PUBLISH"] {
        put(&mut text, line);
    }
    if let Some(since) = refused_since {
        let shown = since.format("%Y-%m-%d %H:%M UTC");
        let what = format!(
            "The schedule was changed, and what it says since {shown} cannot be used. These are the windows of the last good \
             schedule; there may be others."
        );
        put(&mut text, &format!("X-WR-CALDESC:{}", escape(&what)));
        put(&mut text, &format!("X-FOREBAY-SCHEDULE-REFUSED:{}", instant(since)));
    }
    for one in occurrences {
        event(&mut text, one, now);
    }
    put(&mut text, "END:VCALENDAR");
    text
}

/// In the form of RFC 5545.
fn instant(at: DateTime<Utc>) -> String {
    at.format("%Y%m%dT%H%M%SZ").to_string()
}

fn event(text: &mut String, one: &Occurrence, now: DateTime<Utc>) {
    put(text, "BEGIN:VEVENT");
    put(text, &format!("UID:{}@forebay", uid(one)));
    // Required of every event (3.6.1): when this copy of it was made.
    put(text, &format!("DTSTAMP:{}", instant(now)));
    put(text, &format!("DTSTART:{}", instant(one.start)));
    put(text, &format!("DTEND:{}", instant(one.end)));
    put(text, &format!("SUMMARY:{}", escape(&one.name)));
    let words: Vec<&str> =
        [one.reason.as_str(), one.message.as_str()].into_iter().filter(|words| !words.is_empty()).collect();
    if !words.is_empty() {
        put(text, &format!("DESCRIPTION:{}", escape(&words.join("\n"))));
    }
    if !one.routes.is_empty() {
        let routes: Vec<String> = one.routes.iter().map(|route| escape(route)).collect();
        put(text, &format!("CATEGORIES:{}", routes.join(",")));
    }
    // It blocks nobody's time (3.8.2.7): a partner's calendar must not be "busy" all night.
    put(text, "TRANSP:TRANSPARENT");
    put(text, "END:VEVENT");
}

/// The UID of an occurrence, which stays the same when its text or its end changes.
fn uid(one: &Occurrence) -> String {
    let mut hash = Sha256::new();
    hash.update(one.name.as_bytes());
    hash.update([0]);
    hash.update(one.routes.join("\0"));
    hash.update(one.start.timestamp().to_be_bytes());
    hash.finalize().iter().take(16).fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            // TEXT values escape these four (3.3.11).
            '\\' | ';' | ',' => escaped.extend(['\\', c]),
            '\n' => escaped.push_str("\\n"),
            // Not allowed in a value at all.
            c if c.is_control() => {}
            c => escaped.push(c),
        }
    }
    escaped
}

/// A content line, folded so that no line is longer than 75 octets.
fn put(text: &mut String, line: &str) {
    let mut octets = 0;
    for c in line.chars() {
        // Between characters, never within one (3.1 folds octets, and readers that decode first
        // would see rubbish).
        if octets + c.len_utf8() > 75 {
            text.push_str("\r\n ");
            // The blank that begins a folded line counts.
            octets = 1;
        }
        text.push(c);
        octets += c.len_utf8();
    }
    text.push_str("\r\n");
}
