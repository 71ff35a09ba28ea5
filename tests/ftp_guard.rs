//! The FTP door against clients that are impatient, confused or hostile: what the protocol engine behind it does wrong
//! does not reach them.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail, and reads the machine's clock"
)]

mod harness;

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, SocketAddr, TcpListener, TcpStream},
    process::Command,
    time::{Duration, Instant},
};

use forebay::{
    doors::ftp::Tls,
    partners::{CloseNotify, Complete, DataResumption, Policy},
};
use forebay_queue::State;
use harness::{Ftp, House, PARTNER, PASSWORD, Plan, Stream, files_below, speaking, wait_until};
use rand::{RngExt, SeedableRng, rngs::StdRng};

fn house() -> House {
    House::new(Plan::default())
}

fn with_policy(policy: Policy) -> House {
    House::new(Plan { policy, ..Plan::default() })
}

fn with_tls_required() -> House {
    let mut plan = Plan::default();
    plan.ftp.tls = Some(Tls::Required);
    House::new(plan)
}

/// A session whose control and data connections are TLS.
fn secured(house: &House) -> Ftp {
    let mut ftp = Ftp::connect(house.address).auth_tls();
    ftp.login(PARTNER, PASSWORD);
    ftp.protect();
    ftp
}

/// An upload that has begun: its data connection, with some bytes sent.
fn begun(ftp: &mut Ftp, name: &str, bytes: &[u8]) -> TcpStream {
    let mut data = ftp.passive();
    assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
    data.write_all(bytes).unwrap();
    data
}

fn partial(house: &House, name: &str) -> Option<u64> {
    house.block_on(house.storage.partial(PARTNER, name)).unwrap().map(|partial| partial.size_bytes)
}

fn over(house: &House) {
    wait_until("the sessions end", || house.partners.sessions().is_empty());
    house.block_on(house.ingest.idle());
}

#[test]
fn a_client_that_dies_in_mid_file_leaves_a_partial_and_no_file_in_tls_too() {
    let house = house();
    for (name, abrupt) in [("a.hl7", false), ("b.hl7", true)] {
        let mut ftp = secured(&house);
        let data = ftp.passive();
        assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
        let mut data = Stream::secured(data).unwrap();
        data.write_all(&[7; 100_000]).unwrap();
        if !abrupt {
            data.finish();
        }
        drop((ftp, data));
        over(&house);
        assert!(house.entries().is_empty());
        assert_eq!(partial(&house, name), Some(100_000));
    }
}

#[test]
fn an_abort_that_was_sent_ahead_ends_the_transfer_too() {
    let house = house();
    let mut ftp = house.session();
    let _data = ftp.passive();
    ftp.send(b"STOR a.hl7\r\nNOOP\r\nABOR");
    let codes: Vec<u16> = (0..4).map(|_| ftp.reply().code).collect();
    assert_eq!(codes, [150, 426, 226, 200]);
    assert!(house.entries().is_empty());
}

#[test]
fn an_abort_ends_the_transfer_at_once_and_nothing_is_queued() {
    let house = house();
    let mut ftp = house.session();
    let _data = begun(&mut ftp, "a.hl7", &[7; 300_000]);
    let began = Instant::now();
    assert_eq!(ftp.command("ABOR").code, 426);
    assert_eq!(ftp.reply().code, 226);
    assert!(began.elapsed() < Duration::from_millis(500), "{:?}", began.elapsed());
    assert_eq!(ftp.command("NOOP").code, 200);
    assert_eq!(ftp.store("b.hl7", b"whole").code, 226, "the session goes on");
    assert_eq!(house.entries().len(), 1);
    assert_eq!(house.states("a.hl7"), []);
    assert_eq!(ftp.command("ABOR").code, 226, "nothing to abort");
}

#[test]
fn an_urgent_abort_is_heard() {
    let house = house();
    for telnet in [&b"\xff\xf4\xff"[..], b""] {
        let mut ftp = house.session();
        let _data = begun(&mut ftp, "a.hl7", &[7; 300_000]);
        let socket = socket2::SockRef::from(ftp.tcp());
        if telnet.is_empty() {
            // As Python does: the whole command is urgent, its last byte out of band.
            socket.send_out_of_band(b"ABOR\r\n").unwrap();
        } else {
            // As RFC 959 says: IAC IP, and IAC DM as the urgent byte.
            socket.send(telnet).unwrap();
            socket.send_out_of_band(b"\xf2").unwrap();
            socket.send(b"ABOR\r\n").unwrap();
        }
        assert_eq!(ftp.reply().code, 426);
        assert_eq!(ftp.reply().code, 226);
        assert_eq!(ftp.command("NOOP").code, 200);
    }
    assert!(house.entries().is_empty());
}

#[test]
fn aborts_at_any_moment_agree_with_what_is_queued() {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let house = house();
    let mut ftp = house.session();
    let (mut kept, mut aborted) = (0, 0);
    for n in 0..60 {
        let data = begun(&mut ftp, &format!("{n}.hl7"), b"some data");
        drop(data);
        std::thread::sleep(Duration::from_micros(random.random_range(0..15_000)));
        let first = ftp.command("ABOR");
        match first.code {
            226 => kept += 1,
            426 => aborted += 1,
            other => panic!("seed {seed}: {other}"),
        }
        assert_eq!(ftp.reply().code, 226);
        let queued = house.states(&format!("{n}.hl7")).len();
        assert_eq!(queued, usize::from(first.code == 226), "seed {seed}: {}", first.text);
    }
    assert_eq!(ftp.command("NOOP").code, 200);
    house.block_on(house.ingest.idle());
    println!("{kept} kept, {aborted} aborted");
    assert_eq!(house.entries().len(), kept);
}

#[test]
fn a_position_never_outlives_the_next_transfer_command() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("old.hl7", &[1; 2000]).code, 226);
    assert_eq!(ftp.command("REST 1000").code, 350);
    assert_eq!(ftp.store("../bad", b"x").code, 553);
    assert_eq!(ftp.store("new.hl7", b"new").code, 226);
    assert_eq!(ftp.command("REST 1000").code, 350);
    assert_eq!(ftp.command("STOR old.hl7").code, 425, "there is no data connection");
    assert_eq!(ftp.store("old.hl7", b"again").code, 226);
    assert_eq!(ftp.command("REST 1000").code, 350);
    assert_eq!(ftp.command("PWD").code, 257);
    assert_eq!(ftp.fetch("RETR old.hl7").unwrap(), b"again");
    let sizes: Vec<_> = house.entries().iter().map(|entry| entry.size_bytes).collect();
    assert_eq!(sizes, [2000, 3, 5]);
}

#[test]
fn an_upload_that_was_cut_goes_on_with_rest_and_with_appe() {
    let house = house();
    let bytes: Vec<u8> = (0..400_000u32).map(|n| (n * 7) as u8).collect();
    for verb in ["STOR", "APPE"] {
        let name = format!("{verb}.hl7");
        let mut ftp = house.session();
        let data = begun(&mut ftp, &name, &bytes[..150_000]);
        drop((ftp, data));
        over(&house);
        let mut ftp = house.session();
        assert_eq!(ftp.command(&format!("SIZE {name}")).text.trim(), "213 150000");
        if verb == "STOR" {
            assert_eq!(ftp.command("REST 150000").code, 350);
        }
        let reply = ftp.upload(verb, &name, &bytes[150_000..]);
        assert_eq!(reply.code, 226);
        assert!(reply.text.contains("400000 bytes"), "{}", reply.text);
        assert_eq!(ftp.command(&format!("SIZE {name}")).text.trim(), "213 400000");
        drop(ftp);
        over(&house);
    }
    let entries = house.entries();
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        assert_eq!(house.bytes(entry), bytes);
    }
    assert!(files_below(&house.path("partials")).is_empty());
}

#[test]
fn with_tls_required_no_path_leads_a_byte_through_in_the_clear() {
    let house = with_tls_required();
    let mut ftp = Ftp::connect(house.address);
    assert_eq!(ftp.command(&format!("USER {PARTNER}")).code, 534);
    assert_eq!(ftp.command(&format!("PASS {PASSWORD}")).code, 503);
    let mut ftp = ftp.auth_tls();
    ftp.login(PARTNER, PASSWORD);
    for command in ["PASV", "EPSV", "STOR a.hl7", "RETR a.hl7", "LIST", "NLST", "MLSD", "APPE a", "STOU"] {
        assert_eq!(ftp.command(command).code, 522, "{command}");
    }
    assert_eq!(ftp.command("PROT P").code, 503, "PBSZ comes first");
    ftp.protect();
    let data = ftp.passive();
    assert_eq!(ftp.command("PROT C").code, 534);
    assert_eq!(ftp.command("CCC").code, 533);
    assert_eq!(ftp.command("STOR clear.hl7").code, 150);
    let mut data = data;
    let _ = data.write_all(b"MSH|in the clear");
    drop(data);
    assert_eq!(ftp.reply().code, 425);
    assert_eq!(ftp.store_secured("tls.hl7", b"data").code, 226);
    let names: Vec<_> = house.entries().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["tls.hl7"]);
}

#[test]
fn a_failed_handshake_on_a_data_connection_is_answered_and_the_session_goes_on() {
    let house = house();
    let mut ftp = secured(&house);
    for verb in ["STOR a.hl7", "LIST"] {
        let mut data = ftp.passive();
        data.write_all(b"this is no TLS, and never was").unwrap();
        assert_eq!(ftp.command(verb).code, 150);
        assert_eq!(ftp.reply().code, 425, "{verb}");
        drop(data);
    }
    assert_eq!(ftp.store_secured("b.hl7", b"data").code, 226);
    assert_eq!(house.entries().len(), 1);
}

#[test]
fn what_is_wrong_or_unknown_is_told_and_the_session_goes_on() {
    let house = house();
    let mut ftp = house.session();
    for (command, code) in [
        ("MODE Z", 501),
        ("MODE B", 504),
        ("OPTS UTF8", 200),
        ("OPTS UTF8 ON", 200),
        ("OPTS NOTHING", 501),
        ("NOOP x", 200),
        ("STRU Q", 501),
        ("TYPE", 501),
        ("TYPE E", 504),
        ("STOR", 501),
        ("RETR", 501),
        ("REST x", 501),
        ("REST -1", 501),
        ("REST 99999999999999999999", 501),
        ("PORT 1", 502),
        ("XYZZY", 500),
        ("", 500),
        (" ", 500),
        ("RNTO a", 503),
        ("PBSZ 0", 503),
        ("USER x", 503),
        ("SITE", 214),
        ("SITE NOTHING", 504),
        ("PWD x", 257),
    ] {
        assert_eq!(ftp.command(command).code, code, "{command:?}");
    }
    for raw in [&b"STOR nul\0name"[..], b"STOR cr\rname", b"STOR latin\xe41", b"\xc3\x28"] {
        ftp.send(raw);
        assert_eq!(ftp.reply().code, 501, "{raw:?}");
    }
    // Leftovers of Telnet are dropped, and nothing is left.
    ftp.send(b"\xfe\xfd");
    assert_eq!(ftp.reply().code, 500);
    ftp.send(&[&b"STOR "[..], &vec![b'x'; 100_000]].concat());
    assert_eq!(ftp.reply().code, 500);
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
}

#[test]
fn an_endless_line_ends_the_connection_and_takes_no_memory() {
    let house = house();
    for logged_in in [false, true] {
        let ftp = if logged_in { house.session() } else { Ftp::connect(house.address) };
        let mut stream = ftp.tcp().try_clone().unwrap();
        stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
        let piece = vec![b'x'; 1 << 20];
        let sent = (0..400).take_while(|_| stream.write_all(&piece).is_ok()).count();
        assert!(sent < 50, "{sent} MiB were taken");
    }
    assert_eq!(house.session().store("a.hl7", b"data").code, 226);
}

#[test]
fn a_handshake_that_does_not_come_is_not_waited_for() {
    let mut plan = Plan::default();
    plan.ftp.handshake = Duration::from_millis(300);
    plan.ftp.implicit_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let house = House::new(plan);
    let mut ftp = Ftp::connect(house.address);
    assert_eq!(ftp.command("AUTH TLS").code, 234);
    let began = Instant::now();
    assert!(ftp.try_reply().is_err());
    let mut silent = TcpStream::connect(house.implicit.unwrap()).unwrap();
    silent.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert!(matches!(silent.read(&mut [0]), Ok(0)));
    // On a data connection too, and there the session goes on.
    let mut ftp = secured(&house);
    let _data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    assert_eq!(ftp.reply().code, 425);
    assert_eq!(ftp.command("NOOP").code, 200);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
}

#[test]
fn a_transfer_that_stands_still_is_cut_in_either_direction() {
    let mut plan = Plan::default();
    plan.limits.stalled = Duration::from_millis(300);
    let house = House::new(plan);
    let mut ftp = house.session();
    assert_eq!(ftp.store("large.hl7", &vec![7; 20 << 20]).code, 226);
    let data = begun(&mut ftp, "a.hl7", &[7; 1000]);
    assert_eq!(ftp.reply().code, 426);
    drop(data);
    let data = ftp.passive();
    assert_eq!(ftp.command("RETR large.hl7").code, 150);
    assert_eq!(ftp.reply().code, 426);
    drop(data);
    assert_eq!(ftp.store("b.hl7", b"data").code, 226);
}

#[test]
fn commands_behind_a_transfer_are_answered_in_order() {
    let house = house();
    let mut ftp = house.session();
    let mut data = ftp.passive();
    ftp.send(b"STOR a.tmp\r\nRNFR a.tmp\r\nRNTO a.hl7\r\nNOOP\r\nPWD\r\nQUIT");
    assert_eq!(ftp.reply().code, 150);
    data.write_all(b"data").unwrap();
    drop(data);
    let codes: Vec<u16> = (0..6).map(|_| ftp.reply().code).collect();
    assert_eq!(codes, [226, 350, 250, 200, 257, 221]);
    assert!(ftp.try_reply().is_err());
    assert_eq!(house.states("a.hl7"), [State::Ready]);
}

#[test]
fn quit_after_a_transfer_waits_for_its_reply() {
    let house = house();
    let mut ftp = house.session();
    let data = begun(&mut ftp, "a.hl7", &[7; 500_000]);
    ftp.send(b"QUIT");
    drop(data);
    assert_eq!(ftp.reply().code, 226);
    assert_eq!(ftp.reply().code, 221);
    assert_eq!(house.entries().len(), 1);
}

#[test]
fn noop_and_stat_are_answered_during_a_transfer() {
    let house = house();
    let mut ftp = house.session();
    let mut data = begun(&mut ftp, "a.hl7", &[7; 1 << 20]);
    assert_eq!(ftp.command("NOOP").code, 200);
    let stat = ftp.command("STAT");
    assert_eq!(stat.code, 213);
    wait_until("the bytes are counted", || house.partners.sessions()[0].bytes > 500_000);
    let session = house.partners.sessions().remove(0);
    assert_eq!(session.doing, "STOR /a.hl7");
    data.write_all(b"the rest").unwrap();
    drop(data);
    assert_eq!(ftp.reply().code, 226);
    wait_until("it waits again", || house.partners.sessions()[0].doing.is_empty());
}

#[test]
fn python_uploads_over_tls_and_finds_nothing_wrong() {
    let mut plan = Plan::default();
    plan.ftp.implicit_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let house = House::new(plan);
    let script = format!(
        "import ftplib, ssl, io\n\
         context = ssl._create_unverified_context()\n\
         ftp = ftplib.FTP_TLS(context=context, timeout=20)\n\
         ftp.connect('127.0.0.1', {})\n\
         ftp.login('{PARTNER}', '{PASSWORD}')\n\
         ftp.prot_p()\n\
         ftp.storbinary('STOR a.hl7', io.BytesIO(b'x' * 300000))\n\
         ftp.storlines('STOR b.hl7', io.BytesIO(b'one\\ntwo\\n'))\n\
         got = []\n\
         ftp.retrbinary('RETR a.hl7', got.append)\n\
         assert b''.join(got) == b'x' * 300000\n\
         assert sorted(ftp.nlst()) == ['a.hl7', 'b.hl7'], ftp.nlst()\n\
         assert ftp.size('a.hl7') == 300000\n\
         assert dict(ftp.mlsd())['a.hl7']['size'] == '300000'\n\
         ftp.quit()\n",
        house.address.port()
    );
    let done = Command::new("python3").args(["-c", &script]).output().unwrap();
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    assert_eq!(house.entries().len(), 2);
}

#[test]
fn what_was_sent_in_the_clear_behind_auth_tls_is_never_done() {
    let house = house();
    let mut ftp = Ftp::connect(house.address);
    let login = format!("AUTH TLS\r\nUSER {PARTNER}\r\nPASS {PASSWORD}\r\nMKD injected");
    ftp.send(login.as_bytes());
    assert_eq!(ftp.reply().code, 234);
    let mut ftp = ftp.handshake();
    assert_eq!(ftp.command("NOOP").code, 200, "the next reply belongs to the next command");
    assert_eq!(ftp.command("PWD").code, 530, "nobody is logged in");
    // Nor does a name that was given in the clear count.
    let mut ftp = Ftp::connect(house.address);
    assert_eq!(ftp.command(&format!("USER {PARTNER}")).code, 331);
    let mut ftp = ftp.auth_tls();
    assert_eq!(ftp.command(&format!("PASS {PASSWORD}")).code, 503);
    assert_eq!(house.session().command("CWD injected").code, 550);
}

#[test]
fn implicit_tls_has_a_port_of_its_own() {
    let mut plan = Plan::default();
    plan.ftp.implicit_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let house = House::new(plan);
    let mut ftp = Ftp::connect_implicit(house.implicit.unwrap());
    assert_eq!(ftp.greeting.code, 220);
    ftp.login(PARTNER, PASSWORD);
    assert_eq!(ftp.store_secured("a.hl7", &[7; 100_000]).code, 226);
    assert_eq!(house.entries()[0].size_bytes, 100_000);
    assert_eq!(ftp.command("AUTH TLS").code, 503);
}

#[test]
fn a_data_connection_must_resume_the_control_connection_when_that_is_asked() {
    let mut plan = Plan::default();
    plan.ftp.data_resumption = DataResumption::Required;
    let house = House::new(plan);
    let mut ftp = secured(&house);
    let data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    let mut data = Stream::secured(data).unwrap();
    assert!(data.resumed());
    data.write_all(b"data").unwrap();
    data.finish();
    drop(data);
    assert_eq!(ftp.reply().code, 226);
    // Another session's ticket is no good.
    let other = secured(&house);
    drop(other);
    let data = ftp.passive();
    assert_eq!(ftp.command("STOR b.hl7").code, 150);
    let stolen = Stream::secured(data);
    assert_eq!(ftp.reply().code, 522);
    drop(stolen);
    assert_eq!(house.entries().len(), 1);
}

#[test]
fn both_versions_of_tls_are_spoken_and_resumed() {
    let mut plan = Plan::default();
    plan.ftp.data_resumption = DataResumption::Required;
    let house = House::new(plan);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let (config, stranger) = (speaking(version), speaking(version));
        let mut ftp = Ftp::connect(house.address).auth_tls_with(config.clone()).unwrap();
        let Stream::Tls(control) = ftp.stream() else { panic!("it is TLS") };
        assert_eq!(control.conn.protocol_version(), Some(version.version));
        ftp.login(PARTNER, PASSWORD);
        ftp.protect();
        // A stranger that was turned away does not get in with what it was given then.
        let attempts =
            [("own", &config, 226), ("other", &stranger, 522), ("again", &stranger, 522), ("more", &config, 226)];
        for (name, config, code) in attempts {
            let data = ftp.passive();
            assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
            let mut data = Stream::secured_with(data, config.clone()).unwrap();
            assert_eq!(data.resumed(), code == 226, "{version:?}");
            if code == 226 {
                data.write_all(b"data").unwrap();
                data.finish();
            }
            drop(data);
            assert_eq!(ftp.reply().code, code, "{version:?} {name}");
        }
    }
    assert_eq!(house.entries().len(), 4);
}

#[test]
fn what_clients_say_before_a_login_is_answered() {
    let house = house();
    let mut ftp = Ftp::connect(house.address);
    for (command, code) in [
        ("HOST", 501),
        ("HOST intake.example.org", 220),
        ("LANG EN", 200),
        ("LANG en-us", 200),
        ("LANG", 200),
        ("LANG fr", 504),
        ("CLNT a client", 200),
        ("OPTS UTF8 ON", 200),
        ("OPTS UTF8 OFF", 504),
        ("FEAT", 211),
        ("SYST", 215),
        ("NOOP", 200),
        ("STAT", 530),
        ("SITE STATUS", 530),
        ("HASH a.hl7", 530),
        ("ALLO 5", 530),
    ] {
        assert_eq!(ftp.command(command).code, code, "{command}");
    }
    ftp.login(PARTNER, PASSWORD);
    assert_eq!(ftp.command("ALLO").code, 501);
    assert_eq!(ftp.command("ALLO five").code, 501);
    assert_eq!(ftp.store("a.hl7", &vec![7; 20 << 20]).code, 226);
    // A download that stands still is no reason not to answer.
    let mut data = ftp.passive();
    assert_eq!(ftp.command("RETR a.hl7").code, 150);
    assert_eq!((ftp.command("NOOP").code, ftp.command("STAT").code), (200, 213));
    let mut got = Vec::new();
    data.read_to_end(&mut got).unwrap();
    assert_eq!((got.len(), ftp.reply().code), (20 << 20, 226));
}

#[test]
fn an_upload_that_the_stopping_server_cuts_is_told_of_and_then_the_end() {
    let mut plan = Plan::default();
    plan.ftp.grace = Duration::from_millis(100);
    let mut house = House::new(plan);
    let mut ftp = house.session();
    let _data = begun(&mut ftp, "a.hl7", &[7; 100_000]);
    house.close_doors();
    assert_eq!(ftp.reply().code, 426);
    assert_eq!(ftp.reply().code, 421);
    assert!(ftp.try_reply().is_err());
    assert!(house.entries().is_empty());
}

#[test]
fn tls_on_a_data_connection_may_begin_before_the_command() {
    let house = with_tls_required();
    let mut ftp = secured(&house);
    let mut data = Stream::secured(ftp.passive()).unwrap();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    data.write_all(b"data").unwrap();
    data.finish();
    drop(data);
    assert_eq!(ftp.reply().code, 226);
    // What has begun so is never used in the clear, and a port that nothing came of is free again.
    let house = self::house();
    let mut ftp = secured(&house);
    let data = Stream::secured(ftp.passive()).unwrap();
    assert_eq!(ftp.command("PROT C").code, 200);
    assert_eq!(ftp.command("STOR b.hl7").code, 425);
    drop(data);
    assert_eq!(ftp.command("PROT P").code, 200);
    for _ in 0..150 {
        drop(ftp.passive());
    }
    assert_eq!(ftp.store_secured("c.hl7", b"data").code, 226);
}

#[test]
fn a_missing_close_notify_is_judged_by_policy() {
    for (close_notify, code, state) in [
        (CloseNotify::Accept, 226, Some(State::Ready)),
        (CloseNotify::Hold, 226, Some(State::Held)),
        (CloseNotify::Refuse, 426, None),
    ] {
        let house = with_policy(Policy { close_notify, ..Policy::default() });
        let mut ftp = secured(&house);
        let data = ftp.passive();
        assert_eq!(ftp.command("STOR a.hl7").code, 150);
        let mut data = Stream::secured(data).unwrap();
        data.write_all(b"data").unwrap();
        drop(data);
        assert_eq!(ftp.reply().code, code);
        assert_eq!(house.states("a.hl7").first().copied(), state);
        assert_eq!(ftp.store_secured("b.hl7", b"data").code, 226);
    }
}

#[test]
fn the_reply_to_an_upload_says_what_happened() {
    let house = house();
    let mut ftp = house.session();
    let reply = ftp.store("a.hl7", b"hello");
    let entry = house.entries().remove(0);
    let expected = format!(
        "226 Received {}; 5 bytes, sha256 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824\r\n",
        entry.id
    );
    assert_eq!(reply.text, expected);
    house.gate.close(Vec::new(), None, "an upgrade".to_owned(), None, "operator".to_owned()).unwrap();
    let reply = ftp.store("b.hl7", b"hello");
    assert!(reply.text.ends_with("; processing deferred until further notice\r\n"), "{}", reply.text);
    let reply = ftp.store("c.tmp", b"hello");
    assert!(reply.text.ends_with("; it waits for its final name\r\n"), "{}", reply.text);
    let mut ftp = Ftp::connect(house.address);
    assert!(ftp.greeting.text.contains("uploads are kept, processing deferred"), "{}", ftp.greeting.text);
    assert_eq!(ftp.command(&format!("USER {PARTNER}")).code, 331);
    let login = ftp.command(&format!("PASS {PASSWORD}"));
    assert!(login.text.starts_with("230 ") && login.text.contains("deferred"), "{}", login.text);
    assert!(ftp.command("SITE STATUS").text.contains("ready: 2"));
}

#[test]
fn maintenance_that_is_near_is_told_in_greeting_and_login() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("maintenance.toml");
    let start = (chrono::Utc::now() + chrono::TimeDelta::hours(3)).format("%Y-%m-%d %H:%M").to_string();
    let window = format!(
        "timezone = \"UTC\"\n[[window]]\nname = \"Servers\"\nstart = \"{start}\"\nduration = \"2h\"\n\
         reason = \"an upgrade\"\nmessage = \"Back soon\"\n"
    );
    std::fs::write(&file, window).unwrap();
    let mut plan = Plan::default();
    plan.gate.file = Some(file);
    let house = House::new(plan);
    let mut ftp = Ftp::connect(house.address);
    assert!(ftp.greeting.text.contains("maintenance is planned from "), "{}", ftp.greeting.text);
    assert_eq!(ftp.command(&format!("USER {PARTNER}")).code, 331);
    let login = ftp.command(&format!("PASS {PASSWORD}"));
    assert!(login.text.contains("maintenance is planned from "), "{}", login.text);
}

#[test]
fn allo_is_held_against_what_comes() {
    let house = with_policy(Policy { complete: Complete::Allo, ..Policy::default() });
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"data").code, 550, "no size was declared");
    for (declared, code) in [("4", 226), ("5", 426), ("3", 426)] {
        assert_eq!(ftp.command(&format!("ALLO {declared}")).code, 200);
        assert_eq!(ftp.store(&format!("{declared}.hl7"), b"data").code, code, "{declared}");
    }
    let names: Vec<_> = house.entries().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["4.hl7"]);
    // Without that policy a file that is shorter than declared waits for an operator.
    let house = self::house();
    let mut ftp = house.session();
    assert_eq!(ftp.command("ALLO 5 R 100").code, 200);
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    assert_eq!(ftp.store("b.hl7", b"data").code, 226, "the size was for the file before");
    assert_eq!((house.states("a.hl7"), house.states("b.hl7")), (vec![State::Held], vec![State::Ready]));
}

#[test]
fn feat_tells_the_truth() {
    let house = house();
    let mut ftp = house.session();
    let feat = ftp.command("FEAT");
    assert_eq!(feat.code, 211);
    for (feature, command, code) in [
        ("AUTH TLS", "AUTH TLS", 503),
        ("PBSZ", "PBSZ 0", 503),
        ("HOST", "HOST x", 503),
        ("SIZE", "SIZE out", 550),
        ("MDTM", "MDTM out", 213),
        ("MFMT", "MFMT 20200101000000 out", 550),
        ("MLST type*;size*;modify*;", "MLST out", 250),
        ("CLNT", "CLNT test", 200),
        ("LANG EN*", "LANG EN", 200),
        ("UTF8", "OPTS UTF8 ON", 200),
        ("REST STREAM", "REST 0", 350),
        ("EPSV", "EPSV", 229),
    ] {
        assert!(feat.text.lines().any(|line| line == format!(" {feature}")), "{feature} in {}", feat.text);
        let code_is = ftp.command(command).code;
        if feature != "SIZE" && feature != "AUTH TLS" {
            assert_eq!(code_is, code, "{command}");
        }
    }
    assert!(!feat.text.contains("EPRT"));
    for command in ["EPRT |1|127.0.0.1|2000|", "PORT 127,0,0,1,8,0"] {
        assert_eq!(ftp.command(command).code, 502);
    }
    assert_eq!(ftp.command("HELP").code, 214);
    assert_eq!(ftp.command("SITE HELP").code, 214);
    assert_eq!(ftp.command("STAT").code, 211);
    assert_eq!(ftp.command("SYST").code, 215);
}

#[test]
fn digests_are_those_of_what_was_sent() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", b"123456789").code, 226);
    for (command, digest) in [
        ("XCRC a.hl7", "CBF43926"),
        ("XMD5 \"a.hl7\"", "25F9E794323B453885F5181F1B624D0B"),
        ("XSHA256 a.hl7", "15E2B0D3C33891EBB0F1EF609EC419420C20E320CE94C65FBC8C3312448EB225"),
    ] {
        let reply = ftp.command(command);
        assert_eq!((reply.code, reply.text.contains(digest)), (250, true), "{}", reply.text);
    }
    assert!(ftp.command("HASH a.hl7").text.starts_with("213 SHA-256 0-8 15e2b0d3"));
    assert_eq!(ftp.command("OPTS HASH MD5").code, 200);
    assert!(ftp.command("HASH a.hl7").text.starts_with("213 MD5 0-8 25f9e794"));
    assert_eq!(ftp.command("HASH nothing").code, 550);
}

#[test]
fn active_mode_goes_to_the_clients_own_address_and_no_service() {
    let mut plan = Plan::default();
    plan.ftp.active = true;
    let house = House::new(plan);
    let mut ftp = house.session();
    for bounce in [
        "PORT 127,0,0,2,40,0",
        "PORT 10,0,0,1,40,0",
        "PORT 127,0,0,1,0,25",
        "EPRT |1|127.0.0.2|4000|",
        "EPRT |1|127.0.0.1|25|",
        "EPRT |2|::1|4000|",
    ] {
        assert_eq!(ftp.command(bounce).code, 501, "{bounce}");
        assert_eq!(ftp.command("LIST").code, 425, "nothing is offered");
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    assert_eq!(ftp.command(&format!("EPRT |1|127.0.0.1|{port}|")).code, 200);
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    let (mut data, _) = listener.accept().unwrap();
    data.write_all(b"data").unwrap();
    drop(data);
    assert_eq!(ftp.reply().code, 226);
}

#[test]
fn a_data_port_is_not_for_another_address() {
    let house = house();
    let mut ftp = house.session();
    assert_eq!(ftp.store("secret.hl7", b"secret").code, 226);
    let reply = ftp.command("EPSV");
    let port: u16 = reply.text.split('|').nth(3).unwrap().parse().unwrap();
    let mut thieves: Vec<TcpStream> = (0..20).map(|_| connect_from([127, 0, 0, 2], port)).collect();
    let mut data = TcpStream::connect(("127.0.0.1", port)).unwrap();
    assert_eq!(ftp.command("RETR secret.hl7").code, 150);
    let mut bytes = Vec::new();
    data.read_to_end(&mut bytes).unwrap();
    assert_eq!(bytes, b"secret");
    assert_eq!(ftp.reply().code, 226);
    for thief in &mut thieves {
        let mut stolen = Vec::new();
        let _ = thief.read_to_end(&mut stolen);
        assert!(stolen.is_empty());
    }
}

fn connect_from(address: [u8; 4], port: u16) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((address, 0)).into()).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

#[test]
fn a_browsers_form_gets_nothing_done() {
    let house = house();
    let mut stream = TcpStream::connect(house.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    let body = format!("USER {PARTNER}\r\nPASS {PASSWORD}\r\nMKD posted\r\n");
    let request = format!("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: {}\r\n\r\n{body}", body.len());
    stream.write_all(request.as_bytes()).unwrap();
    let replies: Vec<String> = BufReader::new(stream).lines().map_while(Result::ok).collect();
    assert_eq!(replies.len(), 2, "{replies:?}");
    assert!(replies[1].starts_with("421 "), "{replies:?}");
    assert_eq!(house.session().command("CWD posted").code, 550);
}

#[test]
fn commands_before_a_login_are_counted() {
    let house = house();
    let mut ftp = Ftp::connect(house.address);
    let codes: Vec<u16> = (0..100)
        .map_while(|_| {
            ftp.send(b"STOR x");
            ftp.try_reply().ok().map(|reply| reply.code)
        })
        .take_while(|&code| code == 530)
        .collect();
    assert!(codes.len() < 50, "{} commands were taken", codes.len());
}

#[test]
fn no_command_with_a_path_leads_out_of_the_directory() {
    let outbox = tempfile::tempdir().unwrap();
    let mut plan = Plan::default();
    plan.policy.outbox = Some(outbox.path().to_owned());
    plan.policy.outbox_delete = true;
    let house = House::new(plan);
    std::fs::write(house.path("outside"), "outside").unwrap();
    let mut ftp = house.session();
    // Only an operator's program can put a link into an outbox; it leads nowhere.
    std::os::unix::fs::symlink(house.path("outside"), outbox.path().join("link")).unwrap();
    std::os::unix::fs::symlink(house.path(""), outbox.path().join("directory")).unwrap();
    let long = "x".repeat(4090);
    let (absolute, above) = (house.path("outside").display().to_string(), "../".repeat(12));
    let above = format!("{above}{}", &absolute[1..]);
    for path in [&absolute, "../outside", &above, "out/link", "out/directory/outside", &long] {
        for verb in ["RETR", "SIZE", "MLST", "MDTM", "HASH", "CWD", "DELE", "RMD", "RNFR", "STAT"] {
            let data = (verb == "RETR").then(|| ftp.passive());
            let reply = ftp.command(&format!("{verb} {path}"));
            assert!(reply.code >= 400, "{verb} {path}: {}", reply.text);
            assert!(!reply.text.contains("root:"));
            drop(data);
        }
        let reply = ftp.store(path, b"overwritten");
        assert!(reply.code >= 400, "STOR {path}: {}", reply.text);
    }
    assert_eq!(std::fs::read_to_string(house.path("outside")).unwrap(), "outside");
    for hostile in ["a\u{1b}[2Jb", "a\u{7}b", "tab\there"] {
        assert_eq!(ftp.store(hostile, b"x").code, 553, "{hostile:?}");
        let reply = ftp.command(&format!("MKD {hostile}"));
        assert_eq!(reply.code, 553);
        assert!(!reply.text.contains('\u{1b}'));
    }
}

#[test]
fn commands_in_any_order_never_hang_or_end_the_session() {
    const COMMANDS: [&str; 30] = [
        "NOOP",
        "EPSV",
        "PASV",
        "STOR a.hl7",
        "APPE a.hl7",
        "STOU",
        "RETR a.hl7",
        "LIST",
        "NLST",
        "MLSD",
        "REST 3",
        "ALLO 4",
        "ABOR",
        "TYPE A",
        "MODE S",
        "CWD in",
        "CDUP",
        "MKD in",
        "RMD in",
        "RNFR a.hl7",
        "RNTO b.hl7",
        "DELE b.hl7",
        "SIZE a.hl7",
        "MLST a.hl7",
        "FEAT",
        "STAT",
        "PBSZ 0",
        "EPSV ALL",
        "NONSENSE",
        "HASH a.hl7",
    ];
    let seed: u64 = rand::random();
    println!("seed {seed}");
    let mut random = StdRng::seed_from_u64(seed);
    let house = house();
    for _ in 0..15 {
        let mut ftp = house.session();
        let mut stream = ftp.tcp().try_clone().unwrap();
        let mut script = String::new();
        for _ in 0..random.random_range(1..40) {
            script.push_str(COMMANDS[random.random_range(0..COMMANDS.len())]);
            script.push_str("\r\n");
        }
        // Data connections are never opened, so each transfer waits until it is aborted.
        script.push_str("ABOR\r\nABOR\r\nSITE HELP\r\n");
        stream.write_all(script.as_bytes()).unwrap();
        let began = Instant::now();
        loop {
            let reply = ftp.try_reply().unwrap_or_else(|error| panic!("seed {seed}: {error} after {script}"));
            if reply.code == 214 {
                break;
            }
            if reply.code == 150 {
                stream.write_all(b"ABOR\r\n").unwrap();
            }
            assert!(began.elapsed() < Duration::from_secs(60), "seed {seed}: {script}");
        }
    }
    assert_eq!(house.session().store("after.hl7", b"data").code, 226);
}

#[test]
fn many_slow_connections_do_not_keep_an_honest_upload_away() {
    let mut plan = Plan::default();
    plan.limits.max_connections = 2000;
    plan.limits.login_grace = Duration::from_secs(3);
    plan.limits.max_connections_per_address = 2000;
    let house = House::new(plan);
    let slow: Vec<TcpStream> = (0..300)
        .map(|_| {
            let mut stream = TcpStream::connect(house.address).unwrap();
            stream.write_all(b"US").unwrap();
            stream
        })
        .collect();
    assert_eq!(house.session().store("a.hl7", b"data").code, 226);
    wait_until("they are sent away", || house.partners.connections() == 0);
    drop(slow);
}

#[test]
fn the_server_stopping_is_said() {
    let mut house = house();
    let mut idle = house.session();
    let mut before = Ftp::connect(house.address);
    house.close_doors();
    assert_eq!(idle.reply().code, 421);
    assert_eq!(before.reply().code, 421);
    assert!(idle.try_reply().is_err());
}

#[test]
fn another_certificate_is_taken_up() {
    let house = house();
    let before = secured(&house);
    for name in ["certificate.pem", "key.pem"] {
        std::fs::remove_file(house.path("tls").join(name)).unwrap();
    }
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = rcgen::CertificateParams::new(vec!["other".to_owned()]).unwrap().self_signed(&key).unwrap();
    std::fs::write(house.path("tls/key.pem"), key.serialize_pem()).unwrap();
    std::fs::write(house.path("tls/certificate.pem"), certificate.pem()).unwrap();
    wait_until("the new one is shown", || {
        let ftp = Ftp::connect(house.address).auth_tls();
        ftp.certificate().as_deref() == Some(certificate.der())
    });
    drop(before);
}

#[test]
fn half_a_control_connection_is_no_proof_in_tls() {
    let house = house();
    let mut ftp = secured(&house);
    let data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    let mut data = Stream::secured(data).unwrap();
    data.write_all(b"data").unwrap();
    ftp.shutdown(Shutdown::Write);
    data.finish();
    drop(data);
    over(&house);
    assert!(house.entries().is_empty());
}
