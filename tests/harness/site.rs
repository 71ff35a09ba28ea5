//! The real server for real clients: FTP in the clear, behind AUTH TLS and with TLS from the start, and files to send.

use std::{
    fmt, fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    process::Command,
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use sha2::{Digest, Sha256};

use super::{
    Ftp,
    binary::Machine,
    files_below,
    ports::{free_address, free_ports},
    wait_until,
};

pub const USER: &str = "clinic";
pub const PASSWORD: &str = "correct-horse-battery";

/// How a client speaks with the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Plain,
    Explicit,
    Implicit,
}

pub const ALL_MODES: [Mode; 3] = [Mode::Plain, Mode::Explicit, Mode::Implicit];

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Plain => "plain",
            Self::Explicit => "explicit",
            Self::Implicit => "implicit",
        })
    }
}

pub struct Site {
    pub machine: Machine,
    implicit: SocketAddr,
}

impl Site {
    /// A server that runs, with one account.
    pub fn open(more: &str) -> Self {
        Self::limited(more, "max_sessions_per_partner = 100")
    }

    /// The same with lines in `[limits]`.
    pub fn limited(more: &str, limits: &str) -> Self {
        Self::with(more, limits, "")
    }

    /// The same with lines in `[sftp]` too.
    pub fn with(more: &str, limits: &str, sftp: &str) -> Self {
        let implicit = free_address();
        let (first, last) = free_ports();
        let ports = format!("passive_ports = \"{first}-{last}\"");
        // All clients of a test come from one address.
        let calm = match limits.contains("startup") {
            true => "",
            false => "max_startups = \"10000:1:10000\"\nstartup_burst = 10000",
        };
        let mut machine = Machine::with_ftp(
            &format!("implicit_listen = \"{implicit}\"\n{ports}\n{more}\n"),
            &format!(
                "[limits]\n{calm}\n{limits}\n\n\
                 [[route]]\nname = \"all\"\nprocessor = \"deliver\"\ndirectory = \"@DIR@/delivered\"\n"
            ),
        );
        let config = fs::read_to_string(machine.path().join("forebay.toml")).expect("a configuration");
        // A key stands once.
        let own = sftp.contains("host_key_algorithms").then_some("host_key_algorithms = [\"ssh-ed25519\"]\n");
        let config = own.map_or(config.clone(), |line| config.replace(line, ""));
        machine.write("forebay.toml", &config.replace("[sftp]\n", &format!("[sftp]\n{sftp}\n")));
        machine.add_partner(USER, PASSWORD);
        machine.start();
        Self { machine, implicit }
    }

    /// Of the server's process: `VmRSS`, `VmHWM`.
    pub fn memory_kib(&self, what: &str) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.machine.pid())).expect("it runs");
        let line = status.lines().find(|line| line.starts_with(what)).expect("is told");
        line.split_ascii_whitespace().nth(1).and_then(|number| number.parse().ok()).expect("a number")
    }

    pub fn address(&self, mode: Mode) -> SocketAddr {
        match mode {
            Mode::Plain | Mode::Explicit => self.machine.ftp,
            Mode::Implicit => self.implicit,
        }
    }

    pub fn url(&self, mode: Mode) -> String {
        let scheme = if mode == Mode::Implicit { "ftps" } else { "ftp" };
        format!("{scheme}://{}", self.address(mode))
    }

    /// The certificate that the server made for itself, for clients to trust.
    pub fn certificate(&self) -> PathBuf {
        self.machine.data().join("tls/certificate.pem")
    }

    /// A file to be sent, with bytes of its own.
    pub fn source(&self, name: &str, bytes: usize) -> (PathBuf, Vec<u8>) {
        let path = self.machine.path().join("outgoing").join(name);
        fs::create_dir_all(path.parent().expect("has a parent")).expect("mkdir");
        let seed = name.bytes().fold(bytes as u64, |seed, byte| seed.wrapping_mul(31) + u64::from(byte));
        let mut content = vec![0; bytes];
        StdRng::seed_from_u64(seed).fill(content.as_mut_slice());
        fs::write(&path, &content).expect("writes");
        (path, content)
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.machine.path().join(name)
    }

    /// Sends the beginning of a file and is gone: what is kept of it waits to be gone on with.
    pub fn cut(&self, name: &str, bytes: &[u8]) {
        let before = self.partials().len();
        let mut ftp = Ftp::connect(self.machine.ftp);
        ftp.login(USER, PASSWORD);
        if let Some((directory, _)) = name.rsplit_once('/') {
            assert!(matches!(ftp.command(&format!("MKD {directory}")).code, 257 | 550));
        }
        let mut data = ftp.passive();
        assert_eq!(ftp.command(&format!("STOR {name}")).code, 150);
        std::io::Write::write_all(&mut data, bytes).expect("is taken");
        drop((ftp, data));
        wait_until("the partial is kept", || self.partials().len() > before);
    }

    pub fn partials(&self) -> Vec<PathBuf> {
        files_below(&self.machine.data().join("partials"))
    }

    /// Names and digests of what the queue has, but for files that later ones have continued.
    pub fn queue(&self) -> Vec<(String, String)> {
        let text = |entry: &serde_json::Value, key: &str| entry[key].as_str().expect("a text").to_owned();
        let entries = self.machine.queue();
        let whole = entries.iter().filter(|entry| entry["state"] != "superseded");
        whole.map(|entry| (text(entry, "name"), text(entry, "sha256"))).collect()
    }

    /// The queue has this file once, with these bytes.
    pub fn assert_kept(&self, name: &str, bytes: &[u8]) {
        let found: Vec<_> = self.queue().into_iter().filter(|(known, _)| known == name).collect();
        assert_eq!(found, [(name.to_owned(), digest(bytes))], "{name}\n{}", self.machine.log());
    }

    /// The queue has files of this name with these bytes, one for each upload, in whatever order.
    pub fn assert_kept_each(&self, name: &str, uploads: &[&[u8]]) {
        let mut expected: Vec<_> = uploads.iter().map(|bytes| digest(bytes)).collect();
        let queue = self.queue().into_iter().filter(|(known, _)| known == name);
        let mut found: Vec<_> = queue.map(|(_, digest)| digest).collect();
        expected.sort();
        found.sort();
        assert_eq!(found, expected, "{name}\n{}", self.machine.log());
    }

    /// What the programs of `tests/clients` that send everything leave in a directory, but for what they go on with.
    pub fn assert_used(&self, directory: &str, content: &[u8]) {
        for name in ["whole.bin", "named.bin"] {
            self.assert_kept(&format!("{directory}/{name}"), content);
        }
        self.assert_kept(&format!("{directory}/small.hl7"), &content[..1000]);
        self.assert_kept_each(&format!("{directory}/twice.hl7"), &[&content[..2000], &content[..3000]]);
        self.assert_kept(&format!("{directory}/gone.hl7"), &content[..4000]);
    }

    /// Waits until a processor has had every file; it was handed what is kept under its name, and nothing else.
    pub fn assert_handed_over(&self) {
        let is_over = |entry: &serde_json::Value| entry["state"] == "done" || entry["state"] == "superseded";
        self.machine.wait_queue("all is processed", |entries| entries.iter().all(is_over));
        let below = self.path("delivered").join(USER);
        let mut kept: Vec<_> = self.queue().iter().map(|(name, sha256)| (plain(name), sha256.clone())).collect();
        let named = |path: &Path| plain(text(path.strip_prefix(&below).expect("is below")));
        let read = |path: &Path| digest(&fs::read(path).expect("can be read"));
        let mut handed: Vec<_> = files_below(&below).iter().map(|path| (named(path), read(path))).collect();
        kept.sort();
        handed.sort();
        assert_eq!(handed, kept, "{}", self.machine.log());
    }

    /// Runs a client that must succeed, with a home of its own and for a minute at most; gives what it said.
    pub fn run(&self, program: &str, arguments: &[&str]) -> String {
        self.run_with(program, arguments, "")
    }

    pub fn run_with(&self, program: &str, arguments: &[&str], input: &str) -> String {
        let (ended_well, text) = self.try_run(program, arguments, input);
        assert!(ended_well, "{program} {arguments:?}\n{text}\n{}", self.machine.log());
        text
    }

    pub fn try_run(&self, program: &str, arguments: &[&str], input: &str) -> (bool, String) {
        let stdin = self.path("input");
        fs::write(&stdin, input).expect("writes");
        let home = self.path("home-of-the-client");
        fs::create_dir_all(&home).expect("mkdir");
        let output = Command::new("timeout")
            .args(["--kill-after=5", "60", program])
            .args(arguments)
            .current_dir(&home)
            .env("HOME", &home)
            // What knows no option for it trusts the server by this.
            .env("SSL_CERT_FILE", self.certificate())
            .env_remove("PYTHONPATH")
            .stdin(fs::File::open(stdin).expect("opens"))
            .output()
            .unwrap_or_else(|error| panic!("{program}: {error}; tests/run installs the clients"));
        assert_ne!(output.status.code(), Some(127), "{program} is missing; tests/run installs the clients");
        let text = format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        (output.status.success(), text)
    }
}

/// A name without what `deliver` puts before the extension when there is a file of this name already.
fn plain(name: &str) -> String {
    let is_added = |part: &str| part.len() == 8 && part.bytes().all(|byte| byte.is_ascii_hexdigit());
    let parts: Vec<_> = name.split('.').filter(|part| !is_added(part)).collect();
    parts.join(".")
}

fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A path as a client's argument.
pub fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

/// What came back is what was sent.
pub fn same(path: &Path, bytes: &[u8]) {
    assert!(fs::read(path).unwrap() == bytes, "{} came back changed", path.display());
}
