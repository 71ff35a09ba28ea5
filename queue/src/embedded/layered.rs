//! The index with changes that are not in it yet laid over it.
//!
//! Three sets of changes are read like this: what the committer has staged, the names among it that
//! readers are shown, and what sled had no room for. They are merged in the order of keys, and a
//! key that is gone above hides the one beneath.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use forebay_storage::FileId;

use super::{
    entry_codec::Stored,
    index::{Fault, Index, Slice},
    keys,
};

/// Keys with their new values; none where the key is gone.
pub(super) type Changes = BTreeMap<Slice, Option<Slice>>;

/// Changes over an index: read through it, the index looks as if they had been applied.
#[derive(Clone, Copy)]
pub(super) struct Layered<'a> {
    pub(super) changes: &'a Changes,
    pub(super) index: &'a Index,
}

impl Layered<'_> {
    pub(super) fn get(&self, key: &[u8]) -> Result<Option<Slice>, Fault> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => self.index.get(key),
        }
    }

    /// The turn of an entry.
    pub(super) fn turn(&self, id: FileId) -> Result<Option<u64>, Fault> {
        let Some(value) = self.get(&keys::turn_of(id))? else { return Ok(None) };
        keys::turn(&value).map(Some).ok_or_else(|| Fault::Index(format!("file {id} has no turn")))
    }

    /// An entry, for the committer alone: for whoever reads beside it an entry may go from turn to turn between the two
    /// looks, which is no fault ([`read::find`](super::read::find)).
    pub(super) fn stored(&self, id: FileId) -> Result<Option<Stored>, Fault> {
        let Some(turn) = self.turn(id)? else { return Ok(None) };
        let stored = self.listed(turn)?;
        match stored.entry.id == id {
            true => Ok(Some(stored)),
            false => Err(Fault::Index(format!("file {id} has the turn of file {}", stored.entry.id))),
        }
    }

    /// The entry of a turn that a listing names.
    pub(super) fn listed(&self, turn: u64) -> Result<Stored, Fault> {
        match self.get(&keys::entry(turn))? {
            Some(bytes) => Stored::decode(&bytes),
            None => Err(Fault::Index(format!("turn {turn} is listed and has no entry"))),
        }
    }

    /// The first pair from `from` on and before `to`.
    pub(super) fn first(&self, from: &[u8], to: &[u8]) -> Result<Option<(Slice, Slice)>, Fault> {
        let mut found = None;
        self.scan(from, to, |key, value| {
            found = Some((key, value));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Every pair from `from` on and before `to`, in order, until `visit` has enough.
    pub(super) fn scan(
        &self,
        from: &[u8],
        to: &[u8],
        visit: impl FnMut(Slice, Slice) -> Result<ControlFlow<()>, Fault>,
    ) -> Result<(), Fault> {
        merged(self.changes, from, to, |visit| self.index.scan(from, to, visit), visit)
    }
}

/// Every pair of what lies beneath, from `from` on and before `to`, with changes laid over it, until `visit` has enough.
pub(super) fn merged(
    changes: &Changes,
    from: &[u8],
    to: &[u8],
    beneath: impl FnOnce(&mut dyn FnMut(Slice, Slice) -> Result<ControlFlow<()>, Fault>) -> Result<(), Fault>,
    mut visit: impl FnMut(Slice, Slice) -> Result<ControlFlow<()>, Fault>,
) -> Result<(), Fault> {
    let range = (Bound::Included(from), Bound::Excluded(to));
    let mut changed = changes.range::<[u8], _>(range).peekable();
    let mut over = false;
    beneath(&mut |key, value| {
        // Keys that only the layer above has, up to this one.
        while let Some((other, change)) = changed.next_if(|(other, _)| **other < key) {
            if let Some(value) = change
                && visit(other.clone(), value.clone())?.is_break()
            {
                over = true;
                return Ok(ControlFlow::Break(()));
            }
        }
        // A key in both: the layer above counts, also when it says that the key is gone.
        let flow = match changed.next_if(|(other, _)| **other == key) {
            Some((_, None)) => ControlFlow::Continue(()),
            Some((_, Some(value))) => visit(key, value.clone())?,
            None => visit(key, value)?,
        };
        over = flow.is_break();
        Ok(flow)
    })?;
    if over {
        return Ok(());
    }
    // Keys above that lie behind all beneath.
    for (key, change) in changed {
        if let Some(value) = change
            && visit(key.clone(), value.clone())?.is_break()
        {
            break;
        }
    }
    Ok(())
}
