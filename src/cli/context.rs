//! The context of every verb: the place of the server, and the output to the terminal.

use std::{
    io::{self, IsTerminal as _, Write as _},
    path::PathBuf,
    sync::Arc,
};

use chrono::{DateTime, Utc};
use chrono_tz::Tz;
use forebay_queue::Actor;
use serde::Serialize;

use super::{args::Global, paint::Paint};
use crate::{
    clock::{Clock, SystemClock},
    config::{self, Config},
    operate::{Answer, Client, Conversation, Hello, Piece, Problem, Reply, Request, system_users, time_input},
    server,
    units::text::visible_json,
};

/// The context of every verb.
#[derive(Debug)]
pub(super) struct Context {
    pub(super) global: Global,
    pub(super) paint: Paint,
    pub(super) clock: Arc<dyn Clock>,
}

/// An answer with what came first.
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
    pub(super) fn data(&self) -> Result<PathBuf, Problem> {
        let place = config::Place { config: self.global.config.clone(), data: self.global.data.clone() };
        config::data_dir(&place).map_err(|fault| Problem::usage(fault.to_string()))
    }

    /// Asks the running server; without one, reads the data directly where that can be done.
    pub(super) async fn ask(&self, request: Request) -> Result<Answered, Problem> {
        let data = self.data()?;
        let found = Client::connect(&data).await.map_err(|error| {
            let user = owner(&data).unwrap_or_else(|| "the server's user".to_owned());
            Problem::failed(format!(
                "cannot reach the server of {}: {error}; run this as {user} or root",
                data.display()
            ))
        })?;
        let conversation = match found {
            Some(client) => {
                let asked = client.ask(&request).await;
                asked.map_err(|error| Problem::failed(format!("the server went away: {error}; see its log")))?
            }
            None if request.works_offline() => self.ask_here(request).await?,
            None => {
                let what = format!("no server runs on {}; start it with `forebay serve`", data.display());
                return Err(Problem::needs_server(what));
            }
        };
        Answered::begin(conversation).await
    }

    async fn ask_here(&self, request: Request) -> Result<Conversation, Problem> {
        let config = self.config()?;
        let changes_accounts = matches!(request, Request::PartnerAdd { .. });
        if !config.data.exists() && !changes_accounts {
            let what = format!(
                "there is no data at {}; start a server with `forebay serve`, or name the place with --data or --config",
                config.data.display()
            );
            return Err(Problem::needs_server(what));
        }
        let offline = server::open_offline(&config, Arc::clone(&self.clock)).await?;
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

/// Prints a line; a reader that has gone away ends the program quietly.
pub(super) fn say(text: &str) -> Result<(), Problem> {
    print(&format!("{text}\n"))
}

/// Prints text as it is.
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
    pub(super) async fn next(&mut self) -> Result<Option<Piece>, Problem> {
        self.conversation.next().await
    }

    /// The next object; nothing at the good end.
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

fn owner(data: &std::path::Path) -> Option<String> {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata(data).ok().map(|meta| system_users::name_of(meta.uid()))
}

/// A progress bar on standard error, if that is a terminal.
pub(super) fn bar(hidden: bool) -> indicatif::ProgressBar {
    if hidden || !io::stderr().is_terminal() {
        return indicatif::ProgressBar::hidden();
    }
    let bar = indicatif::ProgressBar::new(0);
    if let Ok(style) = indicatif::ProgressStyle::with_template("{msg:>8} {bar:40} {pos}/{len} {eta}") {
        bar.set_style(style);
    }
    bar
}
