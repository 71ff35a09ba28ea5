//! Ports for data connections.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    ops::RangeInclusive,
    time::Duration,
};

use async_trait::async_trait;
use libunftp::options::Binder;
use tokio::{net::TcpSocket, time::sleep};

/// Tries every port of the range from a random one on, and again for a while when all are taken.
#[derive(Debug)]
pub(super) struct EveryPort;

const ROUNDS: u32 = 200;
const BETWEEN_ROUNDS: Duration = Duration::from_millis(10);

#[async_trait]
impl Binder for EveryPort {
    async fn bind(&mut self, local_addr: IpAddr, passive_ports: RangeInclusive<u16>) -> io::Result<TcpSocket> {
        let (first, count) = (u32::from(*passive_ports.start()), passive_ports.len() as u32);
        for _ in 0..ROUNDS {
            let offset = rand::random_range(0..count);
            for step in 0..count {
                // Within the range, so it fits.
                let port = (first + (offset + step) % count) as u16;
                if let Ok(socket) = listening(SocketAddr::new(local_addr, port)) {
                    return Ok(socket);
                }
            }
            sleep(BETWEEN_ROUNDS).await;
        }
        Err(io::ErrorKind::AddrInUse.into())
    }
}

/// Two sockets may be bound to one port until one of them listens, so this one does, before libunftp does it again.
fn listening(at: SocketAddr) -> io::Result<TcpSocket> {
    let socket = if at.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.set_reuseaddr(true)?;
    socket.bind(at)?;
    rustix::net::listen(&socket, 1)?;
    Ok(socket)
}
