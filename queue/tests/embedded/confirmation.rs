//! Files that wait for the sign that their sender has read the reply.

use forebay_queue::{Order, QueueStore};
use forebay_storage::Content;

use crate::house::{House, ask, ask_of, at, file};

#[tokio::test]
async fn a_file_is_claimable_when_it_is_confirmed_or_its_time_has_come() {
    let house = House::new();
    let queue = house.open();
    let mut new = file("clinic", "a");
    new.claimable_from = Some(at(2));
    let first = queue.accept(new, Content::Kept, at(0)).await.unwrap().id;
    let second = queue.accept(file("clinic", "b"), Content::Kept, at(0)).await.unwrap().id;
    assert!(queue.claim(ask(2), at(1)).await.unwrap().is_empty(), "in order: it holds up those behind it");
    assert_eq!(queue.next_due(at(1)).await.unwrap(), Some(at(2)));
    queue.put_off(first, at(5));
    assert!(queue.claim(ask(2), at(3)).await.unwrap().is_empty());
    let loose = queue.claim(ask_of(&["rest"], 1, Order::None), at(3)).await.unwrap();
    assert_eq!(loose[0].entry.id, second, "without order others pass");
    let mut changed = queue.changed();
    changed.mark_unchanged();
    queue.confirm(first);
    assert!(changed.has_changed().unwrap(), "whoever waits looks again");
    let claims = queue.claim(ask_of(&["rest"], 1, Order::None), at(3)).await.unwrap();
    assert_eq!(claims[0].entry.id, first);
    assert!(claims[0].entry.begun);
}

#[tokio::test]
async fn after_a_restart_the_time_counts() {
    let house = House::new();
    let queue = house.open();
    let mut new = file("clinic", "a");
    new.claimable_from = Some(at(2));
    let id = queue.accept(new, Content::Kept, at(0)).await.unwrap().id;
    queue.put_off(id, at(50));
    drop(queue);
    let queue = house.open();
    assert!(queue.claim(ask(1), at(1)).await.unwrap().is_empty());
    assert_eq!(queue.claim(ask(1), at(3)).await.unwrap()[0].entry.id, id);
}

#[tokio::test]
async fn what_is_withdrawn_is_never_given() {
    let house = House::new();
    let queue = house.open();
    let mut new = file("clinic", "a");
    new.claimable_from = Some(at(2));
    let id = queue.accept(new, Content::Kept, at(0)).await.unwrap().id;
    queue.withdraw(id, "reset", at(1)).await.unwrap();
    queue.confirm(id);
    assert!(queue.claim(ask(1), at(9)).await.unwrap().is_empty());
    drop(queue);
    assert!(house.open().claim(ask(1), at(9)).await.unwrap().is_empty());
}
