//! Small files, which have no spool file: what a killed server leaves of those that were accepted a moment before, and the
//! real server that starts on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::fs;

use harness::{Ftp, binary::Machine, files_below, wait_until};

#[test]
fn files_of_the_last_moment_are_whole_in_the_view_and_where_they_go() {
    are_whole_after(|_| {});
}

#[test]
fn they_are_so_too_when_another_command_looked_in_between() {
    are_whole_after(|machine| drop(machine.ok(&["queue", "list"])));
}

#[test]
fn they_are_so_too_without_the_index() {
    are_whole_after(|machine| fs::remove_dir_all(machine.data().join("queue")).unwrap());
}

fn are_whole_after(between: impl Fn(&Machine)) {
    let mut machine = Machine::new("");
    machine.start();
    machine.add_partner("Clinic", "secret");
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let mut session = Ftp::connect(machine.ftp);
    session.login("Clinic", "secret");
    let contents = |number: usize| format!("MSH|^~\\&|{number}\r").repeat(1 + number * 50).into_bytes();
    for number in 0..40 {
        assert_eq!(session.store(&format!("{number}.hl7"), &contents(number)).code, 226);
    }
    machine.kill();
    assert_eq!(files_below(&machine.data().join("spool")).len(), 0, "each costs one append and no inode");

    between(&machine);
    machine.start();
    let mut session = Ftp::connect(machine.ftp);
    session.login("Clinic", "secret");
    for number in 0..40 {
        let fetched = session.fetch(&format!("RETR {number}.hl7")).unwrap();
        assert!(fetched == contents(number), "{number}.hl7 in the view: {} bytes", fetched.len());
    }
    machine.ok(&["gate", "open", "--reason", "test"]);
    let delivered = machine.data().join("delivered");
    // Without those that are just being copied.
    let files = || {
        let mut files = files_below(&delivered);
        files.retain(|path| path.extension().is_some_and(|end| end == "hl7"));
        files
    };
    wait_until("all are delivered", || files().len() == 40);
    let mut there: Vec<_> = files().iter().map(|path| fs::read(path).unwrap()).collect();
    let mut expected: Vec<_> = (0..40).map(contents).collect();
    there.sort();
    expected.sort();
    assert!(there == expected);
    assert!(fs::read_dir(machine.data().join("aside")).unwrap().next().is_none(), "nothing is set aside");
    machine.ok(&["queue", "verify"]);
    machine.stop();
}
