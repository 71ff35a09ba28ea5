//! Networks that a partner may come from.

use std::{fmt, net::IpAddr, str::FromStr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An address with a prefix (`10.1.0.0/16`, `2001:db8::/32`), or a single address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network(IpNet);

/// Why a text is no network.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadNetwork {
    /// Neither an address nor an address with a prefix.
    #[error("{0:?} is no network; write for example \"10.1.0.0/16\", \"2001:db8::/32\" or \"192.0.2.7\"")]
    Syntax(String),
    /// Bits are set behind the prefix: more likely a slip than meant.
    #[error("{0:?} has bits behind its prefix; did you mean \"{1}\"")]
    Bits(String, IpNet),
}

impl Network {
    /// Returns true if `address` is in the network. An IPv4 address that arrives mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = BadNetwork;

    fn from_str(text: &str) -> Result<Self, BadNetwork> {
        if let Ok(address) = text.parse::<IpAddr>() {
            return Ok(Self(IpNet::from(address.to_canonical())));
        }
        let net: IpNet = text.parse().map_err(|_| BadNetwork::Syntax(text.to_owned()))?;
        if net.trunc() != net {
            return Err(BadNetwork::Bits(text.to_owned(), net.trunc()));
        }
        Ok(Self(net))
    }
}

impl TryFrom<String> for Network {
    type Error = BadNetwork;

    fn try_from(text: String) -> Result<Self, BadNetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        network.to_string()
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn networks_hold_their_addresses() {
        for (network, inside, outside) in [
            ("10.1.0.0/16", "10.1.255.7", "10.2.0.1"),
            ("192.0.2.7", "192.0.2.7", "192.0.2.8"),
            ("0.0.0.0/0", "198.51.100.1", "2001:db8::1"),
            ("2001:db8::/32", "2001:db8:5::1", "2001:db9::1"),
            ("127.0.0.0/8", "::ffff:127.0.0.1", "::1"),
            ("::ffff:192.0.2.7", "192.0.2.7", "192.0.2.8"),
        ] {
            let network: Network = network.parse().unwrap();
            assert!(network.contains(inside.parse().unwrap()), "{network} holds {inside}");
            assert!(!network.contains(outside.parse().unwrap()), "{network} does not hold {outside}");
        }
    }

    #[test]
    fn slips_are_told() {
        for (text, why) in [
            ("", "is no network"),
            ("10.1", "is no network"),
            ("10.1.0.0/33", "is no network"),
            ("host.example", "is no network"),
            ("10.1.2.3/16", "did you mean \"10.1.0.0/16\""),
        ] {
            let fault = text.parse::<Network>().unwrap_err().to_string();
            assert!(fault.contains(why), "{text:?}: {fault}");
        }
    }
}
