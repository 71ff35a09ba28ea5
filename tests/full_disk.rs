//! A file system without a byte or an inode left, under a real server: at its start, while it runs, and for operators.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
};

use harness::{Ftp, binary::Machine, files_below, small_disk::SmallDisk, wait_until};
use serde_json::Value;

/// Too much for a journal record.
const LARGE: usize = 100 << 10;

fn machine(reserve: &str) -> Machine {
    let machine = Machine::new("");
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &config.replace("reserve = \"1 MiB\"", &format!("reserve = \"{reserve}\"")));
    machine
}

fn session(machine: &Machine) -> Ftp {
    let mut session = Ftp::connect(machine.ftp);
    session.login("clinic", "secret");
    session
}

fn upload(machine: &Machine, name: &str, bytes: usize) -> u16 {
    session(machine).store(name, &vec![b'x'; bytes]).code
}

fn status(machine: &Machine) -> Value {
    serde_json::from_str(&machine.ok(&["status", "--json"])).unwrap()
}

fn gate(machine: &Machine) -> String {
    status(machine)["gate"]["state"].as_str().unwrap().to_owned()
}

fn is_short(machine: &Machine, word: &str) -> bool {
    let needs = status(machine)["needs"].clone();
    needs.as_array().unwrap().iter().any(|need| need.as_str().unwrap().contains(word))
}

fn set_aside(machine: &Machine) -> Vec<PathBuf> {
    let all = fs::read_dir(machine.data()).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().contains("corrupt")).collect()
}

/// The whole life of a server on a disk that is full: it runs on, it is stopped, killed and started, and operators act.
/// `fill` takes everything that is left and gives what is to be removed for it to come back.
fn operators_are_served(disk: &SmallDisk, machine: &mut Machine, word: &str, fill: impl Fn(&SmallDisk) -> PathBuf) {
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    assert_eq!((upload(machine, "small.hl7", 10), upload(machine, "large.hl7", LARGE)), (226, 226));
    let filler = fill(disk);
    assert!(is_short(machine, word), "{}", machine.ok(&["status"]));
    assert_eq!((upload(machine, "no.hl7", 10), upload(machine, "no.hl7", LARGE)), (452, 452));
    let ids: Vec<_> = machine.queue().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    // Outcomes and operators' actions are journalled all the same, and each is seen at once.
    for action in ["hold", "release", "hold"] {
        machine.ok(&["queue", action, &ids[0]]);
    }
    machine.wait_queue("it is held", |entries| entries.iter().any(|entry| entry["state"] == "held"));

    for kill in [true, false] {
        machine.ok(&["gate", "clear"]);
        machine.ok(&["gate", "close", "--for", "1h", "--reason", "on a full disk"]);
        if kill {
            machine.kill()
        } else {
            machine.stop()
        }
        machine.spawn();
        wait_until("its doors are open", || TcpStream::connect(machine.ftp).is_ok());
        assert_eq!(gate(machine), "closed", "beyond a restart");
        assert!(is_short(machine, word));
        assert_eq!(upload(machine, "no.hl7", LARGE), 452);
        let held = machine.queue().iter().filter(|entry| entry["state"] == "held").count();
        assert_eq!((machine.queue().len(), held), (2, 1));
        machine.ok(&["queue", "verify"]);
    }
    machine.ok(&["gate", "clear"]);
    machine.ok(&["queue", "release", &ids[0]]);

    if filler.is_dir() {
        fs::remove_dir_all(filler).unwrap()
    } else {
        fs::remove_file(filler).unwrap()
    }
    wait_until("there is room", || !is_short(machine, word));
    assert_eq!((upload(machine, "small2.hl7", 10), upload(machine, "large2.hl7", LARGE)), (226, 226));
    machine.wait_until_none_is(&["ready", "active", "retrying", "held"], "all are processed");
    assert_eq!(files_below(&machine.data().join("delivered")).len(), 4);
    machine.ok(&["queue", "verify"]);
    machine.kill();
    machine.start();
    assert_eq!(machine.queue().len(), 4);
    assert_eq!(set_aside(machine), Vec::<PathBuf>::new(), "a full disk is no damage");
    let errors = machine.log().lines().filter(|line| line.contains("ERROR")).count();
    assert!(errors < 4, "{}", machine.log());
    machine.stop();
}

#[test]
fn without_a_byte_left_operators_are_served_and_nothing_is_taken_for_damage() {
    let mut machine = machine("64 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 4096);
    operators_are_served(&disk, &mut machine, "the disk is full", SmallDisk::fill);
}

#[test]
fn without_an_inode_left_operators_are_served_and_nothing_is_taken_for_damage() {
    let mut machine = machine("1 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 1024);
    operators_are_served(&disk, &mut machine, "inodes", SmallDisk::fill_inodes);
}

/// Bytes that are there in `dir` and below.
fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

#[test]
fn copies_for_processors_leave_the_journal_its_share_of_the_reserve() {
    const RESERVE: u64 = 24 << 20;
    let mut machine = machine("24 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 4096);
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let mut session = session(&machine);
    for number in 0..20 {
        assert_eq!(session.store(&format!("{number}.bin"), &vec![b'x'; 1 << 20]).code, 226);
    }
    let filler = disk.fill_but(RESERVE - (4 << 20));
    machine.ok(&["gate", "open", "--reason", "test"]);
    wait_until("deliveries stop", || {
        let paused = status(&machine)["queue"]["paused_routes"].clone();
        paused.as_array().unwrap().iter().any(|route| route["reason"].as_str().unwrap().contains("disk space"))
    });
    let left = free(&machine.data());
    assert!(left > RESERVE / 2 - (2 << 20), "{left} bytes are left of a reserve of {RESERVE}");
    let done = machine.queue().iter().filter(|entry| entry["state"] == "done").count();
    assert!(done > 0 && done < 20, "{done} were delivered");
    fs::remove_file(filler).unwrap();
    machine.wait_until_none_is(&["ready", "active", "retrying"], "the others are delivered");
    assert_eq!(files_below(&machine.data().join("delivered")).len(), 20);
    machine.stop();
}

/// What costs an inode is bounded as names are, also when the names are gone.
#[test]
fn large_files_without_a_name_and_partials_count_as_names() {
    const MOST: usize = 6;
    let mut machine = Machine::new(&format!("[policy]\nmax_names = {MOST}\n"));
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    // A client that goes away in the middle of each of its uploads.
    for number in 0..MOST * 2 {
        let mut session = session(&machine);
        let mut data = session.passive();
        session.send(format!("STOR cut{number}\r\n").as_bytes());
        assert_eq!(session.reply().code, 150);
        data.write_all(&[b'x'; 10]).unwrap();
        session.shutdown(std::net::Shutdown::Both);
        drop(data);
        let log = format!("name=\"cut{number}\"");
        wait_until("it is over", || machine.log().contains(&log));
        wait_until("its session is over", || status(&machine)["sessions"].as_array().unwrap().is_empty());
    }
    let partials = || files_below(&machine.data().join("partials"));
    wait_until("the partials are kept", || partials().len() == MOST);
    for partial in partials() {
        fs::remove_file(partial).unwrap();
    }
    // One that takes each name away as soon as it has been given.
    let mut session = session(&machine);
    for number in 0..MOST {
        assert_eq!(session.store(&format!("{number}.bin"), &[b'x'; LARGE]).code, 226);
        assert_eq!(session.command(&format!("DELE {number}.bin")).code, 250);
    }
    assert_eq!(session.store("more.bin", &[b'x'; LARGE]).code, 552);
    assert_eq!(session.store("small.hl7", b"MSH|").code, 226, "it costs none");
    assert_eq!(files_below(&machine.data().join("spool")).len(), MOST);
    machine.stop();
}
