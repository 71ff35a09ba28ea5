//! The whole guard against a peer that says anything: commands, halves of commands, rubbish, telnet and TLS, data
//! connections that are opened, used, reset or left alone.
//!
//! `FOREBAY_FUZZ_INPUTS` says how many inputs are sent, `FOREBAY_FUZZ_SEED` which ones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
    sync::atomic::{AtomicUsize, Ordering},
    time::{Duration, Instant},
};

use harness::{House, PARTNER, PASSWORD, Plan, wait_until};
use rand::{RngExt, SeedableRng, rngs::StdRng};

const WORDS: [&str; 56] = [
    "USER",
    "PASS",
    "ACCT",
    "CWD",
    "CDUP",
    "SMNT",
    "REIN",
    "QUIT",
    "PORT",
    "PASV",
    "TYPE",
    "STRU",
    "MODE",
    "RETR",
    "STOR",
    "STOU",
    "APPE",
    "ALLO",
    "REST",
    "RNFR",
    "RNTO",
    "ABOR",
    "DELE",
    "RMD",
    "MKD",
    "PWD",
    "LIST",
    "NLST",
    "SITE",
    "SYST",
    "STAT",
    "HELP",
    "NOOP",
    "AUTH",
    "PBSZ",
    "PROT",
    "CCC",
    "FEAT",
    "OPTS",
    "EPSV",
    "EPRT",
    "MDTM",
    "SIZE",
    "MLST",
    "MLSD",
    "MFMT",
    "HASH",
    "XCRC",
    "XMD5",
    "XSHA256",
    "HOST",
    "LANG",
    "CLNT",
    "PROXY",
    "GET",
    "\u{16}\u{3}\u{1}",
];
const ARGUMENTS: [&str; 22] = [
    "a.hl7",
    "b.tmp",
    "/",
    "..",
    "in",
    "in/a.hl7",
    "out",
    "ALL",
    "1",
    "2",
    "I",
    "A",
    "S",
    "F",
    "TLS",
    "P",
    "C",
    "0",
    "-la",
    "18446744073709551616",
    "UTF8 ON",
    "|1|127.0.0.1|2000|",
];

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// One input: a line, mostly, or what is none.
fn input(random: &mut StdRng) -> Vec<u8> {
    let mut bytes = WORDS[random.random_range(0..WORDS.len())].as_bytes().to_vec();
    if random.random_range(0..4) > 0 {
        bytes.push(b' ');
        bytes.extend_from_slice(ARGUMENTS[random.random_range(0..ARGUMENTS.len())].as_bytes());
    }
    for _ in 0..random.random_range(0..5_u32).saturating_sub(3) * 4 {
        let at = random.random_range(0..=bytes.len());
        match random.random_range(0..4) {
            0 => bytes.insert(at, random.random()),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            _ => drop(bytes.splice(at..at, vec![random.random(); random.random_range(0..5000)])),
        }
    }
    bytes.extend_from_slice(if random.random_range(0..20) == 0 { b"" } else { b"\r\n" });
    bytes
}

/// What the server has said by now; None when it has ended the connection.
fn heard(stream: &mut TcpStream) -> Option<String> {
    let mut buffer = [0; 16 << 10];
    match stream.read(&mut buffer) {
        Ok(0) => None,
        Ok(count) => Some(String::from_utf8_lossy(&buffer[..count]).into_owned()),
        Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => Some(String::new()),
        Err(_) => None,
    }
}

/// A data connection to the port that a reply names, if it does.
fn data(house: &House, said: &str) -> Option<TcpStream> {
    let port = said.rsplit_once("(|||")?.1.split_once('|')?.0.parse::<u16>().ok()?;
    TcpStream::connect((house.address.ip(), port)).ok()
}

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// Panics of any thread, also those that a runtime catches.
static PANICS: AtomicUsize = AtomicUsize::new(0);

fn count_panics() {
    let usual = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        PANICS.fetch_add(1, Ordering::SeqCst);
        usual(info);
    }));
}

#[test]
fn fuzz_whatever_a_peer_says_the_door_stays_open() {
    let seed = number("FOREBAY_FUZZ_SEED").unwrap_or_else(rand::random);
    let inputs = number("FOREBAY_FUZZ_INPUTS").unwrap_or(2_000);
    println!("seed {seed}, {inputs} inputs");
    count_panics();
    let mut random = StdRng::seed_from_u64(seed);
    let mut plan = Plan::default();
    plan.limits.stalled = Duration::from_millis(200);
    (plan.limits.free_failures, plan.limits.max_failed_logins) = (1 << 30, 1 << 30);
    plan.ftp.handshake = Duration::from_millis(200);
    plan.ftp.active = true;
    let house = House::new(plan);
    let (began, mut sent, mut told, mut sessions, mut most) = (Instant::now(), 0, 0, 0_u64, 0);
    assert_eq!(house.session().store("first.hl7", b"data").code, 226);
    while sent < inputs {
        sessions += 1;
        if sent >= told + 1_000_000 {
            told = sent;
            println!("{sent} inputs, {:?}", began.elapsed());
        }
        let mut stream = TcpStream::connect(house.address).unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(10))).unwrap();
        if random.random_range(0..10) > 0 {
            write!(stream, "USER {PARTNER}\r\nPASS {PASSWORD}\r\n").unwrap();
        }
        let mut open = Vec::new();
        for _ in 0..random.random_range(1..200) {
            let line = input(&mut random);
            sent += 1;
            if stream.write_all(&line).is_err() {
                break;
            }
            let mut offered = None;
            if random.random_range(0..12) == 0 {
                stream.write_all(b"EPSV\r\n").ok();
                stream.set_read_timeout(Some(Duration::from_millis(20))).unwrap();
                offered = heard(&mut stream).and_then(|said| data(&house, &said));
            }
            if let Some(mut data) = offered {
                let verb = ["STOR c.hl7", "APPE", "LIST", "RETR first.hl7", "MLSD"][random.random_range(0..5)];
                // What is appended to is copied: one name alone would grow and fill the disk.
                let to = if verb == "APPE" { format!(" d{}.hl7", random.random_range(0..1000)) } else { String::new() };
                let _ = write!(stream, "{verb}{to}\r\n");
                let most = if random.random_range(0..20) == 0 { 100_000 } else { 5_000 };
                match random.random_range(0..4) {
                    0 => drop(data.write_all(&vec![7; random.random_range(0..most)])),
                    1 => drop(socket2::SockRef::from(&data).set_linger(Some(Duration::ZERO))),
                    2 => open.push(data),
                    _ => {}
                }
            }
            // A peer that never reads would be ended by its full window.
            stream.set_nonblocking(true).unwrap();
            let gone = heard(&mut stream).is_none();
            stream.set_nonblocking(false).unwrap();
            if gone {
                break;
            }
        }
        if random.random_range(0..3) == 0 {
            socket2::SockRef::from(&stream).set_linger(Some(Duration::ZERO)).unwrap();
        }
        most = most.max(resident_kib());
    }
    // No session hangs, nothing is left open, and an honest partner is served.
    wait_until("all sessions end", || house.partners.connections() == 0);
    assert_eq!(house.session().store("last.hl7", b"data").code, 226);
    assert_eq!(house.session().fetch("RETR last.hl7").unwrap(), b"data");
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "seed {seed}");
    println!("{sent} inputs in {sessions} sessions, {:?}, at most {most} KiB resident", began.elapsed());
    assert!(most < 200 << 10, "{most} KiB");
}
