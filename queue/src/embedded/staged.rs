//! Changes of the index that are still to be applied.
//!
//! Thousands of changes are gathered before sled gets them as one batch: a key that changes often
//! is written once. Reads of the committer go through [`Staged::over`]; other readers wait until
//! the batch is applied, but for the catalogue's keys, which are published to them.

use super::{
    index::{Fault, Index, Slice},
    layered::{Changes, Layered},
};

/// Changes that are not in the index yet.
#[derive(Debug, Default)]
pub(super) struct Staged {
    changes: Changes,
    /// Names and idempotency keys among them that readers have not been shown yet.
    unpublished: Vec<Slice>,
    touches: u64,
}

impl Staged {
    pub(super) fn put(&mut self, key: Slice, value: impl Into<Slice>) {
        self.touch();
        self.changes.insert(key, Some(value.into()));
    }

    pub(super) fn remove(&mut self, key: Slice) {
        self.touch();
        self.changes.insert(key, None);
    }

    /// As [`Staged::put`] and [`Staged::remove`], for a name of the catalogue or an idempotency key, which readers look up
    /// without waiting for the index.
    pub(super) fn set_name(&mut self, key: Slice, value: Option<Vec<u8>>) {
        self.touch();
        self.unpublished.push(key.clone());
        self.changes.insert(key, value.map(Slice::from));
    }

    /// The index as if everything had been applied.
    pub(super) fn over<'a>(&'a self, index: &'a Index) -> Layered<'a> {
        Layered { changes: &self.changes, index }
    }

    pub(super) fn get(&self, index: &Index, key: &[u8]) -> Result<Option<Slice>, Fault> {
        self.over(index).get(key)
    }

    /// The first pair from `from` on and before `to`.
    pub(super) fn first(&self, index: &Index, from: &[u8], to: &[u8]) -> Result<Option<(Slice, Slice)>, Fault> {
        self.over(index).first(from, to)
    }

    /// Shows readers names and idempotency keys as they stand.
    pub(super) fn publish(&mut self, to: &mut Changes) {
        for key in self.unpublished.drain(..) {
            if let Some(change) = self.changes.get(&key) {
                to.insert(key, change.clone());
            }
        }
    }

    /// Returns whether there is something to publish.
    pub(super) fn has_names(&self) -> bool {
        !self.unpublished.is_empty()
    }

    /// Something begins to change.
    pub(super) fn touch(&mut self) {
        self.touches += 1;
    }

    /// Rises with every change: who compares two of it knows whether there was one.
    pub(super) fn touches(&self) -> u64 {
        self.touches
    }

    /// How many keys are changed.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Everything, to be applied.
    pub(super) fn take(&mut self) -> Changes {
        self.unpublished.clear();
        std::mem::take(&mut self.changes)
    }
}

/// The first key behind `key`.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}
