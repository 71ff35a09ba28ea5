//! One gate, three faces: what each of them says on the real server around the end of a window, second by second.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test ends where something is missing, and reads the machine's clock"
)]

mod harness;

use chrono::{DateTime, TimeDelta, Utc};
use harness::{
    Door,
    binary::{BOUND, Machine, http_get, json_lines},
    wait_until,
};

const SENTENCE: &str = "Service Unavailable. The server is temporarily unable to service your request due to maintenance downtime or capacity \
    problems. Please try again later.";

/// A look at one face.
#[derive(Debug)]
struct Look {
    face: &'static str,
    began: DateTime<Utc>,
    ended: DateTime<Utc>,
    is_closed: bool,
}

fn machine() -> Machine {
    let route = "[[route]]\nname = \"all\"\nprocessor = \"deliver\"\ndirectory = \"@DIR@/delivered\"\n";
    // A test asks more often than strangers may come.
    let mut machine = Machine::new(&format!("[limits]\nstartup_burst = 100000\n{route}"));
    machine.start();
    machine.add_partner("clinic", "secret");
    machine
}

/// The page, the service and what operators see, once each.
fn look(machine: &Machine) -> Vec<Look> {
    let at = |face, look: &dyn Fn() -> bool| {
        let began = Utc::now();
        let is_closed = look();
        Look { face, began, ended: Utc::now(), is_closed }
    };
    let web = |path: &str, accept: &str| {
        let told = http_get(machine.web, path, accept).expect("an answer");
        let is_closed = told.starts_with("HTTP/1.1 503 ");
        assert!(!is_closed || (told.contains(SENTENCE) && told.contains("\r\nretry-after: ")), "{told}");
        assert!(is_closed || told.starts_with("HTTP/1.1 200 ") || told.starts_with("HTTP/1.1 401 "), "{told}");
        is_closed
    };
    vec![
        at("page", &|| web("/", "text/html")),
        at("service", &|| web("/v1/files", "application/json")),
        at("operators", &|| json_lines(&machine.ok(&["status", "--json"]))[0]["gate"]["state"] != "open"),
    ]
}

/// The end of the closure, as the service tells it.
fn end(machine: &Machine) -> DateTime<Utc> {
    let told = http_get(machine.web, "/v1/files", "application/json").expect("an answer");
    let problem: serde_json::Value = serde_json::from_str(told.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    problem["until"].as_str().unwrap_or_else(|| panic!("{told}")).parse().unwrap()
}

/// Looks at all faces until each is open, and holds every look against the end: closed before it, open a second later.
fn turn(machine: &Machine) {
    let end = end(machine);
    let began = std::time::Instant::now();
    loop {
        let looks = look(machine);
        for look in &looks {
            // The end is told in whole seconds.
            assert!(
                look.is_closed || look.ended >= end - TimeDelta::seconds(1),
                "{} open before {end}: {look:?}",
                look.face
            );
            assert!(
                !look.is_closed || look.began <= end + TimeDelta::seconds(1),
                "{} closed after {end}: {look:?}",
                look.face
            );
        }
        if looks.iter().all(|look| !look.is_closed) {
            return;
        }
        assert!(began.elapsed() < BOUND, "it does not open");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
}

fn close(machine: &Machine, time: &str) {
    machine.ok(&["gate", "close", "--for", time, "--reason", "maintenance"]);
    assert!(look(machine).iter().all(|look| look.is_closed), "closed at once");
}

/// Files are accepted over FTP and SFTP while the web is closed, and what is always told is told.
fn accepts_meanwhile(machine: &Machine, names: &[String; 2]) {
    for (door, name) in [Door::Ftp, Door::Sftp].into_iter().zip(names) {
        let mut client = door.try_enter(machine.addresses(), "clinic", "secret").unwrap();
        client.put(name, b"some").unwrap();
    }
    for path in ["/healthz", "/readyz", "/maintenance.ics", "/calendar.ics"] {
        assert!(http_get(machine.web, path, "*/*").unwrap().starts_with("HTTP/1.1 200 "), "{path}");
    }
    assert!(!machine.path().join("delivered").join(&names[0]).exists());
}

#[test]
fn every_face_turns_with_the_gate_also_when_it_is_put_off_opened_or_started_again() {
    let mut machine = machine();
    let names = |what: &str| [format!("{what}-ftp.hl7"), format!("{what}-sftp.hl7")];
    close(&machine, "3s");
    accepts_meanwhile(&machine, &names("first"));
    turn(&machine);

    close(&machine, "3s");
    let first = end(&machine);
    machine.ok(&["gate", "extend", "--by", "4s", "--reason", "it takes longer"]);
    assert_eq!(end(&machine), first + TimeDelta::seconds(4));
    accepts_meanwhile(&machine, &names("extended"));
    turn(&machine);

    close(&machine, "1h");
    accepts_meanwhile(&machine, &names("opened"));
    machine.ok(&["gate", "open", "--reason", "done early"]);
    assert!(look(&machine).iter().all(|look| !look.is_closed), "open at once");

    close(&machine, "10s");
    let before = end(&machine);
    accepts_meanwhile(&machine, &names("restarted"));
    machine.kill();
    machine.start();
    assert_eq!(end(&machine), before);
    turn(&machine);

    wait_until("all is processed", || machine.queue().iter().all(|entry| entry["state"] == "done"));
    assert_eq!(machine.queue().len(), 8);
}
