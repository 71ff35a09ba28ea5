//! What stands where with the messages of a file that are being handed over. Pure: it starts nothing and waits for nothing.
//!
//! # Guarantees
//! - No more than `in_flight` messages are handed over without a durable outcome, those aside that were answered with a
//!   failure.
//! - **Blame.** A message that failed `attempts` times is set aside, and the one behind it is tried. If one gets through that
//!   was begun later, the one set aside is at fault, and refused. If `pause_after` are set aside with none getting through,
//!   the system behind is down: all of them go back as if they had not been tried.

use std::{collections::BTreeMap, ops::Range, time::Duration};

use forebay_queue::{MessageDetail, MessageError, MessageResult, MessageRun, MessageState, Severity};

use super::units::Found;
use crate::{
    process::{Mode, Outcome, Report, sink::Message},
    routes::{MessageOptions, TestMessages},
};

/// No message is further ahead of the first without an outcome: what is ahead is remembered.
const LONGEST: u64 = 4_096;
/// "Application internal error" (HL7 table 0357).
const INTERNAL_ERROR: u32 = 207;

/// The messages that have no durable outcome yet, and those ahead of them that have.
#[derive(Debug)]
pub(super) struct Ledger {
    options: MessageOptions,
    pause_after: usize,
    of: u64,
    next: u64,
    offset: u64,
    /// The last message that was found.
    found: u64,
    slots: BTreeMap<u64, Slot>,
    /// Rises with every hand-over and every failure: what came later is told by it.
    ticks: u64,
}

#[derive(Debug)]
struct Slot {
    range: Range<u64>,
    attempts: u32,
    standing: Standing,
}

#[derive(Debug)]
enum Standing {
    /// It is to be handed over, now or from then on.
    Waiting(Box<Waiting>),
    Running {
        begun: u64,
        message: Box<Waiting>,
    },
    SetAside {
        at: u64,
        reason: String,
    },
    /// It has an outcome, which is not durable.
    Over(MessageRun),
    /// That is being made durable.
    Noting,
    Durable,
}

#[derive(Debug)]
struct Waiting {
    found: Found,
    /// Not before this time of the clock that never goes back.
    from: Option<Duration>,
}

/// Outcomes that are to be made durable together, and where the file stands then.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Group {
    pub(super) runs: Vec<MessageRun>,
    pub(super) next: u64,
    pub(super) offset: u64,
}

impl Ledger {
    pub(super) fn new(state: &MessageState, options: &MessageOptions, pause_after: u32) -> Self {
        let durable = |ordinal: &u64| (*ordinal, Slot { range: 0..0, attempts: 0, standing: Standing::Durable });
        Self {
            options: options.clone(),
            pause_after: usize::try_from(pause_after).unwrap_or(usize::MAX).max(1),
            of: state.progress.messages,
            next: state.progress.next,
            offset: state.progress.offset,
            found: state.progress.next.saturating_sub(1),
            slots: state.ahead.iter().map(durable).collect(),
            ticks: 0,
        }
    }

    /// True if it has use for the next message of the file.
    pub(super) fn wants_more(&self) -> bool {
        // The places of those that have an outcome already are needed to say how far the file is.
        let is_behind_known = self.slots.last_key_value().is_some_and(|(last, _)| self.found < *last);
        let waits = |slot: &Slot| matches!(&slot.standing, Standing::Waiting(waiting) if waiting.from.is_none());
        is_behind_known
            || (self.unsettled() < self.options.in_flight
                && self.found + 1 < self.next + LONGEST
                && !self.slots.values().any(waits))
    }

    /// Handed over, and without a durable outcome. One that failed and is tried again holds its place: with one in flight
    /// none overtakes it.
    fn unsettled(&self) -> usize {
        let counts = |slot: &&Slot| match &slot.standing {
            Standing::Running { .. } | Standing::Over(_) | Standing::Noting => true,
            Standing::Waiting(waiting) => waiting.from.is_some(),
            Standing::SetAside { .. } | Standing::Durable => false,
        };
        self.slots.values().filter(counts).count()
    }

    /// Takes the next message of the file.
    pub(super) fn take(&mut self, found: Found) {
        let (ordinal, range) = (found.ordinal, found.range.clone());
        self.found = ordinal;
        if let Some(slot) = self.slots.get_mut(&ordinal) {
            // It had its outcome before.
            slot.range = range;
            self.advance();
            return;
        }
        let standing = match &found.body {
            Err(why) => Standing::Over(run(ordinal, MessageResult::Rejected, Some(said(why, None)))),
            Ok(_) if self.is_for_nobody(&found) => Standing::Over(run(ordinal, MessageResult::Tested, None)),
            Ok(_) => Standing::Waiting(Box::new(Waiting { found, from: None })),
        };
        self.slots.insert(ordinal, Slot { range, attempts: 0, standing });
    }

    fn is_for_nobody(&self, found: &Found) -> bool {
        self.options.test == TestMessages::Answer && found.mode != Mode::Production
    }

    /// The next message that is to be handed over now, if one is.
    pub(super) fn begin(&mut self, elapsed: Duration) -> Option<Message> {
        let has_room = self.unsettled() < self.options.in_flight;
        let is_due = |slot: &Slot| match &slot.standing {
            Standing::Waiting(waiting) => waiting.from.map_or(has_room, |from| from <= elapsed),
            _ => false,
        };
        let (ordinal, slot) = self.slots.iter_mut().find(|(_, slot)| is_due(slot))?;
        let Standing::Waiting(message) = std::mem::replace(&mut slot.standing, Standing::Durable) else { return None };
        let handed = Message {
            ordinal: *ordinal,
            of: self.of,
            attempt: slot.attempts + 1,
            control_id: message.found.control_id.clone(),
            message_type: message.found.message_type.clone(),
            mode: message.found.mode,
            bytes: message.found.body.as_ref().map(|body| body.bytes.clone()).unwrap_or_default(),
        };
        self.ticks += 1;
        slot.standing = Standing::Running { begun: self.ticks, message };
        Some(handed)
    }

    /// When a message is to be tried again, if none is to be before.
    pub(super) fn due(&self) -> Option<Duration> {
        let from = |slot: &Slot| match &slot.standing {
            Standing::Waiting(waiting) => waiting.from,
            _ => None,
        };
        self.slots.values().filter_map(from).min()
    }

    /// A message was answered. `again_after` is the wait after a failure of this number. Gives the outcome of the attempt at
    /// the file if nothing more is to be handed over.
    pub(super) fn answered(
        &mut self,
        ordinal: u64,
        report: Report,
        elapsed: Duration,
        again_after: impl Fn(u32) -> Duration,
    ) -> Option<Outcome> {
        let slot = self.slots.get_mut(&ordinal)?;
        let Standing::Running { begun, message } = std::mem::replace(&mut slot.standing, Standing::Durable) else {
            return None;
        };
        let Report { outcome, output } = report;
        let (result, detail) = match outcome {
            Outcome::Done => (MessageResult::Accepted, None),
            Outcome::Quarantine { reason } => {
                (MessageResult::Refused, Some(said(&with_output(&reason, &output), None)))
            }
            Outcome::Failed { reason } => {
                slot.attempts += 1;
                self.ticks += 1;
                let reason = with_output(&reason, &output);
                slot.standing = match slot.attempts < self.options.attempts {
                    true => {
                        let from = elapsed.saturating_add(again_after(slot.attempts));
                        Standing::Waiting(Box::new(Waiting { from: Some(from), ..*message }))
                    }
                    // Its bytes are not wanted any more.
                    false => Standing::SetAside { at: self.ticks, reason },
                };
                return self.is_down();
            }
            // What was not judged goes back, and is handed over again with the file.
            other => {
                slot.standing = Standing::Waiting(Box::new(Waiting { from: None, ..*message }));
                return Some(other);
            }
        };
        slot.standing = Standing::Over(run(ordinal, result, detail));
        self.blame_those_set_aside_before(begun);
        None
    }

    /// The system behind works: what failed before is at fault itself.
    fn blame_those_set_aside_before(&mut self, begun: u64) {
        for (ordinal, slot) in &mut self.slots {
            if let Standing::SetAside { at, reason } = &slot.standing
                && *at < begun
            {
                let detail =
                    said(&format!("given up after {} attempts: {reason}", slot.attempts), Some(INTERNAL_ERROR));
                slot.standing = Standing::Over(run(*ordinal, MessageResult::Refused, Some(detail)));
            }
        }
    }

    fn is_down(&self) -> Option<Outcome> {
        let reasons: Vec<_> = self.set_aside().collect();
        let (_, last) = reasons.last().filter(|_| reasons.len() >= self.pause_after)?;
        Some(Outcome::BackendDown { reason: format!("{} messages in a row failed, last: {last}", reasons.len()) })
    }

    fn set_aside(&self) -> impl Iterator<Item = (u64, &str)> {
        self.slots.iter().filter_map(|(ordinal, slot)| match &slot.standing {
            Standing::SetAside { reason, .. } => Some((*ordinal, reason.as_str())),
            _ => None,
        })
    }

    /// Takes all outcomes that are not durable, to make them so.
    pub(super) fn take_outcomes(&mut self) -> Option<Group> {
        let (next, offset) = self.after_noting()?;
        let mut runs: Vec<MessageRun> = Vec::new();
        for slot in self.slots.values_mut() {
            if !matches!(slot.standing, Standing::Over(_)) {
                continue;
            }
            if let Standing::Over(run) = std::mem::replace(&mut slot.standing, Standing::Noting)
                && !runs.last_mut().is_some_and(|last| last.join(&run))
            {
                runs.push(run);
            }
        }
        (!runs.is_empty()).then_some(Group { runs, next, offset })
    }

    /// The first message that has no outcome then, and where it may begin; none as long as the place of one before it has not
    /// been found again.
    fn after_noting(&self) -> Option<(u64, u64)> {
        let (mut next, mut offset) = (self.next, self.offset);
        while let Some(Slot { range, standing: Standing::Over(_) | Standing::Noting | Standing::Durable, .. }) =
            self.slots.get(&next)
        {
            if range.is_empty() {
                return None;
            }
            (next, offset) = (next + 1, range.end);
        }
        Some((next, offset))
    }

    /// What was being made durable is.
    pub(super) fn noted(&mut self) {
        for slot in self.slots.values_mut() {
            if matches!(slot.standing, Standing::Noting) {
                slot.standing = Standing::Durable;
            }
        }
        self.advance();
    }

    fn advance(&mut self) {
        while let Some(entry) = self.slots.first_entry() {
            // One that had its outcome before is passed only when it was found again, with its place.
            let is_next = *entry.key() == self.next && !entry.get().range.is_empty();
            if !is_next || !matches!(entry.get().standing, Standing::Durable) {
                break;
            }
            self.offset = entry.get().range.end;
            self.next += 1;
            entry.remove();
        }
    }

    /// The outcome of a file of which no message is left to be handed over.
    pub(super) fn end(&self) -> Outcome {
        match self.set_aside().next() {
            None => Outcome::Done,
            // There is none behind it to tell by.
            Some((ordinal, reason)) => Outcome::Failed { reason: format!("message {ordinal}: {reason}") },
        }
    }

    /// True if messages are left that are handed over sooner or later.
    pub(super) fn has_more(&self) -> bool {
        self.slots.values().any(|slot| matches!(slot.standing, Standing::Waiting(_)))
    }
}

fn run(ordinal: u64, result: MessageResult, detail: Option<MessageDetail>) -> MessageRun {
    MessageRun { first: ordinal, count: 1, result, detail }
}

fn said(text: &str, code: Option<u32>) -> MessageDetail {
    // The queue cuts what is too long to be kept.
    let text = text.to_owned();
    let error =
        |code| MessageError { at: String::new(), code, severity: Severity::Error, text: text.clone(), is_ours: true };
    MessageDetail { errors: code.map(error).into_iter().collect(), text }
}

/// A reason with the last line of what the sink wrote.
fn with_output(reason: &str, output: &str) -> String {
    match output.lines().rev().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{reason}: {}", line.trim()),
        None => reason.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use forebay_queue::{Progress, Tally};
    use tokio::sync::Semaphore;

    use super::*;
    use crate::process::messages::units::Body;

    const PAUSE_AFTER: u32 = 3;

    fn ledger(of: u64, next: u64, ahead: &[u64], options: &str) -> Ledger {
        let options = toml::from_str(&format!("format = \"hl7v2\"\n{options}")).unwrap();
        let progress = Progress { messages: of, next, offset: (next - 1) * 10, tally: Tally::default() };
        Ledger::new(&MessageState { progress, ahead: ahead.to_vec() }, &options, PAUSE_AFTER)
    }

    fn found(ordinal: u64) -> Found {
        found_with(ordinal, Mode::Production, Ok(()))
    }

    fn found_with(ordinal: u64, mode: Mode, body: Result<(), String>) -> Found {
        let room = std::sync::Arc::new(Semaphore::new(1)).try_acquire_owned().unwrap();
        Found {
            ordinal,
            range: (ordinal - 1) * 10..ordinal * 10,
            control_id: format!("M{ordinal}"),
            message_type: "VXU".to_owned(),
            mode,
            body: body.map(|()| Body::new(Bytes::from_static(b"MSH|"), room)),
        }
    }

    fn answered(ledger: &mut Ledger, ordinal: u64, outcome: Outcome) -> Option<Outcome> {
        ledger.answered(ordinal, outcome.into(), Duration::ZERO, |_| Duration::ZERO)
    }

    fn failed() -> Outcome {
        Outcome::Failed { reason: "exit 1".to_owned() }
    }

    /// Hands the next one over, which must be this one.
    fn begin(ledger: &mut Ledger, ordinal: u64) {
        assert_eq!(ledger.begin(Duration::ZERO).map(|message| message.ordinal), Some(ordinal));
    }

    fn note(ledger: &mut Ledger) -> Group {
        let group = ledger.take_outcomes().expect("something to note");
        ledger.noted();
        group
    }

    #[test]
    fn the_next_waits_until_the_outcome_before_it_is_durable() {
        let mut ledger = ledger(2, 1, &[], "");
        assert!(ledger.wants_more());
        ledger.take(found(1));
        assert!(!ledger.wants_more(), "one waits");
        begin(&mut ledger, 1);
        assert!(!ledger.wants_more());
        assert_eq!(answered(&mut ledger, 1, Outcome::Done), None);
        assert!(!ledger.wants_more(), "its outcome is not durable");
        let group = ledger.take_outcomes().unwrap();
        assert_eq!((group.runs.len(), group.next, group.offset), (1, 2, 10));
        assert!(!ledger.wants_more(), "nor while it is being made so");
        ledger.noted();
        assert!(ledger.wants_more());
        ledger.take(found(2));
        begin(&mut ledger, 2);
        answered(&mut ledger, 2, Outcome::Done);
        assert_eq!(note(&mut ledger).next, 3);
        assert_eq!(ledger.end(), Outcome::Done);
    }

    #[test]
    fn no_more_are_out_than_may_be_and_those_alike_are_one_run() {
        let mut ledger = ledger(9, 1, &[], "in_flight = 3");
        for ordinal in 1..=3 {
            ledger.take(found(ordinal));
            begin(&mut ledger, ordinal);
        }
        assert!(!ledger.wants_more());
        answered(&mut ledger, 2, Outcome::Done);
        answered(&mut ledger, 3, Outcome::Done);
        let group = note(&mut ledger);
        assert_eq!((group.runs[0].first, group.runs[0].count, group.next, group.offset), (2, 2, 1, 0));
        ledger.take(found(4));
        begin(&mut ledger, 4);
        answered(&mut ledger, 1, Outcome::Done);
        let group = note(&mut ledger);
        assert_eq!((group.runs[0].first, group.runs[0].count, group.next, group.offset), (1, 1, 4, 30));
    }

    #[test]
    fn one_that_always_fails_is_refused_when_the_one_behind_it_gets_through() {
        let mut ledger = ledger(3, 1, &[], "");
        ledger.take(found(1));
        for _ in 0..3 {
            assert!(!ledger.wants_more(), "none overtakes it");
            begin(&mut ledger, 1);
            assert_eq!(answered(&mut ledger, 1, failed()), None);
        }
        assert!(ledger.begin(Duration::ZERO).is_none() && ledger.wants_more(), "it is set aside");
        assert_eq!(ledger.take_outcomes(), None);
        ledger.take(found(2));
        begin(&mut ledger, 2);
        answered(&mut ledger, 2, Outcome::Done);
        let group = note(&mut ledger);
        let results: Vec<_> = group.runs.iter().map(|run| (run.first, run.result)).collect();
        assert_eq!(results, [(1, MessageResult::Refused), (2, MessageResult::Accepted)]);
        assert_eq!(group.runs[0].detail.as_ref().unwrap().errors[0].code, 207);
        assert_eq!((group.next, ledger.end()), (3, Outcome::Done));
    }

    #[test]
    fn one_that_was_begun_before_the_failure_blames_nobody() {
        let mut ledger = ledger(3, 1, &[], "in_flight = 2\nattempts = 1");
        for ordinal in 1..=2 {
            ledger.take(found(ordinal));
            begin(&mut ledger, ordinal);
        }
        answered(&mut ledger, 1, failed());
        answered(&mut ledger, 2, Outcome::Done);
        assert_eq!(note(&mut ledger).next, 1);
        assert!(matches!(ledger.end(), Outcome::Failed { .. }), "none is behind it to tell by");
    }

    #[test]
    fn a_system_that_is_down_burns_nothing() {
        let mut ledger = ledger(9, 1, &[], "attempts = 1");
        for ordinal in 1..=2 {
            ledger.take(found(ordinal));
            begin(&mut ledger, ordinal);
            assert_eq!(answered(&mut ledger, ordinal, failed()), None);
        }
        ledger.take(found(3));
        begin(&mut ledger, 3);
        let Some(Outcome::BackendDown { reason }) = answered(&mut ledger, 3, failed()) else { panic!("not down") };
        assert!(reason.starts_with("3 messages in a row failed"), "{reason}");
        assert_eq!(ledger.take_outcomes(), None, "none has an outcome");
    }

    #[test]
    fn what_was_not_judged_goes_back() {
        for outcome in [
            Outcome::gate_closed(),
            Outcome::BackendDown { reason: "no".to_owned() },
            Outcome::Retry { reason: "later".to_owned(), after: None },
            Outcome::Hold { reason: "look".to_owned() },
        ] {
            let mut ledger = ledger(2, 1, &[], "");
            ledger.take(found(1));
            begin(&mut ledger, 1);
            assert_eq!(answered(&mut ledger, 1, outcome.clone()), Some(outcome));
            assert!(ledger.has_more());
            assert_eq!(ledger.take_outcomes(), None);
        }
    }

    #[test]
    fn what_is_missing_or_a_test_is_never_handed_over() {
        let mut ledger = ledger(3, 1, &[], "");
        ledger.take(found_with(1, Mode::Production, Err("MSH-10 is missing".to_owned())));
        assert_eq!(note(&mut ledger).runs[0].result, MessageResult::Rejected);
        ledger.take(found_with(2, Mode::Training, Ok(())));
        assert_eq!(note(&mut ledger).runs[0].result, MessageResult::Tested);
        assert!(ledger.begin(Duration::ZERO).is_none());
        let mut ledger = self::ledger(3, 1, &[], "test = \"hand-over\"");
        ledger.take(found_with(1, Mode::Debugging, Ok(())));
        begin(&mut ledger, 1);
    }

    #[test]
    fn what_had_an_outcome_before_a_crash_is_passed_over() {
        let mut ledger = ledger(9, 3, &[4, 6], "in_flight = 4");
        ledger.take(found(3));
        assert!(ledger.wants_more(), "the places of 4 and 6 are not known yet");
        begin(&mut ledger, 3);
        answered(&mut ledger, 3, Outcome::Done);
        assert_eq!(ledger.take_outcomes(), None, "how far the file is cannot be told yet");
        ledger.take(found_with(4, Mode::Production, Err(String::new())));
        ledger.take(found(5));
        ledger.take(found_with(6, Mode::Production, Err(String::new())));
        let group = note(&mut ledger);
        assert_eq!((group.runs[0].first, group.next, group.offset), (3, 5, 40));
        begin(&mut ledger, 5);
        answered(&mut ledger, 5, Outcome::Done);
        assert_eq!(note(&mut ledger).next, 7);
    }
}
