//! The SFTP door against people who mean it: strangers at the handshake, partners who look for a way out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail, and reads the machine's clock"
)]

mod harness;

use std::{
    collections::BTreeMap,
    fs,
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    path::PathBuf,
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use harness::{
    Ftp,
    binary::Machine,
    files_below,
    sftp_client::{DATA, HANDLE, OPEN, STATUS, Sftp, TO_READ, TO_WRITE, WRITE, string},
    site::{PASSWORD, Site, USER},
    wait_until,
};

const VERSION: &[u8] = b"SSH-2.0-test\r\n";
const BAD_MESSAGE: u32 = 5;

fn python(name: &str) -> String {
    format!("{}/target/tools/python/bin/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn login(site: &Site) -> Sftp {
    Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap()
}

fn store(site: &Site, name: &str) {
    assert!(login(site).store(name, &vec![b'x'; 1 << 20]).is_ok());
}

/// Of the server's process, in KiB: `VmRSS`, `VmHWM`.
fn memory_kib(site: &Site, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", site.machine.pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_ascii_whitespace().nth(1).unwrap().parse().unwrap()
}

fn connect(at: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(at).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.set_write_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// Reads until the server ends the connection; all that it said.
fn until_the_end(stream: &mut TcpStream) -> Vec<u8> {
    let mut said = Vec::new();
    match stream.read_to_end(&mut said) {
        Ok(_) => said,
        Err(error) if error.kind() == ErrorKind::ConnectionReset => said,
        Err(error) => panic!("it is not ended: {error}"),
    }
}

/// What ssh-audit says, with its test of how fast connections are let in, of a server with these lines in `[sftp]`, and
/// all host keys that are made by default.
fn audited(lines: &str) -> String {
    let mut machine = Machine::new("");
    let config = fs::read_to_string(machine.path().join("forebay.toml")).unwrap();
    machine.write("forebay.toml", &config.replace("host_key_algorithms = [\"ssh-ed25519\"]\n", lines));
    machine.start();
    let output = std::process::Command::new("timeout")
        .args(["120", &python("ssh-audit"), "--no-colors", "-p", &machine.sftp.port().to_string()])
        .arg("127.0.0.1")
        .output()
        .expect("tests/run installs ssh-audit");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("(kex) mlkem768x25519-sha256"), "{}\n{said}", output.status);
    said
}

#[test]
fn ssh_audit_warns_of_nothing_but_exchanges_that_older_clients_need() {
    const QUANTA: &str = "[warn] does not provide protection against post-quantum attacks";
    let faults = |said: &str, but: &str| -> Vec<String> {
        let lines = said.lines().filter(|line| line.contains("[warn]") || line.contains("[fail]"));
        lines.filter(|line| but.is_empty() || !line.contains(but)).map(str::to_owned).collect()
    };
    let said = audited("");
    assert_eq!(faults(&said, QUANTA), [""; 0], "{said}");
    for offered in ["kex-strict-s-v00@openssh.com", "(key) ssh-ed25519", "(key) rsa-sha2-512"] {
        assert!(said.contains(offered), "{offered} is not offered\n{said}");
    }
    let said = audited("kex = [\"mlkem768x25519-sha256\"]\n");
    assert_eq!(faults(&said, ""), [""; 0], "{said}");
}

/// A binary packet before there are keys.
fn packet(payload: &[u8]) -> Vec<u8> {
    let padding = 8 - (payload.len() + 5) % 8 + 8;
    let length = u32::try_from(payload.len() + 1 + padding).unwrap();
    [&length.to_be_bytes()[..], &[u8::try_from(padding).unwrap()], payload, &vec![0; padding]].concat()
}

fn kexinit(kex: &str) -> Vec<u8> {
    let mut payload = vec![20];
    payload.extend([7; 16]);
    let (cipher, mac) = ("chacha20-poly1305@openssh.com", "hmac-sha2-256-etm@openssh.com");
    for names in [kex, "ssh-ed25519", cipher, cipher, mac, mac, "none", "none", "", ""] {
        payload.extend(string(names.as_bytes()));
    }
    payload.extend([0; 5]);
    packet(&payload)
}

/// The payloads that the server sends in the clear, until there is none of a kind or it ends.
fn payload(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut head = [0; 5];
    stream.read_exact(&mut head).ok()?;
    let length = u32::from_be_bytes(head[..4].try_into().unwrap()) as usize;
    let mut rest = vec![0; length - 1];
    stream.read_exact(&mut rest).ok()?;
    rest.truncate(length - 1 - usize::from(head[4]));
    Some(rest)
}

fn versions(at: SocketAddr) -> TcpStream {
    let mut stream = connect(at);
    stream.write_all(VERSION).unwrap();
    let mut byte = [0];
    while byte != *b"\n" {
        stream.read_exact(&mut byte).unwrap();
    }
    stream
}

/// Terrapin puts a message of its own into the handshake and takes a later one away. Strict key exchange ends the
/// connection at the first message that does not belong there (and counts anew behind NEWKEYS, which every client that
/// asks for it checks by reading on).
#[test]
fn nothing_can_be_put_into_a_strict_handshake() {
    const IGNORE: &[u8] = b"\x02\0\0\0\x04oops";
    const ECDH_INIT: u8 = 30;
    const ECDH_REPLY: u8 = 31;
    let site = Site::open("");
    let mut client_key = vec![ECDH_INIT];
    client_key.extend(string(&[9; 32]));
    let answered = |kex: &str, inserted: &[u8]| {
        let mut stream = versions(site.machine.sftp);
        let offered = payload(&mut stream).unwrap();
        assert!(String::from_utf8_lossy(&offered).contains("kex-strict-s-v00@openssh.com"));
        stream.write_all(&kexinit(kex)).unwrap();
        if !inserted.is_empty() {
            stream.write_all(&packet(inserted)).unwrap();
        }
        stream.write_all(&packet(&client_key)).unwrap();
        payload(&mut stream).is_some_and(|payload| payload[0] == ECDH_REPLY)
    };
    let strict = "curve25519-sha256,kex-strict-c-v00@openssh.com";
    assert!(answered(strict, b""), "the handshake goes on when nothing is put in");
    assert!(answered("curve25519-sha256", IGNORE), "where the exchange is not strict it may be put in");
    assert!(!answered(strict, IGNORE), "a message was put into a strict handshake");
    assert!(!answered(strict, b"\x04\0\0\0\0\x01x\0\0\0\0"), "a debug message was put into a strict handshake");
    store(&site, "a.hl7");
}

#[test]
fn nothing_is_served_before_the_login() {
    let site = Site::limited("", "login_grace = \"2s\"\nfree_failures = 1000");
    let script = format!("{}/tests/clients/ssh_attacks.py", env!("CARGO_MANIFEST_DIR"));
    let port = site.machine.sftp.port().to_string();
    println!("{}", site.run(&python("python"), &[&script, "127.0.0.1", &port, USER]));
    let log = fs::read_to_string(site.path("server.log")).unwrap();
    assert!(!log.contains("logged in") && !log.contains("panicked"), "{log}");
    store(&site, "a.hl7");
}

#[test]
fn a_version_line_without_an_end_is_not_read_on_and_on() {
    const PIECE: usize = 64 << 10;
    let site = Site::limited("", "login_grace = \"2s\"");
    let before = memory_kib(&site, "VmHWM");
    let lines: [&[u8]; 3] = [b"x", b"SSH-2.0-", b"a line in front of it\r\n"];
    for line in lines {
        let piece = line.repeat(PIECE / line.len());
        for _ in 0..4 {
            let mut stream = connect(site.machine.sftp);
            let mut sent = 0;
            while sent < 64 << 20 && stream.write_all(&piece).is_ok() {
                sent += piece.len();
            }
            assert!(sent < 64 << 20, "{sent} bytes in front of a version were read");
        }
    }
    // A byte now and then ends too.
    let began = Instant::now();
    let mut stream = connect(site.machine.sftp);
    while stream.write_all(b"S").is_ok() {
        assert!(began.elapsed() < Duration::from_secs(20), "it waits for ever");
        thread::sleep(Duration::from_millis(20));
    }
    let grown = memory_kib(&site, "VmHWM") - before;
    assert!(grown < 32 << 10, "{grown} KiB more");
    store(&site, "a.hl7");
}

#[test]
fn a_thousand_half_open_connections_do_not_keep_an_honest_upload_away() {
    let limit = rustix::process::getrlimit(rustix::process::Resource::Nofile);
    let wanted = rustix::process::Rlimit { current: limit.maximum, ..limit };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, wanted).unwrap();
    let site = Site::limited("", "max_connections = 1200\nmax_connections_per_address = 1200\nlogin_grace = \"60s\"");
    let before = memory_kib(&site, "VmRSS");
    let strict = kexinit("curve25519-sha256,kex-strict-c-v00@openssh.com");
    let mut half: Vec<TcpStream> = (0..1000)
        .map(|n| {
            let mut stream = connect(site.machine.sftp);
            // As far as the version, or into the key exchange, or silent.
            match n % 3 {
                0 => stream.write_all(b"SSH-2.0-").unwrap(),
                1 => stream.write_all(&[VERSION, &strict[..100]].concat()).unwrap(),
                _ => {}
            }
            stream
        })
        .collect();
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                half.iter_mut().step_by(3).for_each(|stream| drop(stream.write_all(b"x")));
                thread::sleep(Duration::from_millis(100));
            }
        });
        for n in 0..10 {
            let began = Instant::now();
            store(&site, &format!("{n}.hl7"));
            assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
        }
        over.store(true, Ordering::Relaxed);
    });
    assert_eq!(site.queue().len(), 10);
    let grown = memory_kib(&site, "VmRSS").saturating_sub(before);
    println!("1,000 connections and 10 uploads: {grown} KiB more");
    assert!(grown < 150 << 10, "{grown} KiB more");
}

#[test]
fn a_broken_packet_ends_its_channel_and_no_other() {
    let site = Site::open("");
    let mut honest = login(&site);
    let begun = honest.open("honest.hl7", TO_WRITE).unwrap();
    let open = |length: &[u8]| [&[OPEN, 0, 0, 0, 9][..], length, b"a.hl7"].concat();
    let init = string(&[1, 0, 0, 0, 3]);
    let cases: [(&str, bool, Vec<u8>, Option<u32>); 9] = [
        ("one byte more than may be", true, ((256_u32 << 10) + 1).to_be_bytes().to_vec(), None),
        ("four GiB", true, vec![0xff; 4], None),
        ("an empty packet", true, vec![0; 4], None),
        ("no id", true, string(&[OPEN, 0]), None),
        ("a string beyond the end", true, string(&open(&[0, 0, 0, 99])), Some(BAD_MESSAGE)),
        ("a string of four GiB", true, string(&open(&[0xff; 4])), Some(BAD_MESSAGE)),
        ("no attributes", true, string(&open(&[0, 0, 0, 5])), Some(BAD_MESSAGE)),
        ("the version asked for twice", true, init.clone(), None),
        ("a request before the version", false, string(&[17, 0, 0, 0, 1, 0, 0, 0, 1, b'/']), None),
    ];
    for (what, greeted, bytes, code) in cases {
        let mut sftp = if greeted { honest.channel() } else { honest.silent_channel() }.unwrap();
        sftp.send(&[&bytes[..], &vec![0; 100_000]].concat()).unwrap();
        if let Some(code) = code {
            assert_eq!(sftp.answer().unwrap().code(), code, "{what}");
        }
        let ended = sftp.answer().expect_err("the channel goes on").kind();
        assert_eq!(ended, ErrorKind::UnexpectedEof, "{what}");
    }
    assert!(honest.write(&begun, 0, b"MSH|").is_ok(), "another channel is as it was");
    assert!(honest.close(&begun).is_ok());
    assert_eq!(site.queue().len(), 1);
}

#[test]
fn handles_and_channels_end_and_those_that_are_there_go_on() {
    const MOST: usize = 128;
    let site = Site::with("", "", "max_channels = 4");
    let mut sftp = login(&site);
    assert!(sftp.store("a.hl7", b"data").is_ok());
    let before = memory_kib(&site, "VmRSS");
    let mut handles: Vec<_> = (0..MOST).map(|_| sftp.open("a.hl7", TO_READ).unwrap()).collect();
    for flags in [TO_READ, TO_WRITE] {
        let refused = sftp.open("a.hl7", flags).unwrap_err();
        assert!(refused.text().contains("too many open files"), "{}", refused.text());
    }
    assert_eq!(sftp.read(&handles[0], 0, 10).kind, DATA);
    assert!(sftp.close(&handles.pop().unwrap()).is_ok());
    assert!(sftp.store("b.hl7", b"data").is_ok(), "one place is free again");
    // What is no handle is told so, and does no harm: closed ones, those of others, of any length.
    let other = sftp.channel().unwrap().open("a.hl7", TO_READ).unwrap();
    let closed = sftp.open("a.hl7", TO_READ).unwrap();
    assert!(sftp.close(&closed).is_ok());
    for handle in [closed, other, string(b""), string(&[0xff; 4]), string(&[7; 1000])] {
        for kind in [4, 5, 6, 8, 10, 12] {
            let rest: &[u8] = if kind == 10 { &[0; 4] } else { &[0; 12] };
            let answer = sftp.ask(kind, &[&handle, rest]);
            assert_eq!(answer.code(), 4, "{kind} {handle:?}: {}", answer.text());
        }
    }
    let mut channels: Vec<_> = std::iter::from_fn(|| sftp.channel().ok()).take(20).collect();
    assert!((2..4).contains(&channels.len()), "{} more channels", channels.len());
    assert!(channels.iter_mut().all(|channel| channel.open("a.hl7", TO_READ).is_ok()));
    // Uploads that nobody closes leave nothing but what came of them.
    let mut many = login(&site);
    for n in 0..MOST {
        let handle = many.open(&format!("open-{n}.hl7"), TO_WRITE).unwrap();
        assert!(n % 2 > 0 || many.write(&handle, 0, b"half").is_ok());
    }
    drop(many);
    wait_until("what came is kept", || site.partials().len() == MOST / 2);
    assert!(files_below(&site.machine.data().join("tmp")).is_empty());
    assert_eq!(site.queue().len(), 2);
    let grown = memory_kib(&site, "VmRSS").saturating_sub(before);
    assert!(grown < 64 << 10, "{grown} KiB more");
}

/// A byte that waits for those in front of it must not hold on to the packet in which it came.
#[test]
fn bytes_that_come_early_take_no_more_memory_than_they_are_given() {
    let site = Site::open("");
    let mut sftp = login(&site);
    let handle = sftp.open("x.hl7", TO_WRITE).unwrap();
    let before = memory_kib(&site, "VmRSS");
    let filler = [&string(&[0xff; 4])[..], &[0; 8], &string(&[b'x'; 32_000])].concat();
    for n in 0..4_000_u64 {
        let early = [&handle[..], &(1 + 2 * n).to_be_bytes(), &string(b"x")].concat();
        let [early, filler] = [&early, &filler].map(|body| string(&[&[WRITE, 0, 0, 0, 7], &body[..]].concat()));
        sftp.send(&[early, filler].concat()).unwrap();
        let codes = [sftp.answer().unwrap(), sftp.answer().unwrap()].map(|answer| answer.code());
        assert!(codes == [0, 4] || codes == [4, 0], "{codes:?}");
    }
    let grown = memory_kib(&site, "VmRSS").saturating_sub(before);
    assert!(grown < 48 << 10, "{grown} KiB more");
    assert!(!sftp.close(&handle).is_ok(), "it has holes");
}

/// What is there outside the account and could be changed through it.
fn outside(site: &Site) -> BTreeMap<PathBuf, Vec<u8>> {
    let files = ["other", "beside"].into_iter().flat_map(|directory| files_below(&site.machine.path().join(directory)));
    files.map(|path| (path.clone(), fs::read(path).unwrap())).collect()
}

/// Every operation that takes a path, with everything that is no path of the partner's.
#[test]
fn no_path_in_any_operation_leads_out() {
    const SECRET: &[u8] = b"of another partner";
    let outbox = "[[partner]]\nname = \"USER\"\noutbox = \"@DIR@/outbox\"".replace("USER", USER);
    let site = Site::limited("", &outbox);
    let mut sftp = login(&site);
    assert!(sftp.store("own.hl7", b"own").is_ok());
    let other = site.machine.path().join("other");
    let outbox = site.machine.path().join("outbox");
    for directory in [&other, &site.machine.path().join("beside")] {
        fs::create_dir_all(directory).unwrap();
        fs::write(directory.join("secret.hl7"), SECRET).unwrap();
    }
    fs::create_dir_all(&outbox).unwrap();
    fs::write(outbox.join("report.hl7"), b"for the partner").unwrap();
    // Nobody can make one through the door; one that another program puts there leads nowhere.
    std::os::unix::fs::symlink("../other", outbox.join("link")).unwrap();
    let before = outside(&site);
    assert_eq!(before.len(), 2);
    let absolute = other.join("secret.hl7");
    let deep = "../".repeat(40) + absolute.to_str().unwrap().trim_start_matches('/');
    let paths: Vec<Vec<u8>> = [
        "../other/secret.hl7",
        "/../other/secret.hl7",
        "in/../../other/secret.hl7",
        "./.././other/secret.hl7",
        "..//other//secret.hl7",
        "out/link/secret.hl7",
        "out/link/../../other/secret.hl7",
        "out/../../other/secret.hl7",
        "../other",
        "out/link",
        absolute.to_str().unwrap(),
        &deep,
        "own.hl7/../../other/secret.hl7",
        "..\\other\\secret.hl7",
        "%2e%2e/other/secret.hl7",
        "own.hl7\0/../../other/secret.hl7",
        "../other/new.hl7",
        "out/link/new.hl7",
    ]
    .iter()
    .map(|path| path.as_bytes().to_vec())
    .chain([b"\xc0\xae\xc0\xae/other/secret.hl7".to_vec(), b"..\xff/other".to_vec(), vec![b'/'; 5000]])
    .collect();
    let mut asked = 0;
    for path in &paths {
        let path = string(path);
        let own = string(b"own.hl7");
        let extended = |name: &str, rest: &[&[u8]]| (200, [&[&string(name.as_bytes())[..]], rest].concat().concat());
        let with = |kind: u8, rest: &[u8]| (kind, [&path[..], rest].concat());
        let operations = [
            with(OPEN, &[0, 0, 0, 1, 0, 0, 0, 0]),
            with(OPEN, &[0, 0, 0, 0x1a, 0, 0, 0, 0]),
            with(OPEN, &[0, 0, 0, 0x0e, 0, 0, 0, 0]),
            with(OPEN, &[0, 0, 0, 0x02, 0, 0, 0, 0]),
            with(7, &[]),
            with(17, &[]),
            with(9, &[0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0]),
            with(9, &[0, 0, 0, 4, 0, 0, 0x0f, 0xff]),
            with(11, &[]),
            with(13, &[]),
            with(14, &[0; 4]),
            with(15, &[]),
            with(16, &[]),
            with(18, &own),
            (18, [&own[..], &path].concat()),
            with(19, &[]),
            with(20, &own),
            (20, [&own[..], &path].concat()),
            extended("posix-rename@openssh.com", &[&path, &own]),
            extended("posix-rename@openssh.com", &[&own, &path]),
            extended("hardlink@openssh.com", &[&path, &own]),
            extended("hardlink@openssh.com", &[&own, &path]),
            extended("statvfs@openssh.com", &[&path]),
        ];
        for (kind, body) in operations {
            asked += 1;
            let answer = sftp.ask(kind, &[&body]);
            let shown = String::from_utf8_lossy(&body).into_owned();
            assert!(answer.kind != 105 || !names_secret(&answer.body), "{kind} {shown}: shows the secret's size");
            if answer.kind == HANDLE {
                look_through(&mut sftp, &answer.body, SECRET, &format!("{kind} {shown}"));
            }
        }
    }
    println!("{asked} operations");
    assert_eq!(outside(&site), before);
    assert!(!site.machine.path().join("etc").exists());
    assert!(login(&site).store("after.hl7", b"data").is_ok());
}

/// Attributes with the size of the secret: flags with a size, and that one.
fn names_secret(attributes: &[u8]) -> bool {
    attributes[3] & 1 == 1 && attributes[4..12] == 18_u64.to_be_bytes()
}

/// What a handle gives is the partner's own.
fn look_through(sftp: &mut Sftp, handle: &[u8], secret: &[u8], what: &str) {
    let read = sftp.read(handle, 0, 1000);
    assert!(read.kind != DATA || !read.body.ends_with(secret), "{what}: gives the secret");
    let listed = sftp.ask(12, &[handle]);
    assert!(listed.kind == STATUS || !String::from_utf8_lossy(&listed.body).contains("secret"), "{what}: lists it");
    sftp.close(handle);
}

#[test]
fn failed_logins_at_one_door_make_all_doors_wait() {
    let limits = "free_failures = 3\nfirst_wait = \"1h\"\nlongest_wait = \"1h\"\nmax_failed_logins = 2";
    for by_ftp in [true, false] {
        let site = Site::limited("", limits);
        for n in 0..6 {
            let password = format!("wrong-{n}");
            if by_ftp {
                assert!(Ftp::connect(site.machine.ftp).try_login(USER, &password).is_err());
            } else {
                assert!(Sftp::login(site.machine.sftp, USER, &password).is_err());
            }
        }
        assert!(Ftp::connect(site.machine.ftp).try_login(USER, PASSWORD).is_err(), "by FTP: {by_ftp}");
        assert!(Sftp::login(site.machine.sftp, USER, PASSWORD).is_err(), "by FTP: {by_ftp}");
        assert!(!site.machine.log().contains("logged in"));
    }
    // Two failures are free, at two doors as at one.
    let site = Site::limited("", limits);
    assert!(Ftp::connect(site.machine.ftp).try_login(USER, "wrong").is_err());
    assert!(Sftp::login(site.machine.sftp, USER, "wrong").is_err());
    store(&site, "a.hl7");
}

#[test]
fn what_is_said_after_the_handshake_was_left_ends_with_the_time_to_log_in() {
    let site = Site::limited("", "login_grace = \"1s\"");
    let mut silent = versions(site.machine.sftp);
    silent.write_all(&kexinit("curve25519-sha256")).unwrap();
    let mut mute = connect(site.machine.sftp);
    let began = Instant::now();
    until_the_end(&mut silent);
    until_the_end(&mut mute);
    assert!(began.elapsed() < Duration::from_secs(15), "{:?}", began.elapsed());
}
