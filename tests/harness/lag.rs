//! A network between client and server in which control and data connections lag, each by a time of its own.
//!
//! It stands at another loopback address with the server's own ports, so nothing in the protocol tells of it, in TLS
//! neither. What ends in order on one side ends in order on the other, what is reset is reset, in the order of the
//! connection it belongs to, and late.

use std::{
    io::{ErrorKind, Read, Write},
    net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream},
    ops::Range,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

/// How late what a client sends arrives, in milliseconds.
#[derive(Clone, Debug)]
pub struct Lag {
    pub control_ms: Range<u64>,
    pub data_ms: Range<u64>,
}

pub struct Network {
    pub address: SocketAddr,
    over: Arc<AtomicBool>,
}

enum Event {
    Bytes(Vec<u8>),
    End,
    Reset,
}

impl Network {
    pub fn new(server: SocketAddr, data_ports: Range<u16>, lag: &Lag) -> Self {
        let here = Ipv4Addr::new(127, 0, 0, 3);
        let over = Arc::new(AtomicBool::new(false));
        let listen = |port: u16, ms: Range<u64>| {
            let Ok(listener) = TcpListener::bind((here, port)) else { panic!("{here}:{port} is taken") };
            let (over, to) = (over.clone(), SocketAddr::new(server.ip(), port));
            thread::spawn(move || {
                for (number, client) in listener.incoming().enumerate() {
                    if over.load(Ordering::Relaxed) {
                        return;
                    }
                    let (Ok(client), Ok(server)) = (client, TcpStream::connect(to)) else { continue };
                    join(client, server, &ms, u64::from(port) << 32 | number as u64);
                }
            });
        };
        listen(server.port(), lag.control_ms.clone());
        data_ports.for_each(|port| listen(port, lag.data_ms.clone()));
        Self { address: (here, server.port()).into(), over }
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
    }
}

fn join(client: TcpStream, server: TcpStream, ms: &Range<u64>, seed: u64) {
    for stream in [&client, &server] {
        stream.set_nodelay(true).unwrap();
    }
    carry(client.try_clone().unwrap(), server.try_clone().unwrap(), ms.clone(), seed);
    carry(server, client, 0..1, seed);
}

/// One direction.
fn carry(mut from: TcpStream, mut to: TcpStream, ms: Range<u64>, seed: u64) {
    let (give, take) = mpsc::channel::<(Instant, Event)>();
    let mut random = StdRng::seed_from_u64(seed);
    thread::spawn(move || {
        let mut due = Instant::now();
        loop {
            let mut bytes = vec![0; 64 << 10];
            let event = match from.read(&mut bytes) {
                Ok(0) => Event::End,
                Ok(count) => {
                    bytes.truncate(count);
                    Event::Bytes(bytes)
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => continue,
                Err(_) => Event::Reset,
            };
            let last = !matches!(event, Event::Bytes(_));
            // Nothing overtakes within a connection.
            due = due.max(Instant::now() + Duration::from_millis(random.random_range(ms.clone())));
            if give.send((due, event)).is_err() || last {
                break;
            }
        }
        // Who ended in order may answer with a reset what comes then.
        let mut ended = [PollFd::new(&from, PollFlags::empty())];
        let wait = Timespec { tv_sec: 2, tv_nsec: 0 };
        if poll(&mut ended, Some(&wait)).is_ok() && ended[0].revents().contains(PollFlags::ERR) {
            let due = due.max(Instant::now() + Duration::from_millis(random.random_range(ms)));
            // The other side may be gone.
            let _ = give.send((due, Event::Reset));
        }
    });
    thread::spawn(move || {
        while let Ok((due, event)) = take.recv() {
            thread::sleep(due.saturating_duration_since(Instant::now()));
            let passed = match event {
                Event::Bytes(bytes) => to.write_all(&bytes),
                Event::End => to.shutdown(Shutdown::Write),
                Event::Reset => Err(ErrorKind::ConnectionReset.into()),
            };
            if passed.is_err() {
                // Dissolves the connection with a reset, at once and not when the last handle is gone.
                let _ = rustix::net::connect_unspec(&to);
                return;
            }
        }
    });
}
