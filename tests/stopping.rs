//! SIGTERM at every stage of a start, of a catch-up, of work that takes long, and of a drain: the server ends soon, in
//! order, and the next start finds everything.
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    os::unix::process::ExitStatusExt as _,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::Utc;
use forebay_queue::{
    NewEntry, QueueStore as _, State,
    embedded::{EmbeddedQueue, Options},
};
use forebay_storage::{Content, FileId, Sha256, disk::OsDisk};
use harness::{
    Door,
    binary::{BOUND, FOREBAY, Machine},
    wait_until,
};
use rand::{RngExt as _, SeedableRng as _, rngs::SmallRng};
use rustix::process::Signal;
use sha2::Digest as _;

/// The unit's `TimeoutStopSec` is 60 s. No backlog may come near it, on whatever machine.
const STOPS_WITHIN: Duration = Duration::from_secs(30);

const FILES: usize = 12_000;

#[derive(PartialEq)]
enum Gate {
    Open,
    Closed,
}

/// A server that does not run and has so many files in its queue.
fn machine_with_files(route: &str, gate: Gate) -> Machine {
    let mut machine = Machine::new(route);
    machine.add_partner("clinic", "correct horse battery staple");
    if gate == Gate::Closed {
        close_the_gate(&mut machine);
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(fill(&machine));
    machine
}

async fn fill(machine: &Machine) {
    let (disk, journal, index) = (Arc::new(OsDisk), machine.data().join("journal"), machine.data().join("queue"));
    let queue = Arc::new(EmbeddedQueue::open(disk, &journal, &index, Options::default()).unwrap().0);
    let mut running = Vec::new();
    for task in 0..64 {
        let queue = Arc::clone(&queue);
        running.push(tokio::spawn(async move {
            for number in (task..FILES).step_by(64) {
                let (new, bytes) = new_file(number);
                queue.accept(new, Content::Inline(bytes), Utc::now()).await.unwrap();
            }
        }));
    }
    for task in running {
        task.await.unwrap();
    }
}

fn new_file(number: usize) -> (NewEntry, Bytes) {
    let bytes = Bytes::from(format!("MSH|^~\\&|{number}"));
    let new = NewEntry {
        id: FileId::new(Utc::now()),
        partner: "clinic".into(),
        name: format!("{number:06}.hl7"),
        door: "ftp".into(),
        size_bytes: bytes.len() as u64,
        sha256: Sha256(sha2::Sha256::digest(&bytes).into()),
        received_at: Utc::now(),
        route: Some("all".into()),
        state: State::Ready,
        reason: None,
        hold: None,
        origin: None,
        idempotency_key: None,
        supersedes: None,
        continues: None,
        claimable_from: None,
    };
    (new, bytes)
}

fn files_known(machine: &Machine) -> u64 {
    let stats: serde_json::Value = serde_json::from_str(&machine.ok(&["queue", "stats", "--json"])).unwrap();
    stats["states"].as_array().unwrap().iter().map(|row| row["files"].as_u64().unwrap()).sum()
}

/// Closes the gate for good, before anything is there to be processed.
fn close_the_gate(machine: &mut Machine) {
    machine.start();
    machine.ok(&["gate", "close", "--reason", "nothing is to be processed"]);
    machine.stop();
}

const ROUTE: &str = "[[route]]\nname = \"all\"\nprocessor = \"exec\"\ncommand = [\"/bin/sleep\", \"0.3\"]\n";

#[test]
fn a_start_is_stopped_at_whatever_stage_it_is_and_the_next_goes_on() {
    let seed: u64 = rand::random();
    eprintln!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut machine = machine_with_files(ROUTE, Gate::Closed);
    // As long as a start without an index takes here.
    fs::remove_dir_all(machine.data().join("queue")).unwrap();
    let began = Instant::now();
    machine.start();
    let whole = began.elapsed();
    machine.stop();
    fs::remove_dir_all(machine.data().join("queue")).unwrap();
    is_stopped_before_it_is_ready(&mut machine);
    for round in 0..10 {
        if round % 3 == 0 {
            let _ = fs::remove_dir_all(machine.data().join("queue"));
        }
        machine.spawn();
        // The moment is what is tried, and not waited for.
        std::thread::sleep(whole.mul_f64(random.random_range(0.0..1.2)));
        machine.signal(Signal::TERM);
        let status = machine.ended(STOPS_WITHIN);
        // Before it listens to signals the kernel ends it.
        assert!(
            status.success() || status.signal() == Some(15),
            "round {round}, seed {seed}: {status}\n{}",
            machine.log()
        );
    }
    machine.start();
    assert_eq!(files_known(&machine), FILES as u64, "seed {seed}\n{}", machine.log());
    assert_eq!(machine.ok(&["queue", "list", "--limit", "3", "--json"]).lines().count(), 3);
    machine.stop();
}

/// The index is being made: that is given up, and not finished first.
fn is_stopped_before_it_is_ready(machine: &mut Machine) {
    let _ = fs::remove_dir_all(machine.data().join("queue"));
    machine.spawn();
    wait_until("the index is being made", || machine.data().join("queue/db").exists());
    machine.signal(Signal::TERM);
    let status = machine.ended(STOPS_WITHIN);
    let log = machine.log();
    assert!(status.success() && log.contains("stopping before the server was ready"), "{status}\n{log}");
    let last_start = log.rsplit("stopping before the server was ready").next().unwrap();
    assert!(last_start.contains("the start has ended") && !last_start.contains(" ready "), "{log}");
}

#[test]
fn work_on_everything_keeps_no_server_from_stopping() {
    let mut machine = machine_with_files(ROUTE, Gate::Closed);
    for verb in ["verify", "rebuild", "list", "watch", "cancel"] {
        machine.start();
        let mut asked = Command::new(FOREBAY);
        asked.arg("--config").arg(machine.path().join("forebay.toml")).args(["queue", verb]);
        if verb == "cancel" {
            asked.args(["--partner", "clinic", "--reason", "no longer wanted"]);
        }
        let mut asked = asked.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        // It has been asked when it holds a connection; a list and a cancellation answer bit by bit.
        std::thread::sleep(Duration::from_millis(100));
        machine.signal(Signal::TERM);
        let status = machine.ended(STOPS_WITHIN);
        assert!(status.success(), "{verb}: {status}\n{}", machine.log());
        // Nobody reads its output, and it has to end all the same.
        drop(asked.stdout.take());
        let began = Instant::now();
        while asked.try_wait().unwrap().is_none() {
            assert!(began.elapsed() < BOUND, "{verb} waits for a server that is gone");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    machine.start();
    assert_eq!(files_known(&machine), FILES as u64);
    machine.stop();
}

#[test]
fn a_drain_does_not_work_the_backlog_off() {
    let mut machine = machine_with_files(ROUTE, Gate::Open);
    machine.start();
    let done = |machine: &Machine| {
        let stats: serde_json::Value = serde_json::from_str(&machine.ok(&["queue", "stats", "--json"])).unwrap();
        let rows = stats["states"].as_array().unwrap().clone();
        rows.iter().find(|row| row["state"] == "done").map_or(0, |row| row["files"].as_u64().unwrap())
    };
    let began = Instant::now();
    while done(&machine) == 0 {
        assert!(began.elapsed() < BOUND, "nothing is processed\n{}", machine.log());
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut client = Door::Ftp.try_enter(machine.addresses(), "clinic", "correct horse battery staple").unwrap();
    client.put("last.hl7", b"MSH|^~\\&|last").unwrap();
    machine.signal(Signal::TERM);
    let status = machine.ended(STOPS_WITHIN);
    assert!(status.success(), "{status}\n{}", machine.log());
    assert!(done(&machine) < FILES as u64 / 2, "the rest is left to the next start");
    assert_eq!(files_known(&machine), FILES as u64 + 1);
}
