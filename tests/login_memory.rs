//! What logins leave behind in memory: a run of argon2id takes 19 MiB, and each has a thread of its own.
#![allow(clippy::unwrap_used, clippy::disallowed_methods, reason = "a test may fail, and reads the machine's clock")]

use std::{net::IpAddr, sync::Arc, time::Duration};

use forebay::{
    clock::SystemClock,
    partners::{Limits, Partners, Policies, Policy},
};
use tokio::runtime::{Builder, Runtime};

/// As many threads as the allocator of a small machine gives an arena each.
const THREADS: usize = 8;
const RUN_KIB: u64 = 19 << 10;

fn resident_kib() -> u64 {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<u64>().unwrap() * 4
}

/// One login after the other, each verified on another thread that lives on.
#[test]
fn logins_on_many_threads_leave_no_memory_behind() {
    let data = tempfile::tempdir().unwrap();
    // Every login is verified, none is remembered.
    let limits = Limits { verified_for: Duration::ZERO, ..Limits::default() };
    let policies = Policies::new(Policy::default(), &[]);
    let partners = Partners::open(data.path(), limits, policies, Arc::new(SystemClock::new())).unwrap();
    partners.add(&"Clinic".parse().unwrap(), "correct horse battery", "").unwrap();
    let peer: IpAddr = "192.0.2.1".parse().unwrap();
    let runtimes: Vec<Runtime> = (0..THREADS).map(|_| Builder::new_current_thread().build().unwrap()).collect();
    let login = |on: &Runtime| on.block_on(partners.verify("Clinic", "correct horse battery", peer)).map(drop);
    let before = resident_kib();
    runtimes.iter().for_each(|on| login(on).unwrap());
    let more = resident_kib().saturating_sub(before);
    println!("{more} KiB more");
    assert!(more < RUN_KIB / 2, "{THREADS} logins left {more} KiB behind");
}
