//! The faces: what a caller is told who sends and fetches nothing.

use std::{sync::Arc, time::Duration};

use chrono::TimeDelta;
use hyper::http::request::Parts;

use super::{
    Readiness,
    announcement::Announcement,
    answer::{self, Answer, Asked},
    cached::Cached,
    dialect::Dialect,
    pages::ASSETS,
    status::Status,
};
use crate::{
    clock::Clock,
    gate::{Gate, ScheduleState, Scope, State},
    http::{HostName, Hosts},
};

/// A browser asks for the page that it was told of sooner than that.
const NEXT_PAGE: TimeDelta = TimeDelta::minutes(1);

/// The faces of the gate, of health and of the calendar.
pub(super) struct Faces {
    gate: Arc<Gate>,
    clock: Arc<dyn Clock>,
    readiness: Arc<dyn Readiness>,
    /// `Retry-After` of a closure whose end is not known.
    retry_after: Duration,
    status: Cached<Status>,
    calendar: Cached<String, ScheduleState>,
}

impl Faces {
    pub(super) fn new(
        gate: Arc<Gate>,
        clock: Arc<dyn Clock>,
        readiness: Arc<dyn Readiness>,
        retry_after: Duration,
    ) -> Arc<Self> {
        let (status, calendar) = (Cached::new(TimeDelta::seconds(1)), Cached::new(TimeDelta::minutes(1)));
        Arc::new(Self { gate, clock, readiness, retry_after, status, calendar })
    }

    /// The answer to a request whatever it is about: a Host that is none of ours, what is always told, and a gate that is
    /// closed for the web.
    pub(super) fn before_routing(&self, head: &Parts, hosts: &[HostName]) -> Option<Answer> {
        let dialect = Dialect::of_request(head);
        match Hosts::of(head.version, &head.uri, &head.headers, hosts) {
            Hosts::Bad => return Some(answer::bad_request(dialect)),
            Hosts::Others => return Some(answer::misdirected(dialect)),
            Hosts::Ours => {}
        }
        let asked = Asked::of(head.uri.path());
        match asked {
            Asked::Other => {}
            _ if !answer::looks(&head.method) => return Some(answer::not_allowed(dialect)),
            Asked::Health => return Some(answer::health(dialect)),
            Asked::Readiness => return Some(answer::readiness(&self.readiness.faults(), dialect)),
            Asked::Calendar => return Some(answer::calendar(self.calendar())),
            Asked::Asset => return Some(ASSETS.answer(head).unwrap_or_else(|| answer::not_found(dialect))),
        }
        self.closed(dialect)
    }

    /// 503, while the gate is closed for the web.
    fn closed(&self, dialect: Dialect) -> Option<Answer> {
        let State::Closed(closure) = self.gate.state(&Scope::Web) else { return None };
        let announcement = Announcement::new(&closure, self.gate.zone(), self.clock.now(), self.retry_after);
        Some(answer::unavailable(&announcement, dialect))
    }

    /// Whether the gate may be closed for the web when a browser that is answered now asks for its next page: it is
    /// already, or closes soon. What an operator does meanwhile nobody knows.
    pub(super) fn may_be_closed_next(&self) -> bool {
        match self.gate.state(&Scope::Web) {
            State::Closed(_) => true,
            State::Open { closes_at, .. } => closes_at.is_some_and(|at| at <= self.clock.now() + NEXT_PAGE),
        }
    }

    /// The status while the gate is open.
    pub(super) fn status(&self) -> Status {
        let now = self.clock.now();
        self.status.get(self.gate.epoch(), now, || Status::look(&self.gate, now))
    }

    /// The same as an answer.
    pub(super) fn status_in(&self, dialect: Dialect) -> Answer {
        answer::status(&self.status(), dialect)
    }

    /// The calendar of windows. A file that was refused is told of in it, so it is looked at each time.
    fn calendar(&self) -> String {
        self.calendar.get(self.gate.schedule_state(), self.clock.now(), || self.gate.calendar())
    }
}
