//! The FTP door behind a proxy that says whose connections it passes on: what is counted, locked out and compared is the
//! client's own address, and nobody else's word for it is taken.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::disallowed_methods,
    reason = "a test says so by failing, and bounds its waits by the machine's clock"
)]

mod harness;

use std::{
    io::{Read, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use forebay::partners::Policy;
use harness::{Ftp, House, PARTNER, PASSWORD, Plan, Stream, wait_until};

const CLIENT: &str = "192.0.2.7";
/// An address of this machine that is no proxy.
const STRANGER: Ipv4Addr = Ipv4Addr::new(127, 0, 0, 9);

/// Only 127.0.0.1 is a proxy.
fn plan() -> Plan {
    let mut plan = Plan::default();
    plan.ftp.proxy_protocol_from = vec!["127.0.0.1".parse().unwrap()];
    plan
}

fn header(client: &str) -> Vec<u8> {
    format!("PROXY TCP4 {client} 198.51.100.1 5000 21\r\n").into_bytes()
}

fn binary_header(client: Ipv4Addr) -> Vec<u8> {
    let addresses = [&client.octets()[..], &[198, 51, 100, 1], &[0x13, 0x88, 0, 21]].concat();
    [&b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c"[..], &addresses].concat()
}

fn connect_from(from: Ipv4Addr, to: SocketAddr) -> TcpStream {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.bind(&SocketAddr::from((from, 0)).into()).unwrap();
    socket.connect(&to.into()).unwrap();
    let stream: TcpStream = socket.into();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream
}

/// A connection that the proxy passes on.
fn passed(house: &House, header: &[u8]) -> std::io::Result<Ftp> {
    let mut stream = TcpStream::connect(house.address)?;
    stream.write_all(header)?;
    Ftp::over(stream)
}

fn session(house: &House, header: &[u8]) -> Ftp {
    let mut ftp = passed(house, header).unwrap();
    ftp.login(PARTNER, PASSWORD);
    ftp
}

/// The port of EPSV, with nobody connected to it yet.
fn port(ftp: &mut Ftp, house: &House) -> SocketAddr {
    let reply = ftp.command("EPSV");
    assert_eq!(reply.code, 229, "{}", reply.text);
    let port = reply.text.split('|').nth(3).unwrap().parse().unwrap();
    SocketAddr::new(house.address.ip(), port)
}

#[test]
fn a_session_is_that_of_the_client_in_both_versions() {
    let house = House::new(plan());
    for (header, peer) in [
        (header(CLIENT), CLIENT),
        (binary_header(Ipv4Addr::new(192, 0, 2, 8)), "192.0.2.8"),
        (b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 21\r\n".to_vec(), "2001:db8::7"),
        (b"PROXY UNKNOWN\r\n".to_vec(), "127.0.0.1"),
    ] {
        let mut ftp = session(&house, &header);
        assert_eq!(house.partners.sessions()[0].peer.ip(), peer.parse::<IpAddr>().unwrap());
        assert_eq!(ftp.command("QUIT").code, 221);
        wait_until("it ends", || house.partners.sessions().is_empty());
    }
}

#[test]
fn commands_and_a_handshake_may_follow_the_header_at_once() {
    let mut plan = plan();
    plan.ftp.implicit_listen = Some(SocketAddr::from(([127, 0, 0, 1], 0)));
    let house = House::new(plan);
    let mut ftp = passed(&house, &[&header(CLIENT)[..], format!("USER {PARTNER}\r\n").as_bytes()].concat()).unwrap();
    assert_eq!(ftp.reply().code, 331);
    let mut stream = TcpStream::connect(house.implicit.unwrap()).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    stream.write_all(&header(CLIENT)).unwrap();
    let mut stream = Stream::secured(stream).unwrap();
    let mut greeting = [0; 4];
    stream.read_exact(&mut greeting).unwrap();
    assert_eq!(&greeting, b"220 ");
}

#[test]
fn from_others_a_header_is_a_bad_command_and_changes_nothing() {
    let house = House::new(plan());
    let mut stream = connect_from(STRANGER, house.address);
    stream.write_all(&header(CLIENT)).unwrap();
    let mut ftp = Ftp::over(stream).unwrap();
    assert_eq!(ftp.greeting.code, 220);
    assert_eq!(ftp.reply().code, 530);
    ftp.login(PARTNER, PASSWORD);
    assert_eq!(house.partners.sessions()[0].peer.ip(), IpAddr::from(STRANGER));
    // The other version is no text at all.
    let mut stream = connect_from(STRANGER, house.address);
    stream.write_all(&binary_header(Ipv4Addr::new(192, 0, 2, 7))).unwrap();
    let mut ftp = Ftp::over(stream).unwrap();
    assert!((500..600).contains(&ftp.reply().code));
    // Nor does a proxy get to speak for another with a second header.
    let mut ftp = passed(&house, &[header(CLIENT), header("192.0.2.99")].concat()).unwrap();
    assert_eq!(ftp.reply().code, 530);
    ftp.login(PARTNER, PASSWORD);
    assert!(house.partners.sessions().iter().all(|session| session.peer.ip().to_string() != "192.0.2.99"));
}

#[test]
fn a_proxy_that_does_not_say_whose_it_is_is_closed() {
    let house = House::new(plan());
    let began = Instant::now();
    for bad in [
        &b"USER demo\r\nPASS secret\r\n"[..],
        b"PROXY TCP4 nonsense nonsense 1 2\r\n",
        &[b'x'; 100_000],
        // Nothing at all, and a header that stops in the middle.
        b"",
        b"PROXY TCP4 192.0.2.7 198.51",
    ] {
        let mut stream = TcpStream::connect(house.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
        let _ = stream.write_all(bad);
        let mut got = Vec::new();
        // Closed, or reset with what was not read; not a word is said either way.
        let _ = stream.read_to_end(&mut got);
        assert!(got.is_empty(), "{}", String::from_utf8_lossy(&got));
        assert!(began.elapsed() < Duration::from_secs(18));
    }
    assert_eq!(house.partners.connections(), 0);
    assert_eq!(session(&house, &header(CLIENT)).store_passed(&house, CLIENT), 226);
}

#[test]
fn connections_are_counted_by_client_and_not_by_proxy() {
    let mut plan = plan();
    plan.limits.max_connections_per_address = 2;
    let house = House::new(plan);
    let mut kept = Vec::new();
    for client in 1..=3 {
        for _ in 0..2 {
            kept.push(passed(&house, &header(&format!("192.0.2.{client}"))).unwrap());
        }
    }
    assert!(kept.iter().all(|ftp| ftp.greeting.code == 220));
    assert_eq!(passed(&house, &header("192.0.2.2")).unwrap().greeting.code, 421);
}

#[test]
fn failed_logins_lock_out_the_client_and_not_the_proxy() {
    let mut plan = plan();
    (plan.limits.free_failures, plan.limits.max_failed_logins) = (1, 100);
    plan.limits.first_wait = Duration::from_secs(60);
    let house = House::new(plan);
    let mut bad = passed(&house, &header(CLIENT)).unwrap();
    // Under names of its own, so that it is the address that has to wait.
    for n in 0..6 {
        assert_eq!(bad.command(&format!("USER stranger{n}")).code, 331);
        assert_eq!(bad.command("PASS wrong").code, 530);
    }
    let login = |ftp: &mut Ftp| {
        assert_eq!(ftp.command(&format!("USER {PARTNER}")).code, 331);
        ftp.command(&format!("PASS {PASSWORD}")).code
    };
    assert_eq!(login(&mut bad), 530, "the right password too");
    assert_eq!(login(&mut passed(&house, &header("192.0.2.8")).unwrap()), 230);
}

#[test]
fn where_a_partner_may_come_from_is_held_against_the_client() {
    let policy = Policy { allow_from: vec!["192.0.2.0/24".parse().unwrap()], ..Policy::default() };
    let house = House::new(Plan { policy, ..plan() });
    session(&house, &header(CLIENT));
    let mut ftp = passed(&house, &header("203.0.113.1")).unwrap();
    assert!(ftp.try_login(PARTNER, PASSWORD).is_err());
}

#[test]
fn a_data_connection_is_taken_from_the_client_alone() {
    let house = House::new(plan());
    // The client is an address of this machine, so that it can also connect by itself.
    let client = Ipv4Addr::new(127, 0, 0, 7);
    let mut ftp = session(&house, &header(&client.to_string()));
    for (verb, direct) in [("STOR a.hl7", false), ("STOR b.hl7", true)] {
        let at = port(&mut ftp, &house);
        assert_eq!(ftp.command(verb).code, 150);
        // A stranger, the proxy for another client, and the proxy for itself come first, and are turned away.
        let mut thieves =
            vec![connect_from(STRANGER, at), TcpStream::connect(at).unwrap(), TcpStream::connect(at).unwrap()];
        thieves[1].write_all(&header("127.0.0.8")).unwrap();
        thieves[2].write_all(b"PROXY UNKNOWN\r\n").unwrap();
        for thief in &mut thieves {
            thief.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            let _ = thief.write_all(b"not what was meant");
            assert!(!matches!(thief.read(&mut [0]), Ok(1..)));
        }
        let mut data = if direct {
            connect_from(client, at)
        } else {
            let mut data = TcpStream::connect(at).unwrap();
            data.write_all(&header(&client.to_string())).unwrap();
            data
        };
        data.write_all(b"what was meant").unwrap();
        drop(data);
        assert_eq!(ftp.reply().code, 226);
    }
    let entries = house.entries();
    assert_eq!(entries.len(), 2);
    for entry in &entries {
        assert_eq!(house.bytes(entry), b"what was meant");
    }
}

#[test]
fn pasv_names_what_the_client_has_connected_to() {
    let house = House::new(plan());
    let mut ftp = session(&house, &header(CLIENT));
    assert!(ftp.command("PASV").text.contains("(198,51,100,1,"));
    let mut six = session(&house, b"PROXY TCP6 2001:db8::7 2001:db8::1 5000 21\r\n");
    assert_eq!((six.command("PASV").code, six.command("EPSV 2").code, six.command("EPSV 1").code), (425, 229, 522));
}

#[test]
fn a_proxy_is_not_waited_for_when_the_door_closes() {
    let mut house = House::new(plan());
    let mut late = TcpStream::connect(house.address).unwrap();
    late.write_all(b"PROXY TCP4 ").unwrap();
    wait_until("it has its place", || house.partners.connections() == 1);
    assert!(house.close_doors() < Duration::from_secs(5));
    late.write_all(&header(CLIENT)[b"PROXY TCP4 ".len()..]).unwrap();
    let mut ftp = Ftp::over(late);
    let last = ftp.as_mut().map_or(421, |ftp| if ftp.greeting.code == 220 { ftp.reply().code } else { 421 });
    assert_eq!(last, 421);
    assert!(ftp.map_or(true, |mut ftp| ftp.try_command("NOOP").is_err()));
}

trait Passed {
    fn store_passed(&mut self, house: &House, client: &str) -> u16;
}

impl Passed for Ftp {
    /// An upload through the proxy.
    fn store_passed(&mut self, house: &House, client: &str) -> u16 {
        let mut data = TcpStream::connect(port(self, house)).unwrap();
        data.write_all(&header(client)).unwrap();
        assert_eq!(self.command("STOR a.hl7").code, 150);
        data.write_all(b"data").unwrap();
        drop(data);
        self.reply().code
    }
}
