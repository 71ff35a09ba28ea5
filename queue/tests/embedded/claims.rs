//! Whose turn it is, and who holds what.

use std::{collections::HashMap, sync::Arc};

use forebay_queue::{
    Action, ClaimRequest, EmbeddedMaintenance, Fact, NodeId, Order, QueueError, QueueStore, Settlement, State,
    embedded::{EmbeddedQueue, Options},
};
use forebay_storage::{Content, FileId, disk::OsDisk};

use crate::house::{House, ask, ask_of, at, claim_one, end, file, finish, later, operator, put};

fn retry_at(seconds: i64) -> Settlement {
    Settlement { due_at: Some(at(seconds)), ..end(State::Retrying) }
}

#[tokio::test]
async fn a_lane_is_first_in_first_out_one_at_a_time() {
    let house = House::new();
    let queue = house.open();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(put(&queue, "clinic", &format!("{n}")).await);
    }
    for id in ids {
        let claims = queue.claim(ask(10), at(1)).await.unwrap();
        assert_eq!(claims.iter().map(|claim| claim.entry.id).collect::<Vec<_>>(), [id]);
        assert_eq!(claims[0].entry.state, State::Active);
        assert!(queue.claim(ask(10), at(1)).await.unwrap().is_empty(), "strict: one at a time");
        finish(&queue, &claims[0], State::Done, 2).await;
    }
    assert!(queue.claim(ask(10), at(1)).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_clock_that_was_set_back_strands_no_file_that_waits() {
    for order in [Order::Strict, Order::None] {
        let house = House::new();
        let queue = house.open();
        let id = put(&queue, "clinic", "a").await;
        // The clock was a year ahead when the attempt failed.
        const YEAR: i64 = 365 * 86_400;
        let claim = claim_one(&queue, YEAR).await;
        queue.settle(claim.token, id, retry_at(YEAR + 60), at(YEAR + 1)).await.unwrap();
        assert!(queue.claim(ask_of(&["rest"], 9, order), at(YEAR + 59)).await.unwrap().is_empty(), "{order:?}");
        let claims = queue.claim(ask_of(&["rest"], 9, order), at(10)).await.unwrap();
        assert_eq!(claims.iter().map(|claim| claim.entry.id).collect::<Vec<_>>(), [id], "{order:?}");
    }
}

#[tokio::test]
async fn only_routes_that_were_asked_for_are_given() {
    let house = House::new();
    let queue = house.open();
    let mut other = file("clinic", "x");
    other.route = Some("other".into());
    queue.accept(other, Content::Kept, at(0)).await.unwrap();
    let wanted = put(&queue, "clinic", "y").await;
    let claims = queue.claim(ask(10), at(1)).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.entry.id).collect::<Vec<_>>(), [wanted]);
    assert!(
        queue.claim(ClaimRequest { limit: 9, lease_ms: 1, ..ClaimRequest::default() }, at(1)).await.unwrap().is_empty()
    );
}

#[tokio::test]
async fn a_retrying_head_blocks_a_strict_lane_until_it_is_due() {
    let house = House::new();
    let queue = house.open();
    let head = put(&queue, "clinic", "a").await;
    let behind = put(&queue, "clinic", "b").await;
    let claim = claim_one(&queue, 1).await;
    queue.settle(claim.token, head, retry_at(100), at(2)).await.unwrap();
    assert!(queue.claim(ask(10), at(99)).await.unwrap().is_empty());
    assert_eq!(queue.next_due(at(2)).await.unwrap(), Some(at(100)));
    assert_eq!(queue.next_due(at(100)).await.unwrap(), None);
    let claim = claim_one(&queue, 100).await;
    assert_eq!((claim.entry.id, claim.attempt), (head, 2));
    // Dead, quarantined and held files hold no one up.
    for state in [State::Dead, State::Quarantined, State::Held] {
        let house = House::new();
        let queue = house.open();
        put(&queue, "clinic", "a").await;
        let next = put(&queue, "clinic", "b").await;
        let claim = claim_one(&queue, 1).await;
        finish(&queue, &claim, state, 2).await;
        assert_eq!(claim_one(&queue, 3).await.entry.id, next, "{state}");
    }
    let _ = behind;
}

#[tokio::test]
async fn a_retrying_file_lets_others_pass_where_there_is_no_order() {
    let house = House::new();
    let queue = house.open();
    let mut ids = Vec::new();
    for n in 0..4 {
        ids.push(put(&queue, "clinic", &format!("{n}")).await);
    }
    let ask = ask_of(&["rest"], 2, Order::None);
    let claims = queue.claim(ask.clone(), at(1)).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.entry.id).collect::<Vec<_>>(), ids[..2]);
    queue.settle(claims[0].token, ids[0], retry_at(100), at(2)).await.unwrap();
    let claims = queue.claim(ask_of(&["rest"], 1, Order::None), at(3)).await.unwrap();
    assert_eq!(claims[0].entry.id, ids[2]);
    let claims = queue.claim(ask, at(100)).await.unwrap();
    assert_eq!(claims.iter().map(|claim| claim.entry.id).collect::<Vec<_>>(), [ids[0], ids[3]], "due ones first");
}

#[tokio::test]
async fn bounds_of_an_ask_are_kept() {
    let house = House::new();
    let queue = house.open();
    for n in 0..40 {
        let mut new = file(&format!("p{}", n % 4), &format!("{n}"));
        new.route = Some(if n % 2 == 0 { "even" } else { "odd" }.into());
        queue.accept(new, Content::Kept, at(0)).await.unwrap();
    }
    let mut asked = ask_of(&["even", "odd"], 100, Order::None);
    asked.routes[0].slots = 3;
    asked.per_partner = 5;
    asked.limit = 9;
    let claims = queue.claim(asked.clone(), at(1)).await.unwrap();
    let of = |route: &str| claims.iter().filter(|claim| claim.entry.route.as_deref() == Some(route)).count();
    assert_eq!((claims.len(), of("even"), of("odd")), (9, 3, 6));
    asked.limit = 100;
    asked.routes[0].slots = 100;
    queue.claim(asked.clone(), at(1)).await.unwrap();
    let stats = queue.stats(at(1)).await.unwrap();
    let active = stats.counts.iter().filter(|count| count.state == State::Active);
    assert_eq!(active.map(|count| count.files).collect::<Vec<_>>(), [5, 5, 5, 5], "per partner, over all routes");
}

#[tokio::test]
async fn partners_are_served_in_turn() {
    let house = House::new();
    let queue = house.open();
    for n in 0..100 {
        put(&queue, "loud", &format!("{n}")).await;
    }
    for partner in ["a", "zz"] {
        for n in 0..3 {
            put(&queue, partner, &format!("{n}")).await;
        }
    }
    let mut order = Vec::new();
    for _ in 0..9 {
        let claims = queue.claim(ask_of(&["rest"], 1, Order::None), at(1)).await.unwrap();
        order.push(claims[0].entry.partner.clone());
    }
    for turn in order.chunks(3) {
        let mut turn = turn.to_vec();
        turn.sort();
        assert_eq!(turn, ["a", "loud", "zz"], "{order:?}");
    }
}

#[tokio::test]
async fn the_same_file_done_shortly_before_makes_a_duplicate() {
    let house = House::new();
    let queue = house.open();
    let day = ClaimRequest { duplicate_window_ms: 86_400_000, ..ask(10) };
    let first = put(&queue, "clinic", "a").await;
    let claim = queue.claim(day.clone(), at(1)).await.unwrap().pop().unwrap();
    finish(&queue, &claim, State::Done, 2).await;
    let second = put(&queue, "clinic", "a").await;
    let mut differs = file("clinic", "a");
    differs.sha256 = crate::house::digest("other");
    let differs = queue.accept(differs, Content::Kept, at(3)).await.unwrap().id;
    put(&queue, "other", "a").await;
    let mut claimed: Vec<FileId> =
        queue.claim(day.clone(), at(4)).await.unwrap().iter().map(|claim| claim.entry.id).collect();
    claimed.sort();
    let duplicate = queue.get(second).await.unwrap();
    assert_eq!(duplicate.state, State::Duplicate);
    assert!(duplicate.reason.unwrap().contains(&first.to_string()));
    assert!(claimed.contains(&differs) && claimed.len() == 2, "another digest, another partner");
    // An operator can have it processed all the same.
    let routes = Action::Requeue(vec![Some("rest".into())]);
    queue.act(&[second], routes, None, operator(), at(5)).await.pop().unwrap().unwrap();
    let claim = queue.list(&Default::default(), None, 10).await.unwrap();
    let active = claim.entries.iter().find(|entry| entry.id == differs).unwrap().lease.clone().unwrap();
    queue.settle(active.token, differs, end(State::Done), at(5)).await.unwrap();
    assert_eq!(queue.claim(day.clone(), at(6)).await.unwrap()[0].entry.id, second);
}

#[tokio::test]
async fn old_or_unfinished_business_makes_no_duplicate() {
    let house = House::new();
    let queue = house.open();
    let hour = ClaimRequest { duplicate_window_ms: 3_600_000, ..ask(10) };
    put(&queue, "clinic", "a").await;
    let claim = claim_one(&queue, 1).await;
    finish(&queue, &claim, State::Done, 0).await;
    let second = put(&queue, "clinic", "a").await;
    let claim = queue.claim(hour.clone(), at(3_600)).await.unwrap().pop().unwrap();
    assert_eq!(claim.entry.id, second, "the window is over");
    finish(&queue, &claim, State::Dead, 3_600).await;
    let routes = Action::Requeue(vec![Some("rest".into())]);
    queue.act(&[second], routes, None, operator(), at(3_601)).await.pop().unwrap().unwrap();
    let third = put(&queue, "clinic", "a").await;
    let claim = queue.claim(hour.clone(), at(3_602)).await.unwrap().pop().unwrap();
    assert_eq!(claim.entry.id, second);
    finish(&queue, &claim, State::Quarantined, 3_602).await;
    let claim = queue.claim(hour, at(3_603)).await.unwrap().pop().unwrap();
    assert_eq!(claim.entry.id, third, "the earlier one is not done");
}

#[tokio::test]
async fn only_the_holder_of_the_lease_may_speak() {
    let house = House::new();
    let queue = house.open();
    let id = put(&queue, "clinic", "a").await;
    let first = claim_one(&queue, 1).await;
    queue.renew(first.token, id, at(500), at(2)).await.unwrap();
    queue.settle(first.token, id, end(State::Ready), at(2)).await.unwrap();
    let second = claim_one(&queue, 3).await;
    let lost = |result| matches!(result, Err(QueueError::LeaseLost(lost)) if lost == id);
    assert!(lost(queue.settle(first.token, id, end(State::Done), at(4)).await.map(|_| ())));
    assert!(lost(queue.renew(first.token, id, at(900), at(4)).await));
    let child = forebay_queue::Child { pgid: 1, start_ticks: 2, node: NodeId::local() };
    assert!(lost(queue.note_child(first.token, id, child.clone(), at(4)).await));
    queue.note_child(second.token, id, child.clone(), at(4)).await.unwrap();
    assert_eq!(queue.get(id).await.unwrap().lease.unwrap().child, Some(child));
    finish(&queue, &second, State::Done, 5).await;
    assert!(lost(queue.settle(second.token, id, end(State::Dead), at(6)).await.map(|_| ())), "once only");
    let unknown = FileId::new(at(0));
    assert!(matches!(queue.settle(second.token, unknown, end(State::Done), at(6)).await, Err(QueueError::NotFound(_))));
}

#[tokio::test]
async fn a_lease_that_ran_out_gives_the_file_back_but_a_jump_of_the_clock_does_not() {
    let house = House::new();
    let queue = house.open();
    let id = put(&queue, "clinic", "a").await;
    let first = claim_one(&queue, 0).await;
    // The clock jumps an hour ahead; the holder renews within half a lease.
    assert!(queue.claim(ask(1), at(3_600)).await.unwrap().is_empty());
    queue.renew(first.token, id, at(3_660), at(3_601)).await.unwrap();
    assert!(queue.claim(ask(1), at(3_659)).await.unwrap().is_empty());
    // Now it stays silent.
    assert!(queue.claim(ask(1), at(3_660)).await.unwrap().is_empty());
    assert!(queue.claim(ask(1), at(3_689)).await.unwrap().is_empty());
    let second = claim_one(&queue, 3_690).await;
    assert_eq!((second.entry.id, second.attempt), (id, 1), "not counted");
    let late = queue.settle(first.token, id, end(State::Done), at(3_691)).await;
    assert!(matches!(late, Err(QueueError::LeaseLost(_))));
}

#[tokio::test]
async fn a_crash_leaves_active_files_for_the_one_who_recovers_and_the_third_holds_them() {
    let house = House::new();
    let mut queue = house.open();
    let id = put(&queue, "clinic", "a").await;
    for crash in 1..=3 {
        let claim = claim_one(&queue, crash).await;
        let child = forebay_queue::Child { pgid: 44, start_ticks: 5, node: NodeId::local() };
        queue.note_child(claim.token, id, child.clone(), at(crash)).await.unwrap();
        drop(queue);
        let (reopened, recovered) = house.try_open().unwrap();
        queue = reopened;
        assert_eq!(recovered.interrupted.iter().map(|entry| entry.id).collect::<Vec<_>>(), [id]);
        assert_eq!(recovered.interrupted[0].lease.as_ref().unwrap().child, Some(child));
        assert!(queue.claim(ask(9), at(crash) + later(86_400)).await.unwrap().is_empty(), "not before it is settled");
        let stale = queue.settle(claim.token, id, end(State::Done), at(crash)).await;
        assert!(matches!(stale, Err(QueueError::LeaseLost(_))), "leases do not survive");
        let entry = queue.settle_crashed(id, at(crash)).await.unwrap();
        assert_eq!((entry.crashes, entry.attempts), (crash as u32, 0));
        assert_eq!(entry.state, if crash == 3 { State::Held } else { State::Ready });
    }
    let id = put(&queue, "clinic", "b").await;
    claim_one(&queue, 9).await;
    assert!(queue.settle_crashed(id, at(9)).await.is_err(), "its holder lives");
}

#[tokio::test]
async fn ten_thousand_files_of_sixty_four_lanes_come_in_order() {
    let house = House::new();
    let queue = std::sync::Arc::new(house.open());
    let mut tasks = Vec::new();
    for lane in 0..64 {
        let queue = queue.clone();
        tasks.push(tokio::spawn(async move {
            for n in 0..157 {
                put(&queue, &format!("p{lane}"), &format!("{n:03}")).await;
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    let mut next: HashMap<String, usize> = HashMap::new();
    let mut total = 0;
    loop {
        let claims = queue.claim(ask(64), at(1)).await.unwrap();
        if claims.is_empty() {
            break;
        }
        for claim in claims {
            let n = next.entry(claim.entry.partner.clone()).or_default();
            assert_eq!(claim.entry.name, format!("{n:03}"), "{}", claim.entry.partner);
            *n += 1;
            total += 1;
            finish(&queue, &claim, State::Done, 2).await;
        }
    }
    assert_eq!(total, 64 * 157);
    crate::house::assert_sound(&queue).await;
}

#[tokio::test]
async fn a_claim_is_one_record_and_each_of_its_files_has_its_part_of_it() {
    let house = House::new();
    let queue = house.open();
    let mut ids = Vec::new();
    for partner in ["a", "b", "c"] {
        ids.push(put(&queue, partner, "x").await);
    }
    let last = queue.audit(0, usize::MAX).await.unwrap().len() as u64;
    let claims = queue.claim(ask(9), at(5)).await.unwrap();
    assert!(claims.iter().map(|claim| claim.entry.id).eq(ids.iter().copied()));
    assert!(claims.iter().all(|claim| claim.node.is_local() && claim.token == claims[0].token));
    let records = queue.audit(last, 9).await.unwrap();
    assert_eq!(records.len(), 1, "{records:?}");
    assert!(matches!(&records[0].1.fact, Fact::Claimed { files, .. } if files.len() == 3));
    for id in &ids {
        let history = queue.history(*id).await.unwrap();
        let (seq, record) = history.last().unwrap();
        assert_eq!((*seq, record.id), (last + 1, Some(*id)));
        assert!(matches!(&record.fact, Fact::Started { attempt: 1, token, .. } if *token == claims[0].token));
    }
    // A record's changes are not torn apart, for who asks goes on behind it.
    let changed = queue.changes(last, 1).await.unwrap();
    assert!(changed.iter().map(|entry| entry.id).eq(ids.iter().copied()));
    finish(&queue, &claims[1], State::Done, 6).await;
    let before = crate::house::picture(&queue).await;
    queue.rebuild(&|_, _| {}).await.unwrap();
    assert_eq!(crate::house::picture(&queue).await, before);
}

#[tokio::test]
async fn a_claim_says_which_node_has_it() {
    let house = House::new();
    let node: NodeId = "second".parse().unwrap();
    let options = Options { segment_bytes: 256 << 10, node: node.clone(), ..Options::default() };
    let open = || EmbeddedQueue::open(Arc::new(OsDisk), &house.journal(), &house.index(), options.clone()).unwrap().0;
    let queue = open();
    put(&queue, "clinic", "a").await;
    let claim = claim_one(&queue, 1).await;
    assert_eq!((&claim.node, &claim.entry.lease.as_ref().unwrap().node), (&node, &node));
    let child = forebay_queue::Child { pgid: 1, start_ticks: 2, node: claim.node.clone() };
    queue.note_child(claim.token, claim.entry.id, child, at(2)).await.unwrap();
    drop(queue);
    let (_queue, recovered) = house.try_open().unwrap();
    let lease = recovered.interrupted[0].lease.as_ref().unwrap();
    assert_eq!((&lease.node, &lease.child.as_ref().unwrap().node), (&node, &node));
}
