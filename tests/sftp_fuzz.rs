//! The whole SFTP service against a partner that sends anything: requests that fit, requests that do not, for handles
//! that are open, closed or never were, broken packets, and connections that are gone in the middle.
//!
//! `FOREBAY_FUZZ_INPUTS` says how many requests are sent, `FOREBAY_FUZZ_SEED` which ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{collections::BTreeMap, fs, time::Instant};

use harness::{
    files_below,
    sftp_client::{HANDLE, Sftp, TO_READ, string},
    site::{PASSWORD, Site, USER},
    wait_until,
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const NAMES: [&str; 14] =
    ["a.hl7", "b.hl7", "c.tmp", "d.part", "in", "in/a.hl7", "in/b.tmp", "out", "out/x", "/", ".", "..", "../../x", ""];
const EXTENSIONS: [&str; 7] = [
    "posix-rename@openssh.com",
    "fsync@openssh.com",
    "statvfs@openssh.com",
    "fstatvfs@openssh.com",
    "hardlink@openssh.com",
    "limits@openssh.com",
    "none@example.com",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

fn pick<'a, T>(random: &mut StdRng, from: &'a [T]) -> &'a T {
    &from[random.random_range(0..from.len())]
}

fn name(random: &mut StdRng) -> Vec<u8> {
    string(pick(random, &NAMES).as_bytes())
}

fn handle(random: &mut StdRng, handles: &[Vec<u8>]) -> Vec<u8> {
    match random.random_range(0..8) {
        0 => string(&random.random::<u32>().to_be_bytes()),
        1 => string(&random.random::<u32>().to_be_bytes()[..random.random_range(0..4)]),
        _ if handles.is_empty() => string(&1_u32.to_be_bytes()),
        _ => pick(random, handles).clone(),
    }
}

fn attributes(random: &mut StdRng) -> Vec<u8> {
    match random.random_range(0..4) {
        0 => [&1_u32.to_be_bytes()[..], &random.random_range(0..5000_u64).to_be_bytes()].concat(),
        1 => [&4_u32.to_be_bytes()[..], &random.random::<u32>().to_be_bytes()].concat(),
        2 => [&8_u32.to_be_bytes()[..], &random.random::<u64>().to_be_bytes()].concat(),
        _ => vec![0; 4],
    }
}

/// A request: its kind and what follows the id.
fn request(random: &mut StdRng, handles: &[Vec<u8>]) -> (u8, Vec<u8>) {
    let kind = match random.random_range(0..30) {
        0..6 => 3,
        6..14 => 6,
        14..17 => 4,
        17 => 200,
        18 => random.random(),
        _ => random.random_range(4..21),
    };
    let offset = |random: &mut StdRng| match random.random_range(0..6) {
        0 => random.random::<u64>(),
        1 => random.random_range(0..100_000),
        _ => random.random_range(0..4) * 1000,
    };
    let mut body = match kind {
        3 => [name(random), random.random_range(0..64_u32).to_be_bytes().to_vec(), attributes(random)].concat(),
        5 => {
            let (at, length) = (offset(random), random.random_range(0..u32::MAX) >> random.random_range(0..32));
            [handle(random, handles), at.to_be_bytes().to_vec(), length.to_be_bytes().to_vec()].concat()
        }
        6 => {
            let at = offset(random);
            let length = if random.random_range(0..20) == 0 { 200_000 } else { 1000 };
            [handle(random, handles), at.to_be_bytes().to_vec(), string(&vec![7; length])].concat()
        }
        4 | 8 | 12 => handle(random, handles),
        10 => [handle(random, handles), attributes(random)].concat(),
        9 | 14 => [name(random), attributes(random)].concat(),
        18 | 20 => [name(random), name(random)].concat(),
        200 => {
            let extension = string(pick(random, &EXTENSIONS).as_bytes());
            let rest = if random.random() { name(random) } else { handle(random, handles) };
            [extension, rest, name(random)].concat()
        }
        _ => name(random),
    };
    if random.random_range(0..60) == 0 {
        let at = random.random_range(0..=body.len());
        body.truncate(at);
    }
    (kind, body)
}

fn memory_kib(site: &Site) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", site.machine.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Sends requests on a channel, some ahead, until it has sent enough or the channel has ended; how many.
fn channel(random: &mut StdRng, sftp: &mut Sftp, most: u64) -> u64 {
    let (mut sent, mut open, mut handles) = (0, BTreeMap::new(), Vec::new());
    for _ in 0..most {
        let (kind, body) = request(random, &handles);
        sent += 1;
        let Ok(id) = sftp.request(kind, &[&body]) else { break };
        assert!(open.insert(id, kind).is_none());
        if random.random_range(0..3) > 0 {
            continue;
        }
        // Every request that came whole is answered once.
        while !open.is_empty() {
            let Ok(answer) = sftp.answer() else { return sent };
            assert!(open.remove(&answer.id).is_some(), "an answer to no request: {answer:?}");
            if answer.kind == HANDLE {
                handles.push(answer.body);
            }
        }
        if handles.len() > 100 {
            handles.drain(..).for_each(|handle| drop(sftp.request(4, &[&handle]).map(|id| open.insert(id, 4))));
        }
    }
    sent
}

#[test]
fn fuzz_whatever_a_partner_sends_the_door_stays_open() {
    let seed = number("FOREBAY_FUZZ_SEED").unwrap_or_else(rand::random);
    let inputs = number("FOREBAY_FUZZ_INPUTS").unwrap_or(4_000);
    println!("seed {seed}, {inputs} requests");
    let mut random = StdRng::seed_from_u64(seed);
    let site = Site::with("", "stalled = \"5s\"\nmax_sessions_per_partner = 1000", "");
    let login = || Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap();
    assert!(login().store("first.hl7", b"data").is_ok());
    let (began, mut sent, mut told, mut sessions) = (Instant::now(), 0, 0, 0_u64);
    while sent < inputs {
        sessions += 1;
        if sent >= told + 1_000_000 {
            told = sent;
            println!("{sent} requests, {:?}", began.elapsed());
        }
        let mut sftp = login();
        for _ in 0..random.random_range(1..4) {
            let most = random.random_range(1..400);
            sent += channel(&mut random, &mut sftp, most);
            match sftp.channel() {
                Ok(next) => sftp = next,
                Err(_) => break,
            }
        }
    }
    // No session hangs, nothing is left open, and an honest partner is served.
    wait_until("all sessions end", || site.machine.ok(&["sessions", "--json"]).trim().is_empty());
    let working = site.machine.data().join("tmp");
    wait_until("nothing is under way", || files_below(&working).is_empty());
    let mut sftp = login();
    assert!(sftp.store("last.hl7", b"data").is_ok());
    let handle = sftp.open("last.hl7", TO_READ).unwrap();
    assert!(sftp.read(&handle, 0, 100).body.ends_with(b"data"));
    let log = fs::read_to_string(site.path("server.log")).unwrap();
    assert!(!log.contains("panicked"), "seed {seed}: {log}");
    let most = memory_kib(&site);
    println!("{sent} requests in {sessions} sessions, {:?}, at most {most} KiB resident", began.elapsed());
    assert!(most < 400 << 10, "{most} KiB");
}
