//! Starts: what can be asked of a server that is not ready yet, what a start that fails leaves, and which doors there are.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::TcpListener,
    process::{Command, Stdio},
    sync::Arc,
};

use forebay::{
    clock::SystemClock,
    config::{Config, Place},
    server::Running,
};
use forebay_queue::Watch;
use harness::{
    Ftp,
    binary::{FOREBAY, Machine, json_lines},
    wait_until,
};
use rustix::fs::FlockOperation;

fn configure(machine: &Machine, config: &str) {
    machine.write("forebay.toml", &format!("data = \"data\"\n[storage]\nreserve = \"1 MiB\"\n{config}"));
}

fn doors(machine: &Machine) -> Vec<String> {
    let status = json_lines(&machine.ok(&["status", "--json"])).remove(0);
    let doors = status["server"]["doors"].as_array().cloned().unwrap_or_default();
    doors.iter().map(|door| door["door"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn what_is_asked_right_after_a_first_start_is_answered_when_it_is_ready() {
    let mut machine = Machine::new("");
    // All host keys: making them takes a while, in which the FTP port is open already.
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &config.replace("host_key_algorithms = [\"ssh-ed25519\"]\n", ""));
    machine.spawn();
    wait_until("the server has the data", || {
        fs::read_to_string(machine.data().join("lock")).is_ok_and(|text| text.trim_end().ends_with(" serve"))
    });
    machine.add_partner("clinic", "secret");
    // Also what needs the running server.
    machine.ok(&["sessions"]);
    Ftp::connect(machine.ftp).login("clinic", "secret");
    assert_eq!(doors(&machine), ["ftp", "sftp", "web"]);
}

#[test]
fn who_finds_the_door_open_finds_the_admin_socket() {
    let mut machine = Machine::new("");
    machine.spawn();
    wait_until("the FTP port is open", || std::net::TcpStream::connect(machine.ftp).is_ok());
    assert!(machine.data().join("admin.sock").exists());
    machine.wait_ready();
}

#[test]
fn what_is_asked_while_a_server_stops_waits_until_the_data_is_free() {
    let machine = Machine::new("");
    machine.add_partner("clinic", "secret");
    // A server that holds the data and has no socket any more, which is this process.
    let mut lock = File::options().write(true).open(machine.data().join("lock")).unwrap();
    rustix::fs::flock(&lock, FlockOperation::LockExclusive).unwrap();
    lock.set_len(0).unwrap();
    lock.write_all(format!("{} serve\n", std::process::id()).as_bytes()).unwrap();
    let config = machine.path().join("forebay.toml");
    let mut command = Command::new(FOREBAY);
    command.arg("--config").arg(config).args(["partner", "list"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut told = String::new();
    BufReader::new(child.stderr.take().unwrap()).read_line(&mut told).unwrap();
    assert!(told.contains("waiting for it"), "{told}");
    drop(lock);
    assert!(child.wait().unwrap().success());
    let mut listed = String::new();
    child.stdout.take().unwrap().read_to_string(&mut listed).unwrap();
    assert!(listed.contains("clinic"), "{listed}");
}

#[test]
fn a_first_start_that_fails_makes_no_account_and_the_next_one_tells_its_password() {
    let data = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    // As with no configuration at all, but for the ports.
    let mut config = Config::load(&Place { data: Some(data.path().join("data")), ..Place::default() }).unwrap();
    assert!(config.file.is_none() && config.ftp.enabled && config.sftp.enabled, "{:?}", config.file);
    config.ftp.listen = "127.0.0.1:0".parse().unwrap();
    config.sftp.listen = taken.local_addr().unwrap();
    config.sftp.host_key_algorithms = vec!["ssh-ed25519".to_owned()];
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let clock = Arc::new(SystemClock::new());
    let failed = runtime.block_on(Running::start(config.clone(), clock.clone(), &Watch::default())).unwrap_err();
    assert!(failed.text.contains("another program listens there"), "{}", failed.text);
    assert_eq!(fs::read_dir(data.path().join("data/partners")).unwrap().count(), 0, "an account that nobody can use");
    drop(taken);
    let running = runtime.block_on(Running::start(config, clock, &Watch::default())).unwrap();
    let password = running.demo_password.clone().expect("the password is told");
    Ftp::connect(running.ftp.unwrap()).login("demo", &password);
    runtime.block_on(running.shutdown());
}

#[test]
fn a_door_that_the_configuration_does_not_name_is_off() {
    let mut machine = Machine::new("");
    configure(&machine, &format!("[ftp]\nlisten = \"{}\"\n", machine.ftp));
    machine.add_partner("clinic", "secret");
    machine.spawn();
    wait_until("it runs", || doors(&machine) == ["ftp"]);
    Ftp::connect(machine.ftp).login("clinic", "secret");
    machine.stop();
    configure(&machine, &format!("[sftp]\nlisten = \"{}\"\nhost_key_algorithms = [\"ssh-ed25519\"]\n", machine.sftp));
    machine.spawn();
    wait_until("it runs", || doors(&machine) == ["sftp"]);
    assert!(std::net::TcpStream::connect(machine.ftp).is_err());
    machine.stop();
    let off = "[ftp]\nenabled = false\n[sftp]\n";
    configure(&machine, &format!("{off}listen = \"{}\"\nhost_key_algorithms = [\"ssh-ed25519\"]\n", machine.sftp));
    machine.spawn();
    wait_until("it runs", || doors(&machine) == ["sftp"]);
}

#[test]
fn a_configuration_that_names_no_door_is_a_fault() {
    let machine = Machine::new("");
    for config in ["", "[web]\nmax_connections = 3\n", "[ftp]\nenabled = false\n"] {
        configure(&machine, config);
        let output = machine.cli(&["check"]);
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.code() == Some(1) && told.contains("names no door"), "{config}: {told}");
        let output = machine.cli(&["serve"]);
        assert_eq!(output.status.code(), Some(2), "{config}: {output:?}");
    }
    for config in ["[ftp]\n", "[sftp]\n", "[web]\nlisten = \"127.0.0.1:0\"\n"] {
        configure(&machine, config);
        let told = String::from_utf8(machine.cli(&["check"]).stdout).unwrap();
        assert!(!told.contains("names no door"), "{config}: {told}");
    }
}
