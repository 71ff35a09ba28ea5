//! What FTP has of its own on an upload's way, from the first byte to the queue. What holds at every door is in `doors`.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may expect")]

mod harness;

use std::{io::Write, net::Shutdown, process::Command, time::Duration};

use forebay::doors::ftp::Tls;
use forebay_queue::State;
use harness::{Ftp, House, PARTNER, PASSWORD, Plan, files_below, wait_until};

fn house() -> House {
    House::new(Plan::default())
}

#[test]
fn a_file_in_a_directory_keeps_its_path() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("in/a.hl7", b"x").code, 550, "no such directory");
    assert_eq!(ftp.command("MKD in").code, 257);
    assert_eq!(ftp.command("CWD in").code, 250);
    assert_eq!(ftp.store("a.hl7", b"one").code, 226);
    assert_eq!(ftp.command("CWD ..").code, 250);
    assert_eq!(ftp.store("b.hl7", b"two").code, 226);
    assert_eq!(ftp.store("in", b"x").code, 553, "a directory has that name");
    let names: Vec<_> = house.entries().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["in/a.hl7", "b.hl7"]);
    assert_eq!(ftp.command("RMD /in").code, 550, "not empty");
    assert_eq!(ftp.command("DELE /in/a.hl7").code, 250);
    assert_eq!(ftp.command("RMD /in").code, 250);
}

#[test]
fn bad_names_are_refused_and_the_session_goes_on() {
    let house = house();
    let mut ftp = house.session();
    let long = "x".repeat(256);
    let deep = format!("{}a", "d/".repeat(40));
    for name in ["../up", "a/../../etc/passwd", "..", "tab\tname", "bell\u{7}", &long, &deep] {
        let reply = ftp.store(name, b"data");
        assert_eq!(reply.code, 553, "{name:?}: {}", reply.text);
    }
    // What is no line to the protocol engine ends that session (a known limit); the others are not concerned.
    for raw in [&b"STOR nul\0name"[..], b"STOR cr\rname", b"STOR latin\xe41"] {
        let mut ftp = house.session();
        let data = ftp.passive();
        ftp.send(raw);
        let mut reply = ftp.reply();
        drop(data);
        if reply.code == 150 {
            reply = ftp.reply();
        }
        assert!((500..560).contains(&reply.code), "{raw:?}: {}", reply.text);
    }
    assert_eq!(ftp.command("MKD a\tb").code, 553);
    assert_eq!(ftp.store("good.hl7", b"data").code, 226);
    assert_eq!(house.entries().len(), 1);
    assert_eq!(files_below(&house.path("tmp")), Vec::<std::path::PathBuf>::new());
}

#[test]
fn a_control_connection_that_only_half_closed_is_no_proof() {
    let house = house();
    let mut ftp = house.session();
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    data.write_all(b"data").unwrap();
    ftp.shutdown(Shutdown::Write);
    drop(data);
    wait_until("the session ends", || house.partners.sessions().is_empty());
    house.block_on(house.ingest.idle());
    assert!(house.entries().is_empty());
}

#[test]
fn rest_and_append_never_touch_an_accepted_file() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"first").code, 226);
    assert_eq!(ftp.command("REST 3").code, 350);
    assert_eq!(ftp.store("a.hl7", b"ly").code, 226);
    assert_eq!(ftp.upload("APPE", "a.hl7", b" more").code, 226);
    assert_eq!(ftp.upload("APPE", "new.hl7", b"new").code, 226);
    assert_eq!(ftp.store("b.hl7", b"whole").code, 226, "no position is left over");
    assert_eq!(ftp.command("REST 6").code, 350);
    assert_eq!(ftp.store("b.hl7", b"beyond").code, 554);
    assert_eq!(ftp.store("b.hl7", b"whole again").code, 226, "nor after a refusal");
    let entries = house.entries();
    let all: Vec<_> = entries.iter().map(|entry| house.bytes(entry)).collect();
    assert_eq!(all, [&b"first"[..], b"firly", b"firly more", b"new", b"whole", b"whole again"]);
}

#[test]
fn out_is_for_reading_and_deleting_and_nothing_else() {
    let house = House::new(Plan { receipts: true, ..Plan::default() });
    let mut ftp = house.session();
    assert_eq!(ftp.store("b.hl7", b"x").code, 226);
    assert_eq!(ftp.store("a.tmp", b"x").code, 226);
    let is_receipt = |name: &String| name.starts_with("b.hl7.") && name.ends_with(".receipt.json");
    let receipt = ftp.list("out").into_iter().find(is_receipt).expect("it was accepted");
    for (verb, code) in [
        ("MKD out/x", 550),
        ("RMD out", 550),
        (&format!("SITE CHMOD 777 out/{receipt}"), 500),
        (&format!("MFMT 20260101000000 out/{receipt}"), 500),
    ] {
        let reply = ftp.command(verb);
        assert!(reply.code >= 500, "{verb}: {} instead of {code}", reply.text);
    }
    assert_eq!(ftp.store("out/a.hl7", b"x").code, 550);
    assert_eq!(ftp.upload("APPE", &format!("out/{receipt}"), b"x").code, 550);
    for (from, to) in [(&*format!("out/{receipt}"), "r.json"), ("out", "elsewhere"), ("a.tmp", "out/a")] {
        assert_eq!(ftp.command(&format!("RNFR {from}")).code, 350);
        assert_eq!(ftp.command(&format!("RNTO {to}")).code, 550, "{from} to {to}");
    }
    let text = ftp.fetch(&format!("RETR out/{receipt}")).unwrap();
    let text: serde_json::Value = serde_json::from_slice(&text).unwrap();
    assert_eq!(text["name"], "b.hl7");
    assert_eq!(ftp.command(&format!("DELE out/{receipt}")).code, 250);
    assert_eq!(ftp.list("out"), Vec::<String>::new());
    assert_eq!(house.states("a.tmp"), [State::Unfinished]);
}

#[test]
fn curl_uploads_over_tls() {
    let house = house();
    let file = house.path("given.hl7");
    std::fs::write(&file, vec![b'x'; 2_000_000]).unwrap();
    for (at, version) in [["--tlsv1.2", "--tls-max", "1.2"], ["--tlsv1.3", "--tls-max", "1.3"]].iter().enumerate() {
        let done = Command::new("curl")
            .args(["-sS", "--ssl-reqd", "-k", "--max-time", "20"])
            .args(version)
            .args(["-u", &format!("{PARTNER}:{PASSWORD}"), "-T"])
            .arg(&file)
            .arg(format!("ftp://{}/tls{at}.hl7", house.address))
            .output()
            .unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
    let sizes: Vec<_> = house.entries().iter().map(|entry| (entry.state, entry.size_bytes)).collect();
    assert_eq!(sizes, [(State::Ready, 2_000_000); 2]);
}

#[test]
fn lftp_mirrors_a_directory_over_tls() {
    let house = house();
    let given = house.path("given");
    std::fs::create_dir_all(given.join("sub")).unwrap();
    for n in 0..40 {
        std::fs::write(given.join(format!("{n}.hl7")), format!("file {n}")).unwrap();
    }
    std::fs::write(given.join("sub/deep.hl7"), "deep").unwrap();
    let script = format!(
        "set ssl:verify-certificate no; set ftp:ssl-force yes; set ftp:ssl-protect-data yes; set net:timeout 20; \
         set net:max-retries 2; open -u {PARTNER},'{PASSWORD}' ftp://{}; mirror -R --parallel=4 {} /; bye",
        house.address,
        given.display()
    );
    let done = Command::new("lftp").args(["-c", &script]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    let entries = house.entries();
    assert_eq!(entries.len(), 41);
    assert!(entries.iter().all(|entry| house.bytes(entry).len() as u64 == entry.size_bytes));
}

#[test]
fn with_tls_required_nobody_logs_in_in_the_clear() {
    let mut plan = Plan::default();
    plan.ftp.tls = Some(Tls::Required);
    let house = House::new(plan);
    let mut ftp = Ftp::connect(house.address);
    assert_eq!(ftp.command(&format!("USER {PARTNER}")).code / 100, 5);
    assert!(house.partners.sessions().is_empty());
}

#[test]
fn a_failed_tls_handshake_on_the_data_connection_ends_nothing_but_its_session() {
    let house = house();
    let script = format!(
        "import ftplib, ssl\n\
         context = ssl._create_unverified_context()\n\
         ftp = ftplib.FTP_TLS(context=context)\n\
         ftp.connect('{}', {})\n\
         ftp.login('{PARTNER}', '{PASSWORD}')\n\
         ftp.prot_p()\n\
         import socket\n\
         host, port = ftp.makepasv()\n\
         data = socket.create_connection((host, port))\n\
         ftp.sendcmd('STOR broken.hl7')\n\
         data.sendall(b'this is no TLS' * 100)\n\
         data.close()\n",
        house.address.ip(),
        house.address.port()
    );
    let done = Command::new("python3").args(["-c", &script]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(house.session().store("after.hl7", b"data").code, 226);
    assert_eq!(house.entries().len(), 1);
}

#[test]
fn logins_fail_alike_and_the_connection_does_not_get_many() {
    let house = house();
    let mut ftp = Ftp::connect(house.address);
    let mut texts = std::collections::HashSet::new();
    for name in [PARTNER, "nobody", "../x"] {
        assert_eq!(ftp.command(&format!("USER {name}")).code, 331);
        let reply = ftp.command("PASS wrong");
        assert_eq!(reply.code, 530);
        texts.insert(reply.text);
    }
    assert_eq!(texts.len(), 1, "{texts:?}");
    ftp.send(b"USER nobody");
    let _ = ftp.try_reply();
    ftp.send(b"PASS wrong");
    let closed = (0..3).any(|_| ftp.try_reply().is_err());
    assert!(closed, "the fourth failure closes the connection");
}

#[test]
fn a_stalled_upload_is_cut() {
    let mut plan = Plan::default();
    plan.limits.stalled = Duration::from_millis(200);
    let house = House::new(plan);
    let mut ftp = house.session();
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    data.write_all(&[7; 1000]).unwrap();
    assert_eq!(ftp.reply().code, 426);
    assert!(house.entries().is_empty());
    assert_eq!(ftp.store("b.hl7", b"data").code, 226, "the session goes on");
}

#[test]
fn a_file_whose_sender_never_read_the_reply_is_held() {
    let house = house();
    for (name, reads) in [("read.hl7", true), ("unread.hl7", false)] {
        let mut ftp = house.session();
        let mut data = ftp.passive();
        assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
        data.write_all(b"data").unwrap();
        drop(data);
        if reads {
            assert_eq!(ftp.reply().code, 226);
        } else {
            // A socket that is closed with bytes unread in it resets its connection, as that of a killed client does.
            ftp.wait_for_bytes();
        }
        drop(ftp);
        wait_until("the session ends", || house.partners.sessions().is_empty());
    }
    let states: Vec<_> = house.entries().into_iter().map(|entry| (entry.name, entry.state)).collect();
    assert_eq!(states, [("read.hl7".to_owned(), State::Ready), ("unread.hl7".to_owned(), State::Held)]);
}

#[test]
fn who_comes_back_while_the_upload_before_still_ends_waits_for_it() {
    let house = house();
    let begin = |bytes: &[u8]| {
        let mut ftp = house.session();
        let mut data = ftp.passive();
        assert_eq!(ftp.command("APPE a.hl7").code, 150);
        data.write_all(bytes).unwrap();
        (ftp, data)
    };
    let kept = || house.block_on(house.storage.partial(PARTNER, "a.hl7")).unwrap();
    drop(begin(b"first, "));
    wait_until("the first bytes are kept", || kept().is_some());
    let before = begin(b"second, ");
    // Its connection is broken for the client, and not yet for the server.
    let mut again = house.session();
    let mut data = again.passive();
    again.send(b"APPE a.hl7");
    let asks = || house.partners.sessions().iter().filter(|session| session.doing.starts_with("STOR")).count();
    wait_until("both want the name", || asks() == 2);
    drop(before);
    let reply = again.reply();
    assert_eq!(reply.code, 150, "{}", reply.text);
    data.write_all(b"third").unwrap();
    drop(data);
    assert_eq!(again.reply().code, 226);
    let entry = house.entries().remove(0);
    assert_eq!(house.bytes(&entry), b"first, second, third");
}
