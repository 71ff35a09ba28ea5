//! One group of changes on its way to the journal: each is checked against everything before it.

use bytes::Bytes;
use chrono::{DateTime, TimeDelta, Utc};
use forebay_storage::{
    FileId,
    journal::{NewContent, NewRecord},
};

use super::{
    entry_codec::Stored,
    index::{Fault, Index},
    keys,
    names::Leaf,
    record_codec,
    recover::io,
    staged::after,
    state::{QueueState, Take, may_be_purged, missing},
    waiting::Waiting,
};
use crate::{
    Action, Actor, Begun, Child, Continues, Entry, Fact, KeyedFile, LeaseToken, Messages, MovedFile, NameChange,
    NewName, NodeId, Progress, QueueError, Record, Result, Shown, State, transition::CRASHES_UNTIL_HELD,
};

/// Records that are to be appended together.
pub(super) struct Batch<'a> {
    pub(super) state: &'a mut QueueState,
    pub(super) index: &'a Index,
    pub(super) waiting: &'a Waiting,
    /// Who claims.
    pub(super) node: &'a NodeId,
    /// What the journal is to take.
    pub(super) records: Vec<NewRecord>,
    /// The sequence of the next record.
    pub(super) next: u64,
    /// The longest record that the journal takes, in bytes.
    pub(super) most_record: usize,
}

/// A claim's record that is not complete yet.
pub(super) struct OpenClaim {
    /// With one file at a time.
    claim: Record,
    /// All its files so far.
    files: Vec<Begun>,
    /// Where it is among the records, and its sequence.
    place: usize,
    seq: u64,
}

impl OpenClaim {
    /// Returns whether it names as many files as a record should.
    pub(super) fn is_full(&self) -> bool {
        self.files.len() >= MOST_TOGETHER
    }
}

/// Files of one claim's record.
const MOST_TOGETHER: usize = 1_024;

impl Batch<'_> {
    /// Adds a record if it may follow, and returns what becomes of its entry.
    ///
    /// Applied before it is journalled: if the journal refuses the group, all of it is discarded
    /// (`Committer::discard`).
    pub(super) fn write(&mut self, record: &Record) -> Result<Option<Entry>, Fault> {
        let bytes = self.encode(record)?;
        let entry = self.state.apply(self.index, self.next, record, Take::Checked)?;
        self.records.push(bytes.into());
        self.next += 1;
        Ok(entry)
    }

    /// The bytes of a record, which the journal can take.
    fn encode(&self, record: &Record) -> Result<Vec<u8>, Fault> {
        let bytes = record_codec::encode(record);
        // Refused here, or it would take its whole group along.
        if bytes.len() > self.most_record {
            let what = format!("a record of {} bytes is over the limit of {}", bytes.len(), self.most_record);
            return Err(
                io("cannot write to the journal", std::io::Error::new(std::io::ErrorKind::InvalidInput, what)).into()
            );
        }
        Ok(bytes)
    }

    /// Adds a record of a claim, which says by and by which files it is about ([`Batch::begin`]) and ends with
    /// [`Batch::finish`]. It comes before what is written meanwhile, which is about other files.
    pub(super) fn open_claim(&mut self, claim: Record) -> OpenClaim {
        let (place, seq) = (self.records.len(), self.next);
        self.records.push(Vec::new().into());
        // Before other records are applied: the sequence is taken, although its record is written
        // last.
        self.state.reserve(seq);
        self.next += 1;
        OpenClaim { claim, files: Vec::new(), place, seq }
    }

    /// A processor begins with this file, as one of the claim's.
    pub(super) fn begin(&mut self, open: &mut OpenClaim, file: &Stored) -> Result<(Entry, u32), Fault> {
        let (id, attempt) = (file.entry.id, file.entry.attempts.saturating_add(1));
        let Fact::Claimed { files, .. } = &mut open.claim.fact else { return Err(missing(id)) };
        files.clear();
        files.push(Begun { id, attempt });
        let entry = self.state.begin(self.index, open.seq, &open.claim, file)?;
        open.files.push(Begun { id, attempt });
        Ok((entry, attempt))
    }

    /// The claim's record is complete.
    pub(super) fn finish(&mut self, open: OpenClaim) -> Result<(), Fault> {
        let OpenClaim { mut claim, files: begun, place, .. } = open;
        if let Fact::Claimed { files, .. } = &mut claim.fact {
            *files = begun;
        }
        // No refusal, which the rest of the group would go on without: files have begun by this record. Nothing of the group
        // may be journalled.
        let bytes = self.encode(&claim).map_err(|fault| match fault {
            Fault::Queue(error) => Fault::Index(format!("a claim cannot be written: {error}")),
            fault => fault,
        })?;
        self.records[place] = bytes.into();
        Ok(())
    }

    /// Adds a record about an entry that stays.
    pub(super) fn write_entry(&mut self, record: &Record) -> Result<Entry, Fault> {
        self.write(record)?.ok_or_else(|| Fault::Index("an entry vanished".into()))
    }

    pub(super) fn entry(&self, id: FileId) -> Result<Entry, Fault> {
        let stored = self.state.stored(self.index, id)?;
        stored.map(|stored| stored.entry).ok_or(Fault::Queue(QueueError::NotFound(id)))
    }

    /// The entry whose turn a listing of the index names, in one of the states that the listing is for. Another one is no
    /// fault of whoever asks: asked again it would be the same, until the index is made anew.
    pub(super) fn listed(&self, turn: u64, of: impl FnOnce(State) -> bool) -> Result<Stored, Fault> {
        let stored = self.state.listed(self.index, turn)?;
        match of(stored.entry.state) {
            true => Ok(stored),
            false => {
                let (id, state) = (stored.entry.id, stored.entry.state);
                Err(Fault::Index(format!("file {id} is listed as what it is not, and is {state}")))
            }
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

    pub(super) fn settle(&mut self, id: FileId, token: LeaseToken, record: &Record) -> Result<Entry, Fault> {
        self.check_lease(id, token)?;
        self.write_entry(record)
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

    /// With `progress`: so far its messages were.
    pub(super) fn settle_crashed(
        &mut self,
        id: FileId,
        progress: Option<Progress>,
        at: DateTime<Utc>,
    ) -> Result<Entry, Fault> {
        let entry = self.entry(id)?;
        // Recovery has held it already, when the journal was damaged.
        if entry.state == State::Held {
            return Ok(entry);
        }
        if !self.state.lanes.leases.get(&id).is_some_and(|held| held.void) {
            let action = "settle it as cut by a crash";
            return Err(QueueError::WrongState { id, state: entry.state, action }.into());
        }
        let before = entry.messages.as_ref().map_or(0, |messages| messages.progress.tally.all());
        let went_on = progress.filter(|progress| progress.tally.all() > before);
        let messages = went_on.map(|progress| Box::new(Messages { progress, outcomes: None }));
        let counts = messages.is_none() && entry.crashes + 1 >= CRASHES_UNTIL_HELD;
        let state = if counts { State::Held } else { State::Ready };
        self.write_entry(&Record { at, actor: Actor::Server, id: Some(id), fact: Fact::Crashed { state, messages } })
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

    /// Forgets what ended before `before`, the oldest end first. Gives each with the record that brought its bytes.
    pub(super) fn purge(
        &mut self,
        before: DateTime<Utc>,
        limit: usize,
        at: DateTime<Utc>,
    ) -> Result<Vec<(FileId, Option<u64>)>, Fault> {
        let mut purged = Vec::new();
        let mut from = b"x".to_vec();
        // One second more: the key has whole seconds, and the entry's own time decides.
        let to = keys::ended(before.checked_add_signed(TimeDelta::seconds(1)).unwrap_or(before), 0);
        while purged.len() < limit {
            let Some((key, _)) = self.state.staged.first(self.index, &from, &to)? else { break };
            let turn = keys::last_number(&key).ok_or_else(|| Fault::Index("an end names no turn".into()))?;
            let entry = self.listed(turn, may_be_purged)?.entry;
            if entry.since < before && !self.state.is_continued(self.index, entry.id)? {
                self.purge_with_beginning(entry, before, at, limit, &mut purged)?;
            }
            from = after(&key);
        }
        Ok(purged)
    }

    /// Forgets an entry, and those before it that nothing but it has kept.
    fn purge_with_beginning(
        &mut self,
        last: Entry,
        before: DateTime<Utc>,
        at: DateTime<Utc>,
        limit: usize,
        purged: &mut Vec<(FileId, Option<u64>)>,
    ) -> Result<(), Fault> {
        let mut next = Some(last);
        while let Some(entry) = next.filter(|_| purged.len() < limit) {
            self.write(&Record { at, actor: Actor::Server, id: Some(entry.id), fact: Fact::Purged })?;
            purged.push((entry.id, entry.content));
            let Some(of) = entry.rests_on() else { break };
            if self.state.is_continued(self.index, of)? {
                break;
            }
            let earlier = self.state.stored(self.index, of)?.map(|stored| stored.entry);
            next = earlier.filter(|earlier| may_be_purged(earlier.state) && earlier.since < before);
        }
        Ok(())
    }

    /// Forgets those of these entries that are over. Gives each with the record that brought its bytes.
    pub(super) fn purge_these(
        &mut self,
        ids: &[FileId],
        at: DateTime<Utc>,
    ) -> Result<Vec<(FileId, Option<u64>)>, Fault> {
        let mut purged = Vec::with_capacity(ids.len());
        for id in ids {
            let Some(stored) = self.state.stored(self.index, *id)? else { continue };
            // A later file may go on from its bytes.
            if may_be_purged(stored.entry.state) && !self.state.is_continued(self.index, *id)? {
                let before = DateTime::<Utc>::MAX_UTC;
                self.purge_with_beginning(stored.entry, before, at, usize::MAX, &mut purged)?;
            }
        }
        Ok(purged)
    }

    /// Accepts a file, with its bytes if the record brings them. The entry that it is to supersede is left alone when a
    /// processor has begun that meanwhile.
    pub(super) fn accept(&mut self, record: &Record, inline: Option<&Bytes>) -> Result<Entry, Fault> {
        // A copy: it may be staged once more, beside others.
        let mut record = record.clone();
        if let Some((partner, key, _)) = KeyedFile::of(&record)
            && let Some(file) = self.state.staged.over(self.index).keyed(partner, key)?
        {
            return Err(QueueError::KeyUsed { by: file.id }.into());
        }
        if let Fact::Accepted { supersedes, continues, partner, name, size_bytes, .. } = &mut record.fact {
            if let Some(continues) = continues {
                self.has_beginning(continues, partner, *size_bytes)?;
            }
            let earlier = supersedes.map(|id| self.state.stored(self.index, id)).transpose()?.flatten();
            // One that got another name meanwhile is another file by now.
            let fits = |it: &Entry| it.partner == *partner && it.name == *name && it.may_be_superseded();
            if !earlier.is_some_and(|earlier| fits(&earlier.entry)) {
                *supersedes = None;
            }
        }
        let entry = self.write_entry(&record)?;
        if let (Some(bytes), Some(new)) = (inline, self.records.last_mut()) {
            new.content = Some(NewContent { id: entry.id, bytes: bytes.clone() });
        }
        Ok(entry)
    }

    /// Checks that what a file continues is there, and ends where the file goes on.
    fn has_beginning(&self, continues: &Continues, partner: &str, size_bytes: u64) -> Result<(), Fault> {
        let earlier = self.state.stored(self.index, continues.of)?.map(|stored| stored.entry);
        let is_it =
            |it: &Entry| it.partner == *partner && it.size_bytes == continues.at && it.state != State::Withdrawn;
        match earlier.is_some_and(|earlier| is_it(&earlier)) && size_bytes >= continues.at {
            true => Ok(()),
            false => Err(QueueError::NoBeginning { of: continues.of }.into()),
        }
    }

    /// Changes names. Files below something that is moved and that a processor has begun meanwhile are left as they are.
    pub(super) fn change_names(
        &mut self,
        partner: &str,
        change: &NameChange,
        actor: &Actor,
        at: DateTime<Utc>,
    ) -> Result<(), Fault> {
        let (partner, mut id, mut unfinished) = (partner.to_owned(), None, Vec::new());
        let fact = match change.clone() {
            NameChange::MakeFolder { path } => Fact::FolderMade { partner, path },
            NameChange::RemoveFolder { path } => Fact::FolderRemoved { partner, path },
            NameChange::Hide { path } => Fact::Hidden { partner, path },
            NameChange::SetTime { path, at } => Fact::TimeSet { partner, path, shows: at },
            NameChange::Move { from, to, files } => {
                let (own, files) = self.still_waiting(files)?;
                unfinished = own;
                Fact::Moved { partner, from, to, files }
            }
            NameChange::Show { path, id: file, at } => {
                id = Some(file);
                Fact::ShownAt { partner, path, shows: at }
            }
        };
        self.write(&Record { at, actor: actor.clone(), id, fact })?;
        // After the move: each is accepted under the name that it is shown under by now, at a turn of its own.
        for file in unfinished {
            let MovedFile { id, name, route, state, reason, hold } = file;
            let fact = Fact::Named { name, route, state, reason, hold };
            self.write_entry(&Record { at, actor: actor.clone(), id: Some(id), fact })?;
        }
        Ok(())
    }

    /// The files that no processor has begun yet: those under temporary names, and the others.
    fn still_waiting(&self, files: Vec<(FileId, NewName)>) -> Result<(Vec<MovedFile>, Vec<MovedFile>), Fault> {
        let (mut unfinished, mut others) = (Vec::new(), Vec::new());
        for (id, to) in files {
            let Some(stored) = self.state.stored(self.index, id)? else { continue };
            let NewName { name, route, state, reason, hold } = to;
            let file = MovedFile { id, name, route, state, reason, hold };
            match stored.entry.may_be_renamed() {
                true if stored.entry.state == State::Unfinished => unfinished.push(file),
                true => others.push(file),
                false => {}
            }
        }
        Ok((unfinished, others))
    }

    /// Writes these folders again as they stand: partner, path and when they were made.
    pub(super) fn carry_folders(
        &mut self,
        folders: &[(String, String, DateTime<Utc>)],
        at: DateTime<Utc>,
    ) -> Result<(), Fault> {
        for (partner, path, made_at) in folders {
            // Removed or moved meanwhile: what says so is in the journal.
            if !matches!(self.state.staged.over(self.index).find(partner, path)?, Some((_, Leaf::Folder { .. }))) {
                continue;
            }
            let fact = Fact::FolderCarried { partner: partner.clone(), path: path.clone(), made_at: *made_at };
            self.write(&Record { at, actor: Actor::Server, id: None, fact })?;
        }
        Ok(())
    }

    /// Where the catalogue shows a file.
    pub(super) fn shown(&self, id: FileId) -> Result<Shown, Fault> {
        let shown = self.state.staged.over(self.index).shown(id)?;
        Ok(shown.map_or(Shown::Nowhere, |(path, shows)| Shown::At { path, shows }))
    }

    /// Writes these entries again as they stand, so that what the journal says of them before can go.
    pub(super) fn carry(&mut self, ids: &[FileId], at: DateTime<Utc>) -> Result<(), Fault> {
        for id in ids {
            if let Some(stored) = self.state.stored(self.index, *id)? {
                let fact = Fact::Carried { entry: Box::new(stored.entry), shown: self.shown(*id)? };
                self.write(&Record { at, actor: Actor::Server, id: Some(*id), fact })?;
            }
        }
        Ok(())
    }
}
