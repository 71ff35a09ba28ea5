//! A key stands for the file that was accepted under it, and no other is accepted until it is forgotten.

use std::sync::Arc;

use forebay_queue::{
    Action, Actor, Catalogue, IdempotencyKey, NewEntry, QueueError, QueueStore, State, embedded::EmbeddedQueue,
};
use forebay_storage::{Content, FileId};

use crate::house::{House, assert_sound, at, file, small_file};

const DAY: i64 = 86_400;

fn key(text: &str) -> IdempotencyKey {
    text.parse().unwrap()
}

fn keyed(partner: &str, name: &str, text: &str) -> NewEntry {
    NewEntry { idempotency_key: Some(key(text)), ..file(partner, name) }
}

async fn known(queue: &EmbeddedQueue, partner: &str, text: &str) -> Option<FileId> {
    queue.keyed(partner, &key(text)).await.unwrap().map(|file| file.id)
}

#[tokio::test]
async fn a_key_outlives_restarts_purges_and_the_index() {
    let house = House::new();
    let queue = house.open();
    let (new, content) = small_file("clinic", "a.hl7");
    let new = NewEntry { idempotency_key: Some(key("k")), reason: Some("why".into()), ..new };
    let entry = queue.accept(new.clone(), content, at(5)).await.unwrap();
    let other = queue.accept(keyed("other", "b.hl7", "k"), Content::Kept, at(6)).await.unwrap();
    let look = async |queue: &EmbeddedQueue| {
        let file = queue.keyed("clinic", &key("k")).await.unwrap().unwrap();
        assert_eq!(
            (file.id, file.name.as_str(), file.size_bytes, file.sha256),
            (entry.id, "a.hl7", new.size_bytes, new.sha256)
        );
        assert_eq!((file.received_at, file.accepted_at, file.state), (at(0), at(5), State::Ready));
        assert_eq!((file.route.as_deref(), file.reason.as_deref()), (Some("rest"), Some("why")));
        assert_eq!(known(queue, "other", "k").await, Some(other.id));
        assert_eq!((known(queue, "clinic", "K").await, known(queue, "clini", "ck").await), (None, None));
    };
    look(&queue).await;
    queue.act(&[entry.id], Action::Cancel, None, Actor::Server, at(7)).await.remove(0).unwrap();
    assert_eq!(queue.purge(at(9), 10, at(9)).await.unwrap().files, 1);
    look(&queue).await;
    assert_sound(&queue).await;
    drop(queue);
    look(&house.open()).await;
    std::fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open();
    look(&queue).await;
    assert_sound(&queue).await;
}

#[tokio::test]
async fn of_many_at_once_one_is_accepted() {
    let house = House::new();
    let queue = Arc::new(house.open());
    let mut tasks = tokio::task::JoinSet::new();
    for n in 0..32 {
        let (queue, new) = (Arc::clone(&queue), keyed("clinic", &format!("{n}.hl7"), "k"));
        tasks.spawn(async move { queue.accept(new, Content::Kept, at(0)).await });
    }
    let (mut taken, mut used_by) = (Vec::new(), Vec::new());
    for outcome in tasks.join_all().await {
        match outcome {
            Ok(entry) => taken.push(entry.id),
            Err(QueueError::KeyUsed { by }) => used_by.push(by),
            Err(other) => panic!("{other:?}"),
        }
    }
    let [taken] = taken[..] else { panic!("{taken:?} were taken") };
    assert!(used_by.len() == 31 && used_by.iter().all(|by| *by == taken));
    let taken = Some(taken);
    assert_eq!(known(&queue, "clinic", "k").await, taken);
    assert_eq!(queue.ids().await.unwrap().len(), 1);
    let late = queue.accept(keyed("clinic", "late.hl7", "k"), Content::Kept, at(2 * DAY)).await;
    assert!(matches!(late, Err(QueueError::KeyUsed { .. })), "as long as it is known");
    assert_sound(&queue).await;
}

#[tokio::test]
async fn old_keys_are_forgotten_and_may_be_used_again() {
    let house = House::new();
    let queue = house.open();
    for n in 0..600 {
        let new = keyed("clinic", &format!("{n}.hl7"), &format!("key {n}"));
        queue.accept(new, Content::Kept, at(n)).await.unwrap();
    }
    let key_of = async |n: i64| known(&queue, "clinic", &format!("key {n}")).await;
    assert_eq!(queue.forget_keys(at(0)).await.unwrap(), 0);
    assert_eq!(queue.forget_keys(at(500)).await.unwrap(), 500);
    assert!(key_of(499).await.is_none() && key_of(500).await.is_some());
    // One that is used again is kept from then on.
    let again = queue.accept(keyed("clinic", "again.hl7", "key 7"), Content::Kept, at(DAY)).await.unwrap();
    assert_eq!(queue.forget_keys(at(DAY)).await.unwrap(), 100);
    assert_eq!(key_of(7).await, Some(again.id));
    assert_sound(&queue).await;
    // Where the index is made anew old keys come back until they are forgotten again.
    drop(queue);
    std::fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open();
    assert_eq!(queue.forget_keys(at(DAY)).await.unwrap(), 599);
    assert_eq!(known(&queue, "clinic", "key 7").await, Some(again.id));
    drop(queue);
    let queue = house.open();
    assert_eq!(known(&queue, "clinic", "key 8").await, None);
    assert_eq!(known(&queue, "clinic", "key 7").await, Some(again.id));
    assert_sound(&queue).await;
}

#[tokio::test]
async fn the_keys_of_a_partner_that_is_no_more_are_nobody_s() {
    let house = House::new();
    let queue = house.open();
    for partner in ["clinic", "clinic2"] {
        for text in ["a", "b"] {
            queue.accept(keyed(partner, text, text), Content::Kept, at(0)).await.unwrap();
        }
    }
    queue.forget_partner("clinic", at(1)).await.unwrap();
    assert_eq!((known(&queue, "clinic", "a").await, known(&queue, "clinic", "b").await), (None, None));
    assert!(known(&queue, "clinic2", "a").await.is_some());
    queue.accept(keyed("clinic", "new", "a"), Content::Kept, at(2)).await.unwrap();
    assert_eq!(queue.forget_keys(at(9)).await.unwrap(), 3);
    assert_sound(&queue).await;
}
