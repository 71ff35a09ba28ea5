//! Clients in processes of their own that upload a file and are killed with SIGKILL at a byte or moment of their plan.

use std::{
    fmt,
    io::{BufRead, BufReader, Write},
    net::SocketAddr,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use rand::{RngExt, SeedableRng, rngs::StdRng};
use serde::{Deserialize, Serialize};

/// How far a client came: it says so when it has done it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Stage {
    /// It may send.
    Sending,
    /// All that it sends was given to its kernel.
    Sent,
    /// It has closed the data connection.
    Closed,
    /// It has read the 226.
    Read,
    /// It has sent the next command.
    #[serde(rename = "went on")]
    WentOn,
    /// It has read the reply to QUIT.
    Ended,
}

/// What a client is to do.
#[derive(Clone, Debug, Serialize)]
pub struct Plan {
    pub number: usize,
    pub name: String,
    pub size: usize,
    /// Of its bytes it sends these.
    pub sends: usize,
    /// It kills itself when it has come so far.
    pub dies: Option<Stage>,
    /// It is killed from outside `after_ms` after it has come so far.
    pub killed: Option<Stage>,
    pub after_ms: f64,
    /// It sends NOOP while the file is under way: when it dies, replies may be unread, and its end is a reset.
    pub noop: bool,
    /// Its end is a reset in any case (`SO_LINGER`).
    pub aborts: bool,
    /// The command after the upload.
    pub goes_on: &'static str,
}

/// What a client did.
#[derive(Clone, Debug)]
pub struct Life {
    pub plan: Plan,
    /// Of its control connection and its data connection.
    pub ports: Vec<u16>,
    pub came_to: Option<Stage>,
    pub was_killed: bool,
}

impl Plan {
    /// The plan of the client of this number, which follows from the seed alone.
    pub fn of(seed: u64, number: usize) -> Self {
        let mut random = StdRng::seed_from_u64(seed ^ (number as u64) << 32);
        // Small ones ride with their record, larger ones are files of their own.
        let most = if random.random_bool(0.5) { 20_000 } else { 150_000 };
        let size = random.random_range(1..most);
        let mut plan = Self {
            number,
            name: format!("{number:04}.hl7"),
            size,
            sends: size,
            dies: None,
            killed: None,
            after_ms: 0.0,
            noop: random.random_bool(0.2),
            aborts: random.random_bool(0.2),
            goes_on: if random.random_bool(0.5) { "QUIT" } else { "PWD" },
        };
        match random.random_range(0..100) {
            0..45 => (plan.sends, plan.dies) = (random.random_range(0..size), Some(Stage::Sent)),
            45..60 => (plan.killed, plan.after_ms) = (Some(Stage::Sending), random.random_range(0.0..60.0)),
            60..65 => plan.dies = Some(Stage::Sent),
            // Around the moment at which the reply comes.
            65..75 => (plan.killed, plan.after_ms) = (Some(Stage::Closed), random.random_range(0.0..40.0)),
            75..82 => plan.dies = Some(Stage::Read),
            82..87 => plan.dies = Some(Stage::WentOn),
            87..92 => (plan.killed, plan.after_ms) = (Some(Stage::WentOn), random.random_range(0.0..20.0)),
            _ => {}
        }
        plan
    }

    /// The whole file, in which no two places look alike.
    pub fn content(&self) -> Vec<u8> {
        let mut bytes: Vec<u8> =
            (0..=self.size / 18).flat_map(|line| format!("{:08} {line:08}\n", self.number).into_bytes()).collect();
        bytes.truncate(self.size);
        bytes
    }
}

impl Life {
    /// It has sent the whole file, and not died in the middle.
    pub fn has_sent_all(&self) -> bool {
        self.plan.sends == self.plan.size && self.came_to >= Some(Stage::Sent)
    }
}

impl fmt::Display for Life {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { plan, came_to, was_killed, .. } = self;
        write!(f, "{plan:?} came to {came_to:?}, {}", if *was_killed { "killed" } else { "lived" })
    }
}

/// A process that starts clients, one after the other.
pub struct Nursery {
    child: Child,
    plans: ChildStdin,
    told: BufReader<ChildStdout>,
}

impl Nursery {
    pub fn new(server: SocketAddr, user: &str, password: &str) -> Self {
        let (host, port) = (server.ip().to_string(), server.port().to_string());
        let mut child = Command::new("python3")
            .args(["-I", "-S", "-c", include_str!("mortal_uploads.py"), &host, &port, user, password])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("python3 starts");
        let (plans, told) = (child.stdin.take().expect("piped"), child.stdout.take().expect("piped"));
        Self { child, plans, told: BufReader::new(told) }
    }

    /// Lets a client live, and waits until it is over.
    pub fn live(&mut self, plan: Plan) -> Life {
        writeln!(self.plans, "{}", serde_json::to_string(&plan).expect("is JSON")).expect("python3 runs");
        let mut life = Life { plan, ports: Vec::new(), came_to: None, was_killed: false };
        loop {
            let mut line = String::new();
            self.told.read_line(&mut line).expect("UTF-8");
            match line.trim_end().split_once(' ') {
                Some(("port", port)) => life.ports.push(port.parse().expect("a port")),
                Some(("over", code)) => {
                    life.was_killed = code == "-9";
                    assert!(life.was_killed || code == "0", "{life}: ended with {code}");
                    return life;
                }
                _ => {
                    let stage = serde_json::from_value(line.trim_end().into());
                    life.came_to = Some(stage.unwrap_or_else(|error| panic!("{life}: {line:?}: {error}")));
                }
            }
        }
    }
}

impl Drop for Nursery {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
