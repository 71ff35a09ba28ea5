//! Clients that cannot be run here: what they send over SFTP, request by request in their order, as their sources tell it
//! (Spring Integration, rclone since 1.63, WinSCP, SSH.NET). A processor is handed every file under its final name, with
//! the bytes that were sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use harness::{
    sftp_client::{CLOSE, HANDLE, OPEN, Sftp, WRITE, string},
    site::{PASSWORD, Site, USER},
};

const LSTAT: u8 = 7;
const FSTAT: u8 = 8;
const SETSTAT: u8 = 9;
const REMOVE: u8 = 13;
const MKDIR: u8 = 14;
const REALPATH: u8 = 16;
const STAT: u8 = 17;
const RENAME: u8 = 18;
const EXTENDED: u8 = 200;
const NAME: u8 = 104;
const ATTRIBUTES: u8 = 105;

/// Flags of OPEN.
const WRITING: u32 = 0x02;
const APPENDING: u32 = 0x04;
const CREATING: u32 = 0x08;
const TRUNCATING: u32 = 0x10;
const EXCLUSIVE: u32 = 0x20;

const OK: u32 = 0;
const NO_SUCH_FILE: u32 = 2;
const FAILURE: u32 = 4;

const LARGE: usize = 2_000_000;
const TIME: u32 = 1_577_934_245;

/// A session of a client that is replayed.
struct Replay(Sftp);

impl Replay {
    fn begin(site: &Site) -> Self {
        Self(Sftp::login(site.machine.sftp, USER, PASSWORD).unwrap())
    }

    /// A request of one path, with what follows it, and the code of its answer.
    fn say(&mut self, kind: u8, path: &str, more: &[u8], code: u32) {
        let answer = self.0.ask(kind, &[&string(path.as_bytes()), more]);
        assert_eq!(answer.code(), code, "{kind} {path}: {}", answer.text());
    }

    fn rename(&mut self, from: &str, to: &str) {
        self.say(RENAME, from, &string(to.as_bytes()), OK);
    }

    fn posix_rename(&mut self, from: &str, to: &str) {
        let paths = [string(from.as_bytes()), string(to.as_bytes())].concat();
        self.say(EXTENDED, "posix-rename@openssh.com", &paths, OK);
    }

    fn set_time(&mut self, path: &str) {
        let times = [8_u32, TIME, TIME].map(u32::to_be_bytes).concat();
        self.say(SETSTAT, path, &times, OK);
    }

    fn real_path(&mut self, path: &str) -> String {
        let answer = self.0.ask(REALPATH, &[&string(path.as_bytes())]);
        assert_eq!(answer.kind, NAME, "{path}");
        let length = u32::from_be_bytes(answer.body[4..8].try_into().unwrap()) as usize;
        String::from_utf8(answer.body[8..8 + length].to_vec()).unwrap()
    }

    /// The size that attributes tell, which have their flags and then the size.
    fn size(&mut self, kind: u8, of: &[u8]) -> u64 {
        let answer = self.0.ask(kind, &[of]);
        assert_eq!(answer.kind, ATTRIBUTES, "{answer:?}");
        u64::from_be_bytes(answer.body[4..12].try_into().unwrap())
    }

    fn size_at(&mut self, path: &str) -> u64 {
        self.size(STAT, &string(path.as_bytes()))
    }

    /// OPEN with these flags and a mode, or with none.
    fn open(&mut self, path: &str, flags: u32, mode: Option<u32>) -> Vec<u8> {
        let attributes = mode.map_or(vec![0; 4], |mode| [4_u32, mode].map(u32::to_be_bytes).concat());
        let answer = self.0.ask(OPEN, &[&string(path.as_bytes()), &flags.to_be_bytes(), &attributes]);
        assert_eq!(answer.kind, HANDLE, "{path}: {answer:?}");
        answer.body
    }

    fn open_refused(&mut self, path: &str, flags: u32, code: u32) {
        self.say(OPEN, path, &[flags.to_be_bytes(), [0; 4]].concat(), code);
    }

    /// Writes in pieces that are all under way at once, in this order; the handle stays open.
    fn write(&mut self, handle: &[u8], from: usize, bytes: &[u8], piece: usize, order: impl Fn(&mut Vec<usize>)) {
        let mut pieces: Vec<usize> = (0..bytes.len()).step_by(piece).collect();
        order(&mut pieces);
        for at in &pieces {
            let data = &bytes[*at..bytes.len().min(at + piece)];
            self.0.request(WRITE, &[handle, &((from + at) as u64).to_be_bytes(), &string(data)]).unwrap();
        }
        for _ in pieces {
            let answer = self.0.answer().unwrap();
            assert!(answer.is_ok(), "{}", answer.text());
        }
    }

    fn close(&mut self, handle: &[u8]) {
        let answer = self.0.ask(CLOSE, &[handle]);
        assert!(answer.is_ok() && answer.text().starts_with("Received "), "{}", answer.text());
    }

    /// An upload from its beginning, in order.
    fn send(&mut self, path: &str, flags: u32, mode: Option<u32>, bytes: &[u8]) {
        let handle = self.open(path, flags, mode);
        self.write(&handle, 0, bytes, 32_768, in_order);
        self.close(&handle);
    }

    /// An upload that is cut, and the session with it.
    fn cut(mut self, site: &Site, path: &str, flags: u32, mode: Option<u32>, bytes: &[u8]) {
        let before = site.partials().len();
        let handle = self.open(path, flags, mode);
        self.write(&handle, 0, bytes, 32_768, in_order);
        drop(self);
        harness::wait_until("the partial is kept", || site.partials().len() > before);
    }
}

fn in_order(_: &mut Vec<usize>) {}

/// MINA SSHD below: `NAME.writing`, the final name is removed, then the rename.
#[test]
fn spring_integration() {
    let site = Site::open("");
    let (_, bytes) = site.source("lab.hl7", LARGE);
    let mut spring = Replay::begin(&site);
    spring.say(STAT, "/in", &[], NO_SUCH_FILE);
    spring.say(MKDIR, "/in", &[0; 4], OK);
    for (round, length) in [(0, 1000), (1, LARGE)] {
        spring.send("/in/lab.hl7.writing", WRITING | CREATING | TRUNCATING, None, &bytes[..length]);
        spring.say(REMOVE, "/in/lab.hl7", &[], if round == 0 { NO_SUCH_FILE } else { OK });
        spring.rename("/in/lab.hl7.writing", "/in/lab.hl7");
        assert_eq!(spring.size_at("/in/lab.hl7"), length as u64);
        assert_eq!(spring.real_path(""), "/");
    }
    // `FileExistsMode.APPEND` has no temporary name, and adds to what is there.
    let handle = spring.open("/in/lab.hl7", WRITING | CREATING | APPENDING, None);
    spring.write(&handle, 0, b"MSH|more", 32_768, in_order);
    spring.close(&handle);
    let more = [&bytes[..], b"MSH|more"].concat();
    let of_lab: Vec<_> = site.queue().into_iter().filter(|(name, _)| name == "in/lab.hl7").collect();
    assert!(of_lab.len() == 2 || of_lab.len() == 3, "the last one continues what was there, or begins as a copy");
    assert_eq!(spring.size_at("/in/lab.hl7"), more.len() as u64);
    drop(spring);
    site.assert_handed_over();
}

/// `NAME.<eight hexadecimal digits>.partial` with many writes under way, its time, then `posix-rename` over what is there.
#[test]
fn rclone_since_1_63() {
    let site = Site::open("");
    let (_, bytes) = site.source("lab.hl7", LARGE);
    let mut rclone = Replay::begin(&site);
    rclone.say(STAT, "/in", &[], NO_SUCH_FILE);
    rclone.say(MKDIR, "/in", &[0; 4], OK);
    for (partial, length) in [("1a2b3c4d", 1000), ("0f9e8d7c", LARGE)] {
        let name = format!("/in/lab.hl7.{partial}.partial");
        let handle = rclone.open(&name, WRITING | CREATING | TRUNCATING, None);
        // Its workers overtake each other.
        let overtaking = |pieces: &mut Vec<usize>| pieces.chunks_mut(4).for_each(<[usize]>::reverse);
        rclone.write(&handle, 0, &bytes[..length], 32_768, overtaking);
        rclone.close(&handle);
        rclone.set_time(&name);
        assert_eq!(rclone.size_at(&name), length as u64);
        rclone.posix_rename(&name, "/in/lab.hl7");
        assert_eq!(rclone.size_at("/in/lab.hl7"), length as u64);
        rclone.say(STAT, &name, &[], NO_SUCH_FILE);
    }
    // A first try is cut; the second has the same temporary name, and begins anew.
    let (again, flags) = ("/in/again.hl7.89abcdef.partial", WRITING | CREATING | TRUNCATING);
    rclone.cut(&site, again, flags, None, &bytes[..700_000]);
    let mut rclone = Replay::begin(&site);
    rclone.send(again, flags, None, &bytes);
    rclone.posix_rename(again, "/in/again.hl7");
    drop(rclone);
    site.assert_kept_each("in/lab.hl7", &[&bytes[..1000], &bytes]);
    site.assert_kept("in/again.hl7", &bytes);
    site.assert_handed_over();
}

/// `NAME.filepart` for all that is large, gone on with in its place when it was cut, then the rename and the time.
#[test]
fn winscp() {
    const MODE: Option<u32> = Some(0o644);
    let site = Site::open("");
    let (_, bytes) = site.source("lab.hl7", LARGE);
    let mut winscp = Replay::begin(&site);
    assert_eq!(winscp.real_path("."), "/");
    winscp.say(LSTAT, "/in", &[], NO_SUCH_FILE);
    winscp.say(MKDIR, "/in", &[0; 4], OK);
    for round in 0..2 {
        let length = LARGE - round;
        if round > 0 {
            assert_eq!(winscp.size(LSTAT, &string(b"/in/lab.hl7")), LARGE as u64);
        }
        winscp.say(LSTAT, "/in/lab.hl7.filepart", &[], NO_SUCH_FILE);
        winscp.send("/in/lab.hl7.filepart", WRITING | CREATING | TRUNCATING, MODE, &bytes[..length]);
        if round > 0 {
            winscp.say(REMOVE, "/in/lab.hl7", &[], OK);
        }
        winscp.rename("/in/lab.hl7.filepart", "/in/lab.hl7");
        winscp.set_time("/in/lab.hl7");
    }
    // What is small goes straight to its name, and asks before it writes over another.
    winscp.send("/in/small.hl7", WRITING | CREATING | EXCLUSIVE, MODE, &bytes[..1000]);
    winscp.set_time("/in/small.hl7");
    winscp.open_refused("/in/small.hl7", WRITING | CREATING | EXCLUSIVE, FAILURE);
    assert_eq!(winscp.size(LSTAT, &string(b"/in/small.hl7")), 1000);
    winscp.send("/in/small.hl7", WRITING | CREATING | TRUNCATING, MODE, &bytes[..2000]);

    winscp.cut(&site, "/in/cut.hl7.filepart", WRITING | CREATING | TRUNCATING, MODE, &bytes[..700_000]);
    let mut winscp = Replay::begin(&site);
    winscp.say(LSTAT, "/in/cut.hl7", &[], NO_SUCH_FILE);
    let kept = winscp.size(LSTAT, &string(b"/in/cut.hl7.filepart")) as usize;
    assert!(kept > 0 && kept <= 700_000, "{kept}");
    let handle = winscp.open("/in/cut.hl7.filepart", WRITING | CREATING, MODE);
    winscp.write(&handle, kept, &bytes[kept..], 32_768, in_order);
    winscp.close(&handle);
    winscp.rename("/in/cut.hl7.filepart", "/in/cut.hl7");
    winscp.set_time("/in/cut.hl7");
    drop(winscp);
    site.assert_kept_each("in/lab.hl7", &[&bytes, &bytes[..LARGE - 1]]);
    site.assert_kept_each("in/small.hl7", &[&bytes[..1000], &bytes[..2000]]);
    site.assert_kept("in/cut.hl7", &bytes);
    site.assert_handed_over();
}

/// `UploadFile`, `Create`, `Append` and `RenameFile` of its client: it asks for real paths all the time.
#[test]
fn ssh_net() {
    let site = Site::open("");
    let (_, bytes) = site.source("lab.hl7", LARGE);
    let mut net = Replay::begin(&site);
    assert_eq!(net.real_path("."), "/");
    assert_eq!(net.real_path("/in"), "/in");
    net.say(MKDIR, "/in", &[0; 4], OK);
    assert_eq!(net.real_path("/in/lab.hl7"), "/in/lab.hl7");
    // A piece and its head fit into a packet of 32 KiB.
    let handle = net.open("/in/lab.hl7", WRITING | TRUNCATING | CREATING, None);
    net.write(&handle, 0, &bytes, 32_768 - 29, in_order);
    net.close(&handle);
    assert_eq!(net.size(LSTAT, &string(b"/in/lab.hl7")), LARGE as u64);
    // It does not overwrite what is there, if it is told so.
    net.open_refused("/in/lab.hl7", WRITING | TRUNCATING | CREATING | EXCLUSIVE, FAILURE);
    // A stream of its own: first a file that is there, then a new one.
    net.open_refused("/in/stream.hl7", WRITING | TRUNCATING, NO_SUCH_FILE);
    let handle = net.open("/in/stream.hl7", WRITING | TRUNCATING | CREATING | EXCLUSIVE, None);
    net.write(&handle, 0, &bytes[..5000], 4096, in_order);
    assert_eq!(net.size(FSTAT, &handle), 5000);
    net.close(&handle);
    net.set_time("/in/stream.hl7");
    for (from, to) in [("/in/one.hl7.tmp", "/in/one.hl7"), ("/in/two.hl7.tmp", "/in/two.hl7")] {
        net.send(from, WRITING | TRUNCATING | CREATING, None, &bytes[..3000]);
        assert_eq!((net.real_path(from), net.real_path(to)), (from.to_owned(), to.to_owned()));
        match to {
            "/in/one.hl7" => net.rename(from, to),
            _ => net.posix_rename(from, to),
        }
    }
    // It goes on with what was cut by appending.
    net.cut(&site, "/in/cut.hl7", WRITING | TRUNCATING | CREATING, None, &bytes[..700_000]);
    let mut net = Replay::begin(&site);
    let handle = net.open("/in/cut.hl7", WRITING | APPENDING | CREATING, None);
    let kept = net.size(FSTAT, &handle) as usize;
    assert!(kept > 0 && kept <= 700_000, "{kept}");
    net.write(&handle, kept, &bytes[kept..], 32_768 - 29, in_order);
    net.close(&handle);
    drop(net);
    for name in ["in/lab.hl7", "in/cut.hl7"] {
        site.assert_kept(name, &bytes);
    }
    site.assert_kept("in/stream.hl7", &bytes[..5000]);
    site.assert_kept("in/one.hl7", &bytes[..3000]);
    site.assert_kept("in/two.hl7", &bytes[..3000]);
    site.assert_handed_over();
}
