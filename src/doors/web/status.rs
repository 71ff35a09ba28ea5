//! What is told while the gate is open, before it takes a form.

use serde::Serialize;

use super::local_time::LocalTime;
use crate::gate::{Gate, Scope, WEB};
use chrono::{DateTime, TimeDelta, Utc};

/// How far ahead the next window is looked for.
const AHEAD: TimeDelta = TimeDelta::days(90);

/// What is told while the gate is open.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Status {
    pub(super) service: &'static str,
    pub(super) gate: &'static str,
    /// Some route is closed while the web is not.
    pub(super) some_processing_deferred: bool,
    pub(super) next_window: Option<Next>,
}

/// The next window.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Next {
    pub(super) name: String,
    pub(super) reason: String,
    pub(super) start: String,
    pub(super) start_local: String,
    pub(super) end: String,
    pub(super) end_local: String,
}

impl Status {
    /// Looks at the gate. Windows of single routes are not named: routes are the operators' words.
    pub(super) fn look(gate: &Gate, now: DateTime<Utc>) -> Self {
        let zone = gate.zone();
        let for_all = |routes: &[String]| routes.is_empty() || routes.iter().any(|route| route == WEB);
        let next = gate.upcoming(now, now + AHEAD).into_iter().find(|one| one.start > now && for_all(&one.routes));
        let next_window = next.map(|one| {
            let (start, end) = (LocalTime::new(one.start, zone), LocalTime::new(one.end, zone));
            Next {
                name: one.name,
                reason: one.reason,
                start: start.rfc3339,
                start_local: start.local,
                end: end.rfc3339,
                end_local: end.local,
            }
        });
        let deferred =
            gate.status().scopes.iter().any(|scope| scope.scope != Scope::Web.name() && !scope.state.is_open());
        Self { service: "Forebay", gate: "open", some_processing_deferred: deferred, next_window }
    }

    /// How processing goes, in a sentence.
    pub(super) fn sentence(&self) -> &'static str {
        if self.some_processing_deferred {
            "Files are accepted. Processing of some of them is paused for maintenance and will resume automatically."
        } else {
            "Files are accepted and processed as they arrive."
        }
    }

    /// Plain text.
    pub(super) fn text(&self) -> String {
        let mut text = format!("Forebay\n\nThe gate is open. {}\n", self.sentence());
        match &self.next_window {
            Some(next) => text.push_str(&format!(
                "\nNext maintenance: {} ({})\nfrom {} ({})\nto   {} ({})\n",
                next.name, next.reason, next.start_local, next.start, next.end_local, next.end
            )),
            None => text.push_str("\nNo maintenance is planned.\n"),
        }
        text
    }
}
