//! Lives in which there is little room, again and again, and what is written over costs room too.

use forebay::ingest::{Accepted, Intake};

use super::*;

/// The disk as one life has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Sound,
    /// What is written over costs room too, and there is little, again and again.
    Short,
    /// This sync does nothing.
    Without(SyncClass),
}

impl House {
    /// A file that was refused for want of room, and is there.
    pub(super) async fn came_back(&self, said: &Said) -> Option<FileId> {
        for id in &said.refused {
            if self.queue.get(*id).await.is_ok() {
                return Some(*id);
            }
        }
        None
    }
}

/// Sends a file, for which there may be no room.
pub(super) async fn sent(mut intake: Intake, bytes: &[u8]) -> Result<Accepted, Refusal> {
    for piece in bytes.chunks(256 << 10) {
        intake.write(Bytes::copy_from_slice(piece)).await?;
    }
    intake.finish(Box::new(Proven)).await
}

/// Spends the quota and gives it back, as often as others get on in between, until the power is cut or all are done.
pub(super) async fn run_short(disk: SimDisk, seed: u64, done: Arc<AtomicBool>) {
    let mut random = SmallRng::seed_from_u64(seed);
    while !disk.is_cut() && !done.load(Ordering::Acquire) {
        for quota in [Some(random.random_range(0..20_000)), None] {
            disk.set_quota(quota);
            let until = disk.operations() + random.random_range(1..30);
            for _ in 0..1_000 {
                if disk.operations() >= until || done.load(Ordering::Acquire) {
                    break;
                }
                tokio::task::yield_now().await;
            }
        }
    }
    disk.set_quota(None);
}

/// A group of the journal that finds no room is taken back, whatever the cut finds it at.
#[test]
fn nothing_that_was_refused_for_want_of_room_comes_back_after_a_cut() {
    let seed = seed();
    let (mut accepted, mut refused) = (0, 0);
    for at in 0..200 {
        let (wrong, [taken, turned_away]) = life(seed + at, Kind::Short);
        assert_eq!(wrong, None, "with FOREBAY_SEED={} in the first life", seed + at);
        (accepted, refused) = (accepted + taken, refused + turned_away);
    }
    eprintln!("{accepted} files were acknowledged and {refused} refused before 200 cuts");
    assert!(accepted > 300 && refused > 300, "too few to prove anything: {accepted} and {refused}");
}
