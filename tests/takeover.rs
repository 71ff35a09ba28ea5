//! A data directory of the version before, in which each partner had a real directory of hard links to spooled files.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    fs,
    os::unix::fs::{MetadataExt, symlink},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use forebay_queue::{Catalogue, Node, State};
use harness::{Door, House, PARTNER, Plan, files_below};

/// Three files that were accepted, and the spool file of each.
fn before() -> (std::sync::Arc<tempfile::TempDir>, Vec<PathBuf>) {
    let house = House::new(Plan { inline_bytes: 0, ..Plan::default() });
    let mut client = house.enter(Door::Sftp);
    for name in ["a.hl7", "b.hl7", "c.hl7"] {
        client.put(name, name.as_bytes()).unwrap();
    }
    let spooled = |id: String| files_below(&house.path("spool")).into_iter().find(|path| path.ends_with(&id)).unwrap();
    let files = house.entries().iter().map(|entry| spooled(entry.id.to_string())).collect();
    drop(client);
    house.wait_alone();
    (house.data(), files)
}

/// The partner had renamed the first, deleted the second, moved the third into a folder and given it a time.
fn old_home(data: &Path, spooled: &[PathBuf]) {
    let home = data.join("home").join(PARTNER);
    for folder in ["in", "empty/below", "out"] {
        fs::create_dir_all(home.join(folder)).unwrap();
    }
    fs::hard_link(&spooled[0], home.join("renamed.hl7")).unwrap();
    fs::hard_link(&spooled[2], home.join("in/c.hl7")).unwrap();
    symlink("/etc/hostname", home.join("link")).unwrap();
    for name in ["report.pdf", "NOTICE.txt", ".half.tmp", "a.hl7.0199f000-0000-7000-8000-000000000001.receipt.json"] {
        fs::write(home.join("out").join(name), "x").unwrap();
    }
    let there = fs::symlink_metadata(&spooled[2]).unwrap();
    let times = data.join("home/.times").join(PARTNER);
    fs::create_dir_all(&times).unwrap();
    let time = fs::File::create(times.join(format!("{}-{}.{:09}", there.ino(), there.mtime(), there.mtime_nsec())));
    time.unwrap().set_modified(SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000_000)).unwrap();
    fs::create_dir_all(data.join("home/.new")).unwrap();
    fs::write(data.join("home/.checkpoint"), "12\n").unwrap();
    fs::write(data.join("receipts.json"), "{}").unwrap();
}

fn assert_taken_over(house: &House) {
    for door in [Door::Ftp, Door::Sftp] {
        let mut client = house.enter(door);
        assert_eq!(client.list("/"), ["empty", "in", "renamed.hl7"]);
        assert_eq!((client.list("/in"), client.list("/empty")), (vec!["c.hl7".to_owned()], vec!["below".to_owned()]));
        assert_eq!(client.fetch("renamed.hl7").unwrap(), b"a.hl7");
        assert_eq!(client.fetch("in/c.hl7").unwrap(), b"c.hl7");
    }
    let Some(Node::File { at, .. }) = house.block_on(Catalogue::stat(&*house.catalogue, PARTNER, "in/c.hl7")).unwrap()
    else {
        panic!("no file")
    };
    assert_eq!(at.timestamp(), 1_000_000_000);
    // What is processed has not changed.
    assert_eq!(house.states("b.hl7"), [State::Ready]);
    assert_eq!(house.entries().len(), 3);
    assert!(!house.path("home").exists() && !house.path("receipts.json").exists());
    assert_eq!(fs::read(house.path("outbox").join(PARTNER).join("report.pdf")).unwrap(), b"x");
    assert_eq!(fs::read_dir(house.path("outbox").join(PARTNER)).unwrap().count(), 1);
}

#[test]
fn names_folders_and_times_are_taken_over_and_the_directory_goes() {
    let (data, spooled) = before();
    old_home(data.path(), &spooled);
    let house = House::on(Plan::default(), data);
    assert_taken_over(&house);
    let data = house.data();
    drop(house);
    fs::remove_dir_all(data.path().join("queue")).unwrap();
    assert_taken_over(&House::on(Plan::default(), data));
}

/// As a crash leaves it: all of it journalled and not put away, put away in part, or put away and not removed.
#[test]
fn a_takeover_that_was_cut_goes_on() {
    for cut in 0..3 {
        let (data, spooled) = before();
        old_home(data.path(), &spooled);
        let home = data.path().join("home");
        let copy = data.path().join("copy");
        if cut == 0 {
            // The same again: everything is in the journal, and nothing was removed.
            assert!(std::process::Command::new("cp").arg("-al").args([&home, &copy]).status().unwrap().success());
            drop(House::on(Plan::default(), data.clone()));
            fs::rename(&copy, &home).unwrap();
            fs::remove_file(home.join(PARTNER).join("out/report.pdf")).unwrap();
        } else {
            drop(House::on(Plan::default(), data.clone()));
            fs::create_dir_all(home.join(format!(".done-{PARTNER}/in"))).unwrap();
            if cut == 2 {
                fs::hard_link(&spooled[0], home.join(format!(".done-{PARTNER}/left.hl7"))).unwrap();
            }
        }
        assert_taken_over(&House::on(Plan::default(), data));
    }
}
