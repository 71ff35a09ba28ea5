//! The FTP door against people who mean it: strangers, other users of the machine, partners who look for a way out.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test may fail, and reads the machine's clock"
)]

mod harness;

use std::{
    collections::HashSet,
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, AtomicUsize, Ordering},
    thread,
    time::{Duration, Instant},
};

use harness::{
    Ftp, House, PARTNER, PASSWORD, Plan,
    site::{self, Site, USER},
    wait_until,
};
use rand::{RngExt, SeedableRng, rngs::StdRng, seq::SliceRandom};

fn seeded() -> (u64, StdRng) {
    let seed: u64 = rand::random();
    println!("seed {seed}");
    (seed, StdRng::seed_from_u64(seed))
}

fn connect_from(address: IpAddr, to: SocketAddr) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((address, 0)).into())?;
    socket.connect_timeout(&to.into(), Duration::from_secs(5))?;
    let stream = TcpStream::from(socket);
    stream.set_read_timeout(Some(Duration::from_millis(200)))?;
    Ok(stream)
}

/// Asks the kernel who listens (sock_diag(7)): far faster than reading /proc/net/tcp.
struct Table(socket2::Socket);

impl Table {
    const FAMILY: u8 = 2;
    const TCP: u8 = 6;
    const LISTEN: u32 = 1 << 10;

    fn open() -> Self {
        let netlink = socket2::Domain::from(16);
        Self(socket2::Socket::new(netlink, socket2::Type::RAW, Some(socket2::Protocol::from(4))).unwrap())
    }

    /// Loopback addresses, but for the first, that somebody listens on now.
    fn inner_listeners(&mut self) -> Vec<SocketAddr> {
        let mut request = Vec::new();
        request.extend(72u32.to_ne_bytes());
        // SOCK_DIAG_BY_FAMILY; NLM_F_REQUEST and NLM_F_DUMP.
        request.extend(20u16.to_ne_bytes());
        request.extend(0x301u16.to_ne_bytes());
        request.extend([0; 8]);
        request.extend([Self::FAMILY, Self::TCP, 0, 0]);
        request.extend(Self::LISTEN.to_ne_bytes());
        request.resize(72, 0);
        self.0.send(&request).unwrap();
        let (mut found, mut buffer) = (Vec::new(), vec![0; 64 << 10]);
        loop {
            let count = self.0.read(&mut buffer).unwrap();
            let mut rest = &buffer[..count];
            while rest.len() >= 16 {
                let length = u32::from_ne_bytes(rest[..4].try_into().unwrap()) as usize;
                let kind = u16::from_ne_bytes(rest[4..6].try_into().unwrap());
                // NLMSG_DONE, or an error.
                if kind <= 3 {
                    assert_eq!(kind, 3, "the kernel does not tell");
                    return found;
                }
                let port = u16::from_be_bytes(rest[20..22].try_into().unwrap());
                let address = Ipv4Addr::new(rest[24], rest[25], rest[26], rest[27]);
                // The first of them are used by other tests.
                if address.is_loopback() && address > Ipv4Addr::new(127, 0, 0, 255) {
                    found.push(SocketAddr::from((address, port)));
                }
                rest = &rest[length.next_multiple_of(4).min(rest.len())..];
            }
        }
    }
}

/// Takes what can be had of connections: what they say, and those that have ended are gone.
fn listen_to(streams: &mut Vec<TcpStream>, heard: &mut Vec<u8>) {
    streams.retain_mut(|stream| {
        let mut bytes = [0; 4096];
        match stream.read(&mut bytes) {
            Ok(0) => false,
            Ok(count) => {
                heard.extend(&bytes[..count]);
                true
            }
            Err(error) => error.kind() == std::io::ErrorKind::WouldBlock,
        }
    });
}

/// Another user of the machine asks for the table of sockets again and again, and is at every inner port as soon as it
/// is there, from the very address that the inner server expects. It may disturb; it must not see or change anything.
#[test]
fn a_process_that_takes_inner_ports_sees_and_changes_nothing() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.store("secret-name.hl7", b"secret-bytes").code, 226);
    let (over, came_in) = (AtomicBool::new(false), AtomicUsize::new(0));
    let heard = thread::scope(|scope| {
        let thief = scope.spawn(|| {
            let (mut table, mut heard, mut streams) = (Table::open(), Vec::new(), Vec::new());
            while !over.load(Ordering::Relaxed) {
                for at in table.inner_listeners() {
                    let Ok(mut stream) = connect_from(at.ip(), at) else { continue };
                    came_in.fetch_add(1, Ordering::Relaxed);
                    let _ = stream.write_all(b"forged bytes\r\n");
                    stream.set_nonblocking(true).unwrap();
                    streams.push(stream);
                }
                listen_to(&mut streams, &mut heard);
            }
            heard
        });
        let began = Instant::now();
        let mut rounds = 0;
        while (rounds < 400 || came_in.load(Ordering::Relaxed) < 20) && began.elapsed() < Duration::from_secs(25) {
            rounds += 1;
            // A new session has a new inner session.
            let mut ftp = house.session();
            for command in ["MLSD", "LIST", "NLST", "RETR secret-name.hl7"] {
                if let Ok(bytes) = ftp.fetch(command) {
                    let text = String::from_utf8(bytes).unwrap();
                    assert!(text.contains("secret-"), "{command}: {text}");
                }
            }
            let name = format!("{rounds}.hl7");
            if ftp.store(&name, b"honest").code == 226 {
                assert_eq!(house.bytes(house.entries().iter().find(|entry| entry.name == name).unwrap()), b"honest");
            }
        }
        over.store(true, Ordering::Relaxed);
        println!("{rounds} rounds, {} connections of the thief", came_in.load(Ordering::Relaxed));
        thief.join().unwrap()
    });
    assert!(came_in.load(Ordering::Relaxed) > 0, "the thief was never fast enough: nothing is shown");
    let heard = String::from_utf8_lossy(&heard);
    assert!(!heard.contains("secret-"), "the thief heard {heard}");
    // It has done no lasting harm.
    assert_eq!(house.session().store("after.hl7", b"data").code, 226);
}

#[test]
fn strangers_at_a_data_port_do_not_keep_its_owner_away() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    let reply = ftp.command("EPSV");
    let port: u16 = reply.text.split('|').nth(3).unwrap().parse().unwrap();
    let at = SocketAddr::from(([127, 0, 0, 1], port));
    // More than the kernel's queue of a port holds.
    let thieves: Vec<_> = (0..200).map(|_| connect_from(Ipv4Addr::new(127, 0, 0, 2).into(), at)).collect();
    let mut data = TcpStream::connect_timeout(&at, Duration::from_secs(5)).unwrap();
    assert_eq!(ftp.command("STOR a.hl7").code, 150);
    data.write_all(b"honest").unwrap();
    drop(data);
    assert_eq!(ftp.reply().code, 226);
    for mut thief in thieves.into_iter().flatten() {
        assert!(matches!(thief.read(&mut [0; 16]), Ok(0) | Err(_)));
    }
    assert_eq!(house.bytes(&house.entries()[0]), b"honest");
}

#[test]
fn hundreds_of_mebibytes_of_long_lines_take_no_memory() {
    const PIECE: usize = 1 << 20;
    let site = Site::open("");
    let before = site.memory_kib("VmHWM");
    let piece = vec![b'x'; PIECE];
    // Each is answered, and the session goes on.
    let mut ftp = Ftp::connect(site.machine.ftp);
    ftp.login(USER, site::PASSWORD);
    for _ in 0..400 {
        ftp.send(&piece[..PIECE - 5000]);
        assert_eq!(ftp.reply().code, 500);
    }
    assert_eq!(ftp.store("a.hl7", b"data").code, 226);
    let grown = site.memory_kib("VmHWM") - before;
    println!("at most {grown} KiB more");
    assert!(grown < 64 << 10, "{grown} KiB more");
}

/// Commands whose replies are known; numbers in them tell which one a reply belongs to.
#[test]
fn pipelined_commands_are_answered_in_their_order() {
    let (seed, mut random) = seeded();
    let house = House::new(Plan::default());
    for round in 0..30 {
        let mut ftp = house.session();
        let (mut script, mut expected) = (String::new(), Vec::new());
        let mut stored = None;
        let length = random.random_range(2..60);
        for n in 0..length {
            let (command, reply) = match random.random_range(0..11) {
                0 => (format!("REST {n}"), format!("350 The next transfer begins at byte {n}\r\n")),
                1 => (format!("ALLO {n}"), format!("200 {n} bytes are expected\r\n")),
                2 => ("PWD".to_owned(), "257 \"/\"".to_owned()),
                3 => ("SYST".to_owned(), "215 ".to_owned()),
                4 => (format!("XYZ{n}"), "500 ".to_owned()),
                5 => (format!("SIZE none-{n}"), "550 ".to_owned()),
                6 => ("FEAT".to_owned(), "211-".to_owned()),
                7 => (format!("MKD d{round}-{n}"), format!("257 \"/d{round}-{n}\" created\r\n")),
                8 => (format!("HASH none-{n}"), "550 ".to_owned()),
                9 => (format!("TYPE {}", "x".repeat(5000)), "500 ".to_owned()),
                _ => (format!("RNTO {n}"), "503 ".to_owned()),
            };
            script.push_str(&format!("{command}\r\n"));
            expected.push(reply);
            if stored.is_none() && random.random_range(0..length) == 0 {
                // A transfer in the middle: everything behind it waits, and within what may wait.
                stored = Some((ftp.passive(), format!("{round}.tmp")));
                script.push_str(&format!("REST 0\r\nALLO 4\r\nSTOR {round}.tmp\r\n"));
                expected.extend(["350 ", "200 ", "150 ", "226 Received "].map(str::to_owned));
                script.push_str(&format!("RNFR {round}.tmp\r\nRNTO {round}.hl7\r\n"));
                expected.extend(["350 ", "250 "].map(str::to_owned));
            }
        }
        script.push_str("QUIT\r\n");
        expected.push("221 ".to_owned());
        // In pieces that end anywhere.
        let mut stream = ftp.tcp().try_clone().unwrap();
        let mut rest = script.as_bytes();
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(random.random_range(1..=rest.len()));
            stream.write_all(piece).unwrap();
            rest = later;
        }
        if let Some((mut data, _)) = stored.take() {
            data.write_all(b"data").unwrap();
        }
        for (at, expected) in expected.iter().enumerate() {
            let reply = ftp.try_reply().unwrap_or_else(|error| panic!("seed {seed}: {error} at {at} of {script}"));
            assert!(
                reply.text.starts_with(expected),
                "seed {seed}: {at}: {expected:?}, not {:?}\n{script}",
                reply.text
            );
        }
        assert!(ftp.try_reply().is_err());
    }
    let states: HashSet<_> = house.entries().iter().map(|entry| entry.state).collect();
    assert!(states.iter().all(|state| *state == forebay_queue::State::Ready), "{states:?}");
}

#[test]
fn what_a_stranger_says_cannot_steer_who_reads_it() {
    // Each is a failed login from the address that the partner comes from.
    let site = Site::limited("", "max_sessions_per_partner = 100\nfree_failures = 100");
    let hostile =
        ["\u{1b}[2Jcleared", "\u{9b}31mred", "turned\u{202e}round", "bell\u{7}", "tab\there", "line\u{2028}two\u{85}"];
    for said in hostile {
        let mut ftp = Ftp::connect(site.machine.ftp);
        for command in [
            format!("USER {said}"),
            "PASS x".to_owned(),
            format!("CLNT {said}"),
            format!("HOST {said}"),
            said.to_owned(),
        ] {
            let reply = ftp.command(&command);
            assert!(!reply.text.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{7}']), "{command:?}: {:?}", reply.text);
        }
    }
    let mut ftp = Ftp::connect(site.machine.ftp);
    ftp.login(USER, site::PASSWORD);
    for said in hostile {
        ftp.store(said, b"x");
        ftp.command(&format!("MKD {said}"));
        ftp.command(&format!("CWD {said}"));
        ftp.command(&format!("SITE {said}"));
        // While it waits for bytes it is shown to operators.
        let data = ftp.passive();
        if ftp.command(&format!("STOR {said}.hl7")).code == 150 {
            let shown = site.machine.ok(&["sessions"]) + &site.machine.ok(&["status"]);
            assert!(!shown.contains(['\u{1b}', '\u{9b}', '\u{202e}', '\u{7}', '\u{2028}']), "{shown:?}");
            ftp.command("ABOR");
            ftp.reply();
        }
        drop(data);
    }
    ftp.send(b"MKD one\r\ntwo");
    assert_eq!((ftp.reply().code, ftp.reply().code), (257, 500), "a line end ends the command");
    let shown = ["queue list", "audit", "status"].map(|verb| site.machine.ok(&verb.split(' ').collect::<Vec<_>>()));
    let log = std::fs::read_to_string(site.path("server.log")).unwrap();
    for text in shown.iter().chain([&log]) {
        let odd = text.chars().find(|&c| c.is_control() && c != '\n' || "\u{202e}\u{2028}".contains(c));
        assert_eq!(odd, None, "{text}");
    }
    // What may be written so is escaped for programs too, and they read what was written.
    let reason = "by\u{202e}mistake\u{200b}\u{2028}";
    site.machine.ok(&["gate", "close", "--reason", reason]);
    for verb in [&["audit", "--json"][..], &["status", "--json"], &["gate", "status", "--json"]] {
        let text = site.machine.ok(verb);
        assert!(!text.contains(['\u{202e}', '\u{200b}', '\u{2028}']) && text.contains("\\u202e"), "{verb:?}: {text}");
    }
}

/// Known and unknown names take the same time: the ranks of their times are mixed.
#[test]
fn the_time_of_a_login_does_not_tell_whether_the_name_exists() {
    let (seed, mut random) = seeded();
    let mut plan = Plan::default();
    (plan.limits.free_failures, plan.limits.max_failed_logins) = (100_000, 100_000);
    let house = House::new(plan);
    for n in 0..3 {
        house.partners.add(&format!("known{n}").parse().unwrap(), PASSWORD, "").unwrap();
    }
    house.partners.disable(&"known2".parse().unwrap()).unwrap();
    let mut tries: Vec<(bool, String)> =
        (0..60).flat_map(|n| [(true, format!("known{}", n % 3)), (false, format!("nobody{}", n % 3))]).collect();
    tries.shuffle(&mut random);
    let mut replies = HashSet::new();
    let mut times: Vec<(Duration, bool)> = tries
        .into_iter()
        .map(|(known, name)| {
            // One session takes only so many commands before a login.
            let mut ftp = Ftp::connect(house.address);
            replies.insert(ftp.command(&format!("USER {name}")).text);
            let began = Instant::now();
            replies.insert(ftp.command("PASS wrong").text);
            (began.elapsed(), known)
        })
        .collect();
    assert_eq!(replies.len(), 2, "{replies:?}");
    times.sort();
    // The rank sum of Wilcoxon, as a number of standard deviations.
    let ranks: f64 = times.iter().enumerate().filter(|(_, (_, known))| *known).map(|(at, _)| at as f64 + 1.0).sum();
    let (n, all) = (60.0, 121.0);
    let deviations = (ranks - n * all / 2.0) / (n * n * all / 12.0_f64).sqrt();
    println!("{deviations:.2} deviations; fastest {:?}, median {:?}", times[0].0, times[60].0);
    assert!(deviations.abs() < 4.5, "seed {seed}: {deviations:.2} standard deviations apart");
}

#[test]
fn guessing_a_password_gets_slow_and_the_answer_is_always_the_same() {
    let mut plan = Plan::default();
    plan.limits.max_failed_logins = 3;
    let house = House::new(plan);
    let (answers, right) = (std::sync::Mutex::new(HashSet::new()), AtomicUsize::new(0));
    thread::scope(|scope| {
        for guesser in 0..16 {
            let (house, answers, right) = (&house, &answers, &right);
            scope.spawn(move || {
                for round in 0..4 {
                    let Ok(mut ftp) = Ftp::try_connect(house.address) else { continue };
                    for n in 0..4 {
                        // Every eighth guess is right: as if the guesser had come to it.
                        let is_right = (guesser + round + n) % 8 == 7;
                        let password = if is_right { PASSWORD } else { "guess" };
                        let Ok(_) = ftp.try_command(&format!("USER {PARTNER}")) else { break };
                        let Ok(reply) = ftp.try_command(&format!("PASS {password}")) else { break };
                        if reply.code == 230 {
                            right.fetch_add(1, Ordering::Relaxed);
                            break;
                        }
                        answers.lock().unwrap().insert(reply.text);
                    }
                }
            });
        }
    });
    let answers = answers.into_inner().unwrap();
    assert_eq!(answers.into_iter().collect::<Vec<_>>(), ["530 Login incorrect\r\n"]);
    println!("{} came to it", right.load(Ordering::Relaxed));
    // From an address that the name has never come from: one who has guessed there waits, whatever the password.
    let fails = |name: &str, password: &str| {
        let stranger = connect_from(Ipv4Addr::new(127, 0, 0, 2).into(), house.address).unwrap();
        let mut ftp = Ftp::over(stranger).unwrap();
        ftp.command(&format!("USER {name}"));
        ftp.command(&format!("PASS {password}")).text
    };
    let unknown = fails("nobody-at-all", "guess");
    assert_eq!(unknown, "530 Login incorrect\r\n");
    for _ in 0..6 {
        assert_eq!(fails(PARTNER, "guess"), unknown);
    }
    assert_eq!(fails(PARTNER, PASSWORD), unknown, "the right password is of no use to one who guesses");
    wait_until("connections are counted", || house.partners.connections() <= 2);
}
