//! The names that partners see.

use forebay_queue::{
    Actor, Catalogue, ClaimRequest, EmbeddedMaintenance, Hold, NameChange, NameFault, NewEntry, NewName, Node,
    QueueError, QueueStore, State, embedded::EmbeddedQueue,
};
use forebay_storage::{Content, FileId};
use rand::{RngExt, SeedableRng, rngs::StdRng};

use crate::house::{House, ask, assert_sound, at, claim_one, end, file, finish, picture, put};

async fn change(queue: &EmbeddedQueue, change: NameChange, seconds: i64) -> Result<(), NameFault> {
    match queue.change("clinic", change, Actor::Partner("clinic".into()), at(seconds)).await {
        Ok(()) => Ok(()),
        Err(QueueError::Name(fault)) => Err(fault),
        Err(error) => panic!("{error}"),
    }
}

async fn make(queue: &EmbeddedQueue, path: &str) -> Result<(), NameFault> {
    change(queue, NameChange::MakeFolder { path: path.into() }, 1).await
}

async fn hide(queue: &EmbeddedQueue, path: &str) -> Result<(), NameFault> {
    change(queue, NameChange::Hide { path: path.into() }, 1).await
}

async fn shift(queue: &EmbeddedQueue, from: &str, to: &str) -> Result<(), NameFault> {
    change(queue, NameChange::Move { from: from.into(), to: to.into(), files: Vec::new() }, 1).await
}

/// Every name of a partner, with the file it leads to.
async fn tree(queue: &EmbeddedQueue, partner: &str) -> Vec<(String, Option<FileId>)> {
    let (mut folders, mut found) = (vec![String::new()], Vec::new());
    while let Some(folder) = folders.pop() {
        let mut after: Option<String> = None;
        loop {
            let page = Catalogue::list(queue, partner, &folder, after.as_deref(), 2).await.unwrap();
            let Some(last) = page.last() else { break };
            after = Some(last.name.clone());
            for named in page {
                let path = if folder.is_empty() { named.name } else { format!("{folder}/{}", named.name) };
                match named.node {
                    Node::Folder { .. } => {
                        folders.push(path.clone());
                        found.push((path, None));
                    }
                    Node::File { id, .. } => found.push((path, Some(id))),
                }
            }
        }
    }
    found.sort();
    found
}

#[tokio::test]
async fn names_follow_what_is_asked_and_survive_the_index() {
    let house = House::new();
    let queue = house.open();
    let first = put(&queue, "clinic", "a.hl7").await;
    make(&queue, "in").await.unwrap();
    make(&queue, "in/deep").await.unwrap();
    assert_eq!(make(&queue, "in").await, Err(NameFault::Exists));
    assert_eq!(make(&queue, "a.hl7").await, Err(NameFault::Exists));
    assert_eq!(make(&queue, "none/x").await, Err(NameFault::NotFound));
    assert_eq!(make(&queue, "a.hl7/x").await, Err(NameFault::NotFolder));
    let deep = put(&queue, "clinic", "in/deep/b").await;
    let again = put(&queue, "clinic", "a.hl7").await;
    assert_eq!(shift(&queue, "in", "in/deep/x").await, Err(NameFault::IntoItself));
    assert_eq!(shift(&queue, "in", "a.hl7").await, Err(NameFault::Exists));
    assert_eq!(shift(&queue, "a.hl7", "in").await, Err(NameFault::IsFolder));
    assert_eq!(shift(&queue, "x", "y").await, Err(NameFault::NotFound));
    shift(&queue, "in", "out-of").await.unwrap();
    shift(&queue, "a.hl7", "out-of/a").await.unwrap();
    assert_eq!(hide(&queue, "out-of").await, Err(NameFault::IsFolder));
    assert_eq!(hide(&queue, "in").await, Err(NameFault::NotFound));
    let remove = |path: &str| NameChange::RemoveFolder { path: path.into() };
    assert_eq!(change(&queue, remove("out-of"), 1).await, Err(NameFault::NotEmpty));
    change(&queue, NameChange::SetTime { path: "out-of/a".into(), at: at(-5) }, 2).await.unwrap();
    let wanted = vec![
        ("out-of".to_owned(), None),
        ("out-of/a".to_owned(), Some(again)),
        ("out-of/deep".to_owned(), None),
        ("out-of/deep/b".to_owned(), Some(deep)),
    ];
    assert_eq!(tree(&queue, "clinic").await, wanted);
    assert_eq!(queue.path_of(deep).await.unwrap().as_deref(), Some("out-of/deep/b"));
    assert_eq!(queue.path_of(first).await.unwrap(), None, "a newer file has its name");
    assert_eq!(queue.names("clinic").await.unwrap(), 4);
    assert_eq!(queue.get(deep).await.unwrap().name, "in/deep/b", "only the listing has changed");
    drop(queue);
    std::fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open();
    assert_eq!(tree(&queue, "clinic").await, wanted);
    assert_eq!(queue.names("clinic").await.unwrap(), 4);
    assert!(
        matches!(queue.stat("clinic", "out-of/a").await.unwrap(), Some(Node::File { at: shows, .. }) if shows == at(-5))
    );
    assert_sound(&queue).await;
    queue.forget_partner("clinic", at(9)).await.unwrap();
    assert_eq!((tree(&queue, "clinic").await, queue.names("clinic").await.unwrap()), (vec![], 0));
    assert_sound(&queue).await;
}

#[tokio::test]
async fn a_rename_before_a_processor_has_begun_changes_what_is_processed() {
    let house = House::new();
    let queue = house.open();
    let mut new = file("clinic", "lab.hl7.writing");
    (new.route, new.state, new.hold) = (None, State::Held, Some(Hold::NoRoute));
    let id = queue.accept(new, Content::Kept, at(0)).await.unwrap().id;
    let other = put(&queue, "clinic", "b").await;
    let to = |name: &str| NewName {
        name: name.into(),
        route: Some("rest".into()),
        state: State::Ready,
        reason: None,
        hold: None,
    };
    let actor = || Actor::Partner("clinic".into());
    queue.rename(id, to("lab.hl7"), actor(), at(1)).await.unwrap();
    assert_eq!(queue.path_of(id).await.unwrap().as_deref(), Some("lab.hl7"));
    let claim = claim_one(&queue, 2).await;
    assert_eq!((claim.entry.id, claim.entry.name.as_str()), (id, "lab.hl7"), "at its old turn");
    assert!(matches!(queue.rename(id, to("c"), actor(), at(3)).await, Err(QueueError::WrongState { .. })));
    queue.settle(claim.token, id, end(State::Ready), at(3)).await.unwrap();
    assert!(queue.rename(id, to("c"), actor(), at(4)).await.is_err(), "it has begun once");
    let files = vec![(id, to("in/lab.hl7")), (other, to("in/b"))];
    make(&queue, "in").await.unwrap();
    let all = NameChange::Move { from: "b".into(), to: "in/b".into(), files };
    change(&queue, all, 5).await.unwrap();
    assert_eq!(queue.get(other).await.unwrap().name, "in/b");
    assert_eq!(queue.get(id).await.unwrap().name, "lab.hl7", "left as it is");
    assert_sound(&queue).await;
}

#[tokio::test]
async fn a_withdrawn_file_gives_its_name_and_its_turn_back() {
    let house = House::new();
    let queue = house.open();
    let before = put(&queue, "clinic", "a").await;
    let after = put(&queue, "clinic", "a").await;
    queue.withdraw(after, "reset before the reply was read", at(1)).await.unwrap();
    assert_eq!(queue.path_of(before).await.unwrap().as_deref(), Some("a"));
    let mut whole = file("clinic", "a");
    whole.supersedes = Some(before);
    let whole = queue.accept(whole, Content::Kept, at(2)).await.unwrap();
    assert_eq!(whole.supersedes, Some(before));
    assert_eq!(queue.get(before).await.unwrap().state, State::Superseded);
    queue.withdraw(whole.id, "reset", at(3)).await.unwrap();
    drop(queue);
    std::fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open();
    let entry = queue.get(before).await.unwrap();
    assert_eq!((entry.state, entry.turn), (State::Ready, 1), "it is what it was");
    assert_eq!(queue.path_of(before).await.unwrap().as_deref(), Some("a"));
    assert_eq!(claim_one(&queue, 4).await.entry.id, before);
    let mut late = file("clinic", "a");
    late.supersedes = Some(before);
    assert_eq!(queue.accept(late, Content::Kept, at(5)).await.unwrap().supersedes, None, "a processor has begun it");
    assert!(matches!(queue.withdraw(before, "late", at(6)).await, Err(QueueError::WrongState { .. })));
    assert_sound(&queue).await;
}

#[tokio::test]
async fn receipts_are_hidden_until_something_changes() {
    let house = House::new();
    let queue = house.open();
    let id = put(&queue, "clinic", "a").await;
    put(&queue, "other", "b").await;
    queue.hide_receipt(id, Actor::Partner("clinic".into()), at(1)).await.unwrap();
    assert!(queue.get(id).await.unwrap().receipt_hidden);
    let claim = claim_one(&queue, 2).await;
    assert!(!claim.entry.receipt_hidden);
    let own = queue.of_partner("clinic", None, 10).await.unwrap();
    assert_eq!(own.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id]);
    assert!(queue.of_partner("clinic", Some(id), 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn old_segments_go_and_names_stay() {
    let house = House::new();
    let queue = house.open_keeping(1);
    make(&queue, "empty").await.unwrap();
    let kept = put(&queue, "clinic", "in/a").await;
    shift(&queue, "in/a", "in/b").await.unwrap();
    change(&queue, NameChange::SetTime { path: "in/b".into(), at: at(-7) }, 2).await.unwrap();
    let hidden = put(&queue, "clinic", "gone").await;
    hide(&queue, "gone").await.unwrap();
    let before = tree(&queue, "clinic").await;
    // Enough to fill segments, two days later.
    let days = |days: i64| at(days * 86_400);
    for _ in 0..1_200 {
        queue.note(Actor::Server, "test", &"x".repeat(400), days(2)).await.unwrap();
    }
    queue.purge(days(-9), 1, days(4)).await.unwrap();
    drop(queue);
    std::fs::remove_dir_all(house.index()).unwrap();
    let queue = house.open_keeping(1);
    assert!(queue.history(kept).await.unwrap().len() < 3, "its acceptance is no longer in the journal");
    assert_eq!(tree(&queue, "clinic").await, before);
    assert_eq!(queue.path_of(hidden).await.unwrap(), None);
    let Some(Node::File { at: shows, .. }) = queue.stat("clinic", "in/b").await.unwrap() else { panic!("no file") };
    assert_eq!(shows, at(-7));
    assert_sound(&queue).await;
}

#[tokio::test]
async fn whatever_happened_an_index_made_anew_says_the_same() {
    let seed = rand::random::<u64>();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let house = House::new();
    let mut queue = house.open();
    let mut files: Vec<FileId> = Vec::new();
    let path = |random: &mut StdRng| {
        let depth = random.random_range(1..=3);
        (0..depth).map(|_| ["a", "b", "c"][random.random_range(0..3)]).collect::<Vec<_>>().join("/")
    };
    for step in 0..2_000i64 {
        let (one, two) = (path(&mut random), path(&mut random));
        let some = files.get(random.random_range(0..files.len().max(1))).copied();
        // What is refused is as good as what is not: the journal has what happened.
        match random.random_range(0..12) {
            0..=2 => {
                let mut new = file("clinic", &one);
                new.supersedes = some.filter(|_| random.random_bool(0.3));
                new.state = if random.random_bool(0.2) { State::Unfinished } else { State::Ready };
                files.push(queue.accept(new, Content::Kept, at(step)).await.unwrap().id);
            }
            3 => drop(make(&queue, &one).await),
            4 => drop(change(&queue, NameChange::RemoveFolder { path: one }, step).await),
            5 => drop(hide(&queue, &one).await),
            6 | 7 => drop(shift(&queue, &one, &two).await),
            8 => drop(change(&queue, NameChange::SetTime { path: one, at: at(-step) }, step).await),
            9 => {
                if let Some(id) = some {
                    let _ = queue.withdraw(id, "test", at(step)).await;
                }
            }
            10 => {
                if let Some(id) = some {
                    let (state, route) = (State::Ready, Some("rest".to_owned()));
                    let to = NewName { name: one, route, state, reason: None, hold: None };
                    let _ = queue.rename(id, to, Actor::Server, at(step)).await;
                }
            }
            _ => {
                for claim in queue.claim(crate::house::ask(1), at(step)).await.unwrap() {
                    let _ = queue.settle(claim.token, claim.entry.id, end(State::Done), at(step)).await;
                }
            }
        }
        if step % 400 == 399 {
            let names = tree(&queue, "clinic").await;
            assert_eq!(queue.names("clinic").await.unwrap(), names.len() as u64, "seed {seed}");
            let mut entries = picture(&queue).await.entries;
            assert_sound(&queue).await;
            if random.random_bool(0.5) {
                queue.rebuild(&|_, _| {}).await.unwrap();
            } else {
                drop(queue);
                std::fs::remove_dir_all(house.index()).unwrap();
                queue = house.open();
            }
            assert_eq!(tree(&queue, "clinic").await, names, "seed {seed}");
            let mut again = picture(&queue).await.entries;
            entries.sort_by_key(|entry| entry.id);
            again.sort_by_key(|entry| entry.id);
            assert_eq!(again, entries, "seed {seed}");
        }
    }
}

/// What a removed partner has left is its own: nobody who has the name next is charged for it or has it for an earlier copy.
#[tokio::test]
async fn the_next_partner_of_a_name_is_counted_by_itself() {
    let house = House::new();
    let queue = house.open();
    let of = |stats: &forebay_queue::Stats, is_former: bool| -> Vec<(State, u64, u64)> {
        let counts = stats.counts.iter().filter(|count| count.is_former == is_former);
        counts.map(|count| (count.state, count.files, count.size_bytes)).collect()
    };
    let [one, two] = ["one", "two"].map(|name| file("clinic", name));
    let size = one.size_bytes;
    queue.accept(one.clone(), Content::Kept, at(0)).await.unwrap();
    queue.accept(two.clone(), Content::Kept, at(0)).await.unwrap();
    let claim = claim_one(&queue, 1).await;
    finish(&queue, &claim, State::Done, 2).await;
    assert_eq!(
        (queue.unprocessed_bytes("clinic").await.unwrap(), queue.kept_files("clinic", 0).await.unwrap()),
        (size, 2)
    );
    queue.forget_partner("clinic", at(3)).await.unwrap();
    let mut queue = Some(queue);
    for how in ["at once", "opened again", "with an index made anew"] {
        if how != "at once" {
            drop(queue.take());
            if how.contains("anew") {
                std::fs::remove_dir_all(house.index()).unwrap();
            }
            queue = Some(house.open());
        }
        let queue = queue.as_ref().unwrap();
        assert_eq!(queue.unprocessed_bytes("clinic").await.unwrap(), 0, "{how}");
        assert_eq!(queue.kept_files("clinic", 0).await.unwrap(), 0, "{how}");
        let stats = queue.stats(at(4)).await.unwrap();
        assert_eq!(of(&stats, false), [], "{how}");
        assert_eq!(of(&stats, true), [(State::Ready, 1, size), (State::Done, 1, size)], "{how}");
        // For the disk it makes no difference whose they are.
        assert_eq!(queue.over_bytes().await.unwrap(), [("clinic".to_owned(), size)], "{how}");
    }
    let queue = queue.unwrap();
    // The same name and the same bytes as those that the former one has sent, and that are done.
    let next = file("clinic", "new").id;
    let same = NewEntry { id: next, received_at: at(10), ..one };
    queue.accept(same, Content::Kept, at(10)).await.unwrap();
    assert_eq!(
        (queue.unprocessed_bytes("clinic").await.unwrap(), queue.kept_files("clinic", 0).await.unwrap()),
        (size, 1)
    );
    let day = ClaimRequest { duplicate_window_ms: 86_400_000, ..ask(1) };
    // The former one's, which was first, and then the new one's: it is no duplicate.
    for wanted in [two.id, next] {
        let claims = queue.claim(day.clone(), at(11)).await.unwrap();
        assert_eq!(claims.iter().map(|claim| claim.entry.id).collect::<Vec<_>>(), [wanted]);
        finish(&queue, &claims[0], State::Done, 12).await;
    }
    let stats = queue.stats(at(13)).await.unwrap();
    assert_eq!((of(&stats, false), of(&stats, true)), (vec![(State::Done, 1, size)], vec![(State::Done, 2, 2 * size)]));
    // When what is left is gone, all is the new one's.
    queue.purge_these(&[next], at(14)).await.unwrap();
    assert_eq!(of(&queue.stats(at(15)).await.unwrap(), false), []);
    assert_sound(&queue).await;
}
