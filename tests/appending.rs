//! Clients that send one file in several transfers, each in a way of its own: by `APPE`, by appending over SFTP, by opening
//! again at the end. One file is processed, and each byte is kept once.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::fs;

use harness::{
    files_below,
    sftp_client::{CLOSE, HANDLE, OPEN, Sftp, WRITE, string},
    site::{Mode, PASSWORD, Site, USER, text},
};

/// Flags of OPEN.
const WRITING: u32 = 0x02;
const APPENDING: u32 = 0x04;
const CREATING: u32 = 0x08;

const PIECES: usize = 5;

/// Nothing is processed until all was sent. For curl, whose library knows no encrypt-then-MAC before 1.11.
fn closed() -> Site {
    let site = Site::with("", "", "macs = [\"hmac-sha2-512-etm@openssh.com\", \"hmac-sha2-256\"]");
    site.machine.ok(&["gate", "close", "--for", "1h", "--reason", "test"]);
    site
}

/// Lets everything be processed: of each name there is one file, the whole, and its bytes were kept once.
fn is_one_file_each(site: &Site, names: &[&str], bytes: &[u8]) {
    let queue = site.machine.queue();
    for name in names {
        let of_name = queue.iter().filter(|entry| entry["name"] == *name);
        let states: Vec<_> = of_name.map(|entry| entry["state"].as_str().unwrap()).collect();
        assert_eq!(states.len(), PIECES, "{name}: {states:?}");
        assert_eq!(states.iter().filter(|state| **state == "superseded").count(), PIECES - 1, "{name}: {states:?}");
    }
    let spooled: u64 =
        files_below(&site.machine.data().join("spool")).iter().map(|path| path.metadata().unwrap().len()).sum();
    assert_eq!(spooled, (names.len() * bytes.len()) as u64, "each byte once");
    site.machine.ok(&["gate", "open", "--reason", "test"]);
    site.machine.wait_until_none_is(&["ready", "active", "retrying"], "all are processed");
    let delivered = files_below(&site.machine.path().join("delivered"));
    assert_eq!(delivered.len(), names.len(), "{delivered:?}");
    assert!(delivered.iter().all(|path| fs::read(path).unwrap() == bytes));
}

/// What curl sends with `--append`, over FTP and over SFTP.
#[test]
fn curl_that_appends() {
    let site = closed();
    let (_, bytes) = site.source("whole.bin", 1_000_000);
    let (login, certificate) = (format!("{USER}:{PASSWORD}"), site.certificate());
    for (number, piece) in bytes.chunks(bytes.len() / PIECES).enumerate() {
        let part = site.path(&format!("part-{number}"));
        fs::write(&part, piece).unwrap();
        let ftp = ["--ssl-reqd", "--cacert", text(&certificate)];
        let urls = [
            (format!("{}/by-ftp.bin", site.url(Mode::Explicit)), &ftp[..]),
            (format!("{}/in-the-clear.bin", site.url(Mode::Plain)), &[]),
            (format!("sftp://{}/by-sftp.bin", site.machine.sftp), &["--insecure"]),
        ];
        for (url, more) in &urls {
            let common = ["--silent", "--show-error", "--user", &login, "--append", "--upload-file", text(&part), url];
            site.run("curl", &[&common[..], more].concat());
        }
    }
    is_one_file_each(&site, &["by-ftp.bin", "in-the-clear.bin", "by-sftp.bin"], &bytes);
}

/// SFTP clients that open the file anew for each piece: to append, with places that count from the file's beginning
/// (SSH.NET, paramiko) or from the piece's (libssh2 below PHP), and without appending, at the end of what is there (JSch).
#[test]
fn files_that_are_opened_again_for_each_piece() {
    let site = closed();
    let (_, bytes) = site.source("whole.bin", 1_000_000);
    let mut sftp = Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap();
    let ways = [
        ("append.bin", WRITING | APPENDING | CREATING, true),
        ("append-from-0.bin", WRITING | APPENDING | CREATING, false),
        ("resume.bin", WRITING | CREATING, true),
    ];
    let step = bytes.len() / PIECES;
    for (number, piece) in bytes.chunks(step).enumerate() {
        for (name, flags, counts_from_the_beginning) in ways {
            let opened = sftp.ask(OPEN, &[&string(name.as_bytes()), &flags.to_be_bytes(), &[0; 4]]);
            assert_eq!(opened.kind, HANDLE, "{name}: {}", opened.text());
            let first = if counts_from_the_beginning { number * step } else { 0 };
            for (at, data) in piece.chunks(32 << 10).enumerate() {
                let place = (first + at * (32 << 10)) as u64;
                let written = sftp.ask(WRITE, &[&opened.body, &place.to_be_bytes(), &string(data)]);
                assert!(written.is_ok(), "{name} {number}: {}", written.text());
            }
            let told = sftp.ask(CLOSE, &[&opened.body]);
            assert!(told.is_ok() && !told.text().contains("a new file"), "{name} {number}: {}", told.text());
        }
    }
    drop(sftp);
    is_one_file_each(&site, &ways.map(|(name, ..)| name), &bytes);
}
