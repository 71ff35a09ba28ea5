//! Uploads over FTP, from the first byte to the queue, with a client that behaves and with many that do not.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may expect")]

mod harness;

use std::{io::Write, net::Shutdown, process::Command, sync::Arc, time::Duration};

use forebay::{
    doors::ftp::Tls,
    partners::{Complete, Delete, Policy},
};
use forebay_queue::State;
use harness::{Ftp, House, PARTNER, PASSWORD, Plan, files_below, wait_until};

fn house() -> House {
    House::new(Plan::default())
}

fn with_policy(policy: Policy) -> House {
    House::new(Plan { policy, ..Plan::default() })
}

#[test]
fn an_upload_is_kept_queued_and_shown_when_226_comes() {
    let house = house();
    let mut ftp = house.session();
    let bytes: Vec<u8> = (0..3_000_000u32).map(|n| (n * 7) as u8).collect();
    assert_eq!(ftp.store("batch.hl7", &bytes).code, 226);
    assert_eq!(ftp.command("SIZE batch.hl7").text.trim(), "213 3000000");
    assert_eq!(ftp.command("MDTM batch.hl7").code, 213);
    assert_eq!(ftp.list("/"), ["batch.hl7", "out"]);
    assert_eq!(ftp.store("empty.hl7", b"").code, 226);
    let entries = house.entries();
    assert_eq!(entries.len(), 2);
    let entry = &entries[0];
    assert_eq!((entry.partner.as_str(), entry.name.as_str(), entry.door.as_str()), (PARTNER, "batch.hl7", "ftp"));
    assert_eq!((entry.state, entry.route.as_deref(), entry.size_bytes), (State::Ready, Some("all"), 3_000_000));
    assert_eq!(house.bytes(entry), bytes);
    assert_eq!(ftp.fetch("RETR batch.hl7").unwrap(), bytes);
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
fn the_same_name_again_is_a_new_file_and_the_view_shows_the_newest() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"first").code, 226);
    assert_eq!(ftp.store("a.hl7", b"the second").code, 226);
    let entries = house.entries();
    assert_eq!(entries.len(), 2);
    assert_eq!(house.bytes(&entries[0]), b"first");
    assert_eq!(house.bytes(&entries[1]), b"the second");
    assert_eq!(ftp.fetch("RETR a.hl7").unwrap(), b"the second");
    assert!(files_below(&house.path("home/.new")).is_empty(), "nothing is left aside");
}

#[test]
fn a_temporary_name_waits_and_its_rename_is_the_acceptance() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7.tmp", b"data").code, 226);
    assert_eq!(house.states("a.hl7.tmp"), [State::Unfinished]);
    assert_eq!(ftp.command("RNFR a.hl7.tmp").code, 350);
    assert_eq!(ftp.command("RNTO a.hl7").code, 250);
    assert_eq!(house.states("a.hl7"), [State::Ready]);
    assert_eq!(ftp.list("/"), ["a.hl7", "out"]);
    // Every component counts, and a directory takes its files along.
    assert_eq!(ftp.command("MKD up.part").code, 257);
    assert_eq!(ftp.store("up.part/b.hl7", b"data").code, 226);
    assert_eq!(house.states("up.part/b.hl7"), [State::Unfinished]);
    assert_eq!(ftp.command("RNFR up.part").code, 350);
    assert_eq!(ftp.command("RNTO up").code, 250);
    assert_eq!(house.states("up/b.hl7"), [State::Ready]);
    // A file that was accepted is renamed in the view alone.
    assert_eq!(ftp.command("RNFR a.hl7").code, 350);
    assert_eq!(ftp.command("RNTO z.hl7").code, 250);
    assert_eq!(house.states("a.hl7"), [State::Ready]);
    assert_eq!(ftp.list("/"), ["out", "up", "z.hl7"]);
}

#[test]
fn with_complete_rename_every_upload_waits_for_its_rename() {
    let house = with_policy(Policy { complete: Complete::Rename, ..Policy::default() });
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    assert_eq!(house.states("a.hl7"), [State::Unfinished]);
    assert_eq!(ftp.command("RNFR a.hl7").code, 350);
    assert_eq!(ftp.command("RNTO b.hl7").code, 250);
    assert_eq!(house.states("b.hl7"), [State::Ready]);
}

#[test]
fn what_no_route_serves_is_held() {
    let mut plan = Plan::default();
    plan.routes[0].paths = vec!["*.hl7".to_owned()];
    let house = House::new(plan);
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.txt", b"data").code, 226);
    let entry = house.entries().remove(0);
    assert_eq!((entry.state, entry.route), (State::Held, None));
    assert_eq!(entry.reason.as_deref(), Some("no route serves this file"));
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
fn uploads_in_parallel_cannot_exceed_the_quota() {
    const SIZE: usize = 600_000;
    let house = Arc::new(with_policy(Policy { quota_bytes: Some(5 * SIZE as u64 + 1000), ..Policy::default() }));
    let uploads: Vec<_> = (0..16)
        .map(|n| {
            let house = house.clone();
            std::thread::spawn(move || house.session().store(&format!("{n}.hl7"), &vec![b'x'; SIZE]).code)
        })
        .collect();
    let codes: Vec<u16> = uploads.into_iter().map(|upload| upload.join().unwrap()).collect();
    let accepted = codes.iter().filter(|&&code| code == 226).count();
    assert!(codes.iter().all(|code| [226, 552].contains(code)), "{codes:?}");
    assert!(accepted <= 5, "{accepted} files are more than the quota");
    assert_eq!(house.entries().len(), accepted);
    // What was refused gave its bytes back: one by one, as many as fit are taken.
    let mut ftp = house.session();
    let later = (0..16).filter(|n| ftp.store(&format!("late{n}.hl7"), &vec![b'x'; SIZE]).code == 226).count();
    assert_eq!(accepted + later, 5);
    assert_eq!(house.block_on(house.queue.unprocessed_bytes(PARTNER)).unwrap(), 5 * SIZE as u64);
    wait_until("nothing is left behind", || files_below(&house.path("tmp")).is_empty());
}

#[test]
fn a_file_that_is_too_large_is_refused_and_leaves_nothing() {
    let house = with_policy(Policy { max_file_bytes: Some(1_000_000), ..Policy::default() });
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", &vec![0; 1_000_001]).code, 552);
    assert_eq!(ftp.store("b.hl7", &vec![0; 1_000_000]).code, 226);
    wait_until("nothing is left behind", || files_below(&house.path("tmp")).is_empty());
    assert!(files_below(&house.path("partials")).is_empty());
    assert_eq!(ftp.list("/"), ["b.hl7", "out"]);
}

#[test]
fn a_short_disk_answers_452_and_leaves_nothing() {
    let house = House::new(Plan { reserve_bytes: 1 << 60, ..Plan::default() });
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"data").code, 452);
    assert!(house.entries().is_empty());
    assert!(files_below(&house.path("tmp")).is_empty());
    assert_eq!(ftp.list("/"), ["out"]);
}

#[test]
fn an_upload_whose_control_connection_closed_is_cut_and_kept_as_a_partial() {
    let house = house();
    let mut ftp = house.session();
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    data.write_all(&vec![7; 500_000]).unwrap();
    drop(ftp);
    drop(data);
    wait_until("the session ends", || house.partners.sessions().is_empty());
    house.block_on(house.ingest.idle());
    assert!(house.entries().is_empty());
    assert!(house.block_on(house.storage.ids()).unwrap().is_empty());
    let partial = house.block_on(house.storage.partial(PARTNER, "a.hl7")).unwrap();
    assert_eq!(partial.map(|partial| partial.size_bytes), Some(500_000));
    assert!(!house.view().join("a.hl7").exists());
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
fn an_interrupted_temporary_file_cannot_be_renamed_to_a_final_name() {
    let house = house();
    let mut ftp = house.session();
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR a.tmp").code, 150);
    data.write_all(&[1; 1000]).unwrap();
    drop(ftp);
    drop(data);
    wait_until("the session ends", || house.partners.sessions().is_empty());
    house.block_on(house.ingest.idle());
    let mut ftp = house.session();
    assert_eq!(ftp.command("RNFR a.tmp").code, 550);
    assert!(house.entries().is_empty());
}

#[test]
fn heavy_killed_clients_commit_nothing() {
    harness::killed::killed_clients_commit_nothing(&house(), "plain");
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
    let house = house();
    let mut ftp = house.session();
    let receipt = house.view().join("out/receipt.json");
    std::fs::write(&receipt, "{}").unwrap();
    assert_eq!(ftp.store("a.tmp", b"x").code, 226);
    for (verb, code) in [
        ("MKD out/x", 550),
        ("RMD out", 550),
        ("SITE CHMOD 777 out/receipt.json", 500),
        ("MFMT 20260101000000 out/receipt.json", 500),
    ] {
        let reply = ftp.command(verb);
        assert!(reply.code >= 500, "{verb}: {} instead of {code}", reply.text);
    }
    assert_eq!(ftp.store("out/a.hl7", b"x").code, 550);
    assert_eq!(ftp.upload("APPE", "out/receipt.json", b"x").code, 550);
    for (from, to) in [("out/receipt.json", "r.json"), ("out", "elsewhere"), ("a.tmp", "out/a")] {
        assert_eq!(ftp.command(&format!("RNFR {from}")).code, 350);
        assert_eq!(ftp.command(&format!("RNTO {to}")).code, 550, "{from} to {to}");
    }
    assert_eq!(ftp.fetch("RETR out/receipt.json").unwrap(), b"{}");
    assert_eq!(ftp.command("DELE out/receipt.json").code, 250);
    assert!(!receipt.exists());
    assert_eq!(house.states("a.tmp"), [State::Unfinished]);
}

#[test]
fn deleting_removes_from_the_view_and_by_policy_cancels() {
    for (delete, state) in [(Delete::ViewOnly, State::Ready), (Delete::Cancel, State::Cancelled)] {
        let house = with_policy(Policy { delete, ..Policy::default() });
        let mut ftp = house.session();
        assert_eq!(ftp.store("a.hl7", b"data").code, 226);
        assert_eq!(ftp.command("SITE CHMOD 777 a.hl7").code / 100, 5);
        assert_eq!(ftp.command("DELE a.hl7").code, 250);
        assert_eq!(ftp.list("/"), ["out"]);
        assert_eq!(house.states("a.hl7"), [state]);
        assert_eq!(house.bytes(&house.entries()[0]), b"data");
        assert_eq!(ftp.command("DELE a.hl7").code, 550);
    }
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
fn connections_beyond_the_limit_are_turned_away() {
    let mut plan = Plan::default();
    plan.limits.max_connections = 2;
    let house = House::new(plan);
    let (first, second) = (house.session(), house.session());
    assert_eq!(Ftp::connect(house.address).greeting.code, 421);
    drop((first, second));
    wait_until("places are free again", || Ftp::connect(house.address).greeting.code == 220);
}

#[test]
fn a_disabled_account_loses_its_session() {
    let house = house();
    let mut ftp = house.session();
    house.partners.disable(&PARTNER.parse().unwrap()).unwrap();
    wait_until("the session ends", || house.partners.sessions().is_empty());
    assert_eq!(ftp.reply().code, 421);
    assert!(ftp.try_reply().is_err());
}

#[test]
fn stopping_lets_a_transfer_end() {
    let mut house = house();
    let (idle, mut ftp) = (house.session(), house.session());
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    data.write_all(b"first half ").unwrap();
    let uploading = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(300));
        data.write_all(b"second half").unwrap();
        drop(data);
        ftp.reply().code
    });
    let took = house.close_door();
    assert!(took < Duration::from_secs(5), "{took:?}");
    assert_eq!(uploading.join().unwrap(), 226);
    assert_eq!(house.entries()[0].size_bytes, 22);
    drop(idle);
}

#[test]
fn stopping_cuts_a_transfer_that_goes_on_and_keeps_what_came() {
    let mut plan = Plan::default();
    plan.ftp.grace = Duration::from_millis(100);
    let mut house = House::new(plan);
    let mut ftp = house.session();
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    data.write_all(&[7; 100_000]).unwrap();
    let took = house.close_door();
    assert!(took < Duration::from_secs(5), "{took:?}");
    house.block_on(house.ingest.idle());
    assert!(house.entries().is_empty());
    let partial = house.block_on(house.storage.partial(PARTNER, "a.hl7")).unwrap();
    assert_eq!(partial.map(|partial| partial.size_bytes), Some(100_000));
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
fn a_restart_shows_the_same_view_and_adopts_what_the_journal_does_not_know() {
    let first = house();
    let mut ftp = first.session();
    assert_eq!(ftp.store("a.hl7", b"one").code, 226);
    assert_eq!(ftp.store("b.tmp", b"two").code, 226);
    // Committed, and then nothing: as if the server had died before the journal's record.
    first.block_on(async {
        let file = forebay_storage::NewFile {
            id: forebay_storage::FileId::new(chrono_now()),
            partner: PARTNER.to_owned(),
            name: "unknown.hl7".to_owned(),
            door: "ftp".to_owned(),
            began_at: chrono_now(),
            origin: None,
        };
        let mut upload = first.storage.begin(file).await.unwrap();
        upload.write(bytes::Bytes::from_static(b"three")).await.unwrap();
        upload.commit(chrono_now()).await.unwrap();
    });
    std::fs::remove_file(first.view().join("a.hl7")).unwrap();
    let data = first.data();
    drop(ftp);
    drop(first);
    let second = House::on(Plan::default(), data);
    assert_eq!(second.recovered.adopted.len(), 1);
    assert_eq!(second.states("unknown.hl7"), [State::Held]);
    let mut ftp = second.session();
    assert_eq!(ftp.fetch("RETR a.hl7").unwrap(), b"one");
    assert_eq!(ftp.command("RNFR b.tmp").code, 350);
    assert_eq!(ftp.command("RNTO b.hl7").code, 250);
    assert_eq!(second.states("b.hl7"), [State::Ready]);
}

fn chrono_now() -> chrono::DateTime<chrono::Utc> {
    forebay::clock::Clock::now(&forebay::clock::SystemClock::new())
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
