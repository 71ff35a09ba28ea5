//! The command line against a real server: the program itself, its exit codes, its `--json`.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use harness::tun::{enter_namespace, is_root_or_ran_as_root};
use serde_json::Value;
use tempfile::TempDir;

const CONFIG: &str = "data = \"data\"\n[ftp]\nlisten = \"127.0.0.1:0\"\ntls = \"off\"\npassive_ports = \"20000-60000\"\n\
                      [sftp]\nlisten = \"127.0.0.1:0\"\nhost_key_algorithms = [\"ssh-ed25519\"]\n\
                      [web]\nlisten = \"127.0.0.1:0\"\n[schedule]\nfile = \"maintenance.toml\"\n";
const SCHEDULE: &str = "timezone = \"America/Chicago\"\n";

/// A house of its own: a directory with a configuration, and the program.
struct House {
    dir: PathBuf,
    _temp: TempDir,
}

impl House {
    fn new(config: &str) -> Self {
        Self::at("", config)
    }

    fn at(below: &str, config: &str) -> Self {
        let temp = tempfile::tempdir().unwrap();
        let dir = temp.path().join(below);
        fs::create_dir_all(&dir).unwrap();
        fs::write(dir.join("forebay.toml"), config).unwrap();
        fs::write(dir.join("maintenance.toml"), SCHEDULE).unwrap();
        Self { dir, _temp: temp }
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_forebay"));
        command.args(args).current_dir(&self.dir).env_remove("FOREBAY_CONFIG").env_remove("FOREBAY_LOG");
        command
    }

    fn run(&self, args: &[&str]) -> Output {
        self.command(args).stdin(Stdio::null()).output().unwrap()
    }

    fn run_with(&self, args: &[&str], stdin: &str) -> Output {
        let mut command = self.command(args);
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    /// The standard output of what must succeed.
    fn ok(&self, args: &[&str]) -> String {
        let output = self.run(args);
        assert!(output.status.success(), "{args:?}: {}\n{}", output.status, text(&output.stderr));
        text(&output.stdout)
    }

    /// The objects that a verb prints with `--json`.
    fn json(&self, args: &[&str]) -> Vec<Value> {
        let mut all = args.to_vec();
        all.push("--json");
        self.ok(&all).lines().map(|line| serde_json::from_str(line).unwrap_or_else(|_| panic!("{line}"))).collect()
    }

    /// The exit code and the error of what must fail.
    fn fails(&self, args: &[&str]) -> (i32, String) {
        let output = self.run(args);
        assert!(!output.status.success(), "{args:?} succeeded: {}", text(&output.stdout));
        (output.status.code().unwrap_or(-1), text(&output.stderr))
    }

    fn serve(&self) -> Server {
        let log = fs::File::create(self.dir.join("log")).unwrap();
        let mut command = self.command(&["--json", "serve"]);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(log).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let ready: Value = serde_json::from_str(&line).unwrap_or_else(|_| {
            child.kill().unwrap();
            panic!("no start: {line}\n{}", fs::read_to_string(self.dir.join("log")).unwrap());
        });
        Server { child, ready }
    }

    fn files(&self) -> Vec<Value> {
        self.json(&["queue", "list"])
    }

    /// The state of the only file of this name, once it is `wanted`.
    fn wait_for(&self, name: &str, wanted: &str) -> Value {
        for _ in 0..300 {
            let file = self.files().into_iter().find(|file| file["name"] == name);
            if let Some(file) = file.filter(|file| file["state"] == wanted) {
                return file;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("{name} is not {wanted}: {:?}", self.files());
    }
}

struct Server {
    child: Child,
    ready: Value,
}

impl Server {
    fn address(&self, door: &str) -> String {
        let doors = self.ready["doors"].as_array().unwrap();
        doors.iter().find(|one| one["door"] == door).unwrap()["address"].as_str().unwrap().to_owned()
    }

    fn login(&self, user: &str, password: &str) -> Result<Ftp, String> {
        Ftp::login(&self.address("ftp"), user, password)
    }

    /// Asks it to stop, and sees that it ends well.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").arg(&pid).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The least of an FTP client.
struct Ftp {
    control: BufReader<TcpStream>,
}

impl Ftp {
    fn login(address: &str, user: &str, password: &str) -> Result<Self, String> {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let mut ftp = Self { control: BufReader::new(stream) };
        ftp.reply();
        ftp.command(&format!("USER {user}"));
        let reply = ftp.command(&format!("PASS {password}"));
        if reply.starts_with("230") { Ok(ftp) } else { Err(reply) }
    }

    fn command(&mut self, line: &str) -> String {
        self.control.get_mut().write_all(format!("{line}\r\n").as_bytes()).unwrap();
        self.reply()
    }

    fn reply(&mut self) -> String {
        loop {
            let mut line = String::new();
            self.control.read_line(&mut line).unwrap();
            if line.is_empty() || line.as_bytes().get(3) == Some(&b' ') {
                return line.trim_end().to_owned();
            }
        }
    }

    fn store(&mut self, name: &str, bytes: &[u8]) -> String {
        self.command("TYPE I");
        let reply = self.command("EPSV");
        let port: u16 = reply.split('|').nth(3).unwrap_or_else(|| panic!("{reply}")).parse().unwrap();
        let mut data = TcpStream::connect(("127.0.0.1", port)).unwrap();
        let first = self.command(&format!("STOR {name}"));
        if !first.starts_with("150") {
            return first;
        }
        data.write_all(bytes).unwrap();
        data.shutdown(std::net::Shutdown::Write).unwrap();
        let mut rest = Vec::new();
        let _ = data.read_to_end(&mut rest);
        self.reply()
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn id(file: &Value) -> &str {
    file["id"].as_str().unwrap()
}

/// A partner with a password of its own, before a server runs.
fn add_partner(house: &House) {
    let added = house.run_with(&["partner", "add", "clinic", "--password-stdin"], "right horse battery\n");
    assert!(added.status.success(), "{}", text(&added.stderr));
    assert!(!text(&added.stdout).contains("right horse"), "a password that was given is not shown");
}

const PASSWORD: &str = "right horse battery";

#[test]
fn a_file_is_deferred_while_an_operator_closes_the_gate_and_done_when_it_is_opened() {
    let house = House::new(CONFIG);
    add_partner(&house);
    let server = house.serve();
    let mut ftp = server.login("clinic", PASSWORD).unwrap();
    let closed = house.ok(&["gate", "close", "--for", "1h", "--reason", "a test"]);
    assert!(closed.contains("close everything"), "{closed}");
    assert!(ftp.store("a.hl7", b"one").starts_with("226"));
    let file = house.wait_for("a.hl7", "ready");
    for key in [
        "id",
        "partner",
        "name",
        "size_bytes",
        "sha256",
        "state",
        "deferred",
        "resumes_at",
        "received_at",
        "route",
        "attempts",
    ] {
        assert!(file.get(key).is_some(), "{key} is missing in {file}");
    }
    assert_eq!((&file["deferred"], &file["size_bytes"], &file["attempts"]), (&true.into(), &3.into(), &0.into()));
    let resumes = file["resumes_at"].as_str().unwrap();
    assert!(resumes.parse::<chrono::DateTime<chrono::Utc>>().is_ok(), "{resumes}");
    assert!(house.ok(&["queue", "list"]).contains("deferred, resumes at "));
    let gate = &house.json(&["gate", "status"])[0];
    assert_eq!((gate["state"].as_str(), gate["zone"].as_str()), (Some("closed"), Some("America/Chicago")));
    assert!(house.ok(&["gate", "extend", "--by", "30m"]).contains("extend"));
    house.ok(&["gate", "open", "--reason", "done early"]);
    let file = house.wait_for("a.hl7", "done");
    assert_eq!((&file["deferred"], &file["resumes_at"]), (&false.into(), &Value::Null));
    let audit = house.ok(&["audit", "--since", "1h"]);
    for what in [
        "partner.add",
        "gate.close",
        "gate.extend",
        "gate.open",
        "accepted a.hl7 of clinic by ftp",
        "attempt ended: done",
    ] {
        assert!(audit.contains(what), "{what} is missing in\n{audit}");
    }
    let (code, error) = house.fails(&["gate", "close", "--reason", "x", "--route", "nope"]);
    assert_eq!(code, 3, "{error}");
    server.stop();
}

#[test]
fn files_are_held_released_requeued_cancelled_and_exported_by_id_by_filter_and_from_a_pipe() {
    let house = House::new(CONFIG);
    add_partner(&house);
    let server = house.serve();
    let mut ftp = server.login("clinic", PASSWORD).unwrap();
    house.ok(&["gate", "close", "--reason", "a test"]);
    for (name, bytes) in [("a.hl7", "one"), ("b.hl7", "two"), ("c\u{1}\u{202e}.hl7", "three")] {
        let reply = ftp.store(name, bytes.as_bytes());
        assert!(reply.starts_with("226") || name.contains('\u{1}'), "{name}: {reply}");
    }
    let files = house.files();
    let (a, b) = (id(&files[0]).to_owned(), id(&files[1]).to_owned());
    house.ok(&["queue", "hold", &a, "--reason", "to be looked at"]);
    assert_eq!(house.wait_for("a.hl7", "held")["reason"], "to be looked at");
    let held = house.ok(&["queue", "list", "--state", "held"]);
    assert!(held.contains("a.hl7") && !held.contains("b.hl7"), "{held}");
    let (code, error) = house.fails(&["queue", "release", &b]);
    assert_eq!(code, 1, "{error}");
    house.ok(&["queue", "release", "--partner", "clinic"]);
    house.wait_for("a.hl7", "ready");
    let piped = house.run_with(&["queue", "cancel", "-"], &format!("{a} some text\n{{\"id\":\"{b}\"}}\n"));
    assert!(piped.status.success(), "{}", text(&piped.stderr));
    house.wait_for("b.hl7", "cancelled");
    let acted = house.json(&["queue", "requeue", &b]);
    assert_eq!(acted[0]["file"]["state"], "ready");
    // All but the last digit is a unique beginning here.
    let shown = house.ok(&["queue", "show", &a[..35]]);
    assert!(shown.contains("a.hl7") && shown.contains("operator"), "{shown}");
    assert_eq!(house.fails(&["queue", "show", "ffff"]).0, 3);
    assert_eq!(house.fails(&["queue", "cancel"]).0, 2);
    assert_eq!(house.ok(&["queue", "export", &a]), "one");
    house.ok(&["queue", "export", &b, "out.bin"]);
    assert_eq!(fs::read(house.dir.join("out.bin")).unwrap(), b"two");
    let stats = &house.json(&["queue", "stats"])[0];
    assert!(stats["deferred"].as_u64().unwrap() >= 1, "{stats}");
    assert_eq!(house.json(&["queue", "verify"])[0]["faults"], Value::Array(Vec::new()));
    assert_eq!(house.json(&["queue", "rebuild"])[0]["faults"], Value::Array(Vec::new()));
    assert_eq!(house.json(&["queue", "list", "--limit", "1"]).len(), 1);
    for line in house.ok(&["queue", "list"]).lines() {
        assert!(!line.contains(['\u{1}', '\u{202e}']), "a name steers the terminal: {line:?}");
    }
    server.stop();
    // The same questions without a server, and what needs one.
    assert_eq!(house.files().len(), files.len());
    assert_eq!(house.ok(&["queue", "export", &a]), "one");
    assert_eq!(house.json(&["queue", "verify"])[0]["faults"], Value::Array(Vec::new()));
    house.json(&["queue", "rebuild"]);
    assert_eq!(house.json(&["status"])[0]["running"], false);
    // The route they wait for is taken out of the configuration: that must not go unseen.
    assert_eq!(house.json(&["queue", "stats"])[0]["unserved_lanes"], Value::Array(Vec::new()));
    fs::write(house.dir.join("forebay.toml"), format!("{CONFIG}[[route]]\nname = \"other\"\n")).unwrap();
    assert_eq!(house.json(&["queue", "stats"])[0]["unserved_lanes"][0]["lane"]["partner"], "clinic");
    assert!(house.ok(&["queue", "stats"]).contains("has no route any more"));
    assert!(house.ok(&["status"]).contains("which is not configured any more"));
    let (code, error) = house.fails(&["queue", "hold", &b]);
    assert!(code == 4 && error.contains("forebay serve"), "{code} {error}");
}

#[test]
fn accounts_take_effect_at_once() {
    let house = House::new(CONFIG);
    let server = house.serve();
    let added = house.json(&["partner", "add", "lab"]);
    let password = added.iter().find_map(|object| object.get("password")).unwrap().as_str().unwrap().to_owned();
    assert!(server.login("lab", &password).is_ok());
    assert_eq!(house.fails(&["partner", "add", "LAB"]).0, 1);
    assert_eq!(house.fails(&["partner", "add", "../lab"]).0, 2);
    house.ok(&["partner", "disable", "lab"]);
    assert!(server.login("lab", &password).is_err());
    house.ok(&["partner", "enable", "lab"]);
    assert!(server.login("lab", &password).is_ok());
    let changed = house.json(&["partner", "passwd", "lab"]);
    let new = changed.iter().find_map(|object| object.get("password")).unwrap().as_str().unwrap().to_owned();
    assert!(server.login("lab", &password).is_err());
    let mut session = server.login("lab", &new).unwrap();
    assert!(session.command("MKD its-own").starts_with("257"));
    drop(session);
    assert_eq!(house.json(&["partner", "list"])[0]["name"], "lab");
    house.ok(&["partner", "remove", "lab"]);
    assert!(server.login("lab", &new).is_err());
    assert_eq!(house.fails(&["partner", "remove", "lab"]).0, 3);
    // Who has the name next sees nothing of who had it before.
    let (code, error) = house.fails(&["partner", "add", "lab"]);
    assert!(code == 1 && error.contains("--take-over"), "{error}");
    let added = house.json(&["partner", "add", "lab", "--take-over"]);
    let password = added.iter().find_map(|object| object.get("password")).unwrap().as_str().unwrap().to_owned();
    assert!(server.login("lab", &password).unwrap().command("CWD its-own").starts_with("550"));
}

#[test]
fn a_second_server_on_the_same_data_is_told_who_has_it() {
    let house = House::new(CONFIG);
    let server = house.serve();
    let (code, error) = house.fails(&["serve"]);
    assert_eq!(code, 1);
    assert!(error.contains(&format!("process {} (forebay serve)", server.child.id())), "{error}");
    let taken = CONFIG.replacen("127.0.0.1:0", &server.address("ftp"), 1);
    let (code, error) = House::new(&taken).fails(&["serve"]);
    assert!(code == 1 && error.contains("another program listens there"), "{error}");
}

#[test]
fn a_data_path_longer_than_a_socket_address_works() {
    let below = format!("{}/{}", "d".repeat(90), "e".repeat(90));
    let house = House::at(&below, CONFIG);
    let server = house.serve();
    assert_eq!(house.json(&["status"])[0]["running"], true);
    server.stop();
}

#[test]
fn check_reports_every_fault_with_its_line() {
    let config = "data = \"data\"\nfoo = 1\n[ftp]\nlisten = \"nonsense\"\nlimit = 7\n[web]\nmax_connections = 0\n\
                  [schedule]\nfile = \"maintenance.toml\"\n[[route]]\nname = \"x\"\nprocessor = \"exec\"\n\
                  command = [\"/no/such/program\"]\n[[route]]\npaths = [\"*\"]\n[process]\nlease = \"1s\"\n";
    let house = House::new(config);
    let schedule = "timezone = \"America/Chicago\"\n[[window]]\nname = \"w\"\nstart = \"2026-04-24 19:00\"\n\
                    end = \"2026-04-24 18:00\"\n[[window]]\nname = \"v\"\nstart = \"soon\"\nduration = \"1h\"\n\
                    [[window]]\nname = \"u\"\nstart = \"2026-04-24 19:00\"\nduration = \"1h\"\nroutes = [\n\"x\",\n\"typo\"]\n";
    fs::write(house.dir.join("maintenance.toml"), schedule).unwrap();
    let output = house.run(&["check"]);
    let found = text(&output.stdout);
    assert_eq!(output.status.code(), Some(1));
    for fault in [
        "forebay.toml:2: foo: unknown key",
        "forebay.toml:4: ftp.listen: ",
        "forebay.toml:5: ftp.limit: unknown key",
        "forebay.toml:7: web.max_connections: ",
        "forebay.toml:13: route[0].command[0]: there is no program",
        "forebay.toml:14: route[1]: \"name\" is missing",
        "forebay.toml:17: process.lease: ",
        "maintenance.toml:5: window[0].end: ",
        "maintenance.toml:8: window[1].start: ",
        "maintenance.toml:16: window[2].routes[1]: no route is called \"typo\"",
    ] {
        assert!(found.contains(fault), "{fault} is missing in\n{found}");
    }
    let (code, error) = house.fails(&["serve"]);
    assert!(code == 2 && error.contains("forebay.toml:17"), "{error}");
}

#[test]
fn init_writes_what_check_finds_no_fault_in() {
    let temp = tempfile::tempdir().unwrap();
    let house = House { dir: temp.path().to_owned(), _temp: temp };
    house.ok(&["init"]);
    assert!(house.ok(&["check"]).contains("no faults"));
    let (code, error) = house.fails(&["init"]);
    assert!(code == 1 && error.contains("--force"), "{error}");
    house.ok(&["init", "--force"]);
    let (code, error) = house.fails(&["queue", "list"]);
    assert!(code == 4 && error.contains("no data"), "{error}");
    assert!(house.ok(&["completions", "bash"]).contains("forebay"));
    assert_eq!(house.fails(&["queue", "list", "--state", "lost"]).0, 2);
}

#[test]
fn watch_tells_changes_as_they_happen() {
    let house = House::new(CONFIG);
    add_partner(&house);
    let server = house.serve();
    let mut watch = house.command(&["queue", "watch", "--json"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(watch.stdout.take().unwrap()).lines();
    let first: Value = serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap();
    assert_eq!(first["event"], "pulse");
    assert!(server.login("clinic", PASSWORD).unwrap().store("w.hl7", b"watched").starts_with("226"));
    let done = lines.map(|line| serde_json::from_str::<Value>(&line.unwrap()).unwrap()).take(100);
    let mut done = done.filter(|line| line["event"] == "change" && line["file"]["state"] == "done");
    assert_eq!(done.next().expect("the file is seen to be done")["file"]["name"], "w.hl7");
    watch.kill().unwrap();
    watch.wait().unwrap();
}

#[test]
fn a_first_start_with_no_configuration_makes_one_partner_and_says_its_password_once() {
    // The default ports are tried where nobody else can have them.
    if !is_root_or_ran_as_root("a_first_start_with_no_configuration_makes_one_partner_and_says_its_password_once") {
        return;
    }
    enter_namespace();
    let temp = tempfile::tempdir().unwrap();
    let house = House { dir: temp.path().to_owned(), _temp: temp };
    assert!(Path::new("/etc/forebay/forebay.toml").exists() || house.run(&["check"]).status.success());
    let server = house.serve();
    let password = server.ready["demo_password"].as_str().expect("a password").to_owned();
    assert!(server.login("demo", &password).unwrap().store("a.hl7", b"one").starts_with("226"));
    house.wait_for("a.hl7", "done");
    let doors = server.ready["doors"].as_array().expect("doors");
    let sftp = doors.iter().find(|door| door["door"] == "sftp").expect("SFTP is served");
    assert_eq!(sftp["address"], "127.0.0.1:2022");
    let greeting = std::net::TcpStream::connect("127.0.0.1:2022").unwrap();
    let mut line = String::new();
    BufReader::new(greeting).read_line(&mut line).unwrap();
    assert!(line.starts_with("SSH-2.0-"), "{line}");
    let status = text(&house.run(&["status"]).stdout).to_owned();
    for kind in ["ssh-ed25519 SHA256:", "ssh-rsa SHA256:"] {
        assert!(status.contains(kind), "{kind} in {status}");
    }
    // It is there for who wants it: a NIST curve is not offered unasked.
    assert!(house.dir.join("forebay-data/ssh/ssh_host_ecdsa_key").is_file());
    server.stop();
    let server = house.serve();
    assert_eq!(server.ready["demo_password"], Value::Null, "it is told once");
    assert!(server.login("demo", &password).is_ok());
}

#[test]
fn the_demo_shows_what_it_says() {
    let temp = tempfile::tempdir().unwrap();
    let house = House { dir: temp.path().to_owned(), _temp: temp };
    // No program but Forebay and a shell is needed, and its temporary data goes.
    let mut command = house.command(&["demo"]);
    let output = command.env("TMPDIR", &house.dir).output().unwrap();
    let shown = text(&output.stdout);
    assert!(output.status.success(), "{shown}\n{}", text(&output.stderr));
    assert!(shown.contains("503 Service Unavailable") && shown.contains("kill -9"), "{shown}");
    assert!(shown.matches("SFTP ").count() > 2, "two of its files come by SFTP: {shown}");
    assert_eq!(fs::read_dir(&house.dir).unwrap().count(), 0, "something is left behind");
}
