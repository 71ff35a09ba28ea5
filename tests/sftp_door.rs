//! OpenSSH's own sftp and scp against the real server: what CLOSE promises, what is left when it does not come, who
//! gets in, and what is refused with words.
#![allow(clippy::expect_used, clippy::disallowed_methods, reason = "a test says so by failing, and waits by the clock")]

mod harness;

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use harness::{
    binary::{Machine, json_lines},
    files_below, wait_until,
};

const PASSWORD: &str = "correct horse battery staple";
const PARTNER: &str = "clinic";

/// A server with a partner, and what a client needs.
struct Place(Machine);

impl Place {
    fn file(&self, name: &str, bytes: &[u8]) -> PathBuf {
        let path = self.0.path().join(name);
        fs::write(&path, bytes).expect("writes");
        path
    }

    fn client(&self, program: &str, options: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.current_dir(self.0.path()).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.env("SSH_ASKPASS", self.0.path().join("askpass")).env("SSH_ASKPASS_REQUIRE", "force");
        // Of an option that is given twice the first holds.
        command.env_remove("SSH_AUTH_SOCK").args(["-F", "none", "-o", "BatchMode=no"]).args(options);
        command.args(["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]);
        let port = if program == "ssh" { "-p" } else { "-P" };
        command.args([port, &self.0.sftp.port().to_string()]);
        command
    }

    fn sftp(&self, options: &[&str], batch: &str) -> Command {
        let file = self.file("batch", batch.as_bytes());
        let mut command = self.client("sftp", options);
        command.arg("-b").arg(file).arg(format!("{PARTNER}@127.0.0.1"));
        command
    }

    /// Runs lines of a batch that must all succeed.
    fn batch(&self, lines: &str) -> String {
        let output = self.sftp(&["-o", "PubkeyAuthentication=no"], lines).output().expect("tests/run installs sftp");
        assert!(output.status.success(), "{lines}\n{}\n{}", told(&output), self.0.log());
        told(&output)
    }

    fn refused(&self, lines: &str) -> String {
        let output = self.sftp(&["-o", "PubkeyAuthentication=no"], lines).output().expect("runs");
        assert!(!output.status.success(), "{lines} was not refused: {}", told(&output));
        told(&output)
    }

    fn states(&self, name: &str) -> Vec<String> {
        let entries = self.0.queue();
        let named = entries.iter().filter(|entry| entry["name"] == name);
        named.map(|entry| entry["state"].as_str().expect("a state").to_owned()).collect()
    }

    fn partials(&self) -> u64 {
        let sizes = files_below(&self.0.data().join("partials"));
        sizes.iter().map(|path| fs::metadata(path).map_or(0, |there| there.len())).sum()
    }

    /// Begins an upload that is slow enough to be interrupted, and waits until bytes of it are there.
    fn slow_upload(&self, name: &str) -> Child {
        let file = self.file("large", &noise(64 << 20));
        let batch = format!("put {} {name}\n", file.display());
        let child = self.sftp(&["-l", "80000"], &batch).spawn().expect("runs");
        self.wait("bytes have come", || {
            let working = files_below(&self.0.data().join("tmp"));
            working.iter().any(|path| fs::metadata(path).is_ok_and(|there| there.len() > 2 << 20))
        });
        child
    }

    fn wait(&self, what: &str, met: impl Fn() -> bool) {
        let began = Instant::now();
        while !met() {
            assert!(began.elapsed() < Duration::from_secs(30), "waited in vain: {what}\n{}", self.0.log());
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

fn told(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

/// Bytes that do not repeat soon.
fn noise(length: usize) -> Vec<u8> {
    let mut state = 7u64;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    };
    (0..length).map(|_| next()).collect()
}

const CLOSED: &str = "[schedule]\nfile = \"closed.toml\"\n";

/// A server whose gate is closed, so that what was accepted stays where it is.
fn closed() -> Place {
    closed_with("")
}

fn closed_with(extra: &str) -> Place {
    closed_and(extra, "")
}

/// The same with more lines in `[sftp]`.
fn closed_and(extra: &str, sftp: &str) -> Place {
    let mut machine = Machine::new(&format!("{CLOSED}{extra}"));
    let config = fs::read_to_string(machine.path().join("forebay.toml")).expect("a configuration");
    machine.write("forebay.toml", &config.replace("[sftp]\n", &format!("[sftp]\n{sftp}")));
    machine.write(
        "closed.toml",
        "timezone = \"UTC\"\n[[window]]\nname = \"Long\"\nstart = \"2020-01-01 00:00\"\nend = \"2099-01-01 00:00\"\n",
    );
    machine.add_partner(PARTNER, PASSWORD);
    machine.write("askpass", &format!("#!/bin/sh\necho '{PASSWORD}'\n"));
    fs::set_permissions(machine.path().join("askpass"), fs::Permissions::from_mode(0o700)).expect("chmod");
    machine.start();
    Place(machine)
}

#[test]
fn files_that_were_closed_are_deferred_while_the_gate_is_closed_and_come_back_as_they_went() {
    let place = closed();
    let (small, large) = (place.file("small", b"MSH|small"), place.file("large", &noise(5 << 20)));
    let told = place.batch(&format!(
        "mkdir in\nput {0} in/a.hl7\nput {1} in/b.hl7\nput -p {0} c.hl7\nput -f {0} d.hl7\nls -l in\nget in/b.hl7 back\ndf\n",
        small.display(),
        large.display()
    ));
    assert!(told.contains("a.hl7") && told.contains("5242880"), "{told}");
    assert_eq!(fs::read(place.0.path().join("back")).expect("came back"), noise(5 << 20));
    let entries = place.0.queue();
    assert_eq!(entries.len(), 4);
    for entry in &entries {
        assert_eq!((entry["state"].as_str(), entry["deferred"].as_bool()), (Some("ready"), Some(true)), "{entry:#}");
        assert_eq!(entry["door"], "sftp");
    }
}

#[test]
fn requests_of_any_size_and_number_give_the_same_bytes() {
    let place = closed();
    let bytes = noise(3_000_001);
    let file = place.file("file", &bytes);
    for (at, options) in
        [["-R1", "-B1024"], ["-R1024", "-B260000"], ["-R2000", "-B700"], ["-R64", "-B65536"]].iter().enumerate()
    {
        let batch = format!("put {} r{at}\nget r{at} back{at}\n", file.display());
        let output = place.sftp(options, &batch).output().expect("runs");
        assert!(output.status.success(), "{options:?}: {}", told(&output));
        assert_eq!(fs::read(place.0.path().join(format!("back{at}"))).expect("came back"), bytes, "{options:?}");
    }
}

#[test]
fn scp_works_and_the_old_kind_and_shells_are_told_why_not() {
    let place = closed();
    let file = place.file("file", &noise(100_000));
    let to = |name: &str| format!("{PARTNER}@127.0.0.1:{name}");
    let tree = place.0.path().join("tree/deep");
    fs::create_dir_all(&tree).expect("mkdir");
    fs::write(tree.join("x.hl7"), "x").expect("writes");
    fs::write(tree.join("empty.hl7"), "").expect("writes");
    for _ in 0..2 {
        // The second time the names are there already, and each is a new file.
        let output = place.client("scp", &["-s"]).arg(&file).arg(to("scp.hl7")).output().expect("runs");
        assert!(output.status.success(), "{}", told(&output));
        let output = place.client("scp", &["-s", "-r", "-p"]).arg("tree").arg(to("")).output().expect("runs");
        assert!(output.status.success(), "{}", told(&output));
    }
    for name in ["scp.hl7", "tree/deep/x.hl7", "tree/deep/empty.hl7"] {
        assert_eq!(place.states(name), ["ready", "ready"], "{name}");
    }
    let output = place.client("scp", &["-O"]).arg(&file).arg(to("old.hl7")).output().expect("runs");
    assert!(!output.status.success() && told(&output).contains("scp without -O"), "{}", told(&output));
    let output = place.client("ssh", &[]).args([&format!("{PARTNER}@127.0.0.1"), "id"]).output().expect("runs");
    assert_eq!(output.status.code(), Some(1));
    assert!(told(&output).contains("no shell"), "{}", told(&output));
    assert!(place.states("old.hl7").is_empty());
}

#[test]
fn a_temporary_name_is_accepted_by_its_rename_and_not_before() {
    let place = closed();
    let file = place.file("file", b"MSH|renamed");
    place.batch(&format!("put {} a.tmp\n", file.display()));
    assert_eq!(place.states("a.tmp"), ["unfinished"]);
    place.batch("rename a.tmp a.hl7\nls a.hl7\n");
    assert_eq!(place.states("a.hl7"), ["ready"]);
    assert!(place.states("a.tmp").is_empty());
    assert!(place.refused("rename missing.tmp b.hl7\n").contains("No such file"));
}

#[test]
fn a_client_killed_in_mid_file_leaves_a_partial_and_reput_goes_on_with_it() {
    let place = closed();
    let mut child = place.slow_upload("big.hl7");
    child.kill().expect("can be killed");
    child.wait().expect("ends");
    place.wait("the partial is kept", || place.partials() > 0);
    assert!(place.states("big.hl7").is_empty(), "half a file was queued");
    let kept = place.partials();
    let told = place.batch("ls -l big.hl7\nreput large big.hl7\nget big.hl7 back\n");
    assert!(kept > 1 << 20, "{told}");
    assert_eq!(place.states("big.hl7"), ["ready"]);
    assert_eq!(fs::read(place.0.path().join("back")).expect("came back"), noise(64 << 20));
    assert_eq!(place.partials(), 0);
    // The digest covers what was there before too.
    let sum = Command::new("sha256sum").arg(place.0.path().join("large")).output().expect("sha256sum");
    let entry = place.0.queue().remove(0);
    assert!(told_sum(&sum).starts_with(entry["sha256"].as_str().expect("a digest")), "{entry:#}");
}

fn told_sum(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[test]
fn what_a_client_closes_when_its_user_interrupts_it_is_no_file_where_the_policy_wants_a_rename() {
    let place = closed_with("[policy]\ncomplete = \"rename\"\n");
    let mut child = place.slow_upload("broken-off.hl7");
    let pid = rustix::process::Pid::from_child(&child);
    rustix::process::kill_process(pid, rustix::process::Signal::INT).expect("can be told");
    child.wait().expect("ends");
    place.wait("the client has closed it", || place.states("broken-off.hl7") == ["unfinished"]);
}

#[test]
fn a_killed_server_has_every_file_whose_close_was_answered_and_no_half_one() {
    let mut place = closed();
    let mut child = place.slow_upload("cut.hl7");
    place.batch(&format!("put {} whole.hl7\n", place.file("small", b"MSH|whole").display()));
    place.0.kill();
    child.wait().expect("ends");
    place.0.start();
    assert_eq!(place.states("whole.hl7"), ["ready"]);
    assert!(place.states("cut.hl7").is_empty());
    place.batch("ls whole.hl7\n");
}

#[test]
fn a_server_that_stops_lets_an_upload_end_when_it_does_so_in_time() {
    let mut place = closed_and("", "grace = \"1m\"\n");
    let mut child = place.slow_upload("whole.hl7");
    place.0.stop();
    assert!(child.wait().expect("ends").success(), "{}", place.0.log());
    place.0.start();
    assert_eq!(place.states("whole.hl7"), ["ready"]);
}

#[test]
fn a_server_that_stops_keeps_what_came_of_an_upload_that_takes_too_long() {
    let mut place = closed_and("", "grace = \"200ms\"\n");
    let mut child = place.slow_upload("cut.hl7");
    let began = Instant::now();
    place.0.stop();
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert!(!child.wait().expect("ends").success());
    assert!(place.partials() > 0, "{}", place.0.log());
}

#[test]
fn a_refusal_names_its_reason() {
    let place = closed_with("[policy]\nquota = \"1 MiB\"\nmax_file_size = \"800 KiB\"\n");
    let (fits, large) = (place.file("fits", &noise(700 << 10)), place.file("large", &noise(900 << 10)));
    // OpenSSH's client shows the words of a status with -v only; the code is enough for its exit.
    let verbose = |batch: &str| {
        let output = place.sftp(&["-vv", "-o", "LogLevel=DEBUG3"], batch).output().expect("runs");
        (output.status.success(), told(&output))
    };
    let (done, told) = verbose(&format!("put {} large.hl7\n", large.display()));
    assert!(!done, "{told}");
    assert!(verbose(&format!("put {} fits.hl7\n", fits.display())).0);
    let (done, told) = verbose(&format!("put {} more.hl7\n", fits.display()));
    assert!(!done, "{told}");
    assert_eq!(place.0.queue().len(), 1, "only one fits");
    let log = || fs::read_to_string(place.0.path().join("server.log")).expect("a log");
    wait_until("both are in the log", || log().contains("quota exceeded") && log().contains("file is too large"));
}

#[test]
fn nothing_leads_out_of_the_login_directory() {
    let place = closed();
    let file = place.file("file", b"x");
    let put = |to: &str| format!("put {} {to}\n", file.display());
    fs::write(place.0.data().join("secret"), "secret").expect("writes");
    for lines in [
        put("../out-of-it"),
        put("/in/../../out-of-it"),
        put("out/receipt.json"),
        put("missing/a.hl7"),
        "get ../secret got\n".to_owned(),
        "get ../../forebay.toml got\n".to_owned(),
        "mkdir ../x\n".to_owned(),
        "ln -s /etc/passwd link\n".to_owned(),
        "ln a b\n".to_owned(),
    ] {
        place.refused(&lines);
    }
    assert!(!place.0.path().join("got").exists());
    assert!(place.0.queue().is_empty());
    assert!(place.batch("cd ..\npwd\n").contains("directory: /"));
}

#[test]
fn keys_let_in_where_they_may_and_only_then() {
    let place = closed();
    let key = |name: &str, kind: &str| -> PathBuf {
        let path = place.0.path().join(name);
        let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", kind, "-f"]).arg(&path).output();
        assert!(made.expect("tests/run installs ssh-keygen").status.success());
        path
    };
    let enters = |identity: &Path| {
        let identity = identity.display().to_string();
        let options = ["-i", &identity, "-o", "IdentitiesOnly=yes", "-o", "PasswordAuthentication=no"];
        place.sftp(&options, "pwd\n").output().expect("runs").status.success()
    };
    let public = |path: &Path| format!("{}.pub", path.display());
    for kind in ["ed25519", "ecdsa", "rsa"] {
        let (own, other) = (key(kind, kind), key(&format!("other-{kind}"), kind));
        assert!(!enters(&own), "{kind} before it was added");
        place.0.ok(&["partner", "key", "add", PARTNER, &public(&own)]);
        assert!(enters(&own), "{kind}\n{}", place.0.log());
        assert!(!enters(&other), "another {kind}");
    }
    let listed = json_lines(&place.0.ok(&["partner", "key", "list", PARTNER, "--json"]));
    assert_eq!(listed.len(), 3);
    let fingerprint = listed[0]["fingerprint"].as_str().expect("a fingerprint").to_owned();
    place.0.ok(&["partner", "key", "remove", PARTNER, &fingerprint]);
    assert!(!enters(&place.0.path().join("ed25519")), "it was removed");
    // The same key, but not from here.
    let line = fs::read_to_string(public(&place.0.path().join("ed25519"))).expect("a key");
    let added = place.0.cli_with(&["partner", "key", "add", PARTNER, "-"], &format!("from=\"192.0.2.0/24\" {line}"));
    assert!(added.status.success(), "{}", told(&added));
    assert!(!enters(&place.0.path().join("ed25519")), "from= is honoured");
    let refused = place.0.cli_with(&["partner", "key", "add", PARTNER, "-"], &format!("command=\"id\" {line}"));
    assert!(!refused.status.success() && told(&refused).contains("command"), "{}", told(&refused));
    // Many keys that are not known do not keep a partner out.
    let mut options: Vec<String> = vec!["-o".into(), "IdentitiesOnly=yes".into()];
    for at in 0..5 {
        options.extend(["-i".into(), key(&format!("strange-{at}"), "ed25519").display().to_string()]);
    }
    let options: Vec<&str> = options.iter().map(String::as_str).collect();
    let output = place.sftp(&options, "pwd\n").output().expect("runs");
    assert!(output.status.success(), "{}\n{}", told(&output), place.0.log());
}

#[test]
fn a_policy_may_want_a_key_or_a_key_and_the_password() {
    let policy = "[policy]\nauthentication = \"key+password\"\n[[partner]]\nname = \"lab\"\nauthentication = \"key\"\n";
    let place = closed_with(policy);
    place.0.add_partner("lab", PASSWORD);
    let key = place.0.path().join("id");
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key).output();
    assert!(made.expect("runs").status.success());
    let public = format!("{}.pub", key.display());
    for name in [PARTNER, "lab"] {
        place.0.ok(&["partner", "key", "add", name, &public]);
    }
    let identity = key.display().to_string();
    let with_key = ["-i", identity.as_str(), "-o", "IdentitiesOnly=yes"];
    let enters = |name: &str, options: &[&str], more: &[&str]| {
        let batch = place.file("pwd", b"pwd\n");
        let mut command = place.client("sftp", options);
        command.args(more).arg("-b").arg(batch).arg(format!("{name}@127.0.0.1"));
        command.output().expect("runs").status.success()
    };
    let (no_key, no_password) = (["-o", "PubkeyAuthentication=no"], ["-o", "PasswordAuthentication=no"]);
    assert!(enters(PARTNER, &with_key, &[]), "both\n{}", place.0.log());
    assert!(!enters(PARTNER, &with_key, &no_password), "the key alone");
    assert!(!enters(PARTNER, &no_key, &[]), "the password alone");
    assert!(enters("lab", &with_key, &no_password), "the key is enough");
    assert!(!enters("lab", &no_key, &[]), "the password is not");
    let mut ftp = harness::Ftp::connect(place.0.ftp);
    assert!(ftp.try_login(PARTNER, PASSWORD).is_err(), "a door that knows no keys is shut");
}

#[test]
fn a_certificate_of_a_trusted_authority_lets_in_whom_it_names() {
    let keys = tempfile::tempdir().expect("a directory");
    let run = |arguments: &[&str]| {
        let made = Command::new("ssh-keygen").current_dir(keys.path()).args(arguments).output().expect("runs");
        assert!(made.status.success(), "{}", told(&made));
    };
    for name in ["ca", "other-ca", "id"] {
        run(&["-q", "-N", "", "-t", "ed25519", "-f", name]);
    }
    let place = closed_and("", &format!("trusted_ca = \"{}/ca.pub\"\n", keys.path().display()));
    let identity = keys.path().join("id").display().to_string();
    let enters = |arguments: &[&str]| {
        let mut sign = Command::new("ssh-keygen");
        sign.current_dir(keys.path()).args(["-q", "-I", "test"]).args(arguments).arg("id.pub");
        assert!(sign.output().expect("runs").status.success());
        let options = ["-i", &identity, "-o", "IdentitiesOnly=yes", "-o", "PasswordAuthentication=no"];
        place.sftp(&options, "pwd\n").output().expect("runs").status.success()
    };
    assert!(enters(&["-s", "ca", "-n", PARTNER, "-V", "+1h"]), "{}", place.0.log());
    assert!(enters(&["-s", "ca", "-n", "a,CLINIC", "-O", "source-address=127.0.0.0/8"]), "{}", place.0.log());
    for (why, arguments) in [
        ("another authority", &["-s", "other-ca", "-n", PARTNER][..]),
        ("another name", &["-s", "ca", "-n", "lab"]),
        ("no name", &["-s", "ca"]),
        ("over", &["-s", "ca", "-n", PARTNER, "-V", "20200101:20200102"]),
        ("from elsewhere", &["-s", "ca", "-n", PARTNER, "-O", "source-address=192.0.2.0/24"]),
        ("a command", &["-s", "ca", "-n", PARTNER, "-O", "force-command=id"]),
        ("a host's", &["-s", "ca", "-h", "-n", PARTNER]),
    ] {
        assert!(!enters(arguments), "{why}");
    }
}

#[test]
fn the_host_keys_are_shown_and_stay() {
    let mut place = closed();
    let status = place.0.ok(&["status"]);
    let shown = status.lines().find(|line| line.contains("sftp")).expect("the door is shown").to_owned();
    assert!(shown.contains("ssh-ed25519 SHA256:"), "{status}");
    place.0.stop();
    place.0.start();
    assert!(place.0.ok(&["status"]).contains(shown.split(" (").nth(1).expect("a note")));
    let mode = fs::metadata(place.0.data().join("ssh/ssh_host_ed25519_key")).expect("is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
}

#[test]
fn the_banner_tells_of_maintenance() {
    let place = closed();
    let output = place.sftp(&["-o", "LogLevel=INFO"], "pwd\n").output().expect("runs");
    assert!(told(&output).contains("processing deferred until"), "{}", told(&output));
}

#[test]
fn new_keys_in_the_middle_of_files_change_no_byte() {
    for (ours, theirs) in [("rekey_after = \"1 MiB\"\n", "none"), ("", "1M")] {
        let place = closed_and("", ours);
        let bytes = noise(12 << 20);
        let file = place.file("file", &bytes);
        let limit = format!("RekeyLimit={}", if theirs == "none" { "default none" } else { theirs });
        let batch = format!("put {} a.hl7\nget a.hl7 back\n", file.display());
        let output = place.sftp(&["-vv", "-o", "LogLevel=DEBUG2", "-o", &limit], &batch).output().expect("runs");
        let told = told(&output);
        assert!(output.status.success(), "{ours}{theirs}: {}\n{}", told, place.0.log());
        let exchanges = told.matches("SSH2_MSG_NEWKEYS received").count();
        println!("{exchanges} key exchanges");
        assert!(exchanges > 5, "{ours}{theirs}: {exchanges} key exchanges");
        assert_eq!(fs::read(place.0.path().join("back")).expect("came back"), bytes);
        assert_eq!(place.states("a.hl7"), ["ready"]);
    }
}

#[test]
fn a_connection_gets_so_many_passwords_and_no_more() {
    let place = closed();
    place.0.write("askpass", "#!/bin/sh\necho wrong\n");
    let options = ["-o", "PubkeyAuthentication=no", "-o", "NumberOfPasswordPrompts=50"];
    let output = place.sftp(&options, "pwd\n").output().expect("runs");
    assert!(!output.status.success());
    let refused = place.0.log().matches("login refused").count();
    assert!((1..=3).contains(&refused), "{refused} passwords were looked at\n{}", place.0.log());
}
