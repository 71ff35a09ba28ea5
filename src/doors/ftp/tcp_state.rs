//! What the kernel says of a TCP connection.

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
    /// It is no more: after a FIN of the other side alone it would be half open still, so it was reset.
    pub(super) reset: bool,
    /// How long ago the last bytes came.
    pub(super) silent_for: Duration,
}

/// TCP_ESTABLISHED of `net/tcp_states.h`.
const ESTABLISHED: u8 = 1;
/// TCP_CLOSE of the same.
const CLOSE: u8 = 7;

/// Asks the kernel (`TCP_INFO`, tcp(7)).
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
    Ok(TcpState {
        established: info.tcpi_state == ESTABLISHED,
        reset: info.tcpi_state == CLOSE,
        silent_for: Duration::from_millis(u64::from(info.tcpi_last_data_recv)),
    })
}

#[cfg(test)]
mod tests {
    use std::{io::Write, net, os::fd::AsFd};

    use super::*;

    #[test]
    fn a_closed_peer_is_seen_behind_queued_bytes() {
        let listener = net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut client = net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (server, _) = listener.accept().unwrap();
        client.write_all(b"NOOP\r\n").unwrap();
        assert!(tcp_state(server.as_fd()).unwrap().established);
        drop(client);
        let gone = (0..1000).any(|_| {
            std::thread::yield_now();
            !tcp_state(server.as_fd()).unwrap().established
        });
        assert!(gone, "the FIN is seen although NOOP was never read");
    }

    #[test]
    fn what_is_no_tcp_socket_is_an_error() {
        assert!(tcp_state(std::fs::File::open("/dev/null").unwrap().as_fd()).is_err());
    }
}
