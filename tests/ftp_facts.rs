//! What the FTP door says of files: sizes and times are those of what was sent and when it came, and nobody changes them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says so by failing, and reads the machine's clock"
)]

mod harness;

use std::os::unix::fs::MetadataExt;

use chrono::Utc;
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

    let came = house.entries()[0].received_at;
    let time = came.format("%Y%m%d%H%M%S").to_string();
    assert!(Utc::now() - came < chrono::TimeDelta::seconds(60));
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
fn stat_has_names_between_its_first_and_last_line() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.command("MKD in").code, 257);
    assert_eq!(ftp.store("in/a.hl7", b"data").code, 226);
    assert_eq!(ftp.store("b.hl7", b"data").code, 226);
    for (path, code, names) in [("b.hl7", 213, &["b.hl7"][..]), ("in", 212, &["a.hl7"]), ("", 212, &["b.hl7", "in"])] {
        let told = ftp.command(&format!("STAT -l {path}"));
        assert_eq!(told.code, code, "{}", told.text);
        let lines: Vec<_> = told.text.lines().collect();
        let [first, between @ .., last] = lines.as_slice() else { panic!("{lines:?}") };
        assert!(first.starts_with(&format!("{code}-")) && last.starts_with(&format!("{code} ")), "{lines:?}");
        let listed: Vec<_> = between.iter().filter_map(|line| line.rsplit(' ').next()).collect();
        assert_eq!(listed, names, "{path:?}");
    }
    assert_eq!(ftp.command("STAT nothing").code, 550);
}

#[test]
fn listings_have_one_line_a_name_in_the_format_of_each_command() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.store("a b.hl7", b"data").code, 226);
    assert_eq!(ftp.command("MKD in").code, 257);
    assert_eq!(ftp.command("MFMT 20030201040506 a b.hl7").code, 213);
    let mut listed = |command| String::from_utf8(ftp.fetch(command).unwrap()).unwrap();
    assert_eq!(listed("NLST"), "a b.hl7\r\nin\r\n");
    assert_eq!(listed("NLST in"), "");
    let file = "-rw-------            1            0            0              4  Feb 01 2003 a b.hl7\r\n";
    assert!(listed("LIST").starts_with(file));
    assert_eq!(listed("LIST a b.hl7"), file);
    assert_eq!(listed("NLST a b.hl7"), "a b.hl7\r\n");
    let facts = listed("MLSD");
    assert!(facts.starts_with("type=file;size=4;modify=20030201040506; a b.hl7\r\n"), "{facts}");
    assert!(facts.lines().last().unwrap().starts_with("type=dir;size=0;modify="), "{facts}");
    // RFC 3659, 7.1: a file is for MLST. All of it is known before 150.
    for (command, code) in [("MLSD a b.hl7", 501), ("MLSD nothing", 550), ("LIST nothing", 550), ("NLST nothing", 550)]
    {
        let data = ftp.passive();
        assert_eq!(ftp.command(command).code, code, "{command}");
        drop(data);
    }
}

/// The `mget` of tnftp, inetutils, NcFTP, PHP and Windows leaves it to the server.
#[test]
fn globs_are_matched_where_no_file_has_that_very_name() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    for name in ["in", "deep"] {
        assert_eq!(ftp.command(&format!("MKD {name}")).code, 257);
    }
    for name in ["a.hl7", "b.HL7", "b.txt", "in/c.hl7", "in/d.txt", "in/e?.hl7", "größe.hl7"] {
        assert_eq!(ftp.store(name, b"data").code, 226, "{name}");
    }
    let mut names = |command: &str| {
        let mut names: Vec<_> =
            String::from_utf8(ftp.fetch(command).unwrap()).unwrap().lines().map(str::to_owned).collect();
        names.sort();
        names
    };
    for (command, told) in [
        ("NLST *.hl7", &["a.hl7", "b.HL7", "größe.hl7"][..]),
        ("NLST -1 [ab].*", &["a.hl7", "b.HL7", "b.txt"]),
        ("NLST ?.txt", &["b.txt"]),
        ("NLST GR\u{d6}?E.*", &["größe.hl7"]),
        ("NLST gro\u{308}ß*", &["größe.hl7"]),
        ("NLST in/*.hl7", &["in/c.hl7", "in/e?.hl7"]),
        ("NLST /in/*.txt", &["/in/d.txt"]),
        ("NLST ./in/../in/c*", &["./in/../in/c.hl7"]),
        ("NLST *.nothing", &[]),
        ("NLST d*", &["deep"]),
        // This one is there, and read as what it is. A file is named so that the client can ask for it.
        ("NLST in/e?.hl7", &["in/e?.hl7"]),
        ("NLST in/d.txt", &["in/d.txt"]),
    ] {
        assert_eq!(names(command), told, "{command}");
    }
    let lines = names("LIST in/*.hl7");
    assert_eq!(lines.len(), 2);
    assert!(lines[0].ends_with(" c.hl7") && lines[0].starts_with("-rw"), "{lines:?}");
    for (command, code) in [
        ("NLST nowhere/*.hl7", 550),
        ("NLST i*/c.hl7", 550),
        ("NLST a.hl7/*", 550),
        ("NLST [a", 550),
        ("NLST *a*a*a*a*a*a*a*a*a", 550),
        ("MLSD *.hl7", 550),
        ("MLSD in/*", 550),
        ("MLST *.hl7", 550),
    ] {
        let data = ftp.passive();
        assert_eq!(ftp.command(command).code, code, "{command}");
        drop(data);
    }
}

#[test]
fn the_name_that_stou_tells_leads_there_from_where_the_client_is() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.command("MKD in").code, 257);
    for folder in ["/", "/in"] {
        assert_eq!(ftp.command(&format!("CWD {folder}")).code, 250);
        let data = ftp.passive();
        let told = ftp.command("STOU");
        assert_eq!(told.code, 150);
        drop(data);
        assert_eq!(ftp.reply().code, 226);
        let name = told.text.trim().strip_prefix("150 FILE: ").unwrap();
        assert_eq!(ftp.command(&format!("SIZE {name}")).code, 213, "{told:?}");
        assert_eq!(ftp.command(&format!("SIZE {folder}/{name}")).code, 213, "{told:?}");
    }
}

#[test]
fn a_time_that_a_client_gives_is_shown_and_changes_nothing_that_was_accepted() {
    const GIVEN: &str = "20200102030405";
    let house = House::new(Plan { inline_bytes: 0, ..Plan::default() });
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    assert_eq!(ftp.command("MKD in").code, 257);
    let accepted = || {
        let files = files_below(&house.path("spool"));
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
    assert_eq!(ftp.command(&format!("MFMT {GIVEN} b.hl7")).code, 213);
    assert_eq!(ftp.command("DELE b.hl7").code, 250);

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
