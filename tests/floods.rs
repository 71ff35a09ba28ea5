//! Floods: of connections, of key exchanges, of guesses, of bytes that wait; and a partner that works meanwhile. Attackers
//! have addresses of their own on loopback. How long anything takes is printed and is no condition.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail, and reads the machine's clock"
)]

mod harness;

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use harness::{
    Ftp,
    binary::{Machine, http_status},
    ports::free_address,
    sftp_client::{Sftp, TO_WRITE, WRITE, string},
    site::{PASSWORD, Site, USER},
    wait_until,
};

const FILE: [u8; 10 << 10] = [b'x'; 10 << 10];
const VERSION: &[u8] = b"SSH-2.0-flood\r\n";
const STRANGERS: u8 = 17;
const COSTLY: &str = "kex = [\"curve25519-sha256\", \"diffie-hellman-group16-sha512\"]";
/// A partner that does no harm.
const HONEST: &str = "honest";

/// A server with the limits that hold when nothing is said.
fn server(more: &str) -> Machine {
    let mut machine = Machine::new(more);
    machine.add_partner(USER, PASSWORD);
    machine.start();
    machine
}

/// An address in a network of its own.
fn stranger(number: u8) -> Ipv4Addr {
    Ipv4Addr::new(127, 1, number, 1)
}

fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}

/// The line with which an SSH server begins, or the words of one that turns away; empty when it just ends.
fn first_line(stream: &mut TcpStream) -> String {
    let (mut line, mut byte) = (Vec::new(), [0]);
    while stream.read(&mut byte).is_ok_and(|count| count > 0) && byte != *b"\n" {
        line.push(byte[0]);
    }
    String::from_utf8_lossy(&line).trim_end().to_owned()
}

/// Returns true if the server has neither ended the connection nor turned it away.
fn is_held(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut said = [0; 8];
    match stream.peek(&mut said) {
        Ok(0) => false,
        Ok(count) => said[..count].starts_with(b"SSH-") || said[..count].starts_with(b"220"),
        Err(error) => error.kind() == ErrorKind::WouldBlock,
    }
}

fn many_files() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
}

/// All places that strangers can have are taken, by more addresses than it needs. The partner came before the server was
/// killed and started again.
#[test]
fn strangers_with_all_their_connections_keep_no_partner_out() {
    many_files();
    let mut machine = server("");
    Ftp::connect(machine.ftp).login(USER, PASSWORD);
    let known = machine.data().join("partners/.origins.json");
    wait_until("where it came from is written", || known.exists());
    machine.kill();
    machine.start();
    let mut held = Vec::new();
    for number in 0..STRANGERS {
        for at in [machine.sftp, machine.ftp] {
            held.extend((0..40).map(|_| connect_from(stranger(number), at)));
        }
    }
    for _ in 0..STRANGERS {
        Ftp::connect(machine.ftp).login(USER, PASSWORD);
        assert!(Sftp::login(machine.sftp, USER, PASSWORD).unwrap().store("a.hl7", &FILE).is_ok());
    }
    wait_until("those that are too many were turned away", || held.iter().filter(|one| is_held(one)).count() <= 512);
    println!("{} of {} are held", held.iter().filter(|one| is_held(one)).count(), held.len());
    let log = || std::fs::read_to_string(machine.path().join("server.log")).unwrap();
    wait_until("the operator is told", || log().contains("connections are turned away"));
}

/// One that was never here needs luck, and may try again.
#[test]
fn a_partner_from_a_new_address_comes_in_when_it_tries_again() {
    let machine = server("[limits]\nmax_startups = \"10:30:60\"\n");
    let held: Vec<_> = (0..200).map(|n| connect_from(stranger(n % STRANGERS), machine.ftp)).collect();
    wait_until("few are held", || held.iter().filter(|one| is_held(one)).count() <= 60);
    let mut tries = 0;
    let mut held = held;
    wait_until("it has luck", || {
        tries += 1;
        held.truncate(held.len() - 1);
        Ftp::try_connect(machine.ftp).is_ok_and(|mut ftp| ftp.try_login(USER, PASSWORD).is_ok())
    });
    println!("{tries} tries");
}

#[test]
fn an_address_that_does_not_log_in_waits_for_its_greeting() {
    let machine = server("");
    let began = Instant::now();
    let mut greeted: usize = 0;
    while began.elapsed() < Duration::from_millis(1500) && greeted < 100 {
        let mut stream = connect_from(stranger(1), machine.sftp);
        stream.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
        greeted += usize::from(first_line(&mut stream).starts_with("SSH-"));
    }
    let allowed = 16 + (began.elapsed().as_secs_f64() * 4.0) as usize + 1;
    println!("{greeted} greetings in {:?}", began.elapsed());
    assert!(greeted <= allowed, "{greeted} greetings in {:?}", began.elapsed());
    assert!(
        first_line(&mut connect_from(stranger(2), machine.sftp)).starts_with("SSH-"),
        "another address has its own"
    );
    assert!(first_line(&mut connect_from(stranger(1), machine.sftp)).starts_with("SSH-"), "and it has its turn");
}

#[test]
fn one_address_does_not_make_the_server_look_dead_and_many_do_not_to_a_watchdog() {
    many_files();
    let health = free_address();
    let machine = server(&format!("[health]\nlisten = \"{health}\"\n"));
    let ask = |at| http_status(at, "/readyz");
    let held: Vec<_> = (0..300).map(|_| connect_from(stranger(1), machine.web)).collect();
    let is_refused = |stream: &&TcpStream| {
        stream.set_nonblocking(true).unwrap();
        let mut said = [0; 12];
        stream.peek(&mut said).is_ok_and(|count| said[..count] == *b"HTTP/1.1 503")
    };
    wait_until("one address has 64 places and no more", || held.iter().filter(is_refused).count() == 300 - 64);
    assert_eq!(ask(machine.web), Some(200));
    let more: Vec<_> = (0..600).map(|n| connect_from(stranger(2 + n as u8 % 9), machine.web)).collect();
    wait_until("all places of the web are taken", || ask(machine.web) != Some(200));
    let watched: Vec<_> = (0..300).map(|_| connect_from(stranger(1), health)).collect();
    for path in ["/readyz", "/healthz"] {
        wait_until("a watchdog is answered", || http_status(health, path) == Some(200));
    }
    assert_eq!(http_status(health, "/"), Some(404));
    drop((held, more, watched));
}

/// A client's part of an exchange over a group of 4096 bits, up to which it has computed nothing.
fn exchange(to: SocketAddr, from: Ipv4Addr) -> TcpStream {
    let packet = |payload: &[u8]| {
        let padding = 8 - (payload.len() + 5) % 8 + 8;
        let length = u32::try_from(payload.len() + 1 + padding).unwrap();
        [&length.to_be_bytes()[..], &[u8::try_from(padding).unwrap()], payload, &vec![0; padding]].concat()
    };
    let mut kexinit = vec![20];
    kexinit.extend([7; 16]);
    let (cipher, mac) = ("chacha20-poly1305@openssh.com", "hmac-sha2-256-etm@openssh.com");
    for names in ["diffie-hellman-group16-sha512", "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""] {
        kexinit.extend(string(names.as_bytes()));
    }
    kexinit.extend([0; 5]);
    let init = [&[30][..], &string(&[7; 512])].concat();
    let mut stream = connect_from(from, to);
    stream.write_all(&[VERSION, &packet(&kexinit), &packet(&init)].concat()).unwrap();
    stream
}

/// Returns true if the answer to the exchange has come: it is the second packet behind the version.
fn is_answered(stream: &TcpStream) -> bool {
    stream.set_nonblocking(true).unwrap();
    let mut said = vec![0; 64 << 10];
    let count = stream.peek(&mut said).unwrap_or(0);
    let Some(version) = said[..count].iter().position(|byte| *byte == b'\n') else { return false };
    let packets = &said[version + 1..count];
    packets.first_chunk::<4>().is_some_and(|length| packets.len() > 4 + u32::from_be_bytes(*length) as usize)
}

/// One exchange of an address is computed at a time, so that the first of another address waits for one of them.
#[test]
fn an_address_with_many_exchanges_keeps_no_other_waiting() {
    let site = Site::with("", "max_sessions_per_partner = 10", COSTLY);
    let flood: Vec<_> = (0..12).map(|_| exchange(site.machine.sftp, stranger(0))).collect();
    let other = exchange(site.machine.sftp, stranger(1));
    wait_until("the other is answered", || is_answered(&other));
    let before = flood.iter().filter(|one| is_answered(one)).count();
    println!("{before} of 12 were answered before");
    assert!(before <= 4, "{before} of 12 were answered before");
}

/// Each exchange takes longer than an upload by far. Where they are computed on a thread that serves the session, there is
/// hardly an upload for each of them.
#[test]
fn a_session_goes_on_while_key_exchanges_are_computed() {
    let site = Site::with("", "max_sessions_per_partner = 10", COSTLY);
    let mut honest = Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap();
    assert!(honest.store("before.hl7", &FILE).is_ok());
    let exchanges: Vec<_> = (0..4).map(|number| exchange(site.machine.sftp, stranger(number))).collect();
    let (began, mut uploads, mut worst) = (Instant::now(), 0, Duration::ZERO);
    while !exchanges.iter().all(is_answered) {
        assert!(began.elapsed() < Duration::from_secs(120), "exchanges are not answered");
        let asked = Instant::now();
        assert!(honest.store(&format!("{uploads}.hl7"), &FILE).is_ok());
        worst = worst.max(asked.elapsed());
        uploads += 1;
    }
    println!("{uploads} uploads during 4 exchanges in {:?}, the slowest {worst:?}", began.elapsed());
    assert!(uploads > 4 * 4, "{uploads} uploads in {:?}", began.elapsed());
}

/// Says that it is over when it is dropped.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Exchange after exchange from many addresses, as the server offers them; a partner sends on and comes anew meanwhile.
#[test]
fn a_flood_of_handshakes_refuses_no_partner() {
    let machine = server("");
    let mut honest = Sftp::login(machine.sftp, USER, PASSWORD).unwrap();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        for number in 0..STRANGERS {
            let (over, at) = (&over, machine.sftp);
            scope.spawn(move || {
                let mut held = Vec::new();
                while !over.load(Ordering::Relaxed) {
                    let mut stream = connect_from(stranger(number), at);
                    let _ = stream.write_all(VERSION);
                    held.push(stream);
                    if held.len() >= 20 {
                        held.clear();
                    }
                    thread::sleep(Duration::from_millis(5));
                }
            });
        }
        // Also when the work fails.
        let _over = Over(&over);
        let mut worst = Duration::ZERO;
        for n in 0..20 {
            let asked = Instant::now();
            assert!(honest.store(&format!("{n}.hl7"), &FILE).is_ok());
            let mut ftp = Ftp::connect(machine.ftp);
            ftp.login(USER, PASSWORD);
            assert_eq!(ftp.store(&format!("ftp-{n}.hl7"), &FILE).code, 226);
            assert!(Sftp::login(machine.sftp, USER, PASSWORD).is_ok());
            worst = worst.max(asked.elapsed());
        }
        println!("the slowest of 20 uploads with two logins took {worst:?}");
    });
}

/// Before the login a client has a few things to say. One that agrees on keys again and again has the server compute.
#[test]
fn keys_are_not_agreed_on_again_and_again_before_a_login() {
    let site = Site::open("");
    let script = "import paramiko, socket, sys\n\
        transport = paramiko.Transport(socket.create_connection((sys.argv[1], int(sys.argv[2])), 20))\n\
        transport.start_client(timeout=20)\n\
        n = 0\n\
        try:\n    while n < 400:\n        transport.renegotiate_keys()\n        n += 1\n\
        except Exception as error:\n    print('ended:', error)\n\
        print('agreed', n)\n\
        sys.exit(n >= 400)";
    let python = format!("{}/target/tools/python/bin/python", env!("CARGO_MANIFEST_DIR"));
    println!("{}", site.run(&python, &["-c", script, "127.0.0.1", &site.machine.sftp.port().to_string()]));
    assert!(Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap().store("a.hl7", &FILE).is_ok());
}

/// How much the flood of early bytes is: `FOREBAY_FLOOD_SESSIONS` of ten channels each, and `FOREBAY_FLOOD_PIECES` of
/// 32 KiB on each channel. 32 and 256 are 320 channels of 8 MiB.
fn from_environment(variable: &str, otherwise: u64) -> u64 {
    std::env::var(variable).map_or(otherwise, |text| text.parse().unwrap())
}

/// Another partner, which sends a file each second at both doors until `over`; gives the time of its slowest.
fn works_meanwhile(machine: &Machine, over: &AtomicBool) -> Duration {
    let mut sftp = Sftp::login(machine.sftp, HONEST, PASSWORD).unwrap();
    let mut ftp = Ftp::connect(machine.ftp);
    ftp.login(HONEST, PASSWORD);
    let (mut worst, mut number) = (Duration::ZERO, 0);
    while !over.load(Ordering::Relaxed) || number == 0 {
        let asked = Instant::now();
        assert!(sftp.store(&format!("s{number}.hl7"), &FILE).is_ok());
        worst = worst.max(asked.elapsed());
        let asked = Instant::now();
        assert_eq!(ftp.store(&format!("f{number}.hl7"), &FILE).code, 226);
        worst = worst.max(asked.elapsed());
        number += 1;
        // Its pace, and no wait for anything.
        thread::sleep(Duration::from_secs(1));
    }
    worst
}

/// Bytes that wait for those in front of them, on every channel of every session.
#[test]
fn bytes_that_come_early_on_many_channels_have_one_budget() {
    const CHANNELS: usize = 10;
    const PIECE: usize = 32 << 10;
    let sessions = usize::try_from(from_environment("FOREBAY_FLOOD_SESSIONS", 8)).unwrap();
    let pieces = from_environment("FOREBAY_FLOOD_PIECES", 64);
    let limits =
        format!("max_sessions_per_partner = {}\nmemory = \"32 MiB\"\nmemory_per_partner = \"16 MiB\"", sessions + 12);
    let site = Site::limited("", &limits);
    site.machine.add_partner(HONEST, PASSWORD);
    assert!(Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap().store("before.hl7", &FILE).is_ok());
    let before = site.memory_kib("VmRSS");
    let piece = string(&[b'x'; PIECE]);
    let mut open = Vec::new();
    let (mut kept, mut refused) = (0, 0);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        let honest = scope.spawn(|| works_meanwhile(&site.machine, &is_over));
        // Also when the work fails.
        let over = Over(&is_over);
        for session in 0..sessions {
            let first = Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap();
            let mut channels: Vec<_> = (1..CHANNELS).map(|_| first.channel().unwrap()).collect();
            channels.push(first);
            for (number, channel) in channels.iter_mut().enumerate() {
                let handle = channel.open(&format!("{session}-{number}.hl7"), TO_WRITE).unwrap();
                let mut write =
                    |n: u64| channel.ask(WRITE, &[&handle, &(n * PIECE as u64).to_be_bytes(), &piece]).is_ok();
                // A file that is refused a piece gives all of them back.
                match (1..=pieces).all(&mut write) {
                    true => kept += usize::try_from(pieces).unwrap(),
                    false => refused += 1,
                }
            }
            open.push(channels);
        }
        drop(over);
        println!("the slowest upload of another partner took {:?}", honest.join().expect("none was refused"));
    });
    let grown = site.memory_kib("VmRSS").saturating_sub(before);
    println!(
        "{} MiB are kept, {refused} files were refused; {} MiB before, {} MiB more",
        (kept * PIECE) >> 20,
        before >> 10,
        grown >> 10
    );
    // Half of the partner's, and what each session has for its own.
    assert!(kept * PIECE <= (8 << 20) + sessions * (512 << 10), "{kept} pieces are kept");
    assert!(refused > 0, "there is a bound");
    assert!(kept > 0 || pieces > 64, "there is something below it");
    assert!(grown < 80 << 10, "{grown} KiB more");
    // Who writes in order goes on, at both doors.
    let mut ftp = Ftp::connect(site.machine.ftp);
    ftp.login(USER, PASSWORD);
    assert_eq!(ftp.store("large.hl7", &vec![7; 8 << 20]).code, 226);
    assert!(Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap().store("in-order.hl7", &vec![7; 4 << 20]).is_ok());
    drop(open);
    wait_until("memory has gone back", || {
        println!("{} MiB after", site.memory_kib("VmRSS") >> 10);
        site.memory_kib("VmRSS").saturating_sub(before) < 50 << 10
    });
}

/// Folders that are listed and answers that nobody takes are the session's, on however many channels.
#[test]
fn what_waits_on_many_channels_is_counted_together() {
    let site = Site::open("");
    let first = Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap();
    let mut channels: Vec<_> = (1..4).map(|_| first.channel().unwrap()).collect();
    channels.push(first);
    let mut opened = 0;
    for channel in &mut channels {
        for _ in 0..20 {
            opened += usize::from(channel.ask(11, &[&string(b"/")]).kind == harness::sftp_client::HANDLE);
        }
    }
    assert_eq!(opened, 32, "folders of one connection");
    assert!(channels[0].store("a.hl7", &FILE).is_ok());
}

#[test]
fn a_right_password_of_an_account_that_wants_a_key_is_no_failure() {
    let site = Site::limited("", "free_failures = 2\nmax_failed_logins = 2\n\n[policy]\nauthentication = \"key\"");
    let mut ftp = Ftp::connect(site.machine.ftp);
    for _ in 0..8 {
        assert_eq!(ftp.command(&format!("USER {USER}")).code, 331);
        assert_eq!(ftp.command(&format!("PASS {PASSWORD}")).code, 530, "the connection goes on");
    }
    for _ in 0..3 {
        assert_eq!(ftp.command(&format!("USER {USER}")).code, 331);
        assert_eq!(ftp.command("PASS wrong").code, 530);
    }
    assert!(ftp.try_reply().is_ok_and(|last| last.code == 421) || ftp.try_command("NOOP").is_err());
}
