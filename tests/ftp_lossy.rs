//! Clients in the clear that are killed behind a path which loses, delays and reorders packets, and holds back the end of
//! their control connections by up to a second: no half file is handed to a processor, and none is taken back whose sender
//! has read the reply.
//!
//! `FOREBAY_CLIENTS` says how many clients there are, `FOREBAY_SEED` which ones and what becomes of their packets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    collections::BTreeMap,
    fs,
    io::Write,
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use socket2::SockRef;

use harness::{
    Ftp,
    binary::{BOUND, Machine},
    files_below,
    lossy::{LossyPath, Weather},
    mortal::{Life, Nursery, Plan, Stage},
    tun::{Tun, enter_namespace_with_tun, is_root_or_ran_as_root},
};

const SERVER: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 1);
const CLIENT: Ipv4Addr = Ipv4Addr::new(10, 77, 0, 2);
const CONTROL_PORT: u16 = 2121;
const USER: &str = "clinic";
const PASSWORD: &str = "correct-horse-battery";
/// Clients that live at the same time.
const AT_ONCE: usize = 48;

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

#[test]
fn heavy_killed_behind_a_lossy_path_no_half_file_is_processed_and_no_confirmed_one_taken_back() {
    const NAME: &str = "heavy_killed_behind_a_lossy_path_no_half_file_is_processed_and_no_confirmed_one_taken_back";
    if !is_root_or_ran_as_root(NAME) {
        return;
    }
    let clients = number("FOREBAY_CLIENTS").map_or(1_000, |clients| usize::try_from(clients).expect("small"));
    let seed = number("FOREBAY_SEED").unwrap_or_else(rand::random);
    println!("FOREBAY_SEED={seed}");
    let began = Instant::now();
    let device = enter_namespace_with_tun(SERVER);
    let machine = server();
    let (lives, path) = live(clients, machine.ftp, device, seed);
    println!("{clients} clients lived, {:?}: {:?}", began.elapsed(), path.counts());
    wait_until_decided(&machine);
    println!("all is decided, {:?}", began.elapsed());
    let outcomes = Outcomes::of(&machine);
    let mut table = BTreeMap::<(Class, &str), usize>::new();
    let mut faults = Vec::new();
    for life in &lives {
        let state = outcomes.states.get(&life.plan.name).map_or("none", |state| state.as_str());
        *table.entry((class(life), state)).or_default() += 1;
        if let Some(fault) = outcomes.fault(life, state) {
            let (log, packets) = (outcomes.log(life), path.trace(&life.ports));
            faults.push(format!("{fault}: {state}: {life}\n{log}\n{packets}"));
        }
    }
    let partials = files_below(&machine.data().join("partials")).len();
    for ((class, state), files) in &table {
        println!("{files:4} {class:?}: {state}");
    }
    println!("{partials} partials");
    assert!(faults.is_empty(), "FOREBAY_SEED={seed}: {} faults\n{}", faults.len(), faults.join("\n"));
    // The test has looked at something.
    let counts = path.counts();
    for (what, count) in [
        ("lost", counts.lost),
        ("doubled", counts.doubled),
        ("overtaken", counts.overtaken),
        ("lost ends", counts.ends_lost),
    ] {
        assert!(count > 0, "FOREBAY_SEED={seed}: no packet was {what}: {counts:?}");
    }
    for class in [Class::Cut, Class::Unread, Class::Read, Class::WentOn, Class::Lived] {
        assert!(table.keys().any(|(of, _)| *of == class), "FOREBAY_SEED={seed}: no client was {class:?}");
    }
    for state in ["done", "held", "withdrawn", "none"] {
        assert!(table.keys().any(|(_, of)| *of == state), "FOREBAY_SEED={seed}: nothing became {state}");
    }
    assert!(partials > 0, "FOREBAY_SEED={seed}: nothing that was cut is kept");
}

/// The real server, whose FTP door is at the address of its TUN device.
fn server() -> Machine {
    let limits =
        "[limits]\nmax_connections = 4000\nmax_connections_per_address = 4000\nmax_sessions_per_partner = 2000\n";
    let route = "[[route]]\nname = \"all\"\nprocessor = \"deliver\"\ndirectory = \"@DIR@/delivered\"\n";
    let mut machine = Machine::with_ftp("passive_ports = \"20000-24999\"", &format!("{limits}\n{route}"));
    let at = SocketAddr::from((SERVER, CONTROL_PORT));
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &config.replace(&machine.ftp.to_string(), &at.to_string()));
    machine.ftp = at;
    machine.add_partner(USER, PASSWORD);
    machine.start();
    machine
}

/// Lets all clients live, in a namespace of theirs behind the path; gives what they did.
fn live(clients: usize, server: SocketAddr, device: Tun, seed: u64) -> (Vec<Life>, LossyPath) {
    let in_namespace = move || {
        let path = LossyPath::new(enter_namespace_with_tun(CLIENT), device, CONTROL_PORT, Weather::STORM, seed);
        let next = AtomicUsize::new(0);
        let some = || {
            let mut nursery = Nursery::new(server, USER, PASSWORD);
            let numbers = std::iter::from_fn(|| Some(next.fetch_add(1, Ordering::Relaxed)).filter(|at| *at < clients));
            numbers.map(|number| nursery.live(Plan::of(seed, number))).collect::<Vec<_>>()
        };
        // Threads and processes are in the namespace of the thread that starts them.
        let lives = thread::scope(|scope| {
            let all: Vec<_> = (0..AT_ONCE).map(|_| scope.spawn(some)).collect();
            all.into_iter().flat_map(|some| some.join().unwrap()).collect()
        });
        (lives, path)
    };
    thread::spawn(in_namespace).join().unwrap()
}

/// A client that died by and by: it sent half of its file and closed the data connection, its system acknowledged the 226,
/// and then its reset was lost. Beside it one that only falls silent.
#[test]
fn a_client_whose_reset_is_lost_is_not_taken_for_one_that_is_silent() {
    const NAME: &str = "a_client_whose_reset_is_lost_is_not_taken_for_one_that_is_silent";
    if !is_root_or_ran_as_root(NAME) {
        return;
    }
    let device = enter_namespace_with_tun(SERVER);
    let machine = server();
    let at = machine.ftp;
    let (silent, path) = thread::spawn(move || {
        let path =
            LossyPath::new(enter_namespace_with_tun(CLIENT), device, CONTROL_PORT, Weather::FIRST_RESETS_ARE_LOST, 0);
        let dying = upload(at, "half.hl7");
        // The reply is in its system, and nobody reads it.
        let mut reply = [0; 3];
        while dying.tcp().peek(&mut reply).unwrap() < 3 {}
        assert_eq!(&reply, b"226");
        SockRef::from(dying.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
        drop(dying);
        (upload(at, "whole.hl7"), path)
    })
    .join()
    .unwrap();
    machine.wait_until_none_is(&["ready", "active", "retrying"], "undecided");
    let outcomes = Outcomes::of(&machine);
    assert_eq!(outcomes.states["whole.hl7"], "done", "{}", machine.log());
    assert_eq!(outcomes.states["half.hl7"], "held", "{}", machine.log());
    assert!(!outcomes.processed.contains_key("half.hl7"));
    assert!(path.counts().ends_lost >= 1, "{:?}", path.counts());
    drop(silent);
}

/// Sends a file on a data connection and closes that; the reply to it is still to come.
fn upload(server: SocketAddr, name: &str) -> Ftp {
    let mut ftp = Ftp::connect(server);
    ftp.login(USER, PASSWORD);
    let mut data = ftp.passive();
    ftp.send(format!("STOR {name}").as_bytes());
    assert_eq!(ftp.reply().code, 150);
    data.write_all(&[b'H'; 10_000]).unwrap();
    ftp
}

/// Waits until no session and no file waits for anything any more.
fn wait_until_decided(machine: &Machine) {
    let began = Instant::now();
    while !machine.ok(&["sessions", "--json"]).is_empty() {
        assert!(began.elapsed() < BOUND, "sessions of dead clients\n{}", machine.log());
        thread::sleep(std::time::Duration::from_millis(50));
    }
    machine.wait_until_none_is(&["ready", "active", "retrying"], "undecided");
}

/// How far a client came.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Class {
    /// Killed in the middle of its file.
    Cut,
    /// Killed when all was sent, before it had read the reply.
    Unread,
    /// Killed when it had read the reply.
    Read,
    /// Killed when it had gone on after it.
    WentOn,
    Lived,
}

fn class(life: &Life) -> Class {
    match life.came_to {
        _ if !life.was_killed => Class::Lived,
        _ if !life.has_sent_all() => Class::Cut,
        Some(Stage::WentOn | Stage::Ended) => Class::WentOn,
        Some(Stage::Read) => Class::Read,
        _ => Class::Unread,
    }
}

/// What became of the files.
struct Outcomes {
    states: BTreeMap<String, String>,
    /// What the processor was given.
    processed: BTreeMap<String, Vec<u8>>,
    ids: BTreeMap<String, String>,
    log: String,
}

impl Outcomes {
    fn of(machine: &Machine) -> Self {
        let (mut states, mut ids) = (BTreeMap::new(), BTreeMap::new());
        let text = |entry: &serde_json::Value, key: &str| entry[key].as_str().expect("a text").to_owned();
        for entry in machine.queue() {
            let before = states.insert(text(&entry, "name"), text(&entry, "state"));
            ids.insert(text(&entry, "name"), text(&entry, "id"));
            assert_eq!(before, None, "each name is sent once: {entry}");
        }
        let delivered = files_below(&machine.path().join("delivered"));
        let name = |path: &std::path::Path| path.file_name().unwrap().to_str().unwrap().to_owned();
        let processed = delivered.iter().map(|path| (name(path), fs::read(path).unwrap())).collect();
        let log = fs::read_to_string(machine.path().join("server.log")).unwrap();
        Self { states, processed, ids, log }
    }

    /// What the server says of the file.
    fn log(&self, life: &Life) -> String {
        let of_it = |line: &&str| {
            line.contains(&life.plan.name) || self.ids.get(&life.plan.name).is_some_and(|id| line.contains(id))
        };
        self.log.lines().filter(of_it).collect::<Vec<_>>().join("\n")
    }

    /// What is wrong with that, if anything.
    fn fault(&self, life: &Life, state: &str) -> Option<&'static str> {
        let processed = self.processed.get(&life.plan.name);
        // A reset takes with it what was sent last.
        let is_confirmed = match class(life) {
            Class::Lived => true,
            Class::WentOn => !life.plan.noop && !life.plan.aborts,
            _ => false,
        };
        match state {
            _ if processed.is_some_and(|bytes| *bytes != life.plan.content()) => Some("half a file was processed"),
            "done" if processed.is_none() => Some("it was not processed"),
            "done" => None,
            _ if processed.is_some() => Some("it was processed all the same"),
            _ if is_confirmed => Some("it is confirmed and was not processed"),
            "none" | "withdrawn" if class(life) >= Class::Read => Some("its sender has read the reply"),
            "none" | "withdrawn" | "held" => None,
            _ => Some("it is undecided"),
        }
    }
}
