//! The server is killed with SIGKILL at random moments under load, at the gate and in the middle of processing.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    reason = "a test reads the clock of the machine, and may fail"
)]

mod harness;

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use chrono::{DateTime, TimeDelta, Utc};
use harness::{
    Addresses, Client, Door,
    binary::{Machine, json_lines},
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};

const PARTNERS: [(&str, Door); 5] =
    [("ash", Door::Ftp), ("birch", Door::Ftp), ("cedar", Door::Ftps), ("dogwood", Door::Sftp), ("elm", Door::Sftp)];
const TEMPORARY: &str = ".part";
const PASSWORD: &str = "correct horse battery staple";

/// Says when it begins and ends, and when it is not alone in its lane.
const PROCESSOR: &str = r#"#!/bin/sh
log="${0%/*}/runs.log"
exec 9>>"${0%/*}/$FOREBAY_PARTNER.lock"
flock -n 9 || echo "overlap $FOREBAY_FILE_ID $$" >>"$log"
echo "begin $FOREBAY_FILE_ID $$ $(date +%s%N)" >>"$log"
sum=$(sha256sum) || exit 1
[ "${sum%% *}" = "$FOREBAY_SHA256" ] || { echo "altered $FOREBAY_FILE_ID" >>"$log"; exit 65; }
case "$FOREBAY_NAME" in *slow*) sleep 0.4 ;; esac
echo "end $FOREBAY_FILE_ID" >>"$log"
"#;

/// How often the server is killed: 200 unless `FOREBAY_KILLS` says otherwise.
fn kills() -> u32 {
    std::env::var("FOREBAY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(200)
}

/// The seed, printed so that a failure can be repeated: `FOREBAY_SEED` sets it.
fn seed() -> u64 {
    let seed = std::env::var("FOREBAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    eprintln!("FOREBAY_SEED={seed}");
    seed
}

fn machine() -> Machine {
    let machine = Machine::new(
        "[schedule]\nfile = \"maintenance.toml\"\n\n[[route]]\nname = \"all\"\nprocessor = \"exec\"\ncommand = [\"@DIR@/process\"]\n\
         retry = { first = \"100ms\", max = \"500ms\" }\n",
    );
    machine.write("process", PROCESSOR);
    fs::set_permissions(machine.path().join("process"), fs::Permissions::from_mode(0o755)).expect("chmod");
    machine.write("maintenance.toml", "timezone = \"America/Chicago\"\n");
    for (partner, _) in PARTNERS {
        machine.add_partner(partner, PASSWORD);
    }
    machine
}

/// Windows that were put into the schedule, and when they were. They are only ever added.
struct Windows {
    written: Vec<DateTime<Utc>>,
    spans: Vec<(DateTime<Utc>, DateTime<Utc>)>,
}

impl Windows {
    /// A window over the next seconds, from the second that began before now.
    fn add(&mut self, machine: &Machine, seconds: i64) {
        let start = DateTime::from_timestamp(Utc::now().timestamp(), 0).expect("in range");
        self.written.push(Utc::now());
        self.spans.push((start, start + TimeDelta::seconds(seconds)));
        let mut text = String::from("timezone = \"UTC\"\n");
        for (index, (start, end)) in self.spans.iter().enumerate() {
            let local = |at: &DateTime<Utc>| at.format("%Y-%m-%d %H:%M:%S").to_string();
            write!(text, "\n[[window]]\nname = \"w{index}\"\nstart = \"{}\"\nend = \"{}\"\n", local(start), local(end))
                .expect("writes to a string");
        }
        machine.write("maintenance.toml", &text);
    }

    fn closed_at(&self, at: DateTime<Utc>) -> bool {
        // Nobody could know of a window before it was written.
        self.written.iter().zip(&self.spans).any(|(written, (_, end))| (*written..*end).contains(&at))
    }
}

/// Names, and digests of the bytes, of what each partner was told is kept.
type Acknowledged = Mutex<HashMap<(String, String), String>>;

/// Uploads without end, and remembers what the server said it keeps.
fn upload_until(
    stop: &AtomicBool,
    at: Addresses,
    (partner, door): (&str, Door),
    seed: u64,
    acknowledged: &Acknowledged,
) {
    let mut random = SmallRng::seed_from_u64(seed);
    let mut number = 0;
    while !stop.load(Ordering::Relaxed) {
        let Ok(mut client) = door.try_enter(at, partner, PASSWORD) else {
            thread::sleep(Duration::from_millis(10)); // nobody is there; a client would try again too
            continue;
        };
        while !stop.load(Ordering::Relaxed) {
            number += 1;
            let slow = if random.random_ratio(1, 20) { "-slow" } else { "" };
            let name = format!("{seed:x}-{number}{slow}.hl7");
            let size = if random.random_ratio(1, 10) {
                random.random_range(0..2_000_000)
            } else {
                random.random_range(0..20_000)
            };
            let bytes: Vec<u8> = (0..size).map(|_| random.random()).collect();
            let digest = sha256(&bytes);
            let keep = |name: &str| {
                acknowledged
                    .lock()
                    .expect("not poisoned")
                    .insert((partner.to_owned(), name.to_owned()), digest.clone());
            };
            if put(&mut *client, &name, &bytes, random.random_ratio(1, 6), keep).is_none() {
                break;
            }
            thread::sleep(Duration::from_millis(random.random_range(0..20))); // pace: a kill should find few files waiting
        }
    }
}

/// Uploads, sometimes under a temporary name that is renamed then, and tells of each word of the server. None when
/// nobody was there any more.
fn put(client: &mut dyn Client, name: &str, bytes: &[u8], temporary: bool, keep: impl Fn(&str)) -> Option<()> {
    if !temporary {
        client.try_put(name, bytes).ok()?.ok()?;
        keep(name);
        return Some(());
    }
    let beside = format!("{name}{TEMPORARY}");
    client.try_put(&beside, bytes).ok()?.ok()?;
    keep(&beside);
    client.try_rename(&beside, name).ok()?.ok()?;
    keep(name);
    Some(())
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().fold(String::new(), |mut text, byte| {
        write!(text, "{byte:02x}").expect("writes to a string");
        text
    })
}

/// Processes of the script that began before the server did and have not ended. A number that has come round again is
/// another process.
fn survivors(dir: &Path, before: &HashSet<u32>, server: u32) -> Vec<u32> {
    let script = dir.join("process");
    let script = script.to_str().expect("UTF-8");
    let start = started(server).expect("it runs");
    let is_script = |pid: u32| {
        fs::read(format!("/proc/{pid}/cmdline")).is_ok_and(|line| String::from_utf8_lossy(&line).contains(script))
    };
    let is_older = |pid: u32| started(pid).is_some_and(|at| at <= start);
    before.iter().copied().filter(|pid| is_script(*pid) && is_older(*pid)).collect()
}

/// When a process began, in ticks since the boot (proc(5), field 22 of stat).
fn started(pid: u32) -> Option<u64> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.split_ascii_whitespace().nth(19)?.parse().ok()
}

fn begun(dir: &Path) -> HashSet<u32> {
    let runs = fs::read_to_string(dir.join("runs.log")).unwrap_or_default();
    runs.lines()
        .filter(|line| line.starts_with("begin "))
        .filter_map(|line| line.split(' ').nth(2)?.parse().ok())
        .collect()
}

#[test]
fn every_acknowledged_file_survives_kills_and_is_processed_and_none_twice_after_its_outcome() {
    let seed = seed();
    let mut random = SmallRng::seed_from_u64(seed);
    let mut machine = machine();
    let mut windows = Windows { written: Vec::new(), spans: Vec::new() };
    let acknowledged = Arc::new(Mutex::new(HashMap::new()));
    let stop = Arc::new(AtomicBool::new(false));
    let uploaders: Vec<_> = PARTNERS
        .iter()
        .enumerate()
        .map(|(index, partner)| {
            let (stop, acknowledged, at) = (stop.clone(), acknowledged.clone(), machine.addresses());
            let seed = seed.wrapping_add(index as u64 + 1);
            thread::spawn(move || upload_until(&stop, at, *partner, seed, &acknowledged))
        })
        .collect();

    for round in 0..kills() {
        if random.random_ratio(1, 3) {
            windows.add(&machine, random.random_range(1..4));
        }
        let earlier = begun(machine.path());
        machine.spawn();
        if random.random_ratio(1, 8) {
            // Sometimes in the middle of opening and recovering.
            thread::sleep(Duration::from_millis(random.random_range(0..100)));
        } else {
            machine.wait_ready();
            let alive = survivors(machine.path(), &earlier, machine.pid());
            assert!(alive.is_empty(), "round {round}: processes {alive:?} of a killed server still run");
            thread::sleep(Duration::from_millis(random.random_range(0..500)));
        }
        machine.kill();
    }

    machine.start();
    thread::sleep(Duration::from_millis(200));
    stop.store(true, Ordering::Relaxed);
    for uploader in uploaders {
        uploader.join().expect("the uploader ends");
    }
    // Entries that three crashes found active, and files whose reply never went out, wait for an operator.
    let waiting = ["ready", "active", "retrying"];
    machine.wait_until_none_is(&waiting, "the backlog drains");
    let held = machine.queue().iter().filter(|entry| entry["state"] == "held").count();
    if held > 0 {
        machine.ok(&["queue", "release", "--state", "held", "--reason", "looked at"]);
    }
    machine.wait_until_none_is(&[&waiting[..], &["held"]].concat(), "everything is done");
    let entries = machine.wait_queue("everything is done", |entries| {
        entries.iter().all(|entry| match entry["state"].as_str() {
            // Whoever was killed between the upload and its rename left a file that waits for its name.
            Some("unfinished") => entry["name"].as_str().is_some_and(|name| name.ends_with(TEMPORARY)),
            state => matches!(state, Some("done" | "duplicate")),
        })
    });

    let acknowledged = acknowledged.lock().expect("not poisoned");
    eprintln!(
        "{} acknowledged, {} entries, {held} held on the way, {} windows",
        acknowledged.len(),
        entries.len(),
        windows.spans.len()
    );
    for (partner, door) in PARTNERS {
        let files = acknowledged.keys().filter(|(of, _)| of == partner).count();
        eprintln!("{partner}, {door:?}: {files} acknowledged");
        assert!(files > kills() as usize / 8, "too little load by {door:?} to prove anything: {files}");
    }
    assert!(acknowledged.len() > kills() as usize, "too little load to prove anything: {}", acknowledged.len());
    let kept: HashMap<_, _> = entries
        .iter()
        .map(|entry| {
            (
                (entry["partner"].as_str().expect("text").to_owned(), entry["name"].as_str().expect("text").to_owned()),
                entry,
            )
        })
        .collect();
    for (key, digest) in acknowledged.iter() {
        // A rename whose answer was not heard may have happened, and one that was heard has.
        let renamed = key.1.strip_suffix(TEMPORARY).and_then(|name| kept.get(&(key.0.clone(), name.to_owned())));
        let entry = renamed.or_else(|| kept.get(key));
        let entry = entry.unwrap_or_else(|| panic!("{key:?} was acknowledged and is lost"));
        assert_eq!(entry["sha256"].as_str(), Some(digest.as_str()), "{key:?} has other bytes");
    }
    assert_outcomes_are_final(&machine, &windows);
    let runs = fs::read_to_string(machine.path().join("runs.log")).expect("there were runs");
    for line in runs.lines() {
        assert!(!line.starts_with("overlap"), "two at once in one lane: {line}");
        assert!(!line.starts_with("altered"), "a processor saw other bytes: {line}");
    }
    let verified = machine.cli(&["queue", "verify"]);
    assert!(verified.status.success(), "{}", String::from_utf8_lossy(&verified.stdout));
    machine.stop();
}

/// No attempt begins after `done`, none inside a window.
fn assert_outcomes_are_final(machine: &Machine, windows: &Windows) {
    let mut done = HashSet::new();
    for record in json_lines(&machine.ok(&["audit", "--json"])) {
        let Some(id) = record["id"].as_str() else { continue };
        match record["what"].as_str() {
            Some("started") => {
                assert!(!done.contains(id), "{id} was started again after it was done");
                let at: DateTime<Utc> = record["at"].as_str().and_then(|text| text.parse().ok()).expect("a time");
                assert!(!windows.closed_at(at), "{id} was started at {at}, inside a window");
            }
            Some("ended") if record["detail"]["state"] == "done" => {
                done.insert(id.to_owned());
            }
            _ => {}
        }
    }
    assert!(!done.is_empty());
}

#[test]
fn a_window_that_ends_while_the_server_is_down_is_over_when_it_starts() {
    let mut machine = machine();
    let mut windows = Windows { written: Vec::new(), spans: Vec::new() };
    windows.add(&machine, 6);
    machine.start();
    let enter = |door: Door| door.try_enter(machine.addresses(), "ash", PASSWORD).expect("logs in");
    let mut clients = [enter(Door::Ftp), enter(Door::Sftp), enter(Door::Ftps)];
    for number in 0..20 {
        clients[number % 3].put(&format!("{number:02}.hl7"), b"MSH|").expect("is kept");
    }
    drop(clients);
    let deferred = machine.queue();
    assert!(deferred.iter().all(|entry| entry["state"] == "ready" && entry["deferred"] == true), "{deferred:#?}");
    assert_eq!(deferred[0]["resumes_at"].as_str().and_then(|text| text.parse().ok()), Some(windows.spans[0].1));
    machine.kill();
    assert!(!machine.path().join("runs.log").exists(), "nothing ran in the window");
    while Utc::now() < windows.spans[0].1 {
        thread::sleep(Duration::from_millis(20)); // the window's end is the state that is waited for
    }
    machine.start();
    machine.wait_queue("all are processed", |entries| entries.iter().all(|entry| entry["state"] == "done"));
    let runs = fs::read_to_string(machine.path().join("runs.log")).expect("there were runs");
    let names: HashMap<_, _> = machine
        .queue()
        .iter()
        .map(|entry| (entry["id"].as_str().expect("text").to_owned(), entry["name"].as_str().expect("text").to_owned()))
        .collect();
    let order: Vec<_> = runs
        .lines()
        .filter(|line| line.starts_with("begin "))
        .filter_map(|line| names.get(line.split(' ').nth(1)?).cloned())
        .collect();
    let expected: Vec<_> = (0..20).map(|number| format!("{number:02}.hl7")).collect();
    assert_eq!(order, expected, "once each, in the order in which they came");
    machine.stop();
}
