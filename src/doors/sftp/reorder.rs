//! Bytes that came before those that stand in front of them.
//!
//! Clients send many writes without waiting, and some send them out of order. Storage takes bytes in order, so what
//! comes early waits here, in bounded memory.

use std::collections::BTreeMap;

use bytes::Bytes;

/// The farthest that a write may lie ahead of the next byte.
pub(super) const REACH_BYTES: u64 = 16 << 20;
/// The memory that a piece takes besides its bytes, and some more: a million of one byte each would be 100 MiB.
const PIECE_BYTES: usize = 128;

/// The reason why bytes are not taken.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Misplaced {
    /// They came already.
    #[error("bytes {offset} to {next} came already, and what came cannot be written again")]
    Again {
        /// The first byte of the write.
        offset: u64,
        /// The next byte that is wanted.
        next: u64,
    },
    /// They lie too far ahead, or too much waits already.
    #[error("byte {next} must come before byte {offset}: files are written from their beginning to their end")]
    TooFar {
        /// The first byte of the write.
        offset: u64,
        /// The next byte that is wanted.
        next: u64,
    },
}

/// Pieces that wait for bytes in front of them. Each piece holds its share of the memory that they may use.
#[derive(Debug)]
pub(super) struct Reorder<S> {
    early: BTreeMap<u64, (Bytes, S)>,
}

impl<S> Default for Reorder<S> {
    fn default() -> Self {
        Self { early: BTreeMap::new() }
    }
}

impl<S> Reorder<S> {
    /// Keeps bytes until those before them have come.
    ///
    /// Overlapping bytes are refused, not merged: nobody can tell which of the two are meant.
    pub(super) fn keep(
        &mut self,
        next: u64,
        offset: u64,
        data: Bytes,
        room: impl FnOnce(usize) -> Option<S>,
    ) -> Result<(), Misplaced> {
        let end = offset.saturating_add(data.len() as u64);
        if offset < next {
            return Err(Misplaced::Again { offset, next });
        }
        if end - next > REACH_BYTES {
            return Err(Misplaced::TooFar { offset, next });
        }
        let before = self.early.range(..=offset).next_back().map(|(at, (data, _))| at + data.len() as u64);
        let behind = self.early.range(offset..).next().map(|(at, _)| *at);
        if before.is_some_and(|ends| ends > offset) || behind.is_some_and(|begins| begins < end) {
            return Err(Misplaced::Again { offset, next: behind.unwrap_or(end).min(end) });
        }
        let share = room(data.len() + PIECE_BYTES).ok_or(Misplaced::TooFar { offset, next })?;
        self.early.insert(offset, (data, share));
        Ok(())
    }

    /// The bytes that begin at `next`, if they came.
    pub(super) fn take(&mut self, next: u64) -> Option<Bytes> {
        let first = self.early.first_entry()?;
        (*first.key() == next).then(|| first.remove().0)
    }

    /// The first byte that waits.
    pub(super) fn begins(&self) -> Option<u64> {
        self.early.first_key_value().map(|(at, _)| *at)
    }

    /// The end of the bytes that wait.
    pub(super) fn ends(&self) -> Option<u64> {
        self.early.last_key_value().map(|(at, (data, _))| at + data.len() as u64)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::Semaphore;

    use super::*;

    fn piece(from: u64, to: u64) -> Bytes {
        (from..to).map(|at| at as u8).collect::<Vec<_>>().into()
    }

    #[test]
    fn any_order_gives_the_same_bytes() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let room = Arc::new(Semaphore::new(1 << 20));
        for round in 0..200u64 {
            let mut pieces: Vec<_> = (0..20).map(|at| (at * 37, piece(at * 37, (at + 1) * 37))).collect();
            pieces.sort_by_key(|(at, _)| (at + 1).wrapping_mul(seed | 1).wrapping_add(round).wrapping_mul(0x9e37_79b9));
            let (mut reorder, mut next, mut got) = (Reorder::default(), 0u64, Vec::new());
            for (offset, data) in pieces {
                let share = |bytes: usize| room.clone().try_acquire_many_owned(bytes as u32).ok();
                reorder.keep(next, offset, data, share).unwrap();
                while let Some(data) = reorder.take(next) {
                    next += data.len() as u64;
                    got.extend_from_slice(&data);
                }
            }
            assert_eq!(got, &piece(0, 740)[..]);
            assert_eq!(room.available_permits(), 1 << 20, "all room is given back");
        }
    }

    #[test]
    fn many_small_pieces_take_room_for_more_than_their_bytes() {
        let room = Arc::new(Semaphore::new(8 << 20));
        let share = |bytes: usize| room.clone().try_acquire_many_owned(bytes as u32).ok();
        let mut reorder = Reorder::default();
        let most = (0..1 << 20).position(|n| reorder.keep(0, 1 + 2 * n, piece(0, 1), share).is_err());
        assert!(most.is_some_and(|most| most <= 128 << 10), "{most:?} pieces of one byte are kept");
        drop(reorder);
        assert_eq!(room.available_permits(), 8 << 20);
    }

    #[test]
    fn what_overlaps_or_lies_too_far_is_refused() {
        let room = Arc::new(Semaphore::new(100 + PIECE_BYTES));
        let share = |bytes: usize| room.clone().try_acquire_many_owned(bytes as u32).ok();
        let mut reorder = Reorder::default();
        reorder.keep(0, 50, piece(50, 100), share).unwrap();
        for (offset, end) in [(60, 70), (40, 51), (99, 120), (50, 100), (10, 110)] {
            let refused = reorder.keep(0, offset, piece(offset, end), share);
            assert!(matches!(refused, Err(Misplaced::Again { .. })), "{offset}");
        }
        assert!(matches!(reorder.keep(20, 10, piece(10, 20), share), Err(Misplaced::Again { .. })));
        assert!(matches!(reorder.keep(0, REACH_BYTES, piece(0, 1), share), Err(Misplaced::TooFar { .. })));
        assert!(matches!(reorder.keep(0, 100, piece(100, 151), share), Err(Misplaced::TooFar { .. })), "no room");
        assert_eq!((reorder.begins(), reorder.ends()), (Some(50), Some(100)));
    }
}
