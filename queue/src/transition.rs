//! What each fact makes of an entry: the one place where states change, for live commands and for replay alike.

use forebay_storage::FileId;

use crate::{Action, Entry, Fact, Lease, QueueError, Record, Result, State};

/// What is said of an entry that no route serves.
pub(crate) const NO_ROUTE: &str = "no route serves this file";

/// This many crashes of the server with the entry active, and it is held.
pub(crate) const CRASHES_UNTIL_HELD: u32 = 3;

impl Entry {
    /// The entry after `record`, which stands at `seq` in the journal; none when it was purged. `old` is the entry as
    /// it stood before, if there was one. Pure, and checked: what a state does not allow is an error and changes
    /// nothing.
    pub fn apply(old: Option<&Self>, seq: u64, record: &Record) -> Result<Option<Self>> {
        check(old, record)?;
        Ok(Self::follow(old, seq, record))
    }

    /// As [`Entry::apply`] without the check, for a journal that damage took records from: what came later holds.
    pub(crate) fn follow(old: Option<&Self>, seq: u64, record: &Record) -> Option<Self> {
        match &record.fact {
            Fact::Accepted { .. } => accepted(seq, record),
            Fact::Carried { entry } => {
                let mut entry = (**entry).clone();
                entry.changed_seq = seq;
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

    fn change(&mut self, seq: u64, record: &Record) {
        match &record.fact {
            Fact::Named { name, route, state, reason } => {
                self.name.clone_from(name);
                self.route.clone_from(route);
                // Its turn counts from the acceptance under its final name.
                if *state != State::Unfinished {
                    self.turn = seq;
                }
                self.stand(*state, record, reason.clone());
            }
            Fact::Started { token, until, .. } => {
                self.stand(State::Active, record, None);
                self.lease = Some(Lease { token: *token, began_at: record.at, until: *until, child: None });
            }
            Fact::Child { child, .. } => {
                if let Some(lease) = &mut self.lease {
                    lease.child = Some(*child);
                }
            }
            Fact::Ended { state, counted, due_at, reason, .. } => {
                if *counted {
                    self.attempts = self.attempts.saturating_add(1);
                }
                self.stand(*state, record, reason.clone());
                match state {
                    State::Retrying => {
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
            Fact::Crashed { state } => {
                self.crashes = self.crashes.saturating_add(1);
                let reason =
                    (*state == State::Held).then(|| format!("active in {} crashes of the server", self.crashes));
                self.stand(*state, record, reason);
            }
            Fact::Duplicate { of } => {
                self.stand(State::Duplicate, record, Some(format!("the same file was done as {of}")));
            }
            Fact::Held { reason } => self.stand(State::Held, record, reason.clone()),
            Fact::Released { route, reason } => self.again(route.as_deref(), record, reason.clone()),
            Fact::Requeued { route, reason } => {
                self.again(route.as_deref(), record, reason.clone());
                self.attempts = 0;
                self.failing_since = None;
                self.crashes = 0;
                self.not_duplicate = true;
            }
            Fact::Cancelled { reason } => self.stand(State::Cancelled, record, reason.clone()),
            Fact::Accepted { .. }
            | Fact::Carried { .. }
            | Fact::Purged
            | Fact::OriginsGone { .. }
            | Fact::Noted { .. } => {}
        }
    }

    /// `ready` on its route, or `held` when there is none.
    fn again(&mut self, route: Option<&str>, record: &Record, reason: Option<String>) {
        self.route = route.map(str::to_owned);
        match route {
            Some(_) => self.stand(State::Ready, record, reason),
            None => self.stand(State::Held, record, Some(NO_ROUTE.into())),
        }
    }

    fn stand(&mut self, state: State, record: &Record, reason: Option<String>) {
        self.state = state;
        self.since = record.at;
        self.reason = reason;
        self.due_at = None;
        self.lease = None;
    }
}

fn accepted(seq: u64, record: &Record) -> Option<Entry> {
    let Fact::Accepted { partner, name, door, size_bytes, sha256, received_at, route, state, reason, .. } =
        &record.fact
    else {
        return None;
    };
    Some(Entry {
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
    })
}

/// Whether the fact may follow on the state.
fn check(old: Option<&Entry>, record: &Record) -> Result<()> {
    let Some(id) = record.id else {
        return match record.fact {
            Fact::Noted { .. } | Fact::OriginsGone { .. } => Ok(()),
            _ => Err(invalid("a record about a file", "it names none".into())),
        };
    };
    match (&record.fact, old) {
        (Fact::Accepted { route, state, .. }, None) => settled_in(id, "accept", *state, &START, route.as_deref()),
        (Fact::Accepted { .. }, Some(_)) => Err(QueueError::Exists(id)),
        (Fact::Carried { .. }, _) => Ok(()),
        (_, None) => Err(QueueError::NotFound(id)),
        (fact, Some(entry)) => check_fact(entry, fact),
    }
}

const START: [State; 3] = [State::Ready, State::Unfinished, State::Held];
const ENDS: [State; 6] = [State::Done, State::Retrying, State::Quarantined, State::Dead, State::Ready, State::Held];

fn check_fact(entry: &Entry, fact: &Fact) -> Result<()> {
    use State::{Active, Cancelled, Dead, Done, Duplicate, Held, Quarantined, Ready, Retrying, Unfinished};
    let (allowed, action): (&[State], _) = match fact {
        Fact::Named { .. } => (&[Unfinished], "rename"),
        Fact::Started { .. } => (&[Ready, Retrying], "start"),
        Fact::Child { .. } | Fact::Ended { .. } | Fact::Crashed { .. } => (&[Active], "end an attempt"),
        Fact::Duplicate { .. } => (&[Ready, Retrying], "mark as a duplicate"),
        Fact::Held { .. } => (&[Unfinished, Ready, Retrying], "hold"),
        Fact::Released { .. } => (&[Held], "release"),
        Fact::Requeued { .. } => (&[Done, Quarantined, Dead, Cancelled, Duplicate, Held, Retrying], "requeue"),
        Fact::Cancelled { .. } => (&[Unfinished, Ready, Retrying, Held, Quarantined, Dead, Duplicate], "cancel"),
        Fact::Purged => (&[Done, Cancelled, Duplicate], "purge"),
        Fact::Accepted { .. } | Fact::Carried { .. } | Fact::OriginsGone { .. } | Fact::Noted { .. } => {
            (&State::ALL, "note")
        }
    };
    if !allowed.contains(&entry.state) {
        return Err(QueueError::WrongState { id: entry.id, state: entry.state, action });
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

/// The state that is asked for is one of those that may follow, and `ready` has a route to be ready on.
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
            Self::Hold => Fact::Held { reason },
            Self::Release(routes) => Fact::Released { route: route(routes), reason },
            Self::Requeue(routes) => Fact::Requeued { route: route(routes), reason },
            Self::Cancel => Fact::Cancelled { reason },
        }
    }
}
