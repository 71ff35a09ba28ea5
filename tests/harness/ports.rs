//! Ports for servers under test.
//!
//! Tests run side by side, each in a process of its own, and so may other servers. A port that was free a moment ago may
//! be taken before the server under test binds it, by another test or as the source of some connection. So ports come
//! from below those that the kernel gives to connections, and a lock on a file keeps each for this process until it ends.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, SocketAddr, TcpListener},
    path::PathBuf,
    sync::{LazyLock, Mutex},
};

const SINGLE: std::ops::Range<u16> = 10_000..20_000;
const BLOCKS: std::ops::Range<u16> = 200..320;
const BLOCK: u16 = 100;

static HELD: Mutex<Vec<File>> = Mutex::new(Vec::new());
static LOCKS: LazyLock<PathBuf> = LazyLock::new(|| {
    let dir = std::env::temp_dir().join(format!("forebay-test-ports-{}", rustix::process::getuid().as_raw()));
    fs::create_dir_all(&dir).expect("a directory for locks");
    dir
});

/// An address on loopback that nobody else uses while this process runs.
pub fn free_address() -> SocketAddr {
    let is_free = |port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let port = ours(SINGLE, |port| port).find(|port| is_free(*port)).expect("a free port");
    SocketAddr::from((Ipv4Addr::LOCALHOST, port))
}

/// A hundred ports for this process's data connections, as first and last.
pub fn free_ports() -> (u16, u16) {
    static OURS: LazyLock<(u16, u16)> = LazyLock::new(|| {
        let block = ours(BLOCKS, |block| block * BLOCK).next().expect("a block of ports");
        (block * BLOCK, block * BLOCK + BLOCK - 1)
    });
    *OURS
}

/// Members of `range` that this process can lock, each with a file that is named by `name`. What is given stays locked.
fn ours(range: std::ops::Range<u16>, name: fn(u16) -> u16) -> impl Iterator<Item = u16> {
    let len = u32::from(range.end - range.start);
    // Processes begin at different places, so that most of them find one at once.
    let start = std::process::id().wrapping_mul(31) % len;
    let all = (0..len).map(move |n| range.start + u16::try_from((start + n) % len).expect("within the range"));
    all.filter(move |member| {
        let file = File::options().create(true).truncate(false).write(true).open(LOCKS.join(name(*member).to_string()));
        let file = file.expect("a file for a lock");
        let is_ours = file.try_lock().is_ok();
        if is_ours {
            HELD.lock().expect("not poisoned").push(file);
        }
        is_ours
    })
}
