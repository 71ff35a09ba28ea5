//! The context of every verb: the place of the server, and the output to the terminal.
//!
//! [`Context::ask`] decides who answers: the running server by its socket, or, when none runs and
//! the request allows it, an operator in this process on the data itself. It never does both, and
//! never falls back from a server that is there and does not answer: two processes must not write
//! one journal, for which the data directory's lock stands as well.

use std::{
    io::{self, Write as _},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use forebay_queue::{Actor, Watch};
use serde::Serialize;

use super::{args::Global, paint::Paint, progress::Progress};
use crate::{
    clock::{Clock, SystemClock},
    config::{self, Config},
    operate::{Answer, Client, Conversation, Hello, Piece, Problem, Reply, Request, system_users, time_input},
    server::{self, Holder},
    units::text::visible_json,
};

/// The context of every verb. The clock is there for progress and for work without a server; times
/// of day come with the answer.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) global: Global,
    pub(super) paint: Paint,
    pub(super) clock: Arc<dyn Clock>,
}

/// An answer with what came first.
/// Zone and time are the server's: "in 5 minutes" counts by its clock.
pub(super) struct Answered {
    pub(super) zone: Tz,
    pub(super) now: DateTime<Utc>,
    pub(super) live: bool,
    conversation: Conversation,
}

impl Context {
    pub(super) fn new(global: Global) -> Self {
        let paint = if global.json { Paint::none() } else { Paint::detect() };
        Self { global, paint, clock: Arc::new(SystemClock::new()) }
    }

    pub(super) fn json(&self) -> bool {
        self.global.json
    }

    /// The configuration, or all its faults.
    pub(super) fn config(&self) -> Result<Config, Problem> {
        let place = config::Place { config: self.global.config.clone(), data: self.global.data.clone() };
        Config::load(&place).map_err(|faults| {
            let lines: Vec<_> = faults.iter().map(ToString::to_string).collect();
            Problem::usage(format!("the configuration has faults:\n{}", lines.join("\n")))
        })
    }

    /// The data directory, also when the configuration has faults elsewhere.
    /// A configuration with a fault in another key must not keep an operator from a running server.
    pub(super) fn data(&self) -> Result<PathBuf, Problem> {
        let place = config::Place { config: self.global.config.clone(), data: self.global.data.clone() };
        config::data_dir(&place).map_err(|fault| Problem::usage(fault.to_string()))
    }

    /// Asks the running server, once it answers; without one, reads the data directly where that can be done.
    /// # Errors
    /// No server where one is needed (exit code 4), one that hangs, a socket without permission, or
    /// a configuration with faults where the data is read here.
    pub(super) async fn ask(&self, request: Request) -> Result<Answered, Problem> {
        let data = self.data()?;
        let mut wait = Wait::default();
        let conversation = loop {
            // The socket before the lock: a server that answers needs no waiting, whatever else is
            // going on.
            if let Some(client) = self.connect(&data).await? {
                let asked = client.ask(&request).await;
                break asked.map_err(|error| Problem::failed(format!("the server went away: {error}; see its log")))?;
            }
            // A server that starts has its lock before its socket, and one that stops has it longer.
            if let Some(holder) = server::serving(&data) {
                wait.on(&holder).await?;
                continue;
            }
            if !request.works_offline() {
                let what = format!("no server runs on {}; start it with `forebay serve`", data.display());
                return Err(Problem::needs_server(what));
            }
            match self.ask_here(request.clone()).await {
                // One was started meanwhile.
                Err(_) if server::serving(&data).is_some() => {}
                answer => break answer?,
            }
        };
        Answered::begin(conversation).await
    }

    async fn connect(&self, data: &Path) -> Result<Option<Client>, Problem> {
        Client::connect(data).await.map_err(|error| {
            let user = owner(data).unwrap_or_else(|| "the server's user".to_owned());
            Problem::failed(format!(
                "cannot reach the server of {}: {error}; run this as {user} or root",
                data.display()
            ))
        })
    }

    /// Takes the data directory's lock for as long as the answer lasts.
    async fn ask_here(&self, request: Request) -> Result<Conversation, Problem> {
        let config = self.config()?;
        let changes_accounts = matches!(request, Request::PartnerAdd { .. });
        // Only the first account may make a data directory: a look at a misspelt place must not
        // leave one there.
        if !config.data.exists() && !changes_accounts {
            let what = format!(
                "there is no data at {}; start a server with `forebay serve`, or name the place with --data or --config",
                config.data.display()
            );
            return Err(Problem::needs_server(what));
        }
        let shown = Arc::new(Progress::new(&self.clock, self.json()));
        let told = Arc::clone(&shown);
        let watch = Watch::new(move |done, total| told.at("index", done, total));
        let offline = server::open_offline(&config, Arc::clone(&self.clock), &watch).await?;
        shown.end();
        let (answer, pieces) = Answer::channel();
        let actor = Actor::Operator(system_users::own_name());
        tokio::spawn(async move { offline.operator.answer(request, actor, answer).await });
        Ok(Conversation::Local(pieces))
    }

    /// Prints an object as a line of JSON.
    pub(super) fn object(&self, object: &impl Serialize) -> Result<(), Problem> {
        let text = serde_json::to_string(object).map_err(|error| Problem::failed(error.to_string()))?;
        say(&visible_json(&text))
    }
}

/// The wait for a server that has its data directory and does not answer yet, or any more.
/// An operator's script may ask right after `systemctl start`: it should wait and not fail.
#[derive(Default)]
struct Wait {
    rounds: u32,
}

/// The time of one round of a wait.
const ROUND: Duration = Duration::from_millis(20);
/// Rounds before a person is told what is waited for.
const QUIET: u32 = 50;
/// Rounds after which a server is taken for one that hangs: ten minutes, the time that its unit gives a start.
const MOST: u32 = 30_000;

impl Wait {
    async fn on(&mut self, holder: &Holder) -> Result<(), Problem> {
        self.rounds += 1;
        if self.rounds == QUIET {
            complain(&format!("forebay: {holder} starts or stops; waiting for it"));
        }
        if self.rounds > MOST {
            return Err(Problem::failed(format!("{holder} has the data and does not answer; see its log")));
        }
        tokio::time::sleep(ROUND).await;
        Ok(())
    }
}

/// Prints a line; a reader that has gone away ends the program quietly.
/// # Errors
/// [`Cause::Gone`](crate::operate::Cause::Gone) when the reader has gone, which is exit code 0.
pub(super) fn say(text: &str) -> Result<(), Problem> {
    print(&format!("{text}\n"))
}

/// Prints text as it is.
/// Flushed each time: who follows a log wants to see it now.
pub(super) fn print(text: &str) -> Result<(), Problem> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes()).and_then(|()| out.flush()).map_err(|error| match error.kind() {
        io::ErrorKind::BrokenPipe => Problem::gone(),
        _ => Problem::failed(format!("cannot write the output: {error}")),
    })
}

/// Prints a line on standard error. One that cannot be written changes nothing: the exit code says it too.
pub(super) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{text}");
}

impl Answered {
    async fn begin(mut conversation: Conversation) -> Result<Self, Problem> {
        match conversation.next().await? {
            Some(Piece::Reply(Reply::Hello(Hello { zone, now, live }))) => {
                Ok(Self { zone: zone.parse().unwrap_or(Tz::UTC), now, live, conversation })
            }
            _ => Err(Problem::failed("the server speaks another language; is it another version?")),
        }
    }

    /// The next piece; nothing at the good end.
    /// # Errors
    /// The problem that the answer ends with, or that the server went away.
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Problem> {
        self.conversation.next().await
    }

    /// The next object; nothing at the good end.
    /// Bytes are passed over: only an export has some, and it reads pieces.
    pub(super) async fn reply(&mut self) -> Result<Option<Reply>, Problem> {
        loop {
            match self.next().await? {
                Some(Piece::Reply(reply)) => return Ok(Some(reply)),
                Some(Piece::Bytes(_)) => {}
                None => return Ok(None),
            }
        }
    }

    /// A time in the zone, short.
    pub(super) fn at(&self, at: DateTime<Utc>) -> String {
        time_input::short(at, self.zone, self.now)
    }

    /// A time in the zone, with date and seconds.
    pub(super) fn long(&self, at: DateTime<Utc>) -> String {
        time_input::long(at, self.zone)
    }
}

fn owner(data: &Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(data).ok().map(|meta| system_users::name_of(meta.uid()))
}
