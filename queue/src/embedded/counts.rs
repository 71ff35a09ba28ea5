//! Files and bytes of a partner by state, and how much of that another partner has left that had its name before.
//!
//! What a removed partner has sent stays under its name. Whoever has the name next is not charged for it: what was received
//! up to the removal is counted twice, with everything and by itself.

use chrono::{DateTime, TimeZone as _, Utc};

use super::{binary::code, index::Fault};
use crate::{Entry, State};

/// Files and bytes of a partner in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) files: u64,
    /// Of the whole files.
    pub(super) size_bytes: u64,
    /// That they brought themselves.
    pub(super) own_bytes: u64,
}

impl Count {
    fn add(&mut self, entry: &Entry) {
        self.files += 1;
        self.size_bytes = self.size_bytes.saturating_add(entry.size_bytes);
        self.own_bytes = self.own_bytes.saturating_add(entry.extent().size_bytes);
    }

    fn take(&mut self, entry: &Entry) {
        self.files = self.files.saturating_sub(1);
        self.size_bytes = self.size_bytes.saturating_sub(entry.size_bytes);
        self.own_bytes = self.own_bytes.saturating_sub(entry.extent().size_bytes);
    }

    fn less(self, other: Self) -> Self {
        Self {
            files: self.files.saturating_sub(other.files),
            size_bytes: self.size_bytes.saturating_sub(other.size_bytes),
            own_bytes: self.own_bytes.saturating_sub(other.own_bytes),
        }
    }
}

/// By the state's code.
type ByState = [Count; 12];

/// What was received under a name.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Counts {
    all: ByState,
    former: Option<Former>,
}

/// What a removed partner has left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Former {
    /// Everything that was received until then is its.
    until: DateTime<Utc>,
    counts: ByState,
}

impl Counts {
    /// The entry has come into its state.
    pub(super) fn add(&mut self, entry: &Entry) {
        self.each(entry, Count::add);
    }

    /// The entry has left its state.
    pub(super) fn take(&mut self, entry: &Entry) {
        self.each(entry, Count::take);
    }

    fn each(&mut self, entry: &Entry, change: impl Fn(&mut Count, &Entry)) {
        let state = usize::from(code(entry.state));
        change(&mut self.all[state], entry);
        let is_former = self.is_former(entry);
        if let Some(former) = self.former.as_mut().filter(|_| is_former) {
            change(&mut former.counts[state], entry);
        }
    }

    /// The partner was removed. All that is there is a former one's from now on.
    pub(super) fn become_former(&mut self, until: DateTime<Utc>) {
        self.former = Some(Former { until, counts: self.all });
    }

    /// Returns whether the entry is of a partner that had the name before.
    pub(super) fn is_former(&self, entry: &Entry) -> bool {
        self.former.is_some_and(|former| entry.received_at <= former.until)
    }

    /// Everything in this state.
    pub(super) fn all(&self, state: State) -> Count {
        self.all[usize::from(code(state))]
    }

    /// What the partner that has the name now has in this state.
    pub(super) fn own(&self, state: State) -> Count {
        self.all(state).less(self.former(state))
    }

    /// What removed partners have left in this state.
    pub(super) fn former(&self, state: State) -> Count {
        self.former.map_or_else(Count::default, |former| former.counts[usize::from(code(state))])
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut out: Vec<u8> = numbers(&self.all).collect();
        if let Some(former) = &self.former {
            out.extend_from_slice(&former.until.timestamp_micros().to_be_bytes());
            out.extend(numbers(&former.counts));
        }
        out
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Fault> {
        let broken = || Fault::Index("a counter has another length".into());
        let (all, rest) = bytes.split_at_checked(BYTES).ok_or_else(broken)?;
        let former = match rest.split_first_chunk::<8>() {
            Some((until, counts)) if counts.len() == BYTES => {
                let until = Utc.timestamp_micros(i64::from_be_bytes(*until)).single().ok_or_else(broken)?;
                Some(Former { until, counts: by_state(counts) })
            }
            None if rest.is_empty() => None,
            _ => return Err(broken()),
        };
        Ok(Self { all: by_state(all), former })
    }
}

/// Three numbers for each state.
const BYTES: usize = 12 * 24;

fn numbers(counts: &ByState) -> impl Iterator<Item = u8> {
    let figures = counts.iter().flat_map(|count| [count.files, count.size_bytes, count.own_bytes]);
    figures.flat_map(u64::to_be_bytes)
}

fn by_state(bytes: &[u8]) -> ByState {
    let mut counts = ByState::default();
    for (count, figures) in counts.iter_mut().zip(bytes.chunks_exact(24)) {
        let number = |bytes: &[u8]| bytes.iter().fold(0u64, |sum, byte| sum << 8 | u64::from(*byte));
        let (files, size_bytes) = (number(&figures[..8]), number(&figures[8..16]));
        *count = Count { files, size_bytes, own_bytes: number(&figures[16..]) };
    }
    counts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_come_back_with_and_without_a_former_partner() {
        let mut counts = Counts::default();
        counts.all[3] = Count { files: 1, size_bytes: 2, own_bytes: 3 };
        let before = counts.encode();
        assert_eq!((before.len(), Counts::decode(&before).unwrap()), (BYTES, counts));
        counts.become_former(Utc.timestamp_micros(1_777_075_200_123_456).unwrap());
        counts.all[3].files = 5;
        assert_eq!(Counts::decode(&counts.encode()).unwrap(), counts);
        for cut in [1, BYTES - 1, BYTES + 1, BYTES + 8, 2 * BYTES + 7] {
            assert!(Counts::decode(&counts.encode()[..cut]).is_err(), "{cut}");
        }
    }
}
