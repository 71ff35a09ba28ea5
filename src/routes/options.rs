//! The settings of a route, with every fault of them.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use forebay_queue::{Backoff, Order};
use serde::{Deserialize, Serialize};

use super::{globs::compile_one, messages::MessageOptions};
use crate::units;

/// One `[[route]]` of the configuration.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The name of the route, in the schedule too: `[A-Za-z0-9][A-Za-z0-9._-]{0,63}`, but not `web`.
    pub name: String,
    /// Globs of partner names.
    #[serde(default = "everything")]
    pub partners: Vec<String>,
    /// Globs of paths.
    #[serde(default = "everything")]
    pub paths: Vec<String>,
    /// The processor of the files.
    #[serde(default)]
    pub processor: ProcessorKind,
    /// `exec`: the program and its arguments; no shell reads them. Its name without `/` is looked up in PATH.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub command: Vec<String>,
    /// `deliver`: where the files go; `<data>/delivered` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// `strict`: one file of a partner at a time, and one that waits to be retried holds up those behind it.
    #[serde(default)]
    pub order: Order,
    /// Files of this route at once.
    #[serde(default = "default_concurrency")]
    pub concurrency: usize,
    /// Files of one partner at once, with `order = "none"`; no bound but `concurrency` if not given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub per_partner: Option<usize>,
    /// `exec`: how long an attempt may take before it is stopped and counts as failed.
    #[serde(default = "default_timeout", with = "units::duration")]
    pub timeout: Duration,
    /// When a failed file is tried again.
    #[serde(default)]
    pub retry: Retry,
    /// `exec`: variables the program gets besides PATH, HOME, LANG and `FOREBAY_*`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub environment: BTreeMap<String, String>,
    /// `exec`: True if the program reaches nothing of the server's: see [`RunAs::Confined`].
    #[serde(default)]
    pub confine: bool,
    /// `exec` with `confine`: directories and files that the program may write to, beside its own directory.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub writable: Vec<PathBuf>,
    /// `exec`: the socket of the `forebay runner` that runs the program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runner: Option<PathBuf>,
    /// `exec` with `runner`: whose it must be, by name or number.
    #[serde(default = "default_runner_user")]
    pub runner_user: String,
    /// The same partner, path, size and digest, done within this time, is a duplicate; `0` turns it off.
    #[serde(default = "default_duplicate_window", with = "units::duration")]
    pub duplicate_window: Duration,
    /// Hands files over message by message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub messages: Option<MessageOptions>,
}

/// The processor of a route's files.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ProcessorKind {
    /// Put into a directory.
    #[default]
    Deliver,
    /// Given to a program.
    Exec,
}

/// Whom the programs of a route run as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RunAs {
    /// The server's own user: they can do all that the server can.
    Server,
    /// The server's own user, kept from its data and keys by the kernel.
    Confined,
    /// The user of a runner.
    Runner {
        /// Where it listens.
        socket: PathBuf,
        /// Who it is.
        user: String,
    },
}

/// Exponential back-off with jitter: `[route.retry]`.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Retry {
    /// The first wait.
    #[serde(with = "units::duration")]
    pub first: Duration,
    /// By how much each wait is longer than the one before; at least 1.
    pub factor: f64,
    /// The longest wait.
    #[serde(with = "units::duration")]
    pub max: Duration,
    /// The part of a wait that is left to chance, 0 to 1.
    pub jitter: f64,
    /// A file that has failed for this long is dead.
    #[serde(with = "units::duration")]
    pub give_up_after: Duration,
}

impl Default for Retry {
    fn default() -> Self {
        let Backoff { first_ms, factor, max_ms, jitter, give_up_after_ms } = Backoff::default();
        Self {
            first: Duration::from_millis(first_ms),
            factor,
            max: Duration::from_millis(max_ms),
            jitter,
            give_up_after: Duration::from_millis(give_up_after_ms),
        }
    }
}

impl Default for Options {
    /// The route that is there when none is configured: every file goes to `<data>/delivered`.
    fn default() -> Self {
        Self {
            name: "deliver".to_owned(),
            partners: everything(),
            paths: everything(),
            processor: ProcessorKind::Deliver,
            command: Vec::new(),
            directory: None,
            order: Order::default(),
            concurrency: default_concurrency(),
            per_partner: None,
            timeout: default_timeout(),
            retry: Retry::default(),
            environment: BTreeMap::new(),
            confine: false,
            writable: Vec::new(),
            runner: None,
            runner_user: default_runner_user(),
            duplicate_window: default_duplicate_window(),
            messages: None,
        }
    }
}

fn everything() -> Vec<String> {
    vec!["*".to_owned()]
}

fn default_concurrency() -> usize {
    4
}

fn default_timeout() -> Duration {
    Duration::from_secs(3600)
}

fn default_runner_user() -> String {
    "forebay-runner".to_owned()
}

fn default_duplicate_window() -> Duration {
    Duration::from_secs(24 * 3600)
}

/// A fault in the configuration of a route.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{key}: {what}")]
pub struct RouteFault {
    /// The key's path, such as `route[0].paths[1]`.
    pub key: String,
    /// The fault, as a sentence.
    pub what: String,
}

/// Every fault of all routes, with `route[<index>].<key>`.
#[must_use]
pub fn validate(routes: &[Options]) -> Vec<RouteFault> {
    let mut faults = Vec::new();
    for (index, route) in routes.iter().enumerate() {
        let before = format!("route[{index}]");
        route.validate(&before, &mut faults);
        // Without regard to case: names stand in the schedule and in commands, where people mistype
        // it.
        let again = routes[..index].iter().any(|other| other.name.eq_ignore_ascii_case(&route.name));
        if again {
            faults.push(fault(&before, "name", format!("there is another route \"{}\"", route.name)));
        }
    }
    faults
}

pub(super) fn fault(before: &str, key: &str, what: impl Into<String>) -> RouteFault {
    RouteFault { key: format!("{before}.{key}"), what: what.into() }
}

impl Options {
    /// Whom its programs run as, if it has any.
    #[must_use]
    pub fn run_as(&self) -> RunAs {
        match &self.runner {
            Some(socket) => RunAs::Runner { socket: socket.clone(), user: self.runner_user.clone() },
            None if self.confine => RunAs::Confined,
            None => RunAs::Server,
        }
    }

    /// Adds every fault, with `before` as the beginning of its key.
    pub fn validate(&self, before: &str, faults: &mut Vec<RouteFault>) {
        let mut say = |key: &str, what: &str| faults.push(fault(before, key, what));
        if !is_name(&self.name) {
            say("name", "write 1 to 64 of A-Z a-z 0-9 . _ -, with a letter or digit first");
        }
        if self.name.eq_ignore_ascii_case("web") {
            say("name", "\"web\" stands for the web faces in the schedule; choose another name");
        }
        if self.partners.is_empty() {
            say("partners", "is empty: no file would ever match");
        }
        if self.paths.is_empty() {
            say("paths", "is empty: no file would ever match");
        }
        if self.concurrency == 0 {
            say("concurrency", "must be at least 1");
        }
        if self.per_partner == Some(0) {
            say("per_partner", "must be at least 1");
        }
        if self.timeout.is_zero() {
            say("timeout", "must be longer than 0");
        }
        self.validate_processor(&mut say);
        self.retry.validate(&mut say);
        if let Some(messages) = &self.messages {
            messages.validate(self, &mut say);
        }
        for (key, globs) in [("partners", &self.partners), ("paths", &self.paths)] {
            for (index, glob) in globs.iter().enumerate() {
                if let Err(what) = compile_one(glob) {
                    faults.push(fault(before, &format!("{key}[{index}]"), what));
                }
            }
        }
    }

    fn validate_processor(&self, say: &mut impl FnMut(&str, &str)) {
        match self.processor {
            ProcessorKind::Exec => {
                match self.command.first() {
                    None => say("command", "is missing: write the program and its arguments as a list"),
                    Some(program) if program.is_empty() => say("command[0]", "is empty"),
                    // Relative to what, would be the question: programs run in directories of their
                    // own.
                    Some(program) if program.contains('/') && !program.starts_with('/') => {
                        say("command[0]", "write an absolute path, or a bare name that PATH finds");
                    }
                    Some(_) => {}
                }
                // The kernel ends an argument at it, so the program would get another than was
                // written.
                if self.command.iter().any(|word| word.contains('\0')) {
                    say("command", "contains a NUL");
                }
                // A key that does nothing would be taken for one that does.
                if self.directory.is_some() {
                    say("directory", "belongs to processor = \"deliver\"");
                }
                if self.confine && self.runner.is_some() {
                    say(
                        "confine",
                        "is for programs that the server starts itself; those of a runner have another user",
                    );
                }
                if !self.confine && !self.writable.is_empty() {
                    say("writable", "belongs to confine = true");
                }
            }
            ProcessorKind::Deliver => {
                if !self.command.is_empty() {
                    say("command", "belongs to processor = \"exec\"");
                }
                if !self.environment.is_empty() {
                    say("environment", "belongs to processor = \"exec\"");
                }
                for (key, is_set) in [
                    ("confine", self.confine),
                    ("writable", !self.writable.is_empty()),
                    ("runner", self.runner.is_some()),
                ] {
                    if is_set {
                        say(key, "belongs to processor = \"exec\"");
                    }
                }
                if self.directory.as_ref().is_some_and(|directory| directory.as_os_str().is_empty()) {
                    say("directory", "is empty");
                }
            }
        }
        for (name, value) in &self.environment {
            let key = format!("environment.{name}");
            // The environment is a list of NAME=VALUE, each ended by a NUL.
            if name.is_empty() || name.contains(['=', '\0']) || value.contains('\0') {
                say(&key, "is no variable that a program can get");
            }
            // A program must be able to believe them.
            if name.starts_with("FOREBAY_") {
                say(&key, "names that begin with FOREBAY_ are the server's");
            }
        }
    }
}

impl Retry {
    /// The back-off as the queue takes it.
    #[must_use]
    pub fn backoff(&self) -> Backoff {
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Backoff {
            first_ms: millis(self.first),
            factor: self.factor,
            max_ms: millis(self.max),
            jitter: self.jitter,
            give_up_after_ms: millis(self.give_up_after),
        }
    }

    fn validate(&self, say: &mut impl FnMut(&str, &str)) {
        if self.first.is_zero() {
            say("retry.first", "must be longer than 0");
        }
        // Below 1 the waits would get shorter; NaN is in no range.
        if !(1.0..=100.0).contains(&self.factor) {
            say("retry.factor", "must be from 1 to 100");
        }
        if self.max < self.first {
            say("retry.max", "must not be shorter than retry.first");
        }
        // A file that is tried once a week is forgotten by everybody.
        if self.max > Duration::from_secs(7 * 86_400) {
            say("retry.max", "must not be longer than a week");
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            say("retry.jitter", "must be from 0 to 1");
        }
        if self.give_up_after.is_zero() {
            say("retry.give_up_after", "must be longer than 0");
        }
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    // A name that begins with a dash would be an option on the command line.
    bytes.next().is_some_and(|first| first.is_ascii_alphanumeric())
        && name.len() <= 64
        && bytes.all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-'))
}
