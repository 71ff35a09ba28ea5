//! A file system without a byte or an inode left, under a real server: at its start, while it runs, and for operators.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    path::{Path, PathBuf},
};

use harness::{Ftp, binary::Machine, files_below, small_disk::SmallDisk, wait_until};
use serde_json::Value;

/// Too much for a journal record.
const LARGE: usize = 100 << 10;

fn machine(reserve: &str) -> Machine {
    let machine = Machine::new("");
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &config.replace("reserve = \"1 MiB\"", &format!("reserve = \"{reserve}\"")));
    machine
}

fn session(machine: &Machine) -> Ftp {
    let mut session = Ftp::connect(machine.ftp);
    session.login("clinic", "secret");
    session
}

fn upload(machine: &Machine, name: &str, bytes: usize) -> u16 {
    session(machine).store(name, &vec![b'x'; bytes]).code
}

fn status(machine: &Machine) -> Value {
    serde_json::from_str(&machine.ok(&["status", "--json"])).unwrap()
}

fn gate(machine: &Machine) -> String {
    status(machine)["gate"]["state"].as_str().unwrap().to_owned()
}

fn is_short(machine: &Machine, word: &str) -> bool {
    let needs = status(machine)["needs"].clone();
    needs.as_array().unwrap().iter().any(|need| need.as_str().unwrap().contains(word))
}

fn set_aside(machine: &Machine) -> Vec<PathBuf> {
    let all = fs::read_dir(machine.data()).unwrap().map(|entry| entry.unwrap().path());
    all.filter(|path| path.to_string_lossy().contains("corrupt")).collect()
}

/// The whole life of a server on a disk that is full: it runs on, it is stopped, killed and started, and operators act.
/// `fill` takes everything that is left and gives what is to be removed for it to come back.
fn operators_are_served(disk: &SmallDisk, machine: &mut Machine, word: &str, fill: impl Fn(&SmallDisk) -> PathBuf) {
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    assert_eq!((upload(machine, "small.hl7", 10), upload(machine, "large.hl7", LARGE)), (226, 226));
    let filler = fill(disk);
    assert!(is_short(machine, word), "{}", machine.ok(&["status"]));
    assert_eq!((upload(machine, "no.hl7", 10), upload(machine, "no.hl7", LARGE)), (452, 452));
    let ids: Vec<_> = machine.queue().iter().map(|entry| entry["id"].as_str().unwrap().to_owned()).collect();
    assert_eq!(ids.len(), 2);
    // Outcomes and operators' actions are journalled all the same, and each is seen at once.
    for action in ["hold", "release", "hold"] {
        machine.ok(&["queue", action, &ids[0]]);
    }
    machine.wait_queue("it is held", |entries| entries.iter().any(|entry| entry["state"] == "held"));

    for kill in [true, false] {
        machine.ok(&["gate", "clear"]);
        machine.ok(&["gate", "close", "--for", "1h", "--reason", "on a full disk"]);
        if kill {
            machine.kill()
        } else {
            machine.stop()
        }
        machine.spawn();
        wait_until("its doors are open", || TcpStream::connect(machine.ftp).is_ok());
        assert_eq!(gate(machine), "closed", "beyond a restart");
        assert!(is_short(machine, word));
        assert_eq!(upload(machine, "no.hl7", LARGE), 452);
        let held = machine.queue().iter().filter(|entry| entry["state"] == "held").count();
        assert_eq!((machine.queue().len(), held), (2, 1));
        machine.ok(&["queue", "verify"]);
    }
    machine.ok(&["gate", "clear"]);
    machine.ok(&["queue", "release", &ids[0]]);

    if filler.is_dir() {
        fs::remove_dir_all(filler).unwrap()
    } else {
        fs::remove_file(filler).unwrap()
    }
    wait_until("there is room", || !is_short(machine, word));
    assert_eq!((upload(machine, "small2.hl7", 10), upload(machine, "large2.hl7", LARGE)), (226, 226));
    machine.wait_until_none_is(&["ready", "active", "retrying", "held"], "all are processed");
    assert_eq!(files_below(&machine.data().join("delivered")).len(), 4);
    machine.ok(&["queue", "verify"]);
    machine.kill();
    machine.start();
    assert_eq!(machine.queue().len(), 4);
    assert_eq!(set_aside(machine), Vec::<PathBuf>::new(), "a full disk is no damage");
    let errors = machine.log().lines().filter(|line| line.contains("ERROR")).count();
    assert!(errors < 4, "{}", machine.log());
    machine.stop();
}

#[test]
fn without_a_byte_left_operators_are_served_and_nothing_is_taken_for_damage() {
    let mut machine = machine("64 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 4096);
    operators_are_served(&disk, &mut machine, "the disk is full", SmallDisk::fill);
}

#[test]
fn without_an_inode_left_operators_are_served_and_nothing_is_taken_for_damage() {
    let mut machine = machine("1 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 1024);
    operators_are_served(&disk, &mut machine, "inodes", SmallDisk::fill_inodes);
}

/// Bytes that are there in `dir` and below.
fn free(path: &Path) -> u64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    stat.f_bavail * stat.f_frsize
}

#[test]
fn copies_for_processors_leave_the_journal_its_share_of_the_reserve() {
    const RESERVE: u64 = 24 << 20;
    let mut machine = machine("24 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 4096);
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let mut session = session(&machine);
    for number in 0..20 {
        assert_eq!(session.store(&format!("{number}.bin"), &vec![b'x'; 1 << 20]).code, 226);
    }
    let filler = disk.fill_but(RESERVE - (4 << 20));
    machine.ok(&["gate", "open", "--reason", "test"]);
    wait_until("deliveries stop", || {
        let paused = status(&machine)["queue"]["paused_routes"].clone();
        paused.as_array().unwrap().iter().any(|route| route["reason"].as_str().unwrap().contains("disk space"))
    });
    let left = free(&machine.data());
    assert!(left > RESERVE / 2 - (2 << 20), "{left} bytes are left of a reserve of {RESERVE}");
    let done = machine.queue().iter().filter(|entry| entry["state"] == "done").count();
    assert!(done > 0 && done < 20, "{done} were delivered");
    fs::remove_file(filler).unwrap();
    machine.wait_until_none_is(&["ready", "active", "retrying"], "the others are delivered");
    assert_eq!(files_below(&machine.data().join("delivered")).len(), 20);
    machine.stop();
}

/// Small ones, whose bytes come from the journal, large ones, and one that was sent in pieces: none has its copy made where
/// that would take the journal's share, of bytes or of inodes.
#[test]
fn no_copy_of_any_kind_takes_the_journal_s_share() {
    const RESERVE: u64 = 24 << 20;
    for what in ["bytes", "inodes"] {
        let mut machine = machine("24 MiB");
        let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
        let often = "[process]\nprobe_first = \"100ms\"\nprobe_max = \"200ms\"\n";
        machine.write("forebay.toml", &(config + often));
        let disk = SmallDisk::ext4(machine.data(), 200, 4096);
        machine.add_partner("clinic", "secret");
        machine.start();
        machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
        let names = ["small.hl7", "large.bin", "pieces.bin"];
        let mut session = session(&machine);
        assert_eq!(session.store(names[0], &[b'x'; 60 << 10]).code, 226);
        assert_eq!(session.store(names[1], &vec![b'x'; 1 << 20]).code, 226);
        for _ in 0..3 {
            assert_eq!(session.upload("APPE", names[2], &[b'x'; 100 << 10]).code, 226);
        }
        drop(session);
        let filler = match what {
            "bytes" => disk.fill_but(RESERVE / 2 - (2 << 20)),
            _ => disk.fill_inodes_but(200),
        };
        for name in names {
            // The others wait in front of nobody.
            let is_waiting = |entry: &Value| entry["state"] == "ready";
            let (own, others): (Vec<_>, Vec<_>) =
                machine.queue().into_iter().filter(is_waiting).partition(|entry| entry["name"] == name);
            assert_eq!((own.len(), others.len()), (1, 2), "{what}: {name}");
            for one in &others {
                machine.ok(&["queue", "hold", one["id"].as_str().unwrap(), "--reason", "test"]);
            }
            machine.ok(&["gate", "open", "--reason", "test"]);
            // Of its own attempt: a reason of the route may be that of the file before.
            wait_until("its delivery is refused", || {
                let queue = machine.queue();
                assert!(queue.iter().all(|entry| entry["state"] != "done"), "{what}: {name}");
                let own = queue.iter().find(|entry| entry["id"] == own[0]["id"]).unwrap();
                own["reason"].as_str().is_some_and(|why| why.contains("disk space"))
            });
            machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
            for one in &others {
                machine.ok(&["queue", "release", one["id"].as_str().unwrap()]);
            }
        }
        if filler.is_dir() {
            fs::remove_dir_all(filler).unwrap()
        } else {
            fs::remove_file(filler).unwrap()
        }
        recovers(&mut machine);
    }
}

/// What costs an inode is bounded as names are, also when the names are gone.
#[test]
fn large_files_without_a_name_and_partials_count_as_names() {
    const MOST: usize = 6;
    let mut machine = Machine::new(&format!("[policy]\nmax_names = {MOST}\n"));
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    // A client that goes away in the middle of each of its uploads.
    for number in 0..MOST * 2 {
        let mut session = session(&machine);
        let mut data = session.passive();
        session.send(format!("STOR cut{number}\r\n").as_bytes());
        assert_eq!(session.reply().code, 150);
        data.write_all(&[b'x'; 10]).unwrap();
        session.shutdown(std::net::Shutdown::Both);
        drop(data);
        let log = format!("name=\"cut{number}\"");
        wait_until("it is over", || machine.log().contains(&log));
        wait_until("its session is over", || status(&machine)["sessions"].as_array().unwrap().is_empty());
    }
    let partials = || files_below(&machine.data().join("partials"));
    wait_until("the partials are kept", || partials().len() == MOST);
    for partial in partials() {
        fs::remove_file(partial).unwrap();
    }
    // One that takes each name away as soon as it has been given.
    let mut session = session(&machine);
    for number in 0..MOST {
        assert_eq!(session.store(&format!("{number}.bin"), &[b'x'; LARGE]).code, 226);
        assert_eq!(session.command(&format!("DELE {number}.bin")).code, 250);
    }
    assert_eq!(session.store("more.bin", &[b'x'; LARGE]).code, 552);
    assert_eq!(session.store("small.hl7", b"MSH|").code, 226, "it costs none");
    assert_eq!(files_below(&machine.data().join("spool")).len(), MOST);
    machine.stop();
}

/// The states of all files, by their names.
fn states(machine: &Machine) -> Vec<(String, String)> {
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let mut all: Vec<_> = machine.queue().iter().map(|entry| (text(&entry["name"]), text(&entry["state"]))).collect();
    all.sort();
    all
}

/// Kills the server and starts it again where there is no room, and sees that it serves.
fn starts_again(machine: &mut Machine) {
    let before = states(machine);
    machine.kill();
    machine.spawn();
    wait_until("its doors are open", || TcpStream::connect(machine.ftp).is_ok());
    assert_eq!(states(machine), before);
    assert_eq!(upload(machine, "no.hl7", LARGE), 452);
    assert_eq!(set_aside(machine), Vec::<PathBuf>::new(), "a full disk is no damage");
}

/// There is room again: everything is taken and processed, and nothing is wrong.
fn recovers(machine: &mut Machine) {
    wait_until("uploads are taken", || upload(machine, "after.hl7", 10) == 226);
    assert_eq!(upload(machine, "after.bin", LARGE), 226);
    machine.ok(&["gate", "clear"]);
    machine.wait_until_none_is(&["ready", "active", "retrying"], "all are processed");
    machine.ok(&["queue", "verify"]);
    assert_eq!(set_aside(machine), Vec::<PathBuf>::new(), "a full disk is no damage");
    machine.stop();
}

/// btrfs counts what is written and tells nobody how much is left.
#[test]
fn a_quota_that_is_spent_is_a_full_disk_and_no_damage() {
    let mut machine = machine("1 MiB");
    let disk = SmallDisk::btrfs_with_quota(machine.data(), 400, 120);
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    assert_eq!((upload(&machine, "small.hl7", 10), upload(&machine, "large.hl7", LARGE)), (226, 226));
    // btrfs writes elsewhere what is written over, and gives the old place back later.
    let mut filler = PathBuf::new();
    wait_until("nothing is left of it", || {
        filler = disk.spend_quota();
        (0..5).all(|_| upload(&machine, "no.hl7", LARGE) == 452)
    });
    assert!(disk.free().0 > 100 << 20, "the file system has room");
    for _ in 0..20 {
        assert_eq!(gate(&machine), "closed");
        assert!(machine.queue().len() >= 2);
        assert_eq!(upload(&machine, "no.hl7", LARGE), 452);
    }
    assert_eq!(set_aside(&machine), Vec::<PathBuf>::new(), "a quota that is spent is no damage");
    fs::remove_file(filler).unwrap();
    wait_until("uploads are taken", || upload(&machine, "after.hl7", 10) == 226);
    machine.kill();
    machine.start();
    assert_eq!(gate(&machine), "closed", "beyond a restart");
    assert!(["small.hl7", "large.hl7"].iter().all(|name| states(&machine).contains(&((*name).into(), "ready".into()))));
    recovers(&mut machine);
}

/// Where what is written over is written elsewhere, a quota that is spent refuses the journal itself: its segments were made
/// ahead, and that is no promise there.
#[test]
fn a_journal_that_a_spent_quota_refuses_goes_on_when_there_is_room() {
    let mut machine = machine("1 MiB");
    let disk = SmallDisk::btrfs_that_copies(machine.data(), 400, 120);
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    let mut taken = Vec::new();
    let mut refused = Vec::new();
    for round in 0..3 {
        let mut filler = PathBuf::new();
        // Small ones: their bytes come with the journal's records. What is given back late is spent again.
        wait_until("the journal has no room", || {
            filler = disk.spend_quota();
            (0..20).all(|_| {
                let name = format!("{round}-{}.hl7", taken.len() + refused.len());
                let code = upload(&machine, &name, 40_000);
                assert!(code == 226 || code == 452, "{code}: {}", machine.log());
                if code == 226 {
                    taken.push(name)
                } else {
                    refused.push(name)
                }
                code == 452
            })
        });
        assert!(disk.free().0 > 100 << 20, "the file system has room");
        assert_eq!(stopped(&machine), None);
        if round == 1 {
            machine.kill();
            machine.spawn();
            wait_until("its doors are open", || TcpStream::connect(machine.ftp).is_ok());
        }
        fs::remove_file(filler).unwrap();
        let name = format!("after-{round}.hl7");
        wait_until("uploads are taken", || upload(&machine, &name, 10) == 226);
        taken.push(name);
        assert_eq!(stopped(&machine), None, "without a restart");
    }
    assert!(refused.len() >= 60, "{}", refused.len());
    for how in ["as it runs", "after a kill"] {
        let mut there: Vec<_> = states(&machine).into_iter().map(|(name, _)| name).collect();
        let mut said = taken.clone();
        there.sort();
        said.sort();
        assert_eq!(there, said, "{how}: what was refused never comes");
        machine.kill();
        machine.start();
    }
    recovers(&mut machine);
}

/// Why the queue takes nothing more, if it does not.
fn stopped(machine: &Machine) -> Option<String> {
    machine.log().lines().find(|line| line.contains("takes nothing more")).map(str::to_owned)
}

/// Operators reach a server that has started where there was no room for its socket as soon as there is some.
#[test]
fn a_socket_that_finds_no_room_is_made_when_there_is_some() {
    let mut machine = machine("1 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 1024);
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.stop();
    fs::remove_file(machine.data().join("admin.sock")).unwrap();
    let fillers = disk.fill_inodes();
    machine.spawn();
    wait_until("its doors are open", || TcpStream::connect(machine.ftp).is_ok());
    assert!(machine.log().contains("no room for admin.sock"), "{}", machine.log());
    assert_eq!(upload(&machine, "no.hl7", LARGE), 452);
    fs::remove_dir_all(fillers).unwrap();
    assert!(machine.ok(&["status"]).contains("running"));
    recovers(&mut machine);
}

/// Files that are accepted, files that are cut, and their records.
#[test]
fn uploads_that_fill_the_disk_stop_at_the_reserve() {
    const RESERVE: u64 = 24 << 20;
    let mut machine = machine("24 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 4096);
    machine.add_partner("clinic", "secret");
    machine.start();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    // One that is longer than all there is ends in the middle, and a shorter one at its end.
    let filler = disk.fill_but(RESERVE + (10 << 20));
    let mut long = session(&machine);
    let mut data = long.passive();
    assert_eq!(long.command("STOR long.bin").code, 150);
    assert!(data.write_all(&vec![b'x'; 64 << 20]).is_err(), "nobody takes the rest");
    assert_eq!(long.reply().code, 452);
    drop((long, data));
    fs::remove_file(filler).unwrap();
    let filler = disk.fill_but(RESERVE + (2 << 20));
    assert_eq!(upload(&machine, "short.bin", 6 << 20), 452);
    fs::remove_file(filler).unwrap();
    assert_eq!(machine.queue().len(), 0);
    let filler = disk.fill_but(RESERVE + (40 << 20));
    // In turn one that is cut and one that is not, each longer than the steps in which the room is looked at.
    let mut refused = 0;
    for number in 0..40 {
        let mut session = session(&machine);
        let mut data = session.passive();
        let code = session.command(&format!("STOR {number}.bin")).code;
        let is_sent = code == 150 && data.write_all(&vec![b'x'; 6 << 20]).is_ok();
        if number % 2 == 0 {
            session.shutdown(std::net::Shutdown::Both);
            drop(data);
        } else {
            drop(data);
            let last = if code == 150 { session.reply().code } else { code };
            assert!(last == 452 || (last == 226 && is_sent), "{last}");
            refused += usize::from(last == 452);
        }
        wait_until("its session is over", || {
            drop(session.try_command("QUIT"));
            status(&machine)["sessions"].as_array().unwrap().is_empty()
        });
    }
    assert!(refused > 10, "{refused} were refused");
    let kept = files_below(&machine.data().join("partials")).len();
    assert!(kept > 0 && !machine.queue().is_empty(), "{kept} partials");
    let left = disk.free().0;
    assert!(left > RESERVE - (12 << 20), "{left} bytes are left of a reserve of {RESERVE}");
    // The small ones as well.
    let mut session = session(&machine);
    let code = (0..2_000).map(|n| session.store(&format!("{n}.hl7"), &[b'x'; 60 << 10]).code).find(|code| *code != 226);
    assert_eq!(code, Some(452));
    drop(session);
    starts_again(&mut machine);
    fs::remove_file(filler).unwrap();
    recovers(&mut machine);
}

/// A program has a directory of its own, on the same disk.
#[test]
fn a_program_that_fills_the_disk_fails_alone() {
    let route = "[[route]]\nname = \"all\"\nprocessor = \"exec\"\ncommand = [\"/bin/sh\", \"@DIR@/program\"]\n\
                 retry = { first = \"100ms\", max = \"200ms\" }\n";
    let mut machine = Machine::new(route);
    let script = "[ -e @DIR@/good ] && exit 0; cat /dev/zero > fills; cat /dev/zero > too; touch @DIR@/full\n\
                  while [ ! -e @DIR@/good ]; do sleep 0.1; done; exit 75\n";
    machine.write("program", &script.replace("@DIR@", machine.path().to_str().unwrap()));
    let disk = SmallDisk::ext4(machine.data(), 200, 4096);
    machine.add_partner("clinic", "secret");
    machine.start();
    assert_eq!(upload(&machine, "a.hl7", 10), 226);
    wait_until("the disk is full", || machine.path().join("full").exists());
    assert!(disk.free().0 < 1 << 20, "{:?}", disk.free());
    assert!(is_short(&machine, "the disk is full"), "{}", machine.ok(&["status"]));
    assert_eq!(upload(&machine, "no.hl7", 10), 452);
    assert_eq!(machine.queue().len(), 1);
    // The server that is killed leaves the program, and what it wrote; the next one ends both.
    machine.kill();
    machine.write("good", "");
    machine.start();
    wait_until("there is room", || !is_short(&machine, "the disk is full"));
    recovers(&mut machine);
    assert_eq!(files_below(&machine.data().join("scratch")), Vec::<PathBuf>::new());
}

/// The log on the disk that it fills.
#[test]
fn a_log_that_fills_the_disk_loses_its_lines_and_nothing_else() {
    let mut machine = machine("1 MiB");
    let disk = SmallDisk::ext4(machine.data(), 200, 4096);
    machine.add_partner("clinic", "secret");
    machine.environment = vec![("FOREBAY_LOG", "trace".into())];
    let log = machine.data().join("log");
    machine.spawn_logging_to(fs::File::options().create(true).append(true).open(&log).unwrap().into());
    machine.wait_ready();
    machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    assert_eq!(upload(&machine, "a.hl7", 10), 226);
    let filler = disk.fill_but(64 << 10);
    let is_broken = || status(&machine)["log"]["broken"] == true;
    wait_until("the log has filled it", || {
        assert_eq!(upload(&machine, "no.hl7", 10), 452);
        is_broken()
    });
    assert_eq!(disk.free().0, 0);
    assert_eq!(states(&machine), [("a.hl7".to_owned(), "ready".to_owned())]);
    fs::remove_file(filler).unwrap();
    wait_until("it is written again", || !is_broken());
    assert!(status(&machine)["log"]["lost_lines"].as_u64().unwrap() > 0);
    recovers(&mut machine);
}
