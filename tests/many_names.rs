//! Names without end: a partner that makes folders and empty files in a loop is refused at its limit, costs no inode and no
//! start, and is in nobody's way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use forebay_queue::{
    Catalogue,
    embedded::{EmbeddedQueue, Options},
};
use forebay_storage::disk::OsDisk;
use harness::{
    Ftp,
    binary::Machine,
    client::{Client, Door, Refused},
};

/// The names that a partner may have here.
const LIMIT: usize = 400;
/// Inodes that the data directory may have more than before, whatever was named: segments of a log, packs, files of the
/// index.
const FEW: usize = 10;
/// Changes of names that a partner may make at once; CONFIGURATION and PARTNERS do not promise the number.
const CHANGES: usize = 20_000;
const DOORS: [Door; 2] = [Door::Ftp, Door::Sftp];

fn machine() -> Machine {
    let mut machine = Machine::new(&format!("[policy]\nmax_names = {LIMIT}\n"));
    for name in ["Hoarder", "Clinic"] {
        machine.add_partner(name, "secret");
    }
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    machine
}

fn enter(machine: &Machine, door: Door, partner: &str) -> Box<dyn Client> {
    door.try_enter(machine.addresses(), partner, "secret").unwrap()
}

/// Files and directories in and below a directory.
fn inodes(directory: &Path) -> usize {
    let below = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    below.map(|entry| 1 + if entry.file_type().unwrap().is_dir() { inodes(&entry.path()) } else { 0 }).sum()
}

/// The refusal of who has too many names, in the door's own code.
fn assert_too_many(door: Door, refused: &Refused) {
    let code = if door == Door::Sftp { 4 } else { 552 };
    assert_eq!(refused.code, code, "{refused}");
    assert!(refused.text.to_lowercase().contains("too many names"), "{refused}");
}

/// Does this until it is refused; how often it was done.
fn until_refused(door: Door, mut work: impl FnMut(usize) -> Result<(), Refused>) -> usize {
    for number in 0..=LIMIT {
        if let Err(refused) = work(number) {
            assert_too_many(door, &refused);
            return number;
        }
    }
    panic!("{door:?}: {LIMIT} names and one more");
}

/// Another partner finds nothing changed.
fn assert_goes_on(machine: &Machine, number: usize) {
    for door in DOORS {
        let mut clinic = enter(machine, door, "Clinic");
        clinic.make_directory(&format!("{door:?}-{number}")).unwrap();
        clinic.put(&format!("{door:?}-{number}/a.hl7"), b"MSH|^~\\&|\r").unwrap();
        assert_eq!(clinic.fetch(&format!("{door:?}-{number}/a.hl7")).unwrap(), b"MSH|^~\\&|\r");
    }
}

#[test]
fn folders_are_refused_at_the_limit() {
    are_refused_at_the_limit(
        |session, name| session.make_directory(name),
        |session, name| session.remove_directory(name),
    );
}

#[test]
fn empty_files_are_refused_at_the_limit() {
    are_refused_at_the_limit(|session, name| session.put(name, b""), |session, name| session.delete(name));
}

fn are_refused_at_the_limit(
    make: impl Fn(&mut dyn Client, &str) -> Result<(), Refused>,
    remove: impl Fn(&mut dyn Client, &str) -> Result<(), Refused>,
) {
    for door in DOORS {
        let mut machine = machine();
        let before = inodes(&machine.data());
        let mut session = enter(&machine, door, "Hoarder");
        let made = until_refused(door, |number| make(&mut *session, &format!("name-{number}")));
        assert_eq!(made, LIMIT, "{door:?}");
        let grown = inodes(&machine.data()) - before;
        assert!(grown <= FEW, "{door:?}: {LIMIT} names took {grown} inodes");

        // Whatever it tries next, on this session or another, at this door or another.
        for other in DOORS {
            let mut session = enter(&machine, other, "Hoarder");
            assert_too_many(other, &session.make_directory("one-more").unwrap_err());
            assert_too_many(other, &session.put("one-more.hl7", b"").unwrap_err());
        }
        assert_goes_on(&machine, 0);
        // A name that goes makes room for one.
        remove(&mut *session, "name-7").unwrap();
        make(&mut *session, "another").unwrap();
        assert_too_many(door, &make(&mut *session, "one-more").unwrap_err());

        // A killed server knows it again, and the next one as well when the index is gone.
        for index_is_lost in [false, true] {
            machine.kill();
            if index_is_lost {
                fs::remove_dir_all(machine.data().join("queue")).unwrap();
            }
            machine.start();
            let mut session = enter(&machine, door, "Hoarder");
            let mut listed = session.list("/");
            listed.retain(|name| name != "out");
            assert_eq!(listed.len(), LIMIT, "{door:?}, index lost: {index_is_lost}");
            assert!(listed.iter().any(|name| name == "another") && !listed.iter().any(|name| name == "name-7"));
            assert_too_many(door, &make(&mut *session, "one-more").unwrap_err());
            assert_goes_on(&machine, 1 + usize::from(index_is_lost));
        }
        let after = inodes(&machine.data());
        assert!(after <= before + FEW, "{door:?}: {before} inodes before, {after} after two starts");
        machine.stop();
    }
}

/// Many sessions at once find the same limit: those that ask at the same instant may each get a name, and no others.
#[test]
fn sessions_that_hoard_at_once_find_the_limit_too() {
    const SESSIONS: usize = 8;
    let machine = machine();
    let addresses = machine.addresses();
    let made: usize = thread::scope(|scope| {
        let sessions: Vec<_> = (0..SESSIONS)
            .map(|session| {
                scope.spawn(move || {
                    let door = DOORS[session % 2];
                    let mut client = door.try_enter(addresses, "Hoarder", "secret").unwrap();
                    until_refused(door, |number| client.make_directory(&format!("of-{session}-{number}")))
                })
            })
            .collect();
        sessions.into_iter().map(|session| session.join().unwrap()).sum()
    });
    assert!((LIMIT..LIMIT + SESSIONS).contains(&made), "{made} names");
    let mut listed = enter(&machine, Door::Ftp, "Hoarder").list("/");
    listed.retain(|name| name != "out");
    assert_eq!(listed.len(), made);
    assert_goes_on(&machine, 0);
}

/// A loop that makes a folder and removes it has few names at any time, and writes a record each time. It is slowed down
/// before it fills the journal, and what it did is nothing that a start must do again.
#[test]
fn a_loop_that_makes_and_removes_is_slowed_down_and_forgotten() {
    const SESSIONS: usize = 16;
    let mut machine = machine();
    let (ftp, inodes_before, done) = (machine.ftp, inodes(&machine.data()), AtomicUsize::new(0));
    thread::scope(|scope| {
        let done = &done;
        (0..SESSIONS).for_each(|session| drop(scope.spawn(move || make_and_remove(ftp, session, done))));
    });
    let done = done.into_inner();
    // Those that it earned while it ran come on top.
    assert!((CHANGES..CHANGES * 5 / 4).contains(&done), "{done} changes");
    let mut sftp = enter(&machine, Door::Sftp, "Hoarder");
    let refused =
        (0..1_000).find_map(|_| sftp.make_directory("again").err().or_else(|| sftp.remove_directory("again").err()));
    let refused = refused.expect("no change is left");
    assert_eq!(refused.code, 4, "{refused}");
    assert!(refused.text.contains("too many changes"), "{refused}");
    assert_goes_on(&machine, 0);
    let grown = inodes(&machine.data()) - inodes_before;
    assert!(grown <= FEW, "{done} changes took {grown} inodes");
    machine.stop();

    let (disk, data) = (Arc::new(OsDisk), machine.data());
    let opened = EmbeddedQueue::open(disk, &data.join("journal"), &data.join("queue"), Options::default());
    let (queue, recovered) = opened.unwrap();
    assert!(recovered.replayed < 100 && !recovered.rebuilt, "{recovered:?}");
    let names = tokio::runtime::Runtime::new().unwrap().block_on(queue.names("Hoarder")).unwrap();
    assert!(names <= SESSIONS as u64 + 1, "{names} names are left");
    drop(queue);
    machine.start();
    assert_goes_on(&machine, 1);
}

/// Makes a folder and removes it until it is told that it is too fast; counts the changes. Commands go out many at a time:
/// they are answered in their order.
fn make_and_remove(ftp: SocketAddr, session: usize, done: &AtomicUsize) {
    const AHEAD: usize = 50;
    let mut client = Ftp::connect(ftp);
    client.login("Hoarder", "secret");
    let mut stream = client.tcp().try_clone().unwrap();
    let mut replies = BufReader::new(client.tcp().try_clone().unwrap());
    let pair = format!("MKD loop-{session}\r\nRMD loop-{session}\r\n");
    while done.load(Ordering::Relaxed) < 2 * CHANGES {
        stream.write_all(pair.repeat(AHEAD).as_bytes()).unwrap();
        let mut refused = 0;
        for _ in 0..2 * AHEAD {
            let mut line = String::new();
            assert!(replies.read_line(&mut line).unwrap() > 0, "the session ended");
            match &line[..4] {
                "257 " | "250 " => drop(done.fetch_add(1, Ordering::Relaxed)),
                "450 " if line.contains("oo many changes") => refused += 1,
                // What follows when the one before was refused.
                "550 " if refused > 0 => {}
                _ => panic!("{line}"),
            }
        }
        if refused > 0 {
            return;
        }
    }
    panic!("{done:?} changes, and nobody said a word");
}
