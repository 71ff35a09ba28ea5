//! Programs of routes that are kept from the server: confined ones, and those that a runner runs as another user. What
//! they may do is what they are for; what they may not is everything else.

#![allow(clippy::expect_used, clippy::unwrap_used, reason = "a test says so by failing")]

mod harness;

use std::{
    fs,
    io::Write as _,
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use harness::{
    Ftp,
    binary::{FOREBAY, Machine, RUNNER_USER, SERVER_USER, give},
    files_below, wait_until,
};
use rustix::process::{Pid, Signal, kill_process};

const PASSWORD: &str = "correct horse battery staple";

/// A machine whose server is a user of its own, with one route that runs `script`.
fn machine(route: &str, script: &str) -> Machine {
    assert!(
        rustix::process::geteuid().is_root(),
        "other users are needed here: run the tests as root, as tests/run does"
    );
    let processor = format!(
        "[[route]]\nname = \"all\"\nprocessor = \"exec\"\ncommand = [\"/bin/sh\", \"@DIR@/program\"]\n{route}\n"
    );
    let process = "[process]\nkill_after = \"3s\"\nprobe_first = \"100ms\"\nprobe_max = \"500ms\"\n";
    let machine = Machine::new(&format!("{process}{processor}")).with_its_own_user();
    let place = machine.path().to_str().unwrap().to_owned();
    machine.write("program", &script.replace("@DIR@", &place));
    // Where programs of any user may leave what they saw.
    let out = machine.path().join("out");
    fs::create_dir(&out).unwrap();
    fs::set_permissions(&out, fs::Permissions::from_mode(0o777)).unwrap();
    machine.add_partner("clinic", PASSWORD);
    machine
}

fn send(machine: &Machine, name: &str, bytes: &[u8]) {
    let mut ftp = Ftp::connect(machine.ftp);
    ftp.login("clinic", PASSWORD);
    assert_eq!(ftp.store(name, bytes).code, 226);
}

fn wait_done(machine: &Machine) {
    machine.wait_queue("all are done", |entries| {
        !entries.is_empty() && entries.iter().all(|entry| entry["state"] == "done")
    });
}

fn seen(machine: &Machine, name: &str) -> String {
    fs::read_to_string(machine.path().join("out").join(name)).unwrap_or_default()
}

fn said(machine: &Machine, arguments: &[&str]) -> String {
    let output = machine.cli(arguments);
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Notes what of all this works: each line is a name, and what is tried.
const TRIES: &str = r#"
try() { name=$1; shift; if "$@" >/dev/null 2>&1; then echo $name >> @DIR@/out/worked; else echo $name >> @DIR@/out/failed; fi; }
data=@DIR@/data
try list ls $data
try secret cat $data/admin.secret
try account sh -c "find $data/partners -type f -exec cat {} +"
try hostkey cat @DIR@/keys/host
try journal sh -c "cat $data/journal/recent/*"
try make sh -c "echo x > $data/made"
try spool sh -c "for f in \$(cat @DIR@/out/spooled); do chmod 600 \$f; echo evil >> \$f || exit 1; done"
try cut sh -c "for f in \$(cat @DIR@/out/spooled); do truncate -s 0 \$f || exit 1; done"
try remove sh -c "for f in \$(cat @DIR@/out/spooled); do rm -f \$f || exit 1; done"
try move mv $data @DIR@/elsewhere
try passwd @DIR@/forebay --config @DIR@/forebay.toml partner passwd clinic
try detached sh -c "(setsid sh -c 'cat $data/admin.secret && echo x >> @DIR@/out/detached' &) ; sleep 0.3; test -s @DIR@/out/detached"
try config sh -c "echo '# x' >> @DIR@/forebay.toml"
try memory sh -c "head -c 1 /proc/$(cat @DIR@/out/server)/environ"
try kill sh -c "kill -0 $(cat @DIR@/out/server)"
try own test "$(cat)" = "$(cat "$FOREBAY_PATH")"
try tmp sh -c 'echo x > "${TMPDIR:-.}/mine" && mkdir -p "$PWD/sub" && echo y > /dev/null'
"#;

#[test]
fn a_confined_program_reaches_nothing_of_the_server_and_all_that_it_needs() {
    let mut machine = machine("confine = true\nwritable = [\"@DIR@/out\"]", TRIES);
    let keys = machine.path().join("keys");
    fs::create_dir(&keys).unwrap();
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(keys.join("host")).output();
    assert!(made.expect("tests/run installs ssh-keygen").status.success());
    for path in [keys.clone(), keys.join("host"), keys.join("host.pub")] {
        give(&path, SERVER_USER);
    }
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    let config = config.replace("host_key_algorithms = [\"ssh-ed25519\"]", "host_keys = [\"keys/host\"]");
    machine.write("forebay.toml", &config);
    machine.start();
    fs::write(machine.path().join("out/server"), machine.pid().to_string()).unwrap();
    // One that waits has its bytes in the spool, where the program is told that they are.
    machine.ok(&["gate", "close", "--reason", "to have something in the spool"]);
    let large = vec![b'x'; 100 << 10];
    send(&machine, "large.hl7", &large);
    let spooled: Vec<_> =
        files_below(&machine.data().join("spool")).iter().map(|path| path.display().to_string()).collect();
    assert_eq!(spooled.len(), 1);
    fs::write(machine.path().join("out/spooled"), spooled.join("\n")).unwrap();
    machine.ok(&["gate", "open", "--reason", "go on"]);
    wait_done(&machine);

    let worked = seen(&machine, "worked");
    assert_eq!(worked.lines().collect::<Vec<_>>(), ["own", "tmp"], "failed: {}", seen(&machine, "failed"));
    assert_eq!(seen(&machine, "failed").lines().count(), 15);
    let entry = machine.queue().remove(0);
    let exported = machine.cli(&["queue", "export", entry["id"].as_str().unwrap(), "-"]);
    assert!(exported.stdout == large, "{}", String::from_utf8_lossy(&exported.stderr));
    assert!(machine.ok(&["status"]).contains("programs of route all: confined"));
    assert!(!said(&machine, &["check"]).contains("unconfined"));
    // The partner's password is what it was.
    send(&machine, "small.hl7", b"MSH|");
    wait_done(&machine);
}

#[test]
fn programs_that_can_do_all_that_the_server_can_are_told_of() {
    let harmless: String =
        TRIES.lines().filter(|line| !line.starts_with("try move")).map(|line| format!("{line}\n")).collect();
    let mut machine = machine("", &harmless);
    machine.start();
    let status = machine.ok(&["status"]);
    assert!(status.contains("programs of route all: as the server's own user"), "{status}");
    assert!(
        said(&machine, &["check"]).contains("route[0].command: the program runs as the server's own user, unconfined")
    );
    fs::write(machine.path().join("out/server"), machine.pid().to_string()).unwrap();
    send(&machine, "a.hl7", b"MSH|");
    wait_done(&machine);
    // What the tests of the others see fail is possible at all.
    let worked = seen(&machine, "worked");
    for name in ["list", "secret", "account", "journal", "make", "passwd", "detached", "kill", "own", "tmp"] {
        assert!(worked.lines().any(|line| line == name), "{name} is not in {worked}");
    }
}

#[test]
fn what_cannot_be_confined_is_a_fault_and_nothing_runs() {
    let machine = machine("confine = true\nwritable = [\"@DIR@/out\"]", "exit 0");
    assert!(machine.cli(&["check"]).status.success());
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    let too_much = ["", "data/delivered", "out"].map(|name| machine.path().join(name));
    let line =
        |line: &str| if line.starts_with("writable") { format!("writable = {too_much:?}") } else { line.to_owned() };
    machine.write("forebay.toml", &config.lines().map(line).collect::<Vec<_>>().join("\n"));
    let told = said(&machine, &["check"]);
    assert!(told.contains("route[0].writable[0]") && told.contains("route[0].writable[1]"), "{told}");
    assert!(!told.contains("writable[2]"), "{told}");
    machine.write("forebay.toml", &config);
    // A kernel without Landlock answers its system calls so.
    for verb in ["check", "serve"] {
        let output = Command::new("python3")
            .args(["-c", WITHOUT_LANDLOCK])
            .arg(FOREBAY)
            .args(["--config", machine.path().join("forebay.toml").to_str().unwrap(), verb])
            .output()
            .expect("python3 runs");
        let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success(), "{verb}: {told}");
        assert!(told.contains("route[0].confine: this kernel cannot confine programs"), "{verb}: {told}");
    }
}

/// Runs a program for which landlock_create_ruleset(2), system call 444, does not exist.
const WITHOUT_LANDLOCK: &str = r#"
import ctypes, os, struct, sys
libc = ctypes.CDLL(None, use_errno=True)
code = b"".join(struct.pack("HBBI", *line) for line in [
    (0x20, 0, 0, 0), (0x15, 0, 1, 444), (0x06, 0, 0, 0x00050000 | 38), (0x06, 0, 0, 0x7fff0000)])
lines = ctypes.create_string_buffer(code)
program = struct.pack("HxxxxxxP", 4, ctypes.addressof(lines))
assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, ctypes.create_string_buffer(program), 0, 0) == 0
os.execv(sys.argv[1], sys.argv[1:])
"#;

/// A runner beside a machine's server.
struct Runner {
    child: Child,
    directory: PathBuf,
}

impl Runner {
    const ROUTE: &str = "runner = \"@DIR@/runner/socket\"\nrunner_user = \"64322\"";

    fn start(machine: &Machine) -> Self {
        Self::of(machine, RUNNER_USER, SERVER_USER)
    }

    fn of(machine: &Machine, user: u32, server: u32) -> Self {
        let directory = machine.path().join("runner");
        fs::create_dir_all(&directory).unwrap();
        give(&directory, user);
        let log = fs::File::options().create(true).append(true).open(machine.path().join("runner.log")).unwrap();
        let child = Command::new(machine.path().join("forebay"))
            .args(["runner", "--server", &server.to_string(), "--socket"])
            .arg(directory.join("socket"))
            .arg("--directory")
            .arg(directory.join("work"))
            .uid(user)
            .gid(user)
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn()
            .unwrap();
        let runner = Self { child, directory };
        wait_until("it listens", || std::os::unix::net::UnixStream::connect(runner.directory.join("socket")).is_ok());
        runner
    }

    fn end(&mut self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
        self.child.wait().unwrap();
    }
}

impl Drop for Runner {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn is_running(pid: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{}/stat", pid.trim())).unwrap_or_default();
    stat.rfind(')').is_some_and(|end| !stat[end..].starts_with(") Z"))
}

#[test]
fn a_runner_runs_programs_as_another_user_with_the_same_contract() {
    let script = "id -u > @DIR@/out/uid; env > @DIR@/out/env; pwd > @DIR@/out/pwd; cat > @DIR@/out/stdin\n\
                  cmp \"$FOREBAY_PATH\" @DIR@/out/stdin && touch @DIR@/out/same\n\
                  cat /dev/stdin < @DIR@/out/stdin > /dev/null\n\
                  cat @DIR@/data/* 2>/dev/null && echo readable; ls @DIR@/data && echo listed; touch @DIR@/forebay.toml && echo touched\n\
                  echo evil >> \"$FOREBAY_PATH\"; (echo evil >> /proc/self/fd/0) 2>/dev/null && echo written\n\
                  echo to stderr >&2; i=0; while [ $i -lt 3000 ]; do echo line $i; i=$((i+1)); done\n\
                  case $FOREBAY_NAME in *bad*) exit 65;; *later*) exit 75;; *killed*) kill -9 $$;; esac";
    let mut machine =
        machine(&format!("{}\nenvironment = {{ MINE = \"1\" }}\norder = \"none\"", Runner::ROUTE), script);
    let _runner = Runner::start(&machine);
    assert!(!said(&machine, &["check"]).contains("warning"));
    machine.start();
    assert!(machine.ok(&["status"]).contains("programs of route all: as 64322, by the runner at"));
    let large: Vec<u8> = (0..300_000_u32).map(|at| (at % 251) as u8).collect();
    for (name, bytes, state, reason) in [
        ("in/a b.hl7", &b"MSH|"[..], "done", None),
        ("large.hl7", &large[..], "done", None),
        ("bad.hl7", b"x", "quarantined", Some("exit 65")),
        ("later.hl7", b"x", "retrying", Some("exit 75")),
        ("killed.hl7", b"x", "retrying", Some("killed by signal 9")),
    ] {
        let mut ftp = Ftp::connect(machine.ftp);
        ftp.login("clinic", PASSWORD);
        ftp.command("MKD in");
        assert_eq!(ftp.store(name, bytes).code, 226);
        let is_settled = |entry: &serde_json::Value| entry["name"] == name && entry["state"] == state;
        machine.wait_queue(name, |entries| entries.iter().any(is_settled));
        let entry = machine.queue().into_iter().find(|entry| entry["name"] == name).unwrap();
        assert_eq!((entry["reason"].as_str(), &entry["attempts"]), (reason, &1.into()), "{name}");
        assert!(fs::read(machine.path().join("out/stdin")).unwrap() == bytes, "{name}");
        fs::remove_file(machine.path().join("out/same")).expect("it is at FOREBAY_PATH too");
        let shown = machine.ok(&["queue", "show", entry["id"].as_str().unwrap()]);
        assert!(shown.contains("line 2999"), "{shown}");
        let exported = machine.cli(&["queue", "export", entry["id"].as_str().unwrap(), "-"]);
        assert!(exported.stdout == bytes, "{name}: accepted bytes are what they were");
        let environment = seen(&machine, "env");
        let path = environment.lines().find_map(|line| line.strip_prefix("FOREBAY_PATH=")).unwrap();
        assert_eq!(Path::new(path).file_name().unwrap(), Path::new(name).file_name().unwrap());
        assert!(environment.contains("MINE=1") && environment.contains("FOREBAY_ATTEMPT=1"), "{environment}");
        assert!(environment.contains("FOREBAY_ROUTE=all"), "{environment}");
    }
    assert_eq!(seen(&machine, "uid").trim(), RUNNER_USER.to_string());
    let work = machine.path().join("runner/work/attempts");
    assert!(seen(&machine, "pwd").starts_with(work.to_str().unwrap()));
    wait_until("no attempt's directory is left", || fs::read_dir(&work).is_ok_and(|left| left.count() == 0));
    // The whole of a short output: what it could not do is not in it.
    machine.write(
        "program",
        "cat \"$FOREBAY_PATH\"; for w in @DIR@/data @DIR@/data/partners; do ls $w && echo listed; done; \
                   (: > /proc/self/fd/0) && echo written; (echo x >> @DIR@/forebay.toml) && echo configured; exit 0"
            .replace("@DIR@", machine.path().to_str().unwrap())
            .as_str(),
    );
    for bytes in [&b"short"[..], &large[..]] {
        send(&machine, &format!("{}.txt", bytes.len()), bytes);
        let name = format!("{}.txt", bytes.len());
        machine.wait_queue("it is done", |all| {
            all.iter().any(|entry| entry["name"] == name.as_str() && entry["state"] == "done")
        });
        let entry = machine.queue().into_iter().find(|entry| entry["name"] == name.as_str()).unwrap();
        let shown = machine.ok(&["queue", "show", entry["id"].as_str().unwrap()]);
        assert!(!["listed", "written", "configured"].iter().any(|word| shown.contains(word)), "{shown}");
    }
}

/// A program that says who it is and whether the one before still runs, and that runs until it is told to end. `trap` is
/// what it does when it is asked to.
fn long(trap: &str) -> String {
    format!(
        "old=$(cat @DIR@/out/pid 2>/dev/null)\n\
         [ -n \"$old\" ] && [ -e /proc/$old/stat ] && ! grep -q ') Z' /proc/$old/stat && echo $old >> @DIR@/out/overlap\n\
         trap '{trap}' TERM; sleep 600 & echo $! > @DIR@/out/child; echo $$ > @DIR@/out/new; mv @DIR@/out/new @DIR@/out/pid\n\
         while [ ! -e @DIR@/out/go ]; do sleep 0.05; done; exit 0"
    )
}

fn running(machine: &Machine, but: &str) -> String {
    wait_until("the program runs", || !seen(machine, "pid").is_empty() && seen(machine, "pid") != but);
    seen(machine, "pid")
}

#[test]
fn a_gate_that_closes_and_a_time_out_stop_what_a_runner_runs() {
    let mut machine = machine(&format!("{}\ntimeout = \"2s\"", Runner::ROUTE), &long("exit 1"));
    let _runner = Runner::start(&machine);
    machine.start();
    send(&machine, "a.hl7", b"MSH|");
    let first = running(&machine, "");
    machine.ok(&["gate", "close", "--reason", "maintenance", "--wait"]);
    assert!(!is_running(&first) && !is_running(&seen(&machine, "child")), "nothing of the group is left");
    let entry = machine.queue().remove(0);
    assert_eq!((&entry["state"], &entry["attempts"]), (&"ready".into(), &0.into()), "{entry}");
    machine.ok(&["gate", "open", "--reason", "over"]);
    let second = running(&machine, &first);
    machine.wait_queue("it timed out", |entries| entries[0]["state"] == "retrying");
    assert_eq!(machine.queue()[0]["reason"], "timed out after 2s");
    assert!(!is_running(&second));
    assert_eq!(seen(&machine, "overlap"), "");
}

#[test]
fn a_program_of_a_killed_server_is_stopped_before_its_file_is_processed_again() {
    // It ends by KILL alone, so that the next server is there before it is gone.
    let mut machine = machine(Runner::ROUTE, &long(""));
    let _runner = Runner::start(&machine);
    machine.start();
    send(&machine, "a.hl7", b"MSH|");
    let mut last = running(&machine, "");
    for _ in 0..2 {
        machine.kill();
        machine.start();
        let next = running(&machine, &last);
        assert!(!is_running(&last), "{last} runs on beside {next}");
        last = next;
    }
    fs::write(machine.path().join("out/go"), "").unwrap();
    wait_done(&machine);
    assert_eq!(seen(&machine, "overlap"), "", "at no time were there two");
}

#[test]
fn a_runner_that_dies_pauses_the_route_and_the_next_one_stops_what_it_left() {
    let mut machine = machine(Runner::ROUTE, &long("exit 1"));
    machine.start();
    send(&machine, "a.hl7", b"MSH|");
    machine.wait_queue("the route is paused", |_| machine.ok(&["status"]).contains("route all is paused"));
    let mut last = String::new();
    for signal in [Signal::KILL, Signal::TERM] {
        let mut runner = Runner::start(&machine);
        let next = running(&machine, &last);
        assert!(last.is_empty() || !is_running(&last), "{last} runs on beside {next}");
        last = next;
        runner.end(signal);
        machine.wait_queue("it goes back to its turn", |entries| entries[0]["state"] == "ready");
        assert!(machine.ok(&["status"]).contains("route all is paused"));
        assert_eq!(machine.queue()[0]["attempts"], 0, "nothing counts against the file");
        // What a runner that is told to end runs, it ends itself.
        assert_eq!(is_running(&last), signal == Signal::KILL);
    }
    fs::write(machine.path().join("out/go"), "").unwrap();
    let _runner = Runner::start(&machine);
    wait_done(&machine);
    assert_eq!((seen(&machine, "overlap"), machine.queue()[0]["attempts"].clone()), (String::new(), 1.into()));
}

#[test]
fn server_and_runner_take_nobody_else_for_each_other() {
    let mut machine = machine(Runner::ROUTE, "touch @DIR@/out/ran");
    // A runner of another user than the configuration names gets no file.
    let other = Runner::of(&machine, RUNNER_USER + 1, SERVER_USER);
    machine.start();
    send(&machine, "a.hl7", b"MSH|");
    let why = "it belongs to uid 64323, and not to 64322";
    machine.wait_queue("the route is paused", |_| machine.ok(&["status"]).contains(why));
    drop(other);
    // One that is another server's takes none.
    fs::remove_dir_all(machine.path().join("runner")).unwrap();
    let other = Runner::of(&machine, RUNNER_USER, SERVER_USER + 7);
    let log = machine.path().join("runner.log");
    wait_until("it refuses", || fs::read_to_string(&log).unwrap().contains("refused a user that is not the server's"));
    drop(other);
    assert!(!machine.path().join("out/ran").exists());
    // What would make no difference is refused.
    for (user, told) in [(SERVER_USER, "is the server's"), (0, "does not run as root")] {
        let output = Command::new(machine.path().join("forebay"))
            .args(["runner", "--server", &SERVER_USER.to_string(), "--socket"])
            .arg(machine.path().join("runner/socket"))
            .arg("--directory")
            .arg(machine.path().join("runner/work"))
            .uid(user)
            .output()
            .unwrap();
        let text = String::from_utf8_lossy(&output.stderr);
        assert!(!output.status.success() && text.contains(told), "{text}");
    }
    // Nonsense at the socket harms no one.
    let _runner = Runner::start(&machine);
    for bytes in [&b"GET / HTTP/1.1\r\n\r\n"[..], &[0xff; 64], &[0, 0, 0, 2, b'{', b'}']] {
        let mut stream = std::os::unix::net::UnixStream::connect(machine.path().join("runner/socket")).unwrap();
        let _ = stream.write_all(bytes);
    }
    wait_done(&machine);
    assert!(machine.path().join("out/ran").exists());
}
