//! Limits that SFTP clients run into who are slow on purpose.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says so by failing, and bounds its waits by the machine's clock"
)]

mod harness;

use std::time::{Duration, Instant};

use harness::{
    sftp_client::{DATA, READ, STATUS, Sftp, TO_GO_ON, TO_READ, TO_WRITE, string},
    site::{PASSWORD, Site, USER},
    wait_until,
};

const OPENDIR: u8 = 11;
const READDIR: u8 = 12;
const MKDIR: u8 = 14;
const REALPATH: u8 = 16;
const NAME: u8 = 104;
const BOUND: Duration = Duration::from_secs(20);

/// A transfer may stand still for a minute, and take half a second.
fn hasty() -> (Site, Sftp) {
    let site = Site::with("", "", "longest_per_gib = \"500ms\"");
    let sftp = login(&site);
    (site, sftp)
}

/// A transfer may stand still for a moment.
fn impatient() -> (Site, Sftp) {
    let site = Site::limited("", "stalled = \"300ms\"");
    let sftp = login(&site);
    (site, sftp)
}

fn login(site: &Site) -> Sftp {
    Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap()
}

#[test]
fn an_upload_that_drips_is_cut_when_its_time_is_up() {
    let (site, mut sftp) = hasty();
    let handle = sftp.open("a.hl7", TO_WRITE).unwrap();
    let (began, mut offset) = (Instant::now(), 0);
    let refused = loop {
        assert!(began.elapsed() < BOUND, "a byte now and then keeps it for ever");
        let answer = sftp.write(&handle, offset, b"x");
        if !answer.is_ok() {
            break answer;
        }
        offset += 1;
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(refused.text().contains("too long"), "{}", refused.text());
    assert!(began.elapsed() >= Duration::from_millis(500) && offset > 3);
    assert!(!sftp.close(&handle).is_ok(), "it is no whole file");
    assert!(site.queue().is_empty());
    assert_eq!(site.partials().len(), 1, "what came is kept");
    assert!(sftp.store("b.hl7", b"data").is_ok(), "the session goes on");
}

#[test]
fn a_download_that_is_sipped_is_cut_when_its_time_is_up() {
    let (_site, mut sftp) = hasty();
    assert!(sftp.store("a.hl7", &[7; 100_000]).is_ok());
    let handle = sftp.open("a.hl7", TO_READ).unwrap();
    let (began, mut offset) = (Instant::now(), 0);
    let refused = loop {
        assert!(began.elapsed() < BOUND, "a byte now and then keeps it for ever");
        let answer = sftp.read(&handle, offset, 1);
        if answer.kind == STATUS {
            break answer;
        }
        offset += 1;
        std::thread::sleep(Duration::from_millis(10));
    };
    assert!(refused.text().contains("too long"), "{}", refused.text());
    assert!(sftp.close(&handle).is_ok());
    let handle = sftp.open("a.hl7", TO_READ).unwrap();
    assert_eq!(sftp.read(&handle, 0, 10).kind, DATA, "the session goes on");
}

#[test]
fn an_upload_that_stands_still_is_cut_and_can_be_gone_on_with() {
    let (site, mut sftp) = impatient();
    let bytes: Vec<u8> = (0..100_000_u32).map(|n| (n / 7) as u8).collect();
    let handle = sftp.open("a.hl7", TO_WRITE).unwrap();
    assert!(sftp.write(&handle, 0, &bytes[..30_000]).is_ok());
    wait_until("what came is kept", || !site.partials().is_empty());
    let answer = sftp.write(&handle, 30_000, &bytes[30_000..60_000]);
    assert!(answer.text().contains("no data came for too long"), "{}", answer.text());
    assert!(!sftp.close(&handle).is_ok());
    assert!(site.queue().is_empty());
    let handle = sftp.open("a.hl7", TO_GO_ON).unwrap();
    assert!(sftp.write(&handle, 30_000, &bytes[30_000..]).is_ok());
    assert!(sftp.close(&handle).is_ok());
    site.assert_kept("a.hl7", &bytes);
}

#[test]
fn a_client_that_takes_no_answers_loses_its_channel() {
    let (site, mut sftp) = impatient();
    assert!(sftp.store("a.hl7", &vec![7; 3 << 20]).is_ok());
    let handle = sftp.open("a.hl7", TO_READ).unwrap();
    let length = (200_u32 << 10).to_be_bytes();
    for _ in 0..300 {
        sftp.request(READ, &[&handle, &0_u64.to_be_bytes(), &length]).unwrap();
    }
    wait_until("the channel ends", || site.machine.log().contains("answers were not taken for too long"));
    assert!(login(&site).store("b.hl7", b"data").is_ok());
}

/// Nothing is done for anybody any more: what the server holds does not grow.
fn at_rest(site: &Site) {
    let (mut held, mut looks, began) = (0, 0, Instant::now());
    while looks < 10 {
        assert!(began.elapsed() < Duration::from_secs(60), "it never comes to rest");
        std::thread::sleep(Duration::from_millis(50));
        let now = site.memory_kib("VmRSS");
        looks = if now == held { looks + 1 } else { 0 };
        held = now;
    }
}

#[test]
fn names_that_nobody_takes_wait_in_their_directory() {
    const DIRECTORIES: usize = 32;
    const ASKED: usize = 16;
    const NAMES: usize = 128;
    let site = Site::open("");
    let mut sftp = login(&site);
    let no_attributes = [0; 4];
    assert!(sftp.ask(MKDIR, &[&string(b"many"), &no_attributes]).is_ok());
    for n in 0..NAMES * ASKED {
        let name = string(format!("many/{n:0>200}").as_bytes());
        assert!(sftp.ask(MKDIR, &[&name, &no_attributes]).is_ok());
    }
    let handles: Vec<_> = (0..DIRECTORIES).map(|_| sftp.ask(OPENDIR, &[&string(b"many")]).body).collect();
    let before = site.memory_kib("VmRSS");
    for _ in 0..ASKED {
        for handle in &handles {
            sftp.request(READDIR, &[handle]).unwrap();
        }
    }
    at_rest(&site);
    let grown = site.memory_kib("VmHWM").saturating_sub(before);
    println!("{grown} KiB more");
    assert!(grown < 30 << 10, "{grown} KiB more");
    // Whoever takes them in the end has all of them.
    for _ in 0..DIRECTORIES * ASKED {
        let answer = sftp.answer().unwrap();
        assert_eq!(answer.kind, NAME, "{}", answer.text());
    }
}

#[test]
fn who_asks_on_and_on_and_takes_no_answers_loses_its_channel() {
    let site = Site::open("");
    let mut sftp = Sftp::login_with_room(site.machine.sftp, USER, PASSWORD, 1 << 10).unwrap();
    let path = string("d/".repeat(2000).as_bytes());
    let before = site.memory_kib("VmRSS");
    let told = || site.machine.log().contains("too many answers wait to be taken");
    let mut going_on = |n: u32| (!n.is_multiple_of(50) || !told()) && sftp.request(REALPATH, &[&path]).is_ok();
    let asked = (0..8000).take_while(|n| going_on(*n)).count();
    let grown = site.memory_kib("VmHWM").saturating_sub(before);
    println!("{asked} were asked, {grown} KiB more");
    wait_until("the channel ends", told);
    assert!(grown < 24 << 10, "{grown} KiB more");
    // What is longer than any path is not given back.
    let answer = login(&site).ask(REALPATH, &[&string(&vec![b'a'; 200 << 10])]);
    assert!(answer.text().contains("longer than"), "{}", answer.text());
}
