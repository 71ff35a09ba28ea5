//! `out/`: receipts and the notice, which are rendered when they are read, and the outbox that other programs fill.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says so by failing, and claims by the clock"
)]

mod harness;

use std::collections::HashMap;

use forebay_queue::{ClaimRequest, Entry, Order, RouteRequest, Settlement, State};
use harness::{Client, Door, House, PARTNER, Plan};
use serde_json::Value;

fn house() -> House {
    House::new(Plan { receipts: true, ..Plan::default() })
}

fn receipt_of(name: &str, entry: &Entry) -> String {
    format!("{name}.{}.receipt.json", entry.id)
}

fn read(client: &mut dyn Client, name: &str) -> Value {
    serde_json::from_slice(&client.fetch(&format!("out/{name}")).unwrap()).expect("JSON")
}

/// Has a processor do with the oldest file as it is told.
fn process(house: &House, state: State) {
    let routes = vec![RouteRequest { name: "all".into(), slots: 1, order: Order::None, per_partner: 0 }];
    let request = ClaimRequest { routes, limit: 1, lease_ms: 60_000, ..ClaimRequest::default() };
    house.block_on(async {
        // A file that waits for its confirmation is claimable a while later.
        let now = chrono::Utc::now() + chrono::TimeDelta::seconds(60);
        let claim = house.queue.claim(request, now).await.unwrap().pop().expect("one is ready");
        let end = Settlement { state, counted: true, due_at: None, reason: None, output: String::new() };
        house.queue.settle(claim.token, claim.entry.id, end, now).await.unwrap();
    });
}

#[test]
fn a_receipt_follows_its_file_and_a_listing_agrees_with_what_is_read() {
    for door in [Door::Ftp, Door::Sftp] {
        let house = house();
        let mut client = house.enter(door);
        house.gate.close(Vec::new(), None, "r".into(), None, "o".into()).unwrap();
        client.put("a.hl7", b"MSH|").unwrap();
        let entry = house.entries().remove(0);
        let name = receipt_of("a.hl7", &entry);
        assert_eq!(client.list("/out"), ["NOTICE.txt".to_owned(), name.clone()]);
        let receipt = read(&mut *client, &name);
        assert_eq!(receipt["id"], entry.id.to_string());
        assert_eq!((&receipt["name"], &receipt["bytes"]), (&"a.hl7".into(), &4.into()));
        assert_eq!(receipt["sha256"], entry.sha256.to_string());
        assert_eq!((&receipt["state"], &receipt["deferred"]), (&"ready".into(), &true.into()));
        assert_eq!(receipt["text"], "deferred until further notice");
        assert!(String::from_utf8(client.fetch("out/NOTICE.txt").unwrap()).unwrap().contains("MAINTENANCE NOW"));
        house.gate.reopen(Vec::new(), "r".into(), "o".into()).unwrap();
        assert_eq!(read(&mut *client, &name)["text"], "accepted, waits for processing");
        let length = client.fetch(&format!("out/{name}")).unwrap().len();
        process(&house, State::Done);
        let done = read(&mut *client, &name);
        assert_eq!((&done["state"], &done["deferred"]), (&"done".into(), &false.into()));
        assert_eq!(client.fetch(&format!("out/{name}")).unwrap().len(), length, "its length never changes");
        assert_eq!(client.list("/out"), [name], "the notice goes when the closure is over");
    }
}

#[test]
fn a_receipt_that_was_deleted_comes_back_when_there_is_news() {
    for door in [Door::Ftp, Door::Sftp] {
        let house = house();
        let mut client = house.enter(door);
        client.put("a.hl7", b"MSH|").unwrap();
        client.put("b.tmp", b"no receipt yet").unwrap();
        let name = receipt_of("a.hl7", &house.entries()[0]);
        assert_eq!(client.list("/out"), std::slice::from_ref(&name));
        client.delete(&format!("out/{name}")).unwrap();
        assert!(client.list("/out").is_empty());
        assert!(client.fetch(&format!("out/{name}")).is_err());
        process(&house, State::Quarantined);
        assert_eq!(read(&mut *client, &name)["state"], "quarantined");
        house.gate.close(Vec::new(), None, "r".into(), None, "o".into()).unwrap();
        client.delete("out/NOTICE.txt").unwrap();
        assert_eq!(client.list("/out"), [name], "a notice that was deleted is gone until it says something else");
    }
}

#[test]
fn nobody_reads_the_receipts_of_another() {
    let house = house();
    house.partners.add(&"other".parse().unwrap(), "another password", "").unwrap();
    let mut client = house.enter(Door::Ftp);
    client.put("a.hl7", b"MSH|").unwrap();
    let name = receipt_of("a.hl7", &house.entries()[0]);
    let mut other = Door::Ftp.try_enter(house.addresses(), "other", "another password").unwrap();
    assert!(other.list("/out").is_empty() && other.fetch(&format!("out/{name}")).is_err());
    assert!(other.delete(&format!("out/{name}")).is_err());
    assert_eq!(client.list("/out"), [name]);
}

#[test]
fn what_other_programs_put_into_the_outbox_is_read_and_by_policy_deleted() {
    for may_delete in [true, false] {
        let mut plan = Plan { receipts: true, ..Plan::default() };
        let outbox = tempfile::tempdir().unwrap();
        let text = format!("name = {PARTNER:?}\noutbox = {:?}\noutbox_delete = {may_delete}", outbox.path());
        plan.overrides = vec![toml::from_str(&text).unwrap()];
        let house = House::new(plan);
        std::fs::write(outbox.path().join("report.pdf"), b"a report").unwrap();
        std::fs::create_dir(outbox.path().join("2026")).unwrap();
        std::fs::write(outbox.path().join("2026/old.pdf"), b"an old one").unwrap();
        std::os::unix::fs::symlink("/etc/hostname", outbox.path().join("link")).unwrap();
        for door in [Door::Ftp, Door::Sftp] {
            let mut client = house.enter(door);
            let sizes: HashMap<_, _> = HashMap::from([("out/report.pdf", 8), ("out/2026/old.pdf", 10)]);
            assert_eq!(client.list("/out"), ["2026", "report.pdf"], "no link");
            assert_eq!(client.list("/out/2026"), ["old.pdf"]);
            for (path, size) in sizes {
                assert_eq!(client.fetch(path).unwrap().len(), size);
            }
            assert!(client.fetch("out/link").is_err() && client.put("out/new", b"x").is_err());
            assert_eq!(client.delete("out/2026/old.pdf").is_ok(), may_delete);
            std::fs::write(outbox.path().join("2026/old.pdf"), b"an old one").unwrap();
        }
    }
}

/// A tool that makes one folder like another would remove `out/`, or what is in it.
#[test]
fn out_is_there_and_by_policy_in_the_listing_of_the_login_directory() {
    for (list_out, names) in [(false, &["a.hl7"][..]), (true, &["a.hl7", "out"])] {
        let mut plan = Plan { receipts: true, ..Plan::default() };
        plan.policy.list_out = list_out;
        let house = House::new(plan);
        for door in [Door::Ftp, Door::Sftp] {
            let mut client = house.enter(door);
            client.put("a.hl7", b"MSH|").unwrap();
            assert_eq!(client.list("/"), names);
            assert!(client.list("/out").iter().any(|name| name.ends_with(".receipt.json")));
        }
        let mut ftp = house.session();
        assert_eq!([ftp.command("CWD out").code, ftp.command("MLST /out").code], [250, 250]);
    }
}

/// Nobody could ask for them, so they are not shown either.
#[test]
fn names_of_other_programs_that_hide_something_are_not_listed() {
    let house = House::new(Plan { outbox: true, ..Plan::default() });
    for name in ["report.pdf", "rep\u{202e}fdp.exe", "re\u{200b}port.pdf", "line\u{2028}.pdf", "bell\u{7}"] {
        std::fs::write(house.outbox().join(name), b"x").unwrap();
    }
    for door in [Door::Ftp, Door::Sftp] {
        assert_eq!(house.enter(door).list("/out"), ["report.pdf"]);
    }
}
