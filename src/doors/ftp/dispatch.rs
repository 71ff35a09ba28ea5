//! Commands, brought to what serves them. Those of files are asked of the inner server, with absolute paths.

use std::sync::Arc;

use super::{
    command::{Command, speaks_http},
    lines::Line,
    login::Login,
    moving::Store,
    paths::looked_at,
    reply::Reply,
    session::{Flow, Session},
    speech,
    verbs::parameters,
};

/// Commands that a connection may send before its login.
const BEFORE_LOGIN: u32 = 32;

impl Session {
    pub(super) async fn dispatch(&mut self, line: Line) -> Flow {
        let line = match line {
            Line::Command(line) => line,
            Line::TooLong => return self.bad(Reply::new(500, "Line is too long")).await,
            Line::NotText => return self.bad(Reply::new(501, "Line is not valid UTF-8 text")).await,
            Line::Flood => return self.goodbye("Line is far too long").await,
        };
        let command = Command::parse(&line);
        if let Some(login) = self.login.clone() {
            login.ticket.touch();
            return Box::pin(self.after_login(command, login)).await;
        }
        if speaks_http(&line) {
            return self.goodbye("This is an FTP server").await;
        }
        match self.one_more_before_login() {
            true => self.without_login(command).await,
            false => self.goodbye("Too many commands before a login").await,
        }
    }

    /// Answers what is no command.
    async fn bad(&mut self, reply: Reply) -> Flow {
        match self.login.is_some() || self.one_more_before_login() {
            true => self.say(reply).await,
            false => self.goodbye("Too many commands before a login").await,
        }
    }

    fn one_more_before_login(&mut self) -> bool {
        self.before_login += 1;
        self.before_login <= BEFORE_LOGIN
    }

    async fn without_login(&mut self, command: Command<'_>) -> Flow {
        match command {
            Command::User(name) => self.user(name).await,
            Command::Pass(password) => Box::pin(self.pass(password)).await,
            command => match self.any_time(command).await {
                Some(flow) => flow,
                None => self.say(Reply::new(530, "Log in with USER and PASS first")).await,
            },
        }
    }

    /// Commands that need no login; None of any other.
    async fn any_time(&mut self, command: Command<'_>) -> Option<Flow> {
        let reply = match command {
            Command::Auth(mechanism) => return Some(self.auth(mechanism).await),
            Command::Quit => return Some(self.say(Reply::new(221, "Goodbye")).await.and_end()),
            Command::Pbsz(size) => self.pbsz(size),
            Command::Prot(level) => self.prot(level),
            Command::Ccc => Reply::new(533, "The control connection stays protected"),
            Command::Feat => speech::feat(&self.abilities()),
            Command::Help => speech::help(&self.abilities()),
            Command::Syst => Reply::new(215, "UNIX Type: L8"),
            Command::Noop => Reply::new(200, "Here"),
            Command::Opts(argument) => self.opts(argument),
            Command::Clnt => Reply::new(200, "Noted"),
            Command::Lang(language) => parameters::language(language),
            Command::Host(name) => self.host(name),
            _ => return None,
        };
        Some(self.say(reply).await)
    }

    async fn after_login(&mut self, command: Command<'_>, login: Arc<Login>) -> Flow {
        let (start, declared) = (self.start, self.declared);
        if !command.keeps_position() {
            (self.start, self.declared) = (0, None);
        }
        // RNTO follows RNFR at once.
        let rename_from = if command == Command::Noop { None } else { self.rename_from.take() };
        let store = |argument, start| Store { argument, start, declared, append: false, unique: false };
        let reply = match command {
            Command::Stor(name) => return self.store(store(name, start), login).await,
            Command::Appe(name) => return self.store(Store { append: true, ..store(name, 0) }, login).await,
            Command::Stou => return self.store(Store { unique: true, ..store("", 0) }, login).await,
            Command::Retr(path) => return self.retrieve(&looked_at(&self.directory, path), start, login).await,
            Command::List(format, path) => return self.list(format, &looked_at(&self.directory, path), login).await,
            Command::Pasv => return self.pasv().await,
            Command::Epsv(argument) => return self.epsv(argument).await,
            Command::Port(address) => self.port(address),
            Command::Eprt(address) => self.eprt(address),
            Command::Abor => {
                self.offer = None;
                Reply::new(226, "Nothing to abort")
            }
            Command::Rest(position) => self.rest(position),
            Command::Allo(size) => self.allo(size),
            Command::Type(argument) => parameters::transfer_type(argument),
            Command::Mode(argument) => parameters::mode(argument),
            Command::Stru(argument) => parameters::structure(argument),
            Command::Cwd(path) => self.change_directory(path, &login).await,
            Command::Pwd => self.current_directory(),
            Command::Mkd(path) => self.make_directory(path, &login).await,
            Command::Rmd(path) => self.remove("RMD", path, &login).await,
            Command::Dele(path) => self.remove("DELE", path, &login).await,
            Command::Rnfr(path) => self.rename_from(path, &login).await,
            Command::Rnto(path) => self.rename_to(rename_from, path, &login).await,
            Command::Size(path) => self.size(path, &login).await,
            Command::Mdtm(path) => self.facts("MDTM", path, &login).await,
            Command::Mlst(path) => self.facts("MLST", path, &login).await,
            Command::Mfmt(argument) => self.set_time(argument, &login).await,
            Command::Stat => self.status(&login),
            Command::StatOf(path) => self.status_of(path, &login).await,
            Command::Hash(path) => self.hash(path, &login).await,
            Command::Digest(algorithm, path) => self.digest(path, algorithm, &login).await,
            Command::Site(argument) => self.site(argument, &login).await,
            Command::Acct => Reply::new(202, "Not needed"),
            // Some send it always.
            Command::Pass(_) if self.user.is_none() && self.certificate.is_some() => Reply::new(202, "Not needed"),
            Command::User(_) | Command::Pass(_) => Reply::new(503, "You are logged in; connect again to be another"),
            Command::NotServed => Reply::new(502, "Not served"),
            Command::Nameless(verb) => Reply::new(501, format!("{verb} needs a name")),
            command => match self.any_time(command).await {
                Some(flow) => return flow,
                None => Reply::new(500, "Unknown command"),
            },
        };
        self.say(reply).await
    }
}

impl Flow {
    pub(super) fn and_end(self) -> Self {
        Self::End
    }
}
