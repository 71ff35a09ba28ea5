//! The kernel's account of a TCP connection.

use std::{
    io,
    mem::{MaybeUninit, size_of},
    os::fd::{AsRawFd, BorrowedFd},
    time::Duration,
};

/// A connection as the kernel sees it now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct TcpState {
    /// Neither side has closed or reset it. A peek would be fooled by commands that are queued before a FIN.
    pub(super) established: bool,
    pub(super) stage: Stage,
    /// Bytes that the other side has acknowledged, over the life of the connection.
    pub(super) acknowledged_bytes: u64,
    /// All that was written is acknowledged. Never after the connection is over: then the kernel has dropped what was
    /// on its way, and [`unacknowledged_bytes`] tells.
    pub(super) is_all_acknowledged: bool,
    /// The time since the other side acknowledged anything, or answered a probe. In steps of some milliseconds.
    pub(super) since_heard: Duration,
    /// The smoothed round-trip time.
    pub(super) round_trip: Duration,
    /// The shortest round trip of the last minutes: nothing comes back sooner.
    pub(super) shortest_round_trip: Duration,
}

/// The stage of a connection, as far as the other side goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stage {
    /// The other side has not sent its FIN. Ours may be on its way.
    Open,
    /// The other side has sent its FIN.
    PeerClosed,
    /// It is no more: reset, timed out, or closed from both sides.
    Over,
}

/// States of `include/net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
const CLOSE: u8 = 7;
const CLOSE_WAIT: u8 = 8;
const LAST_ACK: u8 = 9;
const CLOSING: u8 = 11;

/// Asks the kernel: `TCP_INFO`, tcp(7), whose fields are those of `struct tcp_info` in Linux's
/// `include/uapi/linux/tcp.h`. `tcpi_unacked` counts segments on their way, `tcpi_notsent_bytes` what was written and
/// is not sent; both are 0 as well after a reset, which purges the queue. `tcpi_bytes_acked` stands still then.
pub(super) fn tcp_state(socket: BorrowedFd<'_>) -> io::Result<TcpState> {
    let mut info = MaybeUninit::<libc::tcp_info>::zeroed();
    let mut len = size_of::<libc::tcp_info>() as libc::socklen_t;
    #[allow(
        unsafe_code,
        reason = "no safe wrapper offers TCP_INFO; the kernel writes at most `len` bytes into a zeroed struct of integers"
    )]
    let info = unsafe {
        let done = libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut len,
        );
        if done != 0 {
            return Err(io::Error::last_os_error());
        }
        info.assume_init()
    };
    let stage = match info.tcpi_state {
        CLOSE => Stage::Over,
        CLOSE_WAIT | LAST_ACK | CLOSING => Stage::PeerClosed,
        _ => Stage::Open,
    };
    let shortest = if info.tcpi_min_rtt == u32::MAX { 0 } else { info.tcpi_min_rtt };
    Ok(TcpState {
        established: info.tcpi_state == ESTABLISHED,
        stage,
        acknowledged_bytes: info.tcpi_bytes_acked,
        is_all_acknowledged: stage != Stage::Over && info.tcpi_unacked == 0 && info.tcpi_notsent_bytes == 0,
        since_heard: Duration::from_millis(u64::from(info.tcpi_last_ack_recv)),
        round_trip: Duration::from_micros(u64::from(info.tcpi_rtt)),
        shortest_round_trip: Duration::from_micros(u64::from(shortest)),
    })
}

/// Bytes that were written and are not acknowledged (`SIOCOUTQ`, tcp(7)): the end of what was written less that of what
/// was acknowledged. It keeps its value after a reset. Our own FIN counts as one.
pub(super) fn unacknowledged_bytes(socket: BorrowedFd<'_>) -> io::Result<u64> {
    let mut bytes: libc::c_int = 0;
    #[allow(unsafe_code, reason = "no safe wrapper offers SIOCOUTQ, which is TIOCOUTQ; the kernel writes one int")]
    let done = unsafe { libc::ioctl(socket.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    match done {
        0 => Ok(u64::try_from(bytes).unwrap_or(0)),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net, os::fd::AsFd, thread::yield_now};

    use super::*;

    fn pair() -> (net::TcpStream, net::TcpStream) {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (client, listener.accept().unwrap().0)
    }

    fn wait_for(server: &net::TcpStream, met: impl Fn(TcpState) -> bool) -> TcpState {
        (0..100_000)
            .find_map(|_| {
                yield_now();
                Some(tcp_state(server.as_fd()).unwrap()).filter(|state| met(*state))
            })
            .expect("the state comes")
    }

    #[test]
    fn a_closed_peer_is_seen_behind_queued_bytes() {
        let (mut client, server) = pair();
        client.write_all(b"NOOP\r\n").unwrap();
        assert!(tcp_state(server.as_fd()).unwrap().established);
        drop(client);
        let state = wait_for(&server, |state| !state.established);
        assert_eq!(state.stage, Stage::PeerClosed, "the FIN is seen although NOOP was never read");
    }

    #[test]
    fn what_was_written_is_acknowledged() {
        let (_client, mut server) = pair();
        server.write_all(b"226 done\r\n").unwrap();
        let state = wait_for(&server, |state| state.is_all_acknowledged);
        assert_eq!((state.acknowledged_bytes, unacknowledged_bytes(server.as_fd()).unwrap()), (10, 0));
    }

    #[test]
    fn what_a_reset_found_unacknowledged_stays_so() {
        let (client, mut server) = pair();
        drop(client);
        wait_for(&server, |state| state.stage == Stage::PeerClosed);
        server.write_all(b"226 done\r\n").unwrap();
        let state = wait_for(&server, |state| state.stage == Stage::Over);
        assert!(!state.is_all_acknowledged);
        assert_eq!((state.acknowledged_bytes, unacknowledged_bytes(server.as_fd()).unwrap()), (0, 10));
    }

    #[test]
    fn what_is_no_tcp_socket_is_an_error() {
        assert!(tcp_state(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
