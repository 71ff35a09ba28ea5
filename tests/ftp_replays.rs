//! Clients that cannot be run here: what they send over FTP, command by command in their order, as their sources tell it
//! (Spring Integration, rclone since 1.63, WinSCP, FluentFTP). Each in the clear, behind `AUTH TLS` and in TLS from the
//! start; a processor is handed every file under its final name, with the bytes that were sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "a test may fail")]

mod harness;

use std::{
    io::{Read, Write},
    net::TcpStream,
};

use harness::{
    Ftp, Stream,
    site::{ALL_MODES, Mode, PASSWORD, Site, USER},
};

const LARGE: usize = 2_000_000;

/// A session of a client that is replayed.
struct Replay {
    ftp: Ftp,
    is_secured: bool,
    /// What it asks for a data connection with.
    asks: &'static str,
}

impl Replay {
    /// Connects, with TLS where that is said, and logs in.
    fn begin(site: &Site, mode: Mode, asks: &'static str) -> Self {
        let at = site.address(mode);
        let ftp = match mode {
            Mode::Plain => Ftp::connect(at),
            Mode::Explicit => Ftp::connect(at).auth_tls(),
            Mode::Implicit => Ftp::connect_implicit(at),
        };
        let mut replay = Self { ftp, is_secured: mode != Mode::Plain, asks };
        replay.say(&format!("USER {USER}"), 331);
        replay.say(&format!("PASS {PASSWORD}"), 230);
        replay
    }

    /// PBSZ and PROT, where the session has TLS.
    fn protect(&mut self) {
        if self.is_secured {
            self.say("PBSZ 0", 200);
            self.say("PROT P", 200);
        }
    }

    /// A command, and the code that the client needs to hear.
    fn say(&mut self, line: &str, code: u16) -> String {
        let reply = self.ftp.command(line);
        assert_eq!(reply.code, code, "{line}: {reply:?}");
        reply.text
    }

    fn connect(&mut self) -> TcpStream {
        let text = self.say(self.asks, if self.asks == "EPSV" { 229 } else { 227 });
        let inside = text.split_once('(').and_then(|(_, rest)| rest.split_once(')')).expect("an address").0;
        let numbers: Vec<u16> = inside.split([',', '|']).filter_map(|number| number.parse().ok()).collect();
        let port = match numbers[..] {
            [port] => port,
            [.., high, low] => high * 256 + low,
            [] => panic!("{text}"),
        };
        TcpStream::connect(("127.0.0.1", port)).expect("a data connection")
    }

    fn data(&self, stream: TcpStream) -> Stream {
        if self.is_secured { Stream::secured(stream).unwrap() } else { Stream::Plain(stream) }
    }

    /// Uploads; what is said in the middle of it is answered before its end.
    fn send(&mut self, line: &str, bytes: &[u8], meanwhile: &[&str]) {
        let stream = self.connect();
        self.say(line, 150);
        let mut data = self.data(stream);
        let (first, rest) = bytes.split_at(bytes.len() / 2);
        data.write_all(first).unwrap();
        for line in meanwhile {
            self.say(line, 200);
        }
        data.write_all(rest).unwrap();
        data.finish();
        drop(data);
        let reply = self.ftp.reply();
        assert_eq!(reply.code, 226, "{line}: {reply:?}");
    }

    /// What comes over a data connection: a listing or a file.
    fn take(&mut self, line: &str) -> String {
        let stream = self.connect();
        self.say(line, 150);
        let mut bytes = Vec::new();
        self.data(stream).read_to_end(&mut bytes).unwrap();
        assert_eq!(self.ftp.reply().code, 226, "{line}");
        String::from_utf8(bytes).unwrap()
    }

    /// The line of a listing that is about this name.
    fn line_of(&mut self, list: &str, name: &str) -> Option<String> {
        self.take(list).lines().find(|line| line.ends_with(&format!(" {name}"))).map(str::to_owned)
    }

    /// An upload that is cut in the middle, and the session with it.
    fn cut(mut self, site: &Site, line: &str, bytes: &[u8]) {
        let before = site.partials().len();
        let stream = self.connect();
        self.say(line, 150);
        let mut data = self.data(stream);
        data.write_all(bytes).unwrap();
        drop((self, data));
        harness::wait_until("the partial is kept", || site.partials().len() > before);
    }
}

/// `FtpRemoteFileTemplate` with a session that is kept: `NAME.writing`, the final name is removed, then the rename.
#[test]
fn spring_integration() {
    let site = Site::open("");
    let (_, bytes) = site.source("lab.hl7", LARGE);
    for mode in ALL_MODES {
        let mut spring = Replay::begin(&site, mode, "PASV");
        spring.protect();
        spring.say("TYPE I", 200);
        // It looks whether the folder is there, and makes it.
        assert_eq!(spring.ftp.fetch(&format!("NLST {mode}")).err().map_or(550, |reply| reply.code), 550);
        spring.say("PWD", 257);
        spring.say(&format!("CWD {mode}"), 550);
        spring.say("CWD /", 250);
        spring.say(&format!("MKD {mode}"), 257);
        for (round, length) in [(0, 1000), (1, LARGE)] {
            spring.send(&format!("STOR {mode}/lab.hl7.writing"), &bytes[..length], &[]);
            spring.say(&format!("DELE {mode}/lab.hl7"), if round == 0 { 550 } else { 250 });
            spring.say(&format!("RNFR {mode}/lab.hl7.writing"), 350);
            spring.say(&format!("RNTO {mode}/lab.hl7"), 250);
            spring.say("NOOP", 200);
        }
        assert!(spring.line_of(&format!("LIST {mode}"), "lab.hl7").is_some_and(|line| line.contains(" 2000000 ")));
        assert_eq!(spring.line_of(&format!("LIST {mode}"), "lab.hl7.writing"), None);
        spring.say("QUIT", 221);
        site.assert_kept_each(&format!("{mode}/lab.hl7"), &[&bytes[..1000], &bytes]);
    }
    site.assert_handed_over();
}

/// `NAME.<eight hexadecimal digits>.partial`, its time, a look at it, then the rename, over what is there already.
#[test]
fn rclone_since_1_63() {
    let site = Site::open("");
    let (_, bytes) = site.source("lab.hl7", LARGE);
    for mode in ALL_MODES {
        let mut rclone = Replay::begin(&site, mode, "EPSV");
        let features = rclone.say("FEAT", 211);
        assert!(features.contains("MLST") && features.contains("MFMT"), "{features}");
        rclone.say("TYPE I", 200);
        rclone.say("OPTS UTF8 ON", 200);
        rclone.protect();
        assert_eq!(rclone.line_of("MLSD /", &mode.to_string()), None);
        rclone.say(&format!("MKD /{mode}"), 257);
        assert_eq!(rclone.take(&format!("MLSD /{mode}")), "");
        for (partial, length, time) in [("1a2b3c4d", 1000, "20200102030405"), ("0f9e8d7c", LARGE, "20210102030405")] {
            let name = format!("lab.hl7.{partial}.partial");
            rclone.send(&format!("STOR /{mode}/{name}"), &bytes[..length], &[]);
            rclone.say(&format!("MFMT {time} /{mode}/{name}"), 213);
            let facts = rclone.line_of(&format!("MLSD /{mode}"), &name).expect("the partial is seen").to_lowercase();
            assert!(
                facts.contains(&format!("size={length};")) && facts.contains(&format!("modify={time};")),
                "{facts}"
            );
            rclone.say(&format!("RNFR /{mode}/{name}"), 350);
            rclone.say(&format!("RNTO /{mode}/lab.hl7"), 250);
            let facts = rclone.line_of(&format!("MLSD /{mode}"), "lab.hl7").expect("the file is seen").to_lowercase();
            assert!(
                facts.contains(&format!("size={length};")) && facts.contains(&format!("modify={time};")),
                "{facts}"
            );
        }
        // A first try is cut; the second has the same temporary name, and begins anew.
        let again = format!("/{mode}/again.hl7.89abcdef.partial");
        rclone.cut(&site, &format!("STOR {again}"), &bytes[..700_000]);
        let mut rclone = Replay::begin(&site, mode, "EPSV");
        rclone.say("TYPE I", 200);
        rclone.protect();
        rclone.say(&format!("RNFR {again}"), 550);
        rclone.send(&format!("STOR {again}"), &bytes, &[]);
        rclone.say(&format!("RNFR {again}"), 350);
        rclone.say(&format!("RNTO /{mode}/again.hl7"), 250);
        rclone.say("QUIT", 221);
        site.assert_kept_each(&format!("{mode}/lab.hl7"), &[&bytes[..1000], &bytes]);
        site.assert_kept(&format!("{mode}/again.hl7"), &bytes);
    }
    site.assert_handed_over();
}

/// It goes to the folder, sends to the final name and sets the time; it goes on by APPE.
#[test]
fn winscp() {
    let site = Site::open("");
    let (_, bytes) = site.source("lab.hl7", LARGE);
    for mode in ALL_MODES {
        let begin = || {
            let mut winscp = Replay::begin(&site, mode, "PASV");
            winscp.say("SYST", 215);
            winscp.say("FEAT", 211);
            winscp.say("OPTS UTF8 ON", 200);
            winscp.protect();
            winscp.say("PWD", 257);
            winscp
        };
        let mut winscp = begin();
        winscp.say("TYPE A", 200);
        winscp.take("MLSD");
        winscp.say(&format!("MKD {mode}"), 257);
        winscp.say(&format!("CWD /{mode}"), 250);
        winscp.say("PWD", 257);
        winscp.say("SIZE lab.hl7", 550);
        winscp.say("TYPE I", 200);
        winscp.send("STOR lab.hl7", &bytes, &[]);
        winscp.say("MFMT 20200102030405 lab.hl7", 213);
        // Once more, over what is there.
        assert!(winscp.say("SIZE lab.hl7", 213).contains(" 2000000"));
        assert!(winscp.say("MDTM lab.hl7", 213).contains(" 20200102030405"));
        winscp.say("TYPE I", 200);
        winscp.send("STOR lab.hl7", &bytes[..5000], &[]);
        winscp.say("MFMT 20210102030405 lab.hl7", 213);
        let chmod = winscp.ftp.command("SITE CHMOD 644 lab.hl7");
        assert!(chmod.code == 200 || (500..505).contains(&chmod.code), "{chmod:?}");
        winscp.say("TYPE I", 200);
        winscp.cut(&site, "STOR cut.hl7", &bytes[..700_000]);

        let mut winscp = begin();
        winscp.say(&format!("CWD /{mode}"), 250);
        assert!(winscp.say("SIZE cut.hl7", 213).contains(" 700000"));
        winscp.say("TYPE I", 200);
        let options = winscp.ftp.command("OPTS REST STOR");
        assert!((500..505).contains(&options.code), "{options:?}");
        winscp.send("APPE cut.hl7", &bytes[700_000..], &[]);
        winscp.say("MFMT 20200102030405 cut.hl7", 213);
        winscp.say("RNFR cut.hl7", 350);
        winscp.say("RNTO whole.hl7", 250);
        winscp.say("TYPE A", 200);
        let facts = winscp.line_of("MLSD", "whole.hl7").expect("the file is seen").to_lowercase();
        assert!(facts.contains("size=2000000;"), "{facts}");
        winscp.say("NOOP", 200);
        winscp.say("QUIT", 221);
        site.assert_kept_each(&format!("{mode}/lab.hl7"), &[&bytes, &bytes[..5000]]);
        // It was renamed when no processor had begun it, or after: its bytes are the whole in any case.
        let queue =
            site.queue().into_iter().filter(|(name, _)| name.ends_with("cut.hl7") || name.ends_with("whole.hl7"));
        assert_eq!(queue.filter(|(name, _)| name.starts_with(&format!("{mode}/"))).count(), 1);
    }
    site.assert_handed_over();
}

/// It looks by SIZE, makes folders on the way, says NOOP while it sends, and compares a digest.
#[test]
fn fluent_ftp() {
    let site = Site::open("");
    let (_, bytes) = site.source("lab.hl7", LARGE);
    for mode in ALL_MODES {
        let begin = || {
            let mut fluent = Replay::begin(&site, mode, "EPSV");
            fluent.protect();
            fluent.say("FEAT", 211);
            fluent.say("OPTS UTF8 ON", 200);
            fluent.say("SYST", 215);
            fluent
        };
        let mut fluent = begin();
        fluent.say("TYPE I", 200);
        fluent.say(&format!("SIZE /{mode}/sub/lab.hl7"), 550);
        fluent.say("PWD", 257);
        fluent.say(&format!("CWD /{mode}/sub"), 550);
        for folder in [format!("/{mode}"), format!("/{mode}/sub")] {
            fluent.say(&format!("MKD {folder}"), 257);
        }
        fluent.send(&format!("STOR /{mode}/sub/lab.hl7"), &bytes, &["NOOP", "NOOP"]);
        assert!(fluent.say(&format!("SIZE /{mode}/sub/lab.hl7"), 213).contains(" 2000000"));
        fluent.say("OPTS HASH SHA-256", 200);
        fluent.say(&format!("HASH /{mode}/sub/lab.hl7"), 213);
        fluent.say(&format!("MFMT 20200102030405 /{mode}/sub/lab.hl7"), 213);
        // Overwriting: it deletes first.
        fluent.say(&format!("SIZE /{mode}/sub/lab.hl7"), 213);
        fluent.say(&format!("DELE /{mode}/sub/lab.hl7"), 250);
        fluent.send(&format!("STOR /{mode}/sub/lab.hl7"), &bytes[..5000], &[]);
        fluent.cut(&site, &format!("STOR /{mode}/sub/cut.hl7"), &bytes[..700_000]);

        // It goes on by SIZE and APPE, and moves what it has sent under a temporary name.
        let mut fluent = begin();
        fluent.say("TYPE I", 200);
        assert!(fluent.say(&format!("SIZE /{mode}/sub/cut.hl7"), 213).contains(" 700000"));
        fluent.send(&format!("APPE /{mode}/sub/cut.hl7"), &bytes[700_000..], &["NOOP"]);
        fluent.send(&format!("STOR /{mode}/moved.hl7.tmp"), &bytes, &[]);
        fluent.say(&format!("SIZE /{mode}/moved.hl7.tmp"), 213);
        fluent.say(&format!("SIZE /{mode}/moved.hl7"), 550);
        fluent.say(&format!("RNFR /{mode}/moved.hl7.tmp"), 350);
        fluent.say(&format!("RNTO /{mode}/moved.hl7"), 250);
        assert!(fluent.line_of(&format!("MLSD /{mode}"), "moved.hl7").is_some());
        fluent.say("QUIT", 221);
        site.assert_kept_each(&format!("{mode}/sub/lab.hl7"), &[&bytes, &bytes[..5000]]);
        site.assert_kept(&format!("{mode}/sub/cut.hl7"), &bytes);
        site.assert_kept(&format!("{mode}/moved.hl7"), &bytes);
    }
    site.assert_handed_over();
}
