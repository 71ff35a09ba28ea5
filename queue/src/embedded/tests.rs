//! What only the inside can bring about: an index that fails under the running queue.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use chrono::{DateTime, Utc};
use forebay_storage::{Content, FileId, Sha256, disk::OsDisk};

use super::{EmbeddedQueue, Options};
use crate::{
    Action, Actor, ClaimRequest, EmbeddedMaintenance, Filter, NewEntry, Order, Page, QueueError, QueueStore, Recovered,
    RouteRequest, State,
};

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_777_075_200 + seconds, 0).unwrap()
}

fn try_open(dir: &Path) -> (EmbeddedQueue, Recovered) {
    let options = Options { segment_bytes: 256 << 10, ..Options::default() };
    EmbeddedQueue::open(Arc::new(OsDisk), &dir.join("journal"), &dir.join("queue"), options).unwrap()
}

fn open(dir: &Path) -> EmbeddedQueue {
    try_open(dir).0
}

fn file(name: &str) -> NewEntry {
    NewEntry {
        id: FileId::new(at(0)),
        partner: "clinic".into(),
        name: name.into(),
        door: "ftp".into(),
        size_bytes: 1,
        sha256: Sha256([1; 32]),
        received_at: at(0),
        route: Some("rest".into()),
        state: State::Ready,
        reason: None,
        hold: None,
        origin: None,
        idempotency_key: None,
        supersedes: None,
        continues: None,
        claimable_from: None,
    }
}

fn set_aside(dir: &Path) -> usize {
    let names = std::fs::read_dir(dir).unwrap().map(|item| item.unwrap().file_name());
    names.filter(|name| name.to_string_lossy().contains(".corrupt-")).count()
}

#[tokio::test]
async fn an_index_that_fails_after_the_journal_changes_no_answer() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let first = queue.accept(file("a"), Content::Kept, at(0)).await.unwrap();
    queue.shared().index.read().fail.store(true, Ordering::SeqCst);
    let second = queue.accept(file("b"), Content::Kept, at(1)).await.unwrap();
    for entry in [&first, &second] {
        assert_eq!(queue.get(entry.id).await.unwrap(), *entry);
    }
    assert_eq!(set_aside(dir.path()), 1);
    assert_eq!(queue.verify(&|_, _| {}).await.unwrap().faults, Vec::<String>::new());
    assert_eq!(queue.poisoned(), None);
    let third = queue.accept(file("c"), Content::Kept, at(2)).await.unwrap();
    assert_eq!(queue.changes(0, 9).await.unwrap(), [first, second, third]);
}

#[tokio::test]
async fn an_index_that_a_reader_finds_broken_is_made_anew_once() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let entry = queue.accept(file("a"), Content::Kept, at(0)).await.unwrap();
    for _ in 0..2 {
        queue.shared().index.write().close();
        let (one, two) = tokio::join!(queue.get(entry.id), queue.get(entry.id));
        assert_eq!((one.unwrap(), two.unwrap()), (entry.clone(), entry.clone()));
    }
    assert_eq!(set_aside(dir.path()), 2);
}

#[tokio::test]
async fn a_damaged_key_is_found_by_verify_and_mended_by_rebuild() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let entry = queue.accept(file("a"), Content::Kept, at(0)).await.unwrap();
    let mut batch = super::layered::Changes::new();
    batch.insert(super::keys::by_state(State::Ready, entry.turn), None);
    batch.insert(super::keys::by_state(State::Done, entry.turn), Some(entry.id.as_bytes().into()));
    assert_eq!(queue.get(entry.id).await.unwrap(), entry, "the index is read, so it has caught up");
    queue.shared().index.read().apply(batch).unwrap();
    let faults = queue.verify(&|_, _| {}).await.unwrap().faults;
    assert_eq!(faults.len(), 2, "{faults:?}");
    let seen = std::sync::atomic::AtomicU64::new(0);
    queue.rebuild(&|done, total| seen.store(done * 1_000 + total, Ordering::SeqCst)).await.unwrap();
    assert_eq!(seen.load(Ordering::SeqCst), 1_001);
    assert_eq!(queue.verify(&|_, _| {}).await.unwrap().faults, Vec::<String>::new());
}

#[tokio::test]
async fn an_index_of_another_format_is_made_anew_and_not_kept() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let entry = queue.accept(file("a"), Content::Kept, at(0)).await.unwrap();
    assert_eq!(queue.get(entry.id).await.unwrap(), entry, "the index is read, so it has caught up");
    let mut meta = queue.shared().index.read().get(super::keys::META).unwrap().unwrap().to_vec();
    meta[0] -= 1;
    let mut batch = super::layered::Changes::new();
    batch.insert(super::keys::META.into(), Some(meta.into()));
    queue.shared().index.read().apply(batch).unwrap();
    drop(queue);
    let (queue, recovered) = try_open(dir.path());
    assert!(recovered.rebuilt && recovered.replayed == 1, "{recovered:?}");
    assert_eq!((set_aside(dir.path()), recovered.set_aside), (0, vec![]));
    assert_eq!(queue.get(entry.id).await.unwrap(), entry);
    drop(queue);
    assert!(!try_open(dir.path()).1.rebuilt, "once is enough");
}

#[tokio::test]
async fn an_index_that_has_grown_past_what_is_live_is_small_again_after_a_start() {
    let dir = tempfile::tempdir().unwrap();
    let mut queue = open(dir.path());
    let entry = queue.accept(file("a"), Content::Kept, at(0)).await.unwrap();
    assert_eq!(queue.get(entry.id).await.unwrap(), entry, "the index is read, so it has caught up");
    // sled gives some of the room back by itself, sooner or later.
    for round in 1..=10 {
        grow(&queue);
        let grown = queue.shared().index.read().size_on_disk().unwrap();
        drop(queue);
        let (opened, recovered) = try_open(dir.path());
        queue = opened;
        let size = queue.shared().index.read().size_on_disk().unwrap();
        println!("round {round}: {grown} bytes, then {size}");
        assert!(size < 66 << 20, "{grown} bytes, then {size}: {recovered:?}");
        assert_eq!(queue.get(entry.id).await.unwrap(), entry);
        if recovered.rebuilt {
            assert!(recovered.replayed == 0 && size < grown / 8, "{grown} bytes, then {size}: {recovered:?}");
            assert_eq!(queue.verify(&|_, _| {}).await.unwrap().faults, Vec::<String>::new());
            return;
        }
    }
    panic!("it was never made small");
}

/// Fills the index, and takes all of that out again: of its file little is given back.
fn grow(queue: &EmbeddedQueue) {
    let key = |n: u64| [&[0xf0][..], &n.to_be_bytes()].concat();
    let apply = |value: Option<super::index::Slice>| {
        for first in (0..24_000).step_by(100) {
            let batch = (first..first + 100).map(|n| (key(n).into(), value.clone())).collect();
            queue.shared().index.read().apply(batch).unwrap();
        }
    };
    apply(Some(vec![7; 4 << 10].into()));
    apply(None);
    queue.shared().index.read().persist().unwrap();
}

/// One bad key must not keep everybody's files waiting for ever.
#[tokio::test]
async fn a_listing_that_names_what_cannot_be_claimed_is_mended_by_the_claim() {
    let route = RouteRequest { name: "rest".into(), slots: 1, order: Order::Strict, per_partner: 0 };
    let ask = ClaimRequest { routes: vec![route], limit: 1, per_partner: 0, lease_ms: 60_000, duplicate_window_ms: 0 };
    for gone in [true, false] {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path());
        let entry = queue.accept(file("a"), Content::Kept, at(0)).await.unwrap();
        let other = queue.accept(file("b"), Content::Kept, at(0)).await.unwrap();
        for done in queue.act(&[other.id], Action::Hold(crate::Hold::Operator), None, Actor::Server, at(1)).await {
            done.unwrap();
        }
        assert_eq!(queue.get(entry.id).await.unwrap(), entry, "the index is read, so it has caught up");
        let mut batch = super::layered::Changes::new();
        match gone {
            true => batch.insert(super::keys::entry(entry.turn), None),
            false => batch.insert(super::keys::ready(0, 0), Some(other.id.as_bytes().into())),
        };
        queue.shared().index.read().apply(batch).unwrap();
        let claims = queue.claim(ask.clone(), at(2)).await.unwrap();
        assert_eq!(claims.iter().map(|claim| claim.entry.id).collect::<Vec<_>>(), [entry.id]);
        assert_eq!(set_aside(dir.path()), 1);
        assert_eq!(queue.verify(&|_, _| {}).await.unwrap().faults, Vec::<String>::new());
    }
}

/// Answers go out before the index has what they say; nobody can tell.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whoever_was_answered_finds_what_was_answered() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Arc::new(open(dir.path()));
    let mut tasks = Vec::new();
    for task in 0..8 {
        let queue = queue.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..60 {
                let entry = queue.accept(file(&format!("{task}-{n}")), Content::Kept, at(n)).await.unwrap();
                assert_eq!(queue.get(entry.id).await.unwrap(), entry);
                assert!(queue.unprocessed_bytes("clinic").await.unwrap() >= u64::try_from(n).unwrap());
                let since = queue.changes(entry.changed_seq - 1, 1).await.unwrap();
                assert_eq!(since.first(), Some(&entry));
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(queue.verify(&|_, _| {}).await.unwrap().faults, Vec::<String>::new());
}

/// The index follows the journal only when it is read, and verifying reads both while others write.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_is_written_while_it_is_verified_is_no_fault() {
    let dir = tempfile::tempdir().unwrap();
    let queue = Arc::new(open(dir.path()));
    let over = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (queue, over) = (queue.clone(), over.clone());
        tasks.push(tokio::spawn(async move {
            while !over.load(Ordering::SeqCst) {
                let entry = queue.accept(file("a"), Content::Kept, at(0)).await.unwrap();
                for done in
                    queue.act(&[entry.id], Action::Hold(crate::Hold::Operator), None, Actor::Server, at(1)).await
                {
                    assert_eq!(done.unwrap().state, State::Held);
                }
            }
        }));
    }
    for _ in 0..20 {
        assert_eq!(queue.verify(&|_, _| {}).await.unwrap().faults, Vec::<String>::new());
    }
    over.store(true, Ordering::SeqCst);
    for task in tasks {
        task.await.unwrap();
    }
}

/// Accepts a few files and cancels every second one, and gives all of them.
async fn some_work(queue: &EmbeddedQueue, name: &str) -> Vec<crate::Entry> {
    let mut entries = Vec::new();
    for number in 0..6 {
        let entry = queue.accept(file(&format!("{name}-{number}")), Content::Kept, at(number)).await.unwrap();
        entries.push(match number % 2 {
            0 => queue.act(&[entry.id], Action::Cancel, None, Actor::Server, at(9)).await.remove(0).unwrap(),
            _ => entry,
        });
    }
    entries
}

async fn assert_there(queue: &EmbeddedQueue, entries: &[crate::Entry]) {
    let page = queue.list(&crate::Filter::default(), None, usize::MAX).await.unwrap();
    assert_eq!(page.entries, entries);
    for entry in entries {
        assert_eq!(queue.get(entry.id).await.unwrap(), *entry);
    }
    assert_eq!(queue.verify(&|_, _| {}).await.unwrap().faults, Vec::<String>::new());
}

async fn caught_up(queue: &EmbeddedQueue) {
    for _ in 0..4_000 {
        if !queue.shared().index.read().is_behind() {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    panic!("it does not catch up");
}

#[tokio::test]
async fn an_index_without_room_is_read_through_and_catches_up() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let mut entries = some_work(&queue, "before").await;
    assert_there(&queue, &entries).await;
    queue.shared().index.read().full.store(true, Ordering::SeqCst);
    entries.extend(some_work(&queue, "full").await);
    assert_there(&queue, &entries).await;
    assert!(queue.shared().index.read().is_behind());
    assert!(queue.between(|committer| committer.retire(3)).await.is_err(), "a crash would need what the journal has");
    // A start on what is there then: sled has the beginning, the journal all.
    drop(queue);
    let queue = open(dir.path());
    assert_there(&queue, &entries).await;
    queue.shared().index.read().full.store(true, Ordering::SeqCst);
    entries.extend(some_work(&queue, "again").await);
    assert_there(&queue, &entries).await;
    queue.shared().index.read().full.store(false, Ordering::SeqCst);
    caught_up(&queue).await;
    assert_there(&queue, &entries).await;
    assert_eq!(set_aside(dir.path()), 0);
}

#[tokio::test]
async fn an_index_that_the_disk_has_failed_is_opened_again_and_kept() {
    for code in [libc::ENOSPC, libc::EDQUOT, libc::EIO] {
        let dir = tempfile::tempdir().unwrap();
        let queue = open(dir.path());
        let mut entries = some_work(&queue, "before").await;
        assert_there(&queue, &entries).await;
        queue.shared().index.read().full.store(true, Ordering::SeqCst);
        queue.shared().index.read().fail_by(code);
        entries.extend(some_work(&queue, "full").await);
        assert_there(&queue, &entries).await;
        queue.shared().index.read().full.store(false, Ordering::SeqCst);
        caught_up(&queue).await;
        assert_there(&queue, &entries).await;
        entries.extend(some_work(&queue, "behind").await);
        assert_there(&queue, &entries).await;
        assert_eq!(set_aside(dir.path()), 0);
        assert!(queue.poisoned().is_none());
    }
}

/// A quota is known only by what fails for it; from then on sled gives nothing.
#[tokio::test]
async fn an_index_that_sled_fails_to_read_is_replaced_at_once() {
    for code in [libc::EDQUOT, libc::ENOSPC, libc::EIO] {
        for has_room in [false, true] {
            let dir = tempfile::tempdir().unwrap();
            let queue = open(dir.path());
            let mut entries = some_work(&queue, "before").await;
            assert_there(&queue, &entries).await;
            queue.shared().index.read().full.store(!has_room, Ordering::SeqCst);
            queue.shared().index.read().fails_by.store(code, Ordering::SeqCst);
            // Whoever asks first.
            match code {
                libc::EDQUOT => assert_eq!(queue.get(entries[0].id).await.unwrap(), entries[0]),
                libc::ENOSPC => assert_eq!(queue.stats(at(1)).await.unwrap().counts.len(), 2),
                _ => entries.extend(some_work(&queue, "failing").await),
            }
            assert_eq!(queue.shared().index.read().is_in_memory(), !has_room);
            entries.extend(some_work(&queue, "behind").await);
            assert_there(&queue, &entries).await;
            caught_up(&queue).await;
            assert_there(&queue, &entries).await;
            assert_eq!((set_aside(dir.path()), queue.poisoned()), (0, None));
        }
    }
}

/// It fails as soon as it is opened again: what the disk does not give back is made anew from the journal.
#[tokio::test]
async fn an_index_that_cannot_be_read_after_it_was_opened_again_is_damaged() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let entries = some_work(&queue, "before").await;
    assert_there(&queue, &entries).await;
    for _ in 0..2 {
        queue.shared().index.read().fails_by.store(libc::EIO, Ordering::SeqCst);
        assert_there(&queue, &entries).await;
    }
    assert_eq!((set_aside(dir.path()), queue.poisoned()), (1, None));
}

#[tokio::test]
async fn a_listing_reads_what_it_shows_and_little_more() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    for n in 0..600 {
        let partner = if n % 100 == 7 { "rare" } else { "clinic" };
        queue.accept(NewEntry { partner: partner.into(), ..file(&n.to_string()) }, Content::Kept, at(n)).await.unwrap();
    }
    let rare = Filter { partner: Some("rare".into()), ..Filter::default() };
    for (filter, shown) in [(Filter::default(), 5), (rare, 6)] {
        let before = queue.shared().index.read().looks();
        let page = queue.newest(&filter, None, 10).await.unwrap();
        let page = Page { entries: page.entries.into_iter().take(shown).collect(), ..page };
        assert_eq!(page.entries.len(), shown);
        let looks = queue.shared().index.read().looks() - before;
        assert!(looks < 60, "{looks} looks at the index for {filter:?}");
    }
}

#[tokio::test]
async fn an_index_that_cannot_be_opened_is_in_memory_until_it_can() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let mut entries = some_work(&queue, "before").await;
    assert_there(&queue, &entries).await;
    queue
        .between(|committer| {
            committer.go_to_memory();
            committer.shared.index.read().full.store(true, Ordering::SeqCst);
            Ok(())
        })
        .await
        .unwrap();
    assert!(queue.shared().index.read().is_in_memory());
    entries.extend(some_work(&queue, "full").await);
    assert_there(&queue, &entries).await;
    queue.shared().index.read().full.store(false, Ordering::SeqCst);
    caught_up(&queue).await;
    assert!(!queue.shared().index.read().is_in_memory());
    assert_there(&queue, &entries).await;
    drop(queue);
    assert_there(&open(dir.path()), &entries).await;
    assert_eq!(set_aside(dir.path()), 0);
}

#[tokio::test]
async fn a_listing_in_which_little_passes_gives_its_place_from_time_to_time() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    let most = super::read::MOST_PASSED_OVER;
    for n in 0..most + 10 {
        let name = if n == 3 { "needle".to_owned() } else { n.to_string() };
        // In one group after another, as many at once as are taken.
        queue.accept(file(&name), Content::Kept, at(0)).await.unwrap();
    }
    let filter = Filter { name: Some("needle".into()), ..Filter::default() };
    let first = queue.newest(&filter, None, 1).await.unwrap();
    assert!(first.entries.is_empty() && first.next.is_some());
    assert_eq!(queue.newest(&filter, first.next, 1).await.unwrap().entries[0].name, "needle");
    let first = queue.list(&filter, None, 9).await.unwrap();
    assert_eq!((first.entries.len(), first.next.is_some()), (1, true));
    let rest = queue.list(&filter, first.next, 9).await.unwrap();
    assert_eq!((rest.entries.len(), rest.next.is_some()), (0, false));
}

#[tokio::test]
async fn a_check_that_nobody_waits_for_ends() {
    let dir = tempfile::tempdir().unwrap();
    let queue = open(dir.path());
    for n in 0..5_000 {
        queue.accept(file(&n.to_string()), Content::Kept, at(0)).await.unwrap();
    }
    let index = queue.shared().index.read();
    let end = queue.shared().journal.next_seq();
    let asked = std::sync::atomic::AtomicU64::new(0);
    let checked = super::verify::verify(&index, &queue.shared().journal, end, &|_, _| {
        asked.fetch_add(1, Ordering::SeqCst);
        Err(QueueError::Stopped)
    });
    assert!(matches!(checked, Err(super::index::Fault::Queue(QueueError::Stopped))));
    assert_eq!(asked.load(Ordering::SeqCst), 1);
}

/// Every change there is, with the disk failing the index at each of the looks that it takes.
#[tokio::test]
async fn a_change_that_the_disk_fails_halfway_is_done_whole() {
    let route = RouteRequest { name: "rest".into(), slots: 9, order: Order::None, per_partner: 0 };
    let ask = ClaimRequest { routes: vec![route], limit: 9, per_partner: 0, lease_ms: 60_000, duplicate_window_ms: 0 };
    let mut failed = [0; 4];
    for (kind, failed) in failed.iter_mut().enumerate() {
        for look in 0.. {
            let dir = tempfile::tempdir().unwrap();
            let queue = open(dir.path());
            let entries = some_work(&queue, "before").await;
            // So that nothing of it is in memory alone.
            queue.stats(at(19)).await.unwrap();
            let generation = queue.shared().generation.load(Ordering::SeqCst);
            let fails_at = queue.shared().index.read().looks() + look;
            queue.shared().index.read().fail_at_look.store(fails_at, Ordering::SeqCst);
            let done = match kind {
                0 => queue.accept(file("new"), Content::Kept, at(20)).await.map(drop),
                1 => queue.rename(entries[1].id, new_name(), Actor::Server, at(20)).await.map(drop),
                2 => queue.claim(ask.clone(), at(20)).await.map(|claims| assert_eq!(claims.len(), 3)),
                _ => {
                    let ids = [1, 3, 5].map(|place| entries[place].id);
                    let done = queue.act(&ids, Action::Cancel, None, Actor::Server, at(20)).await;
                    done.into_iter().try_for_each(|done| done.map(drop))
                }
            };
            done.unwrap_or_else(|error| panic!("kind {kind}, look {look}: {error}"));
            let was_replaced = queue.shared().generation.load(Ordering::SeqCst) != generation;
            *failed += usize::from(was_replaced);
            queue.shared().index.read().fail_at_look.store(u64::MAX, Ordering::SeqCst);
            let all = queue.list(&Filter::default(), None, usize::MAX).await.unwrap().entries;
            let is_changed = |entry: &crate::Entry| match kind {
                0 => entry.name == "new",
                1 => entry.name == "renamed",
                2 => entry.state == State::Active,
                _ => entry.state == State::Cancelled && entry.since == at(20),
            };
            let changed = all.iter().filter(|entry| is_changed(entry)).count();
            let expected = [(7, 1), (6, 1), (6, 3), (6, 3)][kind];
            assert_eq!((all.len(), changed), expected, "kind {kind}, look {look}");
            assert_eq!(
                queue.verify(&|_, _| {}).await.unwrap().faults,
                Vec::<String>::new(),
                "kind {kind}, look {look}"
            );
            drop(queue);
            // The journal has no record that says nothing.
            let (queue, recovered) = try_open(dir.path());
            assert_eq!((recovered.faults, recovered.lost_records), (vec![], 0), "kind {kind}, look {look}");
            assert_eq!(queue.verify(&|_, _| {}).await.unwrap().faults, Vec::<String>::new());
            if !was_replaced {
                break;
            }
        }
    }
    assert!(failed.iter().all(|count| *count > 1), "{failed:?}");
}

fn new_name() -> crate::NewName {
    crate::NewName { name: "renamed".into(), route: Some("rest".into()), state: State::Ready, reason: None, hold: None }
}
