//! A partner's bandwidth holds over all its sessions, and what waits for it can be ended at any time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says so by failing, and bounds its waits by the machine's clock"
)]

mod harness;

use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::Arc,
    time::{Duration, Instant},
};

use forebay::{
    clock::{Clock, SetClock},
    partners::{Policies, Policy},
};
use harness::{Ftp, House, PARTNER, Plan, wait_until};

const RATE: u64 = 100_000;

/// A house whose time stands still until it is advanced.
fn house(bytes_per_second: Option<u64>) -> (House, SetClock) {
    let clock = SetClock::new(chrono::DateTime::from_timestamp(1_790_000_000, 0).unwrap());
    let policy = Policy { bytes_per_second, ..Policy::default() };
    (House::new(Plan { policy, clock: Arc::new(clock.clone()), ..Plan::default() }), clock)
}

/// An upload of which everything is sent.
fn sent(ftp: &mut Ftp, name: &str, bytes: usize) {
    let mut data: TcpStream = ftp.passive();
    assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
    data.write_all(&vec![7; bytes]).unwrap();
}

/// The transfer goes on, however often one looks.
fn goes_on(ftp: &mut Ftp) {
    for _ in 0..50 {
        assert_eq!(ftp.command("NOOP").code, 200, "the transfer is over although no time has passed");
        std::thread::sleep(Duration::from_millis(2));
    }
}

#[test]
fn all_sessions_of_a_partner_share_what_time_pays_for() {
    let (house, clock) = house(Some(RATE));
    let (mut one, mut other) = (house.session(), house.session());
    sent(&mut one, "a.hl7", 150_000);
    sent(&mut other, "b.hl7", 150_000);
    goes_on(&mut one);
    goes_on(&mut other);
    let moved = || house.partners.sessions().iter().map(|session| session.bytes).sum::<u64>();
    let began = Instant::now();
    while house.entries().len() < 2 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} bytes", moved());
        clock.advance(Duration::from_millis(100));
        std::thread::sleep(Duration::from_millis(20));
        // Bytes are counted when they are paid for, and time had paid nothing when the first came.
        let paid = u64::try_from(clock.elapsed().as_millis()).unwrap() * RATE / 1_000;
        assert!(moved() <= paid, "{} bytes, and {paid} are paid for", moved());
    }
    assert_eq!((one.reply().code, other.reply().code), (226, 226));
    assert!(clock.elapsed() >= Duration::from_secs(3));
}

#[test]
fn downloads_count_too() {
    let (house, clock) = house(None);
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", &[7; 300_000]).code, 226);
    house.partners.set_policies(Policies::new(Policy { bytes_per_second: Some(RATE), ..Policy::default() }, &[]));
    let mut data = ftp.passive();
    assert_eq!(ftp.command("RETR a.hl7").code, 150);
    goes_on(&mut ftp);
    assert!(house.partners.sessions()[0].bytes < 600_000, "the last piece waits");
    let reading = std::thread::spawn(move || {
        let mut got = Vec::new();
        data.read_to_end(&mut got).map(|_| got.len())
    });
    while !reading.is_finished() {
        clock.advance(Duration::from_millis(200));
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(reading.join().unwrap().unwrap(), 300_000);
    assert_eq!(ftp.reply().code, 226);
}

#[test]
fn a_limit_that_is_lifted_frees_those_who_wait() {
    let (house, _) = house(Some(2_000));
    let mut ftp = house.session();
    sent(&mut ftp, "a.hl7", 150_000);
    goes_on(&mut ftp);
    house.partners.set_policies(Policies::new(Policy::default(), &[]));
    assert_eq!(ftp.reply().code, 226);
}

#[test]
fn who_waits_can_abort_and_be_ended_and_what_came_is_kept() {
    let (house, _) = house(Some(2_000));
    for kicked in [false, true] {
        let mut ftp = house.session();
        let mut data = ftp.passive();
        assert_eq!(ftp.command("STOR a.hl7").code, 150);
        data.write_all(&[7; 100_000]).unwrap();
        goes_on(&mut ftp);
        if kicked {
            assert!(house.partners.kick(house.partners.sessions()[0].id).is_some());
            assert_eq!((ftp.reply().code, ftp.reply().code), (426, 421));
        } else {
            assert_eq!((ftp.command("ABOR").code, ftp.reply().code), (426, 226));
        }
        drop((ftp, data));
        wait_until("the session ends", || house.partners.sessions().is_empty());
        house.block_on(house.ingest.idle());
        assert!(house.entries().is_empty());
        assert!(
            house.block_on(house.storage.partial(PARTNER, "a.hl7")).unwrap().is_some_and(|kept| kept.size_bytes > 0)
        );
    }
}
