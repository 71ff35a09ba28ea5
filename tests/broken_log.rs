//! A log that cannot be written: on a full disk, with a reader that is gone, with one that stands still. Nothing of what
//! the server promises may depend on it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{fs, io::Write as _, process::Stdio, time::Duration};

use harness::{Ftp, binary::Machine, wait_until};
use serde_json::Value;

fn machine() -> Machine {
    let machine = Machine::new("");
    machine.add_partner("clinic", "secret");
    machine
}

fn session(machine: &Machine) -> Ftp {
    let mut session = Ftp::connect(machine.ftp);
    session.login("clinic", "secret");
    session
}

fn log_state(machine: &Machine) -> Value {
    let status: Value = serde_json::from_str(&machine.ok(&["status", "--json"])).unwrap();
    status["log"].clone()
}

fn names(machine: &Machine) -> Vec<String> {
    let mut names: Vec<_> = machine.queue().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
    names.sort();
    names
}

#[test]
fn a_server_whose_log_finds_no_room_serves_all_the_same() {
    let mut machine = machine();
    machine.spawn_logging_to(fs::File::options().write(true).open("/dev/full").unwrap().into());
    machine.wait_ready();
    assert_eq!(session(&machine).store("a.hl7", b"MSH|").code, 226);
    wait_until("it is known to be broken", || log_state(&machine)["broken"] == true);
    assert!(log_state(&machine)["why"].as_str().unwrap().contains("No space left"));
    let status = machine.ok(&["status"]);
    assert!(status.contains("the server's log cannot be written"), "{status}");
    machine.wait_until_none_is(&["ready", "active", "retrying"], "it is processed");
    assert_eq!(names(&machine), ["a.hl7"]);
    machine.stop();
}

#[test]
fn a_start_that_fails_says_so_by_its_exit_code() {
    let mut machine = machine();
    machine.write("data/gate/state.json", "damaged");
    machine.spawn_logging_to(fs::File::options().write(true).open("/dev/full").unwrap().into());
    assert_eq!(machine.ended(Duration::from_secs(60)).code(), Some(1));
}

#[test]
fn an_open_session_goes_on_when_the_reader_of_the_log_dies() {
    let mut machine = machine();
    machine.spawn_logging_to(Stdio::piped());
    machine.wait_ready();
    let mut session = session(&machine);
    assert_eq!(session.store("before.hl7", b"MSH|").code, 226);
    drop(machine.standard_error());
    for number in 0..5 {
        assert_eq!(session.store(&format!("{number}.hl7"), b"MSH|").code, 226);
    }
    wait_until("it is known to be broken", || log_state(&machine)["broken"] == true);
    machine.wait_until_none_is(&["ready", "active", "retrying"], "all are processed");
    assert_eq!(names(&machine), ["0.hl7", "1.hl7", "2.hl7", "3.hl7", "4.hl7", "before.hl7"]);
    machine.stop();
}

/// Its pipe is full, and every write of the log waits for ever.
#[test]
fn nobody_waits_for_a_reader_of_the_log_that_stands_still() {
    let mut machine = machine();
    let (reader, mut writer) = std::io::pipe().unwrap();
    // All that a pipe takes.
    writer.write_all(&[b'\n'; 64 << 10]).unwrap();
    machine.spawn_logging_to(writer.into());
    machine.wait_ready();
    let mut session = session(&machine);
    for number in 0..60 {
        assert_eq!(session.store(&format!("{number:02}.hl7"), b"MSH|").code, 226);
    }
    machine.wait_until_none_is(&["ready", "active", "retrying"], "all are processed");
    assert_eq!(names(&machine).len(), 60);
    assert_eq!(log_state(&machine)["lost_lines"], 0, "they wait in memory as long as there are few");
    machine.stop();
    drop(reader);
}
