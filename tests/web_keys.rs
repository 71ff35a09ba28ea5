//! Uploads under an `Idempotency-Key`: sent again, one is taken once, whatever crashes in between.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where something is missing, and reads the machine's clock"
)]

mod harness;

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpStream},
    thread,
    time::{Duration, Instant},
};

use forebay::doors::web::Options;
use harness::{
    House, PARTNER, PASSWORD, Plan,
    binary::{BOUND, Machine},
};
use rand::{RngExt, SeedableRng, rngs::StdRng};

/// `Clinic` and its password.
const BASIC: &str = "Authorization: Basic Q2xpbmljOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==\r\n";

/// Status and body of an answer.
type Told = (u16, String);

fn head(name: &str, key: &str, length: usize) -> String {
    format!(
        "POST /v1/files?name={name} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{BASIC}Idempotency-Key: {key}\r\n\
         Content-Length: {length}\r\n\r\n"
    )
}

/// Sends a file. An error is no answer, or not all of one.
fn post(at: SocketAddr, name: &str, key: &str, content: &[u8]) -> io::Result<Told> {
    let mut stream = TcpStream::connect(at)?;
    stream.set_read_timeout(Some(BOUND))?;
    stream.write_all(&[head(name, key, content.len()).as_bytes(), content].concat())?;
    told(stream)
}

fn told(mut stream: TcpStream) -> io::Result<Told> {
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let length = head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
    if length != Some(body.len()) {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok((status, body.to_owned()))
}

fn house() -> House {
    House::new(Plan { web: Some(Options::default()), ..Plan::default() })
}

#[test]
fn the_same_file_under_its_key_is_taken_once_and_has_the_same_answer() {
    let house = house();
    let at = house.web.unwrap();
    // One that rides in the log, and one with a file of its own.
    for (key, size) in [("\"small\"", 3_000), ("large", 300_000)] {
        let content = vec![b'x'; size];
        let name = key.trim_matches('"');
        let first = post(at, name, key, &content).unwrap();
        assert_eq!(first.0, 201, "{first:?}");
        for _ in 0..3 {
            assert_eq!(post(at, name, key, &content).unwrap(), first);
        }
        // What stands in quotes is what stands without.
        assert_eq!(post(at, name, &format!("\"{name}\""), &content).unwrap(), first);
        assert_eq!(house.states(name).len(), 1);
        for (other, content) in
            [(name, vec![b'y'; size]), (name, vec![b'x'; size - 1]), (name, vec![b'x'; size + 1]), ("b", content)]
        {
            let refused = post(at, other, key, &content).unwrap();
            assert_eq!(refused.0, 422, "{refused:?}");
            let problem: serde_json::Value = serde_json::from_str(&refused.1).unwrap();
            assert_eq!(problem["field"], "Idempotency-Key");
        }
    }
    assert_eq!(house.entries().len(), 2);
    let another = post(at, "small", "another", &vec![b'x'; 3_000]).unwrap();
    assert_eq!((another.0, house.entries().len()), (201, 3), "another key is another upload");
}

#[test]
fn a_key_is_one_partner_s_and_one_request_s_at_a_time() {
    let house = house();
    let at = house.web.unwrap();
    let mut first = TcpStream::connect(at).unwrap();
    first.write_all([head("a", "k", 4).as_bytes(), b"so"].concat().as_slice()).unwrap();
    house.wait_until("it has begun", || house.partners.sessions().iter().any(|session| session.bytes > 0));
    assert_eq!(post(at, "a", "k", b"some").unwrap().0, 409);
    first.write_all(b"me").unwrap();
    let kept = told(first).unwrap();
    assert_eq!((kept.0, post(at, "a", "k", b"some").unwrap()), (201, kept));
    // One that is cut, or refused, lets go of its key.
    let mut cut = TcpStream::connect(at).unwrap();
    cut.write_all([head("b", "cut", 4).as_bytes(), b"so"].concat().as_slice()).unwrap();
    house.wait_until("it has begun", || house.partners.sessions().iter().any(|session| session.bytes > 0));
    drop(cut);
    house.wait_alone();
    assert_eq!(post(at, "..", "cut", b"some").unwrap().0, 400);
    assert_eq!(post(at, "b", "cut", b"some").unwrap().0, 201);
    let other = "other".parse().unwrap();
    house.partners.add(&other, PASSWORD, "").unwrap();
    let request =
        head("a", "k", 5).replace("Q2xpbmljOmNvcnJlY3QgaG9yc2UgYmF0dGVyeQ==", "b3RoZXI6Y29ycmVjdCBob3JzZSBiYXR0ZXJ5");
    let mut stream = TcpStream::connect(at).unwrap();
    stream.write_all(&[request.as_bytes(), b"other"].concat()).unwrap();
    assert_eq!(told(stream).unwrap().0, 201, "another partner's key is another");
}

#[test]
fn what_is_no_key_is_refused() {
    let house = house();
    for key in ["", "\"", "\"open", "a b", "a,b", "\"\"", &"x".repeat(300), "\"a\" b"] {
        let refused = post(house.web.unwrap(), "a", key, b"some").unwrap();
        assert_eq!(refused.0, 400, "{key:?}: {refused:?}");
        assert!(refused.1.contains("\"field\":\"Idempotency-Key\""), "{refused:?}");
    }
    let twice = head("a", "k\r\nIdempotency-Key: k", 0);
    let mut stream = TcpStream::connect(house.web.unwrap()).unwrap();
    stream.write_all(twice.as_bytes()).unwrap();
    assert_eq!(told(stream).unwrap().0, 400);
    assert!(house.entries().is_empty());
}

fn kills() -> u32 {
    std::env::var("FOREBAY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// A server is killed around its 201, and the client sends again under the same key until it has one: the file is there once,
/// with the answer that was given first.
#[test]
fn a_kill_around_the_answer_loses_nothing_and_doubles_nothing() {
    let seed: u64 = std::env::var("FOREBAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let limits = "[limits]\nstartup_burst = 10000\nstartups_per_second = 10000\nmax_startups = \"10000:1:10000\"\n";
    let mut machine = Machine::new(limits);
    machine.start();
    machine.add_partner(PARTNER, PASSWORD);
    let (mut answered, mut unanswered, mut usual) = (0, 0, Duration::from_millis(5));
    let rounds = kills();
    for round in 0..rounds {
        let (name, key) = (format!("file-{round}"), format!("\"key {round}\""));
        // Some ride in the log, some have a file of their own.
        let content = vec![b'a' + (round % 26) as u8; if round % 3 == 0 { 200_000 } else { 2_000 }];
        // The first of a server verifies the password, which takes longer.
        let warm = post(machine.web, &format!("warm-{round}"), &format!("warm-{round}"), b"warm")
            .expect("a server that lives");
        assert_eq!(warm.0, 201, "seed {seed}: {warm:?}");
        let after = usual.mul_f64(random.random_range(0.0..2.0));
        let (at, sent_name, sent_key, sent) = (machine.web, name.clone(), key.clone(), content.clone());
        let began = Instant::now();
        let client = thread::spawn(move || (post(at, &sent_name, &sent_key, &sent), began.elapsed()));
        thread::sleep(after);
        machine.kill();
        let (first, took) = client.join().unwrap();
        match &first {
            Ok((status, _)) => {
                assert_eq!(*status, 201, "seed {seed}: {first:?}");
                (answered, usual) = (answered + 1, (usual * 7 + took) / 8);
            }
            Err(_) => unanswered += 1,
        }
        machine.start();
        let again = post(machine.web, &name, &key, &content).expect("a server that lives");
        assert_eq!(again.0, 201, "seed {seed}, round {round}: {again:?}");
        if let Ok(first) = first {
            assert_eq!(again, first, "seed {seed}, round {round}");
        }
        assert_eq!(post(machine.web, &name, &key, &content).unwrap(), again, "seed {seed}, round {round}");
    }
    // What a crash left without a record is adopted, and gives way to the same file when that is sent again.
    let entries = machine.queue();
    let standing = entries.iter().filter(|entry| entry["state"] != "superseded");
    let names: Vec<_> = standing.map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
    for round in 0..rounds {
        let name = format!("file-{round}");
        let count = names.iter().filter(|one| **one == name).count();
        assert_eq!(count, 1, "seed {seed}: {name} is there {count} times");
    }
    println!("{answered} of {rounds} had their answer before the kill, {unanswered} had none");
    assert!(
        rounds < 50 || (answered > rounds / 20 && unanswered > rounds / 20),
        "{answered} and {unanswered}: aim better"
    );
}
