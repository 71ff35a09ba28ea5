//! Texts for partners: the notice before and during a closure, and the line after a positive reply.

use std::fmt::Write;

use chrono::{DateTime, Timelike, Utc};
use chrono_tz::Tz;

use super::{
    state::{Cause, Closure, State},
    status::Occurrence,
};

/// The most windows that a notice lists.
const LISTED: usize = 10;

/// `22:00 CDT`, with the date when that is not the day of `now`.
pub(super) fn local(zone: Tz, at: DateTime<Utc>, now: DateTime<Utc>) -> String {
    let at = at.with_timezone(&zone);
    let time = if at.second() == 0 { "%H:%M %Z" } else { "%H:%M:%S %Z" };
    if at.date_naive() == now.with_timezone(&zone).date_naive() {
        return at.format(time).to_string();
    }
    at.format(&format!("%Y-%m-%d {time}")).to_string()
}

/// `processing deferred until 22:00 CDT`, for the reply to an upload; None when the gate is open.
#[must_use]
pub fn deferral(zone: Tz, now: DateTime<Utc>, state: &State) -> Option<String> {
    match state {
        State::Open { .. } => None,
        State::Closed(Closure { until: Some(until), .. }) => {
            Some(format!("processing deferred until {}", local(zone, *until, now)))
        }
        State::Closed(_) => Some("processing deferred until further notice".to_owned()),
    }
}

/// The text of `NOTICE.txt`: what is closed now, and the windows that come; None when there is neither.
#[must_use]
pub fn notice(zone: Tz, now: DateTime<Utc>, closed: Option<&Closure>, upcoming: &[Occurrence]) -> Option<String> {
    // Those that have begun are in `closed`, or were opened by an operator.
    let coming: Vec<&Occurrence> = upcoming.iter().filter(|one| one.start > now).take(LISTED).collect();
    if closed.is_none() && coming.is_empty() {
        return None;
    }
    let mut text = String::new();
    if let Some(closure) = closed {
        during(&mut text, zone, closure);
    }
    if !coming.is_empty() {
        text.push_str("PLANNED MAINTENANCE\n\n");
    }
    for one in coming {
        before(&mut text, one);
    }
    text.push_str(
        "You can upload at any time, also during maintenance. What you upload is kept safely, and processing goes on by\n\
         itself when the maintenance is over. Please do not send anything a second time.\n",
    );
    Some(text)
}

fn during(text: &mut String, zone: Tz, closure: &Closure) {
    let full = |at: DateTime<Utc>| at.with_timezone(&zone).format("%a %Y-%m-%d %H:%M %Z").to_string();
    let until = closure.until.map_or_else(|| "further notice".to_owned(), full);
    // The reason of an operator or a fault is for operators, as on the web faces.
    let planned = closure.cause == Cause::Window;
    let name = if planned { format!(": {}", closure.name) } else { String::new() };
    let _ = write!(text, "MAINTENANCE NOW{name}\n\nNothing is processed until {until}.\n");
    words(text, if planned { &closure.reason } else { "" }, &closure.message);
}

fn before(text: &mut String, one: &Occurrence) {
    let _ = writeln!(text, "{}\n  from   {}\n  until  {}", one.name, one.start_local, one.end_local);
    if !one.routes.is_empty() {
        let _ = writeln!(text, "  for    {}", one.routes.join(", "));
    }
    words(text, &one.reason, "");
}

fn words(text: &mut String, reason: &str, message: &str) {
    if !reason.is_empty() {
        let _ = writeln!(text, "Reason: {reason}");
    }
    if !message.is_empty() {
        let _ = writeln!(text, "{message}");
    }
    text.push('\n');
}
