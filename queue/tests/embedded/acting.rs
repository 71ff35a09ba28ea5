//! What operators, partners and retention do.

use forebay_queue::{Action, EmbeddedMaintenance, Filter, NewName, QueueError, QueueStore, State};
use forebay_storage::{Content, FileId};

use crate::house::{House, assert_sound, at, claim_one, file, finish, operator, put};

#[tokio::test]
async fn each_id_gets_its_own_answer_in_order() {
    let house = House::new();
    let queue = house.open();
    let (a, b) = (put(&queue, "clinic", "a").await, put(&queue, "clinic", "b").await);
    let unknown = FileId::new(at(0));
    let answers = queue
        .act(
            &[a, unknown, b, a],
            Action::Hold(forebay_queue::Hold::Operator),
            Some("look at it".into()),
            operator(),
            at(1),
        )
        .await;
    assert_eq!(answers[0].as_ref().unwrap().reason.as_deref(), Some("look at it"));
    assert!(matches!(answers[1], Err(QueueError::NotFound(id)) if id == unknown));
    assert_eq!(answers[2].as_ref().unwrap().state, State::Held);
    let Err(error) = &answers[3] else { panic!("held twice") };
    assert_eq!(error.to_string(), format!("file {a} is held: cannot hold"));
    let routes = vec![Some("rest".into()), None];
    let answers = queue.act(&[b, a], Action::Release(routes), None, operator(), at(2)).await;
    assert_eq!(answers[0].as_ref().unwrap().state, State::Ready);
    assert_eq!(answers[1].as_ref().unwrap().state, State::Held, "no route for this one");
    assert_eq!(claim_one(&queue, 3).await.entry.id, b);
}

#[tokio::test]
async fn a_released_file_comes_at_its_old_turn() {
    let house = House::new();
    let queue = house.open();
    let (a, b) = (put(&queue, "clinic", "a").await, put(&queue, "clinic", "b").await);
    queue.act(&[a], Action::Hold(forebay_queue::Hold::Operator), None, operator(), at(1)).await;
    queue.act(&[a], Action::Release(vec![Some("rest".into())]), None, operator(), at(1)).await;
    let claim = claim_one(&queue, 2).await;
    assert_eq!(claim.entry.id, a);
    finish(&queue, &claim, State::Done, 3).await;
    assert_eq!(claim_one(&queue, 4).await.entry.id, b);
}

#[tokio::test]
async fn many_ids_keep_their_routes_over_groups() {
    let house = House::new();
    let queue = house.open();
    let mut ids = Vec::new();
    for n in 0..600 {
        ids.push(put(&queue, "clinic", &format!("{n}")).await);
    }
    queue.act(&ids, Action::Hold(forebay_queue::Hold::Operator), None, operator(), at(1)).await;
    let routes: Vec<_> = (0..600).map(|n| Some(format!("r{}", n % 7))).collect();
    let answers = queue.act(&ids, Action::Release(routes.clone()), None, operator(), at(2)).await;
    for (answer, route) in answers.into_iter().zip(routes) {
        assert_eq!(answer.unwrap().route, route);
    }
    assert_sound(&queue).await;
}

#[tokio::test]
async fn a_rename_to_a_final_name_is_the_acceptance() {
    let house = House::new();
    let queue = house.open();
    let mut new = file("clinic", "a.tmp");
    new.state = State::Unfinished;
    new.route = None;
    let id = queue.accept(new, Content::Kept, at(0)).await.unwrap().id;
    let other = put(&queue, "clinic", "b").await;
    let to = |name: &str, state, route: Option<&str>| NewName {
        name: name.into(),
        route: route.map(str::to_owned),
        state,
        reason: None,
        hold: None,
    };
    let actor = || forebay_queue::Actor::Partner("clinic".into());
    let entry = queue.rename(id, to("b.part", State::Unfinished, None), actor(), at(1)).await.unwrap();
    assert_eq!(entry.state, State::Unfinished);
    let entry = queue.rename(id, to("a.hl7", State::Ready, Some("rest")), actor(), at(2)).await.unwrap();
    assert_eq!((entry.state, entry.name.as_str()), (State::Ready, "a.hl7"));
    let again = queue.rename(id, to("c", State::Ready, Some("rest")), actor(), at(3)).await.unwrap();
    assert_eq!((again.name.as_str(), again.turn), ("c", entry.turn), "it keeps its turn now");
    assert_eq!(claim_one(&queue, 4).await.entry.id, other, "its turn began with the first rename");
}

#[tokio::test]
async fn purge_takes_what_ended_and_nothing_else() {
    let house = House::new();
    let queue = house.open();
    for name in ["old", "new", "dead"] {
        put(&queue, "clinic", name).await;
    }
    let mut ids = Vec::new();
    for (state, ended) in [(State::Done, 10), (State::Done, 20), (State::Dead, 5)] {
        let claim = claim_one(&queue, 1).await;
        finish(&queue, &claim, state, ended).await;
        ids.push(claim.entry.id);
    }
    assert_eq!(queue.purge(at(10), 99, at(100)).await.unwrap().files, 0, "before, not at");
    assert_eq!(queue.purge(at(20), 99, at(100)).await.unwrap().files, 1);
    assert!(matches!(queue.get(ids[0]).await, Err(QueueError::NotFound(_))));
    assert!(matches!(queue.get(ids[0]).await, Err(QueueError::NotFound(_))));
    assert!(queue.knows(ids[0]).await.unwrap(), "as purged");
    assert!(queue.knows(ids[1]).await.unwrap());
    assert!(!queue.knows(FileId::new(at(0))).await.unwrap());
    let rebuilt = queue.rebuild(&|_, _| {}).await.unwrap();
    assert_eq!((rebuilt.entries, rebuilt.faults.len()), (2, 0));
    assert!(queue.knows(ids[0]).await.unwrap());
    assert_sound(&queue).await;
    let page = queue.list(&Filter::default(), None, 99).await.unwrap();
    assert_eq!(page.entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), ids[1..]);
}

#[tokio::test]
async fn a_purged_done_file_makes_no_duplicate() {
    let house = House::new();
    let queue = house.open();
    let window = forebay_queue::ClaimRequest { duplicate_window_ms: u64::MAX, ..crate::house::ask(1) };
    put(&queue, "clinic", "a").await;
    let claim = claim_one(&queue, 1).await;
    finish(&queue, &claim, State::Done, 2).await;
    assert_eq!(queue.purge(at(3), 1, at(3)).await.unwrap().files, 1);
    let id = put(&queue, "clinic", "a").await;
    assert_eq!(queue.claim(window, at(4)).await.unwrap()[0].entry.id, id);
}

#[tokio::test]
async fn old_segments_go_and_what_is_live_is_carried_forward() {
    let house = House::new();
    let queue = house.open();
    let kept = put(&queue, "clinic", "kept").await;
    queue.act(&[kept], Action::Hold(forebay_queue::Hold::Operator), Some("for ever".into()), operator(), at(0)).await;
    let text = "x".repeat(4_000);
    for _ in 0..200 {
        queue.note(operator(), "test", &text, at(1)).await.unwrap();
    }
    let day = 86_400;
    queue.note(operator(), "test", "later", at(500 * day)).await.unwrap();
    let before = queue.get(kept).await.unwrap();
    queue.purge(at(0), 1, at(500 * day)).await.unwrap();
    let (first, _) = queue.audit(0, 1).await.unwrap()[0];
    assert!(first > 60, "segments went: the journal begins at {first}");
    let check = |entry: forebay_queue::Entry| {
        let mut entry = entry;
        entry.changed_seq = before.changed_seq;
        assert_eq!(entry, before);
    };
    check(queue.get(kept).await.unwrap());
    drop(queue);
    std::fs::remove_dir_all(house.index()).unwrap();
    let (queue, recovered) = house.try_open().unwrap();
    assert_eq!(recovered.faults, Vec::<String>::new());
    check(queue.get(kept).await.unwrap());
    assert_sound(&queue).await;
}
