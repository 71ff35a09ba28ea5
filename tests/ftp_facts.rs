//! What the FTP door says of files: sizes and times are those of what was sent and when it came, and nobody changes them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says so by failing, and reads the machine's clock"
)]

mod harness;

use std::os::unix::fs::MetadataExt;

use chrono::{DateTime, Utc};
use harness::{Ftp, House, Plan, files_below};

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
fn a_time_that_a_client_gives_is_shown_and_changes_nothing_that_was_accepted() {
    const GIVEN: &str = "20200102030405";
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    assert_eq!(ftp.command("MKD in").code, 257);
    let accepted = || {
        let mut files = files_below(&house.path("spool"));
        files.push(house.view().join("a.hl7"));
        let all = files.iter().map(|file| std::fs::metadata(file).unwrap());
        all.map(|meta| (meta.ino(), meta.mtime(), meta.mtime_nsec(), meta.ctime_nsec())).collect::<Vec<_>>()
    };
    let before = accepted();
    assert!(ftp.command("FEAT").text.contains("\r\n MFMT\r\n"));
    let told = ftp.command(&format!("MFMT {GIVEN} a.hl7"));
    assert_eq!((told.code, told.text.contains(&format!("Modify={GIVEN};"))), (213, true), "{}", told.text);
    assert_eq!(accepted(), before, "only what is shown is another time");
    let shows = |ftp: &mut Ftp, name: &str, time: &str| {
        assert_eq!(ftp.command(&format!("MDTM {name}")).text, format!("213 {time}\r\n"));
        let told = ftp.command(&format!("MLST {name}"));
        assert_eq!(fact(told.text.lines().nth(1).unwrap(), "modify"), Some(time));
        let listed = String::from_utf8(ftp.fetch("MLSD").unwrap()).unwrap();
        let line = listed.lines().find(|line| line.ends_with(name)).unwrap();
        assert_eq!(fact(line, "modify"), Some(time));
        let listed = String::from_utf8(ftp.fetch("LIST").unwrap()).unwrap();
        let line = listed.lines().find(|line| line.ends_with(name)).unwrap();
        assert!(!time.starts_with("2020") || line.contains("Jan 02 2020"), "{line}");
    };
    shows(&mut ftp, "a.hl7", GIVEN);
    assert_eq!(ftp.command("MFMT 20210102030405.123 a.hl7").code, 213);
    shows(&mut ftp, "a.hl7", "20210102030405");
    // It goes with the file, and not with the name: another file of that name came when it came.
    assert_eq!((ftp.command("RNFR a.hl7").code, ftp.command("RNTO b.hl7").code), (350, 250));
    shows(&mut ftp, "b.hl7", "20210102030405");
    assert_eq!(ftp.store("b.hl7", b"another").code, 226);
    assert!(!ftp.command("MDTM b.hl7").text.contains("2021"));
    assert!(files_below(&house.path("home/.times")).is_empty(), "what is no longer shown has no time");
    assert_eq!(ftp.command(&format!("MFMT {GIVEN} b.hl7")).code, 213);
    assert_eq!(ftp.command("DELE b.hl7").code, 250);
    assert!(files_below(&house.path("home/.times")).is_empty());

    for (command, code) in [
        ("MFMT", 501),
        ("MFMT x", 501),
        ("MFMT 20200101000000", 501),
        ("MFMT 20201301000000 a.hl7", 501),
        ("MFMT 20200101000000 nothing.hl7", 550),
        ("MFMT 20200101000000 in", 550),
        ("MFMT 20200101000000 out/x", 550),
        ("MFMT 20200101000000 ../x", 553),
        ("SITE UTIME 20200101000000 a.hl7", 504),
        ("MDTM 20200101000000 a.hl7", 550),
    ] {
        assert_eq!(ftp.command(command).code, code, "{command}");
    }
    assert_eq!(house.entries().len(), 2);
}
