//! The journal is the truth: whatever happens to the index, the same state comes out.

use forebay_queue::{
    Action, ClaimRequest, EmbeddedMaintenance, NewName, Order, QueueStore, Settlement, State, embedded::EmbeddedQueue,
};
use forebay_storage::{Content, FileId};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::IndexedRandom};

use crate::house::{House, ask_of, assert_sound, at, copy_dir, end, file, operator, picture};

/// One random operation. Refusals are fine: they must change nothing.
async fn step(queue: &EmbeddedQueue, rng: &mut StdRng, ids: &mut Vec<FileId>, now: i64) {
    let pick = |rng: &mut StdRng| ids.choose(rng).copied().unwrap_or_else(|| FileId::new(at(0)));
    match rng.random_range(0..14) {
        0..=3 => {
            let mut new = file(&format!("p{}", rng.random_range(0..4)), &format!("f{}", rng.random_range(0..6)));
            new.state = *[State::Ready, State::Ready, State::Unfinished, State::Held].choose(rng).unwrap();
            new.route = Some(format!("r{}", rng.random_range(0..2)));
            ids.push(queue.accept(new, Content::Kept, at(now)).await.unwrap().id);
        }
        4..=7 => {
            let order = if rng.random_bool(0.5) { Order::Strict } else { Order::None };
            let limit = rng.random_range(1..5);
            let asked =
                ClaimRequest { duplicate_window_ms: 50_000, lease_ms: 20_000, ..ask_of(&["r0", "r1"], limit, order) };
            for claim in queue.claim(asked, at(now)).await.unwrap() {
                if rng.random_bool(0.2) {
                    continue;
                }
                let states = [
                    State::Done,
                    State::Done,
                    State::Retrying,
                    State::Quarantined,
                    State::Dead,
                    State::Held,
                    State::Ready,
                ];
                let state = *states.choose(rng).unwrap();
                let due_at = (state == State::Retrying).then(|| at(now + rng.random_range(0..60)));
                let end = Settlement { due_at, counted: rng.random_bool(0.7), ..end(state) };
                queue.settle(claim.token, claim.entry.id, end, at(now)).await.unwrap();
            }
        }
        8..=10 => {
            let routes = vec![rng.random_bool(0.8).then(|| format!("r{}", rng.random_range(0..2)))];
            let actions = [
                Action::Hold(forebay_queue::Hold::Operator),
                Action::Release(routes.clone()),
                Action::Requeue(routes),
                Action::Cancel,
            ];
            let action = actions.choose(rng).unwrap().clone();
            queue.act(&[pick(rng)], action, Some("because".into()), operator(), at(now)).await;
        }
        11 => {
            let state = *[State::Ready, State::Unfinished].choose(rng).unwrap();
            let to = NewName { name: format!("n{now}"), route: Some("r0".into()), state, reason: None, hold: None };
            let _ = queue.rename(pick(rng), to, operator(), at(now)).await;
        }
        12 => {
            queue.purge(at(now - 40), 3, at(now)).await.unwrap();
        }
        _ => queue.note(operator(), "test", "something", at(now)).await.unwrap(),
    }
}

#[tokio::test]
async fn whatever_becomes_of_the_index_the_state_is_the_same() {
    for round in 0..4 {
        let seed: u64 = rand::random();
        println!("round {round}, seed {seed}");
        let mut rng = StdRng::seed_from_u64(seed);
        let house = House::new();
        let older = house.dir().join("older");
        let (mut queue, mut ids, mut now) = (house.open(), Vec::new(), 0);
        for stretch in 0..6 {
            for _ in 0..60 {
                now += rng.random_range(0..5);
                step(&queue, &mut rng, &mut ids, now).await;
            }
            assert_sound(&queue).await;
            let before = picture(&queue).await;
            drop(queue);
            match stretch {
                0 => copy_dir(&house.index(), &older),
                2 => std::fs::remove_dir_all(house.index()).unwrap(),
                3 => {
                    std::fs::remove_dir_all(house.index()).unwrap();
                    copy_dir(&older, &house.index());
                }
                _ => {}
            }
            let (reopened, recovered) = house.try_open().unwrap();
            queue = reopened;
            assert_eq!(recovered.faults, Vec::<String>::new());
            match stretch {
                2 | 3 => {
                    assert!(recovered.replayed > 0 && recovered.set_aside.is_empty());
                    assert_eq!(recovered.rebuilt, stretch == 2, "an older index is caught up");
                }
                _ => assert_eq!(recovered.replayed, 0, "the index was whole"),
            }
            assert_eq!(picture(&queue).await, before, "seed {seed}, stretch {stretch}");
            assert_sound(&queue).await;
            for entry in recovered.interrupted {
                queue.settle_crashed(entry.id, at(now)).await.unwrap();
            }
            if stretch == 4 {
                let before = picture(&queue).await;
                let rebuilt = queue.rebuild(&|_, _| {}).await.unwrap();
                assert_eq!(rebuilt.faults, Vec::<String>::new());
                assert_eq!(picture(&queue).await, before, "seed {seed}, rebuilt");
            }
        }
    }
}
