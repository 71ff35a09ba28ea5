//! What is still to be changed in the index: read through it, and the index looks as if it had been applied.

use std::{
    collections::BTreeMap,
    ops::{Bound, ControlFlow},
};

use sled::IVec;

use super::index::{Fault, Index};

/// Changes that are not in the index yet.
#[derive(Debug, Default)]
pub(super) struct Staged {
    changes: BTreeMap<IVec, Option<IVec>>,
}

impl Staged {
    pub(super) fn put(&mut self, key: IVec, value: impl Into<IVec>) {
        self.changes.insert(key, Some(value.into()));
    }

    pub(super) fn remove(&mut self, key: IVec) {
        self.changes.insert(key, None);
    }

    pub(super) fn get(&self, index: &Index, key: &[u8]) -> Result<Option<IVec>, Fault> {
        match self.changes.get(key) {
            Some(change) => Ok(change.clone()),
            None => index.get(key),
        }
    }

    /// The first pair from `from` on and before `to`.
    pub(super) fn first(&self, index: &Index, from: &[u8], to: &[u8]) -> Result<Option<(IVec, IVec)>, Fault> {
        let range = (Bound::Included(from), Bound::Excluded(to));
        let staged = self
            .changes
            .range::<[u8], _>(range)
            .find_map(|(key, change)| change.as_ref().map(|value| (key.clone(), value.clone())));
        let mut kept = None;
        index.scan(from, to, |key, value| {
            if self.changes.contains_key(&key) {
                return Ok(ControlFlow::Continue(()));
            }
            kept = Some((key, value));
            Ok(ControlFlow::Break(()))
        })?;
        Ok(match (staged, kept) {
            (Some(staged), Some(kept)) => Some(if staged.0 < kept.0 { staged } else { kept }),
            (staged, kept) => staged.or(kept),
        })
    }

    /// How many keys are changed.
    pub(super) fn len(&self) -> usize {
        self.changes.len()
    }

    /// Everything as one batch.
    pub(super) fn take(&mut self) -> sled::Batch {
        let mut batch = sled::Batch::default();
        for (key, change) in std::mem::take(&mut self.changes) {
            match change {
                Some(value) => batch.insert(key, value),
                None => batch.remove(key),
            }
        }
        batch
    }
}

/// The first key behind `key`.
pub(super) fn after(key: &[u8]) -> Vec<u8> {
    let mut next = Vec::with_capacity(key.len() + 1);
    next.extend_from_slice(key);
    next.push(0);
    next
}
