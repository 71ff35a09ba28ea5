//! Files that go on where earlier ones end, and have only their own bytes.

use std::fs;

use bytes::Bytes;
use forebay_queue::{
    Action, Actor, Continues, Entry, NewEntry, NewName, QueueError, QueueStore, State, embedded::EmbeddedQueue,
};
use forebay_storage::{Content, DigestState, FileId, Sha256};
use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::Digest;

use crate::house::{House, assert_sound, at, claim_one, end, file, finish, later, operator};

fn sha256(bytes: &[u8]) -> Sha256 {
    Sha256(sha2::Sha256::digest(bytes).into())
}

/// The bytes of the `n`th piece.
fn piece(n: usize) -> Vec<u8> {
    format!("{n:>7} ").into_bytes().repeat(n * 13 % 40)
}

/// A file that goes on where this one ends, if there is one, and all bytes so far.
fn rest(earlier: Option<&Entry>, name: &str, own: &[u8], whole: &[u8]) -> NewEntry {
    let continues = earlier.map(|earlier| Continues {
        of: earlier.id,
        at: earlier.size_bytes,
        own_sha256: sha256(own),
        digest: DigestState::of(&sha2::Sha256::new_with_prefix(whole)),
    });
    let supersedes = earlier.map(|earlier| earlier.id);
    let (size_bytes, sha256) = (whole.len() as u64, sha256(whole));
    NewEntry { size_bytes, sha256, continues, supersedes, ..file("clinic", name) }
}

/// Accepts pieces behind each other, and gives the entries and the whole.
async fn chain(queue: &EmbeddedQueue, name: &str, pieces: std::ops::Range<usize>) -> (Vec<Entry>, Vec<u8>) {
    let (mut entries, mut whole) = (Vec::<Entry>::new(), Vec::new());
    for n in pieces {
        let own = piece(n);
        whole.extend_from_slice(&own);
        let new = rest(entries.last(), name, &own, &whole);
        entries.push(queue.accept(new, Content::Inline(own.into()), at(0)).await.unwrap());
    }
    (entries, whole)
}

/// All bytes of a file, stretch by stretch.
async fn all_of(queue: &EmbeddedQueue, id: FileId) -> forebay_queue::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    for extent in queue.extents(&queue.get(id).await?).await? {
        assert_eq!(extent.at, bytes.len() as u64);
        bytes.extend_from_slice(&queue.content(&extent).await?.unwrap_or_else(Bytes::new));
    }
    Ok(bytes)
}

fn packed_bytes(house: &House) -> u64 {
    let packs = fs::read_dir(house.journal().join("packs")).unwrap();
    packs.map(|pack| pack.unwrap().metadata().unwrap().len()).sum()
}

#[tokio::test]
async fn each_has_its_own_bytes_and_the_last_is_the_whole() {
    let house = House::new();
    let mut queue = house.open();
    let (entries, whole) = chain(&queue, "a", 0..200).await;
    for round in 0..3 {
        for entry in entries.iter().step_by(37) {
            let to = usize::try_from(entry.size_bytes).unwrap();
            assert_eq!(all_of(&queue, entry.id).await.unwrap(), whole[..to], "round {round}");
        }
        let last = queue.get(entries[199].id).await.unwrap();
        assert_eq!((last.state, sha256(&whole)), (State::Ready, last.sha256));
        assert_eq!(all_of(&queue, last.id).await.unwrap(), whole);
        let stats = queue.stats(at(0)).await.unwrap();
        let superseded = stats.counts.iter().find(|count| count.state == State::Superseded).unwrap();
        let brought: u64 = stats.counts.iter().map(|count| count.size_bytes).sum();
        assert_eq!((superseded.files, brought), (199, whole.len() as u64), "each byte counts once");
        // All of it waits to be processed.
        assert_eq!(queue.unprocessed_bytes("clinic").await.unwrap(), whole.len() as u64);
        // What is kept of files that are over is what they brought.
        let over = (whole.len() - piece(199).len()) as u64;
        assert_eq!(queue.over_bytes().await.unwrap(), [("clinic".to_owned(), over)]);
        assert_sound(&queue).await;
        drop(queue);
        if round == 1 {
            fs::remove_dir_all(house.index()).unwrap();
        }
        queue = house.open();
    }
    assert!(packed_bytes(&house) < whole.len() as u64 + 200 * 700, "{} for {}", packed_bytes(&house), whole.len());
    assert_eq!(claim_one(&queue, 1).await.entry.id, entries[199].id);
    assert!(queue.claim(crate::house::ask(9), at(2)).await.unwrap().is_empty());
}

#[tokio::test]
async fn what_is_continued_is_purged_with_the_last_and_not_before() {
    let house = House::new();
    let queue = house.open_keeping(1);
    let (entries, whole) = chain(&queue, "a", 0..600).await;
    let other =
        queue.accept(rest(None, "b", b"other", b"other"), Content::Inline("other".into()), at(0)).await.unwrap();
    // All but the last are superseded, and that for long. The journal forgets what it can meanwhile.
    let much_later = at(0) + later(9 * 86_400);
    assert_eq!(queue.purge(much_later, 1_000, much_later).await.unwrap().files, 0);
    drop(queue);
    fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open_keeping(1);
    assert_eq!(all_of(&queue, entries[599].id).await.unwrap(), whole);
    assert!(queue.purge(much_later, 1_000, much_later).await.unwrap().files == 0);
    let claim = claim_one(&queue, 10 * 86_400).await;
    finish(&queue, &claim, State::Done, 10 * 86_400).await;
    let end = at(11 * 86_400);
    // Also by pieces that are not all of it.
    for purged in [100, 100, 300, 100] {
        assert_eq!(queue.purge(end, purged, end).await.unwrap().files, purged);
        assert_sound(&queue).await;
    }
    assert_eq!(queue.ids().await.unwrap(), [other.id]);
    drop(queue);
    let queue = house.open_keeping(1);
    queue.purge(end, 1, end + later(3 * 86_400)).await.unwrap();
    assert!(packed_bytes(&house) < 5_000, "{}", packed_bytes(&house));
    drop(queue);
    fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open_keeping(1);
    assert_eq!(queue.ids().await.unwrap(), [other.id], "nothing comes back");
    assert_eq!(all_of(&queue, other.id).await.unwrap(), b"other");
    assert_sound(&queue).await;
}

#[tokio::test]
async fn what_two_go_on_from_stays_for_both() {
    let house = House::new();
    let queue = house.open();
    let (entries, mut whole) = chain(&queue, "a", 1..3).await;
    let withdrawn = queue.accept(rest(entries.last(), "a", b"!", b"!"), Content::Inline("!".into()), at(1)).await;
    assert!(matches!(withdrawn, Err(QueueError::NoBeginning { .. })), "it would end before it begins");
    let own = piece(7);
    let before = whole.clone();
    whole.extend_from_slice(&own);
    let first =
        queue.accept(rest(Some(&entries[1]), "a", &own, &whole), Content::Inline(own.into()), at(1)).await.unwrap();
    assert!(matches!(queue.withdraw(entries[1].id, "", at(1)).await, Err(QueueError::WrongState { .. })));
    queue.withdraw(first.id, "the reply was not read", at(2)).await.unwrap();
    assert_eq!(queue.get(entries[1].id).await.unwrap().state, State::Ready, "the one before is back");
    assert!(queue.continued_by(entries[1].id).await.unwrap().is_empty());
    // Processed meanwhile, it is the beginning of another file and not superseded.
    let claim = claim_one(&queue, 3).await;
    assert_eq!(claim.entry.id, entries[1].id);
    let mut both = Vec::new();
    for own in [b"x", b"y"] {
        let whole = [&before[..], own].concat();
        let new = rest(Some(&entries[1]), "a", own, &whole);
        let entry = queue.accept(new, Content::Inline(own.to_vec().into()), at(4)).await.unwrap();
        assert_eq!(entry.supersedes, None);
        both.push((entry.id, whole));
    }
    finish(&queue, &claim, State::Done, 5).await;
    assert_eq!(queue.purge(at(9), 10, at(9)).await.unwrap().files, 1, "the withdrawn one alone");
    for (id, _) in &both {
        queue.act(&[*id], Action::Cancel, None, operator(), at(6)).await.remove(0).unwrap();
    }
    let route = vec![Some("rest".to_owned())];
    queue.act(&[both[0].0], Action::Requeue(route), None, operator(), at(7)).await.remove(0).unwrap();
    assert_eq!(queue.purge(at(9), 10, at(9)).await.unwrap().files, 1, "the cancelled one, and nothing before it");
    assert_eq!(all_of(&queue, both[0].0).await.unwrap(), both[0].1);
    queue.act(&[both[0].0], Action::Cancel, None, operator(), at(8)).await.remove(0).unwrap();
    assert_eq!(queue.purge(at(9), 10, at(9)).await.unwrap().files, 3);
    assert!(queue.ids().await.unwrap().is_empty());
    assert_sound(&queue).await;
}

#[tokio::test]
async fn nothing_goes_on_from_what_is_not_there() {
    let house = House::new();
    let queue = house.open();
    let (entries, whole) = chain(&queue, "a", 1..2).await;
    let longer = [&whole[..], b"more"].concat();
    let go_on = |earlier: &Entry, name: &str| rest(Some(earlier), name, b"more", &longer);
    let accept = async |new: NewEntry| queue.accept(new, Content::Inline("more".into()), at(1)).await;
    let stranger = Entry { id: FileId::new(at(0)), ..entries[0].clone() };
    let shorter = Entry { size_bytes: entries[0].size_bytes - 1, ..entries[0].clone() };
    let foreign = NewEntry { partner: "other".into(), ..go_on(&entries[0], "a") };
    for new in [go_on(&stranger, "a"), go_on(&shorter, "a"), foreign] {
        assert!(matches!(accept(new).await, Err(QueueError::NoBeginning { .. })));
    }
    assert_eq!(queue.get(entries[0].id).await.unwrap().state, State::Ready);
    // One that has another name by now is another file, which is processed by itself.
    let to = NewName { name: "b".into(), route: Some("rest".into()), state: State::Ready, reason: None, hold: None };
    queue.rename(entries[0].id, to, Actor::Partner("clinic".into()), at(1)).await.unwrap();
    let beside = accept(go_on(&entries[0], "a")).await.unwrap();
    assert_eq!((beside.supersedes, queue.get(entries[0].id).await.unwrap().state), (None, State::Ready));
    assert_eq!(all_of(&queue, beside.id).await.unwrap(), longer);
    // What another file goes on from is not taken back, and what was taken back is no beginning.
    assert!(matches!(queue.withdraw(entries[0].id, "", at(2)).await, Err(QueueError::WrongState { .. })));
    queue.withdraw(beside.id, "", at(2)).await.unwrap();
    queue.withdraw(entries[0].id, "", at(3)).await.unwrap();
    assert!(matches!(accept(go_on(&entries[0], "a")).await, Err(QueueError::NoBeginning { .. })));
    assert_sound(&queue).await;
}

/// Whatever is done to files that go on from each other, and however the index comes to be: what is there reads whole.
#[tokio::test]
async fn whatever_is_done_what_is_there_reads_whole() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let house = House::new();
    let mut queue = house.open_keeping(1);
    let mut known: Vec<(FileId, Vec<u8>)> = Vec::new();
    for step in 0..1_500 {
        let some = (!known.is_empty())
            .then(|| known[random.random_range(known.len().saturating_sub(12)..known.len())].clone());
        let now = at(step);
        match random.random_range(0..20) {
            0..=8 => {
                let earlier = match &some {
                    Some((id, bytes)) if random.random_bool(0.8) => {
                        queue.get(*id).await.ok().map(|it| (it, bytes.clone()))
                    }
                    _ => None,
                };
                let own = piece(random.random_range(0..50));
                let whole = [earlier.as_ref().map_or(&[][..], |(_, bytes)| bytes), &own].concat();
                let name = ["a", "b"][random.random_range(0..2)];
                let new = rest(earlier.as_ref().map(|(entry, _)| entry), name, &own, &whole);
                if let Ok(entry) = queue.accept(new, Content::Inline(own.into()), now).await {
                    known.push((entry.id, whole));
                }
            }
            9 | 10 => {
                if let Some((id, _)) = some {
                    let _ = queue.withdraw(id, "test", now).await;
                }
            }
            11 => {
                if let Some((id, _)) = some {
                    queue.act(&[id], Action::Cancel, None, operator(), now).await;
                }
            }
            12..=15 => {
                for claim in queue.claim(crate::house::ask(3), now).await.unwrap() {
                    let _ = queue.settle(claim.token, claim.entry.id, end(State::Done), now).await;
                }
            }
            16..=18 => drop(queue.purge(at(step - 40), random.random_range(1..30), now).await.unwrap()),
            _ => {
                drop(queue);
                if random.random_bool(0.5) {
                    fs::remove_dir_all(house.index()).unwrap();
                }
                queue = house.open_keeping(1);
            }
        }
        if step % 250 == 249 {
            assert_sound(&queue).await;
            for (id, bytes) in &known {
                match queue.get(*id).await {
                    Ok(entry) if entry.state == State::Withdrawn => {}
                    Ok(_) => assert!(all_of(&queue, *id).await.unwrap() == *bytes, "step {step}: {id}"),
                    Err(QueueError::NotFound(_)) => {}
                    Err(error) => panic!("{error}"),
                }
            }
        }
    }
}
