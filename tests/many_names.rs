//! Names without end: a partner that makes folders and empty files in a loop is refused at its limit, costs no inode and no
//! start, and is in nobody's way.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
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
    sftp_client::{Sftp, string},
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
    machine_with(LIMIT)
}

fn machine_with(limit: usize) -> Machine {
    let mut machine = Machine::new(&format!("[policy]\nmax_names = {limit}\n"));
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

/// Of a folder with many names a page is read when the one before it has gone out: what a name far behind is by then is
/// what the listing tells. So the first line waits for no other, and memory for a page is enough.
#[test]
fn a_listing_is_read_as_it_is_sent() {
    const NAMES: usize = 12_000;
    let machine = machine_with(2 * NAMES);
    make_folders(machine.ftp, NAMES);
    let (mut ftp, mut changing) = (Ftp::connect(machine.ftp), Ftp::connect(machine.ftp));
    ftp.login("Hoarder", "secret");
    changing.login("Hoarder", "secret");

    for (round, command) in ["LIST", "MLSD", "NLST"].into_iter().enumerate() {
        let mut data = BufReader::with_capacity(512, narrow(&mut ftp));
        assert_eq!(ftp.command(command).code, 150);
        let mut first = String::new();
        data.read_line(&mut first).unwrap();
        change_far_behind(&mut changing, NAMES, round);
        let mut rest = String::new();
        data.read_to_string(&mut rest).unwrap();
        assert_eq!(ftp.reply().code, 226);
        assert_told(&rest, NAMES, round, command);
        // One went, one came, and the first line was read.
        assert_eq!(rest.lines().count(), NAMES - 1, "{command}");
    }

    let (opendir, readdir, handle, name) = (11, 12, 102, 104);
    let mut sftp = Sftp::login(machine.sftp, "Hoarder", "secret").unwrap();
    let opened = sftp.ask(opendir, &[&string(b"/")]);
    assert_eq!(opened.kind, handle);
    assert_eq!(sftp.ask(readdir, &[&opened.body]).kind, name);
    change_far_behind(&mut changing, NAMES, 3);
    let mut rest = Vec::new();
    loop {
        let answer = sftp.ask(readdir, &[&opened.body]);
        if answer.kind != name {
            assert_eq!(answer.code(), 1, "{}", answer.text());
            break;
        }
        rest.extend(answer.body);
    }
    assert_told(&String::from_utf8_lossy(&rest), NAMES, 3, "READDIR");
}

/// A name so long that many of them are more than what lies on the way between server and client.
fn long(number: usize) -> String {
    format!("{number:06}-{}", "n".repeat(200))
}

fn make_folders(ftp: SocketAddr, count: usize) {
    const SESSIONS: usize = 8;
    const AHEAD: usize = 100;
    let one = |session: usize| {
        let mut client = Ftp::connect(ftp);
        client.login("Hoarder", "secret");
        let numbers: Vec<_> = (session..count).step_by(SESSIONS).collect();
        for some in numbers.chunks(AHEAD) {
            let commands: Vec<_> = some.iter().map(|number| format!("MKD {}", long(*number))).collect();
            client.send(commands.join("\r\n").as_bytes());
            commands.iter().for_each(|_| assert_eq!(client.reply().code, 257));
        }
    };
    thread::scope(|scope| (0..SESSIONS).for_each(|session| drop(scope.spawn(move || one(session)))));
}

/// A data connection that takes little before it is read.
fn narrow(ftp: &mut Ftp) -> TcpStream {
    let reply = ftp.command("EPSV");
    let port = reply.text.split('|').nth(3).unwrap().parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.into()
}

/// Takes the last but few of the names away and adds one behind all.
fn change_far_behind(ftp: &mut Ftp, names: usize, round: usize) {
    assert_eq!(ftp.command(&format!("RMD {}", long(names - 1 - round))).code, 250);
    assert_eq!(ftp.command(&format!("MKD zzz-{round}")).code, 257);
}

fn assert_told(listing: &str, names: usize, round: usize, command: &str) {
    assert!(listing.contains(&long(1_500)) && listing.contains(&long(names - 2 - round)), "{command} lacks names");
    assert!(!listing.contains(&long(names - 1 - round)), "{command} tells a name that had gone before");
    assert!(listing.contains(&format!("zzz-{round}")), "{command} lacks a name that had come before");
}
