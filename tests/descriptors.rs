//! A server that has no descriptor left for more connections.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{fs, net::TcpStream, time::Duration};

use harness::{Ftp, binary::Machine, wait_until};

/// Connections that are open at once: more than there can be.
const MANY: usize = 200;

fn open_descriptors(machine: &Machine) -> usize {
    fs::read_dir(format!("/proc/{}/fd", machine.pid())).unwrap().count()
}

#[test]
fn operators_are_served_when_connections_have_taken_every_descriptor() {
    let mut machine = Machine::new("[limits]\nmax_connections_per_address = 1000\nlogin_grace = \"5m\"\n");
    machine.add_partner("clinic", "secret");
    machine.start();
    let idle = open_descriptors(&machine);
    machine.stop();
    // Forty more than it needs by itself.
    machine.starter = vec!["prlimit".to_owned(), format!("--nofile={0}:{0}", idle + 40)];
    machine.start();
    let status = machine.ok(&["status"]);
    assert!(status.contains("raise LimitNOFILE"), "{status}");

    let connections: Vec<_> = (0..MANY).filter_map(|_| TcpStream::connect(machine.ftp).ok()).collect();
    wait_until("connections are turned away", || machine.log().contains("turning connections away"));
    for _ in 0..20 {
        machine.ok(&["status"]);
        machine.ok(&["queue", "list"]);
    }
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    machine.ok(&["gate", "clear"]);
    let lines = machine.log().lines().filter(|line| line.contains("WARN")).count();
    assert!(lines < 10, "{}", machine.log());

    drop(connections);
    wait_until("there is room again", || {
        Ftp::try_connect(machine.ftp).is_ok_and(|mut session| {
            session.try_login("clinic", "secret").is_ok()
                && session.try_upload("STOR", "a.hl7", b"MSH|").is_ok_and(|reply| reply.code == 226)
        })
    });
    machine.stop();
}

/// Sessions that have got in take descriptors too: a data port each.
#[test]
fn data_ports_leave_the_last_descriptors_to_operators() {
    let mut machine = Machine::new("[limits]\nmax_connections_per_address = 1000\n");
    machine.add_partner("clinic", "secret");
    machine.start();
    let idle = open_descriptors(&machine);
    machine.stop();
    machine.starter = vec!["prlimit".to_owned(), format!("--nofile={0}:{0}", idle + 90)];
    machine.start();
    let mut sessions = Vec::new();
    while let Ok(mut session) = Ftp::try_connect(machine.ftp) {
        if session.try_login("clinic", "secret").is_err() {
            break;
        }
        sessions.push(session);
        assert!(sessions.len() < 100, "connections are never turned away");
    }
    assert!(sessions.len() > 16, "{}", sessions.len());
    let full = open_descriptors(&machine);
    // Room for some data ports, and not for those of all who are left.
    sessions.truncate(sessions.len() - 3);
    wait_until("their descriptors are free", || open_descriptors(&machine) <= full - 3);
    let replies: Vec<u16> = sessions.iter_mut().map(|session| session.command("EPSV").code).collect();
    assert_eq!(replies.first(), Some(&229), "{replies:?}");
    assert_eq!(replies.last(), Some(&425), "{replies:?}");
    for _ in 0..20 {
        machine.ok(&["status"]);
    }
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    drop(sessions);
    wait_until("there is room again", || {
        Ftp::try_connect(machine.ftp).is_ok_and(|mut session| {
            session.try_login("clinic", "secret").is_ok()
                && session.try_upload("STOR", "a.hl7", b"MSH|").is_ok_and(|reply| reply.code == 226)
        })
    });
    machine.stop();
}

#[test]
fn the_limit_is_raised_to_what_the_connections_need() {
    let mut machine = Machine::new("[limits]\nmax_connections = 100\n");
    machine.starter = vec!["prlimit".to_owned(), "--nofile=256:4096".to_owned()];
    machine.start();
    let limits = fs::read_to_string(format!("/proc/{}/limits", machine.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let soft: u64 = line.split_whitespace().nth(3).unwrap().parse().unwrap();
    assert!((600..4096).contains(&soft), "{line}");
    assert!(!machine.ok(&["status"]).contains("LimitNOFILE"));
    machine.stop();
}

/// Too few for a start at all: it says so, and what to do.
#[test]
fn a_start_with_too_few_descriptors_damages_nothing() {
    let mut machine = Machine::new("");
    machine.add_partner("clinic", "secret");
    machine.start();
    assert_eq!(upload(&machine, "a.hl7"), 226);
    machine.kill();
    machine.starter = vec!["prlimit".to_owned(), "--nofile=12:12".to_owned()];
    machine.spawn();
    assert!(!machine.ended(Duration::from_secs(60)).success());
    machine.starter.clear();
    machine.start();
    assert_eq!(machine.queue().len(), 1);
    let left: Vec<_> = fs::read_dir(machine.data()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(!left.iter().any(|name| name.to_string_lossy().contains("corrupt")), "{left:?}");
    machine.stop();
}

fn upload(machine: &Machine, name: &str) -> u16 {
    let mut session = Ftp::connect(machine.ftp);
    session.login("clinic", "secret");
    session.store(name, b"MSH|").code
}
