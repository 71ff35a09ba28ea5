//! Every fact on every state.

use forebay_queue::{Actor, Child, Entry, Fact, LeaseToken, NodeId, QueueError, Record, State};
use forebay_storage::FileId;

use crate::house::{at, digest};

const TOKEN: LeaseToken = LeaseToken(uuid::Uuid::from_u128(7));

fn facts() -> Vec<(&'static str, Fact)> {
    let route = Some("rest".to_owned());
    let ended =
        |state| Fact::Ended { state, counted: true, due_at: None, reason: None, output: String::new(), messages: None };
    vec![
        (
            "named",
            Fact::Named { name: "a".into(), route: route.clone(), state: State::Ready, reason: None, hold: None },
        ),
        ("started", Fact::Started { token: TOKEN, attempt: 1, until: at(60), node: NodeId::local() }),
        ("child", Fact::Child { token: TOKEN, child: Child { pgid: 9, start_ticks: 8, node: NodeId::local() } }),
        ("done", ended(State::Done)),
        ("crashed", Fact::Crashed { state: State::Ready, messages: None }),
        ("duplicate", Fact::Duplicate { of: FileId::from_bytes([9; 16]) }),
        ("held", Fact::Held { reason: None, hold: None }),
        ("released", Fact::Released { route: route.clone(), reason: None }),
        ("requeued", Fact::Requeued { route, reason: None }),
        ("cancelled", Fact::Cancelled { reason: None }),
        ("purged", Fact::Purged),
        ("withdrawn", Fact::Withdrawn { reason: None }),
        ("receipt hidden", Fact::ReceiptHidden),
    ]
}

/// What follows: a letter for the state, `.` for refused, `0` for gone.
#[rustfmt::skip]
const TABLE: [(State, &str); 12] = [
    //                    named started child done crashed duplicate held released requeued cancelled purged withdrawn hidden
    (State::Unfinished,  "R     .       .     .    .       .         H    .        .        C         .      W         U"),
    (State::Ready,       "R     A       .     .    .       D         H    .        .        C         .      W         R"),
    (State::Active,      ".     .       A     E    R       .         .    .        .        .         .      .         A"),
    (State::Retrying,    ".     A       .     .    .       D         H    .        R        C         .      .         Y"),
    (State::Held,        ".     .       .     .    .       .         .    R        R        C         .      W         H"),
    (State::Done,        ".     .       .     .    .       .         .    .        R        .         0      .         E"),
    (State::Quarantined, ".     .       .     .    .       .         .    .        R        C         .      .         Q"),
    (State::Dead,        ".     .       .     .    .       .         .    .        R        C         .      .         X"),
    (State::Cancelled,   ".     .       .     .    .       .         .    .        R        .         0      .         C"),
    (State::Duplicate,   ".     .       .     .    .       .         .    .        R        C         0      .         D"),
    (State::Superseded,  ".     .       .     .    .       .         .    .        .        .         0      .         S"),
    (State::Withdrawn,   ".     .       .     .    .       .         .    .        .        .         0      .         W"),
];

fn letter(state: State) -> &'static str {
    match state {
        State::Ready => "R",
        State::Active => "A",
        State::Held => "H",
        State::Done => "E",
        State::Cancelled => "C",
        State::Duplicate => "D",
        State::Unfinished => "U",
        State::Retrying => "Y",
        State::Quarantined => "Q",
        State::Dead => "X",
        State::Superseded => "S",
        State::Withdrawn => "W",
    }
}

fn record(fact: Fact, seconds: i64) -> Record {
    Record { at: at(seconds), actor: Actor::Server, id: Some(FileId::from_bytes([1; 16])), fact }
}

fn accepted(state: State, route: Option<&str>) -> Record {
    let fact = Fact::Accepted {
        partner: "clinic".into(),
        name: "a.hl7".into(),
        door: "ftp".into(),
        size_bytes: 3,
        sha256: digest("a"),
        received_at: at(0),
        route: route.map(str::to_owned),
        state,
        reason: None,
        hold: None,
        origin: None,
        idempotency_key: None,
        supersedes: None,
        continues: None,
        claimable_from: None,
        inline: None,
    };
    record(fact, 0)
}

fn after(entry: &Entry, seq: u64, fact: Fact) -> Entry {
    Entry::apply(Some(entry), seq, &record(fact, seq as i64)).unwrap().unwrap()
}

fn entry_in(state: State) -> Entry {
    let ended = |state| Fact::Ended {
        state,
        counted: true,
        due_at: Some(at(9)),
        reason: None,
        output: String::new(),
        messages: None,
    };
    let start = match state {
        State::Unfinished | State::Held => state,
        _ => State::Ready,
    };
    let entry = Entry::apply(None, 1, &accepted(start, Some("rest"))).unwrap().unwrap();
    let active = || after(&entry, 2, Fact::Started { token: TOKEN, attempt: 1, until: at(60), node: NodeId::local() });
    match state {
        State::Unfinished | State::Held | State::Ready => entry,
        State::Active => active(),
        State::Cancelled => after(&entry, 2, Fact::Cancelled { reason: None }),
        State::Duplicate => after(&entry, 2, Fact::Duplicate { of: FileId::from_bytes([9; 16]) }),
        State::Withdrawn => after(&entry, 2, Fact::Withdrawn { reason: None }),
        State::Superseded => Entry { state, ..entry },
        _ => after(&active(), 3, ended(state)),
    }
}

#[test]
fn every_fact_on_every_state_does_what_the_table_says() {
    for (state, row) in TABLE {
        let entry = entry_in(state);
        assert_eq!(entry.state, state);
        for ((name, fact), wanted) in facts().into_iter().zip(row.split_whitespace()) {
            let seen = match Entry::apply(Some(&entry), 9, &record(fact, 9)) {
                Ok(Some(after)) => {
                    assert_eq!(after.changed_seq, 9);
                    letter(after.state)
                }
                Ok(None) => "0",
                Err(QueueError::WrongState { .. }) => ".",
                Err(other) => panic!("{name} on {state}: {other}"),
            };
            assert_eq!(seen, wanted, "{name} on {state}");
        }
    }
}

#[test]
fn an_entry_begins_with_its_acceptance_and_only_once() {
    for (_, fact) in facts() {
        assert!(matches!(Entry::apply(None, 9, &record(fact, 9)), Err(QueueError::NotFound(_))));
    }
    let entry = entry_in(State::Ready);
    let again = Entry::apply(Some(&entry), 9, &accepted(State::Ready, Some("rest")));
    assert!(matches!(again, Err(QueueError::Exists(_))));
    for state in State::ALL {
        let may = [State::Ready, State::Unfinished, State::Held].contains(&state);
        assert_eq!(Entry::apply(None, 1, &accepted(state, Some("rest"))).is_ok(), may, "{state}");
    }
    assert!(Entry::apply(None, 1, &accepted(State::Ready, None)).is_err(), "ready without a route");
}

#[test]
fn attempts_count_only_when_they_do() {
    let active = entry_in(State::Active);
    let ended = |counted, state| Fact::Ended {
        state,
        counted,
        due_at: None,
        reason: None,
        output: String::new(),
        messages: None,
    };
    let stopped = after(&active, 3, ended(false, State::Ready));
    assert_eq!((stopped.attempts, stopped.failing_since, stopped.state), (0, None, State::Ready));
    let failed = after(&active, 3, ended(true, State::Retrying));
    assert_eq!((failed.attempts, failed.failing_since, failed.due_at), (1, Some(at(3)), Some(at(3))));
    let again = after(&failed, 4, Fact::Started { token: TOKEN, attempt: 2, until: at(60), node: NodeId::local() });
    let failed = after(&again, 5, ended(true, State::Retrying));
    assert_eq!((failed.attempts, failed.failing_since), (2, Some(at(3))), "its age counts from the first failure");
    let fresh = after(&failed, 6, Fact::Requeued { route: Some("rest".into()), reason: None });
    assert_eq!((fresh.attempts, fresh.failing_since, fresh.not_duplicate), (0, None, true));
}

#[test]
fn a_turn_is_the_acceptance_under_the_final_name_and_stays() {
    let named = |state| Fact::Named { name: "b".into(), route: Some("rest".into()), state, reason: None, hold: None };
    let unfinished = entry_in(State::Unfinished);
    let still = after(&unfinished, 5, named(State::Unfinished));
    assert_eq!((still.turn, still.state), (1, State::Unfinished));
    let accepted = after(&still, 6, named(State::Ready));
    assert_eq!((accepted.turn, accepted.name.as_str()), (6, "b"));
    let held = after(&accepted, 7, Fact::Held { reason: None, hold: None });
    let back = after(&held, 8, Fact::Released { route: Some("rest".into()), reason: None });
    assert_eq!((back.turn, back.state), (6, State::Ready));
}

#[test]
fn without_a_route_a_file_stays_held() {
    let held = entry_in(State::Held);
    let still = after(&held, 5, Fact::Released { route: None, reason: None });
    assert_eq!((still.state, still.reason.as_deref()), (State::Held, Some("no route serves this file")));
    let done = after(&entry_in(State::Done), 5, Fact::Requeued { route: None, reason: None });
    assert_eq!(done.state, State::Held);
}

#[test]
fn a_child_belongs_to_its_lease() {
    let active = entry_in(State::Active);
    let other = Fact::Child {
        token: LeaseToken(uuid::Uuid::from_u128(8)),
        child: Child { pgid: 1, start_ticks: 1, node: NodeId::local() },
    };
    assert!(matches!(Entry::apply(Some(&active), 3, &record(other, 3)), Err(QueueError::LeaseLost(_))));
}
