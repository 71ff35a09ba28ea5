//! The names that a server answers to. A page of another site that has its own name lead here (DNS rebinding) sends that
//! name as the Host, and is refused.

use std::{
    fmt,
    net::{Ipv4Addr, Ipv6Addr},
    str::FromStr,
};

use hyper::{
    Uri, Version,
    header::{HOST, HeaderMap},
};
use serde::{Deserialize, Serialize};

/// The name of a host, in lower case and without a port.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct HostName(String);

/// The reason why a text is no name of a host.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no name of a host; write for example \"files.example.org\", without scheme and port")]
pub struct BadHost(String);

impl FromStr for HostName {
    type Err = BadHost;

    fn from_str(text: &str) -> Result<Self, BadHost> {
        let is_label = |label: &str| {
            (1..=63).contains(&label.len()) && label.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_".contains(&b))
        };
        let name = without_dot(text);
        match name.len() <= 253 && name.split('.').all(is_label) {
            true => Ok(Self(name.to_ascii_lowercase())),
            false => Err(BadHost(text.to_owned())),
        }
    }
}

impl TryFrom<String> for HostName {
    type Error = BadHost;

    fn try_from(text: String) -> Result<Self, BadHost> {
        text.parse()
    }
}

impl From<HostName> for String {
    fn from(name: HostName) -> Self {
        name.0
    }
}

impl fmt::Display for HostName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// The Host of a request, as this server sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Hosts {
    /// It is one of ours, or the client speaks HTTP/1.0 and names none.
    Ours,
    /// It is another server's.
    Others,
    /// There is none, or there are several. (RFC 9112, 3.2)
    Bad,
}

impl Hosts {
    /// Judges a request by the names that the server answers to: none stands for any. An address is always one of ours: no
    /// name of another site is one.
    #[must_use]
    pub fn of(version: Version, target: &Uri, headers: &HeaderMap, ours: &[HostName]) -> Self {
        let mut given = headers.get_all(HOST).iter();
        let first = given.next();
        if given.next().is_some() || (first.is_none() && version == Version::HTTP_11) {
            return Self::Bad;
        }
        let is_ours = |host: &str| ours.is_empty() || is_one_of(ours, host);
        let by_header = first.is_none_or(|host| host.to_str().is_ok_and(is_ours));
        // A target in absolute form names the host as well, and would have the last word. (RFC 9112, 3.2.2)
        let by_target = target.authority().is_none_or(|authority| is_ours(authority.as_str()));
        if by_header && by_target { Self::Ours } else { Self::Others }
    }
}

fn is_one_of(ours: &[HostName], host: &str) -> bool {
    if let Some((address, port)) = host.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return address.parse::<Ipv6Addr>().is_ok() && is_port(port);
    }
    let (name, port) = host.find(':').map_or((host, ""), |at| host.split_at(at));
    let name = without_dot(name);
    is_port(port) && (name.parse::<Ipv4Addr>().is_ok() || ours.iter().any(|one| one.0.eq_ignore_ascii_case(name)))
}

fn is_port(text: &str) -> bool {
    text.is_empty() || text.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
}

fn without_dot(name: &str) -> &str {
    name.strip_suffix('.').unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judged(version: Version, target: &str, hosts: &[&'static str], ours: &[&str]) -> Hosts {
        let mut headers = HeaderMap::new();
        for host in hosts {
            headers.append(HOST, host.parse().unwrap());
        }
        let ours: Vec<HostName> = ours.iter().map(|one| one.parse().unwrap()).collect();
        Hosts::of(version, &target.parse().unwrap(), &headers, &ours)
    }

    #[test]
    fn only_our_names_and_addresses_are_ours() {
        let ours = ["files.example.org", "files"];
        for (host, expected) in [
            ("files.example.org", Hosts::Ours),
            ("FILES.example.ORG:8443", Hosts::Ours),
            ("files.example.org.", Hosts::Ours),
            ("192.0.2.1:8080", Hosts::Ours),
            ("[2001:db8::1]:8080", Hosts::Ours),
            ("evil.example", Hosts::Others),
            ("files.example.org.evil.example", Hosts::Others),
            ("evilfiles.example.org", Hosts::Others),
            ("192.0.2.1.evil.example", Hosts::Others),
            ("[2001:db8::1].evil.example", Hosts::Others),
            ("files:80@evil.example", Hosts::Others),
            ("localhost", Hosts::Others),
            ("", Hosts::Others),
        ] {
            assert_eq!(judged(Version::HTTP_11, "/", &[host], &ours), expected, "{host}");
            assert_eq!(judged(Version::HTTP_11, "/", &[host], &[]), Hosts::Ours, "{host}");
        }
    }

    #[test]
    fn a_target_with_a_host_counts_too_and_there_is_one_host() {
        let ours = ["files"];
        assert_eq!(judged(Version::HTTP_11, "http://evil.example/", &["files"], &ours), Hosts::Others);
        assert_eq!(judged(Version::HTTP_11, "http://files/", &["files"], &ours), Hosts::Ours);
        assert_eq!(judged(Version::HTTP_11, "/", &[], &ours), Hosts::Bad);
        assert_eq!(judged(Version::HTTP_11, "/", &["files", "files"], &ours), Hosts::Bad);
        assert_eq!(judged(Version::HTTP_10, "/", &[], &ours), Hosts::Ours);
    }

    #[test]
    fn what_is_no_name_is_refused() {
        for bad in ["", "http://a", "a:80", "a b", "a..b", "[::1]", "a/"] {
            assert!(bad.parse::<HostName>().is_err(), "{bad}");
        }
    }
}
