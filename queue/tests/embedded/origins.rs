//! What a file was copied from is known from its acceptance on until it is said to be gone, and no longer.

use forebay_queue::{Action, Actor, NewEntry, QueueStore, embedded::EmbeddedQueue};
use forebay_storage::{Content, FileId, Origin};

use crate::house::{House, assert_sound, at, file};

fn copy(name: &str, inode: u64) -> NewEntry {
    let origin = Origin {
        folder: "/srv/in".into(),
        device: 1,
        inode,
        size_bytes: 100,
        modified_ns: 1_777_075_200_000_000_001,
        changed_ns: 1_777_075_200_000_000_002,
    };
    NewEntry { door: "drop".into(), origin: Some(origin), ..file("clinic", name) }
}

async fn known(queue: &EmbeddedQueue) -> Vec<(FileId, String, u64)> {
    let origins = queue.origins().await.unwrap().into_iter();
    let mut known: Vec<_> = origins.map(|one| (one.id, one.name, one.origin.inode)).collect();
    known.sort();
    known
}

#[tokio::test]
async fn an_origin_outlives_restarts_purges_and_the_index_until_it_is_gone() {
    let house = House::new();
    let queue = house.open();
    let mut expected = Vec::new();
    for (name, inode) in [("a", 7), ("b", 8), ("c", 9)] {
        let entry = queue.accept(copy(name, inode), Content::Kept, at(0)).await.unwrap();
        expected.push((entry.id, name.to_owned(), inode));
    }
    queue.accept(file("clinic", "uploaded"), Content::Kept, at(0)).await.unwrap();
    let purged = expected[0].0;
    queue.act(&[purged], Action::Cancel, None, Actor::Server, at(1)).await.remove(0).unwrap();
    assert_eq!(queue.purge(at(9), 10, at(9)).await.unwrap().kept, [purged]);
    queue.forget_origins(&[expected.remove(1).0], at(10)).await.unwrap();
    expected.sort();
    assert_eq!(known(&queue).await, expected, "a purged file's origin may still be there");
    assert_sound(&queue).await;
    drop(queue);
    assert_eq!(known(&house.open()).await, expected);
    std::fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open();
    assert_eq!(known(&queue).await, expected, "the journal tells");
    assert_sound(&queue).await;
}
