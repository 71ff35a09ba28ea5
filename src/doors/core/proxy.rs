//! The PROXY protocol, versions 1 and 2, with which a load balancer says whose connection it passes on
//! (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! # Trust
//! Only addresses that are configured are asked for a header, and they must send one: nothing is guessed from what
//! comes. Whoever else sends a header has sent a bad first command. A header is bounded, must come at once, and is read
//! to its last byte and not further.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncReadExt},
    net::TcpStream,
    time::timeout,
};

use crate::partners::Network;

/// Proxies send it as the first thing.
const PATIENCE: Duration = Duration::from_secs(5);
/// A line with its end, by the specification.
const MOST_LINE_BYTES: usize = 107;
/// Addresses, and what else a proxy may tell behind them.
const MOST_BINARY_BYTES: usize = 4096;
const SIGNATURE: [u8; 12] = *b"\r\n\r\n\0\r\nQUIT\n";

/// A connection as its client sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::doors) struct Passed {
    /// The client.
    pub(in crate::doors) client: SocketAddr,
    /// What the client has connected to.
    pub(in crate::doors) reached: SocketAddr,
}

/// Whether connections from `address` begin with a header.
pub(in crate::doors) fn is_trusted(trusted: &[Network], address: IpAddr) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

/// Reads the header that a trusted proxy sends; none when it speaks for itself, as for health checks.
///
/// # Errors
/// When there is no valid header in time: the connection is to be closed.
pub(in crate::doors) async fn passed(stream: &mut TcpStream) -> io::Result<Option<Passed>> {
    timeout(PATIENCE, read(stream)).await?
}

/// Reads a header of either version.
async fn read<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Option<Passed>> {
    // Both forms are longer.
    let mut head = [0; SIGNATURE.len()];
    from.read_exact(&mut head).await?;
    if head == SIGNATURE { read_binary(from).await } else { read_line(from, &head).await }
}

/// Version 1: a line of text.
async fn read_line<R: AsyncRead + Unpin>(from: &mut R, head: &[u8]) -> io::Result<Option<Passed>> {
    if !head.starts_with(b"PROXY ") {
        return Err(bad("no PROXY header"));
    }
    let mut line = head.to_vec();
    while !line.ends_with(b"\r\n") {
        if line.len() >= MOST_LINE_BYTES {
            return Err(bad("a PROXY line that is too long"));
        }
        line.push(from.read_u8().await?);
    }
    let line = std::str::from_utf8(&line).map_err(|_| bad("a PROXY line that is no text"))?;
    let words: Vec<&str> = line.trim_end_matches("\r\n").split(' ').collect();
    let (client, reached) = match words[..] {
        ["PROXY", "UNKNOWN", ..] => return Ok(None),
        ["PROXY", "TCP4", from, to, from_port, to_port] => {
            (address::<Ipv4Addr>(from, from_port)?, address::<Ipv4Addr>(to, to_port)?)
        }
        ["PROXY", "TCP6", from, to, from_port, to_port] => {
            (address::<Ipv6Addr>(from, from_port)?, address::<Ipv6Addr>(to, to_port)?)
        }
        _ => return Err(bad("a PROXY line of another form")),
    };
    Ok(Some(Passed { client, reached }))
}

/// Reads an address and a port of a line. Only digits: `+21` is a number for Rust, and none here.
fn address<A: std::str::FromStr + Into<IpAddr>>(address: &str, port: &str) -> io::Result<SocketAddr> {
    let address = address.parse::<A>().map_err(|_| bad("a PROXY line with a bad address"))?;
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    let port = port.parse().ok().filter(|_| digits).ok_or_else(|| bad("a PROXY line with a bad port"))?;
    Ok(SocketAddr::new(address.into().to_canonical(), port))
}

/// Version 2: twelve bytes of signature, version and command, family, length, and the addresses.
async fn read_binary<R: AsyncRead + Unpin>(from: &mut R) -> io::Result<Option<Passed>> {
    let (what, family) = (from.read_u8().await?, from.read_u8().await?);
    let length = usize::from(from.read_u16().await?);
    if length > MOST_BINARY_BYTES {
        return Err(bad("a PROXY header that is too long"));
    }
    let mut rest = vec![0; length];
    from.read_exact(&mut rest).await?;
    match (what, family) {
        // For itself.
        (0x20, _) | (0x21, 0x00) => Ok(None),
        (0x21, 0x11) => addresses::<4>(&rest).map(Some),
        (0x21, 0x21) => addresses::<16>(&rest).map(Some),
        _ => Err(bad("a PROXY header of another form")),
    }
}

/// Both addresses of N bytes each, then both ports; what stands behind them is of no use here.
fn addresses<const N: usize>(bytes: &[u8]) -> io::Result<Passed>
where
    [u8; N]: Into<IpAddr>,
{
    let short = || bad("a PROXY header that is too short");
    let (client, rest) = bytes.split_first_chunk::<N>().ok_or_else(short)?;
    let (reached, rest) = rest.split_first_chunk::<N>().ok_or_else(short)?;
    let (client_port, rest) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let (reached_port, _) = rest.split_first_chunk::<2>().ok_or_else(short)?;
    let at = |address: [u8; N], port: [u8; 2]| {
        let address: IpAddr = address.into();
        SocketAddr::new(address.to_canonical(), u16::from_be_bytes(port))
    };
    Ok(Passed { client: at(*client, *client_port), reached: at(*reached, *reached_port) })
}

fn bad(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
}

#[cfg(test)]
mod tests {
    use rand::{RngExt, SeedableRng, rngs::StdRng};

    use super::*;

    async fn parsed(mut bytes: &[u8]) -> (io::Result<Option<Passed>>, Vec<u8>) {
        let read = read(&mut bytes).await;
        (read, bytes.to_vec())
    }

    fn binary(what: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let length = u16::try_from(rest.len()).unwrap().to_be_bytes();
        [&SIGNATURE[..], &[what, family], &length, rest].concat()
    }

    fn some(client: &str, reached: &str) -> Passed {
        Passed { client: client.parse().unwrap(), reached: reached.parse().unwrap() }
    }

    #[tokio::test]
    async fn both_versions_tell_the_client_and_nothing_behind_them_is_taken() {
        let four = [192, 0, 2, 7, 198, 51, 100, 1, 0x13, 0x88, 0, 21];
        let six = [&Ipv6Addr::LOCALHOST.octets()[..], &Ipv6Addr::LOCALHOST.octets(), &[0x13, 0x88, 0, 21]].concat();
        let with_more = [&four[..], &[3, 0, 4, 1, 2, 3, 4]].concat();
        for (header, told) in [
            (
                b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 21\r\n".to_vec(),
                Some(some("192.0.2.7:5000", "198.51.100.1:21")),
            ),
            (b"PROXY TCP6 ::1 2001:db8::1 5000 21\r\n".to_vec(), Some(some("[::1]:5000", "[2001:db8::1]:21"))),
            (b"PROXY UNKNOWN\r\n".to_vec(), None),
            (b"PROXY UNKNOWN ffff::1 ffff::2 1 2\r\n".to_vec(), None),
            (binary(0x21, 0x11, &four), Some(some("192.0.2.7:5000", "198.51.100.1:21"))),
            (binary(0x21, 0x11, &with_more), Some(some("192.0.2.7:5000", "198.51.100.1:21"))),
            (binary(0x21, 0x21, &six), Some(some("[::1]:5000", "[::1]:21"))),
            (binary(0x20, 0x00, &[]), None),
            (binary(0x20, 0x11, &four), None),
            (binary(0x21, 0x00, b"whatever"), None),
        ] {
            let (read, rest) = parsed(&[&header[..], b"USER a\r\n"].concat()).await;
            assert_eq!((read.unwrap(), rest), (told, b"USER a\r\n".to_vec()), "{header:?}");
        }
    }

    #[tokio::test]
    async fn what_is_no_header_is_refused() {
        for header in [
            b"USER demo\r\nPASS secret\r\n".to_vec(),
            b"PROXY".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 5000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 70000\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 +500 21\r\n".to_vec(),
            b"PROXY TCP4 ::1 ::1 5000 21\r\n".to_vec(),
            b"PROXY TCP6 192.0.2.7 192.0.2.7 5000 21\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7  198.51.100.1 5000 21\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 21 x\r\n".to_vec(),
            b"PROXY UDP4 192.0.2.7 198.51.100.1 5000 21\r\n".to_vec(),
            b"proxy TCP4 192.0.2.7 198.51.100.1 5000 21\r\n".to_vec(),
            b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 21\n".to_vec(),
            [&b"PROXY UNKNOWN "[..], &[b'x'; 200], b"\r\n"].concat(),
            b"PROXY TCP4 \xff\xfe\r\n".to_vec(),
            binary(0x21, 0x11, &[0; 11]),
            binary(0x21, 0x21, &[0; 35]),
            binary(0x21, 0x12, &[0; 12]),
            binary(0x21, 0x31, &[0; 216]),
            binary(0x11, 0x11, &[0; 12]),
            binary(0x22, 0x11, &[0; 12]),
            binary(0x21, 0x11, &vec![0; MOST_BINARY_BYTES + 1]),
            SIGNATURE.to_vec(),
        ] {
            assert!(parsed(&header).await.0.is_err(), "{header:?}");
        }
    }

    #[tokio::test]
    async fn any_bytes_are_read_within_bounds() {
        let seed: u64 = rand::random();
        println!("seed {seed}");
        let mut random = StdRng::seed_from_u64(seed);
        for _ in 0..20_000 {
            let mut bytes = match random.random_range(0..4) {
                0 => binary(random.random(), random.random(), &vec![1; random.random_range(0..60)]),
                1 => b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 21\r\n".to_vec(),
                2 => b"PROXY TCP6 ::1 ::2 5000 21\r\n".to_vec(),
                _ => b"PROXY ".to_vec(),
            };
            for _ in 0..random.random_range(0..4) {
                let at = random.random_range(0..bytes.len());
                bytes[at] = random.random();
            }
            bytes.resize(bytes.len() + 10_000, b'x');
            let (_, rest) = parsed(&bytes).await;
            assert!(bytes.len() - rest.len() <= 16 + MOST_BINARY_BYTES, "seed {seed}: {bytes:?}");
        }
    }
}
