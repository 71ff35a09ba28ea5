//! The origin of connections: an address, and the networks around it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use serde::{Deserialize, Serialize};

/// The origin of logins: an IPv4 address, or an IPv6 /64, since one machine can use all addresses of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "IpAddr", into = "IpAddr")]
pub struct Origin(IpAddr);

/// A network that may be one attacker's: an IPv4 /24, an IPv6 /56 or /48.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Around {
    /// The first address of it.
    pub address: IpAddr,
    /// True for the widest: it may have four times as many connections.
    pub is_wide: bool,
}

impl Origin {
    /// Of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self(match address.to_canonical() {
            IpAddr::V6(address) => IpAddr::V6(masked(address, 64)),
            address => address,
        })
    }

    /// The networks that it lies in.
    pub fn around(self) -> impl Iterator<Item = Around> {
        let around = |address, is_wide| Some(Around { address, is_wide });
        let networks = match self.0 {
            IpAddr::V4(address) => {
                let network = Ipv4Addr::from_bits(address.to_bits() & (u32::MAX << 8));
                [around(network.into(), false), None]
            }
            IpAddr::V6(address) => {
                [around(masked(address, 56).into(), false), around(masked(address, 48).into(), true)]
            }
        };
        networks.into_iter().flatten()
    }
}

impl From<IpAddr> for Origin {
    fn from(address: IpAddr) -> Self {
        Self::of(address)
    }
}

impl From<Origin> for IpAddr {
    fn from(origin: Origin) -> Self {
        origin.0
    }
}

fn masked(address: Ipv6Addr, prefix: u32) -> Ipv6Addr {
    Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << (128 - prefix)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbours_share_networks() {
        let around = |text: &str| {
            let origin = Origin::of(text.parse().unwrap());
            origin.around().map(|around| (around.address.to_string(), around.is_wide)).collect::<Vec<_>>()
        };
        assert_eq!(around("192.0.2.77"), [("192.0.2.0".to_owned(), false)]);
        assert_eq!(around("::ffff:192.0.2.77"), around("192.0.2.1"));
        let wide = [("2001:db8:1:200::".to_owned(), false), ("2001:db8:1::".to_owned(), true)];
        assert_eq!(around("2001:db8:1:2ff::9"), wide);
    }
}
