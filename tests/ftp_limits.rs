//! Limits that clients run into who are slow on purpose, or ask without end.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says so by failing, and bounds its waits by the machine's clock"
)]

mod harness;

use std::{
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use forebay::ingest::SessionInfo;
use harness::{
    Ftp, House, PARTNER, Plan, Stream,
    site::{self, Site, USER},
    trusting, wait_until,
};

/// A transfer may stand still for a minute, and take half a second.
fn hasty() -> House {
    let mut plan = Plan::default();
    plan.ftp.longest_per_gib = Duration::from_millis(500);
    House::new(plan)
}

/// Whether a reply has come.
fn is_answered(ftp: &Ftp) -> bool {
    let control: &TcpStream = ftp.tcp();
    control.set_nonblocking(true).unwrap();
    let there = control.peek(&mut [0]).is_ok();
    control.set_nonblocking(false).unwrap();
    there
}

#[test]
fn an_upload_that_drips_is_cut_when_its_time_is_up() {
    let house = hasty();
    let mut ftp = house.session();
    let mut data = ftp.passive();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    let began = Instant::now();
    while !is_answered(&ftp) {
        assert!(began.elapsed() < Duration::from_secs(20), "a byte now and then keeps it for ever");
        let _ = data.write_all(b"x");
        std::thread::sleep(Duration::from_millis(10));
    }
    let reply = ftp.reply();
    assert_eq!((reply.code, reply.text.contains("too long")), (426, true), "{}", reply.text);
    drop(data);
    house.block_on(house.ingest.idle());
    assert!(house.entries().is_empty());
    assert!(house.block_on(house.storage.partial(PARTNER, "a.hl7")).unwrap().is_some(), "what came is kept");
    assert_eq!(ftp.store("b.hl7", b"data").code, 226, "the session goes on");
}

#[test]
fn a_download_that_is_sipped_is_cut_when_its_time_is_up() {
    let house = hasty();
    let mut ftp = house.session();
    assert_eq!(ftp.store("a.hl7", &vec![7; 20 << 20]).code, 226);
    let mut data = ftp.passive();
    assert_eq!(ftp.command("RETR a.hl7").code, 150);
    let began = Instant::now();
    while !is_answered(&ftp) {
        assert!(began.elapsed() < Duration::from_secs(20), "a sip now and then keeps it for ever");
        let _ = data.read(&mut [0; 20_000]);
        std::thread::sleep(Duration::from_millis(10));
    }
    assert_eq!(ftp.reply().code, 426);
    assert_eq!(ftp.store("b.hl7", b"data").code, 226);
}

/// A data connection on which little is under way that was not read.
fn reluctant(ftp: &mut Ftp) -> TcpStream {
    let port: u16 = ftp.command("EPSV").text.split('|').nth(3).unwrap().parse().unwrap();
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_tcp_mss(1000).unwrap();
    socket.set_recv_buffer_size(4096).unwrap();
    socket.connect(&SocketAddr::from(([127, 0, 0, 1], port)).into()).unwrap();
    socket.into()
}

#[test]
fn a_listing_that_nobody_reads_is_cut() {
    let mut plan = Plan::default();
    plan.limits.stalled = Duration::from_millis(500);
    let house = House::new(plan);
    let mut ftp = house.session();
    assert_eq!(ftp.command("MKD many").code, 257);
    let session = SessionInfo {
        partner: PARTNER.parse().unwrap(),
        door: "ftp",
        peer: house.address.into(),
        id: uuid::Uuid::new_v4(),
    };
    let files = house.ingest.files(&session);
    house.block_on(async {
        for n in 0..5000 {
            files.make_folder(&format!("many/{n:0>200}")).await.unwrap();
        }
    });
    for command in ["LIST many", "NLST many", "MLSD many"] {
        let data = reluctant(&mut ftp);
        assert_eq!(ftp.command(command).code, 150);
        assert_eq!(ftp.reply().code, 426, "{command}");
        drop(data);
    }
    // One that is read is whole, and the session goes on.
    assert_eq!(ftp.list("many").len(), 5000);
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
}

#[test]
fn a_data_connection_that_never_comes_is_answered() {
    let house = House::new(Plan::default());
    let waiting: Vec<_> = ["STOR a.hl7", "LIST"]
        .map(|command| {
            let mut ftp = house.session();
            ftp.tcp().set_read_timeout(Some(Duration::from_secs(60))).unwrap();
            assert_eq!(ftp.command("EPSV").code, 229);
            assert_eq!(ftp.command(command).code, 150);
            ftp
        })
        .into();
    for mut ftp in waiting {
        assert_eq!(ftp.reply().code, 425);
        assert_eq!(ftp.store("b.hl7", b"data").code, 226, "the session goes on");
    }
    assert!(house.states("a.hl7").is_empty());
}

#[test]
fn whatever_is_asked_before_a_login_is_counted() {
    let house = House::new(Plan::default());
    for line in ["USER someone", "FEAT", "STOR a.hl7", "PASS"] {
        let mut ftp = Ftp::connect(house.address);
        let codes: Vec<u16> = (0..100).map_while(|_| ftp.try_command(line).ok()).map(|reply| reply.code).collect();
        assert_eq!(codes.last(), Some(&421), "{line}: {codes:?}");
        assert!(codes.len() < 40, "{line} was answered {} times", codes.len());
    }
    wait_until("their places are free", || house.partners.connections() == 0);
}

#[test]
fn who_offers_protocols_gets_ftp_and_no_other() {
    let house = House::new(Plan::default());
    let offering = |protocol: &str| {
        let mut config = (*trusting()).clone();
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        Ftp::connect(house.address).auth_tls_with(config.into())
    };
    let ftp = offering("ftp").unwrap();
    let Stream::Tls(stream) = ftp.stream() else { panic!("it is TLS") };
    assert_eq!(stream.conn.alpn_protocol(), Some(&b"ftp"[..]));
    let spoken = offering("http/1.1").and_then(|mut ftp| ftp.try_command("NOOP"));
    assert!(spoken.is_err(), "a browser's TLS is not taken for a client's");
}

/// What a client sends on after a refusal is dropped, so that it gets to read the reply. That must not become work without
/// end for one whose uploads are refused again and again, and who never stops sending.
#[test]
fn uploads_that_are_refused_midway_do_not_pile_up() {
    let site = Site::limited("", "max_sessions_per_partner = 10\n\n[policy]\nmax_file_size = \"1 KiB\"");
    let descriptors = || std::fs::read_dir(format!("/proc/{}/fd", site.machine.pid())).unwrap().count();
    let mut ftp = Ftp::connect(site.machine.ftp);
    ftp.login(USER, site::PASSWORD);
    let before = descriptors();
    let (mut sending, mut most) = (Vec::new(), 0);
    for n in 0..60 {
        let mut data = ftp.passive();
        assert_eq!(ftp.command(&format!("STOR {n}.hl7")).code, 150);
        data.write_all(&[7; 64 << 10]).unwrap();
        assert_eq!(ftp.reply().code, 552);
        sending.push(data);
        most = most.max(descriptors());
    }
    println!("{before} descriptors, and at most {most}");
    assert!(most <= before + 8, "{before} descriptors became {most}");
    assert_eq!(ftp.store("small.hl7", b"data").code, 226);
    wait_until("the last is over too", || descriptors() <= before + 2);
}
