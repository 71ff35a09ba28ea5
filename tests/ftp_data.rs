//! Whose a data connection is: ports that nobody can foretell, a second connection that ends the transfer, and TLS
//! sessions that are resumed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail, and waits")]

mod harness;

use std::{
    io::{Read, Write},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::Arc,
};

use forebay::partners::{DataResumption, Habit};
use harness::{Ftp, House, PARTNER, PASSWORD, Plan, Reply, Stream, files_below, speaking, wait_until};

/// In TLS 1.3 a client uses a ticket once, and the control connection gives two.
#[test]
fn each_data_connection_that_resumes_gives_the_ticket_for_the_next() {
    let mut plan = Plan::default();
    plan.ftp.data_resumption = DataResumption::Required;
    let house = House::new(plan);
    for version in [&rustls::version::TLS12, &rustls::version::TLS13] {
        let config = speaking(version);
        let mut ftp = Ftp::connect(house.address).auth_tls_with(config.clone()).unwrap();
        ftp.login(PARTNER, PASSWORD);
        ftp.protect();
        for number in 0..8 {
            let reply = store_with(&mut ftp, &format!("{number}"), &config);
            assert_eq!(reply.code, 226, "{version:?} {number}: {}", reply.text);
        }
        // A ticket of another session of the same client is none of this one.
        let mut other = Ftp::connect(house.address).auth_tls_with(speaking(version)).unwrap();
        other.login(PARTNER, PASSWORD);
        other.protect();
        assert_eq!(store_with(&mut other, "alien", &config).code, 522, "{version:?}");
        let control = speaking(version);
        let mut third = Ftp::connect(house.address).auth_tls_with(control.clone()).unwrap();
        third.login(PARTNER, PASSWORD);
        assert_eq!(store_with(&mut other, "control", &control).code, 522, "{version:?}");
    }
    assert_eq!(house.entries().len(), 16);
}

/// Uploads with a data connection of this client, and reads to the end of what comes on it.
fn store_with(ftp: &mut Ftp, name: &str, config: &Arc<rustls::ClientConfig>) -> Reply {
    let data = ftp.passive();
    assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
    let mut data = Stream::secured_with(data, config.clone()).unwrap();
    // Who is turned away may find the connection gone.
    let _ = data.write_all(b"data");
    let _ = data.try_finish();
    let _ = data.read(&mut [0]);
    drop(data);
    ftp.reply()
}

#[test]
fn a_partner_whose_clients_have_always_resumed_must_go_on_so() {
    let mut plan = Plan::default();
    plan.ftp.data_resumption = DataResumption::Auto;
    let quiet = "name = \"other\"\ndata_resumption = \"off\"";
    plan.overrides = vec![toml::from_str(quiet).unwrap()];
    let mut house = House::new(plan);
    let enter = |house: &House, user: &str, config: &Arc<rustls::ClientConfig>| {
        let mut ftp = Ftp::connect(house.address).auth_tls_with(config.clone()).unwrap();
        ftp.login(user, PASSWORD);
        ftp.protect();
        ftp
    };
    for name in ["varies", "other"] {
        house.partners.add(&name.parse().unwrap(), PASSWORD, "").unwrap();
    }
    let own = speaking(&rustls::version::TLS13);
    let strange = || speaking(&rustls::version::TLS13);
    // One that does not resume is taken as long as it is not known that all do: from then on none must.
    let mut varies = enter(&house, "varies", &own);
    assert_eq!(store_with(&mut varies, "first", &strange()).code, 226);
    for (user, code) in [("varies", 226), (PARTNER, 522), ("other", 226)] {
        let mut ftp = enter(&house, user, &own);
        for number in 0..11 {
            assert_eq!(store_with(&mut ftp, &format!("{number}"), &own).code, 226, "{user} {number}");
        }
        assert_eq!(store_with(&mut ftp, "stranger", &strange()).code, code, "{user}");
        assert_eq!(store_with(&mut ftp, "own", &own).code, 226, "{user}");
    }
    // It is kept with the account.
    let habit = |house: &House, user: &str| house.partners.get(user).unwrap().data_habit;
    wait_until("it is kept", || habit(&house, PARTNER) == Some(Habit::Resumes));
    assert_eq!([habit(&house, "varies"), habit(&house, "other")], [Some(Habit::Varies), None]);
    drop(varies);
    let data = house.data();
    house.close_doors();
    house.wait_alone();
    drop(house);
    let mut plan = Plan::default();
    plan.ftp.data_resumption = DataResumption::Auto;
    let house = House::on(plan, data);
    let mut ftp = enter(&house, PARTNER, &own);
    assert_eq!(store_with(&mut ftp, "stranger", &strange()).code, 522);
    assert_eq!(store_with(&mut ftp, "own", &own).code, 226);
    let mut ftp = enter(&house, "varies", &own);
    assert_eq!(store_with(&mut ftp, "stranger", &strange()).code, 226);
}

/// Whose bytes came first nobody can tell: nothing of them is kept.
#[test]
fn a_second_connection_to_a_data_port_ends_the_transfer_and_nothing_is_queued() {
    let house = House::new(Plan::default());
    let mut ftp = house.session();
    assert_eq!(ftp.store("there.hl7", &vec![7; 8 << 20]).code, 226);
    // Before the command, during the transfer, and at once with the end of a small file.
    for moment in ["before", "during", "at the end"] {
        let data = ftp.passive();
        let stranger = || TcpStream::connect(data.peer_addr().unwrap()).unwrap();
        let early = (moment == "before").then(stranger);
        assert_eq!(ftp.command("STOR stolen.hl7").code, 150, "{moment}");
        let mut own = &data;
        let _ = own.write_all(b"some data");
        if moment == "during" {
            let _ = own.write_all(&vec![b'x'; 2 << 20]);
            wait_until("some of it came", || house.partners.sessions()[0].bytes > 1 << 20);
        }
        let late = (moment != "before").then(stranger);
        if moment == "at the end" {
            data.shutdown(Shutdown::Write).unwrap();
        }
        let reply = ftp.reply();
        assert_eq!(reply.code, 425, "{moment}: {}", reply.text);
        assert!(reply.text.contains("nother connection"), "{}", reply.text);
        assert_eq!(ftp.command("SIZE stolen.hl7").code, 550, "{moment}: no partial is left");
        drop((early, late));
    }
    for command in ["RETR there.hl7", "LIST", "NLST"] {
        let data = ftp.passive();
        let stranger = TcpStream::connect(data.peer_addr().unwrap()).unwrap();
        let first = ftp.command(command);
        let last = if first.code == 150 { ftp.reply() } else { first };
        assert_eq!(last.code, 425, "{command}: {}", last.text);
        drop(stranger);
    }
    // A stranger that came first and begins no TLS is not waited for.
    let mut secure = Ftp::connect(house.address).auth_tls();
    secure.login(PARTNER, PASSWORD);
    secure.protect();
    let stranger = secure.passive();
    let own = TcpStream::connect(stranger.peer_addr().unwrap()).unwrap();
    let told = secure.command("STOR stolen.hl7");
    let told = if told.code == 150 { secure.reply() } else { told };
    assert!(told.code == 425 && told.text.contains("nother connection"), "{}", told.text);
    drop((stranger, own, secure));
    // A connection of another address is turned away and does no harm.
    let data = ftp.passive();
    assert_eq!(ftp.command("STOR own.hl7").code, 150);
    let elsewhere = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    elsewhere.bind(&SocketAddr::from(([127, 0, 0, 2], 0)).into()).unwrap();
    elsewhere.connect(&data.peer_addr().unwrap().into()).unwrap();
    assert_eq!(TcpStream::from(elsewhere).read(&mut [0]).unwrap_or(0), 0, "it is closed");
    (&data).write_all(b"own data").unwrap();
    drop(data);
    assert_eq!(ftp.reply().code, 226);
    let names: Vec<_> = house.entries().into_iter().map(|entry| entry.name).collect();
    assert_eq!(names, ["there.hl7", "own.hl7"]);
    assert!(files_below(&house.path("tmp")).is_empty() && files_below(&house.path("partials")).is_empty());
}

#[test]
fn data_ports_are_drawn_from_a_wide_range_by_default() {
    let mut plan = Plan::default();
    plan.ftp.passive_ports = forebay::doors::ftp::Options::default().passive_ports;
    let range = plan.ftp.passive_ports.range();
    let house = House::new(plan);
    let mut ftp = house.session();
    let ports: Vec<u16> = (0..20).map(|_| ftp.passive().peer_addr().unwrap().port()).collect();
    assert!(ports.iter().all(|port| range.contains(port)) && range.len() > 16_000, "{ports:?}");
    let steps = ports.windows(2).filter(|two| two[1].abs_diff(two[0]) < 100).count();
    assert!(steps < 5, "one does not tell the next: {ports:?}");
}
