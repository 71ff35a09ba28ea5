//! What keeps secrets and partners' bytes from others of the same machine, and from who has stolen a password.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says so by failing")]

mod harness;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
};

use harness::{
    Ftp,
    binary::Machine,
    sftp_client::{Sftp, TO_GO_ON, TO_READ},
};

const PASSWORD: &str = "correct horse battery staple";

/// Asks what a program of the same user can: the memory of the server, its environment, its open files.
const CURIOUS: &str = "[[route]]\nname = \"all\"\nprocessor = \"exec\"\ncommand = [\"/bin/sh\", \"-c\", '''\n\
    for what in mem environ maps; do head -c 1 /proc/$PPID/$what >/dev/null 2>&1 && echo $what >> @DIR@/seen; done\n\
    ls /proc/$PPID/fd/ >/dev/null 2>&1 && echo fd >> @DIR@/seen\n\
    head -c 1 /proc/$$/environ >/dev/null && echo own >> @DIR@/seen\n''']\n";

#[test]
fn a_program_of_a_route_cannot_look_into_the_server() {
    let mut machine = Machine::new(CURIOUS).with_its_own_user();
    machine.add_partner("clinic", PASSWORD);
    machine.start();
    let mut ftp = Ftp::connect(machine.ftp);
    ftp.login("clinic", PASSWORD);
    assert_eq!(ftp.store("a.hl7", b"MSH|").code, 226);
    machine.wait_queue("it is done", |entries| entries.iter().all(|entry| entry["state"] == "done"));
    // Root may look everywhere; the rest of the tests say what holds there.
    assert_eq!(fs::read_to_string(machine.path().join("seen")).unwrap(), "own\n");
    // It reads its own descriptors by /proc all the same: the admin socket is reached through one.
    assert!(machine.ok(&["status"]).contains("running"));
    machine.stop();
}

#[test]
fn a_data_directory_that_others_can_enter_is_a_fault_at_the_check_and_at_the_start() {
    let mut machine = Machine::new("");
    machine.start();
    machine.stop();
    for mode in [0o750, 0o701, 0o1704] {
        fs::set_permissions(machine.data(), fs::Permissions::from_mode(mode)).unwrap();
        for verb in ["check", "serve"] {
            let output = machine.cli(&[verb]);
            let said = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert_eq!(output.status.code(), Some(1), "{verb} with {mode:o}: {said}");
            let line = format!("chmod 0700 {}", machine.data().display());
            assert!(said.contains(&line) && said.contains(&format!("{mode:04o}")), "{verb} with {mode:o}: {said}");
        }
    }
    fs::set_permissions(machine.data(), fs::Permissions::from_mode(0o700)).unwrap();
    assert!(machine.ok(&["check"]).contains("no faults"));
    machine.start();
}

#[test]
fn private_keys_that_every_user_can_read_are_warned_of() {
    let machine = Machine::new("");
    let key = machine.path().join("host_key");
    fs::write(&key, "a key").unwrap();
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    let named = format!("[sftp]\nhost_keys = [{key:?}]\n");
    machine.write("forebay.toml", &config.replace("[sftp]\n", &named).replace("host_key_algorithms", "#"));
    for (mode, told) in [(0o644, true), (0o640, false), (0o600, false)] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let said = String::from_utf8(machine.cli(&["check"]).stdout).unwrap();
        assert_eq!(said.contains("every user can read this private key"), told, "{mode:o}: {said}");
    }
}

#[test]
fn who_may_not_download_gets_no_bytes_by_any_door() {
    let mut machine = Machine::new("[[partner]]\nname = \"clinic\"\ndownload = false\n");
    for partner in ["clinic", "other"] {
        machine.add_partner(partner, PASSWORD);
    }
    machine.start();
    for (partner, may) in [("clinic", false), ("other", true)] {
        let mut ftp = Ftp::connect(machine.ftp);
        ftp.login(partner, PASSWORD);
        assert_eq!(ftp.store("a.hl7", b"MSH|").code, 226);
        machine.wait_queue("it is done", |entries| entries.iter().all(|entry| entry["state"] == "done"));
        // Clients look whether their upload has arrived.
        assert_eq!(ftp.list(""), ["a.hl7"], "{partner}");
        assert_eq!(ftp.command("SIZE a.hl7").text.trim(), "213 4", "{partner}");
        let receipt = format!("out/{}", ftp.list("out").iter().find(|name| name.contains("a.hl7")).expect("a receipt"));
        for name in ["a.hl7", &receipt] {
            let got = ftp.fetch(&format!("RETR {name}"));
            assert_eq!(got.is_ok(), may, "{partner}: {name}");
            assert!(may || got.is_err_and(|reply| reply.code == 550), "{partner}: {name}");
            let codes = ["XMD5", "XCRC", "XSHA1"].map(|verb| ftp.command(&format!("{verb} {name}")).code);
            assert!(may || codes.iter().all(|code| *code >= 500), "{partner}: {name}: {codes:?}");
        }
        let mut sftp = Sftp::login(machine.sftp, partner, PASSWORD).unwrap();
        for name in ["a.hl7", &receipt] {
            assert_eq!(sftp.open(name, TO_READ).is_ok(), may, "{partner}: {name}");
        }
        assert!(may || sftp.open("a.hl7", TO_READ).is_err_and(|answer| answer.code() == 3), "permission denied");
        // What goes on where the file ends is written, never read.
        if let Ok(handle) = sftp.open("a.hl7", TO_READ | TO_GO_ON) {
            assert_eq!(sftp.read(&handle, 0, 4).kind, harness::sftp_client::STATUS, "{partner}");
        }
    }
}

/// The text of a token is shown once: neither files nor logs nor what operators are shown have it.
#[test]
fn a_token_is_shown_once_and_kept_nowhere() {
    let mut machine = Machine::new("");
    machine.add_partner("Clinic", PASSWORD);
    let make = |machine: &Machine, more: &[&str]| {
        let said = machine.ok(&[&["partner", "token", "add", "clinic", "--json"], more].concat());
        let made = said.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap());
        let made = made.into_iter().find(|one| one.get("token").is_some()).expect("the token is told");
        (made["id"].as_str().unwrap().to_owned(), made["token"].as_str().unwrap().to_owned())
    };
    let (offline, first) = make(&machine, &[]);
    machine.start();
    let (live, second) = make(&machine, &["--expires", "90d", "--label", "nightly job"]);
    assert!(first.starts_with("forebay_Clinic_") && second.starts_with("forebay_Clinic_"), "by the registered name");
    let refused = machine.cli(&["partner", "token", "add", "clinic", "--expires", "2020-01-01"]);
    assert_eq!(refused.status.code(), Some(2), "it has ended already");
    let listed = machine.ok(&["partner", "token", "list", "clinic"]);
    assert!([&offline, &live].into_iter().all(|id| listed.contains(id.as_str())), "{listed}");
    assert!(listed.contains("nightly job") && listed.contains("never"), "{listed}");
    let shown = [listed, machine.ok(&["audit"]), machine.ok(&["partner", "list", "--json"]), machine.log()].concat();
    let stored = files(&machine.data());
    for secret in [&first, &second].map(|token| token.rsplit('_').next().unwrap()) {
        assert!(!shown.contains(secret), "{shown}");
        let with_it: Vec<_> = stored.iter().filter(|(_, bytes)| holds(bytes, secret.as_bytes())).collect();
        assert!(with_it.is_empty(), "{:?}", with_it.iter().map(|(path, _)| path).collect::<Vec<_>>());
    }
    assert!(stored.iter().any(|(_, bytes)| holds(bytes, live.as_bytes())), "the test sees what is stored");
    machine.ok(&["partner", "token", "remove", "clinic", &live]);
    assert!(machine.ok(&["audit"]).contains("partner.token.remove"));
    assert_eq!(machine.cli(&["partner", "token", "remove", "clinic", &live]).status.code(), Some(2));
    machine.stop();
    machine.ok(&["partner", "token", "remove", "clinic", &offline]);
    assert!(machine.ok(&["partner", "token", "list", "clinic"]).contains("no tokens"));
}

fn holds(bytes: &[u8], what: &[u8]) -> bool {
    bytes.windows(what.len()).any(|window| window == what)
}

/// Every regular file below a directory, with its bytes.
fn files(directory: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).unwrap().flatten() {
        match entry.file_type().unwrap() {
            kind if kind.is_dir() => found.extend(files(&entry.path())),
            kind if kind.is_file() => found.extend(fs::read(entry.path()).ok().map(|bytes| (entry.path(), bytes))),
            _ => {}
        }
    }
    found
}
