//! Sessions as operators see them, and their end when an operator wants it.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test says so by failing")]

mod harness;

use std::io::Write;

use harness::{
    Ftp, House, PARTNER, Plan,
    binary::{Machine, json_lines},
    wait_until,
};

fn ids(house: &House) -> Vec<uuid::Uuid> {
    house.partners.sessions().iter().map(|session| session.id).collect()
}

#[test]
fn a_session_that_is_kicked_hears_why_and_ends_and_others_go_on() {
    let house = House::new(Plan::default());
    let mut one = house.session();
    let first = ids(&house)[0];
    let mut other = house.session();
    assert!(house.partners.kick(first).is_some());
    let last = one.reply();
    assert_eq!((last.code, last.text.contains("operator")), (421, true), "{}", last.text);
    assert!(one.try_reply().is_err(), "the connection is closed");
    assert_eq!(other.store("a.hl7", b"data").code, 226);
    wait_until("its place is given back", || ids(&house).len() == 1);
    assert!(house.partners.kick(first).is_none());
}

#[test]
fn an_upload_of_a_session_that_is_kicked_is_cut_and_can_be_resumed() {
    let house = House::new(Plan::default());
    let bytes: Vec<u8> = (0..900_000_u32).map(|n| (n % 251) as u8).collect();
    let mut ftp = house.session();
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    data.write_all(&bytes[..600_000]).unwrap();
    wait_until("some came", || house.partners.sessions()[0].bytes >= 500_000);
    assert!(house.partners.kick(ids(&house)[0]).is_some());
    assert_eq!(ftp.reply().code, 426);
    assert_eq!(ftp.reply().code, 421);
    assert!(ftp.try_reply().is_err());
    drop(data);
    wait_until("the session ends", || ids(&house).is_empty());
    house.block_on(house.ingest.idle());
    assert!(house.entries().is_empty());
    let kept = house.block_on(house.storage.partial(PARTNER, "a.hl7")).unwrap().expect("a partial").size_bytes;
    assert!((1..=600_000).contains(&kept), "{kept}");
    let mut ftp = house.session();
    assert_eq!(ftp.command(&format!("REST {kept}")).code, 350);
    assert_eq!(ftp.store("a.hl7", &bytes[usize::try_from(kept).unwrap()..]).code, 226);
    assert_eq!(house.bytes(&house.entries()[0]), bytes);
}

#[test]
fn a_download_of_a_session_that_is_kicked_is_cut() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", &vec![7; 20 << 20]).code, 226);
    let _data = ftp.passive();
    assert_eq!(ftp.command("RETR a.hl7").code, 150);
    assert!(house.partners.kick(ids(&house)[0]).is_some());
    assert_eq!(ftp.reply().code, 426);
    assert_eq!(ftp.reply().code, 421);
}

#[test]
fn operators_see_sessions_and_end_those_they_mean() {
    let mut machine = Machine::new("");
    machine.start();
    assert_eq!(machine.ok(&["sessions"]), "no sessions\n");
    for name in ["Clinic", "Lab"] {
        machine.add_partner(name, "secret");
    }
    let login = |name: &str| {
        let mut ftp = Ftp::connect(machine.ftp);
        ftp.login(name, "secret");
        ftp
    };
    let (mut first, mut second, mut third) = (login("Clinic"), login("Clinic"), login("Lab"));
    let mut data = third.passive();
    assert_eq!(third.command("STOR a.hl7").code, 150);
    data.write_all(&[7; 200_000]).unwrap();
    let listed = json_lines(&machine.ok(&["sessions", "--json"]));
    let partners: Vec<_> = listed.iter().map(|session| session["partner"].as_str().unwrap()).collect();
    assert_eq!(partners, ["Clinic", "Clinic", "Lab"]);
    assert_eq!(listed[2]["doing"], "STOR /a.hl7");
    for session in &listed {
        assert_eq!(session["door"], "ftp");
        assert!(session["peer"].as_str().unwrap().starts_with("127.0.0.1:") && session["since"].is_string());
        assert!(session["idle_seconds"].is_u64() && session["bytes_per_second"].is_u64());
    }
    let text = machine.ok(&["sessions"]);
    let id = listed[0]["id"].as_str().unwrap();
    assert!(text.contains(&id[..8]) && text.contains("STOR /a.hl7"), "{text}");

    for (arguments, code) in [
        (vec!["sessions", "kick", "--all"], 2),
        (vec!["sessions", "kick", "--reason", "x"], 2),
        (vec!["sessions", "kick", "--all", "--reason", " "], 2),
        (vec!["sessions", "kick", id, "--all", "--reason", "x"], 2),
        (vec!["sessions", "kick", "no-such", "--reason", "x"], 3),
        (vec!["sessions", "kick", "", "--reason", "x"], 3),
    ] {
        assert_eq!(machine.cli(&arguments).status.code(), Some(code), "{arguments:?}");
    }
    assert_eq!(json_lines(&machine.ok(&["sessions", "--json"])).len(), 3, "none of those ended any");

    machine.ok(&["sessions", "kick", &id[..8], "--reason", "stuck client"]);
    assert_eq!(first.reply().code, 421);
    assert_eq!(second.command("NOOP").code, 200);
    machine.ok(&["sessions", "kick", "--partner", "clinic", "--reason", "moving house"]);
    assert_eq!(second.reply().code, 421);
    let kicked = json_lines(&machine.ok(&["sessions", "kick", "--all", "--reason", "end of test", "--json"]));
    assert_eq!(kicked.len(), 1);
    assert_eq!(kicked[0]["session"]["partner"], "Lab");
    assert_eq!((third.reply().code, third.reply().code), (426, 421));

    let audit = machine.ok(&["audit"]);
    for reason in ["stuck client", "moving house", "end of test"] {
        assert!(audit.contains(reason), "{reason} is not in:\n{audit}");
    }
    assert!(audit.contains("in STOR /a.hl7") && audit.contains("operator"), "{audit}");
    machine.stop();
    assert_eq!(machine.cli(&["sessions"]).status.code(), Some(4));
}

/// A terabyte of nothing in an outbox, whose digest takes minutes.
#[test]
fn what_takes_long_ends_with_its_session() {
    let house = House::new(Plan { outbox: true, ..Plan::default() });
    let mut ftp = house.session();
    let own = ids(&house)[0];
    std::fs::File::create(house.outbox().join("huge.hl7")).unwrap().set_len(1 << 40).unwrap();
    for command in ["HASH out/huge.hl7", "XMD5 out/huge.hl7"] {
        for kicked in [true, false] {
            let mut other = house.session();
            let _data = other.passive();
            other.send(command.as_bytes());
            let is_other = |one: &&forebay::partners::SessionStatus| one.id != own;
            let sessions = || house.partners.sessions();
            wait_until("it is under way", || sessions().iter().find(is_other).is_some_and(|one| !one.doing.is_empty()));
            if kicked {
                let session = sessions().iter().find(is_other).unwrap().id;
                assert!(house.partners.kick(session).is_some());
                assert_eq!(other.reply().code, 451, "{command}");
                assert_eq!(other.reply().code, 421, "{command}");
            }
            drop(other);
            wait_until("it has ended", || house.partners.sessions().len() == 1);
        }
    }
    assert_eq!(ftp.store("b.hl7", b"data").code, 226);
}
