//! What ends with an account's password, key, place or name: the sessions that came in by it, and what the next one of
//! that name would see.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Child, Command, Stdio},
};

use harness::{
    Ftp,
    binary::{Machine, json_lines},
    files_below,
    sftp_client::Sftp,
    wait_until,
};
use rustix::process::Signal;

const PASSWORD: &str = "secret";

fn running() -> Machine {
    let mut machine = Machine::new("");
    machine.add_partner("Clinic", PASSWORD);
    machine.add_partner("lab", PASSWORD);
    machine.start();
    machine
}

fn login(machine: &Machine, name: &str, password: &str) -> Ftp {
    let mut ftp = Ftp::connect(machine.ftp);
    ftp.login(name, password);
    ftp
}

/// The partners of the sessions that are there.
fn sessions(machine: &Machine) -> Vec<String> {
    let mut all: Vec<_> = json_lines(&machine.ok(&["sessions", "--json"]))
        .iter()
        .map(|session| format!("{} {}", session["partner"].as_str().unwrap(), session["door"].as_str().unwrap()))
        .collect();
    all.sort();
    all
}

fn wait_sessions(machine: &Machine, wanted: &[&str]) {
    wait_until("the sessions are as they should be", || sessions(machine) == wanted);
}

fn make_key(machine: &Machine, name: &str) -> String {
    let path = machine.path().join(name);
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&path).status();
    assert!(made.expect("tests/run installs ssh-keygen").success());
    path.display().to_string()
}

/// OpenSSH's client, logged in by a key and waiting for commands.
fn by_key(machine: &Machine, key: &str) -> Child {
    let mut command = Command::new("sftp");
    command.args(["-i", key, "-P", &machine.sftp.port().to_string()]);
    for option in ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "IdentitiesOnly=yes", "BatchMode=yes"] {
        command.args(["-o", option]);
    }
    command.arg("Clinic@127.0.0.1").stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null());
    let mut child = command.spawn().expect("tests/run installs sftp");
    child.stdin.as_mut().unwrap().write_all(b"pwd\n").unwrap();
    let mut out = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    while !line.contains("working directory") {
        line.clear();
        assert!(out.read_line(&mut line).unwrap() > 0, "it came in: {}", machine.log());
    }
    child
}

fn ends(child: &mut Child) {
    wait_until("the client ends", || child.try_wait().unwrap().is_some());
}

#[test]
fn a_new_password_ends_the_sessions_that_came_in_by_the_old_one_and_no_other() {
    let machine = running();
    let key = make_key(&machine, "id");
    machine.ok(&["partner", "key", "add", "Clinic", &format!("{key}.pub")]);
    let mut ftp = login(&machine, "Clinic", PASSWORD);
    let sftp = Sftp::login(machine.sftp, "Clinic", PASSWORD).unwrap();
    let mut other = login(&machine, "lab", PASSWORD);
    let mut keyed = by_key(&machine, &key);
    wait_sessions(&machine, &["Clinic ftp", "Clinic sftp", "Clinic sftp", "lab ftp"]);
    let changed = machine.cli_with(&["partner", "passwd", "Clinic", "--password-stdin"], "another");
    let told = String::from_utf8(changed.stdout).unwrap();
    assert_eq!(told.matches("ended").count(), 2, "{told}");
    assert_eq!(ftp.reply().code, 421);
    wait_sessions(&machine, &["Clinic sftp", "lab ftp"]);
    drop(sftp);
    assert_eq!(other.store("a.hl7", b"goes on").code, 226);
    assert!(keyed.try_wait().unwrap().is_none(), "who came in by a key has nothing to do with it");
    assert!(Ftp::connect(machine.ftp).try_login("Clinic", PASSWORD).is_err());
    login(&machine, "Clinic", "another");
    assert!(machine.ok(&["audit"]).contains("what it came in by holds no more"));
    drop(keyed.stdin.take());
    ends(&mut keyed);
}

#[test]
fn a_key_that_is_removed_ends_the_sessions_that_came_in_by_it_and_no_other() {
    let machine = running();
    let (one, other) = (make_key(&machine, "one"), make_key(&machine, "other"));
    for key in [&one, &other] {
        machine.ok(&["partner", "key", "add", "Clinic", &format!("{key}.pub")]);
    }
    let mut ftp = login(&machine, "Clinic", PASSWORD);
    let (mut by_one, mut by_other) = (by_key(&machine, &one), by_key(&machine, &other));
    let listed = json_lines(&machine.ok(&["partner", "key", "list", "Clinic", "--json"]));
    let fingerprint = listed[0]["fingerprint"].as_str().unwrap();
    machine.ok(&["partner", "key", "remove", "Clinic", fingerprint]);
    wait_sessions(&machine, &["Clinic ftp", "Clinic sftp"]);
    // The client notices when it is to do something.
    drop(by_one.stdin.take());
    ends(&mut by_one);
    assert!(by_other.try_wait().unwrap().is_none());
    assert_eq!(ftp.store("a.hl7", b"goes on").code, 226);
    drop(by_other.stdin.take());
    ends(&mut by_other);
}

/// Whoever asked may be gone before the answer, as with ^C.
#[test]
fn sessions_end_also_when_nobody_waits_for_the_answer() {
    let machine = running();
    let key = make_key(&machine, "one");
    machine.ok(&["partner", "key", "add", "Clinic", &format!("{key}.pub")]);
    let mut session = by_key(&machine, &key);
    let listed = json_lines(&machine.ok(&["partner", "key", "list", "Clinic", "--json"]));
    let secret = fs::read_to_string(machine.data().join("admin.secret")).unwrap();
    let request = serde_json::json!({
        "secret": secret.trim(),
        "request": { "verb": "partner_key_remove", "name": "Clinic", "fingerprint": listed[0]["fingerprint"] },
    });
    // A test's directory may be too long for a socket's address; the descriptor's is not.
    let dir = fs::File::open(machine.data()).unwrap();
    let path = format!("/proc/self/fd/{}/admin.sock", std::os::fd::AsRawFd::as_raw_fd(&dir));
    let mut stream = std::os::unix::net::UnixStream::connect(path).unwrap();
    stream.write_all(format!("{request}\n").as_bytes()).unwrap();
    drop(stream);
    wait_sessions(&machine, &[]);
    drop(session.stdin.take());
    ends(&mut session);
}

#[test]
fn a_place_that_is_allowed_no_more_ends_the_sessions_from_there() {
    let machine = running();
    let mut ftp = login(&machine, "Clinic", PASSWORD);
    let mut other = login(&machine, "lab", PASSWORD);
    let file = machine.path().join("forebay.toml");
    let before = fs::read_to_string(&file).unwrap();
    machine
        .write("forebay.toml", &format!("{before}\n[[partner]]\nname = \"clinic\"\nallow_from = [\"10.0.0.0/8\"]\n"));
    machine.signal(Signal::HUP);
    assert_eq!(ftp.reply().code, 421);
    wait_sessions(&machine, &["lab ftp"]);
    assert_eq!(other.store("a.hl7", b"goes on").code, 226);
}

#[test]
fn a_name_that_is_given_away_again_shows_nothing_of_its_former_partner() {
    let machine = running();
    let mut ftp = login(&machine, "Clinic", PASSWORD);
    assert_eq!(ftp.store("patients.hl7", b"MSH|").code, 226);
    machine.wait_until_none_is(&["ready", "active"], "it is processed");
    wait_until("its receipt is there", || ftp.list("out").iter().any(|line| line.contains("patients.hl7")));
    let receipt = {
        let line = ftp.list("out").into_iter().find(|line| line.contains("patients.hl7")).unwrap();
        line.split_whitespace().last().unwrap().to_owned()
    };
    // Bytes of an upload that is under way when the account goes, and that is cut by that.
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR more.hl7").code, 150);
    data.write_all(&[b'x'; 600_000]).unwrap();
    let moved = || json_lines(&machine.ok(&["sessions", "--json"]))[0]["bytes"].as_u64().unwrap() >= 500_000;
    wait_until("some came", moved);
    // However the operator writes the name.
    let told = machine.ok(&["partner", "remove", "CLINIC"]);
    assert!(told.contains("of Clinic from") && told.contains(" ended"), "{told}");
    assert!(sessions(&machine).is_empty(), "its sessions ended");
    drop((ftp, data));

    let add = |more: &[&str]| {
        let arguments = [&["partner", "add", "Clinic", "--password-stdin"], more].concat();
        machine.cli_with(&arguments, "new")
    };
    let refused = add(&[]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(1) && told.contains("was removed at") && told.contains("--take-over"),
        "{told}"
    );
    assert!(add(&["--take-over"]).status.success());
    let mut next = login(&machine, "Clinic", "new");
    let shown = [next.list(""), next.list("out")].concat();
    assert!(!shown.iter().any(|line| line.contains(".hl7")), "{shown:?}");
    for name in ["patients.hl7", "more.hl7", &format!("out/{receipt}")] {
        assert_eq!(next.command(&format!("SIZE {name}")).code, 550, "{name}");
        assert!(next.fetch(&format!("RETR {name}")).is_err(), "{name}");
    }
    // Nothing is there to go on with.
    assert_eq!(next.upload("APPE", "more.hl7", b"of mine").code, 226);
    machine.wait_until_none_is(&["ready", "active"], "it is processed");
    let queue = machine.queue();
    let own = queue.iter().find(|entry| entry["name"] == "more.hl7").unwrap();
    assert_eq!(own["size"].as_u64().or(own["size_bytes"].as_u64()), Some(7), "{own}");
    wait_until("its own receipt is there", || next.list("out").iter().any(|line| line.contains("more.hl7")));
    // The operators still have what was sent.
    assert!(queue.iter().any(|entry| entry["name"] == "patients.hl7"));
}

/// What comes of an upload that is cut by its partner's removal is put away with the rest, however long it takes to be kept.
#[test]
fn nothing_of_an_upload_outlives_the_removal_that_cuts_it() {
    let machine = running();
    for round in 0..6 {
        let name = format!("clinic{round}");
        machine.add_partner(&name, PASSWORD);
        let mut ftp = login(&machine, &name, PASSWORD);
        let mut data = ftp.passive();
        assert_eq!(ftp.command("STOR large.bin").code, 150);
        data.write_all(&vec![b'x'; 12 << 20]).unwrap();
        let moved = || json_lines(&machine.ok(&["sessions", "--json"]))[0]["bytes"].as_u64().unwrap() >= 11 << 20;
        wait_until("some came", moved);
        machine.ok(&["partner", "remove", &name]);
        drop((ftp, data));
        let left = files_below(&machine.data().join("partials"));
        assert!(left.is_empty(), "round {round}: {left:?}");
    }
}

/// What a removed partner has left is not charged to the next one of that name, and what that one sends is no second copy of
/// it.
#[test]
fn the_next_partner_of_a_name_has_a_quota_and_figures_of_its_own() {
    let mut machine = Machine::new("[policy]\nquota = \"1 MiB\"\n");
    machine.add_partner("clinic", PASSWORD);
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let bytes = vec![b'x'; 900 << 10];
    let mut ftp = login(&machine, "clinic", PASSWORD);
    assert_eq!((ftp.store("a.bin", &bytes).code, ftp.store("b.bin", &bytes).code), (226, 552));
    machine.ok(&["partner", "remove", "clinic"]);
    drop(ftp);
    assert!(machine.cli_with(&["partner", "add", "clinic", "--password-stdin", "--take-over"], "new").status.success());
    let unprocessed =
        |machine: &Machine| json_lines(&machine.ok(&["partner", "list", "--json"]))[0]["unprocessed_bytes"].as_u64();
    let figures = |machine: &Machine| -> Vec<(bool, u64)> {
        let stats = json_lines(&machine.ok(&["queue", "stats", "--json"])).remove(0);
        let each = stats["partners"].as_array().unwrap().iter();
        each.map(|count| (count["former"] == true, count["files"].as_u64().unwrap())).collect()
    };
    assert_eq!((unprocessed(&machine), figures(&machine)), (Some(0), vec![(true, 1)]));
    let mut next = login(&machine, "clinic", "new");
    assert_eq!((next.store("a.bin", &bytes).code, next.store("b.bin", &bytes).code), (226, 552), "its whole quota");
    assert_eq!((unprocessed(&machine), figures(&machine)), (Some(900 << 10), vec![(false, 1), (true, 1)]));
    assert!(machine.ok(&["queue", "stats"]).contains("clinic (removed)"));
    drop(next);
    machine.kill();
    machine.start();
    assert_eq!(
        (unprocessed(&machine), figures(&machine)),
        (Some(900 << 10), vec![(false, 1), (true, 1)]),
        "after a restart"
    );
    machine.ok(&["gate", "clear"]);
    machine.wait_until_none_is(&["ready", "active"], "all are processed");
    let states: Vec<_> = machine.queue().iter().map(|entry| entry["state"].as_str().unwrap().to_owned()).collect();
    assert_eq!(states, ["done", "done"], "the same name and bytes, of two partners");
    assert_eq!(unprocessed(&machine), Some(0));
}
