//! A path between two TUN devices that loses, delays, doubles and reorders packets, and holds back the end of each
//! control connection above all.
//!
//! It knows IP and TCP headers and nothing of connections: the two ends are kernels that speak TCP with each other, so what
//! is acknowledged was acknowledged by the other end.

use std::{
    cmp::Reverse,
    collections::BinaryHeap,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;
use rand::{RngExt, SeedableRng, rngs::StdRng};
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::tun::{MTU, Tun};

/// The share of packets that are lost, that come twice, and that others overtake.
const LOST: f64 = 0.03;
const DOUBLED: f64 = 0.01;
const OVERTAKEN: f64 = 0.10;
const ALWAYS_MS: f64 = 2.0;
const JITTER_MS: f64 = 1.0;
const OVERTAKEN_MS: f64 = 20.0;
/// The end of a control connection, as its client sends it, comes later by up to so much.
const END_MS: f64 = 1_000.0;
/// The longest time for which a stop is not seen.
const TURN: Duration = Duration::from_millis(50);

/// What became of the packets.
#[derive(Clone, Copy, Debug, Default)]
pub struct Counts {
    pub packets: u64,
    pub lost: u64,
    pub doubled: u64,
    pub overtaken: u64,
    /// Ends of control connections, and those of them that were lost.
    pub ends: u64,
    pub ends_lost: u64,
}

pub struct LossyPath {
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    seen: Mutex<Seen>,
}

#[derive(Default)]
struct Seen {
    counts: Counts,
    packets: Vec<Packet>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Side {
    Client,
    Server,
}

/// A packet of TCP, and its fate.
struct Packet {
    at: DateTime<Utc>,
    from: Side,
    header: Header,
    fate: Vec<Duration>,
}

/// What a TCP header says (RFC 9293, 3.1).
#[derive(Clone, Copy, Debug)]
struct Header {
    client_port: u16,
    server_port: u16,
    sequence: u32,
    acknowledged: u32,
    flags: u8,
    data_bytes: usize,
}

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;

impl LossyPath {
    /// Carries packets between the devices until it is dropped.
    pub fn new(client: Tun, server: Tun, control_port: u16, seed: u64) -> Self {
        let shared = Arc::new(Shared::default());
        let mut carrier = Carrier {
            shared: shared.clone(),
            random: StdRng::seed_from_u64(seed),
            control_port,
            devices: [client, server],
            under_way: BinaryHeap::new(),
            number: 0,
        };
        let thread = Some(thread::spawn(move || carrier.run()));
        Self { shared, thread }
    }

    pub fn counts(&self) -> Counts {
        self.shared.seen.lock().counts
    }

    /// The packets of connections from these ports of the client, a line each, with when they came here.
    pub fn trace(&self, client_ports: &[u16]) -> String {
        let seen = self.shared.seen.lock();
        let of_them = seen.packets.iter().filter(|packet| client_ports.contains(&packet.header.client_port));
        of_them.map(|packet| format!("{packet}\n")).collect()
    }
}

impl Drop for LossyPath {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            // It says itself why it panicked.
            let _ = thread.join();
        }
    }
}

/// A packet on its way: when it is due, its number, where it comes from, its bytes.
type UnderWay = (Instant, u64, Side, Vec<u8>);

struct Carrier {
    shared: Arc<Shared>,
    random: StdRng,
    control_port: u16,
    /// The client's and the server's.
    devices: [Tun; 2],
    under_way: BinaryHeap<Reverse<UnderWay>>,
    number: u64,
}

impl Carrier {
    fn run(&mut self) {
        while !self.shared.over.load(Ordering::Relaxed) {
            self.wait();
            for from in [Side::Client, Side::Server] {
                self.take(from);
            }
            self.give();
        }
    }

    /// Waits for a packet that comes or is due.
    fn wait(&self) {
        let next = self.under_way.peek().map(|Reverse((due, ..))| due.saturating_duration_since(Instant::now()));
        let wait = Timespec::try_from(next.unwrap_or(TURN).min(TURN)).expect("is short");
        let mut ready = [0, 1].map(|side: usize| PollFd::new(&self.devices[side], PollFlags::IN));
        match poll(&mut ready, Some(&wait)) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => panic!("cannot wait for packets: {error}"),
        }
    }

    fn take(&mut self, from: Side) {
        let mut bytes = [0; MTU];
        while let Some(count) = self.devices[from as usize].read(&mut bytes) {
            self.carry(from, &bytes[..count]);
        }
    }

    /// Gives a packet its fate. Only IPv4 and TCP is carried: nothing else is of use there.
    fn carry(&mut self, from: Side, bytes: &[u8]) {
        let Some(header) = Header::read(from, bytes) else { return };
        let is_end = from == Side::Client && header.server_port == self.control_port && header.flags & (FIN | RST) != 0;
        let mut seen = self.shared.seen.lock();
        let counts = &mut seen.counts;
        counts.packets += 1;
        counts.ends += u64::from(is_end);
        let copies = match self.random.random::<f64>() {
            share if share < LOST => 0,
            share if share < LOST + DOUBLED => 2,
            _ => 1,
        };
        counts.lost += u64::from(copies == 0);
        counts.ends_lost += u64::from(copies == 0 && is_end);
        counts.doubled += u64::from(copies == 2);
        let mut fate = Vec::new();
        for _ in 0..copies {
            let mut ms = ALWAYS_MS + self.random.random_range(0.0..JITTER_MS);
            if self.random.random_bool(OVERTAKEN) {
                ms += self.random.random_range(0.0..OVERTAKEN_MS);
                counts.overtaken += 1;
            }
            if is_end {
                ms += self.random.random_range(0.0..END_MS);
            }
            let delay = Duration::from_secs_f64(ms / 1_000.0);
            fate.push(delay);
            self.number += 1;
            self.under_way.push(Reverse((Instant::now() + delay, self.number, from, bytes.to_vec())));
        }
        // The data itself would be most of the trace and says nothing.
        if header.server_port == self.control_port || header.flags & (FIN | SYN | RST) != 0 {
            seen.packets.push(Packet { at: Utc::now(), from, header, fate });
        }
    }

    fn give(&mut self) {
        while self.under_way.peek().is_some_and(|Reverse((due, ..))| *due <= Instant::now()) {
            let Some(Reverse((_, _, from, bytes))) = self.under_way.pop() else { return };
            let to = match from {
                Side::Client => Side::Server,
                Side::Server => Side::Client,
            };
            // A full device loses packets like any other.
            let has_room = self.devices[to as usize].write(&bytes);
            self.shared.seen.lock().counts.lost += u64::from(!has_room);
        }
    }
}

impl Header {
    /// Of an IPv4 packet (RFC 791, 3.1) that holds TCP.
    fn read(from: Side, packet: &[u8]) -> Option<Self> {
        const TCP: u8 = 6;
        let is_tcp = packet.len() >= 20 && packet[0] >> 4 == 4 && packet[9] == TCP;
        let start = usize::from(packet.first()? & 15) * 4;
        let tcp = packet.get(start..).filter(|tcp| is_tcp && tcp.len() >= 20)?;
        let short = |at: usize| u16::from_be_bytes([tcp[at], tcp[at + 1]]);
        let long = |at: usize| u32::from_be_bytes([tcp[at], tcp[at + 1], tcp[at + 2], tcp[at + 3]]);
        let (client_port, server_port) = match from {
            Side::Client => (short(0), short(2)),
            Side::Server => (short(2), short(0)),
        };
        let data_bytes = tcp.len().saturating_sub(usize::from(tcp[12] >> 4) * 4);
        Some(Self { client_port, server_port, sequence: long(4), acknowledged: long(8), flags: tcp[13], data_bytes })
    }
}

impl fmt::Display for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { at, from, header, fate } = self;
        let arrow = if *from == Side::Client { "->" } else { "<-" };
        let flags: String =
            "FSRPAU".char_indices().filter(|(bit, _)| header.flags >> bit & 1 == 1).map(|(_, c)| c).collect();
        write!(
            f,
            "{} {:5} {arrow} {:5} {flags:4} seq {} len {} ack {} ",
            at.format("%H:%M:%S%.3f"),
            header.client_port,
            header.server_port,
            header.sequence,
            header.data_bytes,
            header.acknowledged
        )?;
        match fate.as_slice() {
            [] => f.write_str("lost"),
            _ => fate.iter().try_for_each(|delay| write!(f, "+{:.1}ms ", delay.as_secs_f64() * 1_000.0)),
        }
    }
}
