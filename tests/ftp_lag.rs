//! Clients that are killed behind a network in which the end of the data arrives earlier than that of the control
//! connection, or later. What plain FTP can tell ends there; docs/PARTNERS.md says which policy tells more.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::ops::Range;

use forebay::partners::{CloseNotify, Complete, Policy};
use harness::{
    Door, House, Plan,
    killed::{held_and_not_committed, kill},
    lag::{Lag, Network},
};

/// Some milliseconds for each piece, on both connections.
const BOTH: (Range<u64>, Range<u64>) = (0..20, 0..20);
/// The end of the control connection is always late, by more than the longest settle time.
const CONTROL_LATE: (Range<u64>, Range<u64>) = (100..150, 0..1);

/// Where what becomes of them hangs on the moment, many are killed; where it is the same each time, some will do.
const MANY: usize = 200;
const SOME: usize = 40;

fn killed_behind(clients: usize, lag: (Range<u64>, Range<u64>), door: Door, policy: Policy) -> usize {
    let plan = Plan { policy, ..Plan::default() };
    let ports = plan.ftp.passive_ports;
    let house = House::new(plan);
    let network = Network::new(house.address, ports.first..ports.last + 1, &Lag { control_ms: lag.0, data_ms: lag.1 });
    let seed = kill(clients, &house, network.address, door);
    let held = held_and_not_committed(&house, seed);
    println!("{door:?}: {held} of {clients} wait for an operator or a name");
    held
}

#[test]
fn heavy_killed_behind_lag_in_the_clear() {
    killed_behind(MANY, BOTH, Door::Ftp, Policy::default());
}

#[test]
fn heavy_killed_behind_lag_over_tls() {
    killed_behind(MANY, BOTH, Door::Ftps, Policy::default());
}

#[test]
fn heavy_killed_where_the_control_connection_ends_late_in_the_clear() {
    killed_behind(SOME, CONTROL_LATE, Door::Ftp, Policy::default());
}

#[test]
fn heavy_killed_where_the_control_connection_ends_late_with_confirmed() {
    killed_behind(SOME, CONTROL_LATE, Door::Ftp, Policy { complete: Complete::Confirmed, ..Policy::default() });
}

#[test]
fn heavy_killed_where_the_control_connection_ends_late_with_rename() {
    killed_behind(SOME, CONTROL_LATE, Door::Ftp, Policy { complete: Complete::Rename, ..Policy::default() });
}

/// A client that dies sends no close_notify, so that nothing depends on which end arrives first.
#[test]
fn heavy_killed_where_the_control_connection_ends_late_with_close_notify() {
    let policy = Policy { close_notify: CloseNotify::Refuse, ..Policy::default() };
    assert_eq!(killed_behind(SOME, CONTROL_LATE, Door::Ftps, policy), 0);
}
