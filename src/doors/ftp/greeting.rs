//! The first phase of a session: from the greeting to the login.
//!
//! # Trust
//! Nobody is known yet. Commands are counted (32), each line is bounded, and the time is that of a
//! session without login (`SessionTime`). Only commands that need no login are served
//! (`Client::any_time`); all others are answered with 530 (RFC 959, 5.4), so that nothing of a
//! partner can be learnt.

use std::sync::Arc;

use crate::doors::core::PartnerSession;

use super::{
    client::Client,
    command::{Command, speaks_http},
    context::Entrance,
    control::Event,
    lines::Line,
    protection::DataProtection,
    reply::Reply,
    session::Flow,
};

/// Commands that a connection may send before its login.
const MOST_COMMANDS: u32 = 32;

/// A client that has not logged in.
pub(super) struct Greeting<'a> {
    pub(super) client: &'a mut Client,
    /// The name that USER gave.
    pub(super) user: Option<String>,
    pub(super) failed_logins: u32,
    commands: u32,
}

/// What came of a command before the login.
pub(super) enum Progress {
    /// It waits for the next.
    Waits,
    LoggedIn(Arc<PartnerSession>),
    /// The session is over.
    Over,
}

impl From<Flow> for Progress {
    fn from(flow: Flow) -> Self {
        match flow {
            Flow::Continue => Self::Waits,
            Flow::End => Self::Over,
        }
    }
}

impl<'a> Greeting<'a> {
    /// A client that nothing was said to.
    pub(super) fn new(client: &'a mut Client) -> Self {
        Self { client, user: None, failed_logins: 0, commands: 0 }
    }

    /// Greets, and serves until a partner has logged in. Returns `None` when the session is over.
    pub(super) async fn run(mut self, entrance: Entrance) -> Option<Arc<PartnerSession>> {
        if self.greet(entrance).await == Flow::End {
            return None;
        }
        loop {
            match Box::pin(self.step()).await {
                Progress::Waits => {}
                Progress::LoggedIn(partner) => return Some(partner),
                Progress::Over => return None,
            }
        }
    }

    async fn greet(&mut self, entrance: Entrance) -> Flow {
        if entrance == Entrance::ImplicitTls {
            // Implicit TLS: the handshake comes before the greeting, and data connections are
            // private at once.
            if Box::pin(self.client.secure()).await == Flow::End {
                return Flow::End;
            }
            self.client.protection.data = DataProtection::Private;
        }
        let greeting = self.client.context.greeting();
        self.client.say(Reply::new(220, greeting)).await
    }

    async fn step(&mut self) -> Progress {
        if let Some(flow) = self.client.dismissed().await {
            return flow.into();
        }
        let until = self.client.ends();
        match self.client.control.next(until).await {
            Event::Line(Line::Command(line)) => self.hear(&line).await,
            Event::Line(line) => match self.one_more() {
                true => self.client.answer_bad_line(&line).await.into(),
                false => self.too_many().await,
            },
            Event::Closed => Progress::Over,
            Event::EndRequested => Progress::Waits,
            Event::Time => self.client.time_passed().await.into(),
        }
    }

    async fn hear(&mut self, line: &str) -> Progress {
        // First of all: a browser that was made to post here sends a command in each line of its
        // body (cross-protocol attack). Its first line gives it away, and the session ends before
        // the second.
        if speaks_http(line) {
            return self.client.control.goodbye("This is an FTP server").await.into();
        }
        if !self.one_more() {
            return self.too_many().await;
        }
        match Command::parse(line) {
            Command::User(name) => self.user(name).await,
            Command::Pass(password) => Box::pin(self.pass(password)).await,
            Command::Auth(mechanism) => self.auth(mechanism).await.into(),
            command => self.other(command).await.into(),
        }
    }

    async fn other(&mut self, command: Command<'_>) -> Flow {
        match self.client.any_time(&command).await {
            Some(flow) => flow,
            None => self.client.say(Reply::new(530, "Log in with USER and PASS first")).await,
        }
    }

    fn one_more(&mut self) -> bool {
        self.commands += 1;
        self.commands <= MOST_COMMANDS
    }

    async fn too_many(&mut self) -> Progress {
        self.client.control.goodbye("Too many commands before a login").await.into()
    }
}
