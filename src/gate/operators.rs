//! The operators' actions on the gate: close, extend, reopen, clear, and confirm the clock.
//!
//! # Guarantees
//! - What closes is in force first and stored afterwards: a disk that fails must not keep the gate
//!   open.
//! - What opens is stored first and in force afterwards: a restart must not close it again.
//! - [`Gate::close`], [`Gate::extend`] and [`Gate::clear`] return when every hand-over that was
//!   admitted before has begun, and no other that they forbid can begin.
//! - Changes are made one at a time, under the ledger's lock; waiting is done without it.
//!
//! All of them may block on the disk and on hand-overs, and are called on blocking threads.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use tracing::info;

use super::{
    live::{Gate, GateError, Ledger},
    overrides::{Action, Override, place},
    schedule::MESSAGE,
    snapshot::OTHERS,
    state::{Closure, Scope, State},
};
use crate::units::text_file::with_plain_line_ends;

/// The most that an end is moved by at once.
const LONGEST: TimeDelta = TimeDelta::days(3_660);

/// The end of an extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Until {
    /// This instant.
    At(DateTime<Utc>),
    /// So much later than it would be.
    /// At most ten years; a longer time counts as that.
    By(Duration),
}

impl Gate {
    /// Closes now: the scopes that are named (`web` for the web faces), or everything. Blocks until every hand-over
    /// that was beginning has begun; when it returns, no other can begin.
    ///
    /// # Errors
    /// When the end is past, or with [`GateError::NotKept`] when the override could not be stored: the gate is closed all
    /// the same, but would not be after a restart.
    pub fn close(
        &self,
        scope: Vec<String>,
        until: Option<DateTime<Utc>>,
        reason: String,
        message: Option<String>,
        actor: String,
    ) -> Result<Override, GateError> {
        let at = self.clock.now();
        if let Some(until) = until.filter(|until| *until <= at) {
            return Err(GateError::TooEarly { until, than: at });
        }
        let new = Override {
            id: 0,
            action: Action::Close,
            scope,
            at,
            from: at,
            until,
            name: "Closed by an operator".to_owned(),
            reason,
            message: message.unwrap_or_else(|| MESSAGE.to_owned()),
            actor,
            broken: false,
        };
        self.shut(new)
    }

    /// Moves the end of what is closed now, in everything if everything is closed, else in what is.
    ///
    /// # Errors
    /// When nothing is closed, there is no end, or the new one is not later; or as [`Gate::close`].
    pub fn extend(&self, until: Until, reason: String, actor: String) -> Result<Override, GateError> {
        let at = self.clock.now();
        // Looked up without the lock: a closure that ends meanwhile is prolonged all the same,
        // which closes.
        let (scope, closure) = self.widest_closure(at).ok_or(GateError::NothingClosed)?;
        let than = closure.until.ok_or(GateError::NoEnd)?;
        let until = match until {
            Until::At(until) => until,
            Until::By(by) => than + TimeDelta::from_std(by).unwrap_or(LONGEST).min(LONGEST),
        };
        if until <= than {
            return Err(GateError::TooEarly { until, than });
        }
        let new = Override {
            id: 0,
            action: Action::Extend,
            scope,
            at,
            from: at,
            until: Some(until),
            name: closure.name,
            reason,
            message: closure.message,
            actor,
            broken: false,
        };
        self.shut(new)
    }

    /// Reopens what is closed now, in the scopes that are named or in all, until that closure's end: a window that
    /// begins later closes again. While the clock is not trusted this confirms it as well.
    ///
    /// # Errors
    /// When nothing is closed, or the override could not be stored; then nothing has changed.
    pub fn reopen(&self, scope: Vec<String>, reason: String, actor: String) -> Result<Override, GateError> {
        let reason = reason.trim().to_owned();
        check_words(&reason, None)?;
        // Held to the end: nobody else may change what is reopened between the look and the change.
        let ledger = &mut *self.ledger.lock();
        let at = self.clock.now();
        let doubted = ledger.untrusted.is_some_and(|newest| at < newest);
        let has_jumped = self.doubted().is_some();
        let snapshot = self.snapshot();
        let concerned = if scope.is_empty() { snapshot.scopes() } else { named(&scope) };
        let (mut from, mut until, mut any) = (at, Some(at), doubted || has_jumped);
        for one in &concerned {
            let Some((began, ends)) = snapshot.present(one, at) else { continue };
            any = true;
            from = from.min(began);
            until = until.zip(ends).map(|(one, other)| one.max(other));
        }
        if !any {
            return Err(GateError::NothingClosed);
        }
        let new = Override {
            id: ledger.memory.next_id,
            action: Action::Open,
            scope,
            at,
            from,
            until,
            name: "Opened by an operator".to_owned(),
            reason,
            message: String::new(),
            actor,
            broken: snapshot.broken.is_some(),
        };
        let mut memory = ledger.memory.clone();
        memory.next_id += 1;
        memory.epoch += 1;
        if doubted {
            memory.confirmed = ledger.newest;
        }
        place(&mut memory.overrides, new.clone());
        // Stored before it is open: what would be closed after a restart is not open before it.
        ledger.store.write(&memory)?;
        ledger.memory = memory;
        if doubted {
            ledger.untrusted = None;
        }
        if has_jumped {
            self.believe(ledger);
        }
        info!(id = new.id, actor = new.actor, reason = new.reason, "the gate was opened by an operator");
        self.publish(ledger);
        Ok(new)
    }

    /// Takes back one override, or all: the schedule decides again.
    ///
    /// # Errors
    /// When there is none of this id, or the change could not be stored; then nothing has changed.
    pub fn clear(&self, id: Option<u64>, actor: &str) -> Result<Vec<Override>, GateError> {
        let mut guard = self.ledger.lock();
        let ledger = &mut *guard;
        let mut memory = ledger.memory.clone();
        let (gone, kept) = memory.overrides.into_iter().partition(|one| id.is_none_or(|id| one.id == id));
        memory.overrides = kept;
        let gone: Vec<Override> = gone;
        if let (Some(id), true) = (id, gone.is_empty()) {
            return Err(GateError::NoSuchOverride(id));
        }
        memory.epoch += 1;
        ledger.store.write(&memory)?;
        ledger.memory = memory;
        info!(overrides = gone.len(), actor, "overrides were cleared by an operator");
        let epoch = self.publish(ledger);
        // The ledger is released before the wait: a hand-over may take its time, and `tick` and
        // other operators must go on.
        drop(guard);
        // Taking back an `open` closes.
        self.turnstile.wait_for_those_before(epoch);
        Ok(gone)
    }

    /// Confirms that the clock is right although the journal has records with later times, or it has jumped.
    ///
    /// # Errors
    /// When that could not be stored; then nothing has changed.
    pub fn confirm_clock(&self, actor: &str) -> Result<(), GateError> {
        let ledger = &mut *self.ledger.lock();
        let mut memory = ledger.memory.clone();
        memory.confirmed = ledger.newest;
        memory.epoch += 1;
        ledger.store.write(&memory)?;
        ledger.memory = memory;
        ledger.untrusted = None;
        self.believe(ledger);
        info!(actor, now = %self.clock.now(), "the clock was confirmed by an operator");
        self.publish(ledger);
        Ok(())
    }

    /// Makes a closing override: in force first, stored afterwards. Blocks until every hand-over
    /// that was admitted before has begun, also when storing has failed.
    fn shut(&self, mut new: Override) -> Result<Override, GateError> {
        new.reason = new.reason.trim().to_owned();
        new.message = with_plain_line_ends(new.message.trim());
        check_words(&new.reason, Some(&new.message))?;
        // The ledger is held in this block alone: `wait_for_those_before` may take its time.
        let (epoch, stored) = {
            let ledger: &mut Ledger = &mut self.ledger.lock();
            new.id = ledger.memory.next_id;
            ledger.memory.next_id += 1;
            place(&mut ledger.memory.overrides, new.clone());
            let epoch = self.publish(ledger);
            (epoch, ledger.store.write(&ledger.memory))
        };
        // Also when it could not be stored: it is in force.
        self.turnstile.wait_for_those_before(epoch);
        info!(id = new.id, actor = new.actor, reason = new.reason, until = ?new.until, "the gate was closed by an operator");
        stored.map(|_| new).map_err(|error| GateError::NotKept(Box::new(error)))
    }

    /// Returns the closure of everything, or else of all the routes that are closed: the one that
    /// ends last.
    fn widest_closure(&self, at: DateTime<Utc>) -> Option<(Vec<String>, Closure)> {
        let snapshot = self.snapshot();
        let closed = |scope: &Scope| match self.decide(&snapshot, scope, at) {
            State::Closed(closure) => Some(closure),
            State::Open { .. } => None,
        };
        if let Some(closure) = closed(&Scope::Route(OTHERS.to_owned())) {
            return Some((Vec::new(), closure));
        }
        let mut names = Vec::new();
        let mut last: Option<Closure> = None;
        for scope in snapshot.scopes() {
            let Some(closure) = closed(&scope) else { continue };
            names.push(scope.name().to_owned());
            let later = |last: &Closure| last.until.is_some_and(|last| closure.until.is_none_or(|until| until > last));
            if last.as_ref().is_none_or(later) {
                last = Some(closure);
            }
        }
        last.map(|closure| (names, closure))
    }
}

/// The scopes of these names; `web` is the web faces.
fn named(scope: &[String]) -> Vec<Scope> {
    let one = |name: &String| if name == Scope::Web.name() { Scope::Web } else { Scope::Route(name.clone()) };
    scope.iter().map(one).collect()
}

/// Refuses texts that are missing, too long, or would break a log line or a terminal.
fn check_words(reason: &str, message: Option<&str>) -> Result<(), GateError> {
    if reason.trim().is_empty() {
        return Err(GateError::Words("a reason is needed"));
    }
    let long = reason.len() > 2_000 || message.is_some_and(|message| message.len() > 8_000);
    let control = |text: &str| text.chars().any(|c| c.is_control() && c != '\n');
    if long || reason.contains('\n') || control(reason) || message.is_some_and(control) {
        return Err(GateError::Words("reason and message must be short texts without control characters"));
    }
    Ok(())
}
