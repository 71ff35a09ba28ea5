//! What the FTP door says of files: sizes and times are those of what was sent and when it came, and nobody changes them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says so by failing, and reads the machine's clock"
)]

mod harness;

use std::{os::unix::fs::MetadataExt, time::Duration};

use chrono::{DateTime, Utc};
use harness::{House, Plan, files_below};

/// The fact of that name in a line of MLST or MLSD.
fn fact<'a>(line: &'a str, name: &str) -> Option<&'a str> {
    line.trim_start().split(' ').next()?.split(';').find_map(|fact| {
        let (key, value) = fact.split_once('=')?;
        key.eq_ignore_ascii_case(name).then_some(value)
    })
}

#[test]
fn sizes_and_times_agree_in_every_command() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.store("a b.hl7", &[7; 12_345]).code, 226);
    assert_eq!(ftp.command("MKD in").code, 257);
    assert_eq!(ftp.command("SIZE a b.hl7").text, "213 12345\r\n");
    // TYPE A changes no byte, and so no size.
    assert_eq!(ftp.command("TYPE A").code, 200);
    assert_eq!(ftp.command("SIZE a b.hl7").text, "213 12345\r\n");

    let on_disk: DateTime<Utc> = std::fs::metadata(house.view().join("a b.hl7")).unwrap().modified().unwrap().into();
    let time = on_disk.format("%Y%m%d%H%M%S").to_string();
    assert!(Utc::now() - on_disk < chrono::TimeDelta::seconds(60));
    assert_eq!(ftp.command("MDTM a b.hl7").text, format!("213 {time}\r\n"));

    let told = ftp.command("MLST a b.hl7");
    let line = told.text.lines().nth(1).unwrap();
    assert_eq!(
        (fact(line, "type"), fact(line, "size"), fact(line, "modify")),
        (Some("file"), Some("12345"), Some(&*time))
    );
    assert!(line.ends_with("a b.hl7"), "{line}");
    let told = ftp.command("MLST in");
    assert_eq!(fact(told.text.lines().nth(1).unwrap(), "type"), Some("dir"));
    let listed = String::from_utf8(ftp.fetch("MLSD").unwrap()).unwrap();
    let line = listed.lines().find(|line| line.ends_with("a b.hl7")).unwrap();
    assert_eq!(
        (fact(line, "type"), fact(line, "size"), fact(line, "modify")),
        (Some("file"), Some("12345"), Some(&*time))
    );
    for missing in ["SIZE nothing", "MDTM nothing", "MLST nothing"] {
        assert_eq!(ftp.command(missing).code, 550, "{missing}");
    }
    assert_eq!(ftp.command("SIZE in").code, 550);
}

#[test]
fn the_time_of_a_file_is_when_it_came_and_cannot_be_changed() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    let times = || {
        let mut files = files_below(&house.path("spool"));
        files.push(house.view().join("a.hl7"));
        files
            .iter()
            .map(|file| std::fs::metadata(file).unwrap())
            .map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec()))
            .collect::<Vec<_>>()
    };
    let before = times();
    assert!(!ftp.command("FEAT").text.contains("MFMT"));
    for command in
        ["MFMT 20200101000000 a.hl7", "MFMT", "MFMT x", "SITE UTIME 20200101000000 a.hl7", "MDTM 20200101000000 a.hl7"]
    {
        let reply = ftp.command(command);
        assert!((500..600).contains(&reply.code), "{command}: {}", reply.text);
    }
    std::thread::sleep(Duration::from_millis(5));
    assert_eq!(times(), before);
    assert_eq!(ftp.command("NOOP").code, 200);
}
