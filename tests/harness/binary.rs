//! The real program, started, watched and killed.

use std::{
    fs,
    io::{Read, Write},
    net::{SocketAddr, TcpStream},
    os::unix::{fs::PermissionsExt, process::CommandExt},
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::{Duration, Instant},
};

use super::{client::Addresses, ports::free_address};

/// The program under test.
pub const FOREBAY: &str = env!("CARGO_BIN_EXE_forebay");

/// How long a state may take to come about before a test fails.
pub const BOUND: Duration = Duration::from_secs(60);

/// The user of a server in tests that have more than one. None needs to be known to the system.
pub const SERVER_USER: u32 = 64_321;
/// The user of a runner.
pub const RUNNER_USER: u32 = 64_322;

/// Makes a path another user's.
pub fn give(path: &Path, user: u32) {
    std::os::unix::fs::chown(path, Some(user), Some(user)).expect("root may do that");
}

/// A directory with a configuration, and the server that runs on it when it runs.
pub struct Machine {
    dir: tempfile::TempDir,
    child: Option<Child>,
    /// Where FTP listens.
    pub ftp: SocketAddr,
    /// Where SFTP listens.
    pub sftp: SocketAddr,
    /// Where the web listens.
    pub web: SocketAddr,
    /// Added to the server's environment.
    pub environment: Vec<(&'static str, String)>,
    user: Option<u32>,
    /// The program that starts the server, with its arguments; none: it is started by itself.
    pub starter: Vec<String>,
}

impl Machine {
    /// A fresh data directory; `extra` is added to `forebay.toml`, with `@DIR@` standing for the directory.
    pub fn new(extra: &str) -> Self {
        Self::with_ftp("", extra)
    }

    /// The same with more lines in `[ftp]`.
    pub fn with_ftp(more: &str, extra: &str) -> Self {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (ftp, sftp, web) = (free_address(), free_address(), free_address());
        let extra = extra.replace("@DIR@", dir.path().to_str().expect("UTF-8"));
        let config = format!(
            "data = \"data\"\n\n[storage]\nreserve = \"1 MiB\"\n\n[ftp]\nlisten = \"{ftp}\"\ntls = \"optional\"\n{more}\n\
             [sftp]\nlisten = \"{sftp}\"\nhost_key_algorithms = [\"ssh-ed25519\"]\n\n[web]\nlisten = \"{web}\"\n\n{extra}"
        );
        fs::write(dir.path().join("forebay.toml"), config).expect("writes the configuration");
        Self { dir, child: None, ftp, sftp, web, environment: Vec::new(), user: None, starter: Vec::new() }
    }

    /// Lets everything run as a user of its own; where the tests do not run as root, that is theirs.
    pub fn with_its_own_user(mut self) -> Self {
        if rustix::process::geteuid().is_root() {
            // The build may lie below somebody's home, where others cannot go.
            let program = self.path().join("forebay");
            fs::hard_link(FOREBAY, &program).or_else(|_| fs::copy(FOREBAY, &program).map(drop)).expect("a copy");
            fs::set_permissions(self.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
            give(self.path(), SERVER_USER);
            self.user = Some(SERVER_USER);
        }
        self
    }

    /// The program as the server, started by another if there is one.
    fn started_by(&self) -> Command {
        let Some((starter, arguments)) = self.starter.split_first() else { return self.command() };
        let mut command = Command::new(starter);
        command.args(arguments).arg(FOREBAY);
        command
    }

    /// The program, as the user that everything runs as.
    fn command(&self) -> Command {
        let Some(user) = self.user else { return Command::new(FOREBAY) };
        let mut command = Command::new(self.path().join("forebay"));
        command.uid(user).gid(user);
        command
    }

    pub fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Where its doors are.
    pub fn addresses(&self) -> Addresses {
        Addresses { ftp: self.ftp, sftp: self.sftp }
    }

    pub fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    pub fn write(&self, name: &str, text: &str) {
        fs::write(self.dir.path().join(name), text).expect("writes a file");
    }

    /// Starts the server and waits until it is ready.
    pub fn start(&mut self) -> &mut Self {
        self.spawn();
        self.wait_ready();
        self
    }

    /// Starts the server and does not wait.
    pub fn spawn(&mut self) {
        let log = fs::File::options().create(true).append(true).open(self.path().join("server.log")).expect("a log");
        self.spawn_logging_to(log.into());
    }

    /// The same, with another standard error.
    pub fn spawn_logging_to(&mut self, standard_error: Stdio) {
        assert!(self.child.is_none(), "it runs already");
        let log = fs::File::options().create(true).append(true).open(self.path().join("server.log")).expect("a log");
        let child = self
            .started_by()
            .arg("serve")
            .arg("--config")
            .arg(self.path().join("forebay.toml"))
            .current_dir(self.path())
            .env("RUST_BACKTRACE", "1")
            .envs(self.environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(standard_error)
            .spawn()
            .expect("forebay starts");
        self.child = Some(child);
    }

    /// Waits until `/readyz` answers 200.
    pub fn wait_ready(&mut self) {
        let web = self.web;
        let began = Instant::now();
        while http_status(web, "/readyz") != Some(200) {
            if let Some(status) = self.child.as_mut().expect("started").try_wait().expect("can be asked") {
                panic!("the server ended with {status}:\n{}", self.log());
            }
            assert!(began.elapsed() < BOUND, "not ready in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("can be killed");
        child.wait().expect("can be waited for");
    }

    /// SIGTERM, and waits until it has drained.
    pub fn stop(&mut self) {
        let mut child = self.child.take().expect("it runs");
        let pid = rustix::process::Pid::from_child(&child);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("can be told");
        let began = Instant::now();
        while child.try_wait().expect("can be asked").is_none() {
            assert!(began.elapsed() < BOUND, "did not stop in time:\n{}", self.log());
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Signals the server.
    pub fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(self.child.as_ref().expect("it runs"));
        rustix::process::kill_process(pid, signal).expect("can be told");
    }

    /// Waits until the server has ended by itself.
    pub fn ended(&mut self, bound: Duration) -> std::process::ExitStatus {
        let mut child = self.child.take().expect("it runs");
        let began = Instant::now();
        loop {
            if let Some(status) = child.try_wait().expect("can be asked") {
                return status;
            }
            if began.elapsed() > bound {
                let _ = child.kill();
                panic!("it runs on:\n{}", self.log());
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// The server's standard error, if it is a pipe.
    pub fn standard_error(&mut self) -> std::process::ChildStderr {
        self.child.as_mut().expect("it runs").stderr.take().expect("a pipe")
    }

    pub fn pid(&self) -> u32 {
        self.child.as_ref().expect("it runs").id()
    }

    /// Runs a verb of the CLI.
    pub fn cli(&self, arguments: &[&str]) -> Output {
        self.cli_with(arguments, "")
    }

    /// Runs a verb of the CLI with something on its standard input.
    pub fn cli_with(&self, arguments: &[&str], input: &str) -> Output {
        let mut child = self
            .command()
            .arg("--config")
            .arg(self.path().join("forebay.toml"))
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("forebay starts");
        // A verb that does not read its input may have closed it already.
        let _ = child.stdin.take().expect("piped").write_all(input.as_bytes());
        child.wait_with_output().expect("it ends")
    }

    /// Runs a verb that must succeed and gives what it printed.
    pub fn ok(&self, arguments: &[&str]) -> String {
        let output = self.cli(arguments);
        assert!(
            output.status.success(),
            "forebay {arguments:?}: {}\n{}{}\n{}",
            output.status,
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr),
            self.log()
        );
        String::from_utf8(output.stdout).expect("prints UTF-8")
    }

    /// A partner with this password.
    pub fn add_partner(&self, name: &str, password: &str) {
        let output = self.cli_with(&["partner", "add", name, "--password-stdin"], password);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// `queue list --json`, parsed.
    pub fn queue(&self) -> Vec<serde_json::Value> {
        json_lines(&self.ok(&["queue", "list", "--json"]))
    }

    /// Waits until no entry is in one of these states, as long as they become fewer. Asks for the figures alone, for a
    /// queue may be long.
    pub fn wait_until_none_is(&self, states: &[&str], what: &str) {
        let count = || {
            let stats: serde_json::Value = serde_json::from_str(&self.ok(&["queue", "stats", "--json"])).unwrap();
            let rows = stats["states"].as_array().expect("states").clone();
            let wanted = rows.iter().filter(|row| states.iter().any(|state| row["state"] == *state));
            wanted.map(|row| row["files"].as_u64().expect("a number")).sum::<u64>()
        };
        let (mut left, mut since) = (u64::MAX, Instant::now());
        loop {
            let now = count();
            if now == 0 {
                return;
            }
            if now < left {
                (left, since) = (now, Instant::now());
            }
            assert!(since.elapsed() < BOUND, "{what}: {now} are left\n{}", self.log());
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// Waits until the queue as a whole is as wanted.
    pub fn wait_queue(
        &self,
        what: &str,
        mut wanted: impl FnMut(&[serde_json::Value]) -> bool,
    ) -> Vec<serde_json::Value> {
        let began = Instant::now();
        loop {
            let entries = self.queue();
            if wanted(&entries) {
                return entries;
            }
            if began.elapsed() > BOUND {
                let unlike: Vec<_> = entries.iter().filter(|entry| entry["state"] != "done").take(5).collect();
                panic!("{what}: not in time; {} entries, for example {unlike:#?}\n{}", entries.len(), self.log());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The end of the server's log.
    pub fn log(&self) -> String {
        let text = fs::read_to_string(self.path().join("server.log")).unwrap_or_default();
        let from = text.char_indices().rev().nth(6_000).map_or(0, |(at, _)| at);
        format!("--- server.log ---\n{}", &text[from..])
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

/// One JSON value a line.
pub fn json_lines(text: &str) -> Vec<serde_json::Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error} in {line}"))).collect()
}

/// The status of a GET, if there is an answer.
pub fn http_status(address: SocketAddr, path: &str) -> Option<u16> {
    let text = http_get(address, path, "*/*")?;
    text.split(' ').nth(1)?.parse().ok()
}

/// The whole answer to a GET, if there is one.
pub fn http_get(address: SocketAddr, path: &str, accept: &str) -> Option<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).ok()?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nAccept: {accept}\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    Some(text)
}
