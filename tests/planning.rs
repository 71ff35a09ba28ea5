//! Planning: what is said of closures to come, when the schedule's file is not what is in force.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::{fs, path::PathBuf, process::Output};

use harness::{
    binary::{Machine, json_lines},
    wait_until,
};

const SCHEDULE: &str = "[schedule]\nfile = \"maintenance.toml\"\n";
const GOOD: &str = "timezone = \"America/Chicago\"\n[[window]]\nname = \"Patching\"\nstart = \"2026-01-03 02:00\"\n\
                    duration = \"1h\"\nrepeat = \"FREQ=DAILY\"\n";
const BROKEN: &str = "timezone = \"America/Chicago\"\n[[window]]\nname = \"Patching\"\n";
const SIMULATE: [&str; 6] = ["gate", "simulate", "--from", "1h", "--to", "10d"];

fn printed(output: &Output) -> (String, String) {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (text(&output.stdout), text(&output.stderr))
}

#[test]
fn a_schedule_that_never_was_good_is_no_open_gate_in_a_plan() {
    let mut machine = Machine::new(SCHEDULE);
    machine.write("maintenance.toml", BROKEN);
    machine.start();
    for arguments in [&SIMULATE[..], &["gate", "list"]] {
        let output = machine.cli(arguments);
        let (out, error) = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{out}{error}");
        let mut lines = out.lines();
        let first = lines.next().unwrap();
        assert!(first.contains("maintenance.toml is refused since") && first.contains("window[0].start"), "{out}");
        assert!(lines.next().unwrap().starts_with("in force: no schedule, so everything is closed"), "{out}");
        assert!(!out.contains("open all that time") && !out.contains("no window comes"), "{out}");
        assert!(error.contains("not of the file as it is"), "{error}");
    }
    let (out, _) = printed(&machine.cli(&SIMULATE));
    assert!(out.contains("The schedule is broken") && out.contains("until it is opened"), "{out}");
    // An operator opens it though: then the plan says so.
    machine.ok(&["gate", "open", "--reason", "we know"]);
    let output = machine.cli(&SIMULATE);
    let (out, _) = printed(&output);
    assert!(output.status.code() == Some(1) && !out.contains("The schedule is broken"), "{out}");
}

#[test]
fn a_refused_edit_is_told_before_the_plan_that_is_made_without_it() {
    let mut machine = Machine::new(SCHEDULE);
    machine.write("maintenance.toml", GOOD);
    machine.start();
    assert!(machine.ok(&SIMULATE).contains("Patching"));
    machine.write("maintenance.toml", BROKEN);
    wait_until("the edit is refused", || machine.ok(&["gate", "status"]).contains("broken since"));
    for arguments in [&SIMULATE[..], &["gate", "list"]] {
        let output = machine.cli(arguments);
        let (out, error) = printed(&output);
        assert_eq!(output.status.code(), Some(1), "{out}{error}");
        let lines: Vec<_> = out.lines().collect();
        assert!(lines[0].contains("is refused since") && lines[1].contains("the last good schedule"), "{out}");
        assert!(lines[1].ends_with("with 1 window") && out.contains("Patching"), "{out}");
    }
    let output = machine.cli(&["gate", "list", "--json"]);
    let objects = json_lines(&printed(&output).0);
    assert!(objects[0]["plan"]["schedule"] == true && objects[1]["name"] == "Patching", "{objects:#?}");
    // The good one again: nothing is left to say.
    machine.write("maintenance.toml", GOOD);
    wait_until("it is good again", || machine.cli(&["gate", "list"]).status.success());
    // Without the server the same is said.
    machine.write("maintenance.toml", BROKEN);
    machine.stop();
    let output = machine.cli(&SIMULATE);
    assert!(output.status.code() == Some(1) && printed(&output).0.contains("is refused since"), "{output:?}");
}

#[test]
fn an_edit_that_waits_to_stand_still_is_told_too() {
    let mut machine = Machine::new(SCHEDULE);
    machine.write("maintenance.toml", GOOD);
    machine.start();
    let told = || printed(&machine.cli(&SIMULATE)).0.contains("waits until the file has stood still");
    let mut hour = 3;
    // Two seconds pass before it is in force: it is seen to wait, however slow this machine is, in one of the edits.
    wait_until("a change waits", || {
        hour = if hour == 3 { 4 } else { 3 };
        machine.write("maintenance.toml", &GOOD.replace("02:00", &format!("0{hour}:00")));
        (0..20).any(|_| told())
    });
    wait_until("it is in force", || machine.cli(&SIMULATE).status.success());
}

fn faketime() -> PathBuf {
    let found = fs::read_dir("/usr/lib").expect("libraries").flatten();
    let mut found = found.map(|dir| dir.path().join("faketime/libfaketime.so.1"));
    found.find(|library| library.exists()).expect("libfaketime, which tests/run installs (Debian: faketime)")
}

#[test]
fn a_clock_that_is_not_trusted_is_part_of_the_plan() {
    let mut machine = Machine::new(SCHEDULE);
    machine.write("maintenance.toml", "timezone = \"America/Chicago\"\n");
    // The clock of the second start is two days behind the journal's newest record.
    let fake = |offset: &str| {
        let library = faketime().display().to_string();
        vec![("LD_PRELOAD", library), ("FAKETIME", offset.into()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into())]
    };
    machine.start();
    machine.stop();
    machine.environment = fake("-2d");
    machine.start();
    assert!(machine.ok(&["gate", "status"]).contains("closed"));
    let plan = machine.ok(&SIMULATE);
    assert!(plan.contains("The clock is not trusted"), "{plan}");
    machine.ok(&["gate", "confirm-clock"]);
    assert!(machine.ok(&SIMULATE).contains("open all that time"));
}
