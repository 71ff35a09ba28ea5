//! Folders that other programs write to: the real server beside real writers, killed and broken in every way.
#![allow(
    clippy::disallowed_methods,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "a test reads the clock of the machine, and may fail"
)]

mod harness;

use std::{
    collections::{BTreeMap, HashMap},
    fs,
    io::Write as _,
    os::unix::fs::{MetadataExt, PermissionsExt, symlink},
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use harness::{
    binary::{BOUND, Machine},
    small_disk::SmallDisk,
};
use rand::{RngExt, SeedableRng, rngs::SmallRng};
use serde_json::Value;

const PASSWORD: &str = "correct horse battery staple";

/// A machine with the folder `in` of the partner `clinic`.
fn machine(keys: &str) -> Machine {
    machine_with(keys, "")
}

fn machine_with(keys: &str, extra: &str) -> Machine {
    let machine = Machine::new(&format!("[[drop]]\ndirectory = \"@DIR@/in\"\npartner = \"clinic\"\n{keys}\n{extra}"));
    fs::create_dir(machine.path().join("in")).unwrap();
    machine.add_partner("clinic", PASSWORD);
    machine
}

fn folder(machine: &Machine) -> PathBuf {
    machine.path().join("in")
}

/// Writes aside and renames in, as a sender should.
fn rename_in(folder: &Path, name: &str, bytes: &[u8]) {
    let aside = folder.join(format!("{name}.part"));
    fs::write(&aside, bytes).unwrap();
    fs::rename(aside, folder.join(name)).unwrap();
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

/// Every entry of the queue that is not called off: its name and digest.
fn entries(machine: &Machine) -> Vec<(String, String)> {
    let listed = machine.ok(&["queue", "list", "--json", "--limit", "100000"]);
    let listed = harness::binary::json_lines(&listed).into_iter().filter(|entry| entry["state"] != "cancelled");
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> = listed.map(|entry| (text(&entry["name"]), text(&entry["sha256"]))).collect();
    all.sort();
    all
}

fn taken(machine: &Machine) -> Vec<String> {
    entries(machine).into_iter().map(|(name, _)| name).collect()
}

fn status(machine: &Machine) -> Value {
    harness::binary::json_lines(&machine.ok(&["status", "--json"])).remove(0)
}

fn failing(machine: &Machine) -> BTreeMap<String, String> {
    let status = status(machine);
    let files = status["folders"][0]["failing"].as_array().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    files.iter().map(|file| (text(&file["name"]), text(&file["reason"]))).collect()
}

fn wait(machine: &Machine, what: &str, met: impl Fn() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < BOUND, "waited in vain: {what}\n{}", machine.log());
        thread::sleep(Duration::from_millis(20));
    }
}

/// Nothing more happens: the door has looked at the folder several times meanwhile.
fn stays_so(machine: &Machine, what: &str, met: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(4);
    while Instant::now() < until {
        assert!(met(), "did not stay so: {what}\n{}", machine.log());
        thread::sleep(Duration::from_millis(50));
    }
}

fn sha256(bytes: &[u8]) -> String {
    use sha2::Digest;
    sha2::Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Nothing can be renamed or removed in a locked folder, by root neither.
fn lock(folder: &Path, locked: bool) {
    if rustix::process::geteuid().is_root() {
        let flag = if locked { "+i" } else { "-i" };
        assert!(Command::new("chattr").arg(flag).arg(folder).status().unwrap().success());
    } else {
        let mode = if locked { 0o555 } else { 0o755 };
        fs::set_permissions(folder, fs::Permissions::from_mode(mode)).unwrap();
    }
}

#[test]
fn what_is_renamed_in_is_taken_once_and_what_is_written_in_place_is_not() {
    let mut machine = machine("");
    let folder = folder(&machine);
    rename_in(&folder, "early.hl7", b"was there before the start");
    machine.start();
    rename_in(&folder, "a.hl7", b"one");
    fs::write(folder.join(".hidden"), b"not yet").unwrap();
    wait(&machine, "both are taken", || taken(&machine) == ["a.hl7", "early.hl7"]);
    wait(&machine, "both are gone", || names(&folder) == [".hidden"]);
    rename_in(&folder, "a.hl7", b"one");
    wait(&machine, "the same name again is a new file", || taken(&machine).len() == 3);
    fs::rename(folder.join(".hidden"), folder.join("shown.hl7")).unwrap();
    wait(&machine, "a hidden name that is renamed", || taken(&machine).contains(&"shown.hl7".to_owned()));

    fs::write(folder.join("place.hl7"), b"who knows whether this is all").unwrap();
    wait(&machine, "it is reported", || failing(&machine).get("place.hl7").is_some_and(|why| why.contains("renamed")));
    assert!(machine.ok(&["status"]).contains("place.hl7"), "and an operator reads of it");
    machine.kill();
    machine.start();
    stays_so(&machine, "a restart makes no proof", || names(&folder) == ["place.hl7"]);
    fs::rename(folder.join("place.hl7"), folder.join("proven.hl7")).unwrap();
    wait(&machine, "its rename is the proof", || taken(&machine).contains(&"proven.hl7".to_owned()));
    wait(&machine, "the folder is empty", || names(&folder).is_empty());
    assert_eq!(taken(&machine).len(), 5);
}

#[test]
fn a_writer_that_pauses_is_waited_for_and_a_killed_one_leaves_no_whole_file() {
    let mut machine = machine("accept = \"settled\"\nsettle = \"1s\"");
    let folder = folder(&machine);
    machine.start();
    // Open all the time: pauses longer than `settle` are seen to be pauses.
    let mut writer = fs::File::create(folder.join("slow.hl7")).unwrap();
    for _ in 0..3 {
        writer.write_all(&[b'x'; 1000]).unwrap();
        thread::sleep(Duration::from_millis(1800));
        assert_eq!(taken(&machine), [""; 0], "half a file was taken\n{}", machine.log());
    }
    drop(writer);
    // Closed between its writes, and quicker than `settle`.
    for _ in 0..5 {
        fs::File::options()
            .create(true)
            .append(true)
            .open(folder.join("steps.hl7"))
            .unwrap()
            .write_all(b"step")
            .unwrap();
        thread::sleep(Duration::from_millis(300));
    }
    wait(&machine, "both are taken", || taken(&machine) == ["slow.hl7", "steps.hl7"]);
    let digests: Vec<_> = entries(&machine).into_iter().map(|(_, digest)| digest).collect();
    assert_eq!(digests, [sha256(&[b'x'; 3000]), sha256(&b"step".repeat(5))]);
}

#[test]
fn nothing_is_taken_of_writers_that_are_killed() {
    for keys in ["", "accept = \"marker\""] {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = SmallRng::seed_from_u64(seed);
        let mut machine = machine(keys);
        let folder = folder(&machine);
        machine.start();
        for number in 0..20 {
            let name = if number % 2 == 0 { format!("k{number}.hl7") } else { format!("k{number}.hl7.part") };
            let mut writer = Command::new("sh")
                .args(["-c", "exec 3>\"$1\"; while :; do printf 0123456789 >&3; done", "sh"])
                .arg(folder.join(name))
                .stdin(Stdio::null())
                .spawn()
                .unwrap();
            thread::sleep(Duration::from_millis(random.random_range(1..120)));
            writer.kill().unwrap();
            writer.wait().unwrap();
        }
        let left = names(&folder).len();
        stays_so(&machine, "nothing of it is taken", || taken(&machine).is_empty() && names(&folder).len() == left);
        machine.kill();
        machine.start();
        stays_so(&machine, "nor after a restart", || taken(&machine).is_empty() && names(&folder).len() == left);
    }
}

#[test]
fn a_marker_speaks_for_the_file_that_was_there_before_it() {
    let mut machine = machine("accept = \"marker\"\nmarker = \".ok\"");
    let folder = folder(&machine);
    fs::write(folder.join("b.hl7.ok"), b"").unwrap();
    thread::sleep(Duration::from_millis(20)); // a later tick of the file system's clock
    fs::write(folder.join("b.hl7"), b"its marker is of an earlier file").unwrap();
    machine.start();
    fs::write(folder.join("a.hl7"), b"whole").unwrap();
    fs::write(folder.join("a.hl7.ok"), b"").unwrap();
    wait(&machine, "the marked one is taken with its marker", || names(&folder) == ["b.hl7", "b.hl7.ok"]);
    stays_so(&machine, "the other is not", || taken(&machine) == ["a.hl7"]);
    fs::write(folder.join("b.hl7.ok"), b"now").unwrap();
    wait(&machine, "until it is marked", || names(&folder).is_empty());
    assert_eq!(taken(&machine), ["a.hl7", "b.hl7"]);
}

#[test]
fn ten_thousand_files_at_once_are_taken_in_bounded_memory() {
    let mut machine = machine("");
    let folder = folder(&machine);
    machine.start();
    let aside = machine.path().join("aside");
    fs::create_dir(&aside).unwrap();
    let mut expected = Vec::new();
    for number in 0..10_000 {
        let (name, bytes) = (format!("f{number:05}.hl7"), format!("content of {number}"));
        fs::write(aside.join(&name), &bytes).unwrap();
        expected.push((name, sha256(bytes.as_bytes())));
    }
    for (name, _) in &expected {
        fs::rename(aside.join(name), folder.join(name)).unwrap();
    }
    let began = Instant::now();
    while !names(&folder).is_empty() {
        assert!(began.elapsed() < Duration::from_secs(300), "{} left\n{}", names(&folder).len(), machine.log());
        thread::sleep(Duration::from_millis(200));
    }
    println!("10,000 files in {:?}", began.elapsed());
    assert_eq!(entries(&machine), expected);
    let proc = fs::read_to_string(format!("/proc/{}/status", machine.pid())).unwrap();
    let peak = proc.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap().trim().trim_end_matches(" kB");
    println!("peak memory: {peak} kB");
    assert!(peak.parse::<u64>().unwrap() < 512 << 10, "{peak} kB");
}

#[test]
fn a_full_disk_keeps_files_where_they_are_until_there_is_room() {
    let mut machine = machine("");
    let folder = folder(&machine);
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &config.replace("reserve = \"1 MiB\"", "reserve = \"1000 TiB\""));
    machine.spawn();
    wait(&machine, "it runs", || {
        machine.data().join("admin.sock").exists() && machine.cli(&["status"]).status.success()
    });
    rename_in(&folder, "a.hl7", b"one");
    wait(&machine, "it is reported", || failing(&machine).get("a.hl7").is_some_and(|why| why.contains("disk space")));
    assert_eq!((taken(&machine).len(), names(&folder).len()), (0, 1));
    machine.stop();
    machine.write("forebay.toml", &config);
    machine.start();
    wait(&machine, "it is taken", || taken(&machine) == ["a.hl7"] && names(&folder).is_empty());
}

/// The reserve is so small here that the disk itself says that it is full, in the middle of a copy and before one.
#[test]
fn a_disk_without_a_block_left_loses_nothing_and_takes_everything_when_there_is_room() {
    let mut machine = machine("");
    let folder = folder(&machine);
    let disk = SmallDisk::in_memory(machine.data(), 160);
    // The account is on that disk too.
    machine.add_partner("clinic", PASSWORD);
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &config.replace("reserve = \"1 MiB\"", "reserve = \"0 B\""));
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let large: Vec<u8> = (0..200u32 << 20).map(|at| (at / 4096) as u8).collect();
    rename_in(&folder, "large.hl7", &large);
    let refused = |name: &str| failing(&machine).get(name).is_some_and(|why| why.contains("disk space"));
    wait(&machine, "the copy does not fit", || refused("large.hl7"));
    let filler = disk.fill();
    rename_in(&folder, "small.hl7", b"MSH|");
    wait(&machine, "nothing fits", || refused("small.hl7"));
    assert_eq!((taken(&machine).len(), names(&folder)), (0, vec!["large.hl7".to_owned(), "small.hl7".to_owned()]));
    assert!(harness::files_below(&machine.data().join("spool")).is_empty(), "half a file");
    fs::remove_file(filler).unwrap();
    wait(&machine, "the small one is taken", || taken(&machine) == ["small.hl7"]);
    rename_in(&folder, "large.hl7", &large[..20 << 20]);
    wait(&machine, "all is taken", || names(&folder).is_empty() && taken(&machine).len() == 2);
    let expected = [("large.hl7".to_owned(), sha256(&large[..20 << 20])), ("small.hl7".to_owned(), sha256(b"MSH|"))];
    assert_eq!(entries(&machine), expected);
    machine.stop();
}

/// No event tells of it: what the name means is another thing since the policy has changed.
#[test]
fn the_sweep_finds_what_nothing_tells_of() {
    let mut machine = machine("sweep = \"1s\"\n[policy]\ntemporary_names = [\"*.odd\"]\n");
    let folder = folder(&machine);
    machine.start();
    rename_in(&folder, "a.odd", b"one");
    rename_in(&folder, "b.hl7", b"two");
    wait(&machine, "the other is taken", || taken(&machine) == ["b.hl7"]);
    stays_so(&machine, "it is left alone", || names(&folder) == ["a.odd"]);
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &config.replace("*.odd", "*.other"));
    machine.signal(rustix::process::Signal::HUP);
    wait(&machine, "the sweep finds it", || taken(&machine) == ["a.odd", "b.hl7"] && names(&folder).is_empty());
    machine.stop();
}

#[test]
fn what_exceeds_the_quota_waits_and_is_taken_when_there_is_room() {
    let closed = "[policy]\nquota = \"100\"\n";
    let mut machine = machine_with("", closed);
    let folder = folder(&machine);
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    rename_in(&folder, "a.hl7", &[b'a'; 80]);
    wait(&machine, "the first fits", || taken(&machine) == ["a.hl7"]);
    rename_in(&folder, "b.hl7", &[b'b'; 80]);
    wait(&machine, "the second does not", || failing(&machine).get("b.hl7").is_some_and(|why| why.contains("quota")));
    machine.ok(&["gate", "open", "--reason", "done"]);
    wait(&machine, "the second is taken by itself", || taken(&machine) == ["a.hl7", "b.hl7"]);
}

#[test]
fn a_folder_that_vanishes_and_comes_back_is_watched_again() {
    let mut machine = machine("");
    let (folder, away) = (folder(&machine), machine.path().join("away"));
    machine.start();
    let problem = |machine: &Machine| status(machine)["folders"][0]["problem"].as_str().map(str::to_owned);
    for round in 0..2 {
        fs::rename(&folder, &away).unwrap();
        wait(&machine, "it is missed", || problem(&machine).is_some_and(|what| what.contains("cannot be read")));
        rename_in(&away, &format!("meanwhile{round}.hl7"), b"into the folder that is away");
        if round == 0 {
            fs::rename(&away, &folder).unwrap();
        } else {
            fs::create_dir(&folder).unwrap();
        }
        wait(&machine, "it is there again", || problem(&machine).is_none());
        rename_in(&folder, &format!("after{round}.hl7"), b"into the folder that came");
        wait(&machine, "files are taken again", || names(&folder).is_empty());
    }
    assert_eq!(taken(&machine), ["after0.hl7", "after1.hl7", "meanwhile0.hl7"]);
    assert_eq!(names(&away), ["meanwhile1.hl7"]);
}

#[test]
fn a_file_that_cannot_be_removed_is_taken_once_over_restarts_and_a_change_of_mode() {
    let mut machine = machine("");
    let folder = folder(&machine);
    rename_in(&folder, "a.hl7", b"stuck");
    lock(&folder, true);
    machine.start();
    wait(&machine, "it is taken, and reported", || {
        failing(&machine).get("a.hl7").is_some_and(|why| why.contains("cannot be deleted"))
    });
    let written = || fs::metadata(machine.data().join("journal")).unwrap().mtime();
    let before = (written(), fs::metadata(folder.join("a.hl7")).unwrap().ctime());
    stays_so(&machine, "once", || taken(&machine) == ["a.hl7"] && names(&folder) == ["a.hl7"]);
    assert!(before.1 > 0);
    // The same as a crash between acceptance and removal.
    machine.kill();
    machine.start();
    stays_so(&machine, "once after a crash", || taken(&machine) == ["a.hl7"] && names(&folder) == ["a.hl7"]);
    machine.kill();
    // Whoever puts things right may change the file's mode too.
    lock(&folder, false);
    fs::set_permissions(folder.join("a.hl7"), fs::Permissions::from_mode(0o640)).unwrap();
    machine.start();
    wait(&machine, "it is removed", || names(&folder).is_empty());
    stays_so(&machine, "and was taken once", || taken(&machine) == ["a.hl7"] && failing(&machine).is_empty());
    // What is forgotten does not swallow the same bytes under the same name.
    rename_in(&folder, "a.hl7", b"stuck");
    wait(&machine, "a new file", || taken(&machine).len() == 2 && names(&folder).is_empty());
}

#[test]
fn another_file_in_the_place_of_one_that_was_taken_is_a_new_file() {
    let mut machine = machine("");
    let folder = folder(&machine);
    rename_in(&folder, "a.hl7", b"first");
    lock(&folder, true);
    machine.start();
    wait(&machine, "it is taken", || taken(&machine).len() == 1);
    machine.kill();
    lock(&folder, false);
    rename_in(&folder, "a.hl7", b"other");
    machine.start();
    wait(&machine, "the other is taken too", || taken(&machine).len() == 2 && names(&folder).is_empty());
    let digests: Vec<_> = entries(&machine).into_iter().map(|(_, digest)| digest).collect();
    assert!(digests.contains(&sha256(b"first")) && digests.contains(&sha256(b"other")));
}

#[test]
fn only_regular_files_with_one_name_are_taken() {
    let mut machine = machine("accept = \"settled\"\nsettle = \"1s\"");
    let folder = folder(&machine);
    let secret = machine.path().join("secret");
    fs::write(&secret, b"not for partners").unwrap();
    symlink(&secret, folder.join("link")).unwrap();
    symlink(machine.path(), folder.join("directory-link")).unwrap();
    fs::hard_link(&secret, folder.join("hard")).unwrap();
    let mut odd = vec!["directory-link", "fifo", "hard", "link"];
    rustix::fs::mknodat(rustix::fs::CWD, folder.join("fifo"), rustix::fs::FileType::Fifo, 0o600.into(), 0).unwrap();
    if rustix::process::geteuid().is_root() {
        let null = rustix::fs::makedev(1, 5);
        rustix::fs::mknodat(
            rustix::fs::CWD,
            folder.join("zero"),
            rustix::fs::FileType::CharacterDevice,
            0o600.into(),
            null,
        )
        .unwrap();
        odd.push("zero");
    }
    fs::create_dir(folder.join("sub")).unwrap();
    fs::write(folder.join("sub/below.hl7"), b"in a subfolder").unwrap();
    fs::write(folder.join("bad\nname"), b"x").unwrap();
    odd.insert(0, "bad\nname");
    machine.start();
    fs::write(folder.join("good.hl7"), b"good").unwrap();
    wait(&machine, "the good one is taken", || taken(&machine) == ["good.hl7"]);
    wait(&machine, "the others are reported", || failing(&machine).keys().map(String::as_str).eq(odd.iter().copied()));
    let why = failing(&machine);
    assert!(why["link"].contains("symbolic link") && why["hard"].contains("2 hard links"), "{why:?}");
    stays_so(&machine, "and stay", || taken(&machine) == ["good.hl7"]);
    assert_eq!(names(&folder).len(), odd.len() + 1);
    fs::remove_file(secret).unwrap();
    wait(&machine, "one name is left of it", || taken(&machine) == ["good.hl7", "hard"]);
}

#[test]
fn files_of_subfolders_are_moved_and_nothing_is_overwritten() {
    let mut machine = machine("subfolders = true\nafter = \"move\"\nmove_to = \"@DIR@/done\"");
    let (folder, done) = (folder(&machine), machine.path().join("done"));
    fs::create_dir(&done).unwrap();
    fs::create_dir_all(folder.join("x/y")).unwrap();
    machine.start();
    rename_in(&folder, "a.hl7", b"1");
    wait(&machine, "the first is moved", || names(&done) == ["a.hl7"]);
    rename_in(&folder.join("x/y"), "a.hl7", b"2");
    wait(&machine, "the second too", || names(&done).len() == 2);
    fs::create_dir(folder.join("new")).unwrap();
    rename_in(&folder.join("new"), "b.hl7", b"3");
    wait(&machine, "a new subfolder is seen", || names(&done).len() == 3);
    assert_eq!(taken(&machine), ["a.hl7", "new/b.hl7", "x/y/a.hl7"]);
    assert_eq!(fs::read(done.join("a.hl7")).unwrap(), b"1");
}

/// macOS writes an accent as a letter of its own: folders and names are what they are called, whatever writes them.
#[test]
fn rules_for_paths_hold_in_any_letter_case_and_form_of_accents() {
    let routes = "[[route]]\nname = \"german\"\npaths = [\"Größe/**/*.ÄRZTE\"]\n[[route]]\nname = \"others\"\n";
    let temporary = "[[partner]]\nname = \"clinic\"\ntemporary_names = [\"*.UNGEPRÜFT\", \"*.part\"]\n";
    let mut machine = machine_with("subfolders = true", &format!("{routes}{temporary}"));
    let folder = folder(&machine);
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let decomposed = "gro\u{308}\u{df}e/x/a.a\u{308}rzte";
    let composed = "GR\u{d6}\u{1e9e}E/b.\u{c4}RZTE";
    let (elsewhere, unfinished) = ("grosse/c.\u{e4}rzte", "gr\u{f6}\u{df}e/d.ungepru\u{308}ft");
    for name in [decomposed, composed, elsewhere, unfinished] {
        let (above, last) = name.rsplit_once('/').unwrap();
        fs::create_dir_all(folder.join(above)).unwrap();
        rename_in(&folder.join(above), last, name.as_bytes());
    }
    wait(&machine, "they are taken", || taken(&machine).len() == 3);
    let routes = |machine: &Machine| -> BTreeMap<String, String> {
        let text = |value: &Value| value.as_str().unwrap().to_owned();
        machine.queue().iter().map(|entry| (text(&entry["name"]), text(&entry["route"]))).collect()
    };
    let wanted = [(decomposed, "german"), (composed, "german"), (elsewhere, "others")];
    let wanted: BTreeMap<_, _> = wanted.iter().map(|(name, route)| ((*name).to_owned(), (*route).to_owned())).collect();
    assert_eq!(routes(&machine), wanted, "each under the name that it has there");
    stays_so(&machine, "a temporary name is left", || taken(&machine).len() == 3 && folder.join(unfinished).exists());
    // The same over FTP.
    let mut ftp = harness::Ftp::connect(machine.ftp);
    ftp.login("clinic", PASSWORD);
    let name = "gr\u{d6}\u{df}e/e.A\u{308}rzte";
    assert_eq!(ftp.command("MKD gr\u{d6}\u{df}e").code, 257);
    assert_eq!(ftp.store(name, b"data").code, 226);
    assert_eq!(routes(&machine).get(name).map(String::as_str), Some("german"));
}

/// How often the server is killed: 60 unless `FOREBAY_KILLS` says otherwise.
fn kills() -> u32 {
    std::env::var("FOREBAY_KILLS").ok().and_then(|text| text.parse().ok()).unwrap_or(60)
}

#[test]
fn kills_at_any_moment_lose_nothing_and_take_nothing_twice() {
    let seed: u64 = std::env::var("FOREBAY_SEED").ok().and_then(|text| text.parse().ok()).unwrap_or_else(rand::random);
    println!("FOREBAY_SEED={seed}");
    let mut random = SmallRng::seed_from_u64(seed);
    let mut machine = machine("");
    let folder = folder(&machine);
    let mut sent = HashMap::new();
    for round in 0..kills() {
        machine.spawn();
        if random.random_ratio(3, 4) {
            machine.wait_ready();
        }
        for number in 0..random.random_range(5..40) {
            let name = format!("r{round}-{number}.hl7");
            let size = if random.random_ratio(1, 10) { random.random_range(0..2_000_000) } else { 2_000 };
            let bytes: Vec<u8> = (0..size).map(|_| random.random()).collect();
            rename_in(&folder, &name, &bytes);
            sent.insert(name, sha256(&bytes));
        }
        thread::sleep(Duration::from_millis(random.random_range(0..250)));
        machine.kill();
    }
    machine.start();
    let began = Instant::now();
    while !names(&folder).is_empty() {
        assert!(began.elapsed() < BOUND, "seed {seed}: {:?}\n{}", names(&folder), machine.log());
        thread::sleep(Duration::from_millis(50));
    }
    let mut found: HashMap<String, Vec<String>> = HashMap::new();
    for (name, digest) in entries(&machine) {
        found.entry(name).or_default().push(digest);
    }
    for (name, digest) in &sent {
        assert_eq!(found.get(name), Some(&vec![digest.clone()]), "seed {seed}: {name}\n{}", machine.log());
    }
    assert_eq!(found.len(), sent.len(), "seed {seed}");
    let all = machine.ok(&["queue", "list", "--json", "--limit", "100000"]).lines().count();
    println!("{} files over {} kills, {} copies called off", sent.len(), kills(), all - sent.len());
}

#[test]
fn every_fault_of_a_folder_is_told() {
    let extra = "[[drop]]\ndirectory = \"@DIR@/in\"\npartner = \"clinic\"\n\
                 [[drop]]\ndirectory = \"@DIR@/missing\"\npartner = \"nobody\"\n\
                 [[drop]]\ndirectory = \"data/spool\"\npartner = \"clinic\"\n\
                 [[drop]]\ndirectory = \"@DIR@\"\npartner = \"clinic\"\nafter = \"move\"\nmove_to = \"/proc\"\n";
    let machine = machine("");
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    let extra = extra.replace("@DIR@", machine.path().to_str().unwrap());
    machine.write("forebay.toml", &format!("{config}\n{extra}"));
    let output = machine.cli(&["check"]);
    let text = String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned();
    assert!(!output.status.success(), "{text}");
    for (key, what) in [
        ("drop[1].directory", "is drop[0]'s already"),
        ("drop[2].directory", "cannot be read"),
        ("drop[2].partner", "no account nobody"),
        ("drop[3].directory", "in the data directory"),
        ("drop[4].move_to", "another file system"),
    ] {
        assert!(text.lines().any(|line| line.contains(key) && line.contains(what)), "{key}: {what}\n{text}");
    }
}

/// A server that ends with the test.
struct Running(std::process::Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn run(program: &str, arguments: &[&str], input: &str) {
    let mut child = Command::new(program).args(arguments).stdin(Stdio::piped()).spawn().expect(program);
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    assert!(child.wait().unwrap().success(), "{program} {arguments:?}");
}

/// Half of the files under a temporary name that is renamed, half straight under their final name.
fn is_whole(machine: &Machine, bytes: &[u8], expected: &[&str]) {
    let folder = folder(machine);
    wait(machine, "all are taken", || taken(machine) == expected);
    assert!(entries(machine).iter().all(|(_, digest)| *digest == sha256(bytes)), "half a file was taken");
    wait(machine, "and gone", || names(&folder).is_empty());
}

#[test]
fn beside_a_real_openssh_sftp_server() {
    let mut machine = machine("accept = \"settled\"\nsettle = \"1s\"");
    let (folder, source) = (folder(&machine), machine.path().join("source"));
    let bytes = vec![b'm'; 3 << 20];
    fs::write(&source, &bytes).unwrap();
    machine.start();
    let server = "/usr/lib/openssh/sftp-server";
    let mut batch = String::new();
    for number in 0..5 {
        batch += &format!("put {} {}/put{number}.hl7\n", source.display(), folder.display());
        batch += &format!("put -p {} {}/t{number}.part\n", source.display(), folder.display());
        batch += &format!("rename {0}/t{number}.part {0}/t{number}.hl7\n", folder.display());
    }
    run("sftp", &["-q", "-D", server, "-b", "-"], &batch);
    let expected: Vec<String> =
        (0..5).map(|n| format!("put{n}.hl7")).chain((0..5).map(|n| format!("t{n}.hl7"))).collect();
    is_whole(&machine, &bytes, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    // One that is killed with its client in the middle of a file, while it stands still longer than `settle`.
    let mut client = Command::new(server).stdin(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let mut to = client.stdin.take().unwrap();
    let path = folder.join("cut.hl7");
    let path = path.to_str().unwrap().as_bytes();
    let mut open = vec![3, 0, 0, 0, 1];
    open.extend_from_slice(&u32::try_from(path.len()).unwrap().to_be_bytes());
    open.extend_from_slice(path);
    open.extend_from_slice(&[0, 0, 0, 0x1a, 0, 0, 0, 0]); // write, create, truncate; no attributes
    to.write_all(&[0, 0, 0, 5, 1, 0, 0, 0, 3]).unwrap();
    to.write_all(&u32::try_from(open.len()).unwrap().to_be_bytes()).unwrap();
    to.write_all(&open).unwrap();
    wait(&machine, "the server has opened it", || names(&folder) == ["cut.hl7"]);
    stays_so(&machine, "it is open, and not taken", || names(&folder) == ["cut.hl7"]);
    client.kill().unwrap();
    client.wait().unwrap();
}

#[test]
fn beside_a_real_vsftpd() {
    let mut machine = machine("");
    let (folder, source) = (folder(&machine), machine.path().join("source"));
    let bytes = vec![b'v'; 3 << 20];
    fs::write(&source, &bytes).unwrap();
    machine.start();
    let address = harness::ports::free_address();
    let config = machine.path().join("vsftpd.conf");
    // As whoever runs the test, root or not: neither a user nor a directory of the system's is needed.
    let user = String::from_utf8(Command::new("id").arg("-un").output().unwrap().stdout).unwrap();
    let empty = machine.path().join("empty");
    fs::create_dir(&empty).unwrap();
    let text = format!(
        "ftp_username={}\nsecure_chroot_dir={}\nlisten=YES\nlisten_address=127.0.0.1\nlisten_port={}\nanonymous_enable=YES\nanon_root={}\n\
         no_anon_password=YES\nwrite_enable=YES\nanon_upload_enable=YES\nanon_mkdir_write_enable=YES\n\
         anon_other_write_enable=YES\nanon_umask=022\nallow_writeable_chroot=YES\nrun_as_launching_user=YES\n\
         seccomp_sandbox=NO\nbackground=NO\nuse_localtime=NO\nconnect_from_port_20=NO\nxferlog_enable=NO\n",
        user.trim(),
        empty.display(),
        address.port(),
        folder.display()
    );
    fs::write(&config, text).unwrap();
    let server = Command::new("/usr/sbin/vsftpd").arg(&config).stdin(Stdio::null()).spawn().expect("vsftpd");
    let _server = Running(server);
    wait(&machine, "vsftpd listens", || std::net::TcpStream::connect(address).is_ok());
    let url = |name: &str| format!("ftp://{address}/{name}");
    let source = source.to_str().unwrap();
    for number in 0..5 {
        let (part, whole) = (format!("t{number}.part"), format!("RNTO t{number}.hl7"));
        let rename =
            ["-s", "-S", "-T", source, &url(&part), "-Q", &format!("-RNFR {part}"), "-Q", &format!("-{whole}")];
        run("curl", &rename, "");
    }
    is_whole(&machine, &bytes, &["t0.hl7", "t1.hl7", "t2.hl7", "t3.hl7", "t4.hl7"]);
    // Straight to the final name, and killed in the middle: vsftpd keeps what came.
    for number in 0..5 {
        let mut client = Command::new("curl")
            .args(["-s", "--limit-rate", "200k", "-T", source, &url(&format!("cut{number}.hl7"))])
            .spawn()
            .unwrap();
        let name = folder.join(format!("cut{number}.hl7"));
        wait(&machine, "it is being written", || fs::metadata(&name).is_ok_and(|there| there.len() > 0));
        client.kill().unwrap();
        client.wait().unwrap();
    }
    let cut: Vec<String> = (0..5).map(|n| format!("cut{n}.hl7")).collect();
    stays_so(&machine, "none of them is taken", || names(&folder) == cut && taken(&machine).len() == 5);
    wait(&machine, "each is reported", || failing(&machine).len() == 5);
}

#[test]
fn a_file_that_changes_while_it_is_copied_is_not_taken() {
    let mut machine = machine("");
    let folder = folder(&machine);
    machine.start();
    let aside = folder.join("big.part");
    fs::File::create(&aside).unwrap().set_len(300 << 20).unwrap();
    fs::rename(aside, folder.join("big.hl7")).unwrap();
    let begun = || fs::read_dir(machine.data().join("tmp")).unwrap().next().is_some();
    wait(&machine, "copying begins", begun);
    fs::File::options().append(true).open(folder.join("big.hl7")).unwrap().write_all(b"and more").unwrap();
    wait(&machine, "it is reported", || failing(&machine).contains_key("big.hl7"));
    assert_eq!(taken(&machine), [""; 0], "{}", machine.log());
    assert_eq!(names(&folder), ["big.hl7"]);
}
