//! What can be asked.

use std::sync::Arc;

use forebay_queue::{Actor, Cursor, Fact, Filter, QueueError, QueueStore, State};
use forebay_storage::Content;

use crate::house::{House, assert_sound, at, claim_one, file, finish, operator, put};

#[tokio::test]
async fn listings_go_on_from_their_cursor_in_order_of_acceptance() {
    let house = House::new();
    let queue = house.open();
    let mut ids = Vec::new();
    for n in 0..25 {
        ids.push(put(&queue, &format!("p{}", n % 3), &format!("{n}")).await);
    }
    let claim = claim_one(&queue, 1).await;
    finish(&queue, &claim, State::Done, 1).await;
    let (mut seen, mut after): (Vec<_>, Option<Cursor>) = (Vec::new(), None);
    loop {
        let page = queue.list(&Filter::default(), after, 4).await.unwrap();
        seen.extend(page.entries.iter().map(|entry| entry.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, ids);
    let of = |filter| {
        let queue = &queue;
        async move { queue.list(&filter, None, 99).await.unwrap().entries.len() }
    };
    assert_eq!(of(Filter { states: vec![State::Done], ..Filter::default() }).await, 1);
    assert_eq!(of(Filter { states: vec![State::Done, State::Ready], ..Filter::default() }).await, 25);
    assert_eq!(of(Filter { partner: Some("p1".into()), ..Filter::default() }).await, 8);
    assert_eq!(of(Filter { name: Some("7".into()), ..Filter::default() }).await, 1);
    assert_eq!(of(Filter { route: Some("none".into()), ..Filter::default() }).await, 0);
    assert_eq!(of(Filter { since: Some(at(1)), ..Filter::default() }).await, 0);
}

#[tokio::test]
async fn listings_from_the_newest_back_are_the_others_turned_round() {
    let house = House::new();
    let queue = house.open();
    for n in 0..25 {
        put(&queue, &format!("p{}", n % 3), &format!("{n}")).await;
    }
    for seconds in 1..5 {
        let claim = claim_one(&queue, seconds).await;
        finish(&queue, &claim, State::Done, seconds).await;
    }
    let partner = Some("p1".to_owned());
    let none = Filter { name: Some("none".into()), ..Filter::default() };
    for filter in [
        Filter::default(),
        Filter { states: vec![State::Done], ..Filter::default() },
        Filter { states: vec![State::Ready, State::Held], partner: partner.clone(), ..Filter::default() },
        Filter { partner: partner.clone(), ..Filter::default() },
        Filter { partner, name: Some("7".into()), ..Filter::default() },
        none,
    ] {
        for limit in [1, 4, 99] {
            let (mut seen, mut before): (Vec<_>, Option<Cursor>) = (Vec::new(), None);
            loop {
                let page = queue.newest(&filter, before, limit).await.unwrap();
                assert!(page.entries.len() <= limit);
                seen.extend(page.entries.iter().map(|entry| entry.id));
                before = page.next;
                if before.is_none() {
                    break;
                }
            }
            let mut wanted = queue.list(&filter, None, 99).await.unwrap().entries;
            match filter.partner.is_some() && filter.states.is_empty() {
                // By when their uploads began, which was one instant here.
                true => wanted.sort_by_key(|entry| std::cmp::Reverse(entry.id)),
                false => wanted.reverse(),
            }
            assert_eq!(seen, wanted.iter().map(|entry| entry.id).collect::<Vec<_>>(), "{filter:?} {limit}");
        }
    }
    let cursor = queue.list(&Filter::default(), None, 1).await.unwrap().next;
    assert!(matches!(queue.newest(&Filter::default(), cursor, 1).await, Err(QueueError::BadCursor(_))));
}

#[tokio::test]
async fn a_prefix_names_a_file_when_it_is_unique() {
    let house = House::new();
    let queue = house.open();
    let (a, b) = (put(&queue, "clinic", "a").await, put(&queue, "clinic", "b").await);
    let text = a.to_string();
    assert_eq!(queue.resolve(&text).await.unwrap(), a);
    assert_eq!(queue.resolve(&text.replace('-', "").to_uppercase()).await.unwrap(), a);
    let common = text.bytes().zip(b.to_string().bytes()).take_while(|(a, b)| a == b).count();
    assert_eq!(queue.resolve(&text[..=common]).await.unwrap(), a);
    assert!(matches!(queue.resolve(&text[..8]).await, Err(QueueError::Ambiguous { count: 2, .. })));
    for bad in ["", "-", "zz", "ffffffff", &format!("{text}0")] {
        assert!(matches!(queue.resolve(bad).await, Err(QueueError::NoMatch(_))), "{bad:?}");
    }
}

#[tokio::test]
async fn history_and_audit_tell_what_happened() {
    let house = House::new();
    let queue = house.open();
    let id = put(&queue, "clinic", "a").await;
    put(&queue, "clinic", "b").await;
    queue.note(operator(), "gate.close", "closed for an hour", at(1)).await.unwrap();
    let claim = claim_one(&queue, 2).await;
    let mut end = crate::house::end(State::Done);
    end.output = format!("{}é{}", "x".repeat(9_000), "y".repeat(4_095));
    queue.settle(claim.token, id, end, at(3)).await.unwrap();
    let history = queue.history(id).await.unwrap();
    assert_eq!(history.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [1, 4, 5]);
    assert_eq!(history[0].1.actor, Actor::Partner("clinic".into()));
    let Fact::Ended { output, .. } = &history[2].1.fact else { panic!("{history:?}") };
    assert_eq!(output, &"y".repeat(4_095), "the end of it, whole characters");
    let audit = queue.audit(2, 2).await.unwrap();
    assert_eq!(audit.iter().map(|(seq, _)| *seq).collect::<Vec<_>>(), [3, 4]);
    assert!(matches!(&audit[0].1.fact, Fact::Noted { topic, .. } if topic == "gate.close"));
    assert!(queue.audit(5, 10).await.unwrap().is_empty());
}

#[tokio::test]
async fn changes_are_told_once_at_their_latest_place() {
    let house = House::new();
    let queue = house.open();
    let mut waiting = queue.changed();
    let (a, b) = (put(&queue, "clinic", "a").await, put(&queue, "clinic", "b").await);
    let claim = claim_one(&queue, 1).await;
    assert!(waiting.has_changed().unwrap());
    assert_eq!(*waiting.borrow_and_update(), 3);
    let told = queue.changes(0, 10).await.unwrap();
    assert_eq!(told.iter().map(|entry| entry.id).collect::<Vec<_>>(), [b, a]);
    assert_eq!(queue.changes(0, 1).await.unwrap().len(), 1);
    let after = told.last().unwrap().changed_seq;
    assert!(queue.changes(after, 10).await.unwrap().is_empty());
    finish(&queue, &claim, State::Done, 2).await;
    assert_eq!(queue.changes(after, 10).await.unwrap()[0].state, State::Done);
}

#[tokio::test]
async fn stats_count_and_name_the_lanes() {
    let house = House::new();
    let queue = house.open();
    let a = put(&queue, "clinic", "a").await;
    put(&queue, "clinic", "b").await;
    let bytes = crate::house::picture(&queue).await.entries.iter().map(|entry| entry.size_bytes).sum::<u64>();
    assert_eq!(queue.unprocessed_bytes("clinic").await.unwrap(), bytes);
    let claim = claim_one(&queue, 1).await;
    let stats = queue.stats(at(1)).await.unwrap();
    assert_eq!(stats.lanes.len(), 1);
    let lane = &stats.lanes[0];
    assert_eq!((lane.head, lane.head_state, lane.files), (a, State::Active, 2));
    assert_eq!((stats.oldest_waiting, stats.last_seq), (Some(at(0)), 3));
    finish(&queue, &claim, State::Done, 2).await;
    assert_eq!(queue.unprocessed_bytes("clinic").await.unwrap(), bytes / 2);
    assert_eq!(queue.unprocessed_bytes("nobody").await.unwrap(), 0);
    let counts: Vec<_> =
        queue.stats(at(1)).await.unwrap().counts.iter().map(|c| (c.state, c.files, c.size_bytes)).collect();
    assert_eq!(counts, [(State::Ready, 1, bytes / 2), (State::Done, 1, bytes / 2)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sixty_four_write_at_once() {
    let house = House::new();
    let queue = Arc::new(house.open());
    let mut tasks = Vec::new();
    for partner in 0..64 {
        let queue = queue.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..20 {
                let entry =
                    queue.accept(file(&format!("p{partner}"), &format!("{n}")), Content::Kept, at(0)).await.unwrap();
                assert_eq!(queue.get(entry.id).await.unwrap(), entry, "what was acknowledged is seen");
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut turns: Vec<_> =
        queue.list(&Filter::default(), None, 9_999).await.unwrap().entries.iter().map(|entry| entry.turn).collect();
    assert_eq!(turns.len(), 64 * 20);
    turns.dedup();
    assert_eq!(turns, (1..=64 * 20).collect::<Vec<u64>>());
    assert_sound(&queue).await;
}

#[tokio::test]
async fn the_same_id_twice_is_refused() {
    let house = House::new();
    let queue = house.open();
    let new = file("clinic", "a");
    queue.accept(new.clone(), Content::Kept, at(0)).await.unwrap();
    assert!(matches!(queue.accept(new, Content::Kept, at(0)).await, Err(QueueError::Exists(_))));
    assert_eq!(queue.stats(at(0)).await.unwrap().last_seq, 1, "nothing was written of it");
}
