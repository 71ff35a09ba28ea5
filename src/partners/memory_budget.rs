//! The memory that bytes of partners may take while they wait in this process: for bytes in front of them, for the disk,
//! or for a client that reads.
//!
//! There is one budget for the process and one for each partner, over all its sessions and all doors. A session that gets
//! nothing of them makes do with the little that each door gives it for its own, so that it goes on, if slower: no partner
//! waits for what another one holds.

use std::{
    collections::HashMap,
    sync::{Arc, Weak},
};

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::PartnerName;

/// The budget of the process, and those of partners that have sessions.
#[derive(Debug)]
pub(super) struct MemoryBudget {
    process: Arc<Budget>,
    of_partner_bytes: u64,
    partners: Mutex<HashMap<PartnerName, Weak<Budget>>>,
}

#[derive(Debug)]
struct Budget {
    bytes: Arc<Semaphore>,
    all: usize,
}

/// A partner's part of the memory.
#[derive(Clone, Debug)]
pub struct PartnerMemory {
    process: Arc<Budget>,
    partner: Arc<Budget>,
}

/// Bytes that are taken, until it is dropped.
#[derive(Debug)]
pub struct MemoryPermit {
    _partner: OwnedSemaphorePermit,
    _process: OwnedSemaphorePermit,
}

impl MemoryBudget {
    pub(super) fn new(process_bytes: u64, of_partner_bytes: u64) -> Self {
        Self { process: Budget::of(process_bytes), of_partner_bytes, partners: Mutex::default() }
    }

    /// The part of a partner, which all its sessions share.
    pub(super) fn of(&self, partner: &PartnerName) -> PartnerMemory {
        let mut partners = self.partners.lock();
        let known = partners.get(partner).and_then(Weak::upgrade);
        let budget = known.unwrap_or_else(|| {
            partners.retain(|_, budget| budget.strong_count() > 0);
            let budget = Budget::of(self.of_partner_bytes);
            partners.insert(partner.clone(), Arc::downgrade(&budget));
            budget
        });
        PartnerMemory { process: Arc::clone(&self.process), partner: budget }
    }
}

impl Budget {
    fn of(bytes: u64) -> Arc<Self> {
        let all = usize::try_from(bytes).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS);
        Arc::new(Self { bytes: Arc::new(Semaphore::new(all)), all })
    }

    fn try_take(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()
    }

    fn is_half_taken(&self) -> bool {
        self.bytes.available_permits() < self.all / 2
    }
}

impl PartnerMemory {
    /// Takes so many bytes, if there are as many.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<MemoryPermit> {
        let bytes = u32::try_from(bytes).ok()?;
        // The partner's first: one that has no more must not touch what is everyone's.
        let partner = self.partner.try_take(bytes)?;
        Some(MemoryPermit { _partner: partner, _process: self.process.try_take(bytes)? })
    }

    /// The same while at least half is free: for what may wait long, so that it does not take all from what is soon done.
    #[must_use]
    pub fn try_take_for_long(&self, bytes: usize) -> Option<MemoryPermit> {
        match self.partner.is_half_taken() || self.process.is_half_taken() {
            true => None,
            false => self.try_take(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> PartnerName {
        text.parse().unwrap()
    }

    #[test]
    fn all_sessions_of_a_partner_share_its_budget_and_all_partners_the_process_s() {
        let budget = MemoryBudget::new(1000, 400);
        let (one, again, other) = (budget.of(&name("Demo")), budget.of(&name("demo")), budget.of(&name("other")));
        let held = one.try_take(300).unwrap();
        assert!(again.try_take(101).is_none() && again.try_take(100).is_some());
        let _held = (other.try_take(400).unwrap(), budget.of(&name("third")).try_take(300).unwrap());
        assert!(one.try_take(1).is_none(), "the process has no more");
        drop(held);
        assert!(again.try_take(300).is_some() && again.try_take(301).is_none());
        assert!(again.try_take(usize::MAX).is_none());
    }

    #[test]
    fn what_waits_long_leaves_half_of_it() {
        let budget = MemoryBudget::new(1000, 400);
        let demo = budget.of(&name("demo"));
        let held: Vec<_> = std::iter::from_fn(|| demo.try_take_for_long(10)).collect();
        assert_eq!(held.len(), 21);
        assert!(demo.try_take(190).is_some());
        drop(held);
        let _held = [name("a"), name("b")].map(|partner| budget.of(&partner).try_take(300).unwrap());
        assert!(demo.try_take_for_long(10).is_none(), "others have more than half of the process's");
    }

    #[test]
    fn partners_without_sessions_are_forgotten() {
        let budget = MemoryBudget::new(1000, 400);
        for n in 0..100 {
            drop(budget.of(&name(&format!("partner-{n}"))));
        }
        assert_eq!(budget.partners.lock().len(), 1);
    }
}
