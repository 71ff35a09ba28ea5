//! What is done to the server that nobody should do: signals in a row, a clock that was set back, readers that go away,
//! nonsense at the admin socket, names that would steer a terminal.
#![allow(clippy::disallowed_methods, clippy::expect_used, reason = "a test waits by the machine's clock, and may fail")]

mod harness;

use std::{
    fs,
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    time::Duration,
};

use harness::{
    Ftp,
    binary::{BOUND, FOREBAY, Machine, json_lines},
    wait_until,
};
use rustix::process::Signal;

const PASSWORD: &str = "correct horse battery staple";
const DELIVER: &str = "[[route]]\nname = \"all\"\nprocessor = \"deliver\"\ndirectory = \"@DIR@/delivered\"\n";

fn upload(machine: &Machine, name: &str) -> u16 {
    let mut ftp = Ftp::connect(machine.ftp);
    ftp.login("clinic", PASSWORD);
    ftp.store(name, b"MSH|").code
}

fn faketime() -> PathBuf {
    let found = fs::read_dir("/usr/lib").expect("/usr/lib").flatten();
    let mut found = found.map(|dir| dir.path().join("faketime/libfaketime.so.1"));
    found.find(|library| library.exists()).expect("libfaketime, which tests/run installs (Debian: faketime)")
}

fn status(machine: &Machine) -> serde_json::Value {
    json_lines(&machine.ok(&["status", "--json"])).remove(0)
}

#[test]
fn a_clock_set_back_a_year_closes_the_gate_until_it_is_confirmed_and_loses_nothing() {
    let mut machine = Machine::new(DELIVER);
    machine.add_partner("clinic", PASSWORD);
    machine.start();
    assert_eq!(upload(&machine, "before.hl7"), 226);
    machine.wait_queue("the first is done", |entries| entries.iter().all(|entry| entry["state"] == "done"));
    machine.stop();

    let library = faketime().display().to_string();
    machine.environment =
        vec![("LD_PRELOAD", library), ("FAKETIME", "-365d".into()), ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into())];
    machine.start();
    assert_eq!(upload(&machine, "after.hl7"), 226, "uploads are accepted");
    let said = status(&machine);
    assert_eq!(said["gate"]["state"], "closed", "{said}");
    assert!(said["needs"].to_string().contains("the clock is behind"), "{said}");
    assert!(machine.queue().iter().any(|entry| entry["name"] == "after.hl7" && entry["deferred"] == true));
    assert!(!machine.path().join("delivered/clinic/after.hl7").exists());

    machine.ok(&["gate", "confirm-clock"]);
    machine.wait_queue("both are done", |entries| {
        entries.len() == 2 && entries.iter().all(|entry| entry["state"] == "done")
    });
    assert_eq!(fs::read(machine.path().join("delivered/clinic/after.hl7")).expect("it is delivered"), b"MSH|");
}

#[test]
fn a_clock_set_ahead_opens_no_window_and_kills_no_failing_file_until_it_is_confirmed() {
    let mut machine = Machine::new(
        "[schedule]\nfile = \"maintenance.toml\"\n\n\
         [[route]]\nname = \"maintained\"\npaths = [\"*.hl7\"]\nprocessor = \"deliver\"\ndirectory = \"@DIR@/delivered\"\n\n\
         [[route]]\nname = \"failing\"\nprocessor = \"exec\"\ncommand = [\"/bin/false\"]\n\
         retry = { first = \"100ms\", max = \"200ms\", give_up_after = \"2h\" }\n\n[process]\npause_after = 1000\n",
    );
    let hour = |hours: i64| (chrono::Utc::now() + chrono::TimeDelta::hours(hours)).format("%Y-%m-%d %H:%M").to_string();
    machine.write(
        "maintenance.toml",
        &format!(
            "timezone = \"UTC\"\n\n[[window]]\nname = \"w\"\nroutes = [\"maintained\"]\nstart = \"{}\"\nend = \"{}\"\n",
            hour(-2),
            hour(2)
        ),
    );
    machine.add_partner("clinic", PASSWORD);
    machine.write("time", "+0");
    machine.environment = vec![
        ("LD_PRELOAD", faketime().display().to_string()),
        ("FAKETIME_TIMESTAMP_FILE", machine.path().join("time").display().to_string()),
        ("FAKETIME_NO_CACHE", "1".into()),
        ("FAKETIME_DONT_FAKE_MONOTONIC", "1".into()),
    ];
    machine.start();
    assert_eq!((upload(&machine, "a.hl7"), upload(&machine, "failing.csv")), (226, 226));
    let file = |machine: &Machine, name: &str| {
        machine.queue().into_iter().find(|entry| entry["name"] == name).expect("it is in the queue")
    };
    let attempts = |machine: &Machine| file(machine, "failing.csv")["attempts"].as_u64().expect("a number");
    wait_until("it fails", || attempts(&machine) >= 1);

    machine.write("time", "+3d");
    wait_until("the jump is seen", || status(&machine)["needs"].to_string().contains("the clock was set 3d forward"));
    for _ in 0..2 {
        let before = attempts(&machine);
        wait_until("it fails on", || attempts(&machine) > before);
    }
    assert_eq!(file(&machine, "failing.csv")["state"], "retrying", "it has not failed for days");
    let waits = file(&machine, "a.hl7");
    assert_eq!((&waits["state"], &waits["deferred"]), (&"ready".into(), &true.into()));
    // A restart knows of it.
    machine.stop();
    machine.start();
    assert_eq!(file(&machine, "a.hl7")["deferred"], true);
    assert!(!machine.path().join("delivered/clinic/a.hl7").exists());

    machine.ok(&["gate", "confirm-clock"]);
    wait_until("the window is over", || file(&machine, "a.hl7")["state"] == "done");
    wait_until("it has failed for days", || file(&machine, "failing.csv")["state"] == "dead");
}

#[test]
fn a_second_signal_stops_at_once_and_leaves_nothing_running() {
    let route = "[[route]]\nname = \"all\"\nprocessor = \"exec\"\n\
                 command = [\"/bin/sh\", \"-c\", \"trap '' TERM; echo $$ > @DIR@/child; while :; do sleep 1; done\"]\n";
    let mut machine = Machine::new(route);
    machine.add_partner("clinic", PASSWORD);
    machine.start();
    assert_eq!(upload(&machine, "a.hl7"), 226);
    let child = machine.path().join("child");
    let pid = || fs::read_to_string(&child).ok().and_then(|text| text.trim().parse::<u32>().ok());
    wait_until("the program runs", || pid().is_some());
    machine.signal(Signal::TERM);
    let log = machine.path().join("server.log");
    wait_until("it stops", || fs::read_to_string(&log).is_ok_and(|text| text.contains("a second signal")));
    machine.signal(Signal::TERM);
    // The first signal alone would take the grace of 20 s and the 10 s between TERM and KILL.
    let status = machine.ended(Duration::from_secs(10));
    assert_eq!(status.code(), Some(1), "{status}");
    let proc = PathBuf::from(format!("/proc/{}", pid().expect("it ran")));
    wait_until("the program is gone", || !proc.exists());

    machine.start();
    let entry = machine.queue().remove(0);
    assert_eq!((&entry["name"], &entry["attempts"]), (&"a.hl7".into(), &0.into()), "nothing counts against the file");
}

#[test]
fn a_reader_that_goes_away_ends_what_it_read_and_not_the_server() {
    let gone = |arguments: &[&str]| {
        let mut child = Command::new(FOREBAY)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("forebay starts");
        drop(child.stdout.take());
        child
    };
    let output = gone(&["completions", "bash"]).wait_with_output().expect("it ends");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));

    let mut machine = Machine::new(DELIVER);
    let config = machine.path().join("forebay.toml").display().to_string();
    let mut server = gone(&["serve", "--config", &config]);
    wait_until("it answers", || harness::binary::http_status(machine.web, "/readyz") == Some(200));
    assert!(server.try_wait().expect("can be asked").is_none(), "the server ended with its reader");
    assert_eq!(status(&machine)["running"], true);
    server.kill().expect("can be killed");
    server.wait().expect("can be waited for");
    machine.start();
}

#[test]
fn nonsense_at_the_admin_socket_harms_no_one() {
    let mut machine = Machine::new(DELIVER);
    machine.start();
    // A test's directory may be too long for a socket's address; the descriptor's is not.
    let dir = fs::File::open(machine.data()).expect("the data directory");
    let path = format!("/proc/self/fd/{}/admin.sock", std::os::fd::AsRawFd::as_raw_fd(&dir));
    let connect = || {
        let stream = UnixStream::connect(Path::new(&path)).expect("it listens");
        stream.set_read_timeout(Some(BOUND)).expect("a time-out");
        stream
    };
    let secret = fs::read_to_string(machine.data().join("admin.secret")).expect("the secret");
    let idle: Vec<_> = (0..40).map(|_| connect()).collect();
    for (line, told) in [
        (&b"\n"[..], "does not understand"),
        (b"GET / HTTP/1.1\r\n", "does not understand"),
        (b"\xff\x00\n", "does not understand"),
        (b"{\"verb\":\"status\"}\n", "does not understand"),
        (b"{\"secret\":\"guessed\",\"request\":{\"verb\":\"status\"}}\n", "admin.secret"),
        (b"{\"secret\":\"SECRET\",\"request\":{\"verb\":\"status\",\"more\":1}}\n", ""),
        (b"{\"secret\":\"SECRET\",\"request\":{\"verb\":\"queue_show\",\"id\":\"../../etc\"}}\n", "no file's id begins with"),
        (b"{\"secret\":\"SECRET\",\"request\":{\"verb\":\"gate_close\",\"routes\":[],\"end\":{\"after\":18446744073709551615},\"reason\":\"x\",\"message\":null,\"wait\":false}}\n", "longer than ten years"),
    ] {
        let mut stream = connect();
        let known = String::from_utf8(line.to_vec()).map(|line| line.replace("SECRET", secret.trim()).into_bytes());
        stream.write_all(&known.unwrap_or_else(|_| line.to_vec())).expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).expect("it answers and ends");
        assert!(text.contains(told) && !text.is_empty(), "{:?}: {text}", String::from_utf8_lossy(line));
    }
    let mut endless = connect();
    let piece = vec![b'x'; 1 << 20];
    // It stops reading at its bound, and the connection is closed on whoever goes on.
    let refused = (0..64).any(|_| endless.write_all(&piece).is_err());
    assert!(refused, "a line without an end was read on and on");
    assert_eq!(status(&machine)["gate"]["state"], "open");
    drop(idle);
}

#[test]
fn names_cannot_steer_who_reads_the_log() {
    let mut machine = Machine::new(DELIVER);
    machine.add_partner("clinic", PASSWORD);
    machine.start();
    let mut ftp = Ftp::connect(machine.ftp);
    ftp.login("clinic", PASSWORD);
    assert_eq!(ftp.store("turned\u{202e}4pm.exe", b"x").code, 553);
    assert_eq!(ftp.store("clear\u{1b}[2Jed", b"x").code, 553);
    let read = || fs::read_to_string(machine.path().join("server.log")).expect("a log");
    // Nothing waits for the log: its lines are written by a thread of their own.
    wait_until("both are in the log", || read().contains("turned") && read().contains("clear"));
    let log = read();
    assert!(!log.contains(['\u{202e}', '\u{1b}']), "{log}");
    let listed = machine.ok(&["queue", "list"]) + &machine.ok(&["audit"]);
    assert!(!listed.contains(['\u{202e}', '\u{1b}']), "{listed}");
}

#[test]
fn an_index_that_is_rubbish_is_made_anew_at_the_start() {
    let mut machine = Machine::new(DELIVER);
    machine.add_partner("clinic", PASSWORD);
    machine.start();
    machine.ok(&["gate", "close", "--reason", "to keep it waiting"]);
    assert_eq!(upload(&machine, "a.hl7"), 226);
    machine.kill();
    fs::write(machine.data().join("queue/db"), vec![0xa5; 1 << 20]).expect("rubbish");
    machine.start();
    let entries = machine.queue();
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert!(machine.ok(&["audit"]).contains("the index was made anew"));
    machine.ok(&["gate", "open", "--reason", "over"]);
    machine.wait_queue("it is done", |entries| entries.iter().all(|entry| entry["state"] == "done"));
}
