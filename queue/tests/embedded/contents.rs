//! The bytes of small files, which come with their records.

use std::{fs, path::Path, sync::Arc};

use bytes::Bytes;
use forebay_queue::{
    EmbeddedMaintenance, Hold, QueueError, QueueStore, State,
    embedded::{EmbeddedQueue, Options},
};
use forebay_storage::{
    Content, FileId, Sha256,
    disk::{OsDisk, sim::SimDisk},
};
use sha2::Digest;

use crate::{
    damage::{find, spoil},
    house::{House, assert_sound, at, claim_one, copy_dir, file, finish, later, put, small_file},
};

fn bytes_of(content: &Content) -> Bytes {
    match content {
        Content::Inline(bytes) => bytes.clone(),
        Content::Kept => panic!("it is inline"),
    }
}

async fn read_back(queue: &EmbeddedQueue, id: FileId) -> forebay_queue::Result<Option<Bytes>> {
    queue.content(&queue.get(id).await?.extent()).await
}

async fn accept_small(queue: &EmbeddedQueue, names: &[&str]) -> Vec<(FileId, Bytes)> {
    let mut files = Vec::new();
    for name in names {
        let (new, content) = small_file("clinic", name);
        files.push((queue.accept(new, content.clone(), at(0)).await.unwrap().id, bytes_of(&content)));
    }
    files
}

/// Has the first `count` files in turn processed.
async fn process(queue: &EmbeddedQueue, count: usize, now: i64) {
    for _ in 0..count {
        let claim = claim_one(queue, now).await;
        finish(queue, &claim, State::Done, now + 1).await;
    }
}

/// A file of so many bytes.
fn long_file(name: &str, length: usize) -> (forebay_queue::NewEntry, Content) {
    let bytes: Bytes = name.bytes().cycle().take(length).collect();
    let sha256 = Sha256(sha2::Sha256::digest(&bytes).into());
    let new = forebay_queue::NewEntry { size_bytes: length as u64, sha256, ..file("clinic", name) };
    (new, Content::Inline(bytes))
}

fn packed_bytes(house: &House) -> u64 {
    let packs = fs::read_dir(house.journal().join("packs")).unwrap();
    packs.map(|pack| pack.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn bytes_come_with_the_record_and_stay_over_restarts() {
    let house = House::new();
    let mut queue = house.open();
    let mut files = Vec::new();
    for name in ["a", "b", "c"] {
        let (new, content) = small_file("clinic", name);
        let entry = queue.accept(new, content.clone(), at(0)).await.unwrap();
        assert_eq!(entry.content, Some(entry.turn));
        files.push((entry.id, bytes_of(&content)));
    }
    let (new, content) = long_file("empty", 0);
    files.push((queue.accept(new, content, at(0)).await.unwrap().id, Bytes::new()));
    let kept = queue.accept(file("clinic", "kept"), Content::Kept, at(0)).await.unwrap();
    assert_eq!((kept.content, read_back(&queue, kept.id).await.unwrap()), (None, None));
    assert_eq!(queue.kept_ids().await.unwrap(), [kept.id]);
    for round in 0..4 {
        for (id, bytes) in &files {
            assert_eq!(read_back(&queue, *id).await.unwrap().as_ref(), Some(bytes), "round {round}");
        }
        drop(queue);
        if round == 2 {
            fs::remove_dir_all(house.index()).unwrap();
        }
        queue = house.open();
    }
    let unknown = FileId::new(at(0));
    assert!(matches!(read_back(&queue, unknown).await, Err(QueueError::NotFound(id)) if id == unknown));
    assert_sound(&queue).await;
}

#[tokio::test]
async fn room_comes_back_when_files_are_purged_and_nothing_else_goes() {
    let house = House::new();
    let queue = house.open();
    let mut ids = Vec::new();
    for n in 0..400 {
        let (new, content) = long_file(&format!("{n}"), 20_000);
        ids.push(queue.accept(new, content, at(0)).await.unwrap().id);
    }
    process(&queue, 250, 1).await;
    drop(queue);
    let queue = house.open();
    let before = packed_bytes(&house);
    assert!(before > 8_000_000, "{before}");
    assert_eq!(queue.purge(at(10), 1_000, at(10)).await.unwrap().files, 250);
    assert!(packed_bytes(&house) < before / 2, "{} of {before}", packed_bytes(&house));
    for id in &ids[250..] {
        assert_eq!(read_back(&queue, *id).await.unwrap().map(|bytes| bytes.len()), Some(20_000));
    }
    for id in &ids[..250] {
        assert!(matches!(read_back(&queue, *id).await, Err(QueueError::NotFound(_))));
    }
    // What came since the packs were made is purged too, and its room comes back once it is in one.
    process(&queue, 150, 11).await;
    let late = put(&queue, "clinic", "late").await;
    process(&queue, 1, 13).await;
    let stays = put(&queue, "clinic", "stays").await;
    assert_eq!(queue.purge(at(20), 1_000, at(20)).await.unwrap().files, 151);
    assert!(matches!(read_back(&queue, late).await, Err(QueueError::NotFound(_))));
    drop(queue);
    let queue = house.open();
    queue.purge(at(0), 1, at(30)).await.unwrap();
    assert!(packed_bytes(&house) < 20_000, "{}", packed_bytes(&house));
    assert!(read_back(&queue, stays).await.unwrap().is_some());
    assert_sound(&queue).await;
}

/// A crash between a purge and the sweep behind it costs room, and only until the next purge.
#[tokio::test]
async fn purge_retire_and_make_anew_bring_nothing_back() {
    let house = House::new();
    let day = 86_400;
    let queue = house.open_keeping(1);
    let mut ids = Vec::new();
    for n in 0..300 {
        let (new, content) = long_file(&format!("{n}"), 3_000);
        ids.push(queue.accept(new, content, at(0)).await.unwrap().id);
    }
    process(&queue, 100, 1).await;
    drop(queue);
    let queue = house.open_keeping(1);
    // A third of the pack is dead: it is not written anew for that, until the journal forgets.
    let packed = packed_bytes(&house);
    assert_eq!(queue.purge(at(10), 1_000, at(10)).await.unwrap().files, 100);
    assert_eq!(packed_bytes(&house), packed);
    queue.purge(at(0), 1, at(10) + later(5 * day)).await.unwrap();
    assert!(packed_bytes(&house) < packed * 8 / 10, "{} of {packed}", packed_bytes(&house));
    drop(queue);
    fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open_keeping(1);
    assert_eq!(queue.ids().await.unwrap().len(), 200);
    for id in &ids[100..] {
        assert!(read_back(&queue, *id).await.unwrap().is_some());
    }
    assert_sound(&queue).await;
}

#[tokio::test]
async fn a_file_whose_acceptance_is_lost_is_held_with_its_bytes() {
    let house = House::new();
    let queue = house.open();
    let files = accept_small(&queue, &["one", "two-is-hit", "three"]).await;
    drop(queue);
    let segment = house.last_segment();
    spoil(&segment, find(&segment, "two-is-hit"));
    fs::remove_dir_all(house.index()).unwrap();
    for round in 0..2 {
        let (queue, recovered) = house.try_open().unwrap();
        assert_eq!(recovered.lost_records, 1 - round);
        let entry = queue.get(files[1].0).await.unwrap();
        assert_eq!((entry.state, entry.hold), (State::Held, Some(Hold::JournalDamage)));
        for (id, bytes) in &files {
            assert_eq!(read_back(&queue, *id).await.unwrap().as_ref(), Some(bytes));
        }
        // Nothing that is in the queue is swept.
        queue.purge(at(10), 10, at(10)).await.unwrap();
        assert_eq!(read_back(&queue, files[1].0).await.unwrap().as_ref(), Some(&files[1].1));
        drop(queue);
        fs::remove_dir_all(house.index()).unwrap();
    }
}

/// The same where the journal itself is gone, in part or altogether, and the index with it.
#[tokio::test]
async fn files_of_a_journal_that_is_gone_are_held_with_their_bytes() {
    for all in [false, true] {
        let house = House::new();
        let queue = house.open();
        let mut files = Vec::new();
        for n in 0..2_000 {
            // With names of some length, so that the records fill more than one segment.
            let (new, content) = small_file("clinic", &format!("{n:0>160}"));
            files.push((queue.accept(new, content.clone(), at(0)).await.unwrap().id, bytes_of(&content)));
        }
        drop(queue);
        let mut segments: Vec<_> = fs::read_dir(house.journal()).unwrap().map(|one| one.unwrap().path()).collect();
        segments.retain(|path| path.is_file());
        segments.sort();
        assert!(segments.len() > 2, "{segments:?}");
        for segment in &segments[..if all { segments.len() } else { 1 }] {
            fs::remove_file(segment).unwrap();
        }
        if all {
            fs::remove_dir_all(house.journal().join("recent")).unwrap();
        }
        fs::remove_dir_all(house.index()).unwrap();
        for _ in 0..2 {
            let queue = house.open();
            // Nothing of it is taken for waste.
            queue.purge(at(10), 10, at(10)).await.unwrap();
            for (id, bytes) in &files {
                assert_eq!(read_back(&queue, *id).await.unwrap().as_ref(), Some(bytes), "all: {all}");
            }
            let held = queue.get(files[0].0).await.unwrap();
            assert_eq!((held.state, held.hold), (State::Held, Some(Hold::JournalDamage)));
            let last = queue.get(files[1_999].0).await.unwrap();
            assert_eq!(last.state, if all { State::Held } else { State::Ready });
            assert_sound(&queue).await;
        }
    }
}

/// An index that is made anew while the queue runs, over a journal that has lost an acceptance.
#[tokio::test]
async fn making_the_index_anew_takes_no_bytes_for_waste() {
    let house = House::new();
    let queue = house.open();
    let files = accept_small(&queue, &["one", "two-is-hit", "three"]).await;
    drop(queue);
    let queue = house.open();
    let segment = house.last_segment();
    spoil(&segment, find(&segment, "two-is-hit"));
    queue.rebuild(&|_, _| {}).await.unwrap();
    queue.purge(at(10), 10, at(10)).await.unwrap();
    for (id, bytes) in &files {
        assert_eq!(read_back(&queue, *id).await.unwrap().as_ref(), Some(bytes));
    }
    assert_eq!(queue.get(files[1].0).await.unwrap().hold, Some(Hold::JournalDamage));
}

#[tokio::test]
async fn damage_is_found_when_bytes_are_read() {
    let house = House::new();
    let queue = house.open();
    let (new, content) = small_file("clinic", "a");
    let id = queue.accept(new, content, at(0)).await.unwrap().id;
    drop(queue);
    let pack = fs::read_dir(house.journal().join("packs")).unwrap().next().unwrap().unwrap().path();
    spoil(&pack, find(&pack, "sends a."));
    let queue = house.open();
    assert!(matches!(read_back(&queue, id).await, Err(QueueError::Damaged { .. })));
    drop(queue);
    fs::remove_file(&pack).unwrap();
    let queue = house.open();
    let Err(QueueError::Damaged { what, .. }) = read_back(&queue, id).await else { panic!("it is gone") };
    assert!(what.contains("missing"), "{what}");
}

/// Bytes that wait must not keep an outcome out.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_disk_refuses_bytes_and_takes_outcomes() {
    let dir = tempfile::tempdir().unwrap();
    let disk = SimDisk::new(1).with_dir(Path::new("/data"));
    let open = || {
        let options = Options { segment_bytes: 256 << 10, ..Options::default() };
        EmbeddedQueue::open(disk.shared(), Path::new("/data/journal"), &dir.path().join("queue"), options).unwrap().0
    };
    let queue = Arc::new(open());
    // Room for the short log as it is made, and for hardly more.
    disk.set_capacity(14 << 20);
    let mut accepted = Vec::new();
    let mut refused = 0;
    while refused < 20 {
        assert!(accepted.len() < 1_000, "it never becomes full");
        let tasks: Vec<_> = (0..16)
            .map(|n| {
                let (queue, (new, content)) = (queue.clone(), long_file(&format!("{n}"), 60_000));
                tokio::spawn(async move {
                    let bytes = bytes_of(&content);
                    queue.accept(new, content, at(0)).await.map(|entry| (entry.id, bytes))
                })
            })
            .collect();
        for task in tasks {
            match task.await.unwrap() {
                Ok(file) => accepted.push(file),
                Err(QueueError::Full) => refused += 1,
                Err(error) => panic!("{error}"),
            }
        }
        // What brings no bytes along is taken beside them, and after them.
        if let Some(claim) = queue.claim(crate::house::ask(1), at(1)).await.unwrap().pop() {
            finish(&queue, &claim, State::Done, 2).await;
        }
    }
    assert_eq!(queue.poisoned(), None);
    assert!(accepted.len() > 50, "{}", accepted.len());
    disk.set_capacity(1 << 40);
    drop(Arc::into_inner(queue));
    let queue = open();
    for (id, bytes) in &accepted {
        assert_eq!(read_back(&queue, *id).await.unwrap().as_ref(), Some(bytes));
    }
    assert_sound(&queue).await;
}

/// As a killed process leaves it, at many points of an emptying.
#[tokio::test]
async fn a_copy_of_the_journal_at_any_time_has_all_that_was_acknowledged() {
    let house = House::new();
    let queue = house.open();
    let mut files = Vec::new();
    for n in 0..60 {
        let (new, content) = long_file(&format!("{n}"), 50_000);
        files.push((queue.accept(new, content.clone(), at(0)).await.unwrap().id, bytes_of(&content)));
        if n % 20 == 19 {
            let copy = House::new();
            copy_dir(&house.journal(), &copy.journal());
            let again = EmbeddedQueue::open(Arc::new(OsDisk), &copy.journal(), &copy.index(), Options::default());
            let (again, recovered) = again.unwrap();
            assert_eq!((recovered.lost_records, recovered.faults.len()), (0, 0));
            for (id, bytes) in &files {
                assert_eq!(read_back(&again, *id).await.unwrap().as_ref(), Some(bytes));
            }
        }
    }
}

/// Where the write itself finds no room, in the middle of bytes: what brings none along is taken all the same.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_that_a_quota_refuses_keeps_no_outcome_out() {
    for seed in 0..10 {
        let dir = tempfile::tempdir().unwrap();
        let disk = SimDisk::new(seed).with_dir(Path::new("/data"));
        let open = |disk: &SimDisk| {
            let options = Options { segment_bytes: 256 << 10, ..Options::default() };
            EmbeddedQueue::open(disk.shared(), Path::new("/data/journal"), &dir.path().join("queue"), options)
                .unwrap()
                .0
        };
        let queue = Arc::new(open(&disk));
        for n in 0..4 {
            let (new, content) = long_file(&format!("{n}"), 1_000);
            queue.accept(new, content, at(0)).await.unwrap();
        }
        let claim = queue.claim(crate::house::ask(1), at(1)).await.unwrap().remove(0);
        // A segment is made ahead, whose room is there for what has to be taken back.
        let mut operations = 0;
        while std::mem::replace(&mut operations, disk.operations()) != disk.operations() {
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
        disk.set_quota(Some(30_000 + seed * 1_000));
        let tasks: Vec<_> = (0..12)
            .map(|n| {
                let (queue, (new, content)) = (queue.clone(), long_file(&format!("no{n}"), 60_000));
                tokio::spawn(async move { queue.accept(new, content, at(2)).await.map(|entry| entry.id) })
            })
            .collect();
        finish(&queue, &claim, State::Done, 2).await;
        let mut ids = Vec::new();
        let mut refused = 0;
        for task in tasks {
            match task.await.unwrap() {
                Ok(id) => ids.push(id),
                Err(QueueError::Full) => refused += 1,
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        assert!(refused > 0, "seed {seed}: there was room for {}", ids.len());
        assert_eq!(queue.poisoned(), None);
        drop(Arc::into_inner(queue));
        disk.cut_now();
        let queue = open(&disk.reboot());
        assert_eq!(queue.ids().await.unwrap().len(), 4 + ids.len(), "seed {seed}: none that was refused");
        assert_eq!(queue.get(claim.entry.id).await.unwrap().state, State::Done);
        assert_sound(&queue).await;
    }
}
