//! After the reply to a file in the clear: it is processed when its sender was seen to go on, and taken back when it was
//! gone before it could read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    io::Write,
    thread,
    time::{Duration, Instant},
};

use forebay::partners::{Complete, Policy};
use forebay_queue::{ClaimRequest, Entry, Order, RouteRequest, State};
use harness::{Door, Ftp, House, Plan, wait_until};

fn house() -> House {
    House::new(Plan::default())
}

/// What a claim gives now, each file once.
fn claimed(house: &House) -> Vec<Entry> {
    let routes = vec![RouteRequest { name: "all".into(), slots: 100, order: Order::None, per_partner: 0 }];
    let request = ClaimRequest { routes, limit: 100, lease_ms: 60_000, ..ClaimRequest::default() };
    let claims = house.block_on(house.queue.claim(request, chrono::Utc::now())).unwrap();
    claims.into_iter().map(|claim| claim.entry).collect()
}

fn names(house: &House) -> Vec<String> {
    claimed(house).into_iter().map(|entry| entry.name).collect()
}

/// Goes on until this file, and it alone, is claimable: a command that comes within the connection's shortest round trip is
/// no sign.
fn goes_on_until_claimable(house: &House, ftp: &mut Ftp, name: &str) {
    wait_until("it is claimable", || {
        ftp.command("PWD");
        names(house) == [name]
    });
}

/// Sends a file and does not read the reply to it.
fn send_and_read_nothing(ftp: &mut Ftp, name: &str, bytes: &[u8]) {
    let mut data = ftp.passive();
    ftp.send(format!("STOR {name}").as_bytes());
    assert_eq!(ftp.reply().code, 150);
    data.write_all(bytes).unwrap();
    drop(data);
}

fn reset(ftp: Ftp) {
    socket2::SockRef::from(ftp.tcp()).set_linger(Some(Duration::ZERO)).unwrap();
    drop(ftp);
}

#[test]
fn a_command_behind_the_reply_confirms_and_what_comes_between_uploads_does_not() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    let began = Instant::now();
    for between in ["NOOP", "TYPE I", "SIZE a.hl7", "EPSV"] {
        ftp.command(between);
        assert!(names(&house).is_empty() || began.elapsed() > Duration::from_secs(2), "{between}");
    }
    goes_on_until_claimable(&house, &mut ftp, "a.hl7");
    assert_eq!(ftp.store("b.hl7", b"data").code, 226);
    assert_eq!(ftp.store("c.hl7", b"data").code, 226);
    assert_eq!(names(&house), ["b.hl7"], "the next upload confirms the one before");
    assert_eq!(ftp.command("QUIT").code, 221);
    wait_until("QUIT confirms", || names(&house) == ["c.hl7"]);
    assert_eq!(house.entries().iter().filter(|entry| entry.state == State::Held).count(), 0);
}

#[test]
fn a_client_that_stays_is_believed_after_a_while() {
    let house = house();
    let mut ftp = house.session();
    let began = Instant::now();
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    wait_until("it is claimable", || names(&house) == ["a.hl7"]);
    assert!(began.elapsed() >= Duration::from_millis(1_900), "{:?}", began.elapsed());
}

#[test]
fn a_client_that_closes_in_order_has_read_the_reply() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    drop(ftp);
    wait_until("it is confirmed", || names(&house) == ["a.hl7"]);
}

#[test]
fn commands_that_were_sent_ahead_say_nothing() {
    let house = house();
    let mut ftp = house.session();
    let mut data = ftp.passive();
    ftp.send(b"STOR a.hl7");
    assert_eq!(ftp.reply().code, 150);
    // Sent while the file is still coming, by one who may be dead when the reply goes out.
    ftp.send(b"PWD\r\nPWD");
    thread::sleep(Duration::from_millis(50));
    data.write_all(b"data").unwrap();
    drop(data);
    assert_eq!((ftp.reply().code, ftp.reply().code, ftp.reply().code), (226, 257, 257));
    assert!(names(&house).is_empty());
    goes_on_until_claimable(&house, &mut ftp, "a.hl7");
}

#[test]
fn a_reset_before_the_reply_was_read_takes_the_file_back() {
    let house = house();
    let mut before = house.session();
    assert_eq!(before.store("a.hl7", b"first").code, 226);
    before.command("PWD");
    for round in 0..20 {
        let mut ftp = house.session();
        send_and_read_nothing(&mut ftp, "a.hl7", b"half of a fi");
        reset(ftp);
        wait_until("the session ends", || house.partners.sessions().len() == 1);
        house.block_on(house.ingest.idle());
        // Whichever side was faster: nothing of it is ever processed as it is.
        wait_until("it is decided", || {
            let states = house.states("a.hl7");
            states[1..].iter().all(|state| matches!(state, State::Withdrawn | State::Held))
        });
        let shown = before.fetch("RETR a.hl7").unwrap();
        let is_held = house.states("a.hl7").contains(&State::Held);
        assert!(shown == b"first" || is_held, "round {round}: it has its name back: {shown:?}");
    }
    let withdrawn = house.states("a.hl7").iter().filter(|state| **state == State::Withdrawn).count();
    println!("{withdrawn} were withdrawn");
    thread::sleep(Duration::from_millis(2_100));
    assert_eq!(claimed(&house).len(), 1, "the first alone");
    assert_eq!(claimed(&house).len(), 0);
}

/// Who closes before the reply comes cannot have read it; a file is taken back when that falls between the last look at
/// the connection and the reply.
#[test]
fn what_was_taken_back_can_be_gone_on_with() {
    let house = house();
    let (mut round, mut name) = (0, String::new());
    wait_until("one is withdrawn", || {
        name = format!("{round}.hl7");
        let mut ftp = house.session();
        send_and_read_nothing(&mut ftp, &name, b"0123456789");
        thread::sleep(Duration::from_micros(round % 40 * 50));
        drop(ftp);
        round += 1;
        house.wait_alone();
        wait_until("it is decided", || !house.states(&name).contains(&State::Ready));
        house.states(&name) == [State::Withdrawn]
    });
    let mut ftp = house.session();
    assert_eq!(ftp.command(&format!("SIZE {name}")).text.trim(), "213 10");
    assert_eq!(ftp.command("REST 10").code, 350);
    assert_eq!(ftp.store(&name, b"abcdef").code, 226);
    let whole = house.entries().into_iter().rfind(|entry| entry.name == name && entry.size_bytes == 16).unwrap();
    assert_eq!(house.bytes(&whole), b"0123456789abcdef");
}

#[test]
fn a_rename_or_a_continuation_meets_a_file_that_has_not_begun() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("lab.hl7.writing", b"data").code, 226);
    assert_eq!(ftp.command("RNFR lab.hl7.writing").code, 350);
    assert_eq!(ftp.command("RNTO lab.hl7").code, 250);
    goes_on_until_claimable(&house, &mut ftp, "lab.hl7");
    // fsspec and others write a file in pieces.
    assert_eq!(ftp.store("big.bin", b"one ").code, 226);
    for (at, piece) in [(4, "two "), (8, "three")] {
        assert_eq!(ftp.command(&format!("REST {at}")).code, 350);
        assert_eq!(ftp.store("big.bin", piece.as_bytes()).code, 226);
    }
    assert_eq!(ftp.upload("APPE", "big.bin", b" four").code, 226);
    let mut entries = Vec::new();
    wait_until("it is claimable", || {
        ftp.command("PWD");
        entries = claimed(&house);
        !entries.is_empty()
    });
    assert_eq!(entries.len(), 1);
    assert_eq!(house.bytes(&entries[0]), b"one two three four");
    assert_eq!(house.states("big.bin").iter().filter(|state| **state == State::Superseded).count(), 3);
}

#[test]
fn other_policies_and_end_marks_need_no_sign() {
    for (complete, door) in [(Complete::Eof, Door::Ftp), (Complete::Confirmed, Door::Ftps)] {
        let house = House::new(Plan { policy: Policy { complete, ..Policy::default() }, ..Plan::default() });
        let mut client = house.enter(door);
        client.put("a.hl7", b"data").unwrap();
        if door == Door::Ftp {
            assert_eq!(names(&house), ["a.hl7"], "{complete:?}");
        } else {
            // Its TLS ends with close_notify or not, as the client's library has it.
            wait_until("it is claimable", || names(&house) == ["a.hl7"]);
        }
    }
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.command("ALLO 4").code, 200);
    assert_eq!(ftp.store("b.hl7", b"data").code, 226);
    assert_eq!(names(&house), ["b.hl7"], "all that was announced came");
}
