//! A stock libunftp server over Forebay's backend, without the guard: what is acknowledged is kept, and the gate holds.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may expect")]

#[allow(dead_code, unreachable_pub, reason = "it is a program too, which runs as the child process")]
#[path = "../examples/stock_libunftp.rs"]
mod stock;

#[allow(dead_code, unreachable_pub, reason = "it needs one of two")]
#[path = "harness/ports.rs"]
mod ports;

use std::{
    collections::BTreeMap,
    fs,
    io::{BufRead, BufReader, Cursor, Read},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use forebay::doors::ftp::FtpBackend;
use forebay_queue::{Entry, Filter, State};
use ports::free_address;
use stock::{PARTNER, PASSWORD, Stock};
use suppaftp::{FtpError, FtpStream, Status, types::FileType};
use tokio::{io::AsyncReadExt, runtime::Runtime};
use unftp_core::storage::{ErrorKind, StorageBackend};

const BOUND: Duration = Duration::from_secs(60);

/// The MD5 of 3,000,000 bytes 0, 1, … 250, 0, 1, ….
const MD5_OF_WHOLE: &str = "d85bc23258cf4ec207963f9f2f02c38d";

/// Files that a session sends before the server is killed, at least.
const BEFORE_KILL: usize = 20;

fn wait_until(what: &str, mut met: impl FnMut() -> bool) {
    let began = Instant::now();
    while !met() {
        assert!(began.elapsed() < BOUND, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

fn session(at: SocketAddr) -> FtpStream {
    let mut ftp = FtpStream::connect(at).unwrap();
    ftp.login(PARTNER, PASSWORD).unwrap();
    ftp.transfer_type(FileType::Binary).unwrap();
    ftp
}

fn code(refused: FtpError) -> Status {
    match refused {
        FtpError::UnexpectedResponse(response) => response.status,
        other => panic!("{other}"),
    }
}

/// A server in this process.
struct Site {
    stock: Option<Stock>,
    runtime: Runtime,
    address: SocketAddr,
    data: tempfile::TempDir,
}

impl Site {
    fn open(closed: bool) -> Self {
        let (data, address) = (tempfile::tempdir().unwrap(), free_address());
        let runtime = Runtime::new().unwrap();
        let stock = runtime.block_on(Stock::start(data.path(), address, closed)).unwrap();
        Self { stock: Some(stock), runtime, address, data }
    }

    fn stock(&self) -> &Stock {
        self.stock.as_ref().expect("it runs")
    }

    fn entries(&self) -> Vec<Entry> {
        let queue = &self.stock().queue;
        self.runtime.block_on(queue.list(&Filter::default(), None, 1_000)).unwrap().entries
    }

    fn delivered(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(delivered(self.data.path()).join(name)).ok()
    }
}

fn delivered(data: &Path) -> PathBuf {
    data.join("delivered").join(PARTNER)
}

#[test]
fn upload_in_a_closure_is_kept_and_processed_when_it_ends() {
    let site = Site::open(true);
    let mut ftp = session(site.address);
    ftp.mkdir("in").unwrap();
    ftp.put_file("in/a.hl7", &mut Cursor::new(b"MSH|one")).unwrap();
    ftp.put_file("b.hl7", &mut Cursor::new(b"MSH|two")).unwrap();
    let states: BTreeMap<_, _> = site.entries().into_iter().map(|entry| (entry.name, entry.state)).collect();
    let ready = |name: &str| (name.to_owned(), State::Ready);
    assert_eq!(states, [ready("b.hl7"), ready("in/a.hl7")].into());
    // Longer than a file waits for its confirmation: nothing but the gate holds it up then.
    std::thread::sleep(Duration::from_secs(4));
    assert!(site.delivered("b.hl7").is_none(), "processed behind a closed gate");
    site.stock().gate.reopen(Vec::new(), "over".to_owned(), "test".to_owned()).unwrap();
    wait_until("both are delivered", || {
        site.delivered("in/a.hl7").is_some_and(|bytes| bytes == b"MSH|one")
            && site.delivered("b.hl7").is_some_and(|bytes| bytes == b"MSH|two")
    });
    wait_until("both are done", || site.entries().iter().all(|entry| entry.state == State::Done));
}

#[test]
fn every_file_command_is_served() {
    let site = Site::open(true);
    let mut ftp = session(site.address);
    let bytes: Vec<u8> = (0..3_000_000_u32).map(|at| (at % 251) as u8).collect();
    ftp.put_file("whole.part", &mut Cursor::new(&bytes)).unwrap();
    ftp.rename("whole.part", "whole.bin").unwrap();
    assert_eq!(ftp.size("whole.bin").unwrap(), bytes.len());
    ftp.mdtm("whole.bin").unwrap();
    let mut back = Vec::new();
    let mut stream = ftp.retr_as_stream("whole.bin").unwrap();
    stream.read_to_end(&mut back).unwrap();
    stream.finish().unwrap();
    assert!(back == bytes, "what comes back differs");
    ftp.resume_transfer(2_999_000).unwrap();
    assert_eq!(ftp.retr_as_buffer("whole.bin").unwrap().into_inner(), bytes[2_999_000..]);
    let md5 = ftp.custom_command("SITE MD5 whole.bin", &[Status::File]).unwrap();
    assert!(md5.as_string().unwrap().contains(MD5_OF_WHOLE), "{md5:?}");
    ftp.append_file("whole.bin", &mut Cursor::new(b"more")).unwrap();
    assert_eq!(ftp.size("whole.bin").unwrap(), bytes.len() + 4);

    ftp.mkdir("in").unwrap();
    assert_eq!(code(ftp.mkdir("in").unwrap_err()), Status::FileUnavailable);
    ftp.cwd("in").unwrap();
    assert_eq!(ftp.pwd().unwrap(), "/in");
    ftp.put_file("a", &mut Cursor::new(b"a")).unwrap();
    ftp.cdup().unwrap();
    assert_eq!(code(ftp.cwd("whole.bin").unwrap_err()), Status::FileUnavailable);
    assert_eq!(code(ftp.rmdir("in").unwrap_err()), Status::FileUnavailable);
    assert_eq!(ftp.nlst(Some("/")).unwrap(), ["in", "whole.bin"]);
    assert_eq!(ftp.mlsd(Some("/in")).unwrap().len(), 1);
    assert!(ftp.list(Some("/in")).unwrap()[0].starts_with("-rw-------"));
    ftp.rm("in/a").unwrap();
    ftp.rmdir("in").unwrap();
    assert_eq!(ftp.nlst(Some("/")).unwrap(), ["whole.bin"]);
    for refused in ["out/a", "no/such/a", "tab\tname"] {
        ftp.put_file(refused, &mut Cursor::new(b"x")).unwrap_err();
    }
    ftp.quit().unwrap();
}

/// libunftp itself asks for a whole file with `get_into`.
#[test]
fn a_file_is_read_as_a_stream_from_any_byte() {
    let site = Site::open(true);
    let bytes: Vec<u8> = (0..1_000_000_u32).map(|at| (at % 249) as u8).collect();
    session(site.address).put_file("a", &mut Cursor::new(&bytes)).unwrap();
    let user = site.stock().user().unwrap();
    for start in [0, 1, 999_999, 1_000_000] {
        let back = site.runtime.block_on(async {
            let mut back = Vec::new();
            let mut reader = FtpBackend.get(&user, "/a", start).await.unwrap();
            reader.read_to_end(&mut back).await.map(|_| back)
        });
        assert!(back.unwrap() == bytes[usize::try_from(start).unwrap()..], "from byte {start}");
    }
    let beyond = site.runtime.block_on(FtpBackend.get(&user, "/a", 1_000_001));
    assert_eq!(beyond.err().unwrap().kind(), ErrorKind::PermanentFileNotAvailable);
}

#[test]
fn a_wrong_password_does_not_get_in() {
    let site = Site::open(true);
    let mut ftp = FtpStream::connect(site.address).unwrap();
    assert_eq!(code(ftp.login(PARTNER, "wrong").unwrap_err()), Status::NotLoggedIn);
}

/// The example as a process of its own.
struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    fn start(data: &Path, closed: bool) -> Self {
        let address = free_address();
        let mut command = Command::new(example());
        command.arg(data).arg(address.to_string()).args(closed.then_some("closed"));
        let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut said = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "ready\n");
        Self { child, address }
    }
}

impl Drop for Server {
    /// SIGKILL, and waits until it is gone.
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Builds the example, unless the whole test run has.
fn example() -> PathBuf {
    let path = Path::new(env!("CARGO_BIN_EXE_forebay")).with_file_name("examples").join("stock_libunftp");
    let release = if cfg!(debug_assertions) { None } else { Some("--release") };
    let mut cargo = Command::new(env!("CARGO"));
    // As the test run was built: other features, or what a test is told of its own package, would build the dependencies
    // once more.
    for (name, _) in
        std::env::vars().filter(|(name, _)| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"))
    {
        cargo.env_remove(name);
    }
    let built = cargo
        .args(["build", "--quiet", "--locked", "--workspace", "--all-features", "--example", "stock_libunftp"])
        .args(release)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status();
    assert!(built.unwrap().success() && path.is_file(), "{} cannot be built", path.display());
    path
}

#[test]
fn acknowledged_files_survive_kill_9() {
    let data = tempfile::tempdir().unwrap();
    let server = Server::start(data.path(), true);
    let at = server.address;
    let (acknowledge, acknowledged) = std::sync::mpsc::channel();
    let sender = std::thread::spawn(move || {
        let mut ftp = session(at);
        let mut names = Vec::new();
        // Until the server is gone in the middle of one.
        for number in 0.. {
            let name = format!("{number}.hl7");
            let bytes = name.repeat(1_000);
            if ftp.put_file(&name, &mut Cursor::new(bytes.as_bytes())).is_err() {
                break;
            }
            names.push(name);
            let _ = acknowledge.send(());
        }
        names
    });
    for _ in 0..BEFORE_KILL {
        acknowledged.recv_timeout(BOUND).expect("files are acknowledged");
    }
    drop(server);
    let names = sender.join().unwrap();
    assert!(names.len() >= BEFORE_KILL);
    assert!(!delivered(data.path()).exists(), "processed behind a closed gate");

    let again = Server::start(data.path(), false);
    let mut ftp = session(again.address);
    for name in &names {
        let back = ftp.retr_as_buffer(name).unwrap_or_else(|error| panic!("{name} was acknowledged: {error}"));
        assert!(back.into_inner() == name.repeat(1_000).into_bytes(), "{name} differs");
    }
}
