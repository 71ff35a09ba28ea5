//! A data directory that the version before left behind when it was killed, with its intake log, its spool of small files
//! and its index: the real server takes it over, also when it is killed in the middle of that.
//!
//! In the fixture the partner `Clinic` (password `secret`) has sent `done.hl7`, which was processed; then, behind a closed
//! gate that has opened since, `in/0.hl7` to `in/5.hl7` and `large.hl7`. It renamed `in/5.hl7` to `renamed.hl7` and deleted
//! the name `in/4.hl7`. The server was killed while `cut.hl7` came.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command, thread, time::Duration};

use harness::{Ftp, binary::Machine, files_below, wait_until};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const FIXTURE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/data-of-the-version-before.tar.gz");

fn contents(number: usize) -> Vec<u8> {
    format!("MSH|{number}|\r").repeat(1 + number * 400).into_bytes()
}

/// A machine with that data directory, whose small files a power cut has damaged in the spool: they had not been synced.
fn machine() -> Machine {
    let machine = Machine::new("[[route]]\nname = \"all\"\n");
    let tar = Command::new("tar")
        .args(["--xattrs", "--xattrs-include=user.*", "--extract", "--gzip", "--no-same-owner", "--file", FIXTURE])
        .current_dir(machine.path())
        .status();
    assert!(tar.expect("tar is there").success());
    for (number, path) in files_below(&machine.data().join("spool")).iter().enumerate() {
        if fs::metadata(path).unwrap().len() <= 64 << 10 {
            as_a_power_cut_may_leave_it(path, number);
        }
    }
    machine
}

/// As a file that was named and never written back: the file system keeps the name, and what it likes of the rest.
fn as_a_power_cut_may_leave_it(path: &Path, number: usize) {
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
    let len = usize::try_from(fs::metadata(path).unwrap().len()).unwrap();
    match number % 4 {
        0 => fs::write(path, vec![0; len]).unwrap(),
        1 => fs::write(path, b"").unwrap(),
        2 => fs::remove_file(path).unwrap(),
        _ => {
            fs::remove_file(path).unwrap();
            fs::write(path, b"without metadata").unwrap();
        }
    }
}

fn assert_taken_over(machine: &mut Machine) {
    let mut session = Ftp::connect(machine.ftp);
    session.login("Clinic", "secret");
    for number in 0..4 {
        assert!(session.fetch(&format!("RETR in/{number}.hl7")).unwrap() == contents(number), "in/{number}.hl7");
    }
    assert!(session.fetch("RETR renamed.hl7").unwrap() == contents(5));
    assert!(session.fetch("RETR large.hl7").unwrap() == b"MSH|large\r".repeat(20_000));
    assert_eq!(session.command("SIZE in/4.hl7").code, 550, "its name was deleted");
    assert_eq!(session.store("new.hl7", &contents(7)).code, 226);
    let delivered = machine.data().join("delivered/Clinic");
    let wanted = ["in/0.hl7", "in/1.hl7", "in/2.hl7", "in/3.hl7", "in/4.hl7", "large.hl7", "new.hl7", "renamed.hl7"];
    wait_until("all but what was done are delivered", || wanted.iter().all(|name| delivered.join(name).exists()));
    assert!(!delivered.join("done.hl7").exists(), "it was processed before");
    assert!(fs::read(delivered.join("in/4.hl7")).unwrap() == contents(4));
    assert!(!machine.data().join("intake").exists(), "nothing depends on the intake log any more");
    assert!(fs::read_dir(machine.data().join("aside")).unwrap().next().is_none(), "nothing is set aside");
    machine.ok(&["queue", "verify"]);
    // The version before reads segments of version 1, and refuses a journal whose newest is of another.
    let segments = fs::read_dir(machine.data().join("journal")).unwrap().map(|one| one.unwrap().path());
    let newest = segments.filter(|path| path.extension().is_some_and(|end| end == "log")).max().unwrap();
    assert_eq!(fs::read(newest).unwrap()[8..12], 2u32.to_le_bytes());
    machine.stop();
}

#[test]
fn the_data_directory_of_the_version_before_is_taken_over() {
    let mut machine = machine();
    machine.start();
    assert_taken_over(&mut machine);
}

#[test]
fn it_is_taken_over_also_when_the_first_starts_are_killed() {
    let seed = rand::random();
    println!("seed {seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    for _ in 0..6 {
        let mut machine = machine();
        for _ in 0..3 {
            machine.spawn();
            // The moment of the kill is what is random here; nothing is waited for.
            thread::sleep(Duration::from_millis(random.random_range(0..120)));
            machine.kill();
        }
        machine.start();
        assert_taken_over(&mut machine);
    }
}
