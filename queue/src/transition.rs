//! The effect of each fact on an entry: the one place where states change, for live commands and
//! for replay alike.
//!
//! Pure: no I/O, no clock, no index. What is not in the record and not in the entry has no effect.
//!
//! # Guarantees
//! - [`Entry::apply`] refuses a record that is not a legal transition, and changes nothing then.
//! - [`Entry::follow`] takes it all the same, because a record that is in the journal has happened.
//!   Both have the same effect on a legal one, so a replay ends where the live queue was.
//! - [`Entry::others`] names all other entries that a record changes, and [`Entry::touched`] is
//!   their change. An entry that is in neither is not changed.
//!
//! A new fact needs a decision in `check` and `check_fact`, in `change`, and, if it is about other
//! entries as well, in `others`, `check_touched` and `touched`. Facts of older versions are never
//! removed: journals last for years.

use chrono::{DateTime, Utc};
use forebay_storage::FileId;

use crate::{
    Action, Entry, Fact, Hold, Inline, Lease, LeaseToken, NodeId, QueueError, Record, Result, State, Superseded,
};

/// The reason of an entry that no route serves.
pub(crate) const NO_ROUTE: &str = "no route serves this file";

/// After this many crashes of the server with the entry active it is held: the file itself may be
/// what brings the server down.
pub(crate) const CRASHES_UNTIL_HELD: u32 = 3;

impl Entry {
    /// Returns the entry after `record`, which stands at `seq` in the journal, and `None` when it
    /// was purged. `old` is the entry as it stood before, if there was one.
    ///
    /// # Errors
    /// When the record is not allowed in the entry's state, or names a file that is not known.
    pub fn apply(old: Option<&Self>, seq: u64, record: &Record) -> Result<Option<Self>> {
        check(old, record)?;
        Ok(Self::follow(old, seq, record))
    }

    /// As [`Entry::apply`] without the check, for a journal that damage took records from: what came later holds.
    pub(crate) fn follow(old: Option<&Self>, seq: u64, record: &Record) -> Option<Self> {
        match &record.fact {
            Fact::Accepted { .. } => accepted(seq, record),
            // The record has the whole entry: what was before is replaced, also when nothing was.
            Fact::Carried { entry, .. } => {
                let mut entry = (**entry).clone();
                entry.changed_seq = seq;
                // A version before this one did not say so.
                entry.begun |= entry.attempts > 0 || entry.crashes > 0;
                if entry.state == State::Held && entry.hold.is_none() {
                    entry.hold = Some(Hold::of_sentence(entry.reason.as_deref()));
                }
                Some(entry)
            }
            Fact::Purged => None,
            _ => {
                let mut entry = old?.clone();
                entry.change(seq, record);
                entry.changed_seq = seq;
                Some(entry)
            }
        }
    }

    /// Returns the other entries that a record is about besides its own. `own` is its own entry as
    /// it stood before the record.
    pub(crate) fn others(record: &Record, own: Option<&Self>) -> Vec<FileId> {
        match &record.fact {
            Fact::Accepted { supersedes, .. } => supersedes.iter().copied().collect(),
            Fact::Withdrawn { .. } => own.and_then(|own| own.supersedes).into_iter().collect(),
            Fact::Moved { files, .. } => files.iter().map(|file| file.id).collect(),
            Fact::Claimed { files, .. } => files.iter().map(|file| file.id).collect(),
            _ => Vec::new(),
        }
    }

    /// Checks whether the record may follow on the state of this entry, one of [`Entry::others`].
    pub(crate) fn check_touched(&self, record: &Record) -> Result<()> {
        match record.fact {
            Fact::Claimed { .. } if !self.state.waits() => {
                Err(QueueError::WrongState { id: self.id, state: self.state, action: "start" })
            }
            _ => Ok(()),
        }
    }

    /// Returns the entry after a record that is about it among [`Entry::others`], and `None` when
    /// nothing of it changes: it may have been begun or purged since the record was made.
    pub(crate) fn touched(&self, seq: u64, record: &Record) -> Option<Self> {
        let mut entry = self.clone();
        match &record.fact {
            Fact::Accepted { .. } if self.may_be_superseded() => {
                let by = record.id?;
                // Kept, so that the entry is what it was before if the later one is withdrawn.
                let (state, reason, hold) = (self.state, self.reason.clone(), self.hold);
                let how = if hold == Some(Hold::Adopted) { "sent again as" } else { "continued by" };
                entry.stand(State::Superseded, record, Some(format!("{how} file {by}")));
                entry.superseded = Some(Box::new(Superseded { by, state, reason, hold }));
            }
            Fact::Withdrawn { .. } => {
                // Only if it was superseded by the very entry that is withdrawn now.
                let before = entry.superseded.take().filter(|before| Some(before.by) == record.id)?;
                entry.stand(before.state, record, before.reason);
                entry.hold = before.hold;
            }
            // One under a temporary name gets its turn, and so a record of its own.
            Fact::Moved { files, .. } if self.may_be_renamed() && self.state != State::Unfinished => {
                let file = files.iter().find(|file| file.id == self.id)?;
                entry.rename(seq, record, &file.name, file.route.as_deref(), file.state);
                entry.reason.clone_from(&file.reason);
                entry.hold = file.hold;
            }
            Fact::Claimed { token, until, node, .. } => entry.start(record, *token, *until, node),
            _ => return None,
        }
        entry.receipt_hidden = false;
        entry.changed_seq = seq;
        Some(entry)
    }

    /// Gives the entry a new name, with the route and state that follow from it.
    fn rename(&mut self, seq: u64, record: &Record, name: &str, route: Option<&str>, state: State) {
        name.clone_into(&mut self.name);
        self.route = route.map(str::to_owned);
        // The turn of one under a temporary name counts from the acceptance under its final name; any other keeps its.
        if self.state == State::Unfinished && state != State::Unfinished {
            self.turn = seq;
        }
        self.stand(state, record, None);
    }

    /// The effect of a record on its own entry. Called after the check, or without one in a replay:
    /// then the state may be any, and each arm has to leave a consistent entry.
    fn change(&mut self, seq: u64, record: &Record) {
        self.receipt_hidden = record.fact == Fact::ReceiptHidden;
        match &record.fact {
            Fact::Named { name, route, state, reason, hold } => {
                self.rename(seq, record, name, route.as_deref(), *state);
                self.reason.clone_from(reason);
                self.set_hold(*hold);
            }
            Fact::Withdrawn { reason } => {
                self.stand(State::Withdrawn, record, reason.clone());
                self.claimable_from = None;
            }
            Fact::Started { token, until, node, .. } => self.start(record, *token, *until, node),
            Fact::Child { child, .. } => {
                // Without a lease nobody can be stopped any more: after a loss of records it may be
                // missing.
                if let Some(lease) = &mut self.lease {
                    lease.child = Some(child.clone());
                }
            }
            Fact::Ended { state, counted, due_at, reason, messages, .. } => {
                if messages.is_some() {
                    self.messages.clone_from(messages);
                }
                if *counted {
                    self.attempts = self.attempts.saturating_add(1);
                }
                self.stand(*state, record, reason.clone());
                match state {
                    State::Held => self.hold = Some(Hold::Processor),
                    State::Retrying => {
                        // Without a time it is due at once.
                        self.due_at = Some(due_at.unwrap_or(record.at));
                        if *counted && self.failing_since.is_none() {
                            self.failing_since = Some(record.at);
                        }
                    }
                    State::Done => {
                        self.failing_since = None;
                        self.not_duplicate = false;
                    }
                    _ => {}
                }
            }
            Fact::Crashed { state, messages } => {
                match messages {
                    Some(_) => self.messages.clone_from(messages),
                    None => self.crashes = self.crashes.saturating_add(1),
                }
                let reason =
                    (*state == State::Held).then(|| format!("active in {} crashes of the server", self.crashes));
                self.stand(*state, record, reason);
                self.hold = (*state == State::Held).then_some(Hold::Crashes);
            }
            Fact::Duplicate { of } => {
                self.stand(State::Duplicate, record, Some(format!("the same file was done as {of}")));
            }
            // If its successor is withdrawn, the entry comes back as held and not as it was before.
            Fact::Held { reason, hold } if self.state == State::Superseded => {
                if let Some(before) = &mut self.superseded {
                    (before.state, before.reason, before.hold) = (State::Held, reason.clone(), *hold);
                }
            }
            Fact::Held { reason, hold } => {
                self.stand(State::Held, record, reason.clone());
                self.set_hold(*hold);
            }
            Fact::Released { route, reason } => self.again(route.as_deref(), record, reason.clone()),
            Fact::Requeued { route, reason } => {
                self.again(route.as_deref(), record, reason.clone());
                self.attempts = 0;
                self.failing_since = None;
                self.crashes = 0;
                // An operator wants it processed again: it must not be skipped as a duplicate of
                // itself.
                self.not_duplicate = true;
                // What is through begins anew; what is not goes on.
                self.messages.take_if(|messages| messages.progress.is_complete());
            }
            Fact::Cancelled { reason } => self.stand(State::Cancelled, record, reason.clone()),
            // Told by the fact itself, or no fact about an entry's state.
            _ => {}
        }
    }

    /// A processor begins with it: active under a lease, and from now on it is never withdrawn or
    /// renamed.
    fn start(&mut self, record: &Record, token: LeaseToken, until: DateTime<Utc>, node: &NodeId) {
        self.begun = true;
        self.claimable_from = None;
        self.stand(State::Active, record, None);
        self.lease = Some(Lease { token, began_at: record.at, until, child: None, node: node.clone() });
    }

    /// The cause of a hold; a version before this one wrote a sentence alone.
    fn set_hold(&mut self, hold: Option<Hold>) {
        let held = self.state == State::Held;
        self.hold = held.then(|| hold.unwrap_or_else(|| Hold::of_sentence(self.reason.as_deref())));
    }

    /// `ready` on its route, or `held` when there is none.
    fn again(&mut self, route: Option<&str>, record: &Record, reason: Option<String>) {
        self.route = route.map(str::to_owned);
        match route {
            Some(_) => self.stand(State::Ready, record, reason),
            None => {
                self.stand(State::Held, record, Some(NO_ROUTE.into()));
                self.hold = Some(Hold::NoRoute);
            }
        }
    }

    /// Sets the state and everything that belongs to a state alone: since when, why, until when, by
    /// whom. Callers set `hold` and `due_at` afterwards, because this resets both.
    fn stand(&mut self, state: State, record: &Record, reason: Option<String>) {
        self.state = state;
        self.since = record.at;
        self.reason = reason;
        self.hold = None;
        self.due_at = None;
        self.lease = None;
    }
}

/// The entry that an acceptance makes. Its position in the queue is the sequence of its record.
fn accepted(seq: u64, record: &Record) -> Option<Entry> {
    let Fact::Accepted {
        partner,
        name,
        door,
        size_bytes,
        sha256,
        received_at,
        route,
        state,
        reason,
        hold,
        supersedes,
        continues,
        claimable_from,
        inline,
        ..
    } = &record.fact
    else {
        return None;
    };
    let mut entry = Entry {
        id: record.id?,
        turn: seq,
        partner: partner.clone(),
        name: name.clone(),
        door: door.clone(),
        size_bytes: *size_bytes,
        sha256: *sha256,
        received_at: *received_at,
        route: route.clone(),
        state: *state,
        since: record.at,
        reason: reason.clone(),
        attempts: 0,
        due_at: None,
        failing_since: None,
        lease: None,
        crashes: 0,
        changed_seq: seq,
        not_duplicate: false,
        hold: None,
        begun: false,
        supersedes: *supersedes,
        superseded: None,
        claimable_from: *claimable_from,
        content: inline.map(|inline| match inline {
            Inline::Here => seq,
            Inline::With(seq) => seq,
        }),
        receipt_hidden: false,
        messages: None,
        continues: continues.clone(),
    };
    entry.set_hold(*hold);
    Some(entry)
}

/// Checks whether the fact may follow on the state. Records without a file are about names or
/// notes, which are checked elsewhere (`QueueState::check_names`).
fn check(old: Option<&Entry>, record: &Record) -> Result<()> {
    let Some(id) = record.id else {
        return match record.fact {
            Fact::Noted { .. }
            | Fact::OriginsGone { .. }
            | Fact::FolderMade { .. }
            | Fact::FolderCarried { .. }
            | Fact::FolderRemoved { .. }
            | Fact::Hidden { .. }
            | Fact::Moved { .. }
            | Fact::TimeSet { .. }
            | Fact::NamesForgotten { .. }
            | Fact::Claimed { .. }
            | Fact::Damaged { .. } => Ok(()),
            _ => Err(invalid("a record about a file", "it names none".into())),
        };
    };
    match (&record.fact, old) {
        (Fact::Accepted { route, state, .. }, None) => settled_in(id, "accept", *state, &START, route.as_deref()),
        (Fact::Accepted { .. }, Some(_)) => Err(QueueError::Exists(id)),
        // It says how the entry stands, so no state before it can forbid it.
        (Fact::Carried { .. }, _) => Ok(()),
        (_, None) => Err(QueueError::NotFound(id)),
        (fact, Some(entry)) => check_fact(entry, fact),
    }
}

// The states that an acceptance or a rename may ask for, and those that an attempt may end in.
// `Ready` is among the ends for a claim that was given back without an attempt.
const START: [State; 3] = [State::Ready, State::Unfinished, State::Held];
const ENDS: [State; 6] = [State::Done, State::Retrying, State::Quarantined, State::Dead, State::Ready, State::Held];

/// Checks a fact against the state of its own entry: one table for all.
fn check_fact(entry: &Entry, fact: &Fact) -> Result<()> {
    use State::{
        Active, Cancelled, Dead, Done, Duplicate, Held, Quarantined, Ready, Retrying, Superseded, Unfinished, Withdrawn,
    };
    let wrong = |action| Err(QueueError::WrongState { id: entry.id, state: entry.state, action });
    let (allowed, action): (&[State], _) = match fact {
        Fact::Named { .. } if !entry.may_be_renamed() => return wrong("rename"),
        Fact::Named { .. } => (&[Unfinished, Ready, Held], "rename"),
        Fact::Withdrawn { .. } if entry.begun => return wrong("withdraw"),
        Fact::Withdrawn { .. } => (&[Unfinished, Ready, Held], "withdraw"),
        Fact::Started { .. } => (&[Ready, Retrying], "start"),
        Fact::Child { .. } | Fact::Ended { .. } | Fact::Crashed { .. } => (&[Active], "end an attempt"),
        Fact::Duplicate { .. } => (&[Ready, Retrying], "mark as a duplicate"),
        // What a later one took the place of may come back.
        Fact::Held { hold: Some(Hold::ReplyNotRead), .. } => (&[Unfinished, Ready, Retrying, Superseded], "hold"),
        Fact::Held { .. } => (&[Unfinished, Ready, Retrying], "hold"),
        Fact::Released { .. } => (&[Held], "release"),
        Fact::Requeued { .. } => (&[Done, Quarantined, Dead, Cancelled, Duplicate, Held, Retrying], "requeue"),
        Fact::Cancelled { .. } => (&[Unfinished, Ready, Retrying, Held, Quarantined, Dead, Duplicate], "cancel"),
        Fact::Purged => (&[Done, Cancelled, Duplicate, Superseded, Withdrawn], "purge"),
        // Facts that say nothing of the state.
        _ => (&State::ALL, "note"),
    };
    if !allowed.contains(&entry.state) {
        return wrong(action);
    }
    match fact {
        Fact::Named { route, state, .. } => settled_in(entry.id, "rename", *state, &START, route.as_deref()),
        Fact::Ended { state, .. } => settled_in(entry.id, "settle", *state, &ENDS, entry.route.as_deref()),
        Fact::Child { token, .. } if entry.lease.as_ref().is_none_or(|lease| lease.token != *token) => {
            Err(QueueError::LeaseLost(entry.id))
        }
        _ => Ok(()),
    }
}

/// Checks that the state that is asked for is one of those that may follow, and that an entry that
/// waits for a processor has a route to wait on.
fn settled_in(id: FileId, action: &str, state: State, allowed: &[State], route: Option<&str>) -> Result<()> {
    if !allowed.contains(&state) {
        return Err(invalid(&format!("cannot {action} file {id}"), format!("{state} does not follow")));
    }
    if state.waits() && route.is_none() {
        return Err(invalid(&format!("cannot {action} file {id}"), format!("{state} needs a route")));
    }
    Ok(())
}

fn invalid(doing: &str, what: String) -> QueueError {
    QueueError::Io { doing: doing.into(), source: std::io::Error::new(std::io::ErrorKind::InvalidInput, what) }
}

impl Action {
    /// The fact that it writes about the entry at place `index` of those it was asked for.
    pub(crate) fn fact(&self, index: usize, reason: Option<String>) -> Fact {
        let route = |routes: &[Option<String>]| routes.get(index).cloned().flatten();
        match self {
            Self::Hold(hold) => Fact::Held { reason, hold: Some(*hold) },
            Self::Release(routes) => Fact::Released { route: route(routes), reason },
            Self::Requeue(routes) => Fact::Requeued { route: route(routes), reason },
            Self::Cancel => Fact::Cancelled { reason },
        }
    }
}
