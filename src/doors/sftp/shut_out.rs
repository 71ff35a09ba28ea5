//! Clients that have no algorithm in common with the door: the operator is told which key of the configuration would
//! let them in.

use std::{collections::HashMap, net::IpAddr, time::Duration};

use parking_lot::Mutex;
use russh::AlgorithmKind;
use tracing::info;

use crate::{doors::core::Link, partners::Origin};

use super::{algorithms::List, context::SftpContext};

/// An address is told of once in this time.
const EVERY: Duration = Duration::from_secs(60 * 60);
/// Addresses that are told of in that time, so that a crowd of them does not fill the log.
const MOST_ADDRESSES: usize = 1_000;
/// What is told of a client's offer.
const OFFER_CHARACTERS: usize = 400;

/// The addresses that were told of, and when.
#[derive(Debug, Default)]
pub(super) struct ShutOut(Mutex<HashMap<(Origin, &'static str), Duration>>);

impl ShutOut {
    fn is_due(&self, address: IpAddr, kind: &'static str, now: Duration) -> bool {
        let mut told = self.0.lock();
        let key = (Origin::of(address), kind);
        if told.get(&key).is_some_and(|at| now.saturating_sub(*at) < EVERY) {
            return false;
        }
        told.retain(|_, at| now.saturating_sub(*at) < EVERY);
        told.len() < MOST_ADDRESSES && told.insert(key, now).is_none()
    }
}

/// Tells of a connection that ended, if it did for want of a common algorithm.
pub(super) fn tell(context: &SftpContext, link: &Link, error: &russh::Error) {
    let russh::Error::NoCommonAlgo { kind, theirs, .. } = error else { return };
    let (kind, list) = match kind {
        AlgorithmKind::Kex => ("key exchange", List::Kex),
        AlgorithmKind::Key => ("host key", List::HostKeys),
        AlgorithmKind::Cipher => ("cipher", List::Ciphers),
        AlgorithmKind::Mac => ("MAC", List::Macs),
        AlgorithmKind::Compression => return,
    };
    if !context.shut_out.is_due(link.peer.ip(), kind, context.common.clock.elapsed()) {
        return;
    }
    info!(peer = %link.peer.ip(), kind, offer = ?offer(theirs), advice = advice(list, theirs), "an SSH client was shut out");
}

fn offer(theirs: &[String]) -> String {
    let offer = theirs.join(",");
    match offer.char_indices().nth(OFFER_CHARACTERS) {
        Some((end, _)) => format!("{}…", &offer[..end]),
        None => offer,
    }
}

/// What the operator can do about it.
fn advice(list: List, theirs: &[String]) -> String {
    let known: Vec<String> = list.known().into_iter().filter(|name| theirs.contains(name)).collect();
    let key = list.key();
    match known.first() {
        Some(name) => format!("add {name:?} to [sftp] {key} to let it in"),
        None => format!("nothing that it offers is known to [sftp] {key}: it needs an update"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_told_of_once_an_hour_and_a_crowd_within_bounds() {
        let shut = ShutOut::default();
        let (one, hour) = ("192.0.2.1".parse().unwrap(), EVERY);
        assert!(shut.is_due(one, "MAC", hour) && !shut.is_due(one, "MAC", hour * 2 - Duration::from_secs(1)));
        assert!(shut.is_due(one, "cipher", hour), "another reason is news");
        let due = ["::ffff:192.0.2.1", "2001:db8::1", "2001:db8::2"];
        assert_eq!(due.map(|at| shut.is_due(at.parse().unwrap(), "MAC", hour)), [false, true, false]);
        let crowd = (0..5_000_u32).map(|n| IpAddr::V4((0x0a00_0000 + n).into()));
        assert_eq!(crowd.filter(|at| shut.is_due(*at, "MAC", hour)).count(), MOST_ADDRESSES - 3);
        assert!(shut.is_due(one, "MAC", hour * 2));
        assert!(!shut.is_due(one, "MAC", hour * 3 - Duration::from_secs(1)));
        assert!(shut.is_due(one, "MAC", hour * 3), "trying again and again puts it off no further");
    }

    #[test]
    fn the_advice_names_the_key_and_what_to_add() {
        let theirs = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect::<Vec<_>>();
        assert_eq!(
            advice(List::Macs, &theirs(&["hmac-md5", "hmac-sha2-256"])),
            "add \"hmac-sha2-256\" to [sftp] macs to let it in"
        );
        assert!(advice(List::Kex, &theirs(&["diffie-hellman-group1-sha1"])).contains("it needs an update"));
        assert_eq!(offer(&theirs(&[&"x".repeat(9_000)])).chars().count(), OFFER_CHARACTERS + 1);
    }
}
