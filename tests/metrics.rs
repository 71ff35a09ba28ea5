//! `/metrics` of the real server, read by Python's `prometheus_client`, whose parser is strict.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    net::SocketAddr,
    process::Command,
    time::{Duration, Instant},
};

use harness::{
    Ftp,
    binary::{Machine, http_get, http_status},
    ports::free_address,
    sftp_client::Sftp,
    small_disk::SmallDisk,
    wait_until,
};

/// A file that is a file of its own in the spool.
const LARGE: usize = 100 << 10;
/// Dashes and dots, and the longest name that a partner may have.
const HOSTILE: &str = "forebay_up-0.bucket.le-Inf.xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx";

struct Watched {
    machine: Machine,
    metrics: SocketAddr,
}

type Samples = BTreeMap<String, f64>;

impl Watched {
    fn new(extra: &str) -> Self {
        let metrics = free_address();
        let machine = Machine::new(&format!("[metrics]\nlisten = \"{metrics}\"\n\n{extra}"));
        machine.add_partner("clinic", "secret");
        Self { machine, metrics }
    }

    fn started(extra: &str) -> Self {
        let mut watched = Self::new(extra);
        watched.machine.start();
        watched
    }

    /// What Python reads, and the text that it was read from.
    fn scraped(&self) -> (Samples, String) {
        let python = format!("{}/target/tools/python/bin/python", env!("CARGO_MANIFEST_DIR"));
        let script = format!("{}/tests/clients/read_metrics.py", env!("CARGO_MANIFEST_DIR"));
        let output =
            Command::new(python).arg(script).arg(format!("http://{}/metrics", self.metrics)).output().expect("Python");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let read: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        (serde_json::from_value(read["samples"].clone()).unwrap(), read["text"].as_str().unwrap().to_owned())
    }

    fn samples(&self) -> Samples {
        self.scraped().0
    }

    /// The value of one sample, by a request of our own.
    fn value(&self, sample: &str) -> Option<f64> {
        let answer = http_get(self.metrics, "/metrics", "text/plain").expect("an answer");
        let line = answer.lines().find_map(|line| line.strip_prefix(sample)?.strip_prefix(' '));
        line.map(|value| value.parse().expect("a number"))
    }

    fn ftp(&self) -> Ftp {
        let mut session = Ftp::connect(self.machine.ftp);
        session.login("clinic", "secret");
        session
    }

    /// Has an upload through the web, and gives the status of the answer.
    fn post(&self, name: &str, login: &str, bytes: &[u8]) -> u16 {
        let url = format!("http://{}/v1/files?name={name}", self.machine.web);
        let mut curl = Command::new("curl")
            .args(["-sS", "--max-time", "30", "--noproxy", "*", "-u", login, "-o", "/dev/null", "-w", "%{http_code}"])
            .args(["-H", "Content-Type: application/octet-stream", "--data-binary", "@-", &url])
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        curl.stdin.take().unwrap().write_all(bytes).unwrap();
        String::from_utf8(curl.wait_with_output().unwrap().stdout).unwrap().parse().unwrap()
    }
}

/// By how much samples have grown, without those that have not.
fn grown(before: &Samples, after: &Samples) -> Samples {
    let grown = after.iter().map(|(name, value)| (name.clone(), value - before.get(name).copied().unwrap_or(0.0)));
    grown.filter(|(_, by)| *by != 0.0).collect()
}

/// Those whose name begins so.
fn named(samples: &Samples, start: &str) -> Vec<(String, f64)> {
    samples.iter().filter(|(name, _)| name.starts_with(start)).map(|(name, value)| (name.clone(), *value)).collect()
}

fn pairs(expected: &[(&str, f64)]) -> Vec<(String, f64)> {
    expected.iter().map(|(name, value)| ((*name).to_owned(), *value)).collect()
}

#[test]
fn uploads_through_each_door_move_its_counters_by_as_much() {
    let watched = Watched::started("");
    // What holds for all: the first figures are there before anything was done.
    let before = watched.samples();
    let accepted = named(&before, "forebay_uploads_accepted_total");
    assert_eq!(accepted.iter().map(|(_, count)| *count).collect::<Vec<_>>(), [0.0; 4], "{accepted:?}");
    let mut ftp = watched.ftp();
    assert_eq!((ftp.store("a.hl7", &[b'x'; 1000]).code, ftp.store("b.bin", &[b'x'; LARGE]).code), (226, 226));
    let mut sftp = Sftp::login(watched.machine.sftp, "clinic", "secret").unwrap();
    for name in ["c.hl7", "d.hl7", "e.hl7"] {
        assert!(sftp.store(name, &[b'x'; 500]).is_ok());
    }
    assert_eq!(watched.post("f.hl7", "clinic:secret", &[b'x'; 70]), 201);
    let by = grown(&before, &watched.samples());
    assert_eq!(
        named(&by, "forebay_uploads_"),
        pairs(&[
            ("forebay_uploads_accepted_total{door=\"ftp\"}", 2.0),
            ("forebay_uploads_accepted_total{door=\"sftp\"}", 3.0),
            ("forebay_uploads_accepted_total{door=\"web\"}", 1.0),
        ])
    );
    assert_eq!(
        named(&by, "forebay_received_bytes_total"),
        pairs(&[
            ("forebay_received_bytes_total{door=\"ftp\"}", (1000 + LARGE) as f64),
            ("forebay_received_bytes_total{door=\"sftp\"}", 1500.0),
            ("forebay_received_bytes_total{door=\"web\"}", 70.0),
        ])
    );
    assert_eq!(
        named(&by, "forebay_commit_seconds_count"),
        pairs(&[
            ("forebay_commit_seconds_count{content=\"inline\"}", 5.0),
            ("forebay_commit_seconds_count{content=\"kept\"}", 1.0),
        ]),
        "one for each acceptance"
    );
    assert!(by["forebay_commit_seconds_sum{content=\"inline\"}"] > 0.0);
    // Six acceptances one after another are six groups at least; the large one is synced with its directory before.
    assert!(by["forebay_sync_seconds_count{volume=\"journal\",what=\"data\"}"] >= 6.0, "{by:#?}");
    assert!(by["forebay_sync_seconds_count{volume=\"files\",what=\"file\"}"] >= 1.0, "{by:#?}");
    assert!(by["forebay_sync_seconds_count{volume=\"files\",what=\"directory\"}"] >= 1.0, "{by:#?}");
    let admitted = |door: &str| by[&format!("forebay_connections_admitted_total{{door=\"{door}\"}}")];
    assert_eq!((admitted("ftp"), admitted("sftp")), (1.0, 1.0));
    let open = |door: &str| watched.value(&format!("forebay_connections{{door=\"{door}\"}}"));
    assert_eq!((open("ftp"), open("sftp")), (Some(1.0), Some(1.0)));
    drop((ftp, sftp));
    wait_until("the connections are over", || (open("ftp"), open("sftp")) == (Some(0.0), Some(0.0)));
}

#[test]
fn uploads_that_are_refused_or_cut_are_counted_once_by_what_became_of_them() {
    let watched = Watched::started(
        "[policy]\nmax_file_size = \"10 KiB\"\nquota = \"30 KiB\"\n\n[[route]]\nname = \"lab\"\ndirectory = \"@DIR@/lab\"\n",
    );
    watched.machine.ok(&["gate", "close", "--route", "lab", "--for", "1h", "--reason", "test"]);
    let before = watched.samples();
    let mut ftp = watched.ftp();
    assert_eq!(ftp.store("none/a.hl7", b"x").code, 550, "no such directory");
    assert_ne!(ftp.store("large.hl7", &[b'x'; 20 << 10]).code, 226);
    assert_eq!(watched.post("large.hl7", "clinic:secret", &[b'x'; 20 << 10]), 413);
    for name in ["a", "b", "c"] {
        assert_eq!(ftp.store(name, &[b'x'; 9 << 10]).code, 226);
    }
    assert_ne!(ftp.store("d", &[b'x'; 9 << 10]).code, 226, "over the quota");
    // Begun, and its client is gone.
    let mut cut = watched.ftp();
    let mut data = cut.passive();
    assert_eq!(cut.command("STOR cut.hl7").code, 150);
    data.write_all(b"half").unwrap();
    drop((cut, data));
    let mut sftp = Sftp::login(watched.machine.sftp, "clinic", "secret").unwrap();
    let handle = sftp.open("cut.sftp", 0x1a).unwrap();
    assert!(sftp.write(&handle, 0, b"half").is_ok());
    drop(sftp);
    let cut = |door: &str| watched.value(&format!("forebay_uploads_cut_total{{door=\"{door}\"}}"));
    wait_until("both are cut", || (cut("ftp"), cut("sftp")) == (Some(1.0), Some(1.0)));
    let by = grown(&before, &watched.samples());
    assert_eq!(
        named(&by, "forebay_uploads_"),
        pairs(&[
            ("forebay_uploads_accepted_total{door=\"ftp\"}", 3.0),
            ("forebay_uploads_cut_total{door=\"ftp\"}", 1.0),
            ("forebay_uploads_cut_total{door=\"sftp\"}", 1.0),
            ("forebay_uploads_refused_total{door=\"ftp\",kind=\"name\"}", 1.0),
            ("forebay_uploads_refused_total{door=\"ftp\",kind=\"quota\"}", 1.0),
            ("forebay_uploads_refused_total{door=\"ftp\",kind=\"size\"}", 1.0),
            ("forebay_uploads_refused_total{door=\"web\",kind=\"size\"}", 1.0),
        ])
    );
    assert_eq!(
        named(&by, "forebay_commit_seconds_count"),
        pairs(&[("forebay_commit_seconds_count{content=\"inline\"}", 3.0)])
    );
}

#[test]
fn a_closed_gate_shows_with_its_cause_and_the_time_that_is_left() {
    let watched = Watched::started("[[route]]\nname = \"lab\"\npaths = [\"*.hl7\"]\ndirectory = \"@DIR@/lab\"\n");
    let open = watched.samples();
    assert_eq!(
        named(&open, "forebay_gate_open"),
        pairs(&[("forebay_gate_open{scope=\"lab\"}", 1.0), ("forebay_gate_open{scope=\"web\"}", 1.0)])
    );
    assert_eq!(named(&open, "forebay_gate_next_change_seconds"), [], "nothing is planned");
    assert!(named(&open, "forebay_gate_closed").iter().all(|(_, closed)| *closed == 0.0));
    watched.machine.ok(&["gate", "close", "--route", "lab", "--for", "1h", "--reason", "test"]);
    assert_eq!(watched.ftp().store("a.hl7", b"MSH|").code, 226);
    assert_eq!(watched.ftp().store("b.hl7", b"MSH|").code, 226);
    let closed = watched.samples();
    assert_eq!(
        named(&closed, "forebay_gate_open"),
        pairs(&[("forebay_gate_open{scope=\"lab\"}", 0.0), ("forebay_gate_open{scope=\"web\"}", 1.0)])
    );
    let causes: Vec<_> =
        named(&closed, "forebay_gate_closed").into_iter().filter(|(_, closes)| *closes == 1.0).collect();
    assert_eq!(causes, pairs(&[("forebay_gate_closed{cause=\"override\",scope=\"lab\"}", 1.0)]));
    let left = closed["forebay_gate_next_change_seconds{scope=\"lab\"}"];
    assert!((3_000.0..=3_600.0).contains(&left), "{left}");
    // What waits behind it.
    assert_eq!(closed["forebay_files{state=\"ready\"}"], 2.0);
    assert_eq!(closed["forebay_files_bytes{state=\"ready\"}"], 8.0);
    wait_until("the oldest one has its age", || watched.value("forebay_oldest_waiting_seconds") > Some(0.5));
    watched.machine.ok(&["gate", "clear"]);
    watched.machine.wait_until_none_is(&["ready", "active"], "both are processed");
    assert_eq!(watched.samples()["forebay_files{state=\"done\"}"], 2.0);
    wait_until("none waits", || watched.value("forebay_oldest_waiting_seconds") == Some(0.0));
}

#[test]
fn login_failures_count_by_door_and_reason() {
    let watched = Watched::started("");
    let before = watched.samples();
    let mut ftp = Ftp::connect(watched.machine.ftp);
    assert!(ftp.try_login("clinic", "wrong").is_err());
    assert!(Sftp::login(watched.machine.sftp, "nobody", "wrong").is_err());
    assert_eq!(watched.post("a.hl7", "clinic:guessed", b"x"), 401);
    let form = format!("http://{}/sign-in", watched.machine.web);
    let told = Command::new("curl")
        .args(["-sS", "--max-time", "30", "--noproxy", "*", "-o", "/dev/null", "-w", "%{http_code}"])
        .args(["-d", "name=clinic&password=guessed", &form])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&told.stdout), "403", "the portal");
    // Who shows nothing has not failed.
    assert_eq!(http_status(watched.machine.web, "/v1/files"), Some(401));
    let by = grown(&before, &watched.samples());
    let failures = named(&by, "forebay_login_failures_total");
    let doors: BTreeSet<_> = failures.iter().map(|(name, _)| name.split('"').nth(1).unwrap()).collect();
    assert_eq!(doors, BTreeSet::from(["ftp", "sftp", "web"]), "{failures:?}");
    assert_eq!(failures.iter().map(|(_, count)| count).sum::<f64>(), 4.0, "{failures:?}");
    assert_eq!(by["forebay_login_failures_total{door=\"ftp\",reason=\"credentials\"}"], 1.0);
}

#[test]
fn nothing_that_a_partner_or_a_stranger_has_named_is_told() {
    let watched = Watched::new("");
    watched.machine.add_partner(HOSTILE, "secret");
    let mut watched = watched;
    watched.machine.start();
    let before: Vec<_> = watched.samples().into_keys().collect();
    let mut ftp = Ftp::connect(watched.machine.ftp);
    ftp.login(HOSTILE, "secret");
    assert_eq!(ftp.store("forged\"} 1.hl7", b"MSH|").code, 226);
    assert!(Ftp::connect(watched.machine.ftp).try_login("forged\"} 1", "x").is_err());
    let (samples, text) = watched.scraped();
    let told = text.to_ascii_lowercase();
    assert!(!told.contains("forged") && !told.contains(&HOSTILE.to_ascii_lowercase()[..20]), "{text}");
    assert_eq!(samples.into_keys().collect::<Vec<_>>(), before, "the series are those that were there");
}

#[test]
fn lines_of_the_log_that_are_lost_count() {
    let mut watched = Watched::new("");
    watched.machine.spawn_logging_to(fs::File::options().write(true).open("/dev/full").unwrap().into());
    watched.machine.wait_ready();
    assert_eq!(watched.ftp().store("a.hl7", b"MSH|").code, 226);
    wait_until("some are lost", || watched.value("forebay_log_lines_lost_total") > Some(0.0));
    watched.machine.stop();
    watched.machine.start();
    assert_eq!(watched.samples()["forebay_log_lines_lost_total{}"], 0.0);
}

/// The room on the disk, and that everything is told where there is none.
#[test]
fn a_disk_without_room_shows_and_keeps_no_figure_back() {
    let mut watched = Watched::new("");
    let disk = SmallDisk::in_memory(watched.machine.data(), 64);
    watched.machine.add_partner("clinic", "secret");
    watched.machine.start();
    let before = watched.samples();
    assert_eq!(before["forebay_ready{}"], 1.0);
    assert_eq!(before["forebay_disk_size_bytes{}"], f64::from(64 << 20));
    assert_eq!(before["forebay_disk_reserve_bytes{}"], f64::from(1 << 20));
    let filler = disk.fill();
    assert_eq!(watched.ftp().store("a.hl7", b"MSH|").code, 452);
    wait_until("it is seen", || watched.value("forebay_ready") == Some(0.0));
    let full = watched.samples();
    assert!(full["forebay_disk_free_bytes{}"] <= f64::from(1 << 20), "{}", full["forebay_disk_free_bytes{}"]);
    assert_eq!(full["forebay_uploads_refused_total{door=\"ftp\",kind=\"full\"}"], 1.0);
    assert_eq!(full.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "nothing is missing");
    fs::remove_file(filler).unwrap();
    wait_until("there is room again", || watched.value("forebay_ready") == Some(1.0));
    watched.machine.stop();
}

/// It is made anew from the journal, and the figures are what they were.
#[test]
fn a_damaged_index_costs_no_figure() {
    let mut watched = Watched::new("");
    watched.machine.start();
    watched.machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    for name in ["a.hl7", "b.hl7"] {
        assert_eq!(watched.ftp().store(name, b"MSH|").code, 226);
    }
    let before = watched.samples();
    watched.machine.kill();
    for file in harness::files_below(&watched.machine.data().join("queue")) {
        let length = fs::metadata(&file).unwrap().len();
        fs::write(&file, vec![0xff; usize::try_from(length).unwrap()]).unwrap();
    }
    watched.machine.start();
    let after = watched.samples();
    let mut beside = fs::read_dir(watched.machine.data()).unwrap().map(|one| one.unwrap().file_name());
    assert!(beside.any(|name| name.to_string_lossy().starts_with("queue.corrupt")), "it was damaged");
    assert_eq!(after.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>());
    assert_eq!(named(&after, "forebay_files"), named(&before, "forebay_files"));
    assert!(after["forebay_oldest_waiting_seconds{}"] > 0.0 && after["forebay_queue_responds{}"] == 1.0);
    watched.machine.stop();
}

/// Nothing is written any more, and the queue's thread stands with it.
#[test]
fn a_disk_that_stands_still_holds_no_answer_up() {
    let mut watched = Watched::new("");
    let disk = SmallDisk::ext4(watched.machine.data(), 200, 4096);
    watched.machine.add_partner("clinic", "secret");
    watched.machine.start();
    watched.machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let mut session = watched.ftp();
    assert_eq!(session.store("a.hl7", b"MSH|").code, 226);
    let before = watched.samples();
    assert_eq!(before["forebay_queue_responds{}"], 1.0);
    let frozen = disk.stand_still();
    let mut data = session.passive();
    assert_eq!(session.command("STOR b.hl7").code, 150);
    data.write_all(b"MSH|").unwrap();
    drop(data);
    wait_until("the queue is known not to respond", || {
        let began = Instant::now();
        let responds = watched.value("forebay_queue_responds");
        assert!(began.elapsed() < Duration::from_secs(4), "{:?}", began.elapsed());
        responds == Some(0.0)
    });
    let still = watched.samples();
    assert!(still["forebay_look_age_seconds{}"] >= 10.0, "{still:#?}");
    assert_eq!(still["forebay_files{state=\"ready\"}"], 1.0);
    assert_eq!(still.keys().collect::<Vec<_>>(), before.keys().collect::<Vec<_>>(), "nothing is missing");
    drop(frozen);
    assert_eq!(session.reply().code, 226);
    wait_until("it responds", || watched.value("forebay_queue_responds") == Some(1.0));
    assert_eq!(watched.samples()["forebay_files{state=\"ready\"}"], 2.0);
    drop(session);
    watched.machine.stop();
}

#[test]
fn without_a_listener_there_are_no_figures_and_its_own_has_nothing_else() {
    let watched = Watched::started("[health]\nlisten = \"127.0.0.1:0\"\n");
    assert_eq!(http_status(watched.machine.web, "/metrics"), Some(404), "not at the web door");
    for path in ["/", "/healthz", "/v1/files", "/metrics/", "/metrics/x"] {
        assert_eq!(http_status(watched.metrics, path), Some(404), "{path}");
    }
    let post = "POST /metrics HTTP/1.1\r\nHost: a\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
    assert!(raw(watched.metrics, post.as_bytes()).starts_with("HTTP/1.1 405 "));
    let two_hosts = "GET /metrics HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n";
    assert!(raw(watched.metrics, two_hosts.as_bytes()).starts_with("HTTP/1.1 400 "));
    let status = watched.machine.ok(&["status", "--json"]);
    assert!(status.contains(&watched.metrics.to_string()), "{status}");
    let mut plain = Machine::new("");
    plain.start();
    assert_eq!(http_status(plain.web, "/metrics"), Some(404));
}

fn raw(at: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = std::net::TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(bytes).unwrap();
    std::io::read_to_string(stream).unwrap()
}

#[test]
fn a_check_knows_the_section() {
    let watched = Watched::new("");
    let config = fs::read_to_string(watched.machine.path().join("forebay.toml")).unwrap();
    watched.machine.ok(&["check"]);
    let refused = |text: String| {
        watched.machine.write("forebay.toml", &text);
        let output = watched.machine.cli(&["check"]);
        assert!(!output.status.success());
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
    };
    let taken = refused(config.replace(&watched.metrics.to_string(), &watched.machine.web.to_string()));
    assert!(taken.contains("metrics.listen") && taken.contains("web.listen"), "{taken}");
    let unknown = refused(config.replace("[metrics]\n", "[metrics]\npath = \"/m\"\n"));
    assert!(unknown.contains("metrics.path"), "{unknown}");
}

/// Each family is in the table of docs/OPERATIONS.md, and nothing else is.
#[test]
fn the_table_of_metrics_is_that_of_the_server() {
    let watched = Watched::started("[[route]]\nname = \"all\"\ndirectory = \"@DIR@/all\"\n");
    let (_, text) = watched.scraped();
    let told: BTreeSet<_> = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")).map(exposed).collect();
    let documented: BTreeSet<_> = include_str!("../docs/OPERATIONS.md")
        .lines()
        .filter_map(|line| line.strip_prefix("| `forebay_"))
        .map(|rest| format!("forebay_{}", rest.split(['`', '{']).next().unwrap()))
        .collect();
    assert_eq!(documented, told, "documented on the left, told on the right");
}

/// The name under which a family's samples are found.
fn exposed(line: &str) -> String {
    match line.split_once(' ').unwrap() {
        (name, "counter") => format!("{name}_total"),
        (name, "info") => format!("{name}_info"),
        (name, _) => name.to_owned(),
    }
}
