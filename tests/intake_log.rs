//! What a power cut leaves of small files that were accepted a moment before, and the real server that starts on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{fs, os::unix::fs::PermissionsExt, path::Path};

use harness::{Ftp, binary::Machine, files_below, wait_until};

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

#[test]
fn files_of_the_last_moment_are_whole_in_the_spool_in_the_view_and_where_they_go() {
    is_whole_again(|_| {});
}

/// A look at the queue puts the spool right, and the start after it has nothing left that would say so.
#[test]
fn they_are_so_too_when_the_spool_was_put_right_by_another_command() {
    is_whole_again(|machine| drop(machine.ok(&["queue", "list"])));
}

fn is_whole_again(between: impl Fn(&Machine)) {
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
    let spooled = files_below(&machine.data().join("spool"));
    assert_eq!(spooled.len(), 40);
    for (number, path) in spooled.iter().enumerate() {
        as_a_power_cut_may_leave_it(path, number);
    }

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
    wait_until("all are delivered", || files_below(&delivered).len() == 40);
    let mut there: Vec<_> = files_below(&delivered).iter().map(|path| fs::read(path).unwrap()).collect();
    let mut expected: Vec<_> = (0..40).map(contents).collect();
    there.sort();
    expected.sort();
    assert!(there == expected);
    assert!(fs::read_dir(machine.data().join("aside")).unwrap().next().is_none(), "nothing is set aside");
    machine.ok(&["queue", "verify"]);
    machine.stop();
}
