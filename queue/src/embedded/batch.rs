//! One group of changes on its way to the journal: each is checked against everything before it.

use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::FileId;

use super::{
    index::{Fault, Index},
    keys, record_codec,
    staged::after,
    state::{QueueState, Take, may_be_purged, missing},
};
use crate::{
    Action, Actor, Child, Entry, Fact, LeaseToken, QueueError, Record, Result, State, transition::CRASHES_UNTIL_HELD,
};

/// Records that are to be appended together.
pub(super) struct Batch<'a> {
    pub(super) state: &'a mut QueueState,
    pub(super) index: &'a Index,
    /// What the journal is to take.
    pub(super) records: Vec<Vec<u8>>,
    /// The sequence of the next record.
    pub(super) next: u64,
}

impl Batch<'_> {
    /// Adds a record if it may follow, and gives what becomes of its entry.
    pub(super) fn write(&mut self, record: &Record) -> Result<Option<Entry>, Fault> {
        let bytes = record_codec::encode(record)?;
        self.write_encoded(record, bytes)
    }

    /// As [`Batch::write`], for a record that was encoded before.
    pub(super) fn write_encoded(&mut self, record: &Record, bytes: Vec<u8>) -> Result<Option<Entry>, Fault> {
        let entry = self.state.apply(self.index, self.next, record, Take::Checked)?;
        self.records.push(bytes);
        self.next += 1;
        Ok(entry)
    }

    /// Adds a record about an entry that stays.
    pub(super) fn write_entry(&mut self, record: &Record) -> Result<Entry, Fault> {
        self.write(record)?.ok_or_else(|| Fault::Index("an entry vanished".into()))
    }

    pub(super) fn entry(&self, id: FileId) -> Result<Entry, Fault> {
        let stored = self.state.stored(self.index, id)?;
        stored.map(|stored| stored.entry).ok_or(Fault::Queue(QueueError::NotFound(id)))
    }

    /// The entry that a listing of the index names, in one of the states that the listing is for. Another one is no fault
    /// of whoever asks: asked again it would be the same, until the index is made anew.
    pub(super) fn listed(&self, id: FileId, of: impl FnOnce(State) -> bool) -> Result<Entry, Fault> {
        let entry = self.state.stored(self.index, id)?.ok_or_else(|| missing(id))?.entry;
        match of(entry.state) {
            true => Ok(entry),
            false => Err(Fault::Index(format!("file {id} is listed as what it is not, and is {}", entry.state))),
        }
    }

    /// Whoever holds this token may speak for the entry.
    fn check_lease(&self, id: FileId, token: LeaseToken) -> Result<(), Fault> {
        match self.state.lanes.leases.get(&id) {
            Some(held) if held.token == token && !held.void => Ok(()),
            _ => {
                self.entry(id)?;
                Err(QueueError::LeaseLost(id).into())
            }
        }
    }

    pub(super) fn settle(
        &mut self,
        id: FileId,
        token: LeaseToken,
        record: &Record,
        bytes: Vec<u8>,
    ) -> Result<Entry, Fault> {
        self.check_lease(id, token)?;
        let entry = self.write_encoded(record, bytes)?;
        entry.ok_or_else(|| Fault::Index("an entry vanished".into()))
    }

    pub(super) fn note_child(
        &mut self,
        id: FileId,
        token: LeaseToken,
        child: Child,
        at: DateTime<Utc>,
    ) -> Result<(), Fault> {
        self.check_lease(id, token)?;
        self.write(&Record { at, actor: Actor::Server, id: Some(id), fact: Fact::Child { token, child } })?;
        Ok(())
    }

    /// In memory alone: a lease does not outlive the process that renews it, and after a crash all are void.
    pub(super) fn renew(&mut self, id: FileId, token: LeaseToken, until: DateTime<Utc>) -> Result<(), Fault> {
        self.check_lease(id, token)?;
        if let Some(held) = self.state.lanes.leases.get_mut(&id) {
            held.until = until;
            held.overdue_since = None;
        }
        Ok(())
    }

    pub(super) fn settle_crashed(&mut self, id: FileId, at: DateTime<Utc>) -> Result<Entry, Fault> {
        let entry = self.entry(id)?;
        // Recovery has held it already, when the journal was damaged.
        if entry.state == State::Held {
            return Ok(entry);
        }
        if !self.state.lanes.leases.get(&id).is_some_and(|held| held.void) {
            let action = "settle it as cut by a crash";
            return Err(QueueError::WrongState { id, state: entry.state, action }.into());
        }
        let state = if entry.crashes + 1 >= CRASHES_UNTIL_HELD { State::Held } else { State::Ready };
        self.write_entry(&Record { at, actor: Actor::Server, id: Some(id), fact: Fact::Crashed { state } })
    }

    pub(super) fn act(
        &mut self,
        ids: &[FileId],
        action: &Action,
        reason: Option<&str>,
        actor: &Actor,
        at: DateTime<Utc>,
    ) -> Result<Vec<Result<Entry>>, Fault> {
        let mut answers = Vec::with_capacity(ids.len());
        for (index, id) in ids.iter().enumerate() {
            let fact = action.fact(index, reason.map(str::to_owned));
            let record = Record { at, actor: actor.clone(), id: Some(*id), fact };
            answers.push(match self.write_entry(&record) {
                Ok(entry) => Ok(entry),
                Err(Fault::Queue(error)) => Err(error),
                Err(fault) => return Err(fault),
            });
        }
        Ok(answers)
    }

    /// Forgets what ended before `before`, the oldest end first.
    pub(super) fn purge(
        &mut self,
        before: DateTime<Utc>,
        limit: usize,
        at: DateTime<Utc>,
    ) -> Result<Vec<FileId>, Fault> {
        let mut purged = Vec::new();
        let mut from = b"x".to_vec();
        // One second more: the key has whole seconds, and the entry's own time decides.
        let to = keys::ended(before.checked_add_signed(TimeDelta::seconds(1)).unwrap_or(before), 0);
        while purged.len() < limit {
            let Some((key, value)) = self.state.staged.first(self.index, &from, &to)? else { break };
            let id = keys::id(&value).ok_or_else(|| Fault::Index("an end names no id".into()))?;
            if self.listed(id, may_be_purged)?.since < before {
                self.write(&Record { at, actor: Actor::Server, id: Some(id), fact: Fact::Purged })?;
                purged.push(id);
            }
            from = after(&key);
        }
        Ok(purged)
    }

    /// Writes these entries again as they stand, so that what the journal says of them before can go.
    pub(super) fn carry(&mut self, ids: &[FileId], at: DateTime<Utc>) -> Result<(), Fault> {
        for id in ids {
            if let Some(stored) = self.state.stored(self.index, *id)? {
                let fact = Fact::Carried { entry: Box::new(stored.entry) };
                self.write(&Record { at, actor: Actor::Server, id: Some(*id), fact })?;
            }
        }
        Ok(())
    }
}
