//! What is broken is set aside, told, and made good.

use std::{
    io,
    os::unix::fs::FileExt,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};

use forebay_queue::{
    Actor, EmbeddedMaintenance, QueueError, QueueStore, State, Watch,
    embedded::{EmbeddedQueue, Options},
};
use forebay_storage::{
    Content, Space,
    disk::{Disk, DiskFile, OsDisk},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::house::{House, ask, assert_sound, at, claim_one, copy_dir, file, finish, picture, put};

#[tokio::test]
async fn an_index_that_does_not_open_is_set_aside() {
    let house = House::new();
    let queue = house.open();
    for n in 0..50 {
        put(&queue, "clinic", &format!("{n}")).await;
    }
    let before = picture(&queue).await;
    drop(queue);
    let db = house.index().join("db");
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut rng = StdRng::seed_from_u64(seed);
    for damage in 0..8 {
        match damage {
            0 => std::fs::write(&db, vec![0xa5; 100_000]).unwrap(),
            1 => {
                std::fs::remove_file(&db).unwrap();
                std::fs::create_dir(&db).unwrap();
            }
            _ => {
                let mut bytes = std::fs::read(&db).unwrap();
                for _ in 0..64 {
                    let at = rng.random_range(0..bytes.len());
                    bytes[at] ^= 0x5a;
                }
                std::fs::write(&db, bytes).unwrap();
            }
        }
        let (queue, recovered) = house.try_open().unwrap();
        // sled cuts some damage off by itself; what is missing then comes from the journal as well.
        println!("damage {damage}: replayed {}, aside {:?}", recovered.replayed, recovered.set_aside);
        if damage == 1 {
            let aside = &recovered.set_aside[0];
            assert!(aside.to_string_lossy().contains("queue.corrupt-") && aside.is_dir(), "{aside:?}");
        }
        if damage < 2 {
            assert!(recovered.rebuilt);
            assert_eq!(recovered.replayed, 50);
        }
        assert_eq!(picture(&queue).await, before, "damage {damage}, seed {seed}");
        assert_sound(&queue).await;
    }
}

#[tokio::test]
async fn an_index_ahead_of_the_journal_is_set_aside() {
    let house = House::new();
    let queue = house.open();
    put(&queue, "clinic", "a").await;
    let before = picture(&queue).await;
    drop(queue);
    let older = house.dir().join("older");
    copy_dir(&house.journal(), &older);
    let queue = house.open();
    put(&queue, "clinic", "b").await;
    // The index catches up with the journal when it is read.
    picture(&queue).await;
    drop(queue);
    std::fs::remove_dir_all(house.journal()).unwrap();
    copy_dir(&older, &house.journal());
    let (queue, recovered) = house.try_open().unwrap();
    assert!(recovered.rebuilt && recovered.set_aside.len() == 1);
    assert_eq!(picture(&queue).await, before);
}

#[tokio::test]
async fn an_index_of_another_journal_is_set_aside() {
    let (house, other) = (House::new(), House::new());
    for house in [&house, &other] {
        let queue = house.open();
        put(&queue, "clinic", "a").await;
        put(&queue, "clinic", "b").await;
    }
    let queue = house.open();
    let before = picture(&queue).await;
    drop(queue);
    std::fs::remove_dir_all(house.index()).unwrap();
    copy_dir(&other.index(), &house.index());
    let (queue, recovered) = house.try_open().unwrap();
    assert!(recovered.rebuilt);
    assert_eq!(picture(&queue).await, before);
}

#[tokio::test]
async fn a_second_opener_is_told_so() {
    let house = House::new();
    let queue = house.open();
    let Err(QueueError::Locked(said)) = house.try_open() else { panic!("opened twice") };
    assert!(said.contains("another process"), "{said}");
    put(&queue, "clinic", "a").await;
}

/// Where `text` stands in the file.
pub(crate) fn find(path: &Path, text: &str) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    bytes.windows(text.len()).position(|window| window == text.as_bytes()).unwrap() as u64
}

pub(crate) fn spoil(path: &Path, at: u64) {
    std::fs::OpenOptions::new().write(true).open(path).unwrap().write_all_at(b"\xff\xfe\xfd", at).unwrap();
}

#[tokio::test]
async fn a_torn_tail_is_cut() {
    let house = House::new();
    let queue = house.open();
    put(&queue, "clinic", "first").await;
    let before = picture(&queue).await;
    drop(queue);
    let older = house.dir().join("older");
    copy_dir(&house.index(), &older);
    let queue = house.open();
    put(&queue, "clinic", "torn-away").await;
    // As a crash leaves it: the end of a queue empties its short log.
    let (crashed, name) = (house.dir().join("crashed"), house.last_recent_segment().file_name().unwrap().to_owned());
    copy_dir(&house.journal(), &crashed);
    drop(queue);
    std::fs::remove_dir_all(house.journal()).unwrap();
    std::fs::rename(&crashed, house.journal()).unwrap();
    let segment = house.journal().join("recent").join(name);
    spoil(&segment, find(&segment, "torn-away"));
    std::fs::remove_dir_all(house.index()).unwrap();
    copy_dir(&older, &house.index());
    let (queue, recovered) = house.try_open().unwrap();
    assert!(recovered.torn_bytes > 0);
    assert_eq!((recovered.lost_records, recovered.rebuilt), (0, false));
    assert_eq!(picture(&queue).await, before);
    put(&queue, "clinic", "next").await;
    assert_sound(&queue).await;
}

#[tokio::test]
async fn what_the_index_knows_of_lost_records_is_written_again() {
    let house = House::new();
    let queue = house.open();
    for name in ["one", "two-is-hit", "three"] {
        put(&queue, "clinic", name).await;
    }
    let claim = claim_one(&queue, 1).await;
    finish(&queue, &claim, State::Done, 2).await;
    let known = picture(&queue).await.entries;
    drop(queue);
    let segment = house.last_segment();
    spoil(&segment, find(&segment, "two-is-hit"));
    // Written again at the first start; and from then on the journal alone is enough.
    for round in 0..3 {
        if round == 2 {
            std::fs::remove_dir_all(house.index()).unwrap();
        }
        let (queue, _) = house.try_open().unwrap();
        let now = picture(&queue).await.entries;
        let plain = |entries: &[forebay_queue::Entry]| {
            entries.iter().map(|entry| (entry.id, entry.state, entry.turn)).collect::<Vec<_>>()
        };
        assert_eq!(plain(&now), plain(&known), "round {round}");
    }
}

#[tokio::test]
async fn files_whose_outcome_may_be_lost_are_held() {
    let house = House::new();
    let queue = house.open();
    for name in ["one", "two", "three"] {
        put(&queue, "clinic", name).await;
    }
    let claim = claim_one(&queue, 1).await;
    let mut end = crate::house::end(State::Done);
    end.reason = Some("loaded-well".into());
    queue.settle(claim.token, claim.entry.id, end, at(2)).await.unwrap();
    let last = put(&queue, "clinic", "after").await;
    drop(queue);
    let segment = house.last_segment();
    spoil(&segment, find(&segment, "loaded-well"));
    std::fs::remove_dir_all(house.index()).unwrap();
    let (queue, recovered) = house.try_open().unwrap();
    assert_eq!(recovered.lost_records, 1);
    assert_eq!(recovered.interrupted.len(), 1, "its child may still run");
    let states: Vec<_> = picture(&queue).await.entries.iter().map(|entry| (entry.id, entry.state)).collect();
    assert!(states[..3].iter().all(|(_, state)| *state == State::Held), "{states:?}");
    assert_eq!(states[3], (last, State::Ready), "it came later");
    let crashed = queue.settle_crashed(recovered.interrupted[0].id, at(3)).await.unwrap();
    assert_eq!(crashed.state, State::Held);
    drop(queue);
    // Dealt with once, and the same when the index is made anew.
    std::fs::remove_dir_all(house.index()).unwrap();
    let (queue, recovered) = house.try_open().unwrap();
    assert_eq!(recovered.lost_records, 0);
    let again: Vec<_> = picture(&queue).await.entries.iter().map(|entry| (entry.id, entry.state)).collect();
    assert_eq!(again, states);
}

#[tokio::test]
async fn a_deleted_receipt_says_nothing_of_an_outcome_that_is_lost() {
    let house = House::new();
    let queue = house.open();
    put(&queue, "clinic", "one").await;
    let claim = claim_one(&queue, 1).await;
    let mut end = crate::house::end(State::Done);
    end.reason = Some("loaded-well".into());
    queue.settle(claim.token, claim.entry.id, end, at(2)).await.unwrap();
    queue.hide_receipt(claim.entry.id, Actor::Partner("clinic".into()), at(3)).await.unwrap();
    drop(queue);
    let segment = house.last_segment();
    spoil(&segment, find(&segment, "loaded-well"));
    std::fs::remove_dir_all(house.index()).unwrap();
    let (queue, recovered) = house.try_open().unwrap();
    assert_eq!(recovered.lost_records, 1);
    assert_eq!(queue.get(claim.entry.id).await.unwrap().state, State::Held);
}

fn watch_into(most: Arc<AtomicU64>) -> Watch {
    Watch::new(move |done, _| {
        most.fetch_max(done, Ordering::SeqCst);
    })
}

/// What a stop or a crash leaves of an index that was being made anew knows nothing of what the journal has lost.
#[tokio::test]
async fn an_index_that_was_half_made_when_the_server_stopped_is_gone_on_with_and_takes_no_loss_for_known() {
    let house = House::new();
    let queue = house.open();
    put(&queue, "clinic", "waits").await;
    let lost = put(&queue, "clinic", "is-hit").await;
    for n in 0..5_000 {
        put(&queue, "clinic", &format!("{n}")).await;
    }
    let whole = picture(&queue).await;
    drop(queue);
    for is_damaged in [false, true] {
        if is_damaged {
            let segment = house.first_segment();
            spoil(&segment, find(&segment, "is-hit"));
        }
        std::fs::remove_dir_all(house.index()).unwrap();
        let asked = Arc::new(AtomicU64::new(0));
        let (count, watch) = (asked.clone(), watch_into(asked));
        watch.stop();
        assert!(matches!(house.try_open_watched(&watch), Err(QueueError::Stopped)));
        let done = count.load(Ordering::SeqCst);
        assert!(done > 0 && done < 5_002, "{done}");
        let (queue, recovered) = house.try_open().unwrap();
        assert!(recovered.rebuilt && recovered.replayed > 0 && recovered.replayed < 5_002, "{recovered:?}");
        if !is_damaged {
            assert_eq!(picture(&queue).await, whole);
            assert_sound(&queue).await;
            continue;
        }
        assert_eq!(recovered.lost_records, 1);
        let waits = &queue.list(&Default::default(), None, 1).await.unwrap().entries[0];
        assert_eq!(waits.state, State::Held, "its outcome may be what was lost");
        assert_eq!(queue.get(lost).await.unwrap().state, State::Held, "its bytes are there");
    }
}

/// The machine's disk, until its syncs are told to fail.
#[derive(Debug, Default)]
struct FailingDisk {
    fails: Arc<AtomicBool>,
}

#[derive(Debug)]
struct FailingFile {
    file: Arc<dyn DiskFile>,
    fails: Arc<AtomicBool>,
}

impl FailingDisk {
    fn wrap(&self, file: Arc<dyn DiskFile>) -> Arc<dyn DiskFile> {
        Arc::new(FailingFile { file, fails: self.fails.clone() })
    }
}

impl Disk for FailingDisk {
    fn create_new(&self, path: &Path) -> io::Result<Arc<dyn DiskFile>> {
        OsDisk.create_new(path).map(|file| self.wrap(file))
    }
    fn open(&self, path: &Path, write: bool) -> io::Result<Arc<dyn DiskFile>> {
        OsDisk.open(path, write).map(|file| self.wrap(file))
    }
    fn rename_new(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename_new(from, to)
    }
    fn rename_over(&self, from: &Path, to: &Path) -> io::Result<()> {
        OsDisk.rename_over(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        OsDisk.unlink(path)
    }
    fn create_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.create_dir(path)
    }
    fn remove_dir(&self, path: &Path) -> io::Result<()> {
        OsDisk.remove_dir(path)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<PathBuf>> {
        OsDisk.list(dir)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        OsDisk.sync_dir(dir)
    }
    fn space(&self, path: &Path) -> io::Result<Space> {
        OsDisk.space(path)
    }
    fn real_path(&self, path: &Path) -> Option<PathBuf> {
        OsDisk.real_path(path)
    }
}

impl DiskFile for FailingFile {
    fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        self.file.write_at(bytes, offset)
    }
    fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        self.file.read_at(buffer, offset)
    }
    fn drop_cached(&self) {
        self.file.drop_cached();
    }
    fn len(&self) -> io::Result<u64> {
        self.file.len()
    }
    fn set_len(&self, len: u64) -> io::Result<()> {
        self.file.set_len(len)
    }
    fn write_back(&self, offset: u64, len: u64) {
        self.file.write_back(offset, len);
    }
    fn set_xattr(&self, name: &str, value: &[u8]) -> io::Result<()> {
        self.file.set_xattr(name, value)
    }
    fn xattr(&self, name: &str) -> io::Result<Option<Vec<u8>>> {
        self.file.xattr(name)
    }
    fn remove_xattr(&self, name: &str) -> io::Result<()> {
        self.file.remove_xattr(name)
    }
    fn make_writable(&self) -> io::Result<()> {
        self.file.make_writable()
    }
    fn make_read_only(&self) -> io::Result<()> {
        self.file.make_read_only()
    }
    fn modified_ms(&self) -> io::Result<i64> {
        self.file.modified_ms()
    }
    fn sync_all(&self) -> io::Result<()> {
        self.file.sync_all()
    }
    fn sync_data(&self) -> io::Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(io::Error::other("the disk gave up"));
        }
        self.file.sync_data()
    }
}

#[tokio::test]
async fn a_failed_sync_stops_the_queue_until_a_restart() {
    let house = House::new();
    let disk = FailingDisk::default();
    let fails = disk.fails.clone();
    let options = Options { segment_bytes: 256 << 10, ..Options::default() };
    let (queue, _) = EmbeddedQueue::open(Arc::new(disk), &house.journal(), &house.index(), options).unwrap();
    let kept = put(&queue, "clinic", "a").await;
    fails.store(true, Ordering::SeqCst);
    let refused = file("clinic", "b");
    assert!(matches!(queue.accept(refused.clone(), Content::Kept, at(1)).await, Err(QueueError::Unknown(_))));
    fails.store(false, Ordering::SeqCst);
    // The page cache lies from now on: not even a disk that works again is trusted.
    assert!(matches!(queue.accept(file("clinic", "c"), Content::Kept, at(1)).await, Err(QueueError::Poisoned(_))));
    assert!(matches!(queue.claim(ask(1), at(1)).await, Err(QueueError::Poisoned(_))));
    assert!(queue.poisoned().unwrap().contains("the disk gave up"), "{:?}", queue.poisoned());
    // Reading goes on, and shows what was acknowledged and nothing else.
    assert_eq!(queue.get(kept).await.unwrap().state, State::Ready);
    assert!(matches!(queue.get(refused.id).await, Err(QueueError::NotFound(_))));
    assert_eq!(queue.stats(at(1)).await.unwrap().counts[0].files, 1);
    drop(queue);
    let queue = house.open();
    assert_eq!(claim_one(&queue, 2).await.entry.id, kept);
}
