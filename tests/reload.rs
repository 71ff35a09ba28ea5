//! What SIGHUP takes over from a changed configuration, without a session being lost.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::fs;

use harness::{
    Ftp,
    binary::{Machine, json_lines},
    ports::free_address,
    wait_until,
};
use rustix::process::Signal;

#[test]
fn limits_and_policies_hold_from_then_on_and_sessions_stay() {
    let mut machine = Machine::new("[limits]\nmax_sessions_per_partner = 1\nfirst_wait = \"1m\"\nfree_failures = 1\n");
    machine.start();
    machine.add_partner("Clinic", "secret");
    let connect = || Ftp::connect(machine.ftp);
    let mut first = connect();
    first.login("Clinic", "secret");
    assert!(connect().try_login("Clinic", "secret").is_err(), "one session is all there may be");

    let file = machine.path().join("forebay.toml");
    let before = fs::read_to_string(&file).unwrap();
    // A file with faults changes nothing.
    fs::write(&file, format!("{before}\nnonsense = 1\n").replace("partner = 1\n", "partner = 9\n")).unwrap();
    machine.signal(Signal::HUP);
    wait_until("the faults are told", || machine.log().contains("was not read again"));
    assert!(connect().try_login("Clinic", "secret").is_err());

    fs::write(&file, before.replace("partner = 1\n", "partner = 2\n") + "[policy]\nmax_file_size = \"10 B\"\n")
        .unwrap();
    machine.signal(Signal::HUP);
    wait_until("another session is let in", || connect().try_login("Clinic", "secret").is_ok());
    assert_eq!(first.store("small.hl7", b"12345678").code, 226, "the first session is still there");
    wait_until("the policy holds for it too", || machine.log().contains("policies and limits were read again"));
    assert_eq!(first.store("large.hl7", b"12345678901").code, 552);
    machine.stop();
}

#[test]
fn every_port_that_is_open_is_told() {
    let implicit = free_address();
    let mut machine = Machine::new("");
    let file = machine.path().join("forebay.toml");
    let config =
        fs::read_to_string(&file).unwrap().replace("[ftp]\n", &format!("[ftp]\nimplicit_listen = \"{implicit}\"\n"));
    fs::write(&file, config).unwrap();
    machine.start();
    let status = json_lines(&machine.ok(&["status", "--json"]));
    let doors = status[0]["server"]["doors"].as_array().unwrap();
    let told: Vec<_> =
        doors.iter().map(|door| (door["door"].as_str().unwrap(), door["address"].as_str().unwrap())).collect();
    let (ftp, ftps, web) = (machine.ftp.to_string(), implicit.to_string(), machine.web.to_string());
    for door in [("ftp", ftp.as_str()), ("ftps", ftps.as_str()), ("web", web.as_str())] {
        assert!(told.contains(&door), "{door:?} in {told:?}");
    }
    machine.add_partner("Clinic", "secret");
    Ftp::connect_implicit(implicit).login("Clinic", "secret");
}
