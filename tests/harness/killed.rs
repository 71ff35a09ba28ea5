//! Clients that are killed with SIGKILL in the middle of an upload.

use std::{
    io::{BufRead, BufReader},
    net::SocketAddr,
    process::{Command, Stdio},
    thread,
    time::Duration,
};

use forebay_queue::State;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::{House, PARTNER, PASSWORD, files_below, wait_until};

const CLIENTS: usize = 200;
const AT_ONCE: usize = 4;

/// Kills 200 uploading clients, each after a time of its own, and looks at what the house made of it.
pub fn killed_clients_commit_nothing(house: &House, how: &str) {
    let seed = kill(CLIENTS, house, house.address, how);
    // On a machine that is busy a client may die so slowly that its end is seen only when the reply finds nobody. Such
    // a file is held, and that must stay rare.
    let held = held_and_not_committed(house, seed);
    assert!(held * 20 <= CLIENTS, "seed {seed}: {held} of {CLIENTS} killed clients were seen late");
    println!("{held} of {CLIENTS} were seen late and are held");
}

/// Kills so many clients that upload to `at`; the seed of when.
pub fn kill(clients: usize, house: &House, at: SocketAddr, how: &str) -> u64 {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    thread::scope(|scope| {
        for lane in 0..AT_ONCE {
            let mut random = StdRng::seed_from_u64(seed ^ lane as u64);
            scope.spawn(move || {
                for _ in 0..clients / AT_ONCE {
                    kill_one(at, how, Duration::from_micros(random.random_range(0..30_000)));
                }
            });
        }
    });
    wait_until("all sessions end", || house.partners.sessions().is_empty());
    house.block_on(house.ingest.idle());
    let begun = files_below(&house.path("partials")).len() + house.entries().len();
    assert!(begun > clients / 2, "seed {seed}: only {begun} were begun: were the clients killed in mid-file?");
    seed
}

/// Nothing of what killed clients sent is queued as a file that may be processed; how many are held for an operator.
pub fn held_and_not_committed(house: &House, seed: u64) -> usize {
    let entries = house.entries();
    let waits = |state| matches!(state, State::Held | State::Unfinished);
    let committed: Vec<_> = entries.iter().filter(|entry| !waits(entry.state)).collect();
    assert!(committed.is_empty(), "seed {seed}: killed clients committed {committed:#?}");
    assert_eq!(house.block_on(house.storage.ids()).unwrap().len(), entries.len(), "seed {seed}: files in the spool");
    entries.len()
}

fn kill_one(at: SocketAddr, how: &str, after: Duration) {
    let (host, port) = (at.ip().to_string(), at.port().to_string());
    let mut client = Command::new("python3")
        .args(["-c", include_str!("endless_upload.py"), &host, &port, PARTNER, PASSWORD, how])
        .stdout(Stdio::piped())
        .spawn()
        .expect("python3 starts");
    let out = BufReader::new(client.stdout.take().expect("piped"));
    assert!(out.lines().any(|line| line.is_ok_and(|line| line == "sending")), "the client never sent");
    // The moment of the kill is what is random here; nothing is waited for.
    thread::sleep(after);
    client.kill().unwrap();
    client.wait().unwrap();
}
