//! Network namespaces, and TUN devices in them: what is sent there is read from a descriptor, packet by packet.
//!
//! A namespace has no name and nothing of it is left behind: it ends with the threads and processes in it, also when the
//! test fails or is killed.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::Ipv4Addr,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    path::Path,
    process::Command,
};

use rustix::fs::{CWD, FileType, Mode, OFlags, makedev, mknodat, open};

/// Bytes of a packet at most.
pub const MTU: usize = 1500;

const DEVICE: &str = "/dev/net/tun";
/// Character device 10, 200: `Documentation/networking/tuntap.rst` of Linux.
const DEVICE_NUMBER: (u32, u32) = (10, 200);
const NETMASK: Ipv4Addr = Ipv4Addr::new(255, 255, 255, 0);

/// Returns whether this process is root. Otherwise it has run the test again, alone, by `sudo -n`.
pub fn is_root_or_ran_as_root(test: &str) -> bool {
    if rustix::process::geteuid().is_root() {
        return true;
    }
    const NEEDS: &str = "this test makes network namespaces, some with TUN devices, as root or by `sudo -n`";
    let settings = std::env::vars().filter(|(name, _)| name.starts_with("FOREBAY_"));
    let again = Command::new("sudo")
        .arg("-n")
        .args(settings.map(|(name, value)| format!("{name}={value}")))
        .arg(std::env::current_exe().expect("has a path"))
        .args(["--exact", test, "--nocapture"])
        .status()
        .unwrap_or_else(|error| panic!("{NEEDS}: sudo: {error}"));
    assert!(again.success(), "by sudo: {again}; {NEEDS}");
    false
}

/// A TUN device: a packet to any other address of its /24 can be read from it. It keeps its namespace alive.
pub struct Tun {
    packets: File,
    _namespace: File,
}

/// Takes this thread, and what is started from it, into a network namespace of its own, in which every port is free. It
/// has a loopback device and no way out.
pub fn enter_namespace() {
    #[allow(unsafe_code, reason = "no safe wrapper; it changes this thread alone, and no memory")]
    let left = unsafe { libc::unshare(libc::CLONE_NEWNET) };
    assert_eq!(left, 0, "no network namespace can be made here: {}", io::Error::last_os_error());
    ask(socket().as_fd(), libc::SIOCSIFFLAGS as _, "lo", set_up).expect("the loopback device goes up");
}

/// The same with a TUN device of this address.
pub fn enter_namespace_with_tun(address: Ipv4Addr) -> Tun {
    enter_namespace();
    let packets = open_device();
    let attach = |request: &mut Request| request.set_flags(libc::IFF_TUN | libc::IFF_NO_PI);
    ask(packets.as_fd(), libc::TUNSETIFF as _, "tun", attach).expect("the kernel makes a TUN device");
    let socket = socket();
    let at = |address: Ipv4Addr| move |request: &mut Request| request.set_address(address);
    ask(socket.as_fd(), libc::SIOCSIFADDR as _, "tun", at(address)).expect("the TUN device gets its address");
    ask(socket.as_fd(), libc::SIOCSIFNETMASK as _, "tun", at(NETMASK)).expect("the TUN device gets its network");
    ask(socket.as_fd(), libc::SIOCSIFFLAGS as _, "tun", set_up).expect("the TUN device goes up");
    Tun { packets, _namespace: File::open("/proc/thread-self/ns/net").expect("a namespace has a file") }
}

/// A socket of this thread's namespace, for questions about its devices.
fn socket() -> OwnedFd {
    rustix::net::socket(rustix::net::AddressFamily::INET, rustix::net::SocketType::DGRAM, None).expect("a socket")
}

fn set_up(request: &mut Request) {
    request.set_flags(libc::IFF_UP | libc::IFF_RUNNING);
}

impl Tun {
    /// A packet, if there is one.
    pub fn read(&self, bytes: &mut [u8; MTU]) -> Option<usize> {
        match (&self.packets).read(bytes) {
            Ok(count) => Some(count),
            Err(error) if error.kind() == ErrorKind::WouldBlock => None,
            Err(error) => panic!("cannot read a packet: {error}"),
        }
    }

    /// Gives the kernel a packet; whether there was room for it.
    pub fn write(&self, packet: &[u8]) -> bool {
        match (&self.packets).write(packet) {
            Ok(_) => true,
            Err(error) if error.kind() == ErrorKind::WouldBlock => false,
            Err(error) => panic!("cannot write a packet: {error}"),
        }
    }
}

impl AsFd for Tun {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.packets.as_fd()
    }
}

/// The kernel's TUN driver; where `/dev` has no node of it, through one of this test.
fn open_device() -> File {
    let flags = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
    if Path::new(DEVICE).exists() {
        let opened = open(DEVICE, flags, Mode::empty());
        return opened.unwrap_or_else(|error| panic!("{DEVICE} cannot be opened: {error}")).into();
    }
    let place = tempfile::tempdir().expect("a directory");
    let node = place.path().join("tun");
    let (major, minor) = DEVICE_NUMBER;
    let made = mknodat(CWD, &node, FileType::CharacterDevice, Mode::RUSR | Mode::WUSR, makedev(major, minor));
    let opened = made.and_then(|()| open(&node, flags, Mode::empty()));
    opened.unwrap_or_else(|error| panic!("there is no {DEVICE}, and this kernel has no TUN driver: {error}")).into()
}

/// `struct ifreq` of Linux's `include/uapi/linux/if.h`: a name of 16 bytes, and 24 for what is asked.
#[repr(C, align(8))]
struct Request([u8; 40]);

impl Request {
    fn set_flags(&mut self, flags: libc::c_int) {
        self.0[16..20].copy_from_slice(&flags.to_ne_bytes());
    }

    /// `struct sockaddr_in`, without a port.
    fn set_address(&mut self, address: Ipv4Addr) {
        self.0[16..18].copy_from_slice(&(libc::AF_INET as u16).to_ne_bytes());
        self.0[20..24].copy_from_slice(&address.octets());
    }
}

fn ask(fd: BorrowedFd<'_>, what: libc::Ioctl, name: &str, fill: impl FnOnce(&mut Request)) -> io::Result<()> {
    let mut request = Request([0; 40]);
    request.0[..name.len()].copy_from_slice(name.as_bytes());
    fill(&mut request);
    #[allow(unsafe_code, reason = "no safe wrapper offers these; the kernel reads and writes one ifreq")]
    let done = unsafe { libc::ioctl(fd.as_raw_fd(), what, &raw mut request) };
    match done {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}
