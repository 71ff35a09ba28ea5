//! What the SFTP door says of itself is true, and what it does not serve is refused with a reason.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail, and waits")]

mod harness;

use harness::{
    sftp_client::{Answer, CLOSE, OPEN, Sftp, TO_GO_ON, TO_READ, TO_WRITE, WRITE, string},
    site::{PASSWORD, Site, USER},
};

const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const STAT: u8 = 17;
const EXTENDED: u8 = 200;
const EXTENDED_REPLY: u8 = 201;
const END: u32 = 1;
const FAILURE: u32 = 4;
const UNSUPPORTED: u32 = 8;

fn login(site: &Site) -> Sftp {
    Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap()
}

fn extended(sftp: &mut Sftp, name: &str, parts: &[&[u8]]) -> Answer {
    sftp.ask(EXTENDED, &[&string(format!("{name}@openssh.com").as_bytes()), &parts.concat()])
}

fn numbers(answer: &Answer) -> Vec<u64> {
    assert_eq!(answer.kind, EXTENDED_REPLY, "{answer:?}");
    answer.body.chunks(8).map(|number| u64::from_be_bytes(number.try_into().unwrap())).collect()
}

#[test]
fn what_is_announced_is_served_and_nothing_else_is() {
    let site = Site::open("");
    let mut sftp = login(&site);
    let announced = String::from_utf8_lossy(&sftp.announced().unwrap()).into_owned();
    let names: Vec<&str> = announced.split(['\0', '\u{1}', '\u{2}']).filter(|part| part.contains('@')).collect();
    assert_eq!(names.len(), 5, "{announced:?}");
    for name in ["posix-rename", "statvfs", "fstatvfs", "fsync", "limits"] {
        assert!(announced.contains(&format!("{name}@openssh.com")), "{name} in {announced:?}");
    }

    let space = numbers(&extended(&mut sftp, "statvfs", &[&string(b"/")]));
    let [block, _, blocks, free, available, ..] = space[..] else { panic!("{space:?}") };
    assert_eq!(space.len(), 11);
    assert!(block > 0 && blocks > free && free >= available && available > 0, "{space:?}");
    assert_eq!(extended(&mut sftp, "statvfs", &[&string(b"/nothing")]).code(), 2);

    let limits = numbers(&extended(&mut sftp, "limits", &[]));
    let [packet, read, write, handles] = limits[..] else { panic!("{limits:?}") };
    assert!(packet >= write + 1024 && handles > 0, "{limits:?}");
    let bytes: Vec<u8> = (0..write).map(|n| (n / 5) as u8).collect();
    let handle = sftp.open("a.hl7", TO_WRITE).unwrap();
    assert!(sftp.write(&handle, 0, &bytes).is_ok(), "as much in a packet as it says");
    assert!(sftp.close(&handle).is_ok());
    let handle = sftp.open("a.hl7", TO_READ).unwrap();
    assert_eq!(sftp.read(&handle, 0, u32::try_from(read).unwrap()).body[4..], bytes[..]);
    assert_eq!(numbers(&extended(&mut sftp, "fstatvfs", &[&handle])).len(), 11);

    let (a, b) = (string(b"a.hl7"), string(b"b.hl7"));
    for name in ["hardlink", "lsetstat", "expand-path", "nonsense"] {
        let refused = extended(&mut sftp, name, &[&a, &b]);
        assert_eq!(refused.code(), UNSUPPORTED, "{name}: {}", refused.text());
    }
    assert_eq!(sftp.ask(20, &[&a, &b]).code(), UNSUPPORTED, "a symbolic link");
    assert_eq!(sftp.ask(19, &[&a]).code(), FAILURE, "what is no link leads nowhere");
    assert_eq!(sftp.ask(77, &[&a]).code(), UNSUPPORTED, "no such request");
    assert_eq!(sftp.ask(STAT, &[&b]).code(), 2, "nothing of that name was made");
    assert!(sftp.store("c.hl7", b"data").is_ok(), "the channel goes on");
}

#[test]
fn a_rename_that_may_replace_accepts_and_replaces_nothing_accepted() {
    let site = Site::open("");
    let mut sftp = login(&site);
    assert!(sftp.store("a.hl7", b"first").is_ok());
    assert!(sftp.store("a.tmp", b"second").is_ok());
    let states = || {
        let mut all: Vec<_> =
            site.machine.queue().iter().map(|entry| entry["name"].as_str().unwrap().to_owned()).collect();
        all.sort();
        all
    };
    assert_eq!(states(), ["a.hl7", "a.tmp"]);
    assert!(extended(&mut sftp, "posix-rename", &[&string(b"a.tmp"), &string(b"a.hl7")]).is_ok());
    assert_eq!(states(), ["a.hl7", "a.hl7"], "both are there");
    let handle = sftp.open("a.hl7", TO_READ).unwrap();
    assert_eq!(sftp.read(&handle, 0, 100).body[4..], *b"second", "and the newest is shown");
    assert_eq!(extended(&mut sftp, "posix-rename", &[&string(b"a.tmp"), &string(b"b.hl7")]).code(), 2);
}

#[test]
fn names_that_are_no_text_are_refused_with_a_reason() {
    let site = Site::open("");
    let mut sftp = login(&site);
    assert!(sftp.store("own.hl7", b"own").is_ok());
    let own = string(b"own.hl7");
    for name in [&b"latin\xe4.hl7"[..], b"\xff", b"in/\xc3\x28", b"\xed\xa0\x80"] {
        let name = string(name);
        for (kind, parts) in [
            (OPEN, [&name[..], &[0, 0, 0, 0x1a, 0, 0, 0, 0]].concat()),
            (OPEN, [&name[..], &[0, 0, 0, 1, 0, 0, 0, 0]].concat()),
            (11, name.clone()),
            (13, name.clone()),
            (14, [&name[..], &[0; 4]].concat()),
            (15, name.clone()),
            (16, name.clone()),
            (17, name.clone()),
            (18, [&own[..], &name].concat()),
            (18, [&name[..], &own].concat()),
        ] {
            let refused = sftp.ask(kind, &[&parts]);
            assert_eq!(refused.code(), FAILURE, "{kind} {name:?}");
            assert!(refused.text().contains("UTF-8"), "{kind} {name:?}: {}", refused.text());
        }
    }
    assert_eq!(site.queue().len(), 1);
    let folder = sftp.ask(OPENDIR, &[&string(b".")]).body;
    let names = sftp.ask(READDIR, &[&folder]).body;
    assert!(names.windows(7).any(|name| name == b"own.hl7"));
    assert_eq!(names[..4], [0, 0, 0, 1], "the file alone: out is there and not listed");
    assert_eq!(sftp.ask(READDIR, &[&folder]).code(), END);
}

/// As OpenSSH's server has them: clients tell by the code whether to go on.
#[test]
fn what_is_of_the_wrong_kind_has_the_codes_of_openssh() {
    const REMOVE: u8 = 13;
    const MKDIR: u8 = 14;
    const RMDIR: u8 = 15;
    const NO_SUCH_FILE: u32 = 2;
    let site = Site::open("");
    let mut sftp = login(&site);
    assert!(sftp.ask(MKDIR, &[&string(b"full"), &[0; 4]]).is_ok());
    assert!(sftp.store("full/a.hl7", b"data").is_ok());
    for (kind, name, code) in [
        (RMDIR, "full", FAILURE),
        (REMOVE, "full", FAILURE),
        (RMDIR, "nothing", NO_SUCH_FILE),
        (REMOVE, "nothing", NO_SUCH_FILE),
        (OPENDIR, "full/a.hl7", NO_SUCH_FILE),
        (OPENDIR, "nothing", NO_SUCH_FILE),
        // Found beside them: a file is no folder, and below it there is nothing.
        (RMDIR, "full/a.hl7", NO_SUCH_FILE),
        (OPENDIR, "full/a.hl7/b", NO_SUCH_FILE),
        (STAT, "full/a.hl7/b", NO_SUCH_FILE),
        (REMOVE, "full/a.hl7/b", NO_SUCH_FILE),
        (MKDIR, "full", FAILURE),
        (REMOVE, "out", FAILURE),
    ] {
        let path = string(name.as_bytes());
        let parts: &[&[u8]] = if kind == MKDIR { &[&path, &[0; 4]] } else { &[&path] };
        let told = sftp.ask(kind, parts);
        assert_eq!(told.code(), code, "{kind} {name}: {}", told.text());
    }
    let opened = sftp.ask(OPEN, &[&string(b"full"), &[0, 0, 0, 1, 0, 0, 0, 0]]);
    assert_eq!(opened.code(), FAILURE, "a folder is no file: {}", opened.text());
    site.assert_kept("full/a.hl7", b"data");
}

#[test]
fn what_was_synced_outlives_a_killed_server() {
    let mut site = Site::open("");
    let bytes: Vec<u8> = (0..300_000_u32).map(|n| (n / 3) as u8).collect();
    let mut sftp = login(&site);
    let handle = sftp.open("a.hl7", TO_WRITE).unwrap();
    assert!(sftp.write(&handle, 0, &bytes[..100_000]).is_ok());
    assert!(sftp.write(&handle, 100_000, &bytes[100_000..200_000]).is_ok());
    assert!(extended(&mut sftp, "fsync", &[&handle]).is_ok());
    site.machine.kill();
    site.machine.start();
    assert!(site.queue().is_empty(), "it is no file");
    let mut sftp = login(&site);
    let there = sftp.ask(17, &[&string(b"a.hl7")]);
    assert_eq!(there.body[4..12], 200_000_u64.to_be_bytes(), "{there:?}");
    let handle = sftp.open("a.hl7", TO_GO_ON).unwrap();
    assert!(sftp.write(&handle, 200_000, &bytes[200_000..]).is_ok());
    assert!(sftp.close(&handle).is_ok());
    site.assert_kept("a.hl7", &bytes);
}

/// A file is made durable, and those who ask for something else meanwhile do not wait for it. One round may be too quick to
/// show it.
#[test]
fn requests_do_not_wait_for_one_that_takes_its_time() {
    let site = Site::open("");
    let mut sftp = login(&site);
    let overtaken = (0..10).any(|round| {
        let slow = sftp.open(&format!("slow-{round}.hl7"), TO_WRITE).unwrap();
        for at in 0..40_u64 {
            assert!(sftp.write(&slow, at * (200 << 10), &vec![7; 200 << 10]).is_ok());
        }
        let other = sftp.open(&format!("other-{round}.hl7"), TO_WRITE).unwrap();
        let closing = sftp.request(CLOSE, &[&slow]).unwrap();
        let wrote = sftp.request(WRITE, &[&other, &0_u64.to_be_bytes(), &string(b"data")]).unwrap();
        let stated = sftp.request(STAT, &[&string(b"/elsewhere")]).unwrap();
        let order: Vec<u32> = (0..3).map(|_| sftp.answer().unwrap().id).collect();
        assert!([closing, wrote, stated].iter().all(|id| order.contains(id)), "{order:?}");
        assert!(sftp.close(&other).is_ok());
        order[2] == closing
    });
    assert!(overtaken, "they waited for the file each time");
}

#[test]
fn a_time_that_a_client_sets_is_shown_and_outlives_a_restart() {
    const GIVEN: [u8; 4] = 1_577_934_245_u32.to_be_bytes();
    const SETSTAT: u8 = 9;
    const FSETSTAT: u8 = 10;
    let times = [&[0, 0, 0, 8][..], &[0, 0, 0, 1], &GIVEN].concat();
    let mut site = Site::open("");
    let mut sftp = login(&site);
    // Before the end, as `put -p`, and afterwards.
    let handle = sftp.open("a.tmp", TO_WRITE).unwrap();
    assert!(sftp.write(&handle, 0, b"data").is_ok());
    assert!(sftp.ask(FSETSTAT, &[&handle, &times]).is_ok());
    assert!(sftp.close(&handle).is_ok());
    assert!(sftp.ask(18, &[&string(b"a.tmp"), &string(b"a.hl7")]).is_ok());
    assert!(sftp.store("b.hl7", b"data").is_ok());
    assert!(sftp.ask(SETSTAT, &[&string(b"b.hl7"), &times]).is_ok());
    assert!(sftp.store("c.hl7", b"data").is_ok());
    let shown = |sftp: &mut Sftp, name: &str| {
        let told = sftp.ask(STAT, &[&string(name.as_bytes())]);
        // Flags, size, mode, and the two times.
        assert_eq!(told.body[..4], [0, 0, 0, 0x0d], "{told:?}");
        told.body[told.body.len() - 4..].to_vec()
    };
    assert_eq!([shown(&mut sftp, "a.hl7"), shown(&mut sftp, "b.hl7")], [GIVEN, GIVEN]);
    assert_ne!(shown(&mut sftp, "c.hl7"), GIVEN);
    let directory = sftp.ask(11, &[&string(b"/")]).body;
    let listed = sftp.ask(12, &[&directory]).body;
    assert_eq!(listed.windows(4).filter(|bytes| *bytes == GIVEN).count(), 4, "both times of two files");
    assert_eq!(sftp.ask(SETSTAT, &[&string(b"nothing.hl7"), &times]).code(), 2);
    assert_eq!(sftp.ask(SETSTAT, &[&string(b"../a.hl7"), &times]).code(), FAILURE);

    site.machine.stop();
    site.machine.start();
    let mut sftp = login(&site);
    assert_eq!([shown(&mut sftp, "a.hl7"), shown(&mut sftp, "b.hl7")], [GIVEN, GIVEN]);
}
